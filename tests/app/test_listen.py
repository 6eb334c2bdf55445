"""The Listen screen driven by its keys, with the fake player: what is loaded, heard, listed, tested and kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from wavedeck.app.listen import blind
from wavedeck.app.listen.details import Details
from wavedeck.app.listen.listing import Wanted
from wavedeck.app.screens import listen
from wavedeck.app.screens.listen import ListenScreen
from wavedeck.app.screens.run import RunScreen
from wavedeck.engine.playback import FakePlayer, SilentPlayer
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.samples.notes import SampleNotes
from wavedeck.tests.app.conftest import deck, until
from wavedeck.tests.conftest import Snapshot, screen_text
from wavedeck.tests.fakes import samples as fakes
from wavedeck.tests.fakes.runs import make_run
from wavedeck.widgets.confusion_matrix import ConfusionMatrix
from wavedeck.widgets.sample_table import SampleTable
from wavedeck.widgets.track_stack import TrackStack

pytestmark = pytest.mark.usefixtures("still")
SIZES = [(80, 24), (120, 36), (200, 50)]
IDS = [f"size{width}x{height}" for width, height in SIZES]


@pytest.fixture
def player(monkeypatch: pytest.MonkeyPatch) -> FakePlayer:
    """The player that the screen opens."""
    made = FakePlayer()
    monkeypatch.setattr(listen, "make_player", lambda _: made)
    return made


@pytest.fixture
def run(at: Home) -> RunDir:
    """A run with no headline, so that the samples' own metrics decide."""
    return make_run(at, headline=None)


def screen(pilot: Pilot[None]) -> ListenScreen:
    found = pilot.app.screen
    assert isinstance(found, ListenScreen)
    return found


def text(pilot: Pilot[None]) -> str:
    return screen_text(pilot.app)


@asynccontextmanager
async def opened(
    home: Home, run: RunDir, name: str | None = None, item: str | None = None, size: tuple[int, int] = (120, 36)
) -> AsyncIterator[Pilot[None]]:
    """The deck on the Listen screen, its first item read."""
    async with deck(home, size, listen=(run.id, name, item)) as pilot:
        await read(pilot)
        yield pilot


async def read(pilot: Pilot[None]) -> None:
    """Wait until everything that is shown is read."""
    await until(
        pilot,
        lambda: (
            screen(pilot).session.views
            and all(view.spectrogram is not None or view.problem for view in screen(pilot).session.shown)
        ),
        "the tracks",
    )


def went_to(player: FakePlayer, position_s: float) -> bool:
    """Play on to a place; a sound that has only just been loaded begins at its beginning."""
    left = position_s - player.state().position_s
    if left > 1e-6:
        player.advance(left)
    return player.state().position_s == pytest.approx(position_s)


@pytest.mark.parametrize("size", SIZES, ids=IDS)
@pytest.mark.parametrize("name", ["val", "test"])
async def test_looks(
    at: Home, run: RunDir, player: FakePlayer, snapshot: Snapshot, size: tuple[int, int], name: str
) -> None:
    fakes.speech_set(run.path) if name == "val" else fakes.drum_set(run.path)
    async with opened(at, run, name, size=size) as pilot:
        await until(pilot, lambda: "mem" in text(pilot) or size[0] < 100, "the machine")
        await pilot.press("space")
        await until(pilot, lambda: player.state().playing, "the sound")
        await until(pilot, lambda: went_to(player, 0.25) and "0:00.25 /" in text(pilot), "the playhead")
        snapshot.check(pilot.app)


async def test_looks_of_odd_sounds(at: Home, run: RunDir, player: FakePlayer, snapshot: Snapshot) -> None:
    fakes.odd_set(run.path)
    async with opened(at, run, "odd") as pilot:
        await until(pilot, lambda: "mem" in text(pilot), "the machine")
        for kind in ("silence", "clipping", "stereo", "8 channels", "NaN", "no samples", "192 kHz"):
            screen(pilot).wanted = Wanted(filter=f"tag:{kind.replace(' ', '?')}")
            screen(pilot).show_list()
            await until(pilot, lambda kind=kind: screen(pilot).session.item.tags == (kind,), kind)  # type: ignore[misc]
            await read(pilot)
            snapshot.check(pilot.app, kind.replace(" ", "-"))


