"""`fit`: a Lightning training as a stage of a run, resumable to the bit.

Lightning does what it is good at (precision, accumulation, clipping, distributed data parallel); its loggers, progress
bar and checkpoints are off, so that nothing is written outside the run directory and one set of files tells the story.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from ..checkpoints import MANIFEST_NAME, CheckpointLine, best, read_checkpoints
from ..context import Context, default_threads
from ..manifest import Headline
from .callback import CheckpointCallback, JournalCallback
from .device import Device, choose_device
from .memory import OutOfMemory, is_out_of_memory, pair_words, release, smaller
from .sanity import try_one_batch
from .session import Session, TrainingEnded
from .settings import TrainerSettings
from .signals import StopSignal
from .snapshot import CheckpointWriter, load_newest
from .stream import ItemKey, Stream, rank_and_world

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
    collate, collate_validation: lists of items to a batch; torch's own when None.
    name_of: what an item is called, for the sentence about the batch that spoiled a training.
    callbacks: more of Lightning's, after the journal's and the checkpoints'.
    facts, numbers: said of the run when training starts (`Context.about`).
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
    collate_validation: Callable[[list[Any]], Any] | None = None
    name_of: Callable[[ItemKey], str] | None = None
    callbacks: tuple[L.Callback, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)


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
    A batch that does not fit into memory is halved, with twice the accumulation: the same training in smaller pieces,
    from the newest checkpoint where there is one.

    Raises
    ------
    TrainingDiverged: the loss or a weight became NaN or infinite.
    OutOfMemory: not even a single item fits, or steps were done of which no checkpoint holds anything.
    WavedeckError: the checkpoint to resume from does not fit the settings.
    """
    _quiet_lightning()
    torch.set_num_threads(default_threads())
    while True:
        try:
            return _fit(job)
        except Exception as error:
            if not is_out_of_memory(error) or rank_and_world()[1] > 1:
                raise  # one rank alone must not change its batch: the others would wait for it for ever
            job = _with_smaller_batches(job)
        release()  # outside the handler: its traceback holds the tensors of the batch that did not fit


def _fit(job: TrainingJob) -> TrainingResult:
    session = _session(job)
    _resume(session)
    if session.resumed_from is not None and session.resumed_from["extra"]["counters"].get("ended"):
        return _already_done(session, session.resumed_from)
    writer = CheckpointWriter(
        session.context.run.checkpoints, job.headline, job.settings.keep_last, job.settings.keep_best
    )
    device = choose_device(job.context.device, job.settings.precision, session.say)
    _look_before(job, session, device)
    if session.is_main:
        session.context.about(facts=job.facts, numbers=job.numbers)
    trainer = build_trainer(job.settings, device, session, writer, job.callbacks)
    with session.stop:
        reason = _run(trainer, job, session)
    return TrainingResult(reason, trainer.global_step, _best(session))


def _look_before(job: TrainingJob, session: Session, device: Device) -> None:
    """The sanity batch: what cannot work fails here, before the first epoch."""
    stream = session.stream
    batch = [job.train[key] for key in stream.batch_at(stream.position)]
    held_out: Any = job.validation
    validation = None
    if held_out is not None:
        validation = [held_out[index] for index in range(min(len(held_out), job.settings.batch_size))]
    seconds = try_one_batch(job.module, batch, validation, device, job.collate, job.collate_validation)
    session.say(f"one batch of {len(batch)} went through forward, backward and validation in {seconds:.1f} s.")


def _with_smaller_batches(job: TrainingJob) -> TrainingJob:
    """The same job in smaller batches, going on from the newest checkpoint; says which pair it is."""
    context, settings = job.context, smaller(job.settings)
    before = pair_words(job.settings)
    if settings is None:
        raise OutOfMemory(
            f"not even one item fits into memory ({before}): shorten the clips, take a smaller model, or turn on "
            "gradient checkpointing."
        ) from None
    step = job.module.trainer.global_step if job.module._trainer is not None else 0
    job.module.trainer = None  # the next attempt's own; until then the module is nobody's
    saved = bool(read_checkpoints(context.run.checkpoints / MANIFEST_NAME))
    if step and not saved:
        raise OutOfMemory(
            f"memory ran out at step {step} with {before}, before the first checkpoint: start again with "
            f"{pair_words(settings)}, which is the same training in smaller pieces."
        ) from None
    text = f"memory ran out with {before}: going on with {pair_words(settings)}, the same effective batch."
    context.journal.write("alert", level="warning", rule="out-of-memory", step=step, text=text)
    context.say(text, "warning")
    return dataclasses.replace(job, settings=settings, context=dataclasses.replace(context, resume=saved))


def build_trainer(
    settings: TrainerSettings, device: Device, session: Session, writer: CheckpointWriter,
    callbacks: tuple[L.Callback, ...] = (),
) -> L.Trainer:  # fmt: skip
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
        callbacks=[JournalCallback(session), CheckpointCallback(session, writer), *callbacks],
    )


def _session(job: TrainingJob) -> Session:
    rank, world = rank_and_world()
    stream = Stream(job.items, job.settings.batch_size, job.seed, rank, world, job.settings.accumulate)
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
        name_of=job.name_of,
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
    session.stream.go_to(session.resumed_from["stream"], session.resumed_from["position"])
    session.say(f"resuming from {line.name}: step {line.step} of {session.total_steps}.")


def _already_done(session: Session, state: dict[str, Any]) -> TrainingResult:
    ended, step = state["extra"]["counters"]["ended"], state["step"]
    session.say(f"training had already ended ({ended}) at step {step}: nothing to do.")
    return TrainingResult(ended, step, _best(session))


def _run(trainer: L.Trainer, job: TrainingJob, session: Session) -> str:
    """Run Lightning's loop; returns how it ended."""
    workers = job.settings.workers
    options: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    loader: Any = DataLoader(
        job.train, batch_sampler=session.stream, pin_memory=torch.cuda.is_available(), collate_fn=job.collate,
        generator=torch.Generator().manual_seed(job.seed), **options,
    )  # fmt: skip
    validation = None
    if job.validation is not None:
        validation = DataLoader(
            job.validation, batch_size=job.settings.batch_size, shuffle=False, collate_fn=job.collate_validation,
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
