"""`wavedeck resume RUN --host OTHER`: the run goes on there, as a child with its own id."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from ...engine.errors import UsageError, WavedeckError
from ...engine.hosts import LOCAL
from ...engine.rundir import Home, RunDir
from ...engine.state import RunState
from .common import print_json, say
from .launching import watch_run
from .places import Place, reach

if TYPE_CHECKING:
    from ...engine.run_view import RunView
    from ...remote.failover.move import MoveResult
    from ...remote.host import Host

LOOK_S = 10.0
"""How long the old host may take to answer; one that does not is taken for gone."""
HEAR_S = 30.0


def move_run(
    home: Home, view: RunView, target: str, *, from_scratch: bool, code: Path | None, detach: bool, as_json: bool
) -> None:
    """Move a run and follow it there.

    Raises
    ------
    UsageError: it lives, has finished, was moved already, or no checkpoint is here. WavedeckError: the target cannot
    take it.
    """
    if view.state.active and view.state is not RunState.UNREACHABLE:
        raise UsageError(f"{view.id} is {view.state} on {view.host}: stop it first with `wavedeck stop {view.id}`.")
    names = [name for name in {view.host, target} if name != LOCAL]
    place = reach(home, names)
    try:
        place.name = target
        _answering(place, target)
        source = _source(place, view)
        done = _moved(place, home, view, source, from_scratch, code)
        for notice in done.notices:
            say(notice)
        say(done.sentence)
        if done.launch is not None and done.launch.notice:
            say(done.launch.notice)
        if not detach:
            watch_run(place, done.child.id, as_json)
        elif as_json:
            print_json({"id": done.child.id, "dir": str(done.child.path), "parent": view.id, "step": done.moved.step})
        else:
            print(done.child.id)
    finally:
        place.close()


def _answering(place: Place, name: str) -> None:
    if name != LOCAL and place.thread is not None:
        link = place.thread.fleet.links[name]
        place.thread.call(lambda: link.ready(HEAR_S))


def _source(place: Place, view: RunView) -> Host | None:
    """The run's host while it answers."""
    if view.host == LOCAL or place.thread is None:
        return None
    thread = place.thread
    link = thread.fleet.links[view.host]
    with contextlib.suppress(WavedeckError):
        thread.call(lambda: link.ready(LOOK_S))
        return thread.fleet.host(view.host)
    say(f"{view.host} does not answer: {view.id} goes on from what is here.")
    return None


def _moved(
    place: Place, home: Home, view: RunView, source: Host | None, from_scratch: bool, code: Path | None
) -> MoveResult:
    from ...remote.failover.move import move
    from .live_line import Narration

    narration, run = Narration(), RunDir(view.dir)
    try:
        return place.do(
            lambda target: move(
                home, run, source, target, narration.show, from_scratch=from_scratch, code=code, reason="asked for"
            )
        )
    finally:
        narration.close()
