"""What a user meets on the Listen screen: levels, the pair, blind results, empty runs, filters, comparing."""
# ruff: noqa: F811  (fixtures of test_listen are taken by their names)

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from textual.widgets import Input, OptionList

from wavedeck.app.listen import actions, blind
from wavedeck.app.listen.blind_panel import BlindPanel
from wavedeck.app.listen.details import Details
from wavedeck.app.listen.matching import gains_to
from wavedeck.app.listen.session import Session
from wavedeck.app.screens.listen import ListenScreen
from wavedeck.engine.playback import FakePlayer
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.samples import SampleSet
from wavedeck.engine.samples.measures import measure
from wavedeck.engine.samples.notes import SampleNotes
from wavedeck.tests.app.conftest import deck, until
from wavedeck.tests.app.test_listen import opened, player, read, run, screen, text  # noqa: F401
from wavedeck.tests.fakes import samples as fakes
from wavedeck.tests.fakes.runs import make_run
from wavedeck.widgets.sample_table import SampleTable
from wavedeck.widgets.track_view import TrackView

pytestmark = pytest.mark.usefixtures("still")
RATE = fakes.RATE


def mixed_set(run: RunDir, seconds: float = 0.5) -> SampleSet:
    """Some items with a class and some without: a silent target, a NaN metric, tracks in an order that is no help."""
    noise = fakes.worse(fakes.silence(seconds), 1.0)
    with fakes.SampleWriter(run.path, "val") as writer:
        for number in range(4):
            target = fakes.silence(seconds) if number == 0 else fakes.drum_like(seconds, seed=number)
            writer.log(
                {"input": (0.01 * noise, RATE), "target": (target, RATE), "prediction": (noise, RATE)},
                step=7,
                key=f"take-{number}",
                metrics={"mse": float("nan") if number == 1 else 9.0 - number, **{f"m{n}": n / 7 for n in range(6)}},
                **({"label": "flam", "predicted": "drag"} if number % 2 else {}),
            )
        writer.log({}, step=7, key="no number", metrics={"m1": 1.0})
    return SampleSet(run.path, "val").load()


# --- levels


def test_nothing_is_matched_to_silence() -> None:
    def view(name: str, sound: fakes.Audio) -> TrackView:
        return TrackView(name, rate=RATE, frames=len(sound), measures=measure(sound, RATE))

    loud = fakes.worse(fakes.silence(1.0), 1.0)
    quiet = 0.01 * loud
    views = [view("target", fakes.silence(1.0)), view("prediction", loud), view("input", quiet)]
    assert gains_to(0, views, "target") == ([0.0, 0.0, 0.0], "target is silent")
    gains, why = gains_to(1, views, "prediction") or ([], "")
    assert not why and gains[2] - gains[1] == pytest.approx(24.0, abs=1)  # as far as the limit goes
    broken = [TrackView("target", problem="gone"), *views[1:]]
    assert gains_to(0, broken, "target") == ([0.0, 0.0, 0.0], "target cannot be measured")
    assert gains_to(0, [TrackView("target", rate=RATE, frames=9), *views[1:]], "target") is None


async def test_a_silent_target_is_not_matched_and_says_so(at: Home, run: RunDir, player: FakePlayer) -> None:
    mixed_set(run)
    async with opened(at, run, "val", SampleSet(run.path, "val").load().item(0).id) as pilot:
        await until(pilot, lambda: "take-0" in text(pilot).split("step 7")[0], "the item")
        await until(pilot, lambda: "! levels as they are  target is silent" in text(pilot), "the words")
        assert [source.gain_db for source in player.sources] == [0.0] * 4
        assert "level as it is" in text(pilot)
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "b prediction   ! levels as they are" in text(pilot), "the words where it is narrow")
        await pilot.press("2", "A")  # the input is the reference now, and can be matched with
        await until(pilot, lambda: player.sources[2].gain_db < -5 and "as they are" not in text(pilot), "gains")


async def test_a_gain_has_one_sign(at: Home, run: RunDir, player: FakePlayer) -> None:
    mixed_set(run)
    async with opened(at, run) as pilot:
        await pilot.press("f", *"key=take-2", "enter")
        await until(pilot, lambda: "dB matched" in text(pilot) and "+24.0 dB" in text(pilot), "the gains")
        assert "++" not in text(pilot)


# --- the pair


