"""Comparing on the Listen screen: which two tracks, their difference, blind tests, and what a test survives."""
# ruff: noqa: F811  (fixtures of test_listen are taken by their names)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from textual.widgets import Input

from wavedeck.app.listen import blind, voices
from wavedeck.app.listen.session import Session
from wavedeck.app.screens import listen
from wavedeck.app.screens.listen import ListenScreen
from wavedeck.engine.playback import FakePlayer
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.samples import SampleSet
from wavedeck.tests.app.conftest import until
from wavedeck.tests.app.test_listen import opened, player, read, run, screen, text  # noqa: F401
from wavedeck.tests.fakes import samples as fakes
from wavedeck.tests.fakes.runs import make_run
from wavedeck.widgets.sample_table import SampleTable

pytestmark = pytest.mark.usefixtures("still")
RATE = 48_000


@pytest.fixture
def unlike(run: RunDir) -> SampleSet:
    """An item with a stereo target, a mono input and a stereo prediction of twice their length."""
    with fakes.SampleWriter(run.path, "val") as writer:
        short, long = fakes.stereo(0.5, RATE), fakes.stereo(1.0, RATE)
        tracks = {"target": (short, RATE), "input": (short[:, :1], RATE), "prediction": (0.5 * long, RATE)}
        for step in (1, 2):
            writer.log(tracks, step=step, key="x", metrics={"wer": 0.5})
            writer.log(tracks, step=step, key="y", metrics={"wer": 0.4})
    return SampleSet(run.path, "val").load()


@pytest.fixture
def session(unlike: SampleSet) -> Session:
    """A session on that item, with the fake player."""
    made = Session(unlike.run_dir, "val", FakePlayer())
    made.samples.load()
    made.show(made.samples.item(0))
    return made


def source(session: Session):  # type: ignore[no-untyped-def]
    """What is heard."""
    assert isinstance(session.player, FakePlayer)
    return session.player.sources[session.player.state().source]


def test_the_difference_of_another_pair_has_that_pairs_channels_and_length(session: Session) -> None:
    session.hear(2)
    session.player.seek(0.3)
    session.player.play()
    assert session.null_test() is None
    heard, item = source(session), session.item
    assert item is not None
    target, prediction = (session.samples.audio(item, track) for track in ("target", "prediction"))
    assert (heard.frames, heard.channels, heard.name) == (RATE, 2, "prediction − target")
    assert session.state.position_s == pytest.approx(0.3) and session.state.playing
    wanted = prediction.copy()
    wanted[: len(target)] -= target
    np.testing.assert_array_equal(heard.read(0, 2 * RATE), wanted)
    session.null_test()
    session.hear(1)
    session.null_test()
    assert source(session).name == "input − target" and source(session).channels == 2


