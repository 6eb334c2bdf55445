"""The parts around the tracks: transport, list, texts, classes, confusion matrix, parameters."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from textual.app import App, ComposeResult
from textual.message import Message
from textual.pilot import Pilot
from textual.widget import Widget

from wavedeck.engine.playback import PlayerState
from wavedeck.engine.samples import SampleColumns
from wavedeck.engine.samples.alignment import Op, confusion
from wavedeck.engine.samples.columns import ColumnBuilder
from wavedeck.engine.samples.items import IndexLine, Parameter
from wavedeck.engine.samples.order import group_rows, sort_rows
from wavedeck.tests.app.conftest import until
from wavedeck.tests.conftest import screen_text
from wavedeck.widgets import text_diff
from wavedeck.widgets.class_bars import ClassBars, ClassScores, bar_cells, chosen_classes
from wavedeck.widgets.confusion_matrix import ConfusionMatrix, short_count
from wavedeck.widgets.live_table import VirtualTable
from wavedeck.widgets.parameter_table import ParameterTable
from wavedeck.widgets.sample_list import SampleList
from wavedeck.widgets.sample_table import GroupKey, SampleTable
from wavedeck.widgets.short_names import short_names
from wavedeck.widgets.text_diff import TextDiff, TextPair, blocks, rate_words
from wavedeck.widgets.transport import TrackButton, Transport, TransportState

HOSTILE = "[red]\x1b[2J../"
TRACKS = (TrackButton("a", "target"), TrackButton("b", HOSTILE))
NAMES = ("flam", "paradiddle", "roll")


class Stage(App[None]):
    def __init__(self, *widgets: Widget) -> None:
        super().__init__()
        self.widgets = widgets
        self.seen: list[Message] = []

    def compose(self) -> ComposeResult:
        yield from self.widgets

    def on_transport_pressed(self, event: Transport.Pressed) -> None:
        self.seen.append(event)

    on_transport_track_wanted = on_transport_seek_wanted = on_transport_pressed
    on_confusion_matrix_cell_chosen = on_sample_table_sort_wanted = on_transport_pressed
    on_virtual_table_chosen = on_transport_pressed


async def shown(pilot: Pilot[None]) -> str:
    await pilot.pause()
    return screen_text(pilot.app)


# --- transport


async def line(state: TransportState, width: int = 120) -> str:
    transport = Transport()
    transport.state = state
    async with Stage(transport).run_test(size=(width, 1)) as pilot:
        return (await shown(pilot)).rstrip("\n")


async def test_the_line_says_what_plays_where_and_how() -> None:
    player = PlayerState(3.217, True, 1, "Speakers", duration_s=10.0, loop=(1.2, 2.4), gain_db=-6.0, rate=48000)
    text = await line(TransportState(player, TRACKS, matched=True), 160)
    assert "▶ playing  0:03.22 / 0:10.00" in text and "[b [red]·[2J../]" in text and " a target " in text
    assert "loop 0:01.20–0:02.40" in text and "−6.0 dB" in text and "level-matched" in text
    assert "Speakers 48 kHz" in text and "\x1b" not in text
    paused = await line(TransportState(PlayerState(gain_db=-math.inf), TRACKS))
    assert "┃┃ paused" in paused and "muted" in paused and "levels as they are" in paused


async def test_no_sound_has_a_reason_and_it_is_cut_last() -> None:
    player = PlayerState(error="PortAudio is not installed: apt install libportaudio2.", duration_s=5, underruns=2)
    assert "! no sound: PortAudio is not installed: apt install libportaudio2." in await line(
        TransportState(player, TRACKS), 110
    )
    narrow = await line(TransportState(player, TRACKS), 80)
    assert "! no sound: PortAudio" in narrow and "…" in narrow and "[a target]" in narrow
    assert "nothing to play" in await line(TransportState())
    assert "reading" in await line(TransportState(words="reading the item"))


async def test_underruns_late_samples_and_warnings_are_said() -> None:
    player = PlayerState(1.0, True, 0, "Speakers", 3, warning="“target” has NaN samples.", buffering=True, duration_s=2)
    text = await line(TransportState(player, TRACKS), 160)
    assert "… waiting" in text and "! 3 gaps" in text and "! “target” has NaN samples." in text


async def test_a_blind_test_does_not_name_what_is_heard() -> None:
    text = await line(TransportState(PlayerState(duration_s=2, source=1), TRACKS, blind="X: A or B?  3 of 4"))
    assert "X: A or B?" in text and "target" not in text and "[b" not in text


async def test_clicks_on_the_line_ask() -> None:
    transport = Transport()
    transport.state = TransportState(PlayerState(0.0, False, 0, "", duration_s=10.0), TRACKS)
    app = Stage(transport)
    async with app.run_test(size=(140, 1)) as pilot:
        text = await shown(pilot)
        for words in ("paused", "red", "levels as", "───"):
            await pilot.click(transport, offset=(text.index(words) + 1, 0))
        assert [type(event).__name__ for event in app.seen] == ["Pressed", "TrackWanted", "Pressed", "SeekWanted"]
        assert app.seen[1].index == 1 and app.seen[2].action == "match"  # type: ignore[attr-defined]
        assert 0 < app.seen[3].seconds < 10  # type: ignore[attr-defined]


# --- texts


async def test_differences_have_signs_and_stand_below_each_other() -> None:
    diff = TextDiff()
    diff.pair = TextPair("the quick brown fox", "the quack fox [b]now\x1b")
    async with Stage(diff).run_test(size=(80, 10)) as pilot:
        lines = (await shown(pilot)).splitlines()
        assert "WER 75.0%" in lines[0] and "~1 changed  -1 missing  +1 added  of 4 words" in lines[0]
        above, below = lines[2], lines[3]
        assert "~brown fox" in above and "~quack" in below and "fox +[b]now·" in below and "·······" in above
        assert above.index("fox") == below.index("fox")
        diff.pair = TextPair("same", "same")
        assert "WER 0.0%" in await shown(pilot)
        diff.pair = TextPair("", "")
        assert "both texts are empty" in await shown(pilot)
        diff.pair, diff.words = None, "reading the texts…"
        assert "reading the texts…" in await shown(pilot)


async def test_long_texts_are_aligned_in_a_thread_and_only_where_they_are_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where: list[str] = []
    real = text_diff.compared

    def watched(pair: TextPair) -> text_diff.Compared:
        where.append(threading.current_thread().name)
        go.wait(20)
        return real(pair)

    go = threading.Event()
    monkeypatch.setattr(text_diff, "compared", watched)
    words = "the quick brown fox jumps over the lazy dog " * 130
    diff = TextDiff()
    diff.display = False
    async with Stage(diff).run_test(size=(80, 10)) as pilot:
        diff.pair = TextPair(words, words + "again")
        await pilot.pause(0.1)
        assert not where
        diff.display = True
        assert "aligning…" in await shown(pilot)
        await until(pilot, lambda: where == ["comparing the texts"])
        diff.pair = TextPair(words, words.replace("fox", "ox"))
        assert "aligning…" in await shown(pilot)
        go.set()
        await until(pilot, lambda: "~130 changed" in screen_text(pilot.app))
        assert "CER not beyond 5,000 letters" in screen_text(pilot.app) and len(where) == 2
        diff.pair = TextPair("a b", "a c")
        assert "WER 50.0%  CER 33.3%" in await shown(pilot)


async def test_texts_that_cannot_be_compared_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(pair: TextPair) -> text_diff.Compared:
        raise MemoryError

    monkeypatch.setattr(text_diff, "compared", fail)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    diff = TextDiff()
    async with Stage(diff).run_test(size=(80, 10)) as pilot:
        diff.pair = TextPair("word " * 500, "")
        await until(pilot, lambda: "could not be compared" in screen_text(pilot.app))


def test_rows_are_filled_and_never_wider_than_there_is_room() -> None:
    ops = [Op("equal", "word", "word")] * 9
    assert [len(block) for block in blocks(ops, 20)] == [4, 4, 1]
    assert [len(block) for block in blocks(ops, 1)] == [1] * 9
    assert blocks([], 20) == [] and rate_words(math.inf) == "no reference"


# --- classes


def test_the_target_is_shown_even_when_it_is_unlikely() -> None:
    scores = ClassScores({"a": 0.6, "b": 0.3, "c": 0.1, "d": math.nan}, "c", "a")
    assert [name for name, _ in chosen_classes(scores, 2)] == ["a", "c"]
    assert [name for name, _ in chosen_classes(scores, 9)] == ["a", "b", "c", "d"]
    assert chosen_classes(ClassScores({}, "t", "p"), 5)[0][0] == "t"
    assert bar_cells(0.5, 3) == "█▌" and bar_cells(-1, 3) == "" and bar_cells(9, 3) == "███"


async def test_class_bars_mark_target_and_prediction_by_signs() -> None:
    bars = ClassBars()
    bars.scores = ClassScores({HOSTILE: 0.7, "roll": 0.3}, "roll", HOSTILE)
    async with Stage(bars).run_test(size=(50, 6)) as pilot:
        lines = (await shown(pilot)).splitlines()
        assert lines[0].startswith("  ● [red]·[2J../") and lines[1].startswith(" ►  roll") and "70.0%" in lines[0]
        bars.scores = None
        assert "no class probabilities" in await shown(pilot)


# --- confusion matrix


def matrix() -> ConfusionMatrix:
    found = ConfusionMatrix()
    found.confusion = confusion(
        ["flam", "flam", "flam", "roll", "paradiddle"], ["flam", "roll", "roll", "roll", "flam"]
    )
    return found


async def test_the_cursor_begins_at_the_worst_mistake_and_a_cell_opens() -> None:
    widget = matrix()
    app = Stage(widget)
    async with app.run_test(size=(60, 8)) as pilot:
        assert "flam taken for roll: 2 of 3 (67%)" in await shown(pilot)
        widget.focus()
        await pilot.press("enter", "down", "left")
        assert widget.pair == ("paradiddle", "paradiddle")
        assert "paradiddle recognised: 0 of 1 (0%)" in await shown(pilot)
        await pilot.press("up", "up", "left", "left", "enter")
        await pilot.double_click(widget, offset=(13, 3))
        chosen = [(event.target, event.predicted) for event in app.seen]  # type: ignore[attr-defined]
        assert chosen == [("flam", "roll"), ("flam", "flam"), ("roll", "flam")]


async def test_new_counts_keep_the_cursor_on_its_classes() -> None:
    widget = matrix()
    async with Stage(widget).run_test(size=(60, 8)) as pilot:
        widget.confusion = confusion(["a", "flam", "roll"], ["a", "flam", HOSTILE])
        assert widget.pair == ("flam", "roll")
        assert "\x1b" not in await shown(pilot)
        widget.confusion = confusion([], [])
        assert widget.pair is None and "no labels and predictions" in await shown(pilot)
        await pilot.press("enter", "home", "down")


async def test_many_classes_scroll_with_the_cursor() -> None:
    names = [f"class {number:03}" for number in range(120)]
    widget = ConfusionMatrix()
    widget.confusion = confusion(names, names[1:] + names[:1])
    async with Stage(widget).run_test(size=(60, 12)) as pilot:
        widget.cursor = (119, 119)
        assert "class 119" in await shown(pilot)
        widget.cursor = (0, 0)
        assert "class 000" in await shown(pilot)


RUDIMENTS = ("single stroke roll", "single stroke four", "single paradiddle", "flam", "flam tap", "flam accent")


@pytest.mark.parametrize("cells", [1, 2, 3, 5, 8, 18])
def test_names_that_are_cut_stay_different(cells: int) -> None:
    short = short_names(RUDIMENTS, cells)
    assert len(set(short)) == len(RUDIMENTS) and all(0 < len(words) <= cells for words in short)


async def test_heads_use_the_width_and_the_cursor_has_brackets() -> None:
    widget = ConfusionMatrix()
    names = [*RUDIMENTS, *(f"drag {number}" for number in range(4))]
    widget.confusion = confusion(names, names[1:] + names[:1])
    async with Stage(widget).run_test(size=(71, 13)) as pilot:
        lines = (await shown(pilot)).splitlines()
        assert any("drag 3" in line for line in lines) and "ftap" in "".join(lines[:2])
        assert sum("[" in line and "]" in line for line in lines) == 1
    async with Stage(widget).run_test(size=(50, 9)) as pilot:
        text = await shown(pilot)
        assert "[█]" in text and "↓ 6 more" in text


def test_counts_fit() -> None:
    assert [short_count(count, 3) for count in (7, 999, 1000, 54321, 1_000_000)] == ["7", "999", "1k", "54k", "1M"]


# --- parameters


async def test_parameters_come_with_the_largest_error_first() -> None:
    table = ParameterTable()
    async with Stage(table).run_test(size=(70, 8)) as pilot:
        table.show_parameters(
            {
                "small": Parameter(0.5, 0.51),
                "large": Parameter(0.1, 0.9),
                HOSTILE: Parameter(0.1, math.nan),
                "alone": Parameter(1.0, None),
            }
        )
        lines = (await shown(pilot)).splitlines()
        assert [row.search for row in table.rows] == ["[red]·[2J../", "large", "small", "alone"]
        assert "! NaN" in lines[1] and "████████████" in lines[2] and "one side" in lines[4]
        table.show_parameters({}, "reading…")
        assert "reading…" in await shown(pilot)


# --- the list


def columns(count: int, step: int = 100, more: Callable[[int], dict[str, float]] = lambda number: {}) -> SampleColumns:
    builder = ColumnBuilder()
    lines = [
        IndexLine(
            id=f"{number:010x}",
            step=step,
            metrics={"val/wer": number % 97 / 97} | more(number),
            text={"target": f"Sentence {number} {HOSTILE}"},
            label=NAMES[number % 3],
            predicted=NAMES[number % 2],
            tracks={"target": {"rate": 16000, "channels": 1, "start": 0, "frames": 0 if number == 3 else 16000}},
        )
        for number in range(count)
    ]
    builder.add([(line, ()) for line in lines])
    return builder.snapshot()


def listed(count: int, **more: object) -> SampleList:
    found = columns(count)
    rows = sort_rows(found, np.arange(count), "val/wer")
    return SampleList(found, rows, metrics=("val/wer",), sort="val/wer", **more)  # type: ignore[arg-type]


async def test_rows_show_what_an_item_is() -> None:
    table = SampleTable()
    ratings = np.full(5, np.nan)
    ratings[4] = 4
    async with Stage(table).run_test(size=(120, 10)) as pilot:
        table.show_samples(listed(5, ratings=ratings))
        text = await shown(pilot)
        assert "WER▼" in text and "★★★★☆" in text and "✗ " in text and "✓ " in text
        assert "sentence 4 [red]·[2j../" in text and "00000000" in text
        assert [line[1] for line in text.splitlines()[1:6]] == [" ", "!", " ", " ", " "]
        table.show_samples(listed(5, text_of=lambda row: f"Written {row}"))
        assert "Written 4" in await shown(pilot)
        table.show_samples(SampleList(), "no item fits the filter")
        assert "no item fits the filter" in await shown(pilot) and table.item_row is None


async def test_it_keeps_its_place_while_samples_arrive() -> None:
    table = SampleTable()
    async with Stage(table).run_test(size=(100, 12)) as pilot:
        table.show_samples(listed(300))
        await pilot.pause()
        for _ in range(30):
            table.action_cursor(1)
        await pilot.pause()
        row = table.item_row
        below = table.cursor - round(table.scroll_offset.y)
        table.show_samples(listed(900))
        await pilot.pause()
        assert table.item_row == row and table.cursor > 30
        assert table.cursor - round(table.scroll_offset.y) == below


async def test_a_view_scrolled_away_from_the_cursor_stays_too() -> None:
    table = SampleTable()
    async with Stage(table).run_test(size=(100, 12)) as pilot:
        table.show_samples(listed(300))
        table.scroll_to(y=100, animate=False)
        await pilot.pause()
        top = table.row_at(round(table.scroll_offset.y)).key
        table.show_samples(listed(900))
        await pilot.pause()
        assert table.row_at(round(table.scroll_offset.y)).key == top and table.item_row == listed(300).rows[0]


async def test_an_item_evaluated_again_keeps_the_cursor() -> None:
    builder = ColumnBuilder()
    builder.add([(IndexLine(id=name, step=1), ()) for name in "abc"])
    first = builder.snapshot()
    builder.add([(IndexLine(id=name, step=2), ()) for name in "cba"])
    second = builder.snapshot()
    table = SampleTable()
    async with Stage(table).run_test(size=(60, 8)):
        table.show_samples(SampleList(first, np.arange(3)))
        table.select_row(1)
        table.show_samples(SampleList(second, np.flatnonzero(second.newest())))
        assert table.item_row == 4 and second.ids[4] == "b"
        table.show_samples(SampleList(columns(2), np.arange(2)))
        assert table.item_row in (0, 1)


async def test_by_tag_the_cursor_stays_in_its_group() -> None:
    builder = ColumnBuilder()

    def grow(*names: str, step: int = 1) -> SampleList:
        builder.add([(IndexLine(id=name, step=step, tags=["easy", "hard"]), ()) for name in names])
        found = builder.snapshot()
        rows = np.flatnonzero(found.newest())
        return SampleList(found, rows, group_rows(found, rows, "tag"))

    table = SampleTable()
    async with Stage(table).run_test(size=(60, 30)) as pilot:
        table.show_samples(grow(*"abcdef"))
        for _ in range(11):
            await pilot.press("down")
        assert table.cursor == 11
        item = table.item_row
        table.show_samples(grow("g"))
        assert table.cursor == 12 and table.item_row == item
        table.show_samples(grow("d", step=2))
        assert table.samples.columns.ids[table.item_row or 0] == "d" and table.cursor > 8


async def test_a_mistake_needs_both_classes_where_it_is_narrow() -> None:
    builder = ColumnBuilder()
    names = {"label": "single stroke roll", "predicted": "double stroke roll"}
    builder.add([(IndexLine(id="a", metrics={"loss": 1.0}, **names), ())])  # type: ignore[arg-type]
    table = SampleTable()
    async with Stage(table).run_test(size=(44, 6)) as pilot:
        table.show_samples(SampleList(builder.snapshot(), np.arange(1), metrics=("loss",), sort="loss"))
        assert "PREDICTED" in await shown(pilot) and "✗ double st…" in await shown(pilot)
        await pilot.resize_terminal(100, 6)
        assert "✗ double stroke roll" in await shown(pilot)


async def test_groups_have_headers_that_fold() -> None:
    found = columns(9)
    table = SampleTable()
    app = Stage(table)
    async with app.run_test(size=(100, 20)) as pilot:
        table.show_samples(SampleList(found, np.arange(9), group_rows(found, np.arange(9))))
        assert "▾ flam  3" in await shown(pilot) and table.row_count == 12
        assert table.key == GroupKey("flam") and table.item_row is None
        table.focus()
        await pilot.press("enter")
        assert "▸ flam  3" in await shown(pilot) and table.row_count == 9
        assert table.select_row(0) and table.item_row == 0 and table.row_count == 12
        await pilot.press("left")
        assert table.key == GroupKey("flam")
        await pilot.press("down", "down", "enter")
        assert isinstance(app.seen[-1], VirtualTable.Chosen) and app.seen[-1].key == 1
        assert not table.select_row(77)


async def test_a_click_on_a_header_asks_for_an_order() -> None:
    table = SampleTable()
    app = Stage(table)
    async with app.run_test(size=(100, 10)) as pilot:
        table.show_samples(listed(5))
        head = (await shown(pilot)).splitlines()[0]
        for title in ("WER", "TARGET", "LENGTH"):
            await pilot.click(table, offset=(head.index(title) + 1, 0))
        assert [event.key for event in app.seen] == ["val/wer", "label", "seconds"]  # type: ignore[attr-defined]


async def test_a_hundred_thousand_items_are_as_quick_as_ten() -> None:
    builder = ColumnBuilder()
    builder.add(
        [(IndexLine(id=f"{n:x}", metrics={"wer": n % 1000 / 1000}, label=NAMES[n % 3]), ()) for n in range(100_000)]
    )
    found = builder.snapshot()
    rows = sort_rows(found, np.arange(100_000), "wer")
    table = SampleTable()
    async with Stage(table).run_test(size=(120, 40)) as pilot:
        began = time.perf_counter()
        table.show_samples(SampleList(found, rows, metrics=("wer",), sort="wer"))
        for y in range(40):
            table.render_line(y)
        table.show_samples(SampleList(found, rows[::-1], metrics=("wer",), sort="wer", descending=False))
        spent = time.perf_counter() - began
        await pilot.press("end")
        assert table.cursor == 99_999
        assert spent < 1.0, f"{spent:.2f} s for what should take a few milliseconds"


@pytest.mark.parametrize("size", [(1, 1), (4, 3), (30, 6), (300, 90)])
async def test_any_size_draws(size: tuple[int, int]) -> None:
    diff, bars, table, parameters, transport = TextDiff(), ClassBars(), SampleTable(), ParameterTable(), Transport()
    diff.pair = TextPair("one two three", "one too three four")
    bars.scores = ClassScores({"a": 0.5, "b": 0.5}, "a", "b")
    transport.state = TransportState(PlayerState(1, True, 0, "Speakers", duration_s=3, error="No."), TRACKS)
    for widget in (diff, bars, table, parameters, transport, matrix()):
        async with Stage(widget).run_test(size=size) as pilot:
            if widget is table:
                found = columns(50)
                table.show_samples(SampleList(found, np.arange(50), group_rows(found, np.arange(50)), ("val/wer",)))
            if widget is parameters:
                parameters.show_parameters({"a": Parameter(0.1, 0.2)})
            await pilot.press("down", "right", "end")
            assert len((await shown(pilot)).splitlines()) == size[1]