async def test_worst_first_and_a_filter_that_is_wrong_says_so(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        shown = screen(pilot)
        wer = [shown.listing.columns.metrics["wer"][row] for row in shown.listing.rows]
        assert wer == sorted(wer, reverse=True) and len(wer) == 6
        await pilot.press("f", *"wer>0.2")
        await until(pilot, lambda: "2 of 6 items" in text(pilot), "the filter while it is typed")
        await pilot.press(*"x")
        await until(pilot, lambda: "is no number" in text(pilot))
        await pilot.press("escape", "escape")
        await until(pilot, lambda: "val 6 items" in text(pilot), "all of them")
        await pilot.press("O")
        await until(pilot, lambda: "wer ▲" in text(pilot))


async def test_tracks_are_switched_at_the_same_playhead(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        await pilot.press("space")
        await until(pilot, lambda: player.state().playing, "the sound")
        player.advance(0.5)
        loads = [call for call in player.calls if call[0] == "load"]
        await pilot.press("b")
        assert player.calls[-1] == ("switch", 1) and player.state().position_s == 0.5 and player.state().playing
        await until(pilot, lambda: screen(pilot).query_one(TrackStack).audible == 1)
        await pilot.press("1")
        assert player.calls[-1] == ("switch", 0)
        assert [call for call in player.calls if call[0] == "load"] == loads


async def test_loop_gain_and_seek(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        player.seek(0.2)
        await pilot.press("left_square_bracket")
        player.seek(0.6)
        await pilot.press("right_square_bracket")
        assert player.state().loop == pytest.approx((0.2, 0.6))
        await pilot.press("backspace", "comma")
        assert player.state().loop is None and player.gain_db == -1.5
        player.seek(0.5)
        await pilot.press("right")
        assert player.state().position_s == pytest.approx(0.55)


async def test_levels_are_matched_by_loudness_until_told_otherwise(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        loud = [view.measures.heard_lufs for view in screen(pilot).session.views if view.measures is not None]
        heard = [level + source.gain_db for level, source in zip(loud, player.sources, strict=False)]
        assert heard[0] == pytest.approx(heard[1], abs=0.1) and abs(loud[0] - loud[1]) > 1
        await pilot.press("m")
        assert [source.gain_db for source in player.sources] == [0.0, 0.0, 0.0]
        await until(pilot, lambda: "levels as they are" in text(pilot))


async def test_null_test_is_heard_and_seen(at: Home, run: RunDir, player: FakePlayer) -> None:
    samples = fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        await pilot.press("n")
        assert player.state().source == 2
        await until(pilot, lambda: "prediction − target" in text(pilot), "the difference")
        await read(pilot)
        item = screen(pilot).session.item
        assert item is not None
        wanted = samples.audio(item, "prediction") - samples.audio(item, "target")
        np.testing.assert_array_equal(player.sources[2].read(0, 10**6), wanted)
        await pilot.press("n")
        assert player.state().source == 0


async def test_blind_test_counts_and_tells_nothing(
    at: Home, run: RunDir, player: FakePlayer, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.speech_set(run.path)
    monkeypatch.setattr(blind.BlindTest.answer, "__defaults__", (lambda: True,))
    monkeypatch.setattr(blind.BlindTest.begin.__func__, "__defaults__", (lambda: True,))
    async with opened(at, run) as pilot:
        await pilot.press("x")
        assert player.state().source == 1 and player.state().playing
        await until(pilot, lambda: "trial 1" in text(pilot))
        assert "target (heard)" not in text(pilot) and "[b prediction]" not in text(pilot)
        await pilot.press("a")
        assert player.state().source == 0
        for answer in "BBBBB":
            await pilot.press(answer)
        await pilot.press("n", "m", "s")
        assert screen(pilot).session.blind is not None and not screen(pilot).session.nulling
        await until(pilot, lambda: "5 of 5 right, p = 0.031" in text(pilot), "the tally")
        await until(pilot, lambda: "mem" in text(pilot), "the machine")
        snapshot.check(pilot.app)
        await pilot.press("escape")
        await until(pilot, lambda: "blind test ended" in text(pilot), "the result")
        await pilot.press("escape")
        await until(pilot, lambda: "(heard)" in text(pilot), "the tracks again")


async def test_the_same_item_across_steps(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        await pilot.press("b", "space")
        await until(pilot, lambda: player.state().playing, "the sound")
        player.advance(0.3)
        await pilot.press("s")
        item = screen(pilot).session.item
        assert item is not None and item.step == 100 and "step 100 (1 of 3)" in text(pilot)
        state = player.state()
        assert (state.position_s, state.source, state.playing) == (pytest.approx(0.3), 1, True)
        await pilot.press("S")
        await until(pilot, lambda: "prediction at 3 steps" in text(pilot))
        assert [voice.note for voice in screen(pilot).session.voices] == ["step 100", "step 200", "step 300"]
        await pilot.press("3")
        assert player.state().source == 2 and player.state().position_s == pytest.approx(0.3)
        await pilot.press("escape")
        await until(pilot, lambda: "step 100 (1 of 3)" in text(pilot))


async def test_compare_with_another_run(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.speech_set(run.path)
    other = make_run(at, "20260921-1427-sousa-calm-otter", headline=None)
    fakes.speech_set(other.path, steps=(300,))
    async with opened(at, run) as pilot:
        await until(pilot, lambda: len(pilot.app.views) == 2, "both runs")  # type: ignore[attr-defined]
        await pilot.press("c")
        await until(pilot, lambda: "calm-otter  step 300" in text(pilot), "the run")
        await pilot.press("enter")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, ListenScreen) and len(screen(pilot).session.voices) == 3
        )
        assert screen(pilot).session.voices[2].title == "prediction · calm-otter"
        await pilot.press("3")
        assert player.state().source == 2
        await pilot.press("c")
        assert len(screen(pilot).session.voices) == 2


async def test_a_refresh_interrupts_nothing(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.speech_set(run.path, steps=(100,))
    async with opened(at, run) as pilot:
        await pilot.press("down")
        await until(pilot, lambda: screen(pilot).query_one(SampleTable).cursor == 1)
        await until(pilot, lambda: screen(pilot).session.item.row == screen(pilot).listing.rows[1])  # type: ignore[union-attr]
        await pilot.press("space")
        await until(pilot, lambda: player.state().playing)
        before, item = list(player.calls), screen(pilot).session.item
        fakes.speech_set(run.path, steps=(200,))
        await until(pilot, lambda: len(screen(pilot).listing.columns) == 12, "the new samples")
        await until(pilot, lambda: "now also step 200: s" in text(pilot))
        assert screen(pilot).session.item is item
        assert screen(pilot).listing.columns.ids[screen(pilot).query_one(SampleTable).item_row] == item.id  # type: ignore
        assert [call for call in player.calls[len(before) :] if call[0] != "match"] == []
        await pilot.press("s")
        assert screen(pilot).session.item.step == 200  # type: ignore[union-attr]


async def test_a_cell_of_the_confusion_matrix_opens_its_items(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.drum_set(run.path)
    async with opened(at, run, "test") as pilot:
        await pilot.press("tab")
        assert screen(pilot).query_one(Details).page == "confusion"
        matrix = screen(pilot).query_one(ConfusionMatrix)
        await until(pilot, lambda: matrix.pair == ("flam", "drag"))
        await pilot.press("p", "p")
        await until(pilot, lambda: matrix.has_focus)
        await pilot.press("enter")
        await until(pilot, lambda: "flam heard as drag" in text(pilot))
        rows = screen(pilot).listing.rows
        assert len(rows) == 2
        assert all(screen(pilot).session.samples.item(int(row)).predicted == "drag" for row in rows)
        await pilot.press("escape")
        assert len(screen(pilot).listing) == 24
        await pilot.press("g")
        assert [group.name for group in screen(pilot).listing.groups] == sorted(fakes.RUDIMENTS)


async def test_rating_and_note_are_kept_beside_the_run(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        await pilot.press("r", "4", "N", *"too [b]loud", "enter")
        await until(pilot, lambda: "★★★★ · “too" in text(pilot))
        item = screen(pilot).session.item
        assert item is not None
        note = SampleNotes(run.path).of(item)
        assert (note.rating, note.text) == (4, "too [b]loud")
        await pilot.press("f", *"rating>3")
        await until(pilot, lambda: len(screen(pilot).listing) == 1, "the rated one")


async def test_export_of_a_region(at: Home, run: RunDir, player: FakePlayer, tmp_path: Path) -> None:
    import soundfile

    samples = fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        player.loop(0.25, 0.5)
        await pilot.press("e")
        await until(pilot, lambda: "Region 0:00.25–0:00.50" in text(pilot))
        pilot.app.screen.query_one("#folder", Input).value = str(tmp_path / "out")
        await pilot.click("#export-region")
        await until(pilot, lambda: list((tmp_path / "out").glob("*.wav")), "the file")
        item = screen(pilot).session.item
        assert item is not None
        (path,) = (tmp_path / "out").glob("*.wav")
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
        assert rate == fakes.RATE
        np.testing.assert_array_equal(audio, samples.audio(item, "target", 4000, 4000))


async def test_no_device_says_why_and_everything_works(
    at: Home, run: RunDir, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "No audio device is there: plug one in and press play, or press e to export and hear it elsewhere."
    monkeypatch.setattr(listen, "make_player", lambda _: SilentPlayer(reason, clock=lambda: 0.0))
    fakes.speech_set(run.path)
    async with opened(at, run, size=(80, 24)) as pilot:
        await until(pilot, lambda: "no sound: No audio device" in text(pilot))
        snapshot.check(pilot.app)


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=IDS[:2])
async def test_empty(at: Home, run: RunDir, player: FakePlayer, snapshot: Snapshot, size: tuple[int, int]) -> None:
    async with deck(at, size, listen=(run.id, None, None)) as pilot:
        await until(pilot, lambda: "no samples yet" in text(pilot))
        await until(pilot, lambda: "mem" in text(pilot) or size[0] < 100, "the machine")
        snapshot.check(pilot.app)
        fakes.drum_set(run.path)
        await until(pilot, lambda: "test 24 items" in text(pilot), "the set that appeared")


async def test_tiny(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.speech_set(run.path, items=2, steps=(1, 2))
    async with opened(at, run, size=(1, 1)) as pilot:
        for size in ((12, 5), (40, 12), (120, 36)):
            await pilot.press("tab", "n", "x", "escape", "n", "n", "space", "g", "d", "e", "escape", "s", "S", "S")
            await pilot.resize_terminal(*size)
        await until(pilot, lambda: "val 2 items" in text(pilot))


async def test_hostile_and_broken_items_say_what_is_wrong(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.odd_set(run.path)
    place = {"target": fakes.place(1000)}
    fakes.append_line(run.path, "odd", {"id": "gone", "step": 9, "file": "step-9.h5", "tracks": place})
    fakes.append_line(run.path, "odd", b"{torn")
    async with opened(at, run, "odd", "gone") as pilot:
        await until(pilot, lambda: screen(pilot).session.item.id == "gone")  # type: ignore[union-attr]
        await until(pilot, lambda: screen(pilot).session.views[0].problem, "what is wrong")
        await until(pilot, lambda: "! wrong" in text(pilot))
        for _ in range(18):
            await pilot.press("up")
        await read(pilot)
        assert "\x07" not in text(pilot) and "! 1 bad line" in text(pilot)


async def test_a_clip_of_two_hours_opens_at_once(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.long_clip(run.path)
    async with opened(at, run, "long") as pilot:
        await until(pilot, lambda: "measured in parts" in text(pilot))
        assert player.state().duration_s == 7200


async def test_the_run_screen_leads_here_and_escape_back(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.speech_set(run.path)
    async with deck(at, open_run=run.id) as pilot:
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        await pilot.press("8")
        await until(pilot, lambda: isinstance(pilot.app.screen, ListenScreen))
        await read(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        await until(pilot, lambda: ("close",) in player.calls, "the device is let go")
