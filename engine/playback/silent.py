"""Players without sound: one that keeps time where there is no device, and one that tests drive by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import UsageError
from .model import PlayerState, Source, checked_gain, clamped, duration_of, loop_region, position_at

NO_SOUND = "There is no sound here; export the clip to hear it elsewhere."


class SilentPlayer:
    """Keeps a clock so that the playhead moves, and says why there is no sound.

    Parameters
    ----------
    reason: why there is no sound and how to get it, as a sentence.
    clock: seconds that only grow.
    """

    def __init__(self, reason: str = NO_SOUND, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sources: tuple[Source, ...] = ()
        self._state = PlayerState(error=reason)
        self._start_s = 0.0
        self._started_at: float | None = None

    @property
    def gain_db(self) -> float:
        """The volume that a device would have."""
        return self._state.gain_db

    @gain_db.setter
    def gain_db(self, value: float) -> None:
        self._state = replace(self._state, gain_db=checked_gain(value))

    @property
    def sources(self) -> tuple[Source, ...]:
        """What is loaded, with the gains of the last `match`."""
        return self._sources

    def load(self, sources: Sequence[Source]) -> None:
        """Take other sources: paused at 0, no loop, source 0."""
        self._sources = tuple(sources)
        self.put(0.0, playing=False)
        warning = next((source.problem for source in self._sources if source.problem), None)
        self._state = replace(self._state, source=0, loop=None, duration_s=duration_of(self._sources), warning=warning)

    def play(self) -> None:
        """Start the clock; from the start where the playhead is at the end."""
        state = self.state()
        if state.duration_s > 0 and not state.playing:
            self.put(0.0 if state.position_s >= state.duration_s else state.position_s, playing=True)

    def pause(self) -> None:
        """Stop the clock."""
        self.put(self.state().position_s, playing=False)

    def seek(self, seconds: float) -> None:
        """Put the playhead there, clamped to the clip."""
        state = self.state()
        self.put(clamped(seconds, state.duration_s), playing=state.playing)

    def loop(self, start: float | None, end: float | None = None) -> None:
        """Repeat a region, or none; a playhead outside the region goes to its start."""
        state = self.state()
        region = loop_region(start, end, state.duration_s)
        inside = region is None or region[0] <= state.position_s < region[1]
        self._state = replace(self._state, loop=region)
        self.put(state.position_s if inside or region is None else region[0], playing=state.playing)

    def switch(self, index: int) -> None:
        """Note which source would be heard."""
        if not 0 <= index < len(self._sources):
            raise UsageError(f"There is no source {index + 1}; {len(self._sources)} are loaded.")
        self._state = replace(self._state, source=index)

    def match(self, gains_db: Sequence[float]) -> None:
        """Note each source's gain."""
        self._sources = tuple(
            replace(source, gain_db=checked_gain(gain)) for source, gain in zip(self._sources, gains_db, strict=True)
        )

    def state(self) -> PlayerState:
        """Where the playhead is by the clock."""
        state = self._state
        if self._started_at is None:
            return replace(state, position_s=self._start_s)
        position = position_at(self._start_s, self._clock() - self._started_at, state.duration_s, state.loop)
        ended = state.loop is None and position >= state.duration_s
        return replace(state, position_s=position, playing=not ended)

    def close(self) -> None:
        """Nothing is held; the clock stops."""
        self.pause()

    def put(self, position_s: float, *, playing: bool) -> None:
        """Put the playhead somewhere and start or stop the clock, unconditionally."""
        self._start_s = position_s
        self._started_at = self._clock() if playing else None


class FakePlayer(SilentPlayer):
    """A player for tests of others: it has a device, time passes only by `advance`, and it keeps what was asked of it.

    `calls` is the list of asked operations, as `("seek", 1.5)`. `sources` is what is loaded.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[object, ...]] = []
        super().__init__(clock=lambda: self.now)
        self._state = replace(self._state, error=None, device="fake", rate=48_000)

    @property
    def gain_db(self) -> float:
        """The volume."""
        return self._state.gain_db

    @gain_db.setter
    def gain_db(self, value: float) -> None:
        self.calls.append(("gain_db", value))
        self._state = replace(self._state, gain_db=checked_gain(value))

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def show(self, **fields: object) -> None:
        """Change what `state()` says: `show(underruns=3, error="The device disappeared.")`."""
        self._state = replace(self._state, **fields)  # type: ignore[arg-type]

    def load(self, sources: Sequence[Source]) -> None:
        """Take other sources."""
        self.calls.append(("load", len(sources)))
        super().load(sources)

    def play(self) -> None:
        """Play."""
        self.calls.append(("play",))
        super().play()

    def pause(self) -> None:
        """Pause."""
        self.calls.append(("pause",))
        super().pause()

    def seek(self, seconds: float) -> None:
        """Seek."""
        self.calls.append(("seek", seconds))
        super().seek(seconds)

    def loop(self, start: float | None, end: float | None = None) -> None:
        """Loop."""
        self.calls.append(("loop", start, end))
        super().loop(start, end)

    def switch(self, index: int) -> None:
        """Switch."""
        self.calls.append(("switch", index))
        super().switch(index)

    def match(self, gains_db: Sequence[float]) -> None:
        """Match levels."""
        self.calls.append(("match", *gains_db))
        super().match(gains_db)

    def close(self) -> None:
        """Close (stops the clock without a `pause` in `calls`)."""
        self.calls.append(("close",))
        SilentPlayer.pause(self)
