"""Around the sound on the Listen screen: closer looks, healing, keys that parts share, attached files, the device."""
# ruff: noqa: F811  (fixtures of test_listen are taken by their names)

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from threading import Lock
from types import SimpleNamespace

import numpy as np
import pytest
from textual.widgets import Input, OptionList

from wavedeck.app.listen import device_ask
from wavedeck.app.listen.attached import MOST_TEXT, read_attached
from wavedeck.app.listen.session import Session
from wavedeck.app.listen.watching import SamplesWatcher
from wavedeck.app.screens import listen
from wavedeck.engine.playback import FakePlayer, Output
from wavedeck.engine.playback.devices import Device, NoSound
from wavedeck.engine.playback.preference import DEVICE_VARIABLE, wanted_device
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.samples import SampleError, SampleSet
from wavedeck.engine.samples.notes import SampleNotes
from wavedeck.tests.app.conftest import until
from wavedeck.tests.app.test_listen import opened, player, read, run, screen, text  # noqa: F401
from wavedeck.tests.fakes import samples as fakes
from wavedeck.widgets.confusion_matrix import ConfusionMatrix
from wavedeck.widgets.sample_table import SampleTable
from wavedeck.widgets.track_stack import TrackStack
from wavedeck.widgets.transport import Transport

pytestmark = pytest.mark.usefixtures("still")


# --- closer looks


