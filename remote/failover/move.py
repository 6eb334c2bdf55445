"""A run goes on elsewhere: a child with a new id, the newest verified checkpoint, and never two of them.

    look → choose → prepare the target → claim here (`moved.json`), then there (`claims/`) → look once more → record
    the child → fence the source → create → deliver → start

Everything before the claims may be lost without harm. From them on nobody else can move the run, neither of this home
nor of another, and whoever calls again after a crash goes on with the same child: each later step looks whether it was
done and can be done twice. A claim is taken back only as long as its child is not on record here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...engine import format as fmt
from ...engine.catalog import Catalog, newest_attempt
from ...engine.errors import RunDirError, UsageError
from ...engine.files import sync_directory
from ...engine.hosts import LOCAL, read_mirror
from ...engine.lineage import Lease, Moved, claim_move, read_lease, read_moved
from ...engine.manifest import Attempt, Manifest, read_manifest
from ...engine.names import new_run_id
from ...engine.run_view import RunView
from ...engine.rundir import Home, RunDir
from ...engine.state import RunState
from ..host import Host, LinkDown
from ..mirror_files import forgotten
from ..operations import LaunchResult
from ..provision.provision import AUTO
from ..provision.there import Progress, Report
from .bring import bring_newest
from .carry import Carrying, has_started
from .choose import Chosen, choose
from .claims import ClaimedElsewhere, claim_there, release_there
from .lease import fence, lease_there, moved_words, moving, until_gone
from .prepare import Ancestor, prepare

_DEEPEST = 64


@dataclass(frozen=True, slots=True)
class MoveResult:
    """What became of a move."""

    run: RunDir
    child: RunDir
    moved: Moved
    launch: LaunchResult | None
    """How its start went; None when it had been started by an earlier try."""
    notices: tuple[str, ...] = ()
    """What its user should know, as sentences."""

    @property
    def sentence(self) -> str:
        """What happened and what was lost."""
        moved = self.moved
        origin = "from the beginning" if moved.step is None else f"from step {fmt.count(moved.step)}"
        return f"{self.run.id} goes on on {moved.host} as {self.child.id}, {origin}{lost_words(moved)}."


def lost_words(moved: Moved) -> str:
    """`; 37 steps (2 min) are trained again`, or an empty string where nothing is known to be lost."""
    if not moved.lost_steps:
        return ""
    lasted = f" ({fmt.duration(moved.lost_s)})" if moved.lost_s else ""
    return f"; {fmt.count(moved.lost_steps)} steps{lasted} are trained again"


async def move(
    home: Home,
    run: RunDir,
    source: Host | None,
    target: Host,
    report: Report = lambda progress: None,
    *,
    automatic: bool = False,
    reason: str = "",
    from_scratch: bool = False,
    code: Path | None = None,
    env: str = AUTO,
    environ: Mapping[str, str] | None = None,
    still_lost: Callable[[], bool] = lambda: True,
) -> MoveResult:
    """Continue a run on another host, or on this machine. After a crash or an error, call it again.

    Parameters
    ----------
    source: the run's host while it answers; None when it does not. For a run of this machine it may be None, too.
    automatic: nobody asked; `reason` says why it is done. A move that had come to its end already is then no error.
    from_scratch: begin at step 0 when there is no checkpoint here.
    code: the project's directory here, for a command whose code is nowhere else.
    environ: this process's environment, of which the child gets what `Host.environment` lets through.
    still_lost: asked right before the claim, because preparing the target may have taken long: whether the source is
        silent yet. A run whose host has come back meanwhile is left where it is.

    Raises
    ------
    ClaimedElsewhere: another machine moves it.
    UsageError: the run lives, has finished, was moved already, is just being moved, or has no checkpoint here.
    WavedeckError: the target cannot take it; the sentence says why. HostError, HostUnreachable.
    """
    if source is None and read_mirror(run.path) is None:
        from ..local import LocalHost

        source = LocalHost(home=home)
    asked = _Asked(home, run, source, target, report, automatic, reason, from_scratch, code, env, environ, still_lost)
    with moving(run):
        return await asked.whole()


@dataclass(slots=True)
class _Asked:
    """One move, from what was asked for to the child's start."""

    home: Home
    run: RunDir
    source: Host | None
    target: Host
    report: Report
    automatic: bool
    reason: str
    from_scratch: bool
    code: Path | None
    env: str
    environ: Mapping[str, str] | None
    still_lost: Callable[[], bool]
    withdrawn: Moved | None = None
    """A claim that bound nobody; its child's id is used again, since the old host may have been told of it."""
    notices: list[str] = field(default_factory=list)

    async def whole(self) -> MoveResult:
        """All steps in order."""
        manifest = read_manifest(self.run.manifest)
        moved = await asyncio.to_thread(self._claimed)
        if moved is None:
            await self._refuse(manifest)
        elif moved.host != self.target.name or await has_started(self.target, self.home.run(moved.child)):
            if self.automatic and moved.host == self.target.name:
                return MoveResult(self.run, self.home.run(moved.child), moved, None)
            raise UsageError(moved_words(self.run, moved))
        old = self._ancestor(manifest)
        chosen = await self._choose(moved)
        before = moved or self.withdrawn
        child = before.child if before is not None else await asyncio.to_thread(self._new_id, manifest)
        self._tell("prepare", f"preparing {self.target.name}")
        ready = await prepare(self.home, self.target, old, child, code=self.code, env=self.env, report=self.report)
        self.notices += ready.notices
        fresh = moved is None
        if moved is None:
            await self._refuse_returned()
            moved = await asyncio.to_thread(self._claim, child, chosen)
        await self._claim_there(moved, fresh)
        carrying = Carrying(self.home, self.target, old, moved, chosen, ready, self.report, self.environ, self.notices)
        await carrying.record()
        await self._fence(moved)
        await carrying.create()
        await carrying.deliver()
        launch = await carrying.start()
        return MoveResult(self.run, carrying.child, moved, launch, tuple(self.notices))

    # --- before the claim

    def _claimed(self) -> Moved | None:
        """The claim of a try before. One whose child was not even put on record here binds nobody to its host."""
        moved = read_moved(self.run)
        if moved is None or moved.host == self.target.name or self.home.run(moved.child).path.exists():
            return moved
        if moved.child in forgotten(self.home, moved.host):
            return moved  # it was there, and its copy was deleted since
        self.withdrawn = moved
        self._withdraw()
        return None

    def _withdraw(self) -> None:
        """Take a claim back that bound nobody yet."""
        self.run.moved.unlink()
        sync_directory(self.run.path)

    async def _refuse(self, manifest: Manifest) -> None:
        """Refuse what must not be moved."""
        view = await asyncio.to_thread(self._view)
        run_id, other = self.run.id, self.target.name
        if view.state is RunState.UNREADABLE:
            raise UsageError(f"{run_id}: {view.problem}")
        last = newest_attempt(self.run)
        if view.state is RunState.FINISHED and not (last is not None and last.stage):  # an evaluation is not its end
            raise UsageError(f"{run_id} has finished: there is nothing to go on with.")
        if (view.host if view.is_copy else LOCAL) == other:
            raise UsageError(f"{run_id} is on {other} already: `wavedeck resume {run_id}` goes on there.")
        with contextlib.suppress(RunDirError):
            self._refuse_fenced(read_lease(self.run))
        await self._refuse_alive()

    async def _refuse_alive(self) -> None:
        """Refuse a run that lives on a host that answers, or that goes on elsewhere already."""
        if self.source is None:
            return
        self._tell("look", f"looking whether it lives on {self.source.name}")
        living = await self.source.living(self.run.id)
        if living.supervisors or living.orphan is not None:
            raise UsageError(
                f"{self.run.id} is still running on {self.source.name}: "
                f"stop it first with `wavedeck stop {self.run.id}`."
            )
        self._refuse_fenced(await lease_there(self.source, self.run))

    def _refuse_fenced(self, lease: Lease | None) -> None:
        """Refuse a run that another machine has moved: its host says so, or said so before it fell silent."""
        if lease is not None and not lease.allows(self.run.id):
            by = lease.fenced_by or lease.holder
            if self.withdrawn is None or by != self.withdrawn.child:
                raise UsageError(f"{self.run.id} was moved from another machine and goes on as {by}: not moved twice.")

    async def _refuse_returned(self) -> None:
        """Look once more, as late as possible: environments may take long, and hosts come back meanwhile."""
        await self._refuse_alive()
        if not self.still_lost():
            raise UsageError(f"the host of {self.run.id} answers again: it is left where it is.")

    async def _choose(self, moved: Moved | None) -> Chosen | None:
        """The checkpoint to go on from; the one that was claimed, or one before it, when there is a claim."""
        if moved is not None and moved.step is None:
            return None
        if moved is None and self.source is not None:
            self.notices += await bring_newest(self.home, self.source, self.run, self.report)
        self._tell("checkpoint", "hashing the newest checkpoint here")
        at_most = moved.step if moved is not None else None
        chosen = await asyncio.to_thread(choose, self.home, self.run, self.notices, at_most)
        if chosen is None and (moved is not None or not self.from_scratch):
            raise UsageError(self._nothing())
        return chosen

    def _nothing(self) -> str:
        step = self._view().step
        lost = f"all {fmt.count(step)} steps would be trained again" if step else "it would begin at step 0"
        damaged = f" {' '.join(self.notices)}" if self.notices else ""
        return (
            f"no verified checkpoint of {self.run.id} is here: {lost}.{damaged} "
            f"`wavedeck resume {self.run.id} --host {self.target.name} --from-scratch` does that."
        )

    def _ancestor(self, manifest: Manifest) -> Ancestor:
        """The run with its last attempt; one that was never started has that of the run it was moved from."""
        before: list[RunDir] = []
        last = newest_attempt(self.run)
        parent, step = manifest.parent, manifest.parent_step
        while parent is not None and step is not None and len(before) < _DEEPEST:
            run = self.home.run(parent)
            before.append(run)
            try:
                last = last or newest_attempt(run)
                above = read_manifest(run.manifest)
            except (RunDirError, OSError):
                break
            parent, step = above.parent, above.parent_step
        if last is None:
            last = Attempt(attempt=1, requested=time.time(), argv=manifest.command, cwd=manifest.cwd or "/")
        return Ancestor(self.run, manifest, last, tuple(before))

    def _new_id(self, manifest: Manifest) -> str:
        taken = [path.name for path in self.home.runs.iterdir()]
        return new_run_id(manifest.name, time.time(), taken)

    # --- the claim, and the old host

    def _claim(self, child: str, chosen: Chosen | None) -> Moved:
        """From here on this run has one child, whatever happens to this process."""
        self._tell("claim", f"claiming it for {self.target.name}")
        view = self._view()
        lost_steps = lost_s = None
        if view.step is not None:
            lost_steps = max(0, view.step - (chosen.step if chosen else 0))
        mirror = read_mirror(self.run.path)
        began = chosen.t if chosen else view.started
        if view.last_sign is not None and began is not None:
            # By the clock here. A file may carry an older time than its run, and nothing is lost from before that.
            since = max(began - (mirror.skew_s if mirror else 0.0), view.created or 0.0)
            lost_s = max(0.0, round(view.last_sign - since, 1))
        step = chosen.step if chosen else None
        moved = Moved(child, self.target.name, time.time(), step, lost_steps, lost_s, self.reason, self.automatic)
        if not claim_move(self.run, moved):
            other = read_moved(self.run)
            raise UsageError(moved_words(self.run, other) if other else f"{self.run.id} was moved a moment ago.")
        return moved

    async def _claim_there(self, moved: Moved, fresh: bool) -> None:
        """Claim it on the target as well, against other machines, and look a last time whether its host is back."""
        self._tell("claim", f"claiming it on {self.target.name}")
        try:
            await claim_there(self.home, self.target, self.run, moved)
            if fresh:
                with contextlib.suppress(LinkDown):
                    await self._refuse_returned()
        except UsageError as error:
            if not self.home.run(moved.child).path.exists():
                if not isinstance(error, ClaimedElsewhere):
                    await release_there(self.home, self.target, self.run, moved)
                await asyncio.to_thread(self._withdraw)
            raise

    async def _fence(self, moved: Moved) -> None:
        """Say on the old host, as far as it answers, that it is not to go on there, and wait until it does not."""
        self._tell("fence", "fencing the old run")
        if self.source is None:
            return
        try:
            if await fence(self.source, self.run, moved.child):
                await until_gone(self.source, self.run)
        except LinkDown as error:
            self.notices.append(f"{error} The old run is fenced there as soon as it answers.")

    def _view(self) -> RunView:
        return Catalog(self.home, lambda run_id, record: None).view(self.run)

    def _tell(self, phase: str, text: str) -> None:
        self.report(Progress(phase, text))
