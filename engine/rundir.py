"""Paths inside `WAVEDECK_HOME` and inside one run directory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .errors import WavedeckError

HOME_VARIABLE = "WAVEDECK_HOME"


def wavedeck_home() -> Path:
    """`$WAVEDECK_HOME`, or the platform's user data directory."""
    configured = os.environ.get(HOME_VARIABLE)
    if configured:
        return Path(configured).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("wavedeck"))


@dataclass(frozen=True, slots=True)
class Home:
    """Everything Wavedeck keeps, under one directory."""

    root: Path

    @classmethod
    def default(cls) -> Home:
        """The home of this user."""
        return cls(wavedeck_home().absolute())

    @property
    def runs(self) -> Path:
        """One directory per run."""
        return self.root / "runs"

    @property
    def data(self) -> Path:
        """Data sets made by recipes, `<recipe>/<signature>/`."""
        return self.root / "data"

    @property
    def cache(self) -> Path:
        """Rebuildable; safe to delete."""
        return self.root / "cache"

    @property
    def trash(self) -> Path:
        """Where a deleted run waits while its files are removed."""
        return self.root / "trash"

    @property
    def backup_settings(self) -> Path:
        """`backup.toml`: what is backed up, and how, where a run says nothing itself."""
        return self.root / "backup.toml"

    def run(self, run_id: str) -> RunDir:
        """The directory of one run, whether or not it exists."""
        return RunDir(self.runs / run_id)

    def ensure_writable(self) -> None:
        """Create the home, or raise a sentence saying which variable moves it."""
        try:
            self.runs.mkdir(parents=True, exist_ok=True)
            probe = self.runs / f".write-test-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise WavedeckError(
                f"{self.root} is not writable ({error.strerror}): set {HOME_VARIABLE} to a directory that is."
            ) from error


@dataclass(frozen=True, slots=True)
class RunDir:
    """The files of one run. Nothing here reads or writes."""

    path: Path

    @property
    def id(self) -> str:
        """The run's id is its directory's name."""
        return self.path.name

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def attempts(self) -> Path:
        return self.path / "attempts"

    @property
    def supervisor(self) -> Path:
        return self.path / "supervisor.json"

    @property
    def stop(self) -> Path:
        return self.path / "stop.json"

    @property
    def exit(self) -> Path:
        return self.path / "exit.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def console_events(self) -> Path:
        return self.path / "console.jsonl"

    @property
    def console(self) -> Path:
        return self.path / "console.log"

    @property
    def machine(self) -> Path:
        return self.path / "machine.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def checkpoint_manifest(self) -> Path:
        return self.checkpoints / "manifest.jsonl"

    @property
    def incoming(self) -> Path:
        """Where the backup of a copy keeps what is not yet verified; no reader's business."""
        return self.checkpoints / ".incoming"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def project(self) -> Path:
        """The code that was pushed for the run, kept beside its copy so that a failover has it."""
        return self.path / "project"

    @property
    def policy(self) -> Path:
        return self.path / "policy.json"

    @property
    def backup(self) -> Path:
        return self.path / "backup.jsonl"

    @property
    def lease(self) -> Path:
        return self.path / "lease.json"

    @property
    def moved(self) -> Path:
        return self.path / "moved.json"

    def attempt(self, number: int) -> Path:
        return self.attempts / f"{number:04d}.json"
