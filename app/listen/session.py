"""What is shown and heard on the Listen screen: one item's voices, the player that plays them, and the tests on them.

No Textual here. The player is asked for something only when that changes: new samples, a redraw or a finer picture
never touch what is playing.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...engine.playback import Player, PlayerState, Source
from ...engine.samples import OpenFile, SampleError, SampleItem, SampleSet
from ...engine.samples.loudness import matching_gains
from ...engine.samples.notes import Note, SampleNotes
from ...widgets.track_view import TrackView, decibels
from .blind import BlindTest
from .reading import difference_view, first_look
from .voices import Difference, Voice, impossible, own_voices, step_voices, step_words, with_other_run

GAIN_STEP_DB = 1.5
LEAST_GAIN_DB, MOST_GAIN_DB = -60.0, 24.0
SMALL_DB = 0.05


@dataclass(frozen=True, slots=True)
class Other:
    """The run that is compared with ours."""

    samples: SampleSet
    name: str


class Session:
    """One set of one run, the item that is looked at, and the player.

    Parameters
    ----------
    run_dir, set_name: where the samples are.
    player: is loaded with the item's voices, and one more source for the null test where that is possible.
    """

    def __init__(self, run_dir: Path, set_name: str, player: Player, open_file: OpenFile | None = None) -> None:
        self.samples = SampleSet(run_dir, set_name, open_file)
        self.notes = SampleNotes(run_dir)
        self.notes_lock = threading.Lock()
        self.player = player
        self.item: SampleItem | None = None
        self.voices: list[Voice] = []
        self.views: list[TrackView] = []
        self.difference: Difference | None = None
        self.difference_view: TrackView | None = None
        self.heard = 0
        self.matched = True
        self.nulling = False
        self.across: str | None = None
        self.other: Other | None = None
        self.blind: BlindTest | None = None
        self.steps: tuple[int, ...] = ()
        self.generation = 0
        self._gains: list[float] = []

    # --- what is shown

    def show(self, item: SampleItem | None, *, keep: bool = False) -> None:
        """Take another item. `keep`: the playhead, the loop and the track stay (the same item at another step)."""
        before = self.voices[self.heard].track if self.heard < len(self.voices) else None
        self.item = item
        self.across = self.across if keep else None
        self.steps = self.samples.history(item.id) if item is not None else ()
        self._take(self._voices_of(item), before, keep=keep)

    def show_steps(self) -> str | None:
        """The heard track at every step of the run, or back to the item's own tracks; a sentence when it cannot be."""
        if self.item is None or not self.voices:
            return "This item has no sound to compare across steps."
        track = self.voices[min(self.heard, len(self.voices) - 1)].track
        if self.across is None and len(self.steps) < 2:
            return f"This item was evaluated once, at {step_words(self.item.step)}: there are no other steps to hear."
        self.across = None if self.across is not None else track
        self._take(self._voices_of(self.item), track, keep=True)
        return None

    def compare(self, other: Other | None) -> str | None:
        """Hear another run's tracks of the same item beside ours, None for ours alone; a sentence when it cannot be."""
        if other is not None and self.item is not None:
            other.samples.load()
            if other.samples.items.row_of(self.item.id) is None:
                return f"{other.name} has no item {self.item.id} in its set {other.samples.name}."
        self.other, self.across = other, None
        before = self.voices[self.heard].track if self.heard < len(self.voices) else None
        self._take(self._voices_of(self.item), before, keep=True)
        return None

    def next_row(self, forward: bool = True) -> int | None:
        """The row of the same item at its next step, after the last the first; None when there is one step only."""
        if self.item is None or len(self.steps) < 2:
            return None
        at = self.steps.index(self.item.row) if self.item.row in self.steps else -1
        return self.steps[(at + (1 if forward else -1)) % len(self.steps)]

    def _voices_of(self, item: SampleItem | None) -> list[Voice]:
        if item is None:
            return []
        if self.across is not None:
            return step_voices(self.samples, item, self.across)
        voices = own_voices(self.samples, item)
        if self.other is not None:
            found = self._theirs(item)
            if found is not None:
                voices = with_other_run(voices, self.other.samples, found, self.other.name)
        return voices

    def _theirs(self, item: SampleItem) -> SampleItem | None:
        """The other run's item: at our step where it has that, else its newest."""
        assert self.other is not None
        samples = self.other.samples
        try:
            return samples.find(item.id, item.step) or samples.find(item.id)
        except SampleError:
            return None

    def _take(self, voices: list[Voice], track: str | None, *, keep: bool) -> None:
        """Load the player with other voices."""
        if [voice.key for voice in voices] == [voice.key for voice in self.voices] and keep:
            return
        state = self.player.state()
        self.generation += 1
        self.voices, self.views = voices, [first_look(voice) for voice in voices]
        self.blind, self._gains = None, []
        self.heard = next((n for n, voice in enumerate(voices) if voice.track == track), 0)
        if self.across is not None and self.item is not None:
            here = [n for n, voice in enumerate(voices) if voice.item.row == self.item.row]
            self.heard = here[0] if here else self.heard
        self._set_difference()
        self.player.load(self._sources())
        if self.heard and voices:
            self.player.switch(self.heard)
        if keep:
            if state.loop is not None:
                self.player.loop(*state.loop)
            self.player.seek(state.position_s)
        if state.playing and voices:
            self.player.play()

    def _sources(self) -> list[Source]:
        sources = [voice.source() for voice in self.voices]
        return sources if self.difference is None else [*sources, self.difference.source()]

    def _set_difference(self) -> None:
        self.difference, self.difference_view = None, None
        for second in self.voices[1:]:
            if impossible(self.voices[0], second) is None:
                self.difference = Difference(self.voices[0], second)
                break
        if self.difference is None:
            self.nulling = False
        elif self.nulling:
            self.difference_view = difference_view(self.difference)

    def saw(self, generation: int, views: Sequence[TrackView]) -> bool:
        """More of the voices is known; False when that was about something else."""
        if generation != self.generation:
            return False
        self.views = list(views[: len(self.voices)])
        if len(views) > len(self.voices):
            self.difference_view = views[len(self.voices)]
        self._match()
        return True

    @property
    def shown(self) -> tuple[TrackView, ...]:
        """What the stack draws, with keys and gains on the labels."""
        views = list(self.views)
        if self.nulling and self.difference_view is not None:
            views.append(self.difference_view)
        return tuple(self._labelled(place, view) for place, view in enumerate(views))

    def _labelled(self, place: int, view: TrackView) -> TrackView:
        gain = self._gains[place] if self.matched and place < len(self._gains) else 0.0
        notes = [view.note] if view.note else []
        if abs(gain) >= SMALL_DB:
            notes.append(f"{'+' if gain > 0 else ''}{decibels(gain)} dB matched")
        return replace(view, letter=self.letter(place), note=" ".join(notes))

    def letter(self, place: int) -> str:
        """The key of a voice: a, b, then 3 to 9; n for the difference."""
        if place >= len(self.voices):
            return "n"
        return "ab"[place] if place < 2 else str(place + 1)

    # --- what is heard

    @property
    def state(self) -> PlayerState:
        """The player's, at this moment."""
        return self.player.state()

    def toggle_play(self) -> None:
        """Play or pause."""
        if self.state.playing:
            self.player.pause()
        else:
            self.player.play()

    def hear(self, place: int) -> bool:
        """Switch to a voice at the same playhead; False when there is none."""
        count = len(self.voices) + (self.difference is not None and self.nulling)
        if not 0 <= place < count:
            return False
        self.heard = place
        self.player.switch(place)
        return True

    def null_test(self) -> str | None:
        """Hear and see the difference of the heard track and the first, or leave it; a sentence when it cannot be."""
        if self.nulling:
            self.nulling = False
            if self.heard >= len(self.voices):
                self.hear(0)
            self.difference_view = None
            return None
        if len(self.voices) < 2:
            return "A null test needs two tracks: this item has one. c compares it with another run."
        first, second = self.voices[0], self.voices[self.heard or 1]
        wrong = impossible(first, second)
        if wrong is not None or self.difference is None:
            return wrong
        self.difference.set(first, second)
        self.nulling = True
        self.difference_view = difference_view(self.difference)
        self.generation += 1
        self.hear(len(self.voices))
        return None

    def toggle_match(self) -> None:
        """Equal loudness, or levels as they are."""
        self.matched = not self.matched
        self._gains = [math.nan]
        self._match()

    def _match(self) -> None:
        """Tell the player the gains when they changed."""
        if not self.voices:
            return
        gains = [0.0] * len(self.voices)
        if self.matched:
            measures = [view.measures for view in self.views]
            loudness = [-math.inf if measure is None else measure.heard_lufs for measure in measures]
            peaks = [-math.inf if measure is None else measure.true_peak_db for measure in measures]
            gains = matching_gains(loudness, peaks)
        same = len(gains) == len(self._gains) and all(
            abs(new - old) < SMALL_DB for new, old in zip(gains, self._gains, strict=True)
        )
        if not same and (any(gains) or self._gains):
            self._gains = gains
            self.player.match([*gains, 0.0] if self.difference is not None else gains)

    def change_gain(self, steps: int) -> float:
        """Louder or softer by steps; returns the volume in dB."""
        now = self.player.gain_db
        wanted = (0.0 if math.isinf(now) else now) + steps * GAIN_STEP_DB
        self.player.gain_db = min(max(wanted, LEAST_GAIN_DB), MOST_GAIN_DB)
        return self.player.gain_db

    def set_loop(self, *, start: float | None = None, end: float | None = None) -> None:
        """Move one end of the loop; the other stays, or is the clip's."""
        state = self.state
        first, last = state.loop or (0.0, state.duration_s)
        if start is not None:
            first, last = start, last if last > start else state.duration_s
        if end is not None:
            first, last = first if first < end else 0.0, end
        self.player.loop(first, last)

    # --- the blind test

    def begin_blind(self) -> str | None:
        """Begin a blind test of the first voice and the heard or second one; a sentence when it cannot be."""
        if len(self.voices) < 2:
            return "A blind test needs two tracks: this item has one. c compares it with another run."
        broken = [view.problem for view in self.views[:2] if view.problem]
        if broken:
            return f"No blind test: {broken[0]}"
        if self.nulling:
            self.null_test()
        self.blind = BlindTest.begin(0, self.heard or 1)
        self._play_blind()
        return None

    def hear_blind(self, letter: str) -> None:
        """Play A, B or X at the same playhead."""
        if self.blind is not None:
            self.blind = self.blind.hear(letter)
            self._play_blind()

    def answer(self, says_second: bool) -> None:
        """X is A, or B."""
        if self.blind is not None:
            self.blind = self.blind.answer(says_second)
            self._play_blind()

    def end_blind(self) -> str:
        """End the test; what came out."""
        tally = self.blind.tally if self.blind is not None else ""
        self.blind = None
        return tally

    def _play_blind(self) -> None:
        assert self.blind is not None
        self.hear(self.blind.voice)
        if not self.state.playing:
            self.player.play()

    # --- notes

    def note(self) -> Note:
        """What is noted about the item."""
        if self.item is None:
            return Note()
        with self.notes_lock:
            return self.notes.of(self.item)

    def rate(self, rating: int) -> None:
        """Rate the item 1 to 5; 0 takes the rating back."""
        if self.item is not None:
            with self.notes_lock:
                self.notes.rate(self.item, rating or None)

    def write_note(self, text: str) -> None:
        """Write a note on the item; nothing takes it back."""
        if self.item is not None:
            with self.notes_lock:
                self.notes.write(self.item, text)

    def close(self) -> None:
        """Let go of the device and of the files."""
        self.player.close()
        self.samples.close()
        if self.other is not None:
            self.other.samples.close()