def test_what_the_difference_cannot_read_is_said(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.hear(2)
    session.null_test()
    monkeypatch.setattr(SampleSet, "audio", lambda *_: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(OSError, match="gone"):
        source(session).read(0, 100)
    assert session.difference is not None
    with pytest.raises(OSError, match="gone"):
        session.difference.read(0, 100)


def test_any_voice_can_be_the_reference(session: Session) -> None:
    assert [session.letter(place) for place in range(3)] == ["a", "2", "b"]  # by their names
    session.hear(2)
    assert [session.letter(place) for place in range(3)] == ["a", "2", "b"]
    session.null_test()
    loads = session.generation
    assert session.refer_to(1) is None
    assert session.generation > loads and source(session).name == "prediction − input"
    session.null_test()
    assert session.sides == (1, 2) and source(session).name == "input"
    session.refer_to(2)
    assert session.sides == (2, 1)
    assert session.refer_to(7) is not None


def test_the_pair_is_kept_for_the_next_item(session: Session) -> None:
    session.hear(2)
    session.refer_to(1)
    session.show(session.samples.item(1))
    assert session.sides == (1, 2) and session.heard == 2


def test_unlike_rates_have_a_difference(run: RunDir) -> None:
    tone = np.sin(2 * np.pi * 200 * np.arange(4800) / RATE).astype(np.float32)[:, None]
    with fakes.SampleWriter(run.path, "val") as writer:
        writer.log({"target": (tone, RATE), "prediction": (tone[::3], RATE // 3)}, key="x")
    samples = fakes.SampleSet(run.path, "val").load()
    first, second = voices.own_voices(samples, samples.item(0))
    assert voices.impossible(first, second) is None
    difference = voices.Difference(first, second)
    assert (difference.rate, difference.frames) == (RATE // 3, 1600)
    assert np.abs(difference.read(200, 1000)).max() < 0.01


def test_a_blind_test_waits_for_the_levels_of_both(session: Session) -> None:
    session.hear(2)
    assert "measured" in (session.begin_blind() or "") and session.blind is None
    session.toggle_match()
    assert session.begin_blind() is None
    assert session.blind is not None and (session.blind.first, session.blind.second) == (0, 2)


async def test_levels_do_not_change_within_a_blind_test(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        session = screen(pilot).session
        session.begin_blind()
        asked = len([call for call in player.calls if call[0] == "match"])
        session.saw(session.generation, [session.views[0], session.views[0]])
        assert len([call for call in player.calls if call[0] == "match"]) == asked


async def test_the_blind_test_takes_the_chosen_pair(
    at: Home,
    run: RunDir,
    player: FakePlayer,
    unlike: SampleSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blind.BlindTest.begin.__func__, "__defaults__", (lambda: True,))
    async with opened(at, run) as pilot:
        await pilot.press("2", "A", "3", "x")
        await until(pilot, lambda: "A is input, B is prediction" in text(pilot), "the pair")
        assert player.state().source == 2
        await pilot.press("a")
        assert player.state().source == 1


async def test_a_tally_is_told_before_it_is_gone(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.speech_set(run.path, items=4, steps=(1,))
    fakes.drum_set(run.path)
    async with opened(at, run, "val") as pilot:
        for answers, keys in enumerate((["down"], ["down", "enter"], ["w"]), 2):
            await pilot.press("x", *"A" * answers)
            tally = screen(pilot).session.blind.tally  # type: ignore[union-attr]
            assert f"of {answers} right" in tally
            await pilot.press(*keys)
            await until(pilot, lambda tally=tally: f"blind test ended: {tally[:12]}" in text(pilot), "what came out")
            assert screen(pilot).session.blind is None
            if keys != ["w"]:
                await read(pilot)


async def test_prediction_against_another_runs_prediction(
    at: Home,
    run: RunDir,
    player: FakePlayer,
) -> None:
    fakes.speech_set(run.path)
    other = make_run(at, "20260921-1427-sousa-calm-otter", headline=None)
    fakes.speech_set(other.path, steps=(100,))
    async with opened(at, run) as pilot:
        await until(pilot, lambda: len(pilot.app.views) == 2, "both runs")  # type: ignore[attr-defined]
        await pilot.press("c")
        await until(pilot, lambda: "calm-otter  step 100" in text(pilot), "the run")
        await pilot.press("enter")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, ListenScreen) and len(screen(pilot).session.voices) == 3
        )
        await pilot.press("at", "3", "n")
        assert player.sources[3].name == "prediction · calm-otter − prediction"
        await until(pilot, lambda: "b − a" in text(pilot))
        compared = screen(pilot).session.other
        assert compared is not None
        closed: list[str] = []
        compared.samples.close = lambda: closed.append("other")  # type: ignore[method-assign]
        await pilot.press("escape", "c")
        assert closed == ["other"] and len(screen(pilot).session.voices) == 2


async def test_another_set_keeps_levels_as_they_are_and_closes_files(
    at: Home,
    run: RunDir,
    player: FakePlayer,
) -> None:
    fakes.speech_set(run.path)
    fakes.drum_set(run.path)
    async with opened(at, run, "val") as pilot:
        await pilot.press("m", "w")
        await until(pilot, lambda: screen(pilot).session.samples.name == "test")
        assert not screen(pilot).session.matched
        assert ("close",) not in player.calls


def test_a_session_closes_the_other_run_too(session: Session) -> None:
    from wavedeck.app.listen.session import Other

    closed: list[int] = []
    other = SampleSet(session.samples.run_dir, "val")
    other.close = lambda: closed.append(1)  # type: ignore[method-assign]
    assert session.compare(Other(other, "other")) is None
    session.close_files()
    assert closed == [1]


async def test_the_difference_can_be_exported(
    at: Home,
    run: RunDir,
    player: FakePlayer,
    tmp_path: Path,
) -> None:
    import soundfile

    samples = fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        await pilot.press("n")
        await read(pilot)
        await pilot.press("e")
        await until(pilot, lambda: "Track prediction − target" in text(pilot))
        pilot.app.screen.query_one("#folder", Input).value = str(tmp_path / "out")
        await pilot.click("#export-track")
        await until(pilot, lambda: list((tmp_path / "out").glob("*-prediction-minus-target.wav")), "the file")
        item = screen(pilot).session.item
        assert item is not None
        (path,) = (tmp_path / "out").glob("*.wav")
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
        assert rate == fakes.RATE
        np.testing.assert_array_equal(audio, samples.audio(item, "prediction") - samples.audio(item, "target"))


async def test_enter_on_another_item_goes_on_playing(
    at: Home, run: RunDir, player: FakePlayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.speech_set(run.path)
    async with opened(at, run) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: player.state().playing, "the sound")
        monkeypatch.setattr(listen, "SETTLE_S", 60.0)  # enter is quicker than the list's own choice
        await pilot.press("down", "enter")
        await until(pilot, lambda: screen(pilot).session.item.row == screen(pilot).listing.rows[1])  # type: ignore[union-attr]
        await until(pilot, lambda: player.state().playing, "the other sound")
        await pilot.press("enter")
        await until(pilot, lambda: not player.state().playing, "silence")
        assert screen(pilot).query_one(SampleTable).cursor == 1
