"""`ParallelCoordinates`: runs as lines through what was chosen, what it cost and what came out."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from ..engine.comparing.parallel import Parallel
from ..engine.names import tail
from .plotting.canvas import Canvas, plain_text, shorten
from .plotting.colours import MUTED, STRONG, build_styles
from .plotting.parallel import paint_parallel

LEAST_WIDTH = 24
"""Cells below which axes cannot be told apart."""


class ParallelCoordinates(Widget, can_focus=True):
    """Draws `data`; the run `chosen` is in front, and the line below says its values in words.

    Reactives
    ---------
    data: axes and runs, complete; replaced as a whole.
    chosen: id of the run in front, None for none.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "up,k", "choose(-1)", "Better", show=False, id="parallel.up", tooltip="The run before, by the headline"
        ),
        Binding(
            "down,j", "choose(1)", "Worse", show=False, id="parallel.down", tooltip="The run after, by the headline"
        ),
        Binding("home,g", "edge(0)", "Best", show=False, id="parallel.first", tooltip="The best run"),
        Binding("end,G", "edge(-1)", "Last", show=False, id="parallel.last", tooltip="The last run"),
    ]
    DEFAULT_CSS = """
    ParallelCoordinates { height: 1fr; width: 1fr; background: $surface; color: $foreground; }
    ParallelCoordinates:focus { background-tint: $foreground 4%; }
    """

    data: reactive[Parallel] = reactive(Parallel())
    chosen: reactive[str | None] = reactive[str | None](None)

    class Chosen(Message):
        """Another run was brought to the front."""

        def __init__(self, widget: ParallelCoordinates, run: str) -> None:
            super().__init__()
            self.widget, self.run = widget, run

        @property
        def control(self) -> ParallelCoordinates:
            return self.widget

    def __init__(self, *, empty: str = "no runs to compare", id: str | None = None) -> None:
        super().__init__(id=id)
        self.empty = empty
        self._canvas: Canvas | None = None
        self._styles: list[Style] | None = None

    # --- what changes the picture

    def watch_data(self) -> None:
        """Another picture."""
        self._canvas = None

    watch_chosen = watch_data

    def on_resize(self) -> None:
        """Another size, another picture."""
        self._canvas = None

    def notify_style_update(self) -> None:
        """Colours follow theme and focus."""
        super().notify_style_update()
        self._styles = None

    # --- render

    @property
    def canvas(self) -> Canvas:
        """The picture for the present size."""
        if self._canvas is None:
            self._canvas = self._paint()
        return self._canvas

    def _paint(self) -> Canvas:
        width, height = self.size
        words = self.sentence
        if not words or height < 4 or width < LEAST_WIDTH:
            canvas = paint_parallel(self.data, self.chosen, width, height) if width >= LEAST_WIDTH else None
            if canvas is None or not self.data.axes or not self.data.traces:
                canvas = Canvas(width, height)
                said = self.empty if width >= LEAST_WIDTH or not self.data.axes else "too narrow"
                canvas.text(1, height // 2, shorten(plain_text(said), width - 1), MUTED)
            return canvas
        canvas = Canvas(width, height)
        plot = paint_parallel(self.data, self.chosen, width, height - 1)
        canvas.block(0, 0, plot.chars, plot.styles)
        canvas.text(1, height - 1, shorten(plain_text(words), width - 1), STRONG)
        return canvas

    @property
    def sentence(self) -> str:
        """The chosen run in words, its result first; also of axes that have no room."""
        trace = next((trace for trace in self.data.traces if trace.run == self.chosen), None)
        if trace is None:
            return ""
        told = [
            f"{axis.title.removesuffix(' ↑').removesuffix(' ↓')} {words}"
            for axis, words in zip(self.data.axes, trace.words, strict=True)
        ]
        return f"{tail(trace.run)}: {' · '.join([*told[-1:], *told[:-1]])}"

    def render_line(self, y: int) -> Strip:
        """One row."""
        canvas = self.canvas
        if y >= canvas.height or not canvas.width:
            return Strip.blank(self.size.width, self.rich_style)
        return canvas.strip(y, self._style_table())

    def _style_table(self) -> list[Style]:
        if self._styles is None:
            _, background = self.background_colors
            self._styles = build_styles(self.app.theme_variables, self.styles.color, background).table()
        return self._styles

    # --- actions

    def action_choose(self, runs: int) -> None:
        """Bring the run before or after to the front."""
        ids = [trace.run for trace in self.data.traces]
        if ids:
            at = ids.index(self.chosen) + runs if self.chosen in ids else 0
            self._choose(ids[max(0, min(at, len(ids) - 1))])

    def action_edge(self, place: int) -> None:
        """The first or last run."""
        if self.data.traces:
            self._choose(self.data.traces[place].run)

    def _choose(self, run: str) -> None:
        if run != self.chosen:
            self.chosen = run
            self.post_message(self.Chosen(self, run))
