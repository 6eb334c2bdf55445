"""Where a network's weights come from, and how they get in: the hub, a file, or the dice, but never silently the dice.

`model.weights` is `auto`, `hub`, `random`, a file, a directory of published files, or one of an adapter; `pretrained`
says which. A file may be a published one (`.pt`, `.pth`, `.ckpt`, `.bin`, `.safetensors`) or a checkpoint of this
program. It has to fit whole; only the head may differ, because the published ones know other classes.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import Tensor

from ....engine.checkpoints import sha256_of
from ....engine.errors import WavedeckError
from ....engine.training.snapshot import load_snapshot
from ..config import ADAPTERS, SousaConfig
from ..pretrained import EXPORT, HUB, HUB_FILES, TENSORS, wanted
from ..tables import class_names
from .base import HEAD, AudioClassifier

Say = Callable[[str, str], None]

_OPTIONAL = ("num_batches_tracked", "relative_position_index", "position_ids")
"""Ends of names that older files lack; what they hold is not learned."""
_WAIT_S = 10
"""How long the hub may take to answer."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file of weights, and what to call it in the run's header. `path` None: random weights.

    Parameters
    ----------
    adapter_for: set where `path` is the directory of an adapter: the classes of the run that begins with it. The
        adapter's head is taken only when it knows the same.
    """

    path: Path | None
    label: str = "random"
    adapter_for: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Contents:
    """What a file holds: tensors by name, the settings it was trained with (or none), and whether it is our own."""

    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    own: bool


def choose(config: SousaConfig, label: str, say: Say) -> Source:
    """What `model.weights` means for this network under this strategy; fetches from the hub where that is asked for.

    Raises
    ------
    WavedeckError: it contradicts the strategy, there are no published weights, the hub does not answer, or the file is
        missing. Each sentence names what to give instead.
    """
    found, strategy = wanted(config), config.strategy.name
    if found.kind == "hub":
        return _from_hub(HUB[config.model.name], label, say)
    if found.kind == "adapter" and found.path is not None:
        from ..strategies.adapter_file import read_card  # which knows networks

        return Source(found.path, f"an adapter on {read_card(found.path).base_weights}", class_names(config))
    if found.kind == "file" and found.path is not None:
        return Source(found.path, found.path.name)
    if strategy in ADAPTERS:
        say(f"{strategy} adapts random weights of {label}: that tests the machinery and learns little.", "warning")
    elif found.path is not None:
        say(f"{strategy} begins with random weights of {label}: those in {found.path} are for the others.", "info")
    return Source(None)


def load(net: AudioClassifier, source: Source, say: Say) -> str | None:
    """Put the file's weights into `net`; the head stays fresh unless it fits. Returns the file's sha256.

    Raises
    ------
    WavedeckError: the file is damaged, not weights, or of another architecture; nothing of it was loaded then.
    """
    if source.path is None:
        return None
    if source.adapter_for is not None:
        file, contents = source.path / TENSORS, _merged(source.path, source.adapter_for, say)
    else:
        file, contents = source.path, _read(source.path)
    _compare_settings(net, contents.settings, source.label)
    loaded = _fit(net, net.translate(contents.tensors), source.label)
    net.loaded()
    digest = sha256_of(file)
    classes = len(net.state_dict()[f"{HEAD}.bias"])
    fresh = not any(name.startswith(f"{HEAD}.") for name in loaded)
    head = f"the head for {classes} classes is fresh" if fresh else "with its head"
    say(f"{net.label}: weights of {source.label} (sha256 {digest[:12]}); {head}.", "info")
    return digest


def _from_hub(name: str, label: str, say: Say) -> Source:
    say(f"{label}: looking for the weights of {name} on the hub.", "info")
    try:
        return Source(_fetch(name), f"hub {name}")
    except Exception as error:  # the client raises its own, its transport's and the system's errors
        raise WavedeckError(
            f"the weights of {name} cannot be fetched from the hub ({_first_line(error)}): download its {HUB_FILES[0]} "
            "where there is a network and pass model.weights=FILE or model.weights=random."
        ) from error


def _fetch(name: str) -> Path:
    """The weights' file of the repository `name`, from the local cache or the hub."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for local in (True, False):
        if not local and not constants.HF_HUB_OFFLINE:
            _resolve(urlsplit(constants.ENDPOINT).hostname or "")
        for file in HUB_FILES:
            try:
                return Path(hf_hub_download(name, file, local_files_only=local, etag_timeout=_WAIT_S))
            except LocalEntryNotFoundError:
                if not local:
                    raise
            except EntryNotFoundError:
                if file == HUB_FILES[-1]:
                    raise
    raise FileNotFoundError(f"{name} holds none of {', '.join(HUB_FILES)}")


