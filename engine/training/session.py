"""What the callbacks of one training share: settings, place in the data, counters, and how it may end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import lightning as L

from ..context import Context
from ..errors import WavedeckError
from ..events import as_float, json_number
from ..manifest import Headline
from .settings import TrainerSettings
from .signals import StopSignal
from .stream import ItemKey, Stream

_NAMED = 8
"""Items of a batch that are named in a sentence."""


class TrainingEnded(Exception):
    """Leaves Lightning's loop at a step border, with the state saved: `stopped` (asked) or `early` (patience)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TrainingDiverged(WavedeckError):
    """The loss or a weight is not a finite number any more; going on would only burn time."""


@dataclass(slots=True)
class Counters:
    """Numbers that belong to a training's state besides the model's; saved and restored with it."""

    loss_sum: float = 0.0
    loss_steps: int = 0
    """Sum and number of the step losses since the last metric row."""
    long_sum: float = 0.0
    long_steps: int = 0
    """The same since the last validation, for the loss table."""
    best: float | None = None
    stale: int = 0
    """Validations since the headline was last better."""
    validated: int = 0
    """The step of the last finished validation."""
    elapsed_s: float = 0.0
    """Seconds trained in all attempts."""
    ended: str | None = None
    """Why an earlier attempt finished for good: `finished` or `early`."""

    def state(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def load(self, state: dict[str, Any]) -> None:
        """Take over saved values; unknown names from a newer version are left out."""
        for name, value in state.items():
            if name in self.__slots__:
                setattr(self, name, value)


@dataclass(slots=True)
class Session:
    """One training, as its callbacks see it."""

    context: Context
    settings: TrainerSettings
    stream: Stream
    headline: Headline
    columns: tuple[str, ...]
    total_steps: int
    val_every: int
    """Steps between validations; 0 when there is nothing to validate on."""
    stop: StopSignal
    is_main: bool = True
    resumed_from: dict[str, Any] | None = None
    counters: Counters = field(default_factory=Counters)
    name_of: Callable[[ItemKey], str] | None = None
    """What an item of the training set is called."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The newest validation's values; recorded with the checkpoints taken after it."""

    def position(self, trainer: L.Trainer) -> int:
        """Batches trained so far by each process."""
        return int(trainer.fit_loop.epoch_loop.batch_progress.total.ready)

    def epoch(self, trainer: L.Trainer) -> float:
        """Epochs trained so far, as a fraction."""
        return round(self.stream.epoch_at(self.position(trainer)), 4)

    def batch_words(self, trainer: L.Trainer) -> str:
        """The items of the step just done, by name: ` in the batch of a, b, c and 13 more`; empty without names."""
        if self.name_of is None:
            return ""
        end = self.position(trainer)
        keys = [key for at in range(max(0, end - self.settings.accumulate), end) for key in self.stream.batch_at(at)]
        names = [self.name_of(key) for key in keys]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return f" in the batch of {', '.join(names[:_NAMED])}{more}"

    def say(self, text: str, level: str = "info") -> None:
        """One line for journal and console, from the first process only."""
        if self.is_main:
            self.context.say(text, level)

    def validation_due(self, step: int) -> bool:
        """Whether a validation belongs to this step and has not finished yet."""
        if not self.val_every or self.counters.validated == step:
            return False
        return step % self.val_every == 0 or step == self.total_steps

    def recorded_metrics(self) -> dict[str, float | str | None]:
        """The newest validation's values for strict JSON."""
        return {key: json_number(value) for key, value in self.metrics.items()}


def scalars(trainer: L.Trainer, prefix: str) -> dict[str, float]:
    """Lightning's logged metrics whose key starts with `prefix`, as floats."""
    found = {}
    for key, value in trainer.callback_metrics.items():
        number = as_float(float(value)) if key.startswith(prefix) else None
        if number is not None:
            found[key] = number
    return found


def validate_now(trainer: L.Trainer) -> None:
    """Run one validation outside Lightning's own rhythm: the last step's, or one that a stop cut short."""
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True
