"""How a training is run, whatever is trained. Torch-free, so that a recipe's face can hold it and draw a form."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import knob


@dataclass
class TrainerSettings:
    """The knobs that every recipe's `training` section shares; recipes inherit from it and add their own."""

    max_epochs: int = knob(20, "passes over the training set; max_steps wins when set", unit="epochs", ge=1)
    max_steps: int = knob(0, "optimizer steps; 0 takes them from max_epochs", unit="steps", ge=0)
    batch_size: int = knob(32, "items in one batch of one process", unit="items", ge=1)
    accumulate: int = knob(1, "batches whose gradients are added up before one optimizer step", unit="batches", ge=1)
    clip: float = knob(1.0, "largest gradient norm; 0 leaves gradients as they are", ge=0.0)
    precision: str = knob(
        "auto",
        "number format: auto is bf16-mixed on a GPU that has it, 16-mixed on an older one, 32-true elsewhere",
        choices=("auto", "32-true", "bf16-mixed", "16-mixed"),
    )
    val_every: int = knob(0, "steps between validations; 0 validates once per epoch", unit="steps", ge=0)
    patience: int = knob(0, "validations without a better headline before stopping early; 0 never", ge=0)
    save_every: int = knob(0, "steps between full checkpoints; 0 saves at each validation", unit="steps", ge=0)
    keep_last: int = knob(2, "newest checkpoints kept", unit="checkpoints", ge=1)
    keep_best: int = knob(1, "best checkpoints kept", unit="checkpoints", ge=1)
    log_every: int = knob(10, "steps between metric rows", unit="steps", ge=1)
    workers: int = knob(0, "data loading processes; 0 loads in the training process", unit="processes", ge=0)
    deterministic: bool = knob(False, "ask CUDA for repeatable kernels, slower; a CPU is repeatable anyway")

    def steps_per_epoch(self, items: int, world: int = 1) -> float:
        """Optimizer steps in one pass over `items` with `world` processes; not whole, batches cross epochs."""
        return items / (self.batch_size * self.accumulate * world)

    def total_steps(self, items: int, world: int = 1) -> int:
        """Optimizer steps in all; epochs are rounded to whole steps, so that the last one ends with a validation."""
        return self.max_steps or self.max_epochs * max(1, round(self.steps_per_epoch(items, world)))

    def steps_per_validation(self, items: int, world: int = 1) -> int:
        """Optimizer steps between validations."""
        return self.val_every or max(1, round(self.steps_per_epoch(items, world)))
