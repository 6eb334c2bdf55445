"""What is shown on the Listen screen: one item of one set, at its steps and in another run, and the notes on it.

No Textual here. What is heard of it, and how it is tested, is `hearing`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from ...engine.playback import Player
from ...engine.samples import OpenFile, SampleError, SampleItem, SampleSet
from ...engine.samples.notes import BlindNote, Note, SampleNotes
from .blind import BlindResult
from .hearing import MADE, Hearing
from .voices import GIVEN, Voice, named, own_voices, step_voices, step_words, with_other_run


@dataclass(frozen=True, slots=True)
class Other:
    """The run that is compared with ours."""

    samples: SampleSet
    name: str


class Session(Hearing):
    """One set of one run, the item that is looked at, and the player.

    Parameters
    ----------
    run_dir, set_name: where the samples are.
    player, matched: see `Hearing`.
    """

    def __init__(
        self,
        run_dir: Path,
        set_name: str,
        player: Player,
        open_file: OpenFile | None = None,
        *,
        matched: bool = True,
    ) -> None:
        super().__init__(player, matched=matched)
        self.samples = SampleSet(run_dir, set_name, open_file)
        self.notes = SampleNotes(run_dir)
        self.notes_lock = threading.Lock()
        self.item: SampleItem | None = None
        self.across: str | None = None
        self.other: Other | None = None
        self.steps: tuple[int, ...] = ()
        self._beside: tuple[Other, SampleItem, SampleItem | None] | None = None

    # --- what is shown

    def show(self, item: SampleItem | None, *, keep: bool = False) -> None:
        """Take another item. `keep`: the playhead, the loop and the track stay (the same item at another step)."""
        before = self._heard_track()
        self.item = item
        self.across = self.across if keep else None
        self.steps = self.samples.history(item.id) if item is not None else ()
        self._take(before, keep=keep)

    def _heard_track(self) -> str | None:
        return self.voices[self.heard].track if self.heard < len(self.voices) else None

    def _take(self, track: str | None, *, keep: bool = True) -> None:
        voices, here = self._voices_of(self.item), None
        if self.across is not None and self.item is not None:
            here = next((n for n, voice in enumerate(voices) if voice.item.row == self.item.row), None)
        self.take(voices, track, keep=keep, here=here)

    def show_steps(self) -> str | None:
        """What the run made of the item at every step, or back to its own tracks; a sentence when it cannot be."""
        if self.item is None or not self.voices:
            return "This item has no sound to compare across steps."
        track = self._changing_track()
        if self.across is None and len(self.steps) < 2:
            return f"This item was evaluated once, at {step_words(self.item.step)}: there are no other steps to hear."
        self.across = None if self.across is not None else track
        self._take(track)
        return None

    def _changing_track(self) -> str:
        """The heard track, unless it is one that the run was given, which is the same at every step: then what was
        made of it."""
        heard = self.voices[min(self.heard, len(self.voices) - 1)]
        own = own_voices(self.samples, self.item) if self.item is not None else []
        made = named(own, MADE, -1)
        if heard.track.casefold() not in GIVEN or (made < 0 and all(voice.track.casefold() in GIVEN for voice in own)):
            return heard.track
        other = next((voice for voice in own if voice.track.casefold() not in GIVEN), heard)
        return own[made].track if made >= 0 else other.track

    def theirs(self) -> SampleItem | None:
        """The item of the run that is compared with; None without one."""
        if self.other is None or self.item is None:
            return None
        if self._beside is None or self._beside[0] is not self.other or self._beside[1] is not self.item:
            self._beside = self.other, self.item, self._theirs(self.item)  # looking through all ids takes a while
        return self._beside[2]

    def compare(self, other: Other | None) -> str | None:
        """Hear another run's tracks of the same item beside ours, None for ours alone; a sentence when it cannot be.

        A run that is compared with no longer, or cannot be, has its files closed.
        """
        if other is not None and self.item is not None:
            other.samples.load()
            if other.samples.items.row_of(self.item.id) is None:
                other.samples.close()
                return f"{other.name} has no item {self.item.id} in its set {other.samples.name}."
        before, track = self.other, self._heard_track()
        self.other, self.across = other, None
        self._take(track)
        if before is not None:
            before.samples.close()
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

    def blind_tests(self) -> tuple[BlindNote, ...]:
        """The blind tests of the item."""
        if self.item is None:
            return ()
        with self.notes_lock:
            return self.notes.blind_tests(self.item)

    def keep_test(self, result: BlindResult) -> None:
        """Note what came out of a blind test.

        Raises
        ------
        SampleError: it cannot be written.
        """
        if self.item is not None:
            with self.notes_lock:
                self.notes.keep_test(self.item, BlindNote(result.pair, result.trials, result.right, result.p))

    def close(self) -> None:
        """Let go of the device and of the files."""
        self.player.close()
        self.close_files()

    def close_files(self) -> None:
        """Let go of the files: another set is shown, with the same player."""
        self.samples.close()
        if self.other is not None:
            self.other.samples.close()
