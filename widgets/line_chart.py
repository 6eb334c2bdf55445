"""`LineChart`: one honest chart of metrics, drawn in braille, with a crosshair.

What it promises is in `plotting/`: every spike and NaN shows at any length, the y range is robust and says what it
leaves out. This file is only the widget around the picture: reactives in, keys and mouse, `CrosshairMoved` out.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget

from ..engine.series_view import X_AXES, XAxis
from .plotting.canvas import Canvas
from .plotting.colours import bright, build_styles
from .plotting.crosshair import with_crosshair
from .plotting.data import ChartData, ChartOptions
from .plotting.hold import with_legend
from .plotting.picture import Picture, paint
from .plotting.ranges import full_x_range
from .plotting.scale import Scale

SMOOTHINGS: tuple[float | None, ...] = (None, 0.0, 0.6, 0.9, 0.97, 0.99, 0.999)
"""What the smoothing key steps through; None chooses by the number of points."""
ZOOM = 1.5
CURVES_S = 1.0
"""Curves follow the newest points once in so many seconds; the legend, and whatever leaves the axes, at once."""
MOST_ZOOM = 1e6
"""The window is never narrower than this part of the whole."""


class LineChart(Widget, can_focus=True):
    """Metrics over step, epoch or time.

    Give it a complete `ChartData`; it redraws when that is unequal to the last one.
    """

    DEFAULT_CSS = """
    LineChart { height: 1fr; width: 1fr; min-height: 1; background: $surface; color: $foreground; }
    LineChart:focus { background-tint: $foreground 4%; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "Left", show=False, id="chart.left", tooltip="Crosshair one column left"),
        Binding("right", "move(1)", "Right", show=False, id="chart.right", tooltip="Crosshair one column right"),
        Binding("shift+left", "move(-10)", "Far left", show=False, id="chart.far-left", tooltip="Ten columns left"),
        Binding("shift+right", "move(10)", "Far right", show=False, id="chart.far-right", tooltip="Ten columns right"),
        Binding("home", "end(0)", "First", show=False, id="chart.first", tooltip="Crosshair to the left edge"),
        Binding("end", "end(1)", "Last", show=False, id="chart.last", tooltip="Crosshair to the right edge"),
        Binding("escape", "hide", "Hide crosshair", show=False, id="chart.hide", tooltip="Hide the crosshair"),
        Binding("plus,equals_sign", "zoom(1)", "Zoom in", show=False, id="chart.zoom-in", tooltip="Zoom in"),
        Binding("minus", "zoom(-1)", "Zoom out", show=False, id="chart.zoom-out", tooltip="Zoom out"),
        Binding("left_square_bracket", "pan(-1)", "Pan left", show=False, id="chart.pan-left", tooltip="Earlier"),
        Binding("right_square_bracket", "pan(1)", "Pan right", show=False, id="chart.pan-right", tooltip="Later"),
        Binding("0", "reset", "Show all", show=False, id="chart.reset", tooltip="Undo zoom and pan"),
        Binding("l", "toggle_log_y", "Log y", show=False, id="chart.log-y", tooltip="Logarithmic y axis on or off"),
        Binding("L", "toggle_log_x", "Log x", show=False, id="chart.log-x", tooltip="Logarithmic x axis on or off"),
        Binding("x", "next_x_axis", "X axis", show=False, id="chart.x-axis", tooltip="By step, epoch or time"),
        Binding("m", "smooth(1)", "Smoother", show=False, id="chart.smoother", tooltip="More smoothing, then auto"),
        Binding("M", "smooth(-1)", "Rougher", show=False, id="chart.rougher", tooltip="Less smoothing"),
        Binding(
            "u", "toggle_full_range", "Outliers", show=False, id="chart.outliers", tooltip="Full y range or robust"
        ),
    ]

    data: reactive[ChartData] = reactive(ChartData(), repaint=False)
    """The series, complete; replaced as a whole."""
    title: reactive[str] = reactive("")
    """Written above the plot."""
    x_axis: reactive[XAxis] = reactive[XAxis]("step")
    """What x means; changing it forgets the zoom and the crosshair."""
    log_x: reactive[bool] = reactive(False)
    log_y: reactive[bool] = reactive(False)
    smoothing: reactive[float | None] = reactive[float | None](None)
    """Weight of the debiased exponential average, 0 (raw) to below 1; None chooses by the number of points."""
    full_range: reactive[bool] = reactive(False)
    """Whether the y axis reaches to the farthest outlier."""
    window: reactive[tuple[float, float] | None] = reactive[tuple[float, float] | None](None)
    """Visible x range; None is everything. A window that ends at the newest point follows it."""
    crosshair: reactive[float | None] = reactive[float | None](None)
    """X of the crosshair; None hides it. Setting it posts nothing, so charts can be linked without echo."""

    class CrosshairMoved(Message):
        """The user moved the crosshair of `chart` to `x` on `axis`; None when it was hidden."""

        def __init__(self, chart: LineChart, x: float | None, axis: XAxis) -> None:
            super().__init__()
            self.chart, self.x, self.axis = chart, x, axis

        @property
        def control(self) -> LineChart:
            """The chart that was moved on."""
            return self.chart

    def __init__(
        self, data: ChartData | None = None, *, title: str = "", id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._picture: Picture | None = None
        self._before: Picture | None = None
        self._shown: Canvas | None = None
        self._strips: dict[int, Strip] = {}
        self._painted = 0.0
        self._late: Timer | None = None
        self._seen = False
        self._styles: list[Style] | None = None
        self.set_reactive(LineChart.title, title)
        if data is not None:
            self.set_reactive(LineChart.data, data)

    # --- what changes the picture

    def on_mount(self) -> None:
        """Follow the theme."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self._repaint())

    def on_resize(self) -> None:
        """Another size, another picture."""
        self._repaint()

    def notify_style_update(self) -> None:
        """Focus and theme change the background, which is part of every style."""
        super().notify_style_update()
        self._styles = None
        self._strips.clear()

    def watch_data(self, before: ChartData, after: ChartData) -> None:
        """New points; a window at the right edge moves along."""
        if self.window is not None:
            old, new = full_x_range(before, self.x_axis), full_x_range(after, self.x_axis)
            if old and new and new[1] > self.window[1] >= old[1]:
                moved = new[1] - self.window[1]
                self.window = (self.window[0] + moved, self.window[1] + moved)
        self._grow()

    def watch_x_axis(self) -> None:
        """X of one axis means nothing on another."""
        self.window = None
        self.crosshair = None
        self._repaint()

    def watch_log_x(self) -> None:
        """The crosshair stays, the dots move."""
        self._repaint()

    watch_title = watch_log_y = watch_smoothing = watch_full_range = watch_window = watch_log_x

    def watch_crosshair(self) -> None:
        """Only the overlay changes; the picture below is kept."""
        self._forget()

    def watch_has_focus(self, value: bool) -> None:
        """The bar beside the title comes and goes."""
        super().watch_has_focus(value)
        self._forget()

    def _repaint(self) -> None:
        self._picture = self._before = self._styles = None
        self._forget()
        self.refresh()

    def _forget(self) -> None:
        """What is on screen is no longer right."""
        self._shown = None
        self._strips.clear()

    def _grow(self) -> None:
        """Have the cells drawn that new points change; while nobody looks (another tab is in front), nothing."""
        shown, before = self._shown, self._picture
        if before is None or shown is None or not self._seen or (shown.width, shown.height) != self.size:
            self._before, self._picture = before or self._before, None
            self._forget()
            self.refresh()
            return
        self._before = before
        self._picture = with_legend(before, self.data) if time.monotonic() - self._painted < CURVES_S else None
        if self._picture is not None and self._late is None:
            self._late = self.set_timer(2 * CURVES_S, self._catch_up)
        self._update(shown)

    def _catch_up(self) -> None:
        """Nothing more came: draw the curves to the newest point."""
        self._late = None
        shown = self._shown
        if shown is not None and self._picture is not None:
            self._before, self._picture = self._picture, None
            self._update(shown)

    def _update(self, shown: Canvas) -> None:
        """Have only that drawn in which the picture differs from what is shown."""
        self._shown = self._overlay()
        changes = self._shown.changes(shown)
        if changes:
            for y, _, _ in changes:
                self._strips.pop(y, None)
            self._seen = False
            self.refresh(*(Region(start, y, end - start, 1) for y, start, end in changes))

    # --- render

    @property
    def options(self) -> ChartOptions:
        """The reactives as one value."""
        return ChartOptions(
            self.title, self.x_axis, self.log_x, self.log_y, self.smoothing, self.full_range, self.window
        )

    @property
    def picture(self) -> Picture:
        """The chart as painted for the current size."""
        if self._picture is None:
            self._picture = paint(self.data, self.options, self.size.width, self.size.height, self._before)
            self._before = None
            self._painted = time.monotonic()
            if self._late is not None:
                self._late.stop()
                self._late = None
        return self._picture

    def render_lines(self, crop: Region) -> list[Strip]:
        """The rows as painted, kept until they change.

        Textual's way from `render_line` to the screen costs more than painting: it looks up every style for every row.
        A chart has nothing around or over it; one that somebody gives a border goes that way.
        """
        self._seen = True
        styles = self.styles
        if self.gutter or self.opacity < 1 or styles.tint.a or styles.outline_top[0]:
            return super().render_lines(crop)
        for y in crop.line_range:
            if y not in self._strips:
                self._strips[y] = self.render_line(y)
        strips = [self._strips[y] for y in crop.line_range]
        start, end = crop.column_span
        return strips if (start, end) == (0, self.size.width) else [strip.crop(start, end) for strip in strips]

    def render_line(self, y: int) -> Strip:
        """One row of the picture, crosshair included."""
        if self._shown is None:
            self._shown = self._overlay()
        if y >= self._shown.height or self._shown.width == 0:
            return Strip.blank(self.size.width, self.rich_style)
        return self._shown.strip(y, self._style_table())

    def _overlay(self) -> Canvas:
        """The picture with what moves over it: the crosshair, and a bar beside the title of the chart in focus."""
        picture = self.picture
        canvas = picture.canvas if self.crosshair is None else with_crosshair(picture, self.crosshair)
        if self.has_focus and picture.frame.legend > 0:
            canvas = canvas.copy()
            canvas.text(0, 0, "▌", bright(0))
        return canvas

    def _style_table(self) -> list[Style]:
        if self._styles is None:
            _, background = self.background_colors
            table = build_styles(self.app.theme_variables, self.styles.color, background).table()
            cells = [Segment(" ", style) for style in table]
            for line_filter in self.get_line_filters():
                cells = line_filter.apply(cells, background)
            self._styles = [cell.style or Style.null() for cell in cells]
        return self._styles

    # --- crosshair

    def point_at(self, x: float | None) -> None:
        """Move the crosshair and say so."""
        self.crosshair = x
        self.post_message(self.CrosshairMoved(self, x, self.x_axis))

    def action_move(self, cells: int) -> None:
        """Move the crosshair by columns; it appears at the newest point."""
        frame = self.picture.frame
        column = None if self.crosshair is None else self.picture.column_of(self.crosshair)
        if column is None:
            column = frame.left + (frame.columns - 1 if self.crosshair is None or cells < 0 else 0)
        else:
            column += cells
        self.point_at(self.picture.x_at(column))

    def action_end(self, side: int) -> None:
        """Crosshair to the left or right edge."""
        frame = self.picture.frame
        self.point_at(self.picture.x_at(frame.left + side * frame.columns))

    def action_hide(self) -> None:
        """No crosshair."""
        self.point_at(None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape is the chart's only while it has a crosshair to hide."""
        return action != "hide" or self.crosshair is not None

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """The crosshair follows the pointer over the plot."""
        offset = event.get_content_offset(self)
        frame = self.picture.frame
        if offset is not None and frame.left <= offset.x < frame.left + frame.columns:
            self.point_at(self.picture.x_at(offset.x))

    # --- zoom and pan

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Zoom in at the pointer."""
        self._scroll(event, 1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Zoom out at the pointer."""
        self._scroll(event, -1)

    def _scroll(self, event: events.MouseEvent, steps: int) -> None:
        event.stop()
        event.prevent_default()
        offset = event.get_content_offset(self)
        frame = self.picture.frame
        if event.shift:
            self.action_pan(-steps)
        elif offset is not None and frame.columns:
            self._zoom(steps, (offset.x - frame.left + 0.5) / frame.columns)

    def action_zoom(self, steps: int) -> None:
        """Zoom about the crosshair; without one about the newest point."""
        scale = self.picture.x
        at = 1.0 if scale is None or self.crosshair is None else float(scale.unit(self.crosshair))
        self._zoom(steps, at)

    def _zoom(self, steps: int, at: float) -> None:
        at = min(1.0, max(0.0, at))
        width = ZOOM**-steps
        self._look(at - at * width, at + (1 - at) * width)

    def action_pan(self, steps: int) -> None:
        """Move the window by a quarter of itself."""
        if self.window is not None:
            self._look(0.25 * steps, 1 + 0.25 * steps)

    def _look(self, start: float, end: float) -> None:
        """Show the part of the axis between two places of the current one (0 and 1 are its ends)."""
        scale, extent = self.picture.x, full_x_range(self.data, self.x_axis)
        if scale is None or extent is None:
            return
        low, high = float(scale.value(start)), float(scale.value(end))
        least = (extent[1] - extent[0]) / MOST_ZOOM
        if high - low < least:
            return
        first = extent[0] if extent[0] > 0 or not self.log_x else Scale(*_all(self).edges(1)).low
        if low <= first and high >= extent[1]:
            self.window = None
            return
        # Panning stops at the ends of the data.
        if low < first:
            low, high = first, min(extent[1], high + (0 if self.log_x else first - low))
        elif high > extent[1]:
            low, high = max(first, low - (0 if self.log_x else high - extent[1])), extent[1]
        if high > low:
            self.window = (low, high)

    def action_reset(self) -> None:
        """Everything again."""
        self.window = None

    # --- manner

    def action_toggle_log_y(self) -> None:
        """Logarithmic y axis on or off."""
        self.log_y = not self.log_y

    def action_toggle_log_x(self) -> None:
        """Logarithmic x axis on or off."""
        self.log_x = not self.log_x

    def action_toggle_full_range(self) -> None:
        """Y axis to the farthest outlier, or robust."""
        self.full_range = not self.full_range

    def action_next_x_axis(self) -> None:
        """Step, epoch, time."""
        self.x_axis = X_AXES[(X_AXES.index(self.x_axis) + 1) % len(X_AXES)]

    def action_smooth(self, direction: int) -> None:
        """The next smoothing in the list, around its end."""
        at = SMOOTHINGS.index(self.smoothing) if self.smoothing in SMOOTHINGS else 0
        self.smoothing = SMOOTHINGS[(at + direction) % len(SMOOTHINGS)]


def _all(chart: LineChart) -> Scale:
    """The x axis without a window."""
    return paint(chart.data, replace(chart.options, window=None), 1, 1).x or Scale(0.0, 1.0)
