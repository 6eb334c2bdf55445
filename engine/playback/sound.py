"""The player with sound.

Three parties, none of which waits for another:

- the *deck's thread* calls the methods here: they change a plan, ask for it on the shared board and return;
- *tape writers* (`tape.py`) read, resample and mix ahead of the playhead, a thread for each change of plan;
- the *sound process* (`child.py`) plays tapes, and notes when each block is heard.

What is true without sound (sources, loop, gains, where the playhead is) is a `SilentPlayer`, which also keeps time
where there is no device. Rejected: PortAudio in the deck's process (a redraw of 50 ms is a gap, a driver that hangs
takes the deck along); mixing in the sound process (sources are files of runs here or far away, which it would read).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .board import SLOT_BYTES, SLOTS, Control, heard
from .devices import Opened
from .model import Output, PlayerState, Source, amplitude, checked_gain
from .process import SoundProcess
from .silent import SilentPlayer
from .tape import BLOCK_FRAMES, Renderer, TapeWriter, Timeline
from .tracks import Track

CAPACITY_S = 2.0
SILENT_S = 4.0
"""A sound process that has not shown up at the board for so long hangs."""
HANGS = "The sound process does not answer; press play to start it anew."
REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class Voice:
    """What one generation plays: a source along a timeline, from frame `origin` of an axis on."""

    generation: int
    slot: int
    axis: int
    origin: int
    timeline: Timeline


class SoundPlayer:
    """Plays through PortAudio in a process of its own; see `Player` for what each method does.

    Parameters
    ----------
    output: which device, and how it is driven.
    clock: seconds as `time.monotonic` has them, which is what the sound process notes.
    """

    def __init__(self, output: Output | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._output = output or Output()
        self._clock = clock
        self._lock = threading.RLock()
        self._model = SilentPlayer(clock=clock)
        self._error: str | None = None
        self._process: SoundProcess | None = None
        self._opened: Opened | None = None  # set while there is sound
        self._closed = False
        self._wanted = False  # play was pressed while the process starts
        self._keeps_time = False  # no sound, but the playhead moves
        self._control = Control()
        self._voices: dict[int, Voice] = {}
        self._voice: Voice | None = None
        self._writers: list[TapeWriter] = []
        self._tracks: list[Track] = []
        self._underruns = 0
        self._clipped = 0

    @property
    def pid(self) -> int | None:
        """Process id of the sound process, None while there is none."""
        return self._process.pid if self._process else None

    @property
    def gain_db(self) -> float:
        """The volume."""
        return self._model.gain_db

    @gain_db.setter
    def gain_db(self, value: float) -> None:
        with self._lock:
            self._model.gain_db = checked_gain(value)
            self._ask(amplitude=amplitude(value))

    def load(self, sources: Sequence[Source]) -> None:
        """Take other sources: paused at 0, no loop, source 0."""
        with self._lock:
            self._model.load(sources)
            self._wanted = False
            self._make_tracks()
            self._ask(playing=False)
            self._retape(jump=True)
            if self._process is None and self._error is None:
                self._start()

    def play(self) -> None:
        """Play from where the playhead is, or from the start after the end; looks for a lost device again."""
        with self._lock:
            if self._opened and self._hangs():
                self._lose(HANGS)
            self._sync()
            if self._process is None:
                self._start()
            state = self._model.state()
            if state.playing or state.duration_s <= 0:
                return
            at_end = state.position_s >= state.duration_s
            if self._opened:
                if at_end:
                    self._model.seek(0.0)
                    self._retape(jump=True)
                self._ask(playing=True)
            elif self._keeps_time:
                self._model.play()
            else:
                self._wanted = True

    def pause(self) -> None:
        """Stop where the playhead is."""
        with self._lock:
            self._sync()
            self._model.pause()
            self._wanted = False
            self._ask(playing=False)

    def seek(self, seconds: float) -> None:
        """Put the playhead there, clamped to the clip."""
        with self._lock:
            self._sync()
            self._model.seek(seconds)
            self._retape(jump=True)

    def loop(self, start: float | None, end: float | None = None) -> None:
        """Repeat a region, or none."""
        with self._lock:
            self._sync()
            before = self._model.state().position_s
            self._model.loop(start, end)
            region = self._model.state().loop
            self._retape(jump=region is not None and not region[0] <= before < region[1])

    def switch(self, index: int) -> None:
        """Hear another source from the same playhead."""
        with self._lock:
            self._sync()
            before = self._model.state().source
            self._model.switch(index)
            if index != before:
                self._retape(jump=False)

    def match(self, gains_db: Sequence[float]) -> None:
        """Give each source another gain."""
        with self._lock:
            self._sync()
            self._model.match(gains_db)
            self._retape(jump=False)

    def state(self) -> PlayerState:
        """What is heard now."""
        with self._lock:
            state = self._sounding() if self._opened else replace(self._model.state(), error=self._error)
            if self._wanted:
                state = replace(state, playing=True, buffering=True)
            tracks = self._tracks[state.source : state.source + 1] + self._tracks
            warning = next((track.warning for track in tracks if track.warning), None)
            return replace(state, warning=warning)

    def close(self) -> None:
        """Let go of the device."""
        with self._lock:
            self._sync()
            self._model.pause()
            process, self._process, self._opened = self._process, None, None
            self._wanted, self._closed = False, True
            self._error = "The player is closed."
            self._stop_writers(keep=0)
        if process is not None:
            process.close()

    # --- the sound process, whose thread calls these

    def _start(self) -> None:
        if not self._closed:
            self._process = SoundProcess(self._output, self._ready, self._ended)

    def _ready(self, process: SoundProcess, opened: Opened) -> None:
        with self._lock:
            if process is not self._process:
                return
            playing = self._wanted or self._model.state().playing
            self._opened, self._error, self._wanted, self._keeps_time = opened, None, False, False
            self._voices, self._voice = {}, None
            self._make_tracks()
            self._retape(jump=True)
            self._ask(playing=playing)

    def _ended(self, process: SoundProcess, reason: str) -> None:
        with self._lock:
            if process is self._process:
                self._lose(reason or "The sound process ended; press play to start it again.")

    def _lose(self, reason: str) -> None:
        """No sound any more: a device that was there is waited for, one that never was is done without."""
        if self._opened:
            state = self._sounding()
            self._model.put(state.position_s, playing=False)
            self._underruns, self._clipped = state.underruns, state.clipped
            self._opened = None
        else:
            self._keeps_time = True
            if self._wanted:
                self._model.play()
        process, self._process = self._process, None
        self._error, self._wanted = reason, False
        self._stop_writers(keep=0)
        if process is not None:
            process.kill()

    def _hangs(self) -> bool:
        beat = float(self._process.board.status["beat"]) if self._process else 0.0
        return 0 < beat < self._clock() - SILENT_S

    # --- the plan, and what is heard of it; the lock is held

    def _sync(self) -> None:
        """Let the model know where the playhead is, before something is changed there."""
        if self._opened:
            state = self._sounding()
            self._model.put(state.position_s, playing=state.playing)
            if not state.playing and self._control.playing:
                self._ask(playing=False)  # the end was reached

    def _make_tracks(self) -> None:
        channels = self._opened.channels if self._opened else 2
        self._tracks = [Track(source, channels) for source in self._model.sources]

    def _ask(self, **wishes: float) -> None:
        self._control = self._control._replace(**wishes)  # type: ignore[arg-type]
        if self._opened and self._process:
            self._process.board.ask(self._control)
            self._process.wake()

    def _retape(self, *, jump: bool) -> None:
        """Begin the tape that fits the plan: elsewhere, or at the frame that is to be rendered next."""
        state = self._model.state()
        if not self._opened or not self._process or state.duration_s <= 0:
            self._voice = None if state.duration_s <= 0 else self._voice
            return
        rate, channels = self._opened.rate, self._opened.channels
        voice = self._planned(state, jump)
        self._voice = self._voices[voice.generation] = voice
        for generation in list(self._voices)[:-REMEMBERED]:
            del self._voices[generation]
        board = self._process.board
        capacity = min(round(CAPACITY_S * rate), SLOT_BYTES // (4 * channels))
        sharp = voice.timeline.position(voice.origin) == 0
        board.begin(voice.slot, voice.generation, voice.axis, voice.origin, max(capacity, 2 * BLOCK_FRAMES), sharp)
        track = self._tracks[state.source]
        renderer = Renderer(track, rate, self._model.sources[state.source].gain_db, voice.timeline)
        self._stop_writers(keep=board.rendered()[0])
        self._writers.append(TapeWriter(board, voice.slot, renderer, voice.timeline, rate))
        self._ask(generation=voice.generation, slot=voice.slot)

    def _planned(self, state: PlayerState, jump: bool) -> Voice:
        assert self._opened is not None and self._process is not None
        rate, board, last = self._opened.rate, self._process.board, self._voice
        generation = self._control.generation + 1
        slot = (self._control.slot + 1) % SLOTS
        if slot == int(board.status["slot"]):  # still being played
            slot = (slot + 1) % SLOTS
        length = max(track.frames_at(rate) for track in self._tracks)
        region = None
        if state.loop is not None:
            first, end = (round(seconds * rate) for seconds in state.loop)
            region = (min(first, length - 1), min(max(end, first + 1), length))
        if jump or last is None:
            start = min(round(state.position_s * rate), length)
            return Voice(generation, slot, generation, 0, Timeline(start, 0, length, region))
        playing, axis, frame = board.rendered()
        here, origin = (self._voices.get(playing, last), frame) if axis == last.axis else (last, last.origin)
        timeline = here.timeline
        if timeline.region != region:
            timeline = Timeline(timeline.position(origin), origin, length, region)
        return Voice(generation, slot, last.axis, origin, timeline)

    def _stop_writers(self, keep: int) -> None:
        """Cancel what will not be heard; the tape that is playing goes on being filled until it is left."""
        for writer in self._writers:
            if writer.generation != keep:
                writer.cancel()
        self._writers = [writer for writer in self._writers if writer.generation == keep]

    def _sounding(self) -> PlayerState:
        """What the sound process plays, as it is heard."""
        assert self._opened is not None and self._process is not None
        model, board, voice = self._model.state(), self._process.board, self._voice
        status = board.status
        state = replace(
            model,
            device=self._opened.device.name,
            rate=self._opened.rate,
            error=HANGS if self._hangs() else None,
            underruns=self._underruns + int(status["underruns"]),
            clipped=self._clipped + int(status["clipped"]),
            latency_s=float(status["latency_s"]),
            playing=self._control.playing,
        )
        if voice is None:
            return replace(state, position_s=0.0, playing=False)
        found = heard(board.records(), self._clock(), self._opened.rate)
        known = self._voices.get(found[0]) if found else None
        if found is None or known is None or known.axis != voice.axis:
            known, frame = voice, voice.origin  # asked for and not heard yet
        else:
            frame = found[1]
        ended = voice.timeline.end is not None and known is voice and frame >= voice.timeline.end
        position = model.duration_s if ended else known.timeline.position(frame) / self._opened.rate
        pending = int(status["generation"]) != voice.generation
        late = bool(status["starving"]) or (pending and int(board.tapes[voice.slot]["written"]) <= voice.origin)
        playing = state.playing and not ended
        return replace(state, position_s=min(position, model.duration_s), playing=playing, buffering=playing and late)