def test_target_and_prediction_are_the_pair_by_name(run: RunDir) -> None:
    samples = mixed_set(run)
    session = Session(run.path, "val", FakePlayer())
    session.samples.load()
    session.show(samples.item(2))
    tracks = [voice.track for voice in session.voices]
    assert [tracks[side] for side in session.sides] == ["target", "prediction"]
    assert tracks[session.heard] == "target"
    session.hear(tracks.index("input"))
    session.show(samples.item(3))
    assert [tracks[side] for side in session.sides] == ["target", "input"]  # as it was chosen


async def test_the_result_of_a_blind_test_stays_and_is_kept(
    at: Home, run: RunDir, player: FakePlayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blind.BlindTest.answer, "__defaults__", (lambda: True,))
    monkeypatch.setattr(blind.BlindTest.begin.__func__, "__defaults__", (lambda: True,))
    fakes.speech_set(run.path, steps=(100,), items=2)
    async with opened(at, run) as pilot:
        await pilot.press("r", "4", "x", "B", "B", "A", "escape")
        await until(pilot, lambda: "blind test ended" in text(pilot), "the result")
        assert "target against prediction" in text(pilot) and "2 of 3 right, p = 0.500" in text(pilot)
        await pilot.press("g")  # one of the keys that go to the screen first: it is only "seen"
        await until(pilot, lambda: "(heard)" in text(pilot), "the tracks")
        assert screen(pilot).wanted.group is None and screen(pilot).query_one(SampleTable).has_focus
        assert not screen(pilot).query_one(BlindPanel).result
        await pilot.press("shift+tab")
        await until(pilot, lambda: "blind test" in text(pilot) and "2 of 3 right" in text(pilot), "the facts")
        item = screen(pilot).session.item
        lines = [json.loads(line) for line in (run.path / "notes" / "samples.jsonl").read_text().splitlines()]
        (kept,) = (line for line in lines if line.get("kind") == "blind")
        assert (kept["pair"], kept["trials"], kept["right"], kept["p"]) == (["target", "prediction"], 3, 2, 0.5)
        assert kept["t"] > 0 and kept["id"] == item.id  # type: ignore[union-attr]
        again = SampleNotes(run.path)
        assert again.of(item).rating == 4 and len(again.blind_tests(item)) == 1  # type: ignore[arg-type]


# --- the list


async def test_nan_is_a_number_and_columns_are_what_the_items_have(at: Home, run: RunDir, player: FakePlayer) -> None:
    mixed_set(run)
    async with opened(at, run) as pilot:
        rows = {line.split()[0]: line for line in text(pilot).splitlines() if line.startswith("    take-")}
        assert set(rows) == {f"take-{n}" for n in range(4)} and "NaN" in rows["take-1"]
        assert "MSE▼" in text(pilot) and "KEY" in text(pilot)
        missing = next(line for line in text(pilot).splitlines() if "no number" in line).split("▕")[0]
        assert "NaN" not in missing and "–" in missing
        head = next(line for line in text(pilot).splitlines() if "step 7" in line)
        assert "…" not in head.split("step 7")[1] and " · +" in head
        await pilot.press("g", "g", "g")
        await until(pilot, lambda: "without a tag" in text(pilot), "the group")


async def test_a_note_is_seen(at: Home, run: RunDir, player: FakePlayer) -> None:
    mixed_set(run)
    async with opened(at, run) as pilot:
        await pilot.press("N", *"hollow", "enter")
        await until(pilot, lambda: "“hollow”" in text(pilot), "the note in the line")
        await until(pilot, lambda: "✎" in text(pilot), "the sign in the list")


# --- a run without samples


async def test_a_run_without_samples_says_how_to_get_some(at: Home, run: RunDir, player: FakePlayer) -> None:
    async with deck(at, (80, 24), listen=(run.id, None, None)) as pilot:
        await until(pilot, lambda: "wavedeck eval" in text(pilot) and "wavedeck.log_sample" in text(pilot), "the words")
        assert "choose an item" not in text(pilot) and "e Export" not in text(pilot)
        await pilot.press("e", "space", "x", "r")
        assert isinstance(pilot.app.screen, ListenScreen)
        fakes.drum_set(run.path, items=2)
        await until(pilot, lambda: "test 2 items" in text(pilot) and "space Play" in text(pilot), "the set")


async def test_a_command_is_not_told_to_evaluate(at: Home, player: FakePlayer) -> None:
    own = make_run(at, headline=None, recipe=None)
    async with deck(at, (80, 24), listen=(own.id, None, None)) as pilot:
        await until(pilot, lambda: "wavedeck.log_sample" in text(pilot), "the words")
        assert "wavedeck eval" not in text(pilot)


# --- a filter that means nothing


