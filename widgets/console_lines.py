"""`ConsoleLines`: the lines of a console, drawn one visible line at a time."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from ..engine.console import Colour, ConsolePicture, Line, TextStyle, plain
from .console_search import Place, Search

EMPTY = "nothing printed yet"
MISSING = "no console yet: the run has not started"


class ConsoleLines(ScrollView, can_focus=True):
    """A log that follows its end, until somebody scrolls up.

    Reactives
    ---------
    follow: whether the view sticks to the last line.
    """

    ALLOW_SELECT = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "Follow", id="console.follow", tooltip="Stay at the end while lines arrive"),
        Binding("end,G", "follow", "End", show=False, id="console.end", tooltip="Go to the end and follow"),
        Binding("home,g", "first", "Top", show=False, id="console.first", tooltip="The oldest line kept"),
        Binding(
            "pageup", "page_up", "Page up", show=False, id="console.pageup", tooltip="One page up; stops following"
        ),
        Binding("up,k", "scroll_up", "Up", show=False, id="console.up", tooltip="One line up; stops following"),
        Binding("down,j", "scroll_down", "Down", show=False, id="console.down", tooltip="One line down"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "console-lines--match",
        "console-lines--current",
        "console-lines--empty",
    }
    DEFAULT_CSS = """
    ConsoleLines { height: 1fr; background: $surface; color: $foreground; scrollbar-size: 1 1; }
    ConsoleLines > .console-lines--match { background: $warning 40%; color: $foreground; }
    ConsoleLines > .console-lines--current { background: $warning; color: $background; text-style: bold underline; }
    ConsoleLines > .console-lines--empty { color: $text-muted; }
    """

    follow: reactive[bool] = reactive(True, init=False)

    class Moved(Message):
        """The view follows or has stopped to, or shows other lines."""

        def __init__(self, lines: ConsoleLines) -> None:
            super().__init__()
            self.lines = lines

        @property
        def control(self) -> ConsoleLines:
            return self.lines

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.picture = ConsolePicture(missing=True)
        self.search: Search | None = None
        self.current: Place | None = None
        self._width = 0
        self._measured = 0
        self._pinning = False

    @property
    def allow_select(self) -> bool:
        return True

    @property
    def top(self) -> int:
        """Number of the first visible line."""
        return self.picture.first + round(self.scroll_offset.y)

    # --- public verbs

    def show(self, picture: ConsolePicture) -> None:
        """Draw a newer picture; without `follow` the same lines stay in view even when old ones go."""
        gone = picture.first - self.picture.first
        if gone < 0 or picture.end < self.picture.settled:
            self._width = self._measured = gone = 0
        self.picture = picture
        self._measure()
        if self.search is not None:
            self.search.update(picture)
        self._pinning = True
        try:
            self.virtual_size = Size(self._width, len(picture.lines))
            if self.follow:
                self._pin()
            elif gone:
                self.scroll_to(y=max(0, round(self.scroll_offset.y) - gone), animate=False, immediate=True)
        finally:
            self._pinning = False
        self.refresh()

    def look_for(self, query: str) -> None:
        """Highlight every place of `query`; an empty one ends the search."""
        self.search = Search(query) if query else None
        self.current = None
        if self.search is not None:
            self.search.update(self.picture)
        self.refresh()

    def step(self, forward: bool) -> bool:
        """Go to the next or previous place; False when there is none."""
        if self.search is None:
            return False
        line = self.top if self.current is not None or not self.follow else self.picture.end
        place = self.search.step(self.current, forward, line)
        if place is None:
            return False
        self.current = place
        self._bring_into_view(place)
        self.refresh()
        return True

    # --- watchers and actions

    def watch_follow(self, follow: bool) -> None:
        """Go to the end, and say so."""
        if follow:
            self._pin()
        self.post_message(self.Moved(self))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Scrolling up stops following; reaching the end starts it again."""
        super().watch_scroll_y(old_value, new_value)
        if self._pinning or round(old_value) == round(new_value):
            return
        at_end = round(new_value) >= self.max_scroll_y
        if new_value < old_value and not at_end:
            self.follow = False
        elif new_value > old_value and at_end:
            self.follow = True
        self.post_message(self.Moved(self))

    def on_resize(self) -> None:
        """The end moves with the height."""
        if self.follow:
            self._pin()

    def action_follow(self) -> None:
        """Stick to the end."""
        self.follow = True
        self._pin()

    def action_scroll_up(self) -> None:
        """One line up; at once, since lines that arrive during a smooth movement would undo it."""
        self._leave_end()
        self.scroll_relative(y=-1, animate=False)

    def action_page_up(self) -> None:
        """One page up."""
        self._leave_end()
        self.scroll_relative(y=-max(1, self.size.height - 1), animate=False)

    def on_mouse_scroll_up(self) -> None:
        """The wheel stops following too."""
        self._leave_end()

    def _leave_end(self) -> None:
        if self.max_scroll_y > 0:
            self.follow = False

    def action_first(self) -> None:
        """The oldest line kept."""
        self._leave_end()
        self.scroll_to(y=0, animate=False)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text, without styles."""
        return selection.extract("\n".join(plain(line) for line in self.picture.lines)), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Draw the selection."""
        self.refresh()

    # --- rendering

    def render_line(self, y: int) -> Strip:
        """One visible line."""
        scroll_x, scroll_y = self.scroll_offset
        width, index = self.size.width, y + scroll_y
        base = self.rich_style
        if index >= len(self.picture.lines):
            return self._beyond(y, width, base)
        line = self.picture.lines[index]
        segments = self._marked(index, line, base) or [Segment(text, base + rich_style(style)) for text, style in line]
        return Strip(segments).crop_extend(scroll_x, scroll_x + width, base).apply_offsets(scroll_x, index)

    def _beyond(self, y: int, width: int, base: Style) -> Strip:
        if self.picture.lines or y != min(1, self.size.height - 1):
            return Strip.blank(width, base)
        words = MISSING if self.picture.missing else EMPTY
        style = base + self.get_component_rich_style("console-lines--empty")
        return Strip([Segment(f"  {words}", style)]).adjust_cell_length(width, base)

    def _marked(self, index: int, line: Line, base: Style) -> list[Segment]:
        """The line with its matches and the selection; empty when it has neither."""
        number = self.picture.first + index
        places = self.search.on_line(number) if self.search is not None else []
        selection = self.text_selection
        span = selection.get_span(index) if selection is not None else None
        if not places and span is None:
            return []
        text = Text(end="", no_wrap=True, style=base)
        for part, style in line:
            text.append(part, rich_style(style))
        for place in places:
            name = "current" if place == self.current else "match"
            text.stylize(self.get_component_rich_style(f"console-lines--{name}"), place.start, place.end)
        if span is not None:
            start, end = span
            selected = self.screen.get_component_rich_style("screen--selection")
            text.stylize(selected, start, len(text) if end == -1 else end)
        return list(text.render(self.app.console))

    def _bring_into_view(self, place: Place) -> None:
        row = place.line - self.picture.first
        top, height = round(self.scroll_offset.y), max(1, self.size.height)
        if not top <= row < top + height:
            self.scroll_to(y=max(0, row - height // 2), animate=False, immediate=True)
        column = cell_len(plain(self.picture.lines[row])[: place.end])
        left = 0 if column < self.size.width else column - self.size.width // 2
        self.scroll_to(x=left, animate=False, immediate=True)

    def _pin(self) -> None:
        pinning, self._pinning = self._pinning, True
        self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True, force=True)
        self._pinning = pinning

    def _measure(self) -> None:
        """The widest line; only lines that are new or may have changed are measured."""
        start = max(0, min(self._measured, self.picture.settled) - self.picture.first)
        lines = self.picture.lines[start:] if start else self.picture.lines
        widest = max((_cells(plain(line)) for line in lines), default=0)
        self._width = max(self._width, widest)
        self._measured = self.picture.settled


def _cells(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


@lru_cache(maxsize=4096)
def rich_style(style: TextStyle) -> Style:
    """A program's style in rich's terms: colours and weight, and nothing that could do anything else."""
    return Style(
        color=_rich_colour(style.fg),
        bgcolor=_rich_colour(style.bg),
        bold=style.bold or None,
        dim=style.dim or None,
        italic=style.italic or None,
        underline=style.underline or None,
        reverse=style.reverse or None,
        strike=style.strike or None,
    )


def _rich_colour(colour: Colour) -> Color | None:
    if colour is None:
        return None
    return Color.from_ansi(colour) if isinstance(colour, int) else Color.from_rgb(*colour)
