"""The failover as a babysitter asks for it: what is known of each silent host, put before `failover.decide`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from functools import partial

import msgspec

from ..engine.backup.money import lineage_cost
from ..engine.backup.policy import read_policy
from ..engine.errors import RunDirError
from ..engine.format import count
from ..engine.hosts import HostView
from ..engine.lineage import Moved, read_moved
from ..engine.run_view import RunView
from ..engine.rundir import Home, RunDir
from .babysit_parts import Arrived, Halted, HostViews, Parts, Views, Wanted, start_own_backup
from .failover.bring import stop_cleanly
from .failover.choose import held_step
from .failover.claims import ClaimedElsewhere, release_there
from .failover.decide import Action, Silence, Situation, automatic_moves, decide
from .failover.move import lost_words, move
from .failover.settle import settle
from .fleet import Fleet, host_of

UNFINISHED_S = 86400.0
"""For so long a move that was cut short is gone on with."""
ELSEWHERE_S = 600.0
"""For so long nothing is tried after another machine was found to move a run: its child is seen here by then."""


class FleetFailover:
    """Moves runs whose hosts are silent to the hosts that their policies name.

    Parameters
    ----------
    patience_s: waited beyond what a policy says. A deck lets a babysitter elsewhere be first, since it may be closed
        amid a move.
    """

    def __init__(self, home: Home, fleet: Fleet, patience_s: float = 0.0) -> None:
        self._home = home
        self._fleet = fleet
        self._patience_s = patience_s
        self._elsewhere: dict[str, float] = {}
        """When a run was found to be claimed by another machine."""
        self._off: list[tuple[RunDir, Moved]] = []
        """Moves that were taken back and whose claims still stand on their targets."""
        self._silences: dict[str, Silence] = {}
        self._arrived: set[str] = set()

    def look(self, runs: Views, hosts: HostViews) -> Iterable[Wanted]:
        """What is to be moved now. Called in a thread, one look at a time."""
        mono, wall = time.monotonic(), time.time()
        known = {host.name: host for host in hosts}
        for name, one in known.items():
            self._silences.setdefault(name, Silence()).look(one, mono, wall)
        manifests = [view.manifest for view in runs if view.manifest is not None]
        elsewhere = {manifest.parent for manifest in manifests if manifest.parent_step is not None}
        found = []
        for view in runs:
            if mono - self._elsewhere.get(view.id, -ELSEWHERE_S) < ELSEWHERE_S:
                continue
            if view.is_copy and view.id not in self._arrived and (host := known.get(view.host)) is not None:
                wanted = self._wanted(view, host, known, mono, runs, view.id in elsewhere)
                if wanted is not None:
                    found.append(wanted)
        return found

    def _wanted(
        self, view: RunView, host: HostView, known: dict[str, HostView], mono: float, runs: Views, elsewhere: bool
    ) -> Wanted | None:
        run = RunDir(view.dir)
        try:
            moved = read_moved(run)
        except RunDirError:
            return None  # somebody moved it, and it cannot be told where: nobody else may
        if moved is not None:
            return self._unfinished(view, moved)
        if not view.state.active or host.link.up or elsewhere:  # elsewhere: moved by another machine's babysitter
            return None
        policy = read_policy(self._home, run)
        if policy.failover is None:
            return None
        policy = msgspec.structs.replace(policy, failover_after_s=policy.failover_after_s + self._patience_s)
        assert policy.failover is not None
        silence, target = self._silences[view.host], known.get(policy.failover)
        situation = Situation(
            view.id, view.host, policy, True, host.link, silence.silent_s(mono), silence.tries, silence.trying_s(mono),
            target=None if target is None else target.link,
            target_up_s=0.0 if target is None else self._silences[policy.failover].up_s(mono),
            checkpoint_step=held_step(self._home, run),
            moves=automatic_moves(self._home, run, time.time()), spent=lineage_cost(runs, view),
        )  # fmt: skip
        decision = decide(situation)
        if decision.action in (Action.MOVE, Action.REFUSE):
            return Wanted(view.id, policy.failover, decision.reason, refused=decision.action is Action.REFUSE)
        return None

    def _unfinished(self, view: RunView, moved: Moved) -> Wanted | None:
        """A move that was decided here and whose child never began: this process, or one before it, was killed."""
        child = self._home.run(moved.child)
        if not moved.automatic or time.time() - moved.t > UNFINISHED_S or child.supervisor.exists():
            return None
        return Wanted(view.id, moved.host, f"its move to {moved.host} was cut short.")

    async def move(self, wanted: Wanted) -> Arrived:
        """Move it; or go on with a move that was cut short."""
        target = self._fleet.host(wanted.to)
        run = self._home.run(wanted.run)
        try:
            result = await move(
                self._home,
                run,
                None,
                target,
                automatic=True,
                reason=wanted.reason,
                environ=dict(os.environ),
                still_lost=lambda: self._is_lost(host_of(run)),
            )
        except ClaimedElsewhere as error:
            self._elsewhere[wanted.run] = time.monotonic()
            return Arrived(error.child, f"Another machine ({error.machine}) moves it: nothing is started from here.")
        self._arrived.add(wanted.run)
        step = "the beginning" if result.moved.step is None else f"step {count(result.moved.step)}"
        lines = [f"It began again from {step}{lost_words(result.moved)}.", *result.notices]
        return Arrived(result.child.id, "\n".join(lines))

    def _is_lost(self, host: str) -> bool:
        """Whether a host is as silent as when the move was decided: one that refuses us answers."""
        state, silence = self._fleet.watch(host).state, self._silences.get(host)
        return not (state.up or state.needs_user or (silence is not None and silence.refused))

    async def back(self, host: str) -> list[str]:
        """A host answers again: its runs that were moved away may not write any more."""
        at = self._fleet.host(host)
        for run, moved in [one for one in self._off if one[1].host == host]:
            await release_there(self._home, at, run, moved)
            self._off.remove((run, moved))
        return await settle(self._home, at, lambda run, moved: self._off.append((run, moved)))


def own_parts(home: Home, fleet: Fleet, patience_s: float = 0.0) -> Parts:
    """Everything: what `wavedeck babysit` uses. `patience_s`: see `FleetFailover`."""

    async def stop(view: RunView) -> Halted:
        done = await stop_cleanly(home, fleet.host(view.host), RunDir(view.dir))
        return Halted(done.safe, "\n".join((done.sentence, *done.notices)))

    return Parts(
        start_backup=partial(start_own_backup, home), failover=FleetFailover(home, fleet, patience_s), stop=stop
    )
