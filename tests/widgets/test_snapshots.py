"""How every widget looks, alone, at 80x24 and at 120x36, in the deck's own dark theme.

Tests whose names begin with `chart` draw curves: whoever changes how a curve is drawn looks at the new pictures and
writes theirs again with `WAVEDECK_UPDATE_SNAPSHOTS=1 pytest tests/widgets/test_snapshots.py -k chart`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.style import Style
from rich.text import Text
from textual.app import App, ComposeResult
from textual.containers import Container
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Input, Static

from wavedeck.app.themes import DARK
from wavedeck.engine.backup.places import Where
from wavedeck.engine.catalog import RunView
from wavedeck.engine.checkpoints import CheckpointLine
from wavedeck.engine.config.compose import check_field
from wavedeck.engine.config.fields import describe
from wavedeck.engine.feed import Loading
from wavedeck.engine.loss_table import build
from wavedeck.engine.machine import GpuReading
from wavedeck.engine.manifest import GitState, Headline, Manifest
from wavedeck.engine.series import Series, SeriesTable
from wavedeck.engine.series_view import SeriesView
from wavedeck.engine.state import RunState
from wavedeck.engine.summary import Notice
from wavedeck.tests.app.conftest import READING, until
from wavedeck.tests.conftest import Snapshot, screen_text
from wavedeck.tests.fakes.recipe_fake import RECIPE
from wavedeck.tests.fakes.runs import T0, exit_record
from wavedeck.widgets.chart_grid import ChartGrid
from wavedeck.widgets.checkpoint_table import CheckpointTable
from wavedeck.widgets.config_form import ConfigForm
from wavedeck.widgets.config_page import ConfigPage
from wavedeck.widgets.line_chart import LineChart
from wavedeck.widgets.live_table import Column, LiveTable, Row
from wavedeck.widgets.loss_view import LossView
from wavedeck.widgets.palette import Palette
from wavedeck.widgets.plotting.data import ChartData, ChartSeries
from wavedeck.widgets.run_header import RunHeader
from wavedeck.widgets.run_preview import RunPreview
from wavedeck.widgets.runs_table import RunsTable
from wavedeck.widgets.sparkline import sparkline, sparkline_text
from wavedeck.widgets.title_bar import TitleBar

Extent = tuple[int, int]
NOW = T0 + 100.0
pytestmark = [
    pytest.mark.usefixtures("still_clock"),
    pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"]),
]


@pytest.fixture
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands at NOW."""
    monkeypatch.setattr(time, "time", lambda: NOW)


class Stage(App[None]):
    """Widgets one below the other, in our colours."""

    CSS = (
        "Container { height: 1; margin-bottom: 1; } RunHeader { margin-bottom: 1; } .spark { height: 2; padding: 0 1; }"
    )

    def __init__(self, *widgets: Widget) -> None:
        super().__init__()
        self.widgets = widgets
        self.animation_level = "none"
        self.register_theme(DARK)
        self.theme = DARK.name

    def compose(self) -> ComposeResult:
        yield from self.widgets


@asynccontextmanager
async def stage(size: Extent, *widgets: Widget) -> AsyncIterator[Pilot[None]]:
    """The running app."""
    async with Stage(*widgets).run_test(size=size) as pilot:
        await pilot.pause()
        for field in pilot.app.query(Input):
            field.cursor_blink = False
        yield pilot


async def take(pilot: Pilot[None], snapshot: Snapshot, words: str) -> None:
    """The picture, once `words` are on screen."""
    await until(pilot, lambda: words in screen_text(pilot.app), words)
    snapshot.check(pilot.app)


# --- charts


