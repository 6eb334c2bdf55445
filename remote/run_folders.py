"""Run directories of this machine as a host: created whole, changed record by record, deleted for good."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from ..engine.errors import UsageError, WavedeckError
from ..engine.files import create_exclusive, write_atomic
from ..engine.rundir import Home, RunDir


def create(home: Home, run: RunDir, files: Mapping[str, bytes]) -> None:
    """Make the directory under a hidden name and rename it when it is whole: no reader sees half a run.

    Raises
    ------
    UsageError: there is a run of that id. WavedeckError: the home is not writable.
    """
    home.ensure_writable()
    if run.path.exists():
        raise UsageError(f"there is a run {run.id} already.")
    hidden = RunDir(home.runs / f".{run.id}.{secrets.token_hex(4)}.new")
    try:
        hidden.attempts.mkdir(parents=True, mode=0o700)
        hidden.checkpoints.mkdir()
        for name, data in files.items():
            write_atomic(hidden.path / name, data)
        hidden.path.rename(run.path)
    except OSError as error:
        shutil.rmtree(hidden.path, ignore_errors=True)
        raise WavedeckError(f"{run.path} cannot be created: {error.strerror}.") from error


def place(run: RunDir, name: str, data: bytes, exclusive: bool) -> bool:
    """Put one record into a run's directory; False when `exclusive` and there is one already."""
    path = run.path / name
    if path.parent != run.path:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    if exclusive:
        return create_exclusive(path, data)
    write_atomic(path, data)
    return True


def discard(home: Home, run: RunDir) -> None:
    """Rename the directory out of the runs, then delete it; an interrupted removal leaves rubbish, never half a run.

    Raises
    ------
    UsageError: there is no such run. WavedeckError: it cannot be moved.
    """
    home.trash.mkdir(parents=True, exist_ok=True)
    try:
        sweep_environments(run.path)
        run.path.rename(home.trash / f"{run.id}.{secrets.token_hex(4)}")
    except FileNotFoundError:
        raise UsageError(f"there is no run {run.id} any more.") from None
    except OSError as error:
        raise WavedeckError(f"{run.id} cannot be deleted: {error.strerror}.") from error
    for leftover in home.trash.iterdir():
        _delete(leftover)


def sweep_environments(run_dir: Path, before: int | None = None) -> None:
    """Delete environments that launchers left which died; only when no supervisor can still come for them.

    Parameters
    ----------
    before: leave those of this attempt and later ones alone.
    """
    for path in run_dir.glob("attempts/.env-*"):
        number = path.name.removeprefix(".env-")
        if before is None or not number.isdigit() or int(number) < before:
            path.unlink(missing_ok=True)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
