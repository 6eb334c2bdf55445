"""What would be lost with a host, asked of the host itself as far as it answers: the evidence behind `safe HOST`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...engine.backup.gather import gather
from ...engine.backup.safety import HostSafety, RunEvidence, Uncovered, host_safety
from ...engine.errors import WavedeckError
from ...engine.hosts import LOCAL
from ...engine.run_view import RunView
from ...engine.rundir import Home, RunDir
from ...engine.state import RunState
from ..fleet import Fleet
from ..host import Host
from ..link import Link
from ..link_news import link_record
from ..mirror_files import APPENDED
from ..ssh_host import SshHost
from .samples import samples_behind
from .there import RunThere, runs_there

NAMED = 3
ASK_S = 10.0
"""How long one run's questions may take; what is not answered by then is unknown, and so not safe."""


async def assess(
    home: Home, name: str, views: Sequence[RunView], fleet: Fleet, *, caught_up: bool = True
) -> HostSafety:
    """What would be lost if a host were destroyed now.

    Parameters
    ----------
    views: all runs of this home; those of the host are picked. fleet: links; the host's is used if it is up.
    caught_up: False when whoever waited for what is new there gave up before it was here.
    """
    link = fleet.links.get(name)
    up = name == LOCAL or (link is not None and link.state.up and link.agent is not None)
    host = fleet.host(name) if up else None
    mine = [view for view in views if view.host == name]
    there = await _There.ask(host) if isinstance(host, SshHost) else None
    found = list(await asyncio.gather(*(_evidence(home, view, host, link, there) for view in mine)))
    notes = [] if link is None or link.reason is None or link.state.up else [link.reason]
    reasons = [] if there is None else there.reasons({view.id for view in mine})
    if up and not caught_up:
        reasons.append("not all that is new on it was here in time: ask again.")
    return host_safety(
        name,
        found,
        time.time(),
        link_up=up,
        price_per_hour=None if link is None else link.entry.price_per_hour,
        idle_gpu_minutes=_idle_minutes(home, name, mine, link),
        reasons=reasons,
        notes=[*notes, *_others(link)],
    )


@dataclass(frozen=True, slots=True)
class _There:
    """What runs a host has, as it says itself: whoever mirrors it may pass by old ones, many, and forgotten ones."""

    runs: Mapping[str, RunThere]
    problem: str | None = None

    @classmethod
    async def ask(cls, host: SshHost) -> _There:
        """A host that does not tell has runs that nobody knows of."""
        try:
            async with asyncio.timeout(ASK_S):
                found, whole = await runs_there(host)
        except TimeoutError:
            return cls({}, "what runs it has could not be asked: it took too long.")
        except WavedeckError as error:
            return cls({}, f"what runs it has could not be asked: {error}")
        return cls({run.id: run for run in found}, None if whole else "it has more runs than can be looked at.")

    @property
    def told(self) -> bool:
        """Whether it said what runs it has."""
        return self.problem is None

    def reasons(self, known: Collection[str]) -> list[str]:
        """Why it is not safe, given the runs of it that are known here."""
        said = [] if self.problem is None else [self.problem]
        strange = sorted((run_id for run_id in self.runs if run_id not in known), reverse=True)
        if strange:
            named = ", ".join(strange[:NAMED]) + (f" and {len(strange) - NAMED} more" if strange[NAMED:] else "")
            what = "1 run there is" if len(strange) == 1 else f"{len(strange):,} runs there are"
            said.append(f"{what} not copied here: {named}.")
        return said

    def has(self, view: RunView) -> bool:
        """Whether the run may be there; one that is not has nothing more to lose."""
        return not self.told or view.id in self.runs

    def behind(self, view: RunView) -> tuple[int | None, bool]:
        """Bytes of its journals that are there and not here, None when that is not known; whether it has had an
        attempt of which nothing is known here, so that its end here may be an old one."""
        run = self.runs.get(view.id)
        if run is None:
            return (0, False) if self.told else (None, True)
        own = RunDir(view.dir)
        missing = sum(max(0, there - _size(own.path / name)) for name, there in run.sizes.items() if name in APPENDED)
        return missing, run.attempt > (newest_number(own) or 0)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def newest_number(run: RunDir) -> int | None:
    """The number of the newest attempt that is known here."""
    try:
        return max((int(path.stem) for path in run.attempts.iterdir() if path.stem.isdigit()), default=None)
    except OSError:
        return None