def curve(name: str = "train/loss", count: int = 3000, seed: int = 0) -> Series:
    """A noisy decay with a spike and a NaN."""
    step = np.arange(count)
    noise = 0.05 * np.random.default_rng(seed).standard_normal(count)
    value = 2.0 * np.exp(-step / count * 4) + noise + 0.3
    value[count // 3], value[2 * count // 3] = 40.0, np.nan
    series = Series(name)
    series.extend(step, T0 + step * 0.5, step / 100, value)
    return series


def data_of(*series: Series, **state: object) -> ChartData:
    lines = tuple(ChartSeries(s.name, s.view(), slot, "min") for slot, s in enumerate(series))
    return ChartData(lines, **state)  # type: ignore[arg-type]


def training() -> dict[str, SeriesView]:
    """A run's metrics: one row a step, a validation every twentieth, one loss that is NaN."""
    table, count = SeriesTable(), 240
    step = np.arange(1, count + 1)
    wave = 0.08 * np.sin(step * 1.7) * np.exp(-step / 200)
    loss = 2.0 * np.exp(-step / 60) + 0.15 + wave
    loss[76] = np.nan
    at = np.arange(19, count, 20)
    validation = 2.0 * np.exp(-step[at] / 60) + 0.2
    validation[3] = np.nan
    table.extend(
        step,
        T0 + 0.4 * step,
        step / 20,
        {
            "train/loss": loss,
            "lr": 1e-3 * np.minimum(1.0, step / 20),
            "val/loss": validation,
            "val/balanced_accuracy": 0.95 - 0.8 * np.exp(-step[at] / 50),
        },
        {"val/loss": at, "val/balanced_accuracy": at},
    )
    return {name: series.view() for name, series in table.series.items()}


def losses() -> ChartData:
    views = training()
    return ChartData(
        tuple(ChartSeries(name, views[name], n, "min") for n, name in enumerate(("train/loss", "val/loss")))
    )


async def test_chart_of_noise_a_spike_and_a_nan(size: Extent, snapshot: Snapshot) -> None:
    async with stage(size, LineChart(data_of(curve()), title="loss")) as pilot:
        await take(pilot, snapshot, "× 1 NaN at step 2,000")


async def test_chart_of_two_metrics_on_logarithmic_axes(size: Extent, snapshot: Snapshot) -> None:
    chart = LineChart(losses(), title="loss")
    async with stage(size, chart) as pilot:
        await pilot.press("l", "L")
        await until(pilot, lambda: chart.log_x and chart.log_y, "both axes")
        await take(pilot, snapshot, "val/loss")


async def test_chart_with_crosshair(size: Extent, snapshot: Snapshot) -> None:
    chart = LineChart(losses(), title="loss")
    async with stage(size, chart) as pilot:
        chart.crosshair = 120.0
        await take(pilot, snapshot, "step 120")


async def test_chart_empty_loading_and_stale(size: Extent, snapshot: Snapshot) -> None:
    charts = (
        LineChart(ChartData(), title="empty"),
        LineChart(data_of(curve(), loaded=0.42), title="loading"),
        LineChart(data_of(curve(), stale="no news: host unreachable"), title="stale"),
    )
    async with stage(size, *charts) as pilot:
        await take(pilot, snapshot, "host unreachable")


async def test_chart_grid(size: Extent, snapshot: Snapshot) -> None:
    grid = ChartGrid()
    async with stage(size, grid) as pilot:
        grid.show(training())
        await take(pilot, snapshot, "balanced_accuracy")


async def test_chart_grid_filtered(size: Extent, snapshot: Snapshot) -> None:
    grid = ChartGrid()
    async with stage(size, grid) as pilot:
        grid.show(training())
        grid.charts[0].focus()
        await pilot.press("slash", *"val/b")
        await take(pilot, snapshot, "only val/b")


async def test_chart_run_preview(size: Extent, snapshot: Snapshot) -> None:
    preview = RunPreview()
    async with stage(size, preview) as pilot:
        preview.show_run(RUNNING)
        preview.show_series(training(), Loading(7, 7))
        await take(pilot, snapshot, "train/loss 0.")


# --- runs


def manifest(word: str, **fields: object) -> Manifest:
    facts: dict[str, object] = {
        "id": f"20260921-1426-sousa-{word}",
        "name": "sousa",
        "created": T0,
        "recipe": "sousa",
        "stage": "train",
        "preset": "debug",
        "overrides": ["training.lr=0.001", "data.root=[red]not markup"],
        "command": ["python", "-P", "-m", "wavedeck.engine.pipeline", "/data/runs/a run"],
        "config": {
            "seed": 1,
            "training": {"lr": 0.001, "schedule": {"warmup": 10, "shape": "cosine"}},
            "data": {"root": "[red]not markup", "bands": [0.5, 0.25]},
        },
        "signature": "5f" * 8,
        "cwd": "/home/somebody/project",
        "git": GitState("0123456789abcdef0123456789abcdef01234567", dirty=True),
        "packages": {"numpy": "2.4.0", "torch": "2.14.1"},
        "headline": Headline("val/balanced_accuracy", "max"),
        "price_per_hour": 2.5,
        "tags": ["night"],
    }
    return Manifest(**(facts | fields))  # type: ignore[arg-type]


def run(word: str, state: RunState, **facts: object) -> RunView:
    about = manifest(word)
    known: dict[str, object] = {"manifest": about, "created": T0, "started": T0 + 0.1, "attempt": 1, **facts}
    return RunView(about.id, Path("/data/runs") / about.id, state, **known)  # type: ignore[arg-type]


SPARK = tuple(2.0 * 0.93**n + 0.2 for n in range(40))
PROGRESS = {"step": 1200, "done": 1200.0, "total": 4000.0, "phase": "train", "activity": "training", "spark": SPARK}
BEST = ("val/balanced_accuracy", 0.8731, 1100)
RUNNING = run(
    "brisk-heron", RunState.RUNNING, attempt=2, rate=12.5, eta_s=224.0, best=BEST, last_sign=NOW - 3, **PROGRESS
)
ENDED = {"step": 900, "done": 900.0, "total": 4000.0, "spark": (*SPARK[:20], float("nan")), "ended": T0 + 95.0}
FAILED = run("bold-lynx", RunState.FAILED, exit=exit_record("failed", T0), **ENDED)
KILLED = run("grim-crow", RunState.KILLED, exit=exit_record("killed", T0), nan_counts={"train/loss": 3}, **ENDED)
STALLED = replace(
    RUNNING, id="20260921-1427-sousa-slow-newt", state=RunState.STALLED, rate=None, eta_s=None, last_sign=NOW - 754
)
UNREADABLE = RunView(
    "20260921-1428-sousa-torn-hare",
    Path("/data/runs/torn"),
    RunState.UNREADABLE,
    problem="manifest.json is not JSON: [red]it ends[/red] after 1 byte.",
)


async def test_run_headers(size: Extent, snapshot: Snapshot) -> None:
    notice = Notice(NOW - 30, "warning", "gradient norm 1e6 at step 1,190")
    views = (RUNNING, replace(RUNNING, notices=(notice,)), FAILED, KILLED, STALLED, UNREADABLE, None)
    headers = [RunHeader() for _ in views]
    for header, view in zip(headers, views, strict=True):
        header.set_reactive(RunHeader.view, view)
    async with stage(size, *headers) as pilot:
        await take(pilot, snapshot, "no run selected")


async def test_runs_table(size: Extent, snapshot: Snapshot) -> None:
    command = replace(
        run("wild-boar", RunState.FINISHED, step=50, ended=T0 + 60),
        id="20260921-1400-mine-wild-boar",
        created=T0 - 90_000,
        manifest=manifest("wild-boar", recipe=None, stage=None, name="mine", command=["./train.sh", "-v"]),
    )
    queued = replace(run("mild-toad", RunState.QUEUED, started=None, attempt=None), created=None)
    table = RunsTable()
    async with stage(size, table) as pilot:
        table.show([command, FAILED, KILLED, STALLED, UNREADABLE, RUNNING, queued])
        await pilot.press("down")
        await until(pilot, lambda: table.key == RUNNING.id, "the cursor")
        await take(pilot, snapshot, "wild-boar")


async def test_title_bars(size: Extent, snapshot: Snapshot) -> None:
    gpus = tuple(
        GpuReading(index=n, name="GPU", utilization_pct=percent) for n, percent in enumerate((3.0, 97.0, None))
    )
    reading = msgspec.structs.replace(READING, gpus=gpus)
    readings = (
        None,
        reading,
        msgspec.structs.replace(reading, gpus=(), disk_free=2**30),
        msgspec.structs.replace(reading, host_cpu_pct=None),
    )
    bars = [TitleBar(f"Place {number}") for number in range(len(readings))]
    for bar, machine in zip(bars, readings, strict=True):
        bar.set_reactive(TitleBar.reading, machine)
    bars[1].set_reactive(TitleBar.note, "2 active · 1 failed")
    bars[3].set_reactive(TitleBar.note, "a note that is longer than half the width of a narrow terminal")
    async with stage(size, *(Container(bar) for bar in bars)) as pilot:
        await take(pilot, snapshot, "Place 3")


# --- tables


async def test_live_table(size: Extent, snapshot: Snapshot) -> None:
    wide, note = Column("MODEL", 34, rank=1), Column("NOTE", 40, rank=2)
    table = LiveTable((Column("NAME", 0, least=10), Column("LOSS", 8, right=True), wide, note))
    good = Style(color=DARK.success)
    rows = [Row(n, (Text(f"[red]run {n}"), Text(f"{1 / (n + 1):.4f}", good), "波形 " * 8, "é" * 50)) for n in range(60)]
    async with stage(size, table) as pilot:
        table.show_rows(rows)
        await pilot.pause()
        table.select(40)
        await until(pilot, lambda: table.scroll_offset.y > 0, "the scrolling")
        await take(pilot, snapshot, "[red]run 40")


async def test_empty_live_table(size: Extent, snapshot: Snapshot) -> None:
    async with stage(size, LiveTable((Column("NAME", 0), Column("LOSS", 8)), empty="nothing [b]yet")) as pilot:
        await take(pilot, snapshot, "nothing [b]yet")


async def test_loss_view(size: Extent, snapshot: Snapshot) -> None:
    columns = ("train/loss", "val/loss", "val/balanced_accuracy")
    view = LossView()
    async with stage(size, view) as pilot:
        view.show(build(training(), columns, Headline("val/balanced_accuracy", "max")))
        await take(pilot, snapshot, "★")


async def test_checkpoint_table(size: Extent, snapshot: Snapshot) -> None:
    lines = [
        CheckpointLine(
            f"step-{step:08d}.ckpt",
            step,
            1_400_000 * step,
            "ab12" * 16,
            T0 + step / 4,
            step / 20,
            {"val/balanced_accuracy": step / 1000, "val/loss": "NaN"},
            step == 160,
        )
        for step in (120, 160, 180)
    ]
    rows: list[Where] = [
        Where(
            name=line.name, step=line.step, bytes=line.bytes, sha256=line.sha256, where=places, t=line.t, path=None,
            verified_at=line.t + 20 if len(places) > 1 else None, kind="full", best=line.best, latest=line.step == 180,
            bad=["here"] if line.step == 180 else [],
        )
        for line, places in zip(lines, (["gpu1", "here", "/mnt/nas"], ["gpu1", "here"], ["gpu1"]), strict=True)
    ]  # fmt: skip
    table = CheckpointTable()
    async with stage(size, table) as pilot:
        table.show(rows, lines, is_copy=True)
        await take(pilot, snapshot, "newest")


async def test_sparklines(size: Extent, snapshot: Snapshot) -> None:
    clean = np.array(SPARK * 3)
    spoilt = clean.copy()
    spoilt[50], spoilt[90] = np.nan, 1000.0
    values = (clean, spoilt, np.full(9, 0.5), np.array([np.nan, np.inf]), np.array([]))
    lines = [Static(classes="spark") for _ in values]
    async with stage(size, *lines) as pilot:
        palette = Palette.of(pilot.app)
        for line, course in zip(lines, values, strict=True):
            plain = Text(f"{sparkline(course, 16):<20}")
            line.update(plain + sparkline_text(course, size[0] - 24, palette.primary, palette.bad))
        await take(pilot, snapshot, "××")


# --- config


async def test_config_form_with_an_error_and_a_change(size: Extent, snapshot: Snapshot) -> None:
    form = ConfigForm()
    async with stage(size, form) as pilot:
        values = {info.name: info.default for info in describe(RECIPE.config)}
        await form.show(describe(RECIPE.config), values, lambda name, text: check_field(RECIPE, name, text))
        for field in form.query(Input):
            field.cursor_blink = False
        rows = {row.info.name: row.query("Input, Select").first() for row in form.query("FieldRow")}  # type: ignore[attr-defined]
        rows["training.steps"].value = "200"  # type: ignore[attr-defined]
        rows["training.lr"].value = "fast"  # type: ignore[attr-defined]
        rows["training.lr"].focus()
        await until(pilot, lambda: form.errors and len(form.overrides) == 2, "the edits")
        await take(pilot, snapshot, "✗ ")


async def test_config_page(size: Extent, snapshot: Snapshot) -> None:
    page = ConfigPage()
    async with stage(size, page) as pilot:
        page.show(manifest("brisk-heron"))
        await take(pilot, snapshot, "resolved config")
