"""Machine readings as charts: one chart a measure with a line per GPU, over time or over a run's steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from ..engine.machine_series import StepClock, gpu_of, with_steps
from ..engine.series_view import SeriesView
from .chart_grid import ChartGrid
from .line_chart import LineChart
from .plotting.colours import SLOTS
from .plotting.data import ChartSeries
from .plotting.groups import Group, matcher

TITLES = {"%": "GPU utilisation %", "memory GiB": "GPU memory GiB", "°C": "GPU temperature °C", "W": "GPU power W"}


class MachineChart(LineChart):
    """A chart over time; `x` is time or, where the run has steps, steps."""

    has_steps = False

    def action_next_x_axis(self) -> None:
        """Time, steps. A machine knows no epochs."""
        self.x_axis = "step" if self.has_steps and self.x_axis == "time" else "time"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A host without a run has one axis only."""
        if action == "next_x_axis" and not self.has_steps:
            return False
        return super().check_action(action, parameters)


class MachineCharts(ChartGrid):
    """All readings of a machine; GPUs share a chart per measure (more than eight take another one)."""

    CHART: ClassVar[type[LineChart]] = MachineChart

    def __init__(self, *, steps: bool = False, id: str | None = None) -> None:
        super().__init__(x_axis="time", id=id)
        self._has_steps = steps
        self._clock: Callable[[], StepClock | None] = lambda: None
        self._readings: Mapping[str, SeriesView] = {}
        self._stale: bool | str = False

    def show_machine(
        self,
        series: Mapping[str, SeriesView],
        clock: Callable[[], StepClock | None] | None = None,
        stale: bool | str = False,
    ) -> None:
        """A complete picture. `clock` is asked for the run's steps only while somebody looks at them."""
        self._readings, self._stale = dict(series), stale
        if clock is not None:
            self._clock = clock
        self._show_readings()

    def _show_readings(self) -> None:
        clock = self._clock() if self._shared.get("x_axis") == "step" else None
        self.show(with_steps(self._readings, clock) if clock else self._readings, stale=self._stale)

    def _share(self, name: str, value: object) -> None:
        changed = name == "x_axis" and self._shared.get(name) != value
        super()._share(name, value)
        if changed:
            self._show_readings()

    def _new_chart(self) -> LineChart:
        chart = super()._new_chart()
        if isinstance(chart, MachineChart):
            chart.has_steps = self._has_steps
        return chart

    def _regroup(self) -> None:
        self._groups = machine_groups(self._series, self.pattern)
        self._lay_out()


def machine_groups(series: Mapping[str, SeriesView], pattern: str = "") -> tuple[Group, ...]:
    """GPU measures first, eight GPUs to a chart; then the machine's own, a chart each."""
    matches = matcher(pattern)
    gpus: dict[str, list[tuple[int, SeriesView]]] = {}
    own: list[Group] = []
    for name, view in series.items():
        gpu = gpu_of(name)
        if gpu is None:
            if matches(name):
                own.append(Group(name, (ChartSeries(name, view),)))
        elif matches(name) or matches(TITLES.get(gpu[1], "")):
            gpus.setdefault(gpu[1], []).append((gpu[0], view))
    made = []
    for measure in sorted(gpus, key=lambda m: list(TITLES).index(m) if m in TITLES else len(TITLES)):
        members = sorted(gpus[measure], key=lambda member: member[0])
        for start in range(0, len(members), SLOTS):
            part = members[start : start + SLOTS]
            title = TITLES.get(measure, f"GPU {measure}")
            if len(members) > SLOTS:
                title += f", {part[0][0]} to {part[-1][0]}"
            lines = tuple(ChartSeries(f"gpu{index}", view, index % SLOTS) for index, view in part)
            made.append(Group(title, lines))
    return (*made, *own)
