"""`TrackStack`: all tracks of an item on one time axis, with a playhead that moves without redrawing the picture.

The picture is painted once (`stack_picture`); a move of the playhead touches two columns of cells, and `CellStrip`
sends only those to the terminal. Keys and mouse ask by message for what only the player can do: seek, loop, switch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from .cell_grid import BOLD, CellRow, CellStrip, StyleTable
from .stack_colours import ACCENT, PLAYHEAD, build_palette
from .stack_picture import SHOWS, Show, StackPicture, StackScene, paint_stack
from .time_axis import TimeWindow, region, whole_window
from .track_view import TrackView

ZOOM = 1.6
PAN = 0.25
DRAG_CELLS = 2
"""A button that is let go nearer than this was a click."""
HALF_FULL, FULL_BLOCK = ord("▄"), ord("█")
"""Blocks between these show more ink than ground; what they show most is the ground under the playhead."""


class TrackStack(Widget, can_focus=True):
    """Tracks below each other on a common time axis.

    Reactives
    ---------
    tracks: what there is, complete; replaced as a whole.
    audible: index of the track that is heard.
    position_s: the playhead, None hides it. Setting it is cheap: 20 times a second and more.
    loop: start and end in seconds, or None.
    window: visible stretch; None is everything.
    show: waveforms, spectrograms or both.
    follow: turn the page when the playhead leaves the window.
    words, failed: what to say when there are no tracks.
    """

    ALLOW_SELECT = False
    fineness = 1
    """Columns of a spectrogram that should be read for each cell."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("plus,equals_sign", "zoom(1)", "Zoom in", show=False, id="stack.zoom-in", tooltip="Zoom in"),
        Binding("minus", "zoom(-1)", "Zoom out", show=False, id="stack.zoom-out", tooltip="Zoom out"),
        Binding("0", "reset", "Show all", show=False, id="stack.reset", tooltip="See the whole clip"),
        Binding("z", "zoom_loop", "Zoom to loop", show=False, id="stack.zoom-loop", tooltip="See only the loop"),
        Binding(
            "comma", "pan(-1)", "Earlier", show=False, id="stack.earlier", tooltip="A quarter of the window earlier"
        ),
        Binding("full_stop", "pan(1)", "Later", show=False, id="stack.later", tooltip="A quarter of the window later"),
        Binding("v", "next_show", "Pictures", show=False, id="stack.show", tooltip="Waveforms, spectrograms or both"),
    ]
    DEFAULT_CSS = """
    TrackStack { height: 1fr; width: 1fr; min-height: 1; background: $surface; color: $foreground; }
    """

    tracks: reactive[tuple[TrackView, ...]] = reactive(())
    audible: reactive[int] = reactive(0)
    position_s: reactive[float | None] = reactive[float | None](None, repaint=False)
    loop: reactive[tuple[float, float] | None] = reactive[tuple[float, float] | None](None)
    window: reactive[TimeWindow | None] = reactive[TimeWindow | None](None)
    show: reactive[Show] = reactive[Show]("both")
    follow: reactive[bool] = reactive(True)
    words: reactive[str] = reactive("")
    failed: reactive[bool] = reactive(False)
    colours: reactive[str] = reactive("magma")

    class SeekWanted(Message):
        """A click on the axis: the playhead should go to `seconds`."""

        def __init__(self, stack: TrackStack, seconds: float) -> None:
            super().__init__()
            self.stack, self.seconds = stack, seconds

        @property
        def control(self) -> TrackStack:
            return self.stack

    class LoopWanted(Message):
        """A drag on the ruler: `loop` in seconds."""

        def __init__(self, stack: TrackStack, loop: tuple[float, float]) -> None:
            super().__init__()
            self.stack, self.loop = stack, loop

        @property
        def control(self) -> TrackStack:
            return self.stack

    class TrackWanted(Message):
        """A click on a label: the track with this index should be heard."""

        def __init__(self, stack: TrackStack, index: int) -> None:
            super().__init__()
            self.stack, self.index = stack, index

        @property
        def control(self) -> TrackStack:
            return self.stack

    class WindowChanged(Message):
        """Other seconds are visible: a closer look may need `TrackView.detail` or a finer spectrogram."""

        def __init__(self, stack: TrackStack, window: TimeWindow) -> None:
            super().__init__()
            self.stack, self.window = stack, window

        @property
        def control(self) -> TrackStack:
            return self.stack

    def __init__(self, tracks: Sequence[TrackView] = (), *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._picture: StackPicture | None = None
        self._rows: dict[int, CellRow] = {}
        self._strips: list[CellStrip] = []
        self._styles: StyleTable | None = None
        self._column: int | None = None
        self._touched: set[int] = set()
        self._drag: tuple[int, int] | None = None
        self._dragged: TimeWindow | None = None
        self.set_reactive(TrackStack.tracks, tuple(tracks))

    # --- what there is

    @property
    def duration_s(self) -> float:
        """Length of the longest track."""
        return max((track.seconds for track in self.tracks), default=0.0)

    @property
    def whole(self) -> TimeWindow:
        """The window that shows everything."""
        return whole_window(self.duration_s)

    @property
    def view(self) -> TimeWindow:
        """The seconds on screen."""
        return self.whole if self.window is None else self.window.inside(self.whole)

    @property
    def picture(self) -> StackPicture:
        """The picture as painted for the current size."""
        if self._picture is None:
            loop = self.loop if self._dragged is None else (self._dragged.start, self._dragged.end)
            scene = StackScene(
                self.tracks, self.audible, self.view, loop, self.show, self.has_focus, self.words, self.failed
            )
            self._picture = paint_stack(scene, self.size.width, self.size.height)
            self._column = self._playhead_column()
        return self._picture

    # --- watchers

    def on_mount(self) -> None:
        """Follow the theme."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self._recolour())

    def on_resize(self) -> None:
        """Another size, another picture."""
        self._repaint()

    def notify_style_update(self) -> None:
        """Other colours."""
        super().notify_style_update()
        self._styles = None
        self._rows, self._strips = {}, []

    def watch_tracks(self) -> None:
        """Another item, or more of this one is known."""
        self._repaint()

    watch_audible = watch_loop = watch_show = watch_words = watch_failed = watch_tracks

    def watch_has_focus(self, value: bool) -> None:
        """The bar in the corner comes and goes."""
        super().watch_has_focus(value)
        self._repaint()

    def watch_window(self) -> None:
        """Paint it, and say so."""
        self._repaint()
        self.post_message(self.WindowChanged(self, self.view))

    def watch_colours(self) -> None:
        """Another colour map."""
        self._recolour()

    def watch_position_s(self, position: float | None) -> None:
        """Move the playhead: the column it leaves and the one it enters, nothing else."""
        if self._picture is None:
            return
        if position is not None and not math.isfinite(position):
            position = None
        if self.follow and self.window is not None and position is not None and self._drag is None:
            view = self.view
            if not view.start <= position <= view.end:
                self.window = view.moved(position - view.start, self.whole)
                return
        column = self._playhead_column()
        if column == self._column:
            return
        for x in (self._column, column):
            if x is not None:
                self._touched.add(x)
                self.refresh(Region(x, 0, 1, self.size.height))
        self._column = column
        self._strips = []

    def _playhead_column(self) -> int | None:
        picture = self._picture
        return None if picture is None or self.position_s is None else picture.column_of(self.position_s)

    def _repaint(self) -> None:
        self._picture, self._rows, self._strips = None, {}, []
        self.refresh()

    def _recolour(self) -> None:
        self._styles = None
        self._repaint()

    # --- rendering

    @property
    def columns(self) -> int:
        """Cells that show time: a spectrogram made for so many columns is drawn as it is."""
        return self.picture.columns

    def render_lines(self, crop: Region) -> list[Strip]:
        """The rows, with the playhead laid over; kept until something changes."""
        width, height = self.size
        grid = self.picture.grid
        if (grid.width, grid.height) != (width, height):
            # Textual may draw a widget in its new size before it hears of its `Resize`.
            self._repaint()
        if not self._strips:
            self._strips = [self._strip(y) for y in range(height)]
        # Only this very drawing may step over cells; a later one may have to repair what something else left here.
        changed = _stretches(self._touched)
        self._touched.clear()
        for strip in self._strips:
            strip.changed = changed
        strips: list[Strip] = list(self._strips[crop.y : crop.bottom])
        whole = crop.column_span == (0, width)
        return strips if whole else [Strip.crop(strip, *crop.column_span) for strip in strips]

    def render_line(self, y: int) -> Strip:
        """One row."""
        return self.render_lines(Region(0, y, self.size.width, 1))[0]

    def _style_table(self) -> StyleTable:
        if self._styles is None:
            _, background = self.background_colors
            palette = build_palette(self.app.theme_variables, self.styles.color, background, self.colours)
            filters = self.get_line_filters()

            def filtered(style: Style) -> Style:
                cells = [Segment(" ", style)]
                for line_filter in filters:
                    cells = line_filter.apply(cells, background)
                return cells[0].style or Style.null()

            self._styles = StyleTable(palette, filtered if filters else None)
        return self._styles

    def _strip(self, y: int) -> CellStrip:
        """A row with the playhead's cell in it, where the playhead crosses it."""
        picture, table = self.picture, self._style_table()
        row = self._rows.get(y)
        if row is None:
            row = self._rows[y] = picture.grid.row(y, table)
        x, grid = self._column, picture.grid
        if x is not None and y in picture.crossed:
            if y == 0:
                return CellStrip(row.with_cell(x, Segment("▼", table[ACCENT << 8 | BOLD])))
            inked = HALF_FULL <= grid.chars[y, x] <= FULL_BLOCK
            ground = int(grid.ink[y, x] if inked else grid.ground[y, x])
            row = row.with_cell(x, Segment("│", table[PLAYHEAD << 8 | ground | BOLD]))
        return CellStrip(row)

    # --- keys

    def action_zoom(self, steps: int) -> None:
        """Zoom about the playhead, or about the middle where it is not in view."""
        view, at = self.view, self.position_s
        if at is None or not view.start <= at <= view.end:
            at = (view.start + view.end) / 2
        self._zoom(steps, at)

    def action_reset(self) -> None:
        """Everything."""
        self.window = None

    def action_zoom_loop(self) -> None:
        """The loop and nothing else; everything without one."""
        self.window = None if self.loop is None else region(*self.loop, self.whole)

    def action_pan(self, steps: int) -> None:
        """By a quarter of the window."""
        if self.window is not None:
            self._look(self.view.moved(steps * PAN * self.view.length, self.whole))

    def action_next_show(self) -> None:
        """Both, waveforms, spectrograms."""
        self.show = SHOWS[(SHOWS.index(self.show) + 1) % len(SHOWS)]

    def _zoom(self, steps: int, around: float) -> None:
        self._look(self.view.zoomed(ZOOM**-steps, around, self.whole))

    def _look(self, window: TimeWindow) -> None:
        self.window = None if window.length >= self.whole.length else window

    # --- mouse

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Zoom in at the pointer; with shift, earlier."""
        self._wheel(event, 1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Zoom out at the pointer; with shift, later."""
        self._wheel(event, -1)

    def _wheel(self, event: events.MouseEvent, steps: int) -> None:
        event.stop()
        event.prevent_default()
        if event.shift:
            self.action_pan(-steps)
        elif self.tracks:
            self._zoom(steps, self.picture.seconds_at(event.x))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """A drag may begin here: on the ruler it makes a loop, on a picture it chooses what to look at."""
        if event.button == 1 and self.tracks:
            self._drag = (event.x, event.y)
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Show what has been dragged over."""
        if self._drag is not None and abs(event.x - self._drag[0]) >= DRAG_CELLS:
            self._dragged = self._between(self._drag[0], event.x)
            self._repaint()

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Ask for the loop, the window or the place."""
        if self._drag is None:
            return
        y, self._drag = self._drag[1], None
        dragged, self._dragged = self._dragged, None
        self.release_mouse()
        if dragged is not None:
            self._repaint()
            if y == 0:
                self.post_message(self.LoopWanted(self, (dragged.start, dragged.end)))
            else:
                self._look(dragged)
            return
        lane = self.picture.lane_at(y)
        if lane is not None and y == lane.top:
            self.post_message(self.TrackWanted(self, lane.track))
        else:
            self.post_message(self.SeekWanted(self, self.picture.seconds_at(event.x)))

    def _between(self, first: int, last: int) -> TimeWindow:
        """The seconds between two columns, both included."""
        picture = self.picture
        left, right = sorted((first, last))
        start, end = (picture.window.seconds(x - picture.left, picture.columns) for x in (left, right + 1))
        return region(start, end, picture.window)


def _stretches(columns: set[int]) -> list[tuple[int, int]]:
    """(first, after the last) of columns that touch each other, which is how the screen joins what it redraws."""
    found: list[tuple[int, int]] = []
    for x in sorted(columns):
        if found and found[-1][1] == x:
            found[-1] = (found[-1][0], x + 1)
        else:
            found.append((x, x + 1))
    return found
