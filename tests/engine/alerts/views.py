"""Runs and hosts as values, for rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wavedeck.engine.alerts.evidence import Evidence
from wavedeck.engine.alerts.rules import Judged, Memory, judge
from wavedeck.engine.hosts import HostView, LinkState
from wavedeck.engine.machine import GpuReading, MachineReading
from wavedeck.engine.manifest import ExitRecord, Manifest
from wavedeck.engine.run_view import RunView
from wavedeck.engine.state import RunState

NOW = 1_800_000_000.0
RUN = "20261120-1759-drums-brisk-heron"
GIB = 1 << 30


def run(state: RunState = RunState.RUNNING, **fields: Any) -> RunView:
    """A run on gpu1."""
    manifest = fields.pop("manifest", None) or Manifest(
        id=RUN, name="drums", created=NOW - 7200, command=["python", "train.py"], gpus=fields.pop("gpus", [])
    )
    basics = {"id": RUN, "dir": Path("/nowhere"), "manifest": manifest, "attempt": 1, "host": "gpu1", "step": 1200}
    if not state.active and "ended" not in fields:
        fields["ended"] = NOW
    return RunView(state=state, **{**basics, "started": NOW - 3600, "created": NOW - 7200, **fields})


def failed(**fields: Any) -> RunView:
    """A run that ended with exit code 1."""
    record = {"exit_code": 1, "tail": ["Traceback", "RuntimeError: CUDA out of memory"], **fields.pop("exit", {})}
    ended = fields.pop("ended", NOW)
    exit_ = ExitRecord(fields.get("attempt", 1), ended, **record)
    state = RunState.KILLED if exit_.signal else RunState.FAILED
    return run(state, exit=exit_, ended=ended, **fields)


def host(link: LinkState = LinkState.CONNECTED, **fields: Any) -> HostView:
    """gpu1, heard a moment ago."""
    return HostView(**{"name": "gpu1", "link": link, "heard": NOW, **fields})  # type: ignore[arg-type]


def reading(free: float = 500, total: float = 1000, used: tuple[float | None, ...] = ()) -> MachineReading:
    """A machine: GiB of its disk, and the use of its GPUs."""
    gpus = tuple(GpuReading(number, utilization_pct=value) for number, value in enumerate(used))
    return MachineReading(NOW, disk_free=int(free * GIB), disk_total=int(total * GIB), gpus=gpus)


class Watch:
    """Looks one after another, each with the memory of the one before."""

    def __init__(self, *, fresh: bool = False) -> None:
        self.memory = Memory() if fresh else Memory(looked=NOW - 5)

    def look(self, now: float = NOW, **fields: Any) -> list[tuple[str, str, bool]]:
        """What is told: rule, title, whether something is over."""
        return [(alert.rule, alert.title, alert.recovered) for alert in self.judge(now, **fields).alerts]

    def judge(self, now: float = NOW, **fields: Any) -> Judged:
        """One look."""
        judged = judge(Evidence(now, **fields), self.memory)
        self.memory = judged.memory
        assert not judged.broken, judged.broken
        return judged

    def rules(self, now: float = NOW, **fields: Any) -> list[str]:
        """Names of the rules that told something; a `-` before what is over."""
        return [("-" if over else "") + rule for rule, _, over in self.look(now, **fields)]
