"""Everything a training needs to go on exactly, and the files it goes to.

A snapshot holds tensors, numbers, strings, lists and dicts only, so it loads with `weights_only=True`: a checkpoint
that came from another machine cannot run code here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch

from ..checkpoints import (
    MANIFEST_NAME,
    CheckpointLine,
    commit,
    newest_whole,
    prune,
    read_checkpoints,
    sweep_temporary,
    temporary_path,
    unused_name,
)
from ..errors import WavedeckError
from ..manifest import Headline
from .rng import capture_rng_of_all_ranks, restore_rng
from .stream import Stream

SNAPSHOT_FORMAT = 1


def take_snapshot(trainer: L.Trainer, stream: Stream, position: int, extra: dict[str, Any]) -> dict[str, Any]:
    """The state at a step border: weights, optimizers, schedulers, gradient scaler, generators, place in the data.

    Parameters
    ----------
    position: batches trained so far by each process.
    extra: the callbacks' own counters (plain numbers and strings).

    All processes of a distributed run call this together, since the generators of every rank are gathered.
    """
    return {
        "format": SNAPSHOT_FORMAT,
        "step": trainer.global_step,
        "position": position,
        "stream": stream.identity(),
        "model": trainer.strategy.lightning_module_state_dict(),
        "optimizers": [trainer.strategy.optimizer_state(optimizer) for optimizer in trainer.optimizers],
        "schedulers": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
        "scaler": trainer.precision_plugin.state_dict(),
        "rng": capture_rng_of_all_ranks(),
        "extra": extra,
    }


def restore_snapshot(trainer: L.Trainer, stream: Stream, state: dict[str, Any]) -> None:
    """Put `state` into a trainer whose optimizers exist; `stream.position` must have been set before the loader ran.

    Raises
    ------
    WavedeckError: the data set, batch size, seed or process count differ, so the position means another place.
    """
    if not stream.continues(state["stream"], state["position"]):
        raise WavedeckError(
            f"this checkpoint cannot be resumed exactly: it was trained with {_words(state['stream'])}, now it is "
            f"{_words(stream.identity())}. Start a new run, or give the old settings."
        )
    trainer.lightning_module.load_state_dict(state["model"])
    for optimizer, saved in zip(trainer.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    for config, saved in zip(trainer.lr_scheduler_configs, state["schedulers"], strict=True):
        config.scheduler.load_state_dict(saved)
    if state["scaler"]:
        trainer.precision_plugin.load_state_dict(state["scaler"])
    _set_counters(trainer, state["step"], stream.position)


def restore_generators(state: dict[str, Any], rank: int) -> None:
    """Put back this rank's random generators; last of all, right before the first step."""
    restore_rng(state["rng"][min(rank, len(state["rng"]) - 1)])


def _set_counters(trainer: L.Trainer, step: int, position: int) -> None:
    """Tell Lightning how many steps and batches there were; two numbers, since training is one endless epoch."""
    loop = trainer.fit_loop.epoch_loop
    loop.batch_progress.total.increment_by(position)
    loop.automatic_optimization.optim_progress.optimizer.step.total.increment_by(step)


def _words(identity: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in identity.items())


def non_finite_tensor(state: dict[str, Any]) -> str | None:
    """The name of a weight that holds NaN or infinity, or None: such a state is not worth a checkpoint."""
    for name, value in state["model"].items():
        if isinstance(value, torch.Tensor) and torch.is_floating_point(value) and not bool(torch.isfinite(value).all()):
            return str(name)
    return None


class CheckpointWriter:
    """Writes snapshots into a run's `checkpoints/` and keeps the last K and the best M.

    Parameters
    ----------
    directory: created when missing; half-written leftovers of a killed writer are removed.
    headline: the metric that decides what is best.
    """

    def __init__(self, directory: Path, headline: Headline, keep_last: int, keep_best: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        sweep_temporary(directory)
        self.directory, self.headline = directory, headline
        self.keep_last, self.keep_best = keep_last, keep_best

    def save(self, state: dict[str, Any], epoch: float, metrics: dict[str, float | str | None]) -> CheckpointLine:
        """Write `state` durably, record it, then let retention remove older ones.

        Raises
        ------
        OSError: the disk is full or failing; nothing was recorded and nothing older was removed.
        """
        name = unused_name(self.directory, state["step"])
        temporary = temporary_path(self.directory, name)
        try:
            with open(temporary, "wb") as handle:
                torch.save(state, handle)
            line = commit(temporary, name, state["step"], epoch, metrics, self.headline)
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise
            raise OSError(f"torch could not write {name}: {error}") from error
        prune(self.directory, self.headline, self.keep_last, self.keep_best)
        return line


def load_snapshot(path: Path) -> dict[str, Any]:
    """The state in a checkpoint file, on the CPU.

    Raises
    ------
    WavedeckError: not a checkpoint of this program, or of a newer format.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WavedeckError(f"{path.name} cannot be read as a checkpoint: {type(error).__name__}: {error}.") from error
    version = state.get("format") if isinstance(state, dict) else None
    if not isinstance(version, int):
        raise WavedeckError(f"{path.name} is not a checkpoint written by Wavedeck.")
    if version > SNAPSHOT_FORMAT:
        raise WavedeckError(f"{path.name} has format {version}, newer than this Wavedeck reads: upgrade Wavedeck.")
    return state


def load_newest(directory: Path, say: Callable[[str], None]) -> tuple[CheckpointLine, dict[str, Any]] | None:
    """The newest whole checkpoint of a run and its state; damaged ones are passed over with a sentence each."""
    line = newest_whole(directory, read_checkpoints(directory / MANIFEST_NAME), say)
    return None if line is None else (line, load_snapshot(directory / line.name))