async def test_a_late_closer_look_takes_nothing_away(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        session = screen(pilot).session
        early = [replace(view, measures=None, spectrogram=None, closer=view.spectrogram) for view in session.views]
        gains = [source.gain_db for source in player.sources]
        screen(pilot)._closer_read(session.generation, early)
        assert all(view.measures and view.spectrogram and view.closer for view in session.views)
        assert [source.gain_db for source in player.sources] == gains
        whole = [replace(view, closer=None) for view in session.views]
        session.saw(session.generation, whole)
        assert all(view.closer for view in session.views)


async def test_zoomed_in_the_next_step_is_looked_at_closely(
    at: Home,
    run: RunDir,
    player: FakePlayer,
) -> None:
    fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        await pilot.press("plus")
        await until(pilot, lambda: all(view.closer for view in screen(pilot).session.views), "the first")
        await pilot.press("s")
        await until(pilot, lambda: all(view.closer for view in screen(pilot).session.views), "the next step")


# --- reading that fails and heals


def test_the_list_is_posted_again_after_a_failure(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.speech_set(run.path)
    posted: list[object] = []
    samples = SampleSet(run.path, "val")
    target = SimpleNamespace(post_message=posted.append)
    watcher = SamplesWatcher(samples, SampleNotes(run.path), Lock(), target)  # type: ignore[arg-type]
    while not posted:
        watcher.look()
    watcher.look()
    count = len(posted)
    with monkeypatch.context() as broken:
        broken.setattr(SampleSet, "poll", lambda *_: (_ for _ in ()).throw(SampleError("away")))
        with pytest.raises(SampleError):
            watcher.look()
    watcher.look()
    assert len(posted) == count + 1
    watcher.look()
    assert len(posted) == count + 1


async def test_the_list_heals_on_its_item(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.speech_set(run.path)
    index = run.path / "samples" / "val" / "index.jsonl"
    async with opened(at, run) as pilot:
        await pilot.press("down", "down")
        await until(pilot, lambda: screen(pilot).session.item.row == screen(pilot).listing.rows[2])  # type: ignore[union-attr]
        item = screen(pilot).session.item
        index.rename(index.with_suffix(".away"))
        index.mkdir()
        await until(pilot, lambda: "! The index of" in text(pilot), "the failure")
        index.rmdir()
        index.with_suffix(".away").rename(index)
        await until(pilot, lambda: "val 6 items" in text(pilot) and "! The index" not in text(pilot), "healing", 30)
        await until(pilot, lambda: screen(pilot).query_one(SampleTable).cursor == 2, "the cursor")
        assert screen(pilot).session.item.id == item.id  # type: ignore[union-attr]


async def test_a_replaced_index_loads_what_is_under_the_cursor(
    at: Home,
    run: RunDir,
    player: FakePlayer,
) -> None:
    fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        shutil.rmtree(run.path / "samples" / "val")
        fakes.speech_set(run.path, steps=(7, 8, 9))  # the same items in the same rows
        await until(pilot, lambda: screen(pilot).session.item.step == 9, "the other index", 12)  # type: ignore[union-attr]
        await read(pilot)


# --- keys that parts share


async def test_keys_of_the_part_in_front_are_not_shadowed(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.drum_set(run.path)
    async with opened(at, run, "test") as pilot:
        shown = screen(pilot)
        table, stack, matrix = (shown.query_one(kind) for kind in (SampleTable, TrackStack, ConfusionMatrix))
        await pilot.press("g", "home")
        await until(pilot, lambda: table.on_header, "the header")
        lines, asked = table.row_count, len(player.calls)
        await pilot.press("left")
        assert table.row_count < lines and len(player.calls) == asked
        await pilot.press("right", "down")
        await until(pilot, lambda: table.row_count == lines and not table.on_header)
        await pilot.press("right")
        assert player.state().position_s > 0
        stack.focus()
        await pilot.press("plus", "plus")
        start = stack.view.start
        await pilot.press("full_stop")
        assert stack.view.start > start and player.gain_db == 0
        await pilot.press("tab")
        matrix.focus()
        await pilot.press("right", "right", "g")
        assert matrix.pair == ("flam", "drag") and shown.wanted.group == "label"


# --- attached files


def test_attached_files_that_are_no_text_or_gone_are_named(run: RunDir) -> None:
    with fakes.SampleWriter(run.path, "val") as writer:
        files = {"a": b"\xff\xfe\0", "b": b"x" * (MOST_TEXT + 1), "c": "ünï\x1b[2J".encode(), "d": b"gone"}
        writer.log({"input": (fakes.silence(0.1), fakes.RATE)}, key="x", attachments=files)
    samples = SampleSet(run.path, "val").load()
    item = samples.item(0)
    samples.attachment(item, "d").unlink()
    found = {file.name: file for file in read_attached(samples, item)}
    assert found["a"].text is None and found["a"].size == 4 - 1
    assert (found["b"].text, found["b"].size) == (None, None)
    assert found["c"].text == "ünï\x1b[2J" and "not there" in found["d"].problem


async def test_attached_text_is_shown_and_saved(
    at: Home,
    run: RunDir,
    player: FakePlayer,
    tmp_path: Path,
) -> None:
    fakes.drum_set(run.path)
    async with opened(at, run, "test") as pilot:
        assert "R L R R L R L L" not in text(pilot)
        await pilot.press("F")
        await until(pilot, lambda: "R L R R L R L L" in text(pilot), "the text")
        await pilot.press("e")
        await until(pilot, lambda: "Attached: notation" in text(pilot))
        pilot.app.screen.query_one("#folder", Input).value = str(tmp_path / "out")
        await pilot.click("#export-files")
        await until(pilot, lambda: (tmp_path / "out" / "samples.csv").exists(), "the files")
        (saved,) = (path for path in (tmp_path / "out").iterdir() if path.suffix != ".csv")
        assert saved.read_bytes() == b"R L R R L R L L\n"


async def test_no_attached_file_is_said(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        await pilot.press("F")
        await until(pilot, lambda: "No file is attached" in text(pilot))


# --- the device


DEVICES = [Device(0, "Speakers", "ALSA", 2, 48000, True), Device(3, "Head[b]phones", "ALSA", 2, 48000)]


async def test_the_device_is_chosen_and_kept(
    at: Home,
    run: RunDir,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(DEVICE_VARIABLE, raising=False)
    monkeypatch.setattr(device_ask, "list_devices", lambda: DEVICES)
    made: list[tuple[Output, FakePlayer]] = []

    def make(output: Output) -> FakePlayer:
        made.append((output, FakePlayer()))
        made[-1][1].show(device=output.device or "Speakers")
        return made[-1][1]

    monkeypatch.setattr(listen, "make_player", make)
    fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        await pilot.press("b", "comma", "space")
        made[0][1].advance(0.25)
        await pilot.press("D")
        await until(pilot, lambda: "● Speakers" in text(pilot) and "Head[b]phones" in text(pilot), "the devices")
        await pilot.press("down", "enter")
        await until(pilot, lambda: len(made) == 2, "the other player")
        (_, before), (output, now) = made
        assert output.device == "Head[b]phones" == wanted_device(at.root)
        assert json.loads((at.root / "sound.json").read_text()) == {"device": "Head[b]phones"}
        assert ("close",) in before.calls
        state = now.state()
        assert (state.position_s, state.source, state.playing, now.gain_db) == (pytest.approx(0.25), 1, True, -1.5)
        assert [source.gain_db for source in now.sources] == [source.gain_db for source in before.sources]
        await pilot.press("D")
        await until(pilot, lambda: "● Head[b]phones" in text(pilot))
        await pilot.press("home", "enter")
        await until(pilot, lambda: len(made) == 3)
        assert made[2][0].device is None


async def test_devices_that_cannot_be_listed_or_chosen_say_why(
    at: Home,
    run: RunDir,
    player: FakePlayer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> list[Device]:
        raise NoSound("There is no PortAudio library here.")

    fakes.speech_set(run.path)
    monkeypatch.setattr(device_ask, "list_devices", fail)
    async with opened(at, run) as pilot:
        await pilot.press("D")
        await until(pilot, lambda: "There is no PortAudio library here." in text(pilot))
        await pilot.press("escape")
        monkeypatch.setenv(DEVICE_VARIABLE, "Speakers")
        monkeypatch.setattr(device_ask, "list_devices", lambda: DEVICES)
        await pilot.press("D")
        await until(pilot, lambda: "WAVEDECK_DEVICE=Speakers decides" in text(pilot))
        assert pilot.app.screen.query_one(OptionList).disabled
        await pilot.press("escape")


# --- drawing


async def test_the_line_is_drawn_no_more_often_than_it_can_be_read(
    at: Home,
    run: RunDir,
    player: FakePlayer,
) -> None:
    fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        await pilot.press("space")
        await until(pilot, lambda: player.state().playing, "the sound")
        shown, transport = screen(pilot), screen(pilot).query_one(Transport)
        drawn = transport.state
        player.advance(0.05)
        shown._tick()
        assert transport.state is drawn
        assert shown.query_one(TrackStack).position_s == pytest.approx(0.05)
        player.advance(0.06)
        shown._tick()
        assert transport.state is not drawn
        await pilot.press("space")
        assert transport.state.player.position_s == pytest.approx(0.11)  # type: ignore[union-attr]


async def test_the_way_out_and_the_help_are_at_the_foot(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.drum_set(run.path, items=6)
    async with opened(at, run, "test", size=(80, 24)) as pilot:
        for width in (80, 120):
            await pilot.resize_terminal(width, 24)
            await until(pilot, lambda: "? Help" in text(pilot))
            foot = text(pilot).rstrip("\n").splitlines()[-1]
            wanted = ("space Play", "a b A/B", "n Null", "x ABX", "esc Back", "? Help")
            assert all(words in foot for words in wanted), foot
            assert not foot.rstrip().endswith((" s", " s Ste")), "keys that do not fit are left out whole"
            assert "PREDICTED" in text(pilot)


def test_names_of_voices_tell_them_apart(run: RunDir) -> None:
    fakes.speech_set(run.path)
    session = Session(run.path, "val", FakePlayer())
    session.samples.load()
    session.show(session.samples.item(0))
    assert session.names == ("target", "prediction")
    session.show_steps()
    assert session.names == ("step 100", "step 200", "step 300")
    session.null_test()
    assert session.names[-1] == "difference" and np.isfinite(session.state.position_s)
