"""An adapter as two small files, and back on a network: `adapter.safetensors` beside `adapter.json`.

The json holds the whole plan, so that loading asks nobody for the configuration, and the digest of the frozen backbone:
an adapter on another backbone gives answers, only wrong ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from ....engine.config import to_resolved
from ....engine.errors import WavedeckError
from ....engine.files import write_atomic
from ....engine.format import size
from ..config import SousaConfig
from ..models.base import AudioClassifier
from ..pretrained import CARD, TENSORS
from .adapted import Adapted, apply, trained_modules, trained_names
from .plan import StrategyPlan
from .targets import below, calibration

FORMAT = 1


class AdapterCard(msgspec.Struct, frozen=True):
    """What `adapter.json` says."""

    format: int
    model: str
    """Architecture, as in the run's header."""
    base: str
    """sha256 over names and values of the frozen backbone."""
    base_weights: str
    """Where the backbone's weights came from, for people."""
    classes: tuple[str, ...]
    plan: StrategyPlan
    sha256: str
    """Of `adapter.safetensors`."""
    config: dict[str, Any] | None = None
    """The configuration of its run, by which the backbone is built again. Paths of weights are absolute."""


@dataclass(frozen=True, slots=True)
class SavedAdapter:
    """An adapter on disk; `base_bytes` is the size of the backbone that it spares."""

    directory: Path
    bytes: int
    base_bytes: int

    def words(self) -> str:
        """One line for the console."""
        return f"Adapter of {size(self.bytes)} saved ({size(self.base_bytes)} of frozen backbone stay where they are)."


def adapter_state(adapted: Adapted) -> dict[str, Tensor]:
    """Copies, on the CPU, of what belongs to the adapter: its tensors, the head, saved batch norms. Not the allocator's
    averages, which only a training needs.

    Raises
    ------
    WavedeckError: the strategy trains the whole network, so there is nothing beside it.
    """
    if not adapted.plan.is_adapter:
        raise WavedeckError(f"strategy={adapted.plan.strategy} has no adapter: its checkpoint is the whole network.")
    names = trained_names(adapted)
    return {
        name.removeprefix("net."): value.detach().cpu().contiguous().clone()
        for name, value in adapted.state_dict().items()
        if name in names and not below(name, "allocation")
    }


def load_adapter_state(adapted: Adapted, state: dict[str, Tensor]) -> None:
    """Put `adapter_state`'s tensors into a network with the same plan.

    Raises
    ------
    WavedeckError: names or shapes differ; nothing was changed then.
    """
    own = {name: value.shape for name, value in adapter_state(adapted).items()}
    theirs = {name: value.shape for name, value in state.items()}
    if own != theirs:
        odd = sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name))
        raise WavedeckError(
            f"this adapter does not fit the network: {len(odd)} tensors are missing, too many or of another shape "
            f"({', '.join(odd[:3])}). Build the network with the configuration of the adapter's own run."
        )
    adapted.net.load_state_dict(state, strict=False)


def save_adapter(
    adapted: Adapted, directory: Path, classes: Sequence[str], config: SousaConfig | None = None
) -> SavedAdapter:
    """Write the adapter's two files; the json comes last, so that a directory with it is whole.

    Parameters
    ----------
    config: of the run; without it the adapter goes on a backbone that the caller builds, and on no other way.

    Raises
    ------
    WavedeckError: the strategy has no adapter.
    OSError: the disk is full or failing.
    """
    data = save_tensors(adapter_state(adapted))
    facts = adapted.facts
    card = AdapterCard(
        FORMAT, facts.name, base_digest(adapted.net, adapted.plan), facts.weights, tuple(classes), adapted.plan,
        hashlib.sha256(data).hexdigest(), None if config is None else _portable(config),
    )  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    write_atomic(directory / TENSORS, data)
    write_atomic(directory / CARD, msgspec.json.format(msgspec.json.encode(card)) + b"\n")
    base = sum(value.numel() * value.element_size() for value in _base(adapted.net, adapted.plan).values())
    return SavedAdapter(directory, len(data), base)


def _portable(config: SousaConfig) -> dict[str, Any]:
    """The plain values of the configuration, for whoever reads them in another directory."""
    resolved = to_resolved(config)
    if config.model.weights not in ("auto", "hub", "random"):
        resolved["model"]["weights"] = str(Path(config.model.weights).expanduser().absolute())
    return resolved


def read_card(directory: Path) -> AdapterCard:
    """What an adapter is of and for.

    Raises
    ------
    WavedeckError: there is none, or it is damaged or from a newer version.
    """
    try:
        card = msgspec.json.decode((directory / CARD).read_bytes(), type=AdapterCard)
    except OSError as error:
        raise WavedeckError(f"no adapter in {directory} ({error.strerror}): give the directory with {CARD}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WavedeckError(f"{directory / CARD} is no adapter's card: {error}. Save the adapter again.") from error
    if card.format > FORMAT:
        raise WavedeckError(
            f"the adapter in {directory} is of a newer wavedeck (format {card.format}): update this one."
        )
    return card


def load_adapter(directory: Path, net: AudioClassifier, classes: Sequence[str] | None = None) -> Adapted:
    """Put a saved adapter on the backbone that it was trained on, in place.

    Parameters
    ----------
    net: as built for the adapter's run, its head included; no adapter stands on it yet.
    classes: the caller's own, compared with the adapter's when given.

    Raises
    ------
    WavedeckError: damaged files, another backbone, other classes.
    """
    card = read_card(directory)
    if classes is not None and tuple(classes) != card.classes:
        raise WavedeckError(
            f"the adapter in {directory} knows {len(card.classes)} classes, in another order or others than the "
            f"{len(classes)} asked for: give the data.rudiments of its run."
        )
    try:
        data = (directory / TENSORS).read_bytes()
    except OSError as error:
        raise WavedeckError(
            f"{directory / TENSORS} cannot be read ({error.strerror}): save the adapter again."
        ) from error
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise WavedeckError(f"{directory / TENSORS} does not match its sha256: copy or save the adapter again.")
    if base_digest(net, card.plan) != card.base:
        raise WavedeckError(
            f"the adapter in {directory} belongs to another backbone ({card.model}, weights {card.base_weights}), "
            f"this is {net.facts.name} with weights {net.facts.weights}: build the network with the adapter's own."
        )
    adapted = apply(net, card.plan)
    load_adapter_state(adapted, load_tensors(data))
    return adapted


def base_digest(net: AudioClassifier, plan: StrategyPlan) -> str:
    """sha256 of what an adapter of this plan leaves alone; the same before it was put on and after."""
    return _digest(_base(net, plan))


def _base(net: AudioClassifier, plan: StrategyPlan) -> dict[str, Tensor]:
    """The tensors that no adapter of this plan contains, by the names that the plain network has for them."""
    own, measured = trained_modules(plan), calibration(net)
    found = {}
    for name, value in net.state_dict().items():
        target = next((path for path in plan.targets if below(name, path)), None)
        inner = "" if target is None else name[len(target) + 1 :]
        if (
            name in measured
            or any(below(name, path) for path in own)
            or inner.startswith(("lora_", "ia3_", "ranknum."))
        ):
            continue
        found[name if target is None else f"{target}.{inner.removeprefix('base_layer.')}"] = value
    return found


def _digest(tensors: dict[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
