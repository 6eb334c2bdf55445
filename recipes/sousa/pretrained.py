"""What `model.weights` means, and what of it cannot work. Imports no torch: it is asked before a run is launched, too.

It is `auto`, `hub`, `random`, a file, the directory of an adapter (`RUN/adapter`), or a directory with the published
files of several networks, which is what a batch needs: one value, and each network finds its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...engine.errors import UsageError
from .config import SousaConfig

HUB = {"ast": "MIT/ast-finetuned-audioset-10-10-0.4593", "hts_at": "laion/clap-htsat-unfused"}
"""The published weights that transformers' own code was made for."""
HUB_FILES = ("model.safetensors", "pytorch_model.bin")

BY_HAND = {
    "beats": "BEATs_iter3_plus_AS2M.pt from the project page of BEATs (unilm, folder beats)",
    "efficient_at": "mn10_as_mAP_471.pt from the releases of EfficientAT",
}
"""What to download where no copy on the hub is the author's own."""

_OF_THE_HUB = {
    model: (f"{name}.safetensors", *(f"{name}/{file}" for file in HUB_FILES))
    for model, name in ((model, name.rpartition("/")[2]) for model, name in HUB.items())
}
PUBLISHED: dict[str, tuple[str, ...]] = {
    **_OF_THE_HUB,
    "beats": ("BEATs_iter3_plus_AS2M.pt", "BEATs_iter3_plus_AS2M*.pt"),
    "efficient_at": ("mn10_as_mAP_471.pt",),
}
"""Under which names a directory of published files is searched, per network and in this order."""

CARD, TENSORS = "adapter.json", "adapter.safetensors"
"""An adapter's two files. A directory with the first is one adapter's, not one of published files."""
EXPORT = "python -m wavedeck.recipes.sousa.export RUN OUT.safetensors"
"""The command that writes a run's weights as one plain file, an adapter merged in."""

_TITLES = {"cnn": "CNN", "ast": "AST", "hts_at": "HTS-AT", "beats": "BEATs", "efficient_at": "EfficientAT"}
_INSTEAD = "pass model.weights=FILE or model.weights=random"
_FILES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where the weights are to come from. `path` of a `file` or an `adapter`; with `random` it is the directory of
    published files that training from scratch leaves alone."""

    kind: Literal["random", "hub", "file", "adapter"]
    path: Path | None = None


def title(config: SousaConfig) -> str:
    """What the network is called in a run's header: `AST`, `BEATs debug`."""
    model, size = config.model.name, config.model.size
    if size == "full" or (model == "cnn" and size == "small"):
        return "EfficientAT mn10" if model == "efficient_at" else _TITLES[model]
    return f"{_TITLES[model]} {size}"


def wanted(config: SousaConfig, here: bool = True) -> Wanted:
    """What `model.weights` asks for, for this network under this strategy.

    Parameters
    ----------
    here: whether paths are on this machine; those of another one are not looked at, and are taken for a file.

    Raises
    ------
    UsageError: it contradicts the strategy, there are no such published weights, or the path leads nowhere. Each
        sentence names what to give instead.
    """
    weights, scratch = config.model.weights, config.strategy.name == "from_scratch"
    if weights == "random" or (weights == "auto" and scratch):
        return Wanted("random")
    if weights in ("auto", "hub"):
        if scratch:
            raise _contradiction(weights)
        return _on_the_hub(config)
    path = Path(weights).expanduser()
    adapter = here and (path / CARD).is_file()
    folder = not adapter and (path.is_dir() if here else path.suffix not in _FILES)
    if scratch:
        if not folder:
            raise _contradiction(weights)
        return Wanted("random", path)
    if adapter:
        _check_adapter(path, config)
        return Wanted("adapter", path)
    if folder and here:
        return _in_folder(path, config)
    if here and not path.is_file():
        raise UsageError(
            f"model.weights={weights}: there is no such file. It is auto, hub, random, a file, the adapter/ of a run, "
            "or a directory of published files."
        )
    return Wanted("file", path)


def _contradiction(weights: str) -> UsageError:
    return UsageError(
        f"strategy=from_scratch begins with random weights, but model.weights={weights}: choose "
        "strategy=full_finetune to train on from them, or model.weights=random."
    )


def _on_the_hub(config: SousaConfig) -> Wanted:
    _refuse_unpublished(config)
    if config.model.name in BY_HAND:
        raise UsageError(
            f"{title(config)} has no published weights on the hub that can be trusted: download "
            f"{BY_HAND[config.model.name]} into a directory and pass model.weights=DIRECTORY, which serves every "
            "network of a batch, or model.weights=FILE, or model.weights=random."
        )
    return Wanted("hub")


def _refuse_unpublished(config: SousaConfig) -> None:
    if config.model.name == "cnn":
        raise UsageError(
            f"there are no published weights for {title(config)}: {_INSTEAD} (FILE: a checkpoint of such a run)."
        )
    if config.model.size != "full":
        raise UsageError(f"there are no published weights for {title(config)}: {_INSTEAD}, or choose model.size=full.")


def _in_folder(folder: Path, config: SousaConfig) -> Wanted:
    """This network's file in a directory of published ones; where there is none, the hub, if it is to be had there."""
    _refuse_unpublished(config)
    model = config.model.name
    for pattern in PUBLISHED[model]:
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
        if len(found) > 1:
            several = ", ".join(path.name for path in found[:4])
            raise UsageError(f"{folder} holds {several}, all weights of {title(config)}: keep one of them there.")
        if found:
            return Wanted("file", found[0])
    if model in HUB:
        return Wanted("hub")
    raise UsageError(f"{folder} holds no weights for {title(config)}: download {BY_HAND[model]} into it.")


def _check_adapter(directory: Path, config: SousaConfig) -> None:
    """Only what its card says of the network; whether it is whole is seen when it is read."""
    try:
        card = json.loads((directory / CARD).read_bytes())
        of = card["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{directory / CARD} is no adapter's card: save the adapter again.") from error
    if of != title(config):
        raise UsageError(f"the adapter in {directory} is one for {of}, and this trains {title(config)}: choose that.")
    if not (directory / TENSORS).is_file():
        raise UsageError(f"{directory} holds {CARD} but no {TENSORS}: copy the adapter again, with both its files.")
