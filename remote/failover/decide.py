"""Whether a run is moved by itself now: a pure function of what is known, and how long a host has really been silent.

Moving costs at most a checkpoint interval; moving wrongly costs a machine's work and the user's trust. So everything
that could be this machine's own fault (it slept, its line was down, a key is refused) is no silence of the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ...engine.backup.policy import BackupPolicy
from ...engine.errors import RunDirError
from ...engine.hosts import HostView, LinkState
from ...engine.lineage import Moved, read_moved
from ...engine.manifest import read_manifest
from ...engine.rundir import Home, RunDir

LEAST_TRIES = 3
LEAST_TRYING_S = 30.0
"""So often, and for so long, a host was asked in vain before it counts as silent, however old its last word is."""
TARGET_UP_S = 60.0
"""So long the other host must have answered: when this machine's own line comes back, hosts return one by one, and the
first of them must not take over from those that are a retry later."""
MOST_A_DAY = 3
DAY_S = 86400.0
SLEPT_S = 20.0
"""A look that comes so much later than due means that this machine slept, or was stopped."""
_DEEPEST = 64


class Action(StrEnum):
    """What is to be done about a run."""

    MOVE = "move"
    WAIT = "wait"
    """Not now; ask again."""
    REFUSE = "refuse"
    """Not by itself: its user has to look."""
    NONE = "none"
    """There is nothing to decide."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done, and why, as a sentence."""

    action: Action
    reason: str


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision depends on.

    `active`: the run lived when its host was last heard. `link`, `silent_s`, `tries`, `trying_s`: see `Silence`.
    `target`: the link of the host that is to take over, None when nobody watches it; `target_up_s`: for how long that
    has answered. `checkpoint_step`: the newest verified checkpoint here; None is none. `moves`: automatic moves of this
    lineage within the last day. `spent`: money so far, of the whole lineage.
    """

    run: str
    source: str
    policy: BackupPolicy
    active: bool
    link: LinkState
    silent_s: float
    tries: int
    trying_s: float
    target: LinkState | None = None
    target_up_s: float = 0.0
    moved: Moved | None = None
    checkpoint_step: int | None = None
    moves: int = 0
    spent: float | None = None


def decide(now: Situation) -> Decision:
    """Whether a run is to be moved by itself."""
    policy, source, other = now.policy, now.source, now.policy.failover
    if other is None or not now.active:
        return Decision(Action.NONE, "nothing is to be moved.")
    if now.moved is not None:
        return Decision(Action.NONE, f"it went on as {now.moved.child} on {now.moved.host}.")
    if now.link.up:
        return Decision(Action.NONE, f"{source} answers.")
    if now.link.needs_user:
        return Decision(
            Action.REFUSE,
            f"{source} answers and cannot be used ({now.link}): its training may go on, so {now.run} is not moved. "
            f"Look at {source}.",
        )
    if now.silent_s < policy.failover_after_s:
        left = policy.failover_after_s - now.silent_s
        return Decision(Action.WAIT, f"{source} has been silent for {now.silent_s:.0f} s: {left:.0f} s are left.")
    if now.tries < LEAST_TRIES or now.trying_s < LEAST_TRYING_S:
        return Decision(
            Action.WAIT,
            f"{source} was tried {now.tries} times in {now.trying_s:.0f} s: at least {LEAST_TRIES} times over "
            f"{LEAST_TRYING_S:.0f} s, because this machine's own line may have been down.",
        )
    return _allowed(now, other)


def _allowed(now: Situation, other: str) -> Decision:
    """Silence is certain; whether the run can and may go on elsewhere."""
    silent = f"{now.source} has been silent for {now.silent_s:.0f} s"
    if other == now.source:
        return Decision(
            Action.REFUSE, f"{silent}, and no other host is named for a failover: `wavedeck backup` sets it."
        )
    if now.checkpoint_step is None:
        return Decision(
            Action.REFUSE,
            f"{silent}, and no checkpoint of {now.run} was verified here: moving it would begin at step 0. "
            f"`wavedeck resume {now.run} --host {other} --from-scratch` does that.",
        )
    if now.moves >= MOST_A_DAY:
        return Decision(
            Action.REFUSE,
            f"{silent}, but {now.run} was moved {now.moves} times within a day: look why its hosts die. "
            f"`wavedeck resume {now.run} --host {other}` moves it once more.",
        )
    budget = now.policy.budget
    if budget is not None and now.spent is not None and now.spent >= budget:
        return Decision(
            Action.REFUSE, f"{silent}, but {now.run} has spent its budget ({now.spent:.2f} of {budget:.2f})."
        )
    if now.target is None or not now.target.up or now.target is LinkState.LIMITED:
        state = now.target or LinkState.OFF
        if state.needs_user or state is LinkState.LIMITED:
            return Decision(Action.REFUSE, f"{silent}, and {other} cannot take over ({state}): look at {other}.")
        return Decision(Action.WAIT, f"{silent}, and {other} does not answer either ({state}).")
    if now.target_up_s < TARGET_UP_S:
        return Decision(
            Action.WAIT,
            f"{silent}, and {other} has answered for {now.target_up_s:.0f} s: {TARGET_UP_S:.0f} s are waited, because "
            "this machine's own line may have been down.",
        )
    return Decision(Action.MOVE, f"{silent}: {now.run} goes on on {other} from step {now.checkpoint_step}.")


class Silence:
    """How long one host has been silent, or has answered, while this machine was awake; how often it was tried in vain.

    Time is monotonic and counted only between looks that follow each other closely: what a laptop slept through is
    nobody's silence, and after it the counting begins anew.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._up_since: float | None = None
        self._looked: float | None = None
        self._wall: float | None = None
        self._first_try: float | None = None
        self._retry_at: float | None = None
        self.tries = 0
        self.refused = False
        """It answered last, and did not let us in. Until it answers well or cannot be reached, nothing is silence: the
        link's own next try looks like any other."""

    def look(self, view: HostView, mono_s: float, wall_s: float) -> None:
        """Take a picture of the host's link into account; call it at least every few seconds.

        Parameters
        ----------
        mono_s, wall_s: `time.monotonic()` and `time.time()`.
        """
        slept = (
            self._looked is not None
            and self._wall is not None
            and max(mono_s - self._looked, abs(wall_s - self._wall)) > SLEPT_S
        )
        self._looked, self._wall = mono_s, wall_s
        if slept or not view.link.up:
            self._up_since = None
        if view.link.up or view.link.needs_user or slept:
            self._since = self._first_try = None
            self.tries = 0
            self._retry_at = view.retry_at
        if view.link.up:
            self._up_since = mono_s if self._up_since is None else self._up_since
            self.refused = False
            return
        failed = view.link is LinkState.RECONNECTING and view.retry_at is not None and view.retry_at != self._retry_at
        self.refused = view.link.needs_user or (self.refused and not failed)
        if self.refused:
            return
        if self._since is None:
            self._since = mono_s
        if failed:
            self._retry_at = view.retry_at  # each failed try plans the next
            self.tries += 1
            if self._first_try is None:
                self._first_try = mono_s

    def silent_s(self, mono_s: float) -> float:
        """Seconds of silence up to `mono_s`; 0 while it answers."""
        return 0.0 if self._since is None else max(0.0, mono_s - self._since)

    def up_s(self, mono_s: float) -> float:
        """Seconds for which it has answered without a break; 0 while it does not."""
        return 0.0 if self._up_since is None else max(0.0, mono_s - self._up_since)

    def trying_s(self, mono_s: float) -> float:
        """Seconds since the first try that failed in this silence."""
        return 0.0 if self._first_try is None else max(0.0, mono_s - self._first_try)


def automatic_moves(home: Home, run: RunDir, now: float) -> int:
    """How often the lineage of a run was moved by itself within the last day."""
    return sum(1 for moved in _moves_before(home, run) if moved.automatic and now - moved.t < DAY_S)


def _moves_before(home: Home, run: RunDir) -> Iterator[Moved]:
    for _ in range(_DEEPEST):
        try:
            parent = read_manifest(run.manifest).parent
            if parent is None:
                return
            run = home.run(parent)
            moved = read_moved(run)
        except (RunDirError, OSError):
            return
        if moved is not None:
            yield moved
