"""What the keys of the Listen screen do besides playing. A mixin, so that the screen itself is only wiring."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from textual.content import Content
from textual.widgets import Input

from ...engine.format import plain
from ...engine.names import tail
from ...engine.rundir import RunDir
from ...engine.samples import sample_sets
from ...widgets.confusion_matrix import ConfusionMatrix
from ...widgets.sample_table import SampleTable
from ...widgets.time_axis import time_label
from ...widgets.track_stack import TrackStack
from ..deck import deck_of
from .compare_ask import CompareAsk
from .details import Details
from .export_ask import ExportAsk, ExportWish
from .keys import IN_A_TEST, WITH_AN_ITEM
from .list_part import ListPart
from .listing import GROUPINGS, filter_problem, following, sort_keys
from .voices import Difference, Voice

if TYPE_CHECKING:
    from .session import Other

PLACEHOLDERS = {
    "filter": "wer>0.3 label:flam* tag:hard text~word, empty shows all",
    "note": "a note on this item, empty takes it back",
}
FOLDER = "wavedeck-export"
CALM_S = 0.3
"""An escape that comes sooner after the one before does not leave the screen."""


class ListenActions(ListPart):
    """Choosing items, runs and steps, listing, noting and exporting."""

    _asks = "filter"

    if TYPE_CHECKING:

        def show_voices(self) -> None: ...
        def open_set(self, name: str) -> None: ...

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
        if self.session.item is None:
            self.tell("choose an item first: the same one of another run is heard beside it")
            return

        def chosen(run_id: str | None) -> None:
            if run_id is not None:
                self._open_other(run_id)

        self.app.push_screen(CompareAsk(views, self.session.samples.name, self.session.item), chosen)

    def _compare(self, other: Other) -> None:
        self.end_test()
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
        self._say_wrong("")
        line.add_class("shown")
        self.add_class("asking")
        with line.prevent(Input.Changed):
            line.value = value
        line.cursor_position = len(value)
        line.focus()

    def line_typed(self, text: str) -> None:
        """A filter works while it is typed; one that means nothing (yet) says why, and the list stays as it is."""
        if self._asks == "filter":
            problem = filter_problem(self.listing.columns, text, self.listing.notes) or ""
            self._say_wrong(problem)
            if not problem:
                self.wanted = replace(self.wanted, filter=text)
                self.show_list()

    def line_given(self, text: str) -> None:
        """Enter: a note is written, a filter stays; one that means nothing can be mended."""
        if self._asks == "filter" and self.query_one("#line").has_class("wrong"):
            return
        self._close_line()
        if self._asks == "note":
            self._do(lambda: self.session.write_note(text))

    def _say_wrong(self, problem: str) -> None:
        """What is wrong with what is typed, beside it."""
        line = self.query_one("#line", Input)
        line.set_class(bool(problem), "wrong")
        line.border_subtitle = Content(f"✗ {plain(problem, 200)}" if problem else "")

    def _close_line(self) -> None:
        self.query_one("#line", Input).remove_class("shown")
        self.remove_class("asking")
        self._calm()
        self.query_one(SampleTable).focus()

    # --- pages and focus

    def action_files(self) -> None:
        """The page with the attached files, and what is text in them."""
        self.remove_class("bare")
        if not self.query_one(Details).turn_to("attached"):
            self.tell("No file is attached to this item.")

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
        """Out of the innermost thing first: a test, the other steps, a cell, a filter; then out of the screen, unless
        that escape comes so soon after the last one that it was not meant for the screen."""
        line, closed_at = self.query_one("#line", Input), self._closed_at
        self._calm()
        if self._rates:
            self._rates = False
        elif line.has_class("shown"):
            self._close_line()
        elif self.session.blind is not None:
            self.end_test(stay=True)
            self.show_tracks()
        elif self.session.nulling:
            self.action_null()
        elif self.session.across is not None:
            self.action_steps()
        elif self.wanted.cell is not None or self.wanted.filter:
            self.wanted = replace(self.wanted, cell=None, filter="")
            self.show_list()
        elif time.monotonic() - closed_at > CALM_S:
            self.app.pop_screen()

    # --- export

    def action_export(self) -> None:
        """Ask what to export, and do it in a thread."""
        session = self.session
        voice = self._heard_voice()
        loop = session.state.loop
        region = f"{time_label(loop[0], 0.01)}–{time_label(loop[1], 0.01)}" if loop is not None else ""
        item = plain(session.item.id, 10) if session.item is not None else ""
        files = ", ".join(plain(name, 24) for name in session.item.attachments) if session.item is not None else ""
        track = plain(voice.title, 40) if voice is not None else ""
        folder = Path.home() / FOLDER / tail(self.run_id)

        def wished(wish: ExportWish | None) -> None:
            if wish is not None:
                alone = session.item is not None and wish.what in ("item", "files")
                rows = [session.item.row] if alone and session.item else self.listing.rows.tolist()
                self._export(wish, voice, loop, rows)

        self.app.push_screen(ExportAsk(folder, track, region, item, len(self.listing), plain(files, 50)), wished)

    def _heard_voice(self) -> Voice | Difference | None:
        session = self.session
        return session.voices[session.heard] if session.heard < len(session.voices) else session.difference

    # --- which keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what makes no sense now, and leave keys to the part of the screen that the keys go to."""
        if self._has_its_own(action):
            return False
        if self._result is not None or (self.empty and action in WITH_AN_ITEM):
            return False
        session = self._session
        blind = session is not None and session.blind is not None
        if action == "answer":
            return blind
        return not (blind and action in IN_A_TEST)

    def _has_its_own(self, action: str) -> bool:
        """Whether the focused part has another use for the key: priority keys of the screen would shadow it."""
        focused = self.focused
        if isinstance(focused, Input):
            return action in ("play", "seek", "gain", "group", "page")
        if isinstance(focused, ConfusionMatrix):
            return action in ("seek", "group")
        if isinstance(focused, TrackStack):
            return action == "gain"
        # On the header of a group, left and right fold it; on an item they move the playhead.
        return isinstance(focused, SampleTable) and focused.on_header and action == "seek"
