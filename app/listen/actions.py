"""What the keys of the Listen screen do. A mixin, so that the screen itself is only wiring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from textual.widgets import Input

from ...engine.errors import WavedeckError
from ...engine.format import plain
from ...engine.names import tail
from ...engine.rundir import RunDir
from ...engine.samples import sample_sets
from ...widgets.confusion_matrix import ConfusionMatrix
from ...widgets.sample_table import SampleTable
from ...widgets.time_axis import time_label
from ...widgets.track_stack import TrackStack
from ..deck import deck_of
from ..screens.pick_run import PickRun
from .background import ListenBackground
from .details import Details
from .export_ask import ExportAsk, ExportWish
from .keys import IN_A_TEST
from .listing import GROUPINGS, Listing, Wanted, following, sort_keys
from .voices import Voice

if TYPE_CHECKING:
    from .session import Other, Session

PLACEHOLDERS = {
    "filter": "wer>0.3 label:flam* tag:hard text~word, empty shows all",
    "note": "a note on this item, empty takes it back",
}
SEEK_S, SEEK_PART = 1.0, 0.05
FOLDER = "wavedeck-export"


class ListenActions(ListenBackground):
    """Playing, comparing, testing, listing, noting and exporting."""

    sets: tuple[str, ...]
    listing: Listing
    wanted: Wanted
    _asks = "filter"
    _rates = False

    if TYPE_CHECKING:

        def show_list(self) -> None: ...
        def show_item(self, row: int | None, *, keep: bool = False) -> None: ...
        def show_voices(self) -> None: ...
        def show_tracks(self) -> None: ...
        def show_facts(self) -> None: ...
        def open_set(self, name: str) -> None: ...
        def _tick(self) -> None: ...

    _session: Session | None = None

    # --- playing

    def action_play(self) -> None:
        """Play or pause."""
        self.session.toggle_play()
        self._tick()

    def action_seek(self, steps: int) -> None:
        """By a second, or by a twentieth of a short clip."""
        state = self.session.state
        self.session.player.seek(state.position_s + steps * min(SEEK_S, SEEK_PART * state.duration_s))
        self._tick()

    def action_loop_start(self) -> None:
        """The loop begins here."""
        self.session.set_loop(start=self.session.state.position_s)
        self._tick()

    def action_loop_end(self) -> None:
        """The loop ends here."""
        self.session.set_loop(end=self.session.state.position_s)
        self._tick()

    def action_no_loop(self) -> None:
        """Play on to the end."""
        self.session.player.loop(None)
        self._tick()

    def action_gain(self, steps: int) -> None:
        """Louder or softer."""
        self.session.change_gain(steps)
        self._tick()

    def action_match(self) -> None:
        """Level matching on or off."""
        self.session.toggle_match()
        self.show_tracks()

    async def action_stack(self, action: str) -> None:
        """What the tracks can do, from wherever the keys go."""
        await self.query_one(TrackStack).run_action(action)

    # --- which track

    def hear(self, place: int) -> None:
        """Switch at the same playhead."""
        if self.session.blind is None and self.session.hear(place):
            self.query_one(TrackStack).audible = place
            self._tick()

    def action_letter(self, letter: str) -> None:
        """The first or the second track; A or B of a blind test."""
        if self.session.blind is not None:
            self.session.hear_blind(letter)
            self.show_tracks()
        else:
            self.hear("ab".index(letter))

    def action_digit(self, digit: int) -> None:
        """A rating that was asked for, or a track; 0 is the whole clip."""
        if self._rates:
            self._rates = False
            self._do(lambda: self.session.rate(digit))
        elif digit == 0:
            self.query_one(TrackStack).action_reset()
        else:
            self.hear(digit - 1)

    def action_null(self) -> None:
        """The difference, or what was heard before."""
        if self.session.blind is not None:  # hidden, the key would be the app's and launch something
            self.tell("esc ends the blind test first")
            return
        self._told(self.session.null_test())
        self.show_tracks()
        if self.session.nulling:
            self.read_tracks()

    def action_blind(self) -> None:
        """Begin a blind test; in one, hear X."""
        if self.session.blind is not None:
            self.session.hear_blind("x")
        else:
            self._told(self.session.begin_blind())
        self.show_tracks()
        self.refresh_bindings()

    def action_answer(self, says_second: bool) -> None:
        """X is A, or B."""
        self.session.answer(says_second)
        self.show_tracks()

    # --- which item

    def action_step(self, forward: bool) -> None:
        """The same item at its next step, at the same playhead."""
        session = self.session
        if session.item is not None:
            session.steps = session.samples.history(session.item.id)
        row = session.next_row(forward)
        if row is None:
            self.tell("This item was evaluated at one step only.")
        else:
            session.across = None
            self.show_item(row, keep=True)

    def action_steps(self) -> None:
        """The heard track at all steps, or the item's own tracks again."""
        self._told(self.session.show_steps())
        self.show_voices()

    def action_compare(self) -> None:
        """Choose a run to compare with, or stop comparing."""
        if self.session.other is not None:
            self.session.compare(None)
            self.show_voices()
            return
        views = tuple(
            view for view in deck_of(self).views if view.id != self.run_id and sample_sets(RunDir(view.dir).path)
        )
        if not views:
            self.tell("No other run has samples to compare with.")
            return

        def chosen(run_id: str | None) -> None:
            if run_id is not None:
                self._open_other(run_id)

        self.app.push_screen(PickRun(views), chosen)

    def _compare(self, other: Other) -> None:
        self._told(self.session.compare(other))
        self.show_voices()

    # --- which items

    def action_filter(self) -> None:
        """Type a filter."""
        self._ask("filter", self.wanted.filter)

    def action_group(self) -> None:
        """Group by the next property."""
        self.wanted = replace(self.wanted, group=following(GROUPINGS, self.wanted.group))
        self.show_list()

    def action_sort(self) -> None:
        """Sort by the next key."""
        self.wanted = replace(
            self.wanted, sort=following(sort_keys(self.listing.columns), self.listing.sort), descending=None
        )
        self.show_list()

    def action_turn_round(self) -> None:
        """Best first, or worst first again."""
        self.wanted = replace(self.wanted, sort=self.listing.sort, descending=not self.listing.descending)
        self.show_list()

    def action_next_set(self) -> None:
        """The next set of the run."""
        name = self.session.samples.name
        if len(self.sets) > 1 or (self.sets and name not in self.sets):
            self.open_set(str(following(self.sets, name)))
        else:
            self.tell("This run has one set of samples.")

    # --- notes

    def action_rating(self) -> None:
        """The next digit is a rating."""
        if self.session.item is not None:
            self._rates = True
            self.tell("rate it: 1 (bad) to 5 (good), 0 takes it back")

    def action_note(self) -> None:
        """Type a note."""
        if self.session.item is not None:
            self._ask("note", self.session.note().text)

    def _ask(self, what: str, value: str) -> None:
        line = self.query_one("#line", Input)
        self._asks = what
        line.border_title, line.placeholder = what, PLACEHOLDERS[what]
        line.add_class("shown")
        with line.prevent(Input.Changed):
            line.value = value
        line.cursor_position = len(value)
        line.focus()

    def line_typed(self, text: str) -> None:
        """A filter works while it is typed."""
        if self._asks == "filter":
            self.wanted = replace(self.wanted, filter=text)
            self.show_list()

    def line_given(self, text: str) -> None:
        """Enter: a note is written, a filter stays."""
        self._close_line()
        if self._asks == "note":
            self._do(lambda: self.session.write_note(text))

    def _close_line(self) -> None:
        self.query_one("#line", Input).remove_class("shown")
        self.query_one(SampleTable).focus()

    def _do(self, change: object) -> None:
        """Rate or note; what fails is said."""
        try:
            change()  # type: ignore[operator]
        except WavedeckError as error:
            self.tell(str(error), "error")
        self.show_facts()

    # --- pages and focus

    def action_page(self, pages: int) -> None:
        """The next page."""
        self.remove_class("bare")
        self.query_one(Details).turn(pages)

    def action_details(self) -> None:
        """Larger, gone, as it was."""
        large, bare = self.has_class("large"), self.has_class("bare")
        self.set_class(not large and not bare, "large")
        self.set_class(large, "bare")

    def action_focus_next_part(self) -> None:
        """List, tracks, page."""
        parts = [self.query_one(SampleTable), self.query_one(TrackStack), self.query_one(Details).front]
        shown = [part for part in parts if part.focusable and part.region.area]
        at = next((n for n, part in enumerate(shown) if part.has_focus_within), -1)
        if shown:
            self.set_focus(shown[(at + 1) % len(shown)])
        self.refresh_bindings()

    def action_back(self) -> None:
        """Out of the innermost thing first: a test, the other steps, a cell, a filter; then out of the screen."""
        line = self.query_one("#line", Input)
        if self._rates:
            self._rates = False
        elif line.has_class("shown"):
            self._close_line()
        elif self.session.blind is not None:
            self.tell(f"blind test: {self.session.end_blind()}")
            self.show_tracks()
            self.refresh_bindings()
        elif self.session.nulling:
            self.action_null()
        elif self.session.across is not None:
            self.action_steps()
        elif self.wanted.cell is not None or self.wanted.filter:
            self.wanted = replace(self.wanted, cell=None, filter="")
            self.show_list()
        else:
            self.app.pop_screen()

    # --- export

    def action_export(self) -> None:
        """Ask what to export, and do it in a thread."""
        session = self.session
        voice = self._heard_voice()
        loop = session.state.loop
        region = f"{time_label(loop[0], 0.01)}–{time_label(loop[1], 0.01)}" if loop is not None else ""
        item = plain(session.item.id, 10) if session.item is not None else ""
        track = plain(voice.title, 40) if voice is not None else ""
        folder = Path.home() / FOLDER / tail(self.run_id)

        def wished(wish: ExportWish | None) -> None:
            if wish is not None:
                rows = [session.item.row] if wish.what == "item" and session.item else self.listing.rows.tolist()
                self._export(wish, voice, loop, rows)

        self.app.push_screen(ExportAsk(folder, track, region, item, len(self.listing)), wished)

    def _heard_voice(self) -> Voice | None:
        session = self.session
        return session.voices[session.heard] if session.heard < len(session.voices) else None

    def _told(self, sentence: str | None) -> None:
        if sentence is not None:
            self.tell(sentence, "warning")

    # --- which keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what makes no sense now, and leave keys to a line of input or a matrix that has them."""
        if isinstance(self.focused, Input) and action in ("play", "seek", "gain", "group", "page"):
            return False
        if isinstance(self.focused, ConfusionMatrix) and action == "seek":
            return False
        session = self._session
        blind = session is not None and session.blind is not None
        if action == "answer":
            return blind
        return not (blind and action in IN_A_TEST)

    def tell(self, text: str, severity: str = "information") -> None:
        """A sentence in a corner."""
        self.app.notify(plain(text, 600), severity=severity, markup=False)  # type: ignore[arg-type]
