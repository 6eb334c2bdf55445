"""Tracks on one time axis: what is drawn, how little a moving playhead costs, what keys and mouse ask for."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region, Size
from textual.message import Message
from textual.pilot import Pilot

from wavedeck.app.themes import DARK
from wavedeck.engine.samples.overview import Columns
from wavedeck.tests.conftest import screen_text
from wavedeck.tests.fakes.listen_tracks import drum_tracks, odd_tracks, spectrum_of, speech_tracks
from wavedeck.widgets.cell_grid import CellGrid, CellStrip, StyleTable
from wavedeck.widgets.colour_maps import colour_map
from wavedeck.widgets.spectrogram import frequency_labels, paint_spectrogram, pixels
from wavedeck.widgets.stack_picture import lay_out
from wavedeck.widgets.time_axis import TimeWindow, region, ruler, time_label, whole_window
from wavedeck.widgets.track_stack import TrackStack
from wavedeck.widgets.track_view import Detail, TrackView, label_facts
from wavedeck.widgets.waveform import WaveInk, paint_wave

INK = WaveInk(0, 1, 2, 3, 4)


class StackApp(App[None]):
    def __init__(self, *tracks: TrackView) -> None:
        super().__init__()
        self.stack = TrackStack(tracks)
        self.seen: list[Message] = []
        self.animation_level = "none"
        self.register_theme(DARK)
        self.theme = DARK.name

    def compose(self) -> ComposeResult:
        yield self.stack

    def on_track_stack_seek_wanted(self, event: TrackStack.SeekWanted) -> None:
        self.seen.append(event)

    def on_track_stack_loop_wanted(self, event: TrackStack.LoopWanted) -> None:
        self.seen.append(event)

    def on_track_stack_track_wanted(self, event: TrackStack.TrackWanted) -> None:
        self.seen.append(event)

    def on_track_stack_window_changed(self, event: TrackStack.WindowChanged) -> None:
        self.seen.append(event)


# --- time


def test_the_ruler_has_round_moments_with_room_between() -> None:
    ticks = ruler(TimeWindow(0.0, 10.0), 80)
    assert [label for _, label in ticks][:3] == ["0:00", "0:01", "0:02"]
    assert all(right - left > len(label) for (left, label), (right, _) in zip(ticks, ticks[1:], strict=False))
    assert ruler(TimeWindow(1.0, 1.01), 100)[0][1].startswith("0:01.0")
    assert ruler(TimeWindow(0, 7200), 60)[-1][1].startswith("1:")
    assert ruler(TimeWindow(0, 1), 3) == []


@pytest.mark.parametrize(
    ("seconds", "step", "words"),
    [(3.5, 0.5, "0:03.5"), (59.999, 1, "1:00"), (3725, 1, "1:02:05"), (0.0, 0.01, "0:00.00"), (-1, 1, "0:00")],
)
def test_moments_read_as_a_clock(seconds: float, step: float, words: str) -> None:
    assert time_label(seconds, step) == words


def test_windows_stay_inside_and_keep_what_is_under_the_pointer() -> None:
    whole = whole_window(10.0)
    near = whole.zoomed(0.5, 2.0, whole)
    assert near == TimeWindow(1.0, 6.0) and near.column(2.0, 100) == 20
    assert near.moved(99, whole) == TimeWindow(5.0, 10.0)
    assert near.zoomed(100, 2.0, whole) == whole
    assert whole.zoomed(1e-9, 10.0, whole).end == 10.0
    assert region(4.0, 3.0, whole) == TimeWindow(3.0, 4.0)
    assert region(4.0, 4.0, whole).length > 0
    assert whole_window(float("nan")) == whole_window(0) == TimeWindow(0.0, 1.0)
    assert whole.column(10.0, 80) == 79 and whole.column(10.1, 80) is None and whole.column(1, 0) is None


# --- waveforms


def columns(high: list[float], low: list[float], rms: list[float] | None = None) -> Columns:
    top, bottom = (np.array(part, np.float32)[:, None] for part in (high, low))
    level = top / 8 if rms is None else np.array(rms, np.float32)[:, None]
    return Columns(minimum=bottom, maximum=top, rms=level, bad=np.zeros(len(high), bool))


def lane(data: Columns, rows: int, gain: float = 1.0, clips: bool = False) -> list[str]:
    chars, _, _ = paint_wave(data, 0, rows, INK, gain=gain, clips=clips)
    return ["".join(map(chr, row)) for row in chars.tolist()]


def test_full_scale_fills_the_lane_and_silence_is_a_line() -> None:
    chars, _, ground = paint_wave(columns([1.0, 0.0], [-1.0, 0.0]), 0, 2, INK, gain=1.0, clips=False)
    assert (ground[:, 0] != INK.ground).all() and chr(chars[1, 1]) == "▔" and chr(chars[0, 1]) == " "


def test_the_edge_is_drawn_in_eighths_of_a_cell() -> None:
    assert lane(columns([0.25, 0.5, 0.75], [0, 0, 0]), 2)[0] == "▂▄▆"


def test_one_sample_beyond_is_marked_by_an_arrow() -> None:
    drawn = lane(columns([1.2, 0.1], [-0.1, -1.0]), 2, clips=True)
    assert drawn[0][0] == "▲" and drawn[1][1] == "▼"
    assert "▲" not in lane(columns([1.0], [-1.0]), 2)[0]


def test_what_is_not_known_and_what_is_no_number_have_signs() -> None:
    data = columns([np.nan, 0.2], [np.nan, -0.2])
    assert lane(data, 3)[1][0] == "·"
    assert lane(replace(data, bad=np.array([False, True])), 3)[1][1] == "×"


def test_channels_lie_over_each_other_where_there_is_one_lane() -> None:
    data = Columns(*(np.array([[0.5, 1.0]], np.float32) * sign for sign in (-1, 1, 1)), np.zeros(1, bool))
    _, _, ground = paint_wave(data, None, 2, INK, gain=1.0, clips=False)
    assert (ground != INK.ground).all()
    for rows in (0, 1):
        assert paint_wave(data, None, rows, INK, gain=1.0, clips=True)[0].shape == (rows, 1)


def test_close_up_the_samples_themselves_are_drawn() -> None:
    sound = np.zeros((48000, 1), np.float32)
    sound[24001] = 1.0
    view = speech_tracks()[0]
    near = TimeWindow(1.5, 1.505)
    coarse = view.envelope(near, 80)
    fine = replace(view, detail=Detail(0, sound)).envelope(near, 80)
    assert coarse is not None and fine is not None
    assert np.count_nonzero(fine.maximum) == 1
    assert replace(view, detail=Detail(40000, sound)).envelope(near, 80) is not None
    assert view.envelope(TimeWindow(3.5, 4.0), 80) is None


# --- spectrograms


def test_a_click_is_never_averaged_away() -> None:
    view = spectrum_of("silence", 10.0, columns=1000)
    view.db[40, 503] = -10
    found = pixels(view, 16000, TimeWindow(0, 10), 50, 12)
    assert found.max() == -10 and np.argwhere(found == -10).tolist() == [[5, 25]]


def test_a_view_of_as_many_columns_is_drawn_as_it_is_and_nothing_beyond_it() -> None:
    view = spectrum_of("speech", 3.0, columns=100)
    found = pixels(view, 16000, TimeWindow(0, 3), 100, 80)
    assert np.array_equal(found, view.db[::-1])
    wide = pixels(view, 16000, TimeWindow(2.0, 4.0), 100, 80)
    assert not np.isnan(wide[:, :50]).any() and np.isnan(wide[:, 50:]).all()
    assert np.isnan(pixels(view, 16000, TimeWindow(5, 6), 10, 4)).all()
    assert pixels(view, 16000, TimeWindow(0, 3), 0, 0).shape == (0, 0)
    assert pixels(view, 16000, TimeWindow(0, 3), 20, 200).shape == (200, 20)


def test_low_sounds_are_at_the_bottom_and_silence_has_the_ground_colour() -> None:
    levels = np.array([[np.nan, -100.0], [-10.0, -100.0]])
    chars, ink, ground = paint_spectrogram(levels, -10.0, 10, 40, 0)
    assert ground[0, 0] == 49 and ink[0, 0] == 0 and chr(chars[0, 0]) == "▀"
    assert ground[0, 1] == 10 and chr(chars[0, 1]) == " "
    assert paint_spectrogram(np.full((2, 1), -100.0), -np.inf, 10, 40, 0)[1][0, 0] == 10


def test_the_frequency_axis_has_few_round_labels() -> None:
    labels = frequency_labels(spectrum_of("speech", 1.0).centres_hz, 8)
    rows = [row for row, _ in labels]
    assert ("1k" in dict(labels).values() or labels) and rows == sorted(rows)
    assert all(below - above >= 2 for above, below in zip(rows, rows[1:], strict=False))
    assert frequency_labels(np.array([np.nan]), 8) == [] and frequency_labels(np.zeros(0), 8) == []


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("name", ["magma", "viridis"])
def test_colour_maps_rise_or_fall_in_light_all_the_way(name: str, dark: bool) -> None:
    ground = (20, 20, 30) if dark else (255, 255, 255)
    table = colour_map(name, 40, ground, dark=dark).astype(float)
    light = table @ [0.2126, 0.7152, 0.0722]
    steps = np.diff(light)
    assert tuple(table[0]) == ground
    assert (steps >= -3).all() if dark else (steps <= 3).all()


# --- cells


def test_a_row_with_another_cell_is_the_same_row() -> None:
    grid = CellGrid(12, 1)
    grid.text(0, 0, "ab", 1)
    grid.text(2, 0, "cdefg", 2, bold=True)
    grid.text(-2, 0, "xxZ", 3)
    grid.text(10, 0, "long", 3)
    grid.text(0, 5, "outside", 3)
    styles = StyleTable(np.zeros((8, 3), np.uint8))
    row = grid.row(0, styles)
    assert "".join(segment.text for segment in row.segments) == "Zbcdefg   lo"
    for x in range(12):
        cell = row.part(x, x + 1)[0]
        same = row.with_cell(x, cell)
        assert "".join(segment.text for segment in same.segments) == "Zbcdefg   lo"
        assert same.starts == sorted(set(same.starts))
        strip = CellStrip(same, [(x, x + 1)])
        assert strip.crop(0, x + 1).text.endswith("Zbcdefg   lo"[x])
        assert strip.crop(2, 6).text == "cdef"


# --- layout


@pytest.mark.parametrize("show", ["both", "waveform", "spectrogram"])
@pytest.mark.parametrize("height", [0, 1, 2, 3, 5, 9, 24, 120])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 40])
def test_lanes_never_overlap_and_the_audible_one_is_among_them(count: int, height: int, show: str) -> None:
    for audible in {0, count // 2, max(0, count - 1)}:
        lanes = lay_out(count, audible, height, show)  # type: ignore[arg-type]
        assert all(before.end <= after.top for before, after in zip(lanes, lanes[1:], strict=False))
        assert all(lane.end <= height for lane in lanes)
        if height >= 2 and count:
            assert audible in [lane.track for lane in lanes]


@pytest.mark.parametrize("show", ["both", "waveform", "spectrogram"])
def test_lanes_beside_each_other_have_the_same_kinds_of_pictures(show: str) -> None:
    for height in range(1, 60):
        for count in range(1, 6):
            lanes = lay_out(count, 0, height, show)  # type: ignore[arg-type]
            assert len({(lane.wave > 0, lane.spectrum > 0) for lane in lanes}) <= 1, (height, count)


def test_what_is_wrong_is_said_first_and_in_words() -> None:
    clipped = drum_tracks()[1]
    assert label_facts(clipped, 30)[0].text.startswith("! clips")
    silent, faint, gone, later = odd_tracks()
    assert label_facts(silent, 80)[0].text == "! silent"
    assert label_facts(faint, 80)[0].text == "! 200 samples are NaN or infinite"
    assert any("DC offset +0.0" in fact.text for fact in label_facts(faint, 100))
    assert label_facts(gone, 80)[0].text == "! cannot be heard"
    assert label_facts(later, 80)[-1].text == "measuring…"
    assert label_facts(later, 0) == []


# --- the widget


async def shown(pilot: Pilot[None]) -> str:
    await pilot.pause()
    return screen_text(pilot.app)


async def test_tracks_share_an_axis_and_say_which_is_heard() -> None:
    app = StackApp(*speech_tracks())
    async with app.run_test(size=(80, 24)) as pilot:
        lines = (await shown(pilot)).splitlines()
        assert lines[1].startswith("♪ a target (heard)") and "  b prediction" in "\n".join(lines)
        app.stack.audible = 1
        text = await shown(pilot)
        assert "♪ b prediction (heard)" in text and "♪ a" not in text


async def test_a_hostile_name_is_only_text() -> None:
    app = StackApp(*odd_tracks())
    async with app.run_test(size=(100, 30)) as pilot:
        text = await shown(pilot)
        assert "../evil[red]·[2J" in text and "The file step-000100.h5 is not there" in text
        assert "reading the sound…" in text and "\x1b" not in text


async def test_without_tracks_it_says_so() -> None:
    app = StackApp()
    async with app.run_test(size=(60, 8)) as pilot:
        assert "no sound in this item" in await shown(pilot)
        app.stack.words, app.stack.failed = "The item could not be read.", True
        assert "The item could not be read." in await shown(pilot)
        await pilot.press("plus", "minus", "z", "full_stop", "v")


async def test_a_moving_playhead_sends_two_cells_a_row() -> None:
    app = StackApp(*drum_tracks())
    async with app.run_test(size=(120, 36)) as pilot:
        app.stack.position_s = 1.0
        await pilot.pause()
        compositor, picture = app.screen._compositor, app.stack.picture
        app.stack.position_s = 1.03
        compositor.update_widgets({app.stack})
        update = compositor.render_partial_update()
        assert update is not None
        sent = update.render_segments(app.console)
        assert app.stack.picture is picture
        visible = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", sent).replace("\n", "")
        assert len(visible) <= 4 * 36 and "│" in visible and "▼" in visible
        app.stack.position_s = 1.0301  # the same column: nothing at all
        compositor.update_widgets({app.stack})
        assert compositor.render_partial_update() is None


async def test_what_something_else_left_over_the_picture_is_drawn_again_whole() -> None:
    app = StackApp(*drum_tracks())
    async with app.run_test(size=(120, 36)) as pilot:
        for position in (1.0, 1.03):
            app.stack.position_s = position
            await pilot.pause()
        compositor, x = app.screen._compositor, app.stack.picture.column_of(1.03)
        assert x is not None
        app.stack.refresh(Region(x - 20, 4, 21, 3))  # ends where the playhead stands
        compositor.update_widgets({app.stack})
        update = compositor.render_partial_update()
        assert update is not None and f"\x1b[{x}C" not in update.render_segments(app.console)


async def test_the_screen_is_the_same_after_a_move_as_after_a_repaint() -> None:
    app = StackApp(*drum_tracks())
    async with app.run_test(size=(100, 24)) as pilot:
        for position in (0.0, 0.5, 0.52, 1.9, 2.0, None, 1.0):
            app.stack.position_s = position
            moved = await shown(pilot)
            app.stack._repaint()
            assert await shown(pilot) == moved


async def test_it_is_drawn_in_its_size_before_it_hears_of_its_resize(monkeypatch: pytest.MonkeyPatch) -> None:
    app = StackApp(*speech_tracks())
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        app.stack.position_s = 0.5
        app.stack.render_lines(Region(0, 0, 60, 20))
        with monkeypatch.context() as resized:  # what a layout does before the event is handled
            resized.setattr(TrackStack, "size", property(lambda _: Size(90, 30)))
            strips = app.stack.render_lines(Region(0, 0, 90, 30))
        assert len(strips) == 30 and {strip.cell_length for strip in strips} == {90}


async def test_zoom_pan_and_page_with_the_playhead() -> None:
    app = StackApp(*speech_tracks())
    async with app.run_test(size=(80, 24)) as pilot:
        app.stack.focus()
        app.stack.position_s = 1.0
        await pilot.press("plus", "plus")
        view = app.stack.view
        assert view.length < 1.5 and view.start < 1.0 < view.end
        assert isinstance(app.seen[-1], TrackStack.WindowChanged)
        await pilot.press("full_stop")
        assert app.stack.view.start > view.start
        app.stack.position_s = 2.9
        assert app.stack.view.start <= 2.9 <= app.stack.view.end
        await pilot.press("0")
        assert app.stack.window is None
        app.stack.loop = (0.5, 1.0)
        await pilot.press("z")
        assert app.stack.view == TimeWindow(0.5, 1.0)
        await pilot.press("v")
        assert app.stack.show == "waveform" and " 1k " not in await shown(pilot)


async def test_the_mouse_seeks_loops_zooms_and_switches() -> None:
    app = StackApp(*speech_tracks())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.click(app.stack, offset=(42, 5))
        assert isinstance(app.seen[-1], TrackStack.SeekWanted)
        assert app.seen[-1].seconds == pytest.approx(1.5, abs=0.03)
        second = app.stack.picture.lanes[1].top
        await pilot.click(app.stack, offset=(10, second))
        assert isinstance(app.seen[-1], TrackStack.TrackWanted) and app.seen[-1].index == 1
        await pilot.mouse_down(app.stack, offset=(30, 0))
        await pilot.hover(app.stack, offset=(54, 0))
        assert "[" in screen_text(app).splitlines()[0] or await shown(pilot)
        await pilot.mouse_up(app.stack, offset=(54, 0))
        assert isinstance(app.seen[-1], TrackStack.LoopWanted)
        assert app.seen[-1].loop == pytest.approx((1.0, 2.0))
        await pilot.mouse_down(app.stack, offset=(54, 5))
        await pilot.hover(app.stack, offset=(30, 5))
        await pilot.mouse_up(app.stack, offset=(30, 5))
        assert app.stack.view == TimeWindow(pytest.approx(1.0), pytest.approx(2.0))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (10, 1), (20, 5), (41, 7), (300, 100)])
async def test_any_size_draws(size: tuple[int, int]) -> None:
    app = StackApp(*drum_tracks(), *odd_tracks())
    async with app.run_test(size=size) as pilot:
        app.stack.loop = (0.3, 0.9)
        for position in (0.0, 1.0, 99.0, float("nan")):
            app.stack.position_s = position
            await pilot.pause()
        await pilot.press("plus", "v", "v")
        assert len((await shown(pilot)).splitlines()) == size[1]


@pytest.mark.parametrize("rate", [0, 1, 4000, 192000])
async def test_absurd_tracks_do_no_harm(rate: int) -> None:
    base = speech_tracks()[0]
    app = StackApp(replace(base, rate=rate, channels=8), replace(base, frames=0), TrackView("", "", 0, 0, 0))
    async with app.run_test(size=(80, 24)) as pilot:
        app.stack.position_s = 0.1
        await pilot.press("plus", "minus")
        assert "(no name)" in await shown(pilot)