def _resolve(host: str) -> None:
    """Fail at once where the name does not resolve: the client would try five times, for half a minute."""
    if not getproxies():
        socket.getaddrinfo(host, 443)


def _read(path: Path) -> _Contents:
    """The tensors of a file, which cannot run code here: pickles are read with `weights_only`."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return _Contents(_plain(load_file(path)), {}, False)
        except Exception as error:
            raise _unreadable(path, error) from error
    try:
        whole = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unreadable(path, error) from error
    if not isinstance(whole, dict):
        raise WavedeckError(f"{path.name} holds a {type(whole).__name__} and no weights by name: pass another file.")
    own = isinstance(whole.get("format"), int)
    inner = load_snapshot(path)["model"] if own else next(
        (whole[key] for key in ("model", "state_dict", "module") if isinstance(whole.get(key), dict)), whole
    )  # fmt: skip
    settings = whole.get("cfg")
    tensors = _plain(inner)
    if not tensors:
        raise WavedeckError(f"{path.name} holds no tensors: pass another file as model.weights.")
    if any("lora_" in name or "ia3_" in name for name in tensors):
        raise WavedeckError(
            f"{path.name} holds an adapter and not the weights it stands on: pass the adapter/ of its run, or write "
            f"that run out with `{EXPORT}` and pass OUT.safetensors, or resume its run."
        )
    return _Contents(tensors, settings if isinstance(settings, dict) else {}, own)


def _merged(directory: Path, classes: tuple[str, ...], say: Say) -> _Contents:
    """The tensors of an adapter's network, the adapter merged in; without its head where it knows other classes."""
    from ..strategies.whole import merged_network

    net, known = merged_network(directory, say)
    tensors = {name: value for name, value in net.state_dict().items() if known == classes or not _of_head(name)}
    return _Contents(tensors, {}, True)


def _plain(state: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors by name, without the prefixes of a trainer around the network."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if any(name.startswith("net.") for name in tensors):
        tensors = {name: value for name, value in tensors.items() if name.startswith("net.")}
    while tensors and all(name.startswith("net.") for name in tensors):
        tensors = {name.removeprefix("net."): value for name, value in tensors.items()}
    return tensors


def _fit(net: AudioClassifier, state: dict[str, Tensor], label: str) -> set[str]:
    """Load `state`, or refuse it with the count of what does not fit. Returns the names that were loaded."""
    own = net.state_dict()
    shapes = [name for name, value in state.items() if name in own and own[name].shape != value.shape]
    missing = [name for name in own if name not in state and not _may_lack(name)]
    unexpected = [name for name in state if name not in own and not _may_lack(name)]
    shapes = [name for name in shapes if not _of_head(name)]
    if shapes or missing or unexpected:
        first = (missing or unexpected or shapes)[0]
        shape = f" ({list(state[first].shape)} instead of {list(own[first].shape)})" if first in shapes else ""
        raise WavedeckError(
            f"{label} does not fit {net.label}: {len(missing)} tensors are missing, {len(unexpected)} unknown and "
            f"{len(shapes)} of another shape, the first {first}{shape}. Pass weights of this architecture and size."
        )
    head = [name for name in own if _of_head(name)]
    whole_head = all(name in state and state[name].shape == own[name].shape for name in head)
    fitting = {name: value for name, value in state.items() if name in own and (whole_head or not _of_head(name))}
    net.load_state_dict(fitting, strict=False)
    return set(fitting)


def _may_lack(name: str) -> bool:
    return _of_head(name) or name.endswith(_OPTIONAL)


def _of_head(name: str) -> bool:
    return name.startswith(f"{HEAD}.")


def _compare_settings(net: AudioClassifier, settings: dict[str, Any], label: str) -> None:
    for name, value in net.settings().items():
        if settings.get(name, value) != value:
            raise WavedeckError(
                f"{label} was trained with {name}={settings[name]}, and {net.label} computes with {name}={value}: pass "
                "weights of the published kind."
            )


def _unreadable(path: Path, error: Exception) -> WavedeckError:
    return WavedeckError(
        f"{path.name} cannot be read as weights ({_first_line(error)}): pass a whole .pt, .ckpt or .safetensors file."
    )


def _first_line(error: Exception) -> str:
    """`Type: the first line`, short enough for a sentence and without its full stop."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120].rstrip('. ')}" if lines else type(error).__name__
