"""Parallel coordinates in cells: every size, values that are missing, hostile words, the run in front."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from wavedeck.engine.comparing.parallel import Axis, Parallel, Trace
from wavedeck.tests.conftest import screen_text
from wavedeck.widgets.parallel_coordinates import ParallelCoordinates
from wavedeck.widgets.plotting.canvas import Canvas
from wavedeck.widgets.plotting.parallel import frame_of, paint_parallel, row_of

MODEL = Axis("model", ((0.0, "ast"), (0.5, "\x1b[31mbeats"), (1.0, "hts_at")))
SIZE = Axis("trainable", ((0.0, "2.7K"), (0.5, "494K"), (1.0, "90.3M")), log=True)
RESULT = Axis("balanced_accuracy ↑", ((0.0, "0.565"), (0.5, "0.709"), (1.0, "0.853")))


def data(traces: int = 3, axes: tuple[Axis, ...] = (MODEL, SIZE, RESULT)) -> Parallel:
    """Runs on the axes; every third has no value on the last one."""
    made = []
    for number in range(traces):
        place = number % 3 / 2
        places = (*(place for _ in axes[1:]), None if number % 3 == 2 else 1 - place)[: len(axes)]
        words = tuple(next((words for at, words in axis.ticks if at == place), "–") for axis in axes)
        made.append(Trace(f"20260921-14{number:02d}-toy-calm-owl{number}", f"owl{number}", places, words))
    return Parallel(axes, tuple(made))


def text_of(canvas: Canvas) -> list[str]:
    return [canvas.chars[y].tobytes().decode("utf-32-le") for y in range(canvas.height)]


@given(
    width=st.integers(0, 90), height=st.integers(0, 30), traces=st.integers(0, 40), axes=st.integers(0, 8),
    chosen=st.integers(-1, 40),
)  # fmt: skip
def test_no_size_is_too_small(width: int, height: int, traces: int, axes: int, chosen: int) -> None:
    shown = data(traces, tuple((MODEL, SIZE, RESULT)[n % 3] for n in range(axes)))
    canvas = paint_parallel(shown, f"20260921-14{chosen:02d}-toy-calm-owl{chosen}", width, height)
    assert canvas.chars.shape == (height, width)
    assert all(char.isprintable() for line in text_of(canvas) for char in line)


def test_the_run_in_front_has_markers_and_a_missing_value_its_own_row() -> None:
    shown = data()
    lines = text_of(paint_parallel(shown, shown.traces[0].run, 60, 12))
    frame = frame_of(shown, 60, 12)
    assert lines[frame.top + row_of(0.0, frame.rows)][frame.columns[0]] == "●"
    assert lines[frame.top + row_of(1.0, frame.rows)][frame.columns[-1]] == "●"
    assert "no value" in lines[frame.missing]
    missing = text_of(paint_parallel(shown, shown.traces[2].run, 60, 12))
    assert missing[frame.missing][frame.columns[-1]] == "○"
    for word in ("ast", "hts_at", "90.3M", "0.853"):
        assert any(word in line for line in lines)


def test_the_result_is_called_by_its_whole_name() -> None:
    named = Axis("test/balanced_accuracy ↑", RESULT.ticks)
    canvas = paint_parallel(data(3, (MODEL, SIZE, SIZE, SIZE, SIZE, SIZE, named)), None, 117, 12)
    assert "".join(map(chr, canvas.chars[0])).rstrip().endswith(" test/balanced_accuracy ↑")


def test_narrow_pictures_keep_the_first_and_the_last_axis() -> None:
    shown = data(3, (MODEL, SIZE, SIZE, SIZE, RESULT))
    assert frame_of(shown, 20, 10).axes == (0, 1, 4)
    assert frame_of(shown, 3, 10).axes[-1] == 4


class Page(App[None]):
    """One instrument."""

    def compose(self) -> ComposeResult:
        yield ParallelCoordinates()


@pytest.mark.parametrize("size", [(80, 24), (20, 5), (1, 1)])
async def test_keys_bring_runs_to_the_front(size: tuple[int, int]) -> None:
    page = Page()
    async with page.run_test(size=size) as pilot:
        widget = page.query_one(ParallelCoordinates)
        if size == (80, 24):
            assert "no runs to compare" in screen_text(page)
        widget.data = data()
        widget.focus()
        await pilot.press("j", "j", "down", "down", "down")
        assert widget.chosen == widget.data.traces[-1].run
        await pilot.press("g")
        assert widget.chosen == widget.data.traces[0].run
        if size == (80, 24):
            assert "calm-owl0: balanced_accuracy" in screen_text(page)
