"""Lightning callbacks that turn a training into a run: journal rows, the loss table, checkpoints, stop and resume.

`JournalCallback` tells, `CheckpointCallback` keeps. Order matters: what a step's row says is part of the state that the
same step's checkpoint holds.
"""

from __future__ import annotations

import math
import time
from typing import Any

import lightning as L
import torch

from .. import format as fmt
from .memory import peak_memory_gib
from .session import Session, TrainingDiverged, TrainingEnded, scalars, validate_now
from .snapshot import CheckpointWriter, non_finite_tensor, restore_generators, restore_snapshot, take_snapshot

_MOST_OVERFLOWS = 20
"""Steps in a row that a 16-bit scaler may leave out: from 65,536 down to 1 takes it sixteen."""
_HEARTBEAT_S = 5.0
"""How often a long validation says that it is alive."""


class StepCallback(L.Callback):
    """Calls `on_step` once per optimizer step, however many batches are accumulated in it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._last_step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.on_batch(outputs)
        if trainer.global_step != self._last_step:
            self._last_step = trainer.global_step
            self.on_step(trainer, pl_module)

    def on_batch(self, outputs: Any) -> None:
        """One batch was trained."""

    def on_step(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """One optimizer step was done."""


class JournalCallback(StepCallback):
    """Writes metric rows, progress and phases; prints the loss table; ends a training whose loss is no number.

    `train/loss` of a row is the mean over the steps since the row before, so no step is left out; `lr` and
    `train/grad_norm` (before clipping) are this step's.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._loss: torch.Tensor | None = None
        self._lr = math.nan
        self._grad_norm = math.nan
        self._bad_gradient = False
        self._overflows = 0
        self._mark = 0.0
        self._trained_s = 0.0
        self._timed_steps = 0
        self._beat = 0.0
        self._header_due = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        session = self.session
        session.stop.install()
        self._mark = time.monotonic()
        if session.is_main:
            session.context.journal.write(
                "start", step=trainer.global_step, attempt=session.context.attempt, epoch=session.epoch(trainer),
                headline=session.headline.metric, direction=session.headline.direction,
            )  # fmt: skip
            session.context.phase("train")

    def on_batch(self, outputs: Any) -> None:
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is not None:
            self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        self._lr = float(optimizer.param_groups[0]["lr"])
        gradients = [weight.grad for weight in pl_module.parameters() if weight.grad is not None]
        self._grad_norm = float(torch.nn.utils.get_total_norm(gradients)) if gradients else math.nan
        # 16-bit training meets infinities by design: its scaler leaves the step out and scales less, a few times
        self._overflows = self._overflows + 1 if gradients and not math.isfinite(self._grad_norm) else 0
        self._bad_gradient = self._overflows > (_MOST_OVERFLOWS if _scales(trainer) else 0)

    def on_step(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        session, step = self.session, trainer.global_step
        loss, self._loss = (math.nan if self._loss is None else float(self._loss)), None
        now = time.monotonic()
        session.counters.elapsed_s += now - self._mark
        self._count_time(now - self._mark)
        self._mark = now
        counters = session.counters
        counters.loss_sum, counters.loss_steps = counters.loss_sum + loss, counters.loss_steps + 1
        counters.long_sum, counters.long_steps = counters.long_sum + loss, counters.long_steps + 1
        if self._row_due(step) or not math.isfinite(loss) or self._bad_gradient:
            self._write_row(trainer, step)
        if not math.isfinite(loss) or self._bad_gradient:
            self._diverged(trainer, loss)
        if session.is_main:
            session.context.progress(step, session.total_steps, "step", "train")

    def _row_due(self, step: int) -> bool:
        return step == 1 or step % self.session.settings.log_every == 0 or step == self.session.total_steps

    def _write_row(self, trainer: L.Trainer, step: int) -> None:
        counters = self.session.counters
        row = {
            "train/loss": counters.loss_sum / counters.loss_steps,
            "lr": self._lr,
            "train/grad_norm": self._grad_norm,
        }
        counters.loss_sum, counters.loss_steps = 0.0, 0
        if self.session.is_main:
            row = {**scalars(trainer, "train/"), **row}
            self.session.context.log(row, step, self.session.epoch(trainer))

    def _count_time(self, seconds: float) -> None:
        """Time of training steps alone; the first of an attempt warms up and does not count."""
        if self._timed_steps:
            self._trained_s += seconds
        self._timed_steps += 1

    def _tell_speed(self) -> None:
        """What this training costs, for comparisons and for the next one's estimate."""
        session, settings = self.session, self.session.settings
        numbers = {"train_s": round(session.counters.elapsed_s, 2), "memory_gib": round(peak_memory_gib(), 3)}
        if self._trained_s > 0:
            items = (self._timed_steps - 1) * settings.batch_size * settings.accumulate * session.stream.world
            numbers["samples_per_s"] = round(items / self._trained_s, 2)
        session.context.about(numbers=numbers)

    def _diverged(self, trainer: L.Trainer, loss: float) -> None:
        step = trainer.global_step
        what = f"training loss became {fmt.number(loss)}"
        if math.isfinite(loss):
            what = f"gradient's norm became {fmt.number(self._grad_norm)}, the loss being {fmt.number(loss)},"
        text = (
            f"the {what} at step {step}{self.session.batch_words(trainer)} (lr {fmt.number(self._lr)}, gradient norm "
            f"{fmt.number(self._grad_norm)}): training ended. Resume from the checkpoint before it with a lower "
            "learning rate or a smaller training.clip."
        )
        if self.session.is_main:
            self.session.context.journal.write("alert", level="error", rule="nan-loss", step=step, text=text)
        raise TrainingDiverged(text)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.session.is_main:
            self.session.context.phase("validate")
        self._beat = time.monotonic()

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        now = time.monotonic()
        if self.session.is_main and now - self._beat > _HEARTBEAT_S:
            self._beat = now
            self.session.context.journal.write(
                "progress", done=trainer.global_step, total=self.session.total_steps, unit="step",
                description=f"validate, batch {batch_idx + 1}",
            )  # fmt: skip

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        session, counters = self.session, self.session.counters
        now = time.monotonic()
        counters.elapsed_s += now - self._mark
        self._mark = now
        session.metrics = scalars(trainer, "val/")
        mean_loss = counters.long_sum / counters.long_steps if counters.long_steps else math.nan
        counters.long_sum, counters.long_steps = 0.0, 0
        counters.validated = trainer.global_step
        if session.is_main:
            session.context.log(session.metrics, trainer.global_step, session.epoch(trainer))
            self._tell_speed()
            session.context.phase("train")
            self._print_line(trainer, {"train/loss": mean_loss, "lr": self._lr, **session.metrics})

    def _print_line(self, trainer: L.Trainer, values: dict[str, float]) -> None:
        """One line of the loss table on the console; the heading stands above the first."""
        columns = [name for name in self.session.columns if name not in ("epoch", "step", "time")]
        cells = {"epoch": f"{self.session.epoch(trainer):.2f}", "step": str(trainer.global_step)}
        cells |= {name: fmt.number(values.get(name)) for name in columns}
        cells["time"] = fmt.duration(self.session.counters.elapsed_s)
        widths = {name: max(8, len(name)) for name in cells}
        if self._header_due:
            self._header_due = False
            print("  ".join(name.rjust(widths[name]) for name in cells), flush=True)
        print("  ".join(text.rjust(widths[name]) for name, text in cells.items()), flush=True)


def _scales(trainer: L.Trainer) -> bool:
    """Whether a gradient scaler watches over infinities itself."""
    return getattr(trainer.precision_plugin, "scaler", None) is not None


class CheckpointCallback(StepCallback):
    """Saves full checkpoints, restores one, stops when asked or when patience is over.

    Saved: each `save_every` steps, each validation that is better (or every one without `save_every`), at the end, and
    on SIGINT and SIGTERM at the next step border. Where a validation falls on the same step the save follows it, so
    that a resumed training never misses one.
    """

    def __init__(self, session: Session, writer: CheckpointWriter) -> None:
        super().__init__(session)
        self.writer = writer
        self._saved_step = -1

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        state = self.session.resumed_from
        if state is not None:
            restore_snapshot(trainer, self.session.stream, state)
            self.session.counters.load(state["extra"]["counters"])
            self.session.metrics = dict(state["extra"]["metrics"])
            self._saved_step = state["step"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        state, self.session.resumed_from = self.session.resumed_from, None
        if state is not None:
            restore_generators(state, trainer.global_rank)
            if state["step"] and self.session.validation_due(state["step"]):
                validate_now(trainer)

    def on_step(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        step, every = trainer.global_step, self.session.settings.save_every
        if self._stop_asked(trainer):
            self._save_and_stop(trainer)
        if every and step % every == 0 and not self.session.validation_due(step):
            self._save(trainer)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        if self._stop_asked(trainer):
            self._save_and_stop(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        session, counters, step = self.session, self.session.counters, trainer.global_step
        value = session.metrics.get(session.headline.metric)
        better = self._is_better(value)
        counters.best, counters.stale = (value, 0) if better else (counters.best, counters.stale + 1)
        patience, every = session.settings.patience, session.settings.save_every
        over = bool(patience) and counters.stale >= patience
        counters.ended = "finished" if step >= session.total_steps else ("early" if over else None)
        if better or counters.ended or not every or step % every == 0:
            self._save(trainer)
        if counters.ended == "early":
            session.say(
                f"{session.headline.metric} did not get better in {patience} validations "
                f"(best {fmt.number(counters.best)}): training ends early at step {step}."
            )
            raise TrainingEnded("early")

    def _is_better(self, value: float | None) -> bool:
        before = self.session.counters.best
        if value is None or not math.isfinite(value):
            return False
        return before is None or self.session.headline.better(value, before)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.session.validation_due(trainer.global_step):
            validate_now(trainer)
        if self._saved_step != trainer.global_step:
            self.session.counters.ended = "finished"
            self._save(trainer)

    def _stop_asked(self, trainer: L.Trainer) -> bool:
        asked = self.session.stop.asked is not None
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        return asked

    def _save_and_stop(self, trainer: L.Trainer) -> None:
        step = trainer.global_step
        saved = self._saved_step == step or self._save(trainer)
        kept = "its state is saved" if saved else "its state could NOT be saved"
        self.session.say(
            f"stopped by {self.session.stop.asked or 'another process'} after step {step} of "
            f"{self.session.total_steps}; {kept}."
        )
        raise TrainingEnded("stopped")

    def _save(self, trainer: L.Trainer) -> bool:
        """Write a checkpoint unless this step has one; a failing disk is an alert, never the end of a training."""
        session, step = self.session, trainer.global_step
        extra = {"counters": session.counters.state(), "metrics": dict(session.metrics)}
        state = take_snapshot(trainer, session.stream, session.position(trainer), extra)
        if not session.is_main:
            self._saved_step = step
            return True
        spoiled = non_finite_tensor(state)
        if spoiled is not None:
            text = f"weight {spoiled} holds NaN or infinity at step {step}: training ended, nothing was saved."
            session.context.journal.write("alert", level="error", rule="nan-weights", step=step, text=text)
            raise TrainingDiverged(text)
        metrics = session.recorded_metrics() if session.counters.validated == step else {}
        try:
            line = self.writer.save(state, session.epoch(trainer), metrics)
        except OSError as error:
            text = f"the checkpoint of step {step} was not written ({error.strerror or error}): older ones are kept."
            session.context.journal.write("alert", level="error", rule="checkpoint-failed", step=step, text=text)
            session.say(text, "error")
            return False
        self._saved_step = step
        session.context.journal.write(
            "checkpoint", name=line.name, step=step, epoch=line.epoch, bytes=line.bytes, sha256=line.sha256,
            best=line.best, v=line.metrics,
        )  # fmt: skip
        return True