async def test_a_wrong_filter_keeps_its_prompt_and_the_list(at: Home, run: RunDir, player: FakePlayer) -> None:
    fakes.speech_set(run.path, steps=(100,), items=3)
    async with opened(at, run, size=(80, 24)) as pilot:
        line = screen(pilot).query_one("#line", Input)
        await pilot.press("f", *"wer>0.4")
        await until(pilot, lambda: "2 of 3 items" in text(pilot), "the filter")
        await pilot.press("x", "enter")
        await until(pilot, lambda: "is no number" in text(pilot), "what is wrong")
        assert "2 of 3 items · wer>0.4 · wer ▼" in text(pilot) and line.has_focus
        await pilot.press("q", "n")  # letters, not commands
        assert line.value == "wer>0.4xqn" and isinstance(pilot.app.screen, ListenScreen)
        await pilot.press("backspace", "backspace", "backspace", "enter")
        await until(pilot, lambda: not line.has_class("shown") and "is no number" not in text(pilot), "the prompt")


async def test_an_escape_too_many_does_not_leave(
    at: Home, run: RunDir, player: FakePlayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "CALM_S", 60.0)
    fakes.speech_set(run.path, steps=(100,), items=1)
    async with opened(at, run) as pilot:
        await pilot.press("f", "escape", "escape", "escape")
        assert isinstance(pilot.app.screen, ListenScreen)
        monkeypatch.setattr(actions, "CALM_S", 0.0)
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, ListenScreen), "out")


# --- steps and other runs


def test_across_steps_the_prediction_is_meant(run: RunDir) -> None:
    fakes.speech_set(run.path, items=1)
    session = Session(run.path, "val", FakePlayer())
    session.samples.load()
    session.show(session.samples.item(2))
    assert session.voices[session.heard].track == "target"
    assert session.show_steps() is None and session.across == "prediction"
    assert session.names == ("step 100", "step 200", "step 300")
    assert session.voices[0].title == "prediction · step 100"


async def test_comparing_says_who_has_the_item_and_what_they_made_of_it(
    at: Home, run: RunDir, player: FakePlayer
) -> None:
    fakes.speech_set(run.path, steps=(300,), items=2)
    fox = make_run(at, "20260921-1427-sousa-solar-fox", headline=None)
    fakes.speech_set(fox.path, steps=(100,), items=2)
    owl = make_run(at, "20260921-1428-sousa-late-owl", headline=None)
    fakes.drum_set(owl.path, "val", items=1)
    async with opened(at, run, size=(80, 24)) as pilot:
        await until(pilot, lambda: len(pilot.app.views) == 3, "the runs")  # type: ignore[attr-defined]
        await pilot.press("c")
        await until(pilot, lambda: "late-owl" in text(pilot) and "no such item" in text(pilot), "the other runs")
        assert "compare clip-1 with another run" in text(pilot) and "ours: wer" in text(pilot)
        options = pilot.app.screen.query_one(OptionList)
        assert [options.get_option_at_index(place).disabled for place in range(2)] == [False, True]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ListenScreen) and "with solar-fox" in text(pilot))
        theirs = screen(pilot).session.theirs()
        assert theirs is not None and f"({theirs.metrics['wer']:.4f})" in text(pilot)
        await pilot.press("3")
        await until(pilot, lambda: "[b prediction · solar-fox]" in text(pilot), "whose track it is")
        await until(pilot, lambda: "b prediction · solar-fox (heard)" in text(pilot), "also above the picture")
        assert " a target " in text(pilot).splitlines()[-2]
        details = screen(pilot).query_one(Details)
        assert details.page == "text"
        await pilot.press("d")
        await until(pilot, lambda: "solar-fox: over a lazy dog" in text(pilot), "their text")


# --- notes on disk


def test_blind_tests_of_others_are_read_and_odd_lines_forgiven(run: RunDir, tmp_path: Path) -> None:
    samples = fakes.speech_set(run.path, items=1, steps=(1,))
    item, notes = samples.item(0), SampleNotes(run.path)
    notes.rate(item, 3)
    known = {"set": item.set, "id": item.id, "kind": "blind", "pair": ["a", "b"], "trials": 2, "right": 2, "p": 0.25}
    with open(notes.path, "a") as handle:
        for line in (known, known | {"right": 9}, known | {"pair": 7}, {**known, "kind": "other"}):
            handle.write(json.dumps(line) + "\n")
    notes.poll()
    assert notes.of(item).rating == 3
    assert [(test.pair, test.right) for test in notes.blind_tests(item)] == [(("a", "b"), 2)]
    assert np.isfinite(notes.columns(samples.items, item.set).ratings).all()
