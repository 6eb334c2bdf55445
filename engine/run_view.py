"""A run at one moment, as every row, header and `--json` shows it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from .backup.money import cost, ran_s
from .backup.places import BackupPicture
from .checkpoints import CheckpointLine
from .events import json_number
from .hosts import LOCAL
from .manifest import ExitRecord, Manifest, SupervisorRecord
from .state import RunState
from .summary import Notice


@dataclass(frozen=True, slots=True)
class RunView:
    """Everything a row or a header shows of a run, at one moment."""

    id: str
    dir: Path
    state: RunState
    manifest: Manifest | None = None
    problem: str | None = None
    """Why the directory cannot be read, or what is damaged in it."""
    attempt: int | None = None
    supervisor: SupervisorRecord | None = None
    exit: ExitRecord | None = None
    created: float | None = None
    started: float | None = None
    ended: float | None = None
    """Of the newest attempt that trained: one that only judged a checkpoint has `evaluated_at`."""
    first_started: float | None = None
    """When its first attempt was started."""
    evaluated_at: float | None = None
    """When the newest attempt, which only judged a checkpoint, was done."""
    step: int | None = None
    epoch: float | None = None
    phase: str | None = None
    done: float | None = None
    total: float | None = None
    unit: str = "step"
    activity: str = ""
    rate: float | None = None
    eta_s: float | None = None
    last: dict[str, float] | None = None
    best: tuple[str, float, int | None] | None = None
    spark: tuple[float, ...] = ()
    spark_name: str | None = None
    nan_counts: dict[str, int] | None = None
    notices: tuple[Notice, ...] = ()
    checkpoints: tuple[CheckpointLine, ...] = ()
    last_sign: float | None = None
    host: str = LOCAL
    """Where it runs: this machine, or the host it is a copy of."""
    heard: float | None = None
    """When its host was last heard, for a run of another host whose link is known."""
    mirror_notices: tuple[str, ...] = ()
    ran_s: float | None = None
    """How long its attempts ran so far."""
    parent: str | None = None
    """The run it comes from: one that was moved, or a sweep."""
    lineage: str = ""
    """The first of the runs that are one training, moved from host to host; the run itself when nobody moved it."""
    moved_to: str | None = None
    """The run that goes on in its place on another host."""
    moved_host: str | None = None
    """And that host."""
    fenced: str | None = None
    """The run that may write instead of this one."""
    backup: BackupPicture | None = None
    """How its backup stands; None for a run of this machine without a second place."""
    facts: dict[str, str] = field(default_factory=dict)
    """What its trainer says of itself, by name."""
    numbers: dict[str, float] = field(default_factory=dict)
    """Numbers beside its metrics (parameters, seconds, GiB): what a comparison of runs shows."""
    lines: dict[str, dict[str, float]] = field(default_factory=dict)
    """Levels across the chart of a metric: `{metric: {label: value}}`."""
    evaluated: bool = False
    """Its newest attempt only judged a checkpoint, and did: `state` is the training's, `exit` the evaluation's."""

    @property
    def is_copy(self) -> bool:
        """Whether it lives on another host and is mirrored here."""
        return self.host != LOCAL

    @property
    def name(self) -> str:
        """The run's own name, or its id while the manifest cannot be read."""
        return self.manifest.name if self.manifest else self.id

    @property
    def what(self) -> str:
        """`sousa`, `sousa.train`, or the program of a foreign command."""
        manifest = self.manifest
        if manifest is None:
            return "?"
        if manifest.recipe:
            return f"{manifest.recipe}.{manifest.stage}" if manifest.stage else manifest.recipe
        return Path(manifest.command[0]).name if manifest.command else "?"

    @property
    def choices(self) -> str:
        """`model=cnn strategy=ia3` of the overrides `model=cnn`, `strategy=ia3`, `training.lr=0.1`; may be empty."""
        overrides = self.manifest.overrides if self.manifest is not None else []
        return " ".join(one for one in overrides if "." not in one.split("=", 1)[0])

    @property
    def label(self) -> str:
        """What tells it from the other runs of its recipe: its name where it was given one, else its choices."""
        if self.manifest is not None and self.name == self.what.split(".")[0]:
            return self.choices
        return self.name

    @property
    def cost(self) -> float | None:
        """Money spent so far, from the host's price per hour."""
        seconds = ran_s(self.started, self.ended, time.time()) if self.ran_s is None else self.ran_s
        return cost(self.manifest.price_per_hour if self.manifest else None, seconds)

    @property
    def doubled(self) -> bool:
        """Whether it is known to run although another run goes on in its place: two copies of one training."""
        return self.moved_to is not None and self.state.active and self.state is not RunState.UNREACHABLE

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `ps --json` and `show --json`."""
        manifest, exit_ = self.manifest, self.exit
        return {
            "id": self.id,
            "name": self.name,
            "state": str(self.state),
            "exit_code": exit_.exit_code if exit_ else None,
            "signal": exit_.signal if exit_ else None,
            "oom_killed": bool(exit_ and exit_.oom_killed),
            "recipe": manifest.recipe if manifest else None,
            "stage": manifest.stage if manifest else None,
            "preset": manifest.preset if manifest else None,
            "overrides": manifest.overrides if manifest else [],
            "tags": manifest.tags if manifest else [],
            "command": manifest.command if manifest else [],
            "host": self.host,
            "heard": self.heard,
            "created": self.created,
            "first_started": self.first_started,
            "started": self.started,
            "ended": self.ended,
            "evaluated_at": self.evaluated_at,
            "attempt": self.attempt,
            "step": self.step,
            "epoch": json_number(self.epoch),
            "phase": self.phase,
            "progress": {"done": self.done, "total": self.total, "unit": self.unit, "eta_s": self.eta_s},
            "last": {key: json_number(value) for key, value in (self.last or {}).items()},
            "best": None
            if self.best is None
            else {"metric": self.best[0], "value": json_number(self.best[1]), "step": self.best[2]},
            "nan_counts": self.nan_counts or {},
            "facts": self.facts,
            "numbers": self.numbers,
            "checkpoints": msgspec.to_builtins(self.checkpoints),
            "findings": [],
            "alerts": [{"t": n.t, "level": n.level, "text": n.text} for n in self.notices],
            "problem": self.problem,
            "cost": None if self.cost is None else round(self.cost, 4),
            "ran_s": self.ran_s,
            "parent": self.parent,
            "batch": manifest.batch if manifest else None,
            "lineage": self.lineage or self.id,
            "moved_to": self.moved_to,
            "fenced": self.fenced,
            "backup": None if self.backup is None else msgspec.to_builtins(self.backup),
            "dir": str(self.dir),
        }