async def _evidence(
    home: Home, view: RunView, host: Host | None, link: Link | None, there: _There | None
) -> RunEvidence:
    behind: int | None = None
    looked = _Looked()
    heard = link.picture.heard if link is not None else None
    if host is not None and view.state is not RunState.UNREADABLE:
        with contextlib.suppress(WavedeckError, OSError, TimeoutError):
            async with asyncio.timeout(ASK_S):
                gone = there is not None and not there.has(view)
                looked = _Looked(()) if gone else await _look(view, host)
                behind = await samples_behind(host, RunDir(view.dir)) if isinstance(host, SshHost) else 0

    def whole() -> RunEvidence:
        journal, newer = (None, False) if there is None else there.behind(view)
        return gather(
            home,
            view,
            samples_behind=behind,
            journal_behind=journal,
            uncovered=looked.uncovered,
            unseen=looked.unseen,
            newer_there=newer,
            link_up=host is not None,
            heard=heard,
        )

    try:
        return await asyncio.to_thread(whole)
    except (WavedeckError, OSError):  # its records are damaged: nothing about it is known to be safe
        return RunEvidence(view, uncovered=None, samples_behind=None, journal_behind=None, link_up=host is not None)


@dataclass(frozen=True, slots=True)
class _Looked:
    """What a look into a run's working directory came to; `uncovered` is None while nobody knows."""

    uncovered: tuple[Uncovered, ...] | None = None
    unseen: tuple[str, ...] = ()


async def _look(view: RunView, host: Host) -> _Looked:
    """Files of a foreign trainer that no policy covers; of a recipe's run there are none."""
    if view.state is RunState.QUEUED or (view.manifest is not None and view.manifest.recipe):
        return _Looked(())
    try:
        found = await host.uncovered(view.id)
    except FileNotFoundError:  # no record tells where it works
        return _Looked()
    files = [Uncovered(path, size) for path, size in (*found.files, *found.pending)]
    return _Looked(tuple(files), (*([found.cut] if found.cut else []), *found.skipped))


def _idle_minutes(home: Home, name: str, views: Sequence[RunView], link: Link | None) -> float | None:
    """How long its GPUs have done nothing: since somebody watched, or since the last run there ended."""
    if link is None or link.picture.reading is None or not link.picture.reading.gpus:
        return None
    since = link.picture.gpu_idle_since
    if since is None:
        return 0.0
    record = link_record(home, name)
    known = [since]
    if record is not None and record.gpu_idle_since is not None and since - record.written < 600:
        known.append(record.gpu_idle_since)
    if not any(view.state.active for view in views):
        skew = link.picture.skew_s or 0.0
        known += [max(view.ended - skew for view in views if view.ended is not None)] if _ended(views) else []
    return max(0.0, time.time() - min(known)) / 60


def _ended(views: Sequence[RunView]) -> bool:
    return any(view.ended is not None for view in views)


def _others(link: Link | None) -> list[str]:
    """What else is on the machine that a backup knows nothing of."""
    if link is None or not link.state.up:
        return []
    picture = link.picture
    foreign = sum(1 for process in picture.processes if process.run is None)
    own = [session.name for session in picture.sessions if not session.ours]
    notes = []
    if foreign:
        notes.append(f"{foreign} GPU process{'es' if foreign > 1 else ''} of no run: unknown here.")
    if own:
        notes.append(f"{len(own)} tmux session{'s' if len(own) > 1 else ''} of your own: unknown here.")
    return notes
