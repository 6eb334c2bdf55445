"""What is heard: voices in the player, the two that are compared, level matching, the null test and the blind test.

No Textual here. The player is asked for something only when that changes: new samples, a redraw or a finer picture
never touch what is playing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ...engine.playback import Player, PlayerState, Source
from ...widgets.track_view import TrackView, decibels
from .blind import BlindResult, BlindTest
from .matching import gains_to
from .reading import difference_view, first_look
from .voices import Difference, Voice, impossible, named

GAIN_STEP_DB = 1.5
LEAST_GAIN_DB, MOST_GAIN_DB = -60.0, 24.0
SMALL_DB = 0.05
ALONE = "needs two tracks: this item has one. c compares it with another run."
MEANT = ("target", "reference", "truth", "clean")
MADE = ("prediction", "predicted", "output", "estimate")
"""Names of tracks that are `a` and `b` until the user says otherwise."""


class Hearing:
    """Voices that are loaded beside each other.

    Parameters
    ----------
    player: is loaded with the voices, and one more source for the null test where that is possible.
    matched: play them equally loud.

    `sides` are the two voices that `a` and `b` hear, and that the null and the blind test compare, as indices: target
    and prediction, by name, where there are such. The first is the reference, which the user may choose; the second
    follows what is heard.
    """

    def __init__(self, player: Player, *, matched: bool = True) -> None:
        self.player = player
        self.voices: list[Voice] = []
        self.views: list[TrackView] = []
        self.difference: Difference | None = None
        self.difference_view: TrackView | None = None
        self.heard = 0
        self.sides = (0, 0)
        self._wanted: tuple[str | None, str | None] = (None, None)
        self.matched = matched
        self.unmatched = ""
        """Why this item is not matched although that is wanted: nothing can be as loud as silence."""
        self.nulling = False
        self.blind: BlindTest | None = None
        self.generation = 0
        self._gains: list[float] = []

    # --- what is loaded

    def take(self, voices: list[Voice], track: str | None, *, keep: bool, here: int | None = None) -> None:
        """Load the player with other voices.

        Parameters
        ----------
        track: is heard where no voice has the title of what was heard before; `here` is heard in any case.
        keep: the playhead and the loop stay, and voices that are loaded already are left alone.
        """
        if keep and [voice.key for voice in voices] == [voice.key for voice in self.voices]:
            return
        title = self._title(self.heard)
        null = self.nulling and self.heard >= len(self.voices)
        self.generation += 1
        self.voices, self.views = voices, [first_look(voice) for voice in voices]
        self.blind, self._gains, self.unmatched = None, [], ""
        first, second = self._wanted
        reference = self._place(first, named(voices, MEANT, 0))
        self.heard = next((n for n, voice in enumerate(voices) if voice.track == track), reference)
        self.heard = self._place(title, self.heard) if here is None else here
        self.sides = reference, self._second(reference, self._place(second, named(voices, MADE, self.heard)))
        self._set_difference()
        self.nulling = self.nulling and self.difference is not None
        if self.nulling and self.difference is not None:
            self.difference_view = difference_view(self.difference)
            self.heard = len(voices) if null else self.heard
        self._reload(self.state, keep=keep)

    def _title(self, place: int) -> str | None:
        return self.voices[place].title if place < len(self.voices) else None

    def _place(self, title: str | None, otherwise: int) -> int:
        return next((n for n, voice in enumerate(self.voices) if voice.title == title), otherwise)

    def _second(self, reference: int, wanted: int) -> int:
        """The other side: what is wanted, or the first voice that has samples and is not the reference."""
        others = [place for place in range(len(self.voices)) if place != reference]
        sounding = [place for place in others if self.voices[place].place.frames]
        return wanted if wanted in others else next(iter(sounding or others), reference)

    def _set_difference(self) -> None:
        """The difference of the two sides, to be loaded with the voices."""
        self.difference, self.difference_view = None, None
        first, second = self.sides
        if first != second and impossible(self.voices[first], self.voices[second]) is None:
            self.difference = Difference(self.voices[first], self.voices[second])

    def _reload(self, state: PlayerState, *, keep: bool = True) -> None:
        """Give the player its sources anew; it goes on at the same playhead, if it is kept."""
        self.player.load(self._sources())
        if self.heard and self.voices:
            self.player.switch(self.heard)
        if keep:
            if state.loop is not None:
                self.player.loop(*state.loop)
            self.player.seek(state.position_s)
        if state.playing and self.voices:
            self.player.play()

    def _sources(self) -> list[Source]:
        gains = self._gains if len(self._gains) == len(self.voices) else [0.0] * len(self.voices)
        sources = [replace(voice.source(), gain_db=gain) for voice, gain in zip(self.voices, gains, strict=True)]
        return sources if self.difference is None else [*sources, self.difference.source()]

    def play_on(self, player: Player) -> None:
        """Go on with another player, which is another device, at the same playhead."""
        state, gain = self.state, self.player.gain_db
        self.player.close()
        self.player = player
        player.gain_db = gain
        self._reload(state)

    # --- what is known of it

    def saw(self, generation: int, views: Sequence[TrackView]) -> bool:
        """More of the voices is known; False when that was about something else. Closer looks at them stay."""
        if generation != self.generation:
            return False
        count = len(self.voices)
        self.views = [_with_looks_of(view, before) for view, before in zip(views[:count], self.views, strict=True)]
        if len(views) > count:
            self.difference_view = _with_looks_of(views[count], self.difference_view)
        self._match()
        return True

    def saw_closer(self, generation: int, views: Sequence[TrackView]) -> bool:
        """The visible part of the voices is known in detail. What else these views hold is older than what is here."""
        if generation != self.generation:
            return False
        count = len(self.voices)
        closer = [_with_looks_of(view, near) for view, near in zip(self.views, views, strict=False)]
        self.views = [*closer, *self.views[len(closer) :]]
        if len(views) > count and self.difference_view is not None:
            self.difference_view = _with_looks_of(self.difference_view, views[count])
        return True

    @property
    def unlooked(self) -> bool:
        """Whether everything is read, and a closer look at something is missing."""
        views = [view for view in self.shown if view.problem is None]
        return all(view.spectrogram is not None for view in views) and any(view.closer is None for view in views)

    @property
    def shown(self) -> tuple[TrackView, ...]:
        """What the stack draws, with keys and gains on the labels."""
        views = list(self.views)
        if self.nulling and self.difference_view is not None:
            views.append(self.difference_view)
        return tuple(self._labelled(place, view) for place, view in enumerate(views))

    def _labelled(self, place: int, view: TrackView) -> TrackView:
        gain = self._gains[place] if self.matched and place < len(self._gains) else 0.0
        voice = self.voices[place].note if place < len(self.voices) else ""
        notes = [note] if (note := view.note.removeprefix(voice).strip()) else []
        if abs(gain) >= SMALL_DB:
            notes.append(f"{decibels(gain)} dB matched")
        elif self.matched and self.unmatched and place < len(self.voices):
            notes.append("level as it is")
        return replace(view, name=self.title(place, view.name), letter=self.letter(place), note=" · ".join(notes))

    def title(self, place: int, otherwise: str = "") -> str:
        """What a voice is called: its track, and which run or step it is of."""
        return self.voices[place].title if place < len(self.voices) else otherwise

    @property
    def names(self) -> tuple[str, ...]:
        """A short name for each of `shown`: the step alone where only that tells voices from each other."""
        alone = all(voice.note for voice in self.voices) and len({voice.track for voice in self.voices}) == 1
        found = [voice.note if alone else voice.title for voice in self.voices]
        return (*found, "difference") if len(self.shown) > len(found) else tuple(found)

    @property
    def short_names(self) -> tuple[str, ...]:
        """As short as tells something: whose track it is, else which."""
        found = [voice.note or voice.track for voice in self.voices]
        return (*found, "difference") if len(self.shown) > len(found) else tuple(found)

    def letter(self, place: int) -> str:
        """The key of a voice: a and b are the two sides, others have their number; n for the difference."""
        if place >= len(self.voices):
            return "n"
        return "ab"[self.sides.index(place)] if place in self.sides else str(place + 1)

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
        """Switch to a voice at the same playhead; False when there is none. It becomes the second of the two sides."""
        count = len(self.voices) + (self.difference is not None and self.nulling)
        if not 0 <= place < count:
            return False
        self.heard = place
        if not self.nulling and self.blind is None and place != self.sides[0]:
            self.sides = self.sides[0], place
            self._wanted = self._wanted[0], self._title(place)
        self.player.switch(place)
        return True

    def refer_to(self, place: int) -> str | None:
        """Make a voice the reference: what `a` hears and others are compared with; a sentence when it cannot be."""
        first, second = self.sides
        if not 0 <= place < len(self.voices):
            return "There is no such track to compare with."
        if place != first:
            self.sides = place, first if place == second else second
            self._wanted = self._title(self.sides[0]), self._title(self.sides[1])
            self._match()
        if self.nulling and place != first:
            null = self.heard >= len(self.voices)
            self._set_difference()
            self.nulling = self.difference is not None
            self.heard = place if null and not self.nulling else self.heard
            self._see_difference()
        return None

    def null_test(self) -> str | None:
        """Hear and see the difference of the two sides, or leave it; a sentence when it cannot be."""
        if self.nulling:
            self.nulling, self.difference_view = False, None
            if self.heard >= len(self.voices):
                self.hear(self.sides[0])
            return None
        if len(self.voices) < 2:
            return f"A null test {ALONE}"
        first, second = (self.voices[place] for place in self.sides)
        wrong = impossible(first, second)
        if wrong is not None:
            return wrong
        self.nulling = True
        if self.difference is not None and self.difference.pair == (first, second):
            self.difference_view = difference_view(self.difference)
            self.generation += 1
        else:
            self._set_difference()
            self._see_difference()
        self.hear(len(self.voices))
        return None

    def _see_difference(self) -> None:
        """Another difference is loaded: its channels and length are others than those of the last one."""
        if self.difference is not None:
            self.difference_view = difference_view(self.difference)
        self.generation += 1
        self._reload(self.state)

    def toggle_match(self) -> None:
        """Equal loudness, or levels as they are."""
        self.matched = not self.matched
        self._gains = [math.nan]
        self._match()

    def _match(self) -> None:
        """Tell the player the gains when they changed; never in a blind test, where a change would tell."""
        if not self.voices or self.blind is not None:
            return
        gains = [0.0] * len(self.voices)
        if self.matched and len(gains) > 1:
            found = gains_to(self.sides[0], self.views, self.title(self.sides[0]))
            known = len(self._gains) == len(gains) and all(map(math.isfinite, self._gains))
            gains, self.unmatched = found or (self._gains if known else gains, "")
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
        """Begin a blind test of the two sides; a sentence when it cannot be."""
        if len(self.voices) < 2:
            return f"A blind test {ALONE}"
        views = [self.views[place] for place in self.sides]
        broken = next((view.problem for view in views if view.problem), None)
        if broken is not None:
            return f"No blind test: {broken}"
        if self.matched and any(view.measures is None for view in views):
            return "The two tracks are still being measured, so that both play equally loud: press x again in a moment."
        if self.nulling:
            self.null_test()
        self.blind = BlindTest.begin(*self.sides)
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

    def end_blind(self) -> BlindResult | None:
        """End the test; what came out, None where nothing was answered."""
        test, self.blind = self.blind, None
        self._match()
        if test is None or not test.trials:
            return None
        pair = self.voices[test.first].title, self.voices[test.second].title
        return BlindResult(pair, test.trials, test.correct, test.p)

    def _play_blind(self) -> None:
        assert self.blind is not None
        self.hear(self.blind.voice)
        if not self.state.playing:
            self.player.play()


def _with_looks_of(view: TrackView, near: TrackView | None) -> TrackView:
    """The view, with the closer looks of another one of the same track where it has none of its own or older ones."""
    if near is None or (near.closer is None and near.detail is None):
        return view
    return replace(view, closer=near.closer, detail=near.detail)
