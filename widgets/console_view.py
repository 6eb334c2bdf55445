"""`ConsoleView`: what a run prints, with its search and a line that says in words what is being looked at."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Input

from ..engine import format as fmt
from ..engine.console import ConsolePicture
from .console_lines import ConsoleLines
from .palette import Palette

STALE = frozenset(("unreachable", "unreadable"))


class ConsoleStatus(Widget):
    """One line: following or paused, how much there is, where the search stands, the run's state."""

    DEFAULT_CSS = "ConsoleStatus { height: 1; background: $panel; padding: 0 1; }"

    words: reactive[tuple[tuple[str, str], ...]] = reactive(())
    """(text, role of the palette) pairs, the most important first; what does not fit is cut."""

    def render(self) -> Text:
        """The words with separators between."""
        palette = Palette.of(self.app)
        parts = [Text(text, style=getattr(palette, role)) for text, role in self.words]
        line = Text(" · ", style=palette.muted).join(parts)
        line.truncate(max(1, self.content_size.width), overflow="ellipsis")
        return line


class SearchInput(Input):
    """The one-line search; Escape gives it up."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "give_up", "Give up", id="console.search.escape", tooltip="End the search"),
    ]
    DEFAULT_CSS = """
    SearchInput, SearchInput:focus { height: 1; border: none; padding: 0 1; background: $panel; display: none; }
    SearchInput.-open { display: block; }
    """

    class GivenUp(Message):
        """Escape was pressed."""

    def action_give_up(self) -> None:
        """Tell."""
        self.post_message(self.GivenUp())


class ConsoleView(Vertical):
    """A run's console.

    Messages: `EarlierWanted`, when a search has reached the oldest line kept and the file holds more before it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search", id="console.search", tooltip="Search the lines"),
        Binding("n", "step(True)", "Next", show=False, id="console.next", tooltip="The next match, downwards"),
        Binding(
            "N", "step(False)", "Previous", show=False, id="console.previous", tooltip="The previous match, upwards"
        ),
        Binding("escape", "end_search", "End search", show=False, id="console.escape", tooltip="End the search"),
    ]
    DEFAULT_CSS = "ConsoleView { height: 1fr; }"

    class EarlierWanted(Message):
        """The search would go on in the file, before what is kept here."""

        def __init__(self, view: ConsoleView, query: str, before_offset: int) -> None:
            super().__init__()
            self.view = view
            self.query_text = query
            self.before_offset = before_offset

        @property
        def control(self) -> ConsoleView:
            return self.view

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines = ConsoleLines()
        self._input = SearchInput(placeholder="search: Enter finds, Escape ends", compact=True, select_on_focus=True)
        self._status = ConsoleStatus()
        self._state = ""
        self._active = True

    def compose(self) -> ComposeResult:
        """Lines, search, status."""
        yield self._lines
        yield self._input
        yield self._status

    # --- public verbs

    @property
    def lines(self) -> ConsoleLines:
        """The lines themselves."""
        return self._lines

    def show(self, picture: ConsolePicture) -> None:
        """Draw a newer picture of the same console."""
        self._lines.show(picture)
        self._say()

    def clear(self) -> None:
        """Forget everything: another run's console comes."""
        self._lines.look_for("")
        self._lines.follow = True
        self.show(ConsolePicture(missing=True))

    def show_state(self, state: str, active: bool) -> None:
        """The run's state in a word, and whether more can come."""
        self._state, self._active = state, active
        self._say()

    # --- search

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The keys of a search exist only while there is one."""
        if action in ("step", "end_search"):
            return self._lines.search is not None
        return True

    def action_search(self) -> None:
        """Open the search."""
        self._input.add_class("-open")
        self._input.focus()

    def action_step(self, forward: bool) -> None:
        """The next or previous match."""
        search, before = self._lines.search, self._lines.current
        self._lines.step(forward)
        wrapped = search is not None and not forward and (before is None or search.rank(before) <= 1)
        earlier = self._lines.picture.earlier_bytes
        if wrapped and earlier and search is not None and (before is not None or not search.places):
            self.post_message(self.EarlierWanted(self, search.query, earlier))
        self._say()

    def action_end_search(self) -> None:
        """No search, no highlights."""
        self._input.value = ""
        self._input.remove_class("-open")
        self._lines.look_for("")
        self._lines.focus()
        self._say()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._lines.look_for(event.value)
        self._say()

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        self._input.remove_class("-open")
        self._lines.focus()
        if event.value:
            self.action_step(False)
        self.refresh_bindings()

    @on(SearchInput.GivenUp)
    def _given_up(self, event: SearchInput.GivenUp) -> None:
        event.stop()
        self.action_end_search()

    # --- the status line

    def on_mount(self) -> None:
        """Words from the start."""
        self._say()

    @on(ConsoleLines.Moved)
    def _moved(self, event: ConsoleLines.Moved) -> None:
        event.stop()
        self._say()

    def _say(self) -> None:
        """Put what is being looked at into words."""
        words = [self._place_words(), *self._search_words(), *self._state_words()]
        picture = self._lines.picture
        words.append((f"{fmt.count(len(picture.lines))} lines", "muted"))
        if picture.earlier_bytes:
            words.append((f"{fmt.size(picture.earlier_bytes)} earlier in console.log", "muted"))
        self._status.words = tuple(words)

    def _place_words(self) -> tuple[str, str]:
        lines = self._lines
        if lines.follow:
            return ("following", "good") if self._active else ("at the end", "text")
        below = max(0, lines.picture.end - lines.top - lines.size.height)
        return f"paused, {fmt.count(below)} lines below (f follows)", "warn"

    def _search_words(self) -> list[tuple[str, str]]:
        search = self._lines.search
        if search is None:
            return []
        if not search.places:
            return [(f"no match for “{search.query}”", "bad")]
        count = f"{fmt.count(len(search.places))}{'+' if search.more else ''}"
        rank = search.rank(self._lines.current)
        return [(f"match {fmt.count(rank)} of {count}" if rank else f"{count} matches", "accent")]

    def _state_words(self) -> list[tuple[str, str]]:
        if not self._state:
            return []
        if self._state in STALE:
            return [(f"stale: {self._state}", "warn")]
        if self._state == "stalled":
            return [("stalled: nothing printed for longer than usual", "warn")]
        return [(self._state, "good")] if self._active else [(f"ended: {self._state}", "text")]
