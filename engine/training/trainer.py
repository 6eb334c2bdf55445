"""`fit`: a Lightning training as a stage of a run, resumable to the bit.

Lightning does what it is good at (precision, accumulation, clipping, distributed data parallel); its loggers, progress
bar and checkpoints are off, so that nothing is written outside the run directory and one set of files tells the story.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from ..checkpoints import MANIFEST_NAME, CheckpointLine, best, read_checkpoints
from ..context import Context, default_threads
from ..manifest import Headline
from .callback import CheckpointCallback, JournalCallback
from .device import Device, choose_device
from .session import Session, TrainingEnded
from .settings import TrainerSettings
from .signals import StopSignal
from .snapshot import CheckpointWriter, load_newest
from .stream import Stream, rank_and_world

_NEVER = 10**12


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What is trained, on what.

    Parameters
    ----------
    module: its `training_step` returns the loss; it logs `val/...` metrics with `self.log`; schedulers step per step.
    train: answers `train[ItemKey(item, epoch)]`; any randomness comes from `item_rng`, never from a global generator.
    validation: a plain data set, or None.
    seed: of the shuffling, and of the global generators at the first step.
    """

    module: L.LightningModule
    train: Dataset[Any]
    items: int
    validation: Dataset[Any] | None
    settings: TrainerSettings
    seed: int
    context: Context
    headline: Headline
    columns: tuple[str, ...] = ()
    collate: Callable[[list[Any]], Any] | None = None


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """How a training ended: `finished`, `early` (patience) or `stopped` (asked); at which step; its best checkpoint."""

    reason: str
    step: int
    best: CheckpointLine | None


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators without Lightning's printed line; use before building a model."""
    L.seed_everything(seed, verbose=False)


def fit(job: TrainingJob) -> TrainingResult:
    """Train, or go on training from the newest whole checkpoint when the context says resume.

    Returns after the last step, or early when patience is over or a stop was asked for; the state is saved each time.

    Raises
    ------
    TrainingDiverged: the loss or a weight became NaN or infinite.
    WavedeckError: the checkpoint to resume from does not fit the settings.
    """
    _quiet_lightning()
    torch.set_num_threads(default_threads())
    session = _session(job)
    _resume(session)
    if session.resumed_from is not None and session.resumed_from["extra"]["counters"].get("ended"):
        return _already_done(session, session.resumed_from)
    writer = CheckpointWriter(
        session.context.run.checkpoints, job.headline, job.settings.keep_last, job.settings.keep_best
    )
    device = choose_device(job.context.device, job.settings.precision, session.say)
    trainer = build_trainer(job.settings, device, session, writer)
    with session.stop:
        reason = _run(trainer, job, session)
    return TrainingResult(reason, trainer.global_step, _best(session))


def build_trainer(settings: TrainerSettings, device: Device, session: Session, writer: CheckpointWriter) -> L.Trainer:
    """Lightning's trainer with everything that writes elsewhere switched off."""
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    every = session.val_every * settings.accumulate
    return L.Trainer(
        accelerator=device.accelerator,
        precision=device.precision,  # type: ignore[arg-type]
        devices=local_world,
        num_nodes=max(1, session.stream.world // local_world),
        max_steps=session.total_steps,
        max_epochs=-1,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip or None,
        val_check_interval=every or _NEVER,
        check_val_every_n_epoch=None,
        limit_val_batches=1.0 if every else 0,
        num_sanity_val_steps=0,
        deterministic="warn" if settings.deterministic else None,
        use_distributed_sampler=False,
        default_root_dir=str(session.context.run.path),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[JournalCallback(session), CheckpointCallback(session, writer)],
    )


def _session(job: TrainingJob) -> Session:
    rank, world = rank_and_world()
    stream = Stream(job.items, job.settings.batch_size, job.seed, rank, world)
    return Session(
        context=job.context,
        settings=job.settings,
        stream=stream,
        headline=job.headline,
        columns=job.columns,
        total_steps=job.settings.total_steps(job.items, world),
        val_every=job.settings.steps_per_validation(job.items, world) if job.validation is not None else 0,
        stop=StopSignal(),
        is_main=rank == 0,
    )


def _resume(session: Session) -> None:
    """Load the newest whole checkpoint into the session when the run is being resumed."""
    context = session.context
    if not context.resume:
        return
    found = load_newest(context.run.checkpoints, lambda text: session.say(text, "warning"))
    if found is None:
        session.say("there is no whole checkpoint to resume from: training starts at step 0.", "warning")
        return
    line, session.resumed_from = found
    session.stream.position = session.resumed_from["position"]
    session.say(f"resuming from {line.name}: step {line.step} of {session.total_steps}.")


def _already_done(session: Session, state: dict[str, Any]) -> TrainingResult:
    ended, step = state["extra"]["counters"]["ended"], state["step"]
    session.say(f"training had already ended ({ended}) at step {step}: nothing to do.")
    return TrainingResult(ended, step, _best(session))


def _run(trainer: L.Trainer, job: TrainingJob, session: Session) -> str:
    """Run Lightning's loop; returns how it ended."""
    workers = job.settings.workers
    options: dict[str, Any] = {"num_workers": workers, "collate_fn": job.collate, "persistent_workers": workers > 0}
    loader: Any = DataLoader(
        job.train, batch_sampler=session.stream, pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(job.seed), **options,
    )  # fmt: skip
    validation = None
    if job.validation is not None:
        validation = DataLoader(
            job.validation, batch_size=job.settings.batch_size, shuffle=False,
            generator=torch.Generator().manual_seed(job.seed), **options,
        )  # fmt: skip
    try:
        trainer.fit(job.module, loader, validation)
    except TrainingEnded as end:
        return end.reason
    return "finished"


def _best(session: Session) -> CheckpointLine | None:
    return best(read_checkpoints(session.context.run.checkpoints / MANIFEST_NAME), session.headline)


def _quiet_lightning() -> None:
    """Silence Lightning's greetings and advice about loaders; its warnings about real faults stay."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\..*")
