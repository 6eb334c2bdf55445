"""What every network of this recipe looks like from outside: what it hears, through which front end, and its head.

Shapes: B clips, S samples, M mel bands, F frames, K classes. A front end makes `x_MF` of `wave_S`, a network
`logits_BK` of `wave_BS` or `x_BMF`, by the input that it declares.
"""

from __future__ import annotations

import abc
import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

HEAD = "rudiment_head"
"""The attribute that holds the classifier, in every network. A name of ours, because peft finds modules by the end of
their names: `classifier` or `head` would also take modules of a backbone."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What stands in a run's header. `parameters` counts the backbone with the head it was built with."""

    name: str
    """`AST`, `HTS-AT`, … with the size where that is not the published one."""
    parameters: int
    weights: str
    """Where the weights come from: `random`, `hub MIT/ast-…`, or a file's name."""
    digest: str | None = None
    """sha256 of the weights' file; None for random ones."""


class FrontEnd(nn.Module, abc.ABC):
    """From sound to what a network was trained on: resampling, spectrogram and normalisation, without learned weights.

    Attributes
    ----------
    name: for the header: `Kaldi fbank 128 × 10 ms at 16 kHz, (x + 4.27) / 9.14`.
    sample_rate: Hz that it works at; `forward` takes `data.sample_rate` and resamples.
    hop_ms, mels: of one frame; mels is 0 where it hands the waveform on.
    expected: mean and standard deviation of its values before normalisation on the data it was made for (AudioSet), or
        None where it is not normalised by constants. Compared with the training split's own.
    """

    name: str
    sample_rate: int
    hop_ms: float
    mels: int
    expected: tuple[float, float] | None = None

    @abc.abstractmethod
    def raw(self, wave_S: Tensor) -> Tensor:
        """`mel_MF` before normalisation, also of a waveform model: what `expected` speaks of."""

    @abc.abstractmethod
    def forward(self, wave_S: Tensor) -> Tensor:
        """`x_MF` float32, normalised (or `wave_S` for a waveform model) of one clip at `data.sample_rate`."""

    @property
    @abc.abstractmethod
    def silence(self) -> float:
        """The value of a frame of digital silence after normalisation: what masks and shifts fill with."""


class AudioClassifier(nn.Module, abc.ABC):
    """`forward(x) -> logits_BK`; the classifier is the attribute `rudiment_head`.

    Attributes
    ----------
    input_kind: what `forward` takes, `wave_BS` at the front end's rate or `x_BMF`.
    front_end: makes it of a clip. It is no submodule: it holds no learned weights, and it stays on the CPU with the
        clips when the network moves to a device.
    label: `AST`, `AST small`.
    facts: for the run's header; stands once the weights are there.
    """

    input_kind: Literal["waveform", "spectrogram"]
    gates: tuple[str, ...] = ()
    """Ends of the names of layers that only gate others and are too narrow for an adapter."""
    front_end: FrontEnd
    label: str
    facts: ModelFacts

    def __init__(self, label: str, front_end: FrontEnd) -> None:
        super().__init__()
        self.label = label
        object.__setattr__(self, "front_end", front_end)

    @abc.abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """`logits_BK` of a batch."""

    @abc.abstractmethod
    def checkpoint_activations(self) -> None:
        """Compute activations again in the backward pass instead of keeping them; a no-op where that gains nothing."""

    def calibrate(self, mean: float, deviation: float) -> None:
        """Take the training split's own mean and deviation under `front_end.raw`; only `cnn` uses them.

        Called after `build` and before training. Loaded weights keep the ones they were trained with.
        """

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a weights file under this network's own names and shapes.

        Understands the published file's names. Leaves out what this network has no place for on purpose: the published
        head, other towers. Own names stay as they are.
        """
        return state

    def loaded(self) -> None:
        """Called once weights of a file are in place."""

    def settings(self) -> dict[str, object]:
        """What decides the computation without showing in a tensor's shape; a file that says otherwise is refused."""
        return {}

    @property
    def head(self) -> nn.Module:
        """The classifier on top."""
        return getattr(self, HEAD)


def fit_frames(x_BMF: Tensor, frames: int, silence: float) -> Tensor:
    """`x_BMF` of `frames` frames: cut at its end, or filled with silence there."""
    missing = frames - x_BMF.shape[-1]
    if missing <= 0:
        return x_BMF[..., :frames]
    return nn.functional.pad(x_BMF, (0, missing), value=silence)


def checkpoint_layers(backbone: nn.Module) -> None:
    """Gradient checkpointing of a transformers backbone, layer by layer, also where the class does not declare it."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    for layer in backbone.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = functools.partial(checkpoint, use_reentrant=False)


def recompute(module: nn.Module, *inputs: Tensor) -> Tensor:
    """`module(*inputs)`, computed again in the backward pass instead of kept.

    Batch norms count the batch once: the second pass leaves their running statistics alone.
    """

    def contexts() -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
        return contextlib.nullcontext(), _steady_statistics(module)

    result: Tensor = checkpoint(module, *inputs, use_reentrant=False, context_fn=contexts)
    return result


@contextlib.contextmanager
def _steady_statistics(module: nn.Module) -> Iterator[None]:
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
