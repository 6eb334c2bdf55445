"""The second line of a run's header: what happened to the run comes before what it once warned of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from rich.style import Style
from rich.text import Text

from wavedeck.engine.hosts import LinkState
from wavedeck.engine.manifest import ExitRecord, Manifest
from wavedeck.engine.run_view import RunView
from wavedeck.engine.state import RunState
from wavedeck.engine.summary import Notice
from wavedeck.widgets.config_page import page
from wavedeck.widgets.palette import Palette
from wavedeck.widgets.run_end import end_words
from wavedeck.widgets.run_facts import headline, status_line
from wavedeck.widgets.runs_table import _progress, _row

PALETTE = Palette(*[Style()] * 7)
ALERT = RunView("20260921-1426-sousa-calm-otter", Path("run"), RunState.RUNNING, notices=(Notice(1.0, "error", "old"),))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (RunState.FAILED, "exit code 1: out of luck"),
        (RunState.KILLED, "exit code 1: out of luck"),
        (RunState.VANISHED, "no process and no exit record"),
        (RunState.STALLED, "alive, but silent for 0s"),
        (RunState.UNREADABLE, "torn"),
    ],
)
def test_an_alert_does_not_hide_what_happened(state: RunState, words: str) -> None:
    exit_ = ExitRecord(attempt=1, ended=2.0, exit_code=1, tail=["out of luck", " "])
    view = replace(ALERT, state=state, exit=exit_, problem="torn", last_sign=None)
    line = status_line(view, PALETTE).plain
    assert line.startswith(words)
    assert ("⚠ old" in line) is (state is not RunState.UNREADABLE), "and the alert is said after it"


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.FINISHED, RunState.STOPPED])
def test_an_alert_is_said_where_nothing_worse_happened(state: RunState) -> None:
    assert status_line(replace(ALERT, state=state), PALETTE).plain.startswith("⚠ old")


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (None, "gpu1 does not answer"),
        (LinkState.RECONNECTING, "gpu1 does not answer"),
        (LinkState.REFUSED, "refused: gpu1 answers and does not let us in"),
        (LinkState.KEY_UNKNOWN, "unknown host key:"),
        (LinkState.KEY_CHANGED, "host key changed: gpu1 shows another key"),
    ],
)
def test_a_run_out_of_reach_says_what_is_the_matter_with_its_host(link: LinkState | None, words: str) -> None:
    view = replace(ALERT, state=RunState.UNREACHABLE, host="gpu1")
    assert status_line(view, PALETTE, link).plain.startswith(words)


# --- a run that ended before it was done

RUIN = RunView(
    "20260921-1426-sousa-calm-otter",
    Path("run"),
    RunState.FAILED,
    manifest=Manifest("20260921-1426-sousa-calm-otter", "sousa", 1.0, recipe="sousa", overrides=["model=ast", "a.b=1"]),
    exit=ExitRecord(attempt=1, ended=2.0, exit_code=1, tail=["first", "sorry: " + "long " * 60 + "reason"]),
    phase="train",
    activity="check the sounds",
    done=32.0,
    total=32.0,
    unit="clip",
)


@pytest.fixture
def coloured() -> Palette:
    return Palette(*[Style(color=name) for name in ("white", "grey50", "green", "yellow", "red", "cyan", "blue")])


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.STOPPED, RunState.KILLED, RunState.VANISHED])
def test_the_bar_of_a_run_that_broke_off_is_not_that_of_one_that_is_done(coloured: Palette, state: RunState) -> None:
    line = headline(replace(RUIN, state=state), coloured, 200)
    assert "check the sounds" in line.plain and "32/32 clip" in line.plain and "ETA" not in line.plain
    assert _style_of(line, "━") == coloured.state(state)
    training = replace(RUIN, state=state, unit="step", activity="train")
    assert _style_of(_progress(training, coloured), "━") == coloured.state(state)
    assert _progress(replace(RUIN, state=state), coloured).plain == "32/32 clip", "no full bar of a check"  # type: ignore[union-attr]
    assert _style_of(_progress(replace(RUIN, state=RunState.FINISHED), coloured), "━") == coloured.good


def _style_of(text: Text | str, char: str) -> Style | str:
    assert isinstance(text, Text)
    place = text.plain.index(char)
    return next((span.style for span in text.spans if span.start <= place < span.end), text.style)


def test_why_it_failed_is_said_whole_with_the_last_lines() -> None:
    said = end_words(RUIN, PALETTE).plain
    assert said.startswith("exit code 1: sorry: long") and said.count("reason") == 2 and "last lines\nfirst\n" in said
    assert not end_words(replace(RUIN, state=RunState.FINISHED), PALETTE)
    long = replace(RUIN, exit=ExitRecord(1, 2.0, exit_code=1, tail=[f"line {n}" for n in range(40)]))
    assert "line 37" not in end_words(long, PALETTE, 2).plain and "line 38" in end_words(long, PALETTE, 2).plain


def test_the_choices_tell_runs_of_one_recipe_apart() -> None:
    assert RUIN.choices == RUIN.label == "model=ast"
    assert RUIN.manifest is not None
    assert replace(RUIN, manifest=msgspec.structs.replace(RUIN.manifest, name="longone")).label == "longone"
    row = _row(RUIN, PALETTE, 5.0)
    assert str(row.cells[1]) == "calm-otter model=ast" and "model=ast" in row.search


def test_the_header_of_several_attempts_tells_how_long_they_all_ran() -> None:
    view = RunView("20260921-1426-sousa-calm-otter", Path("run"), RunState.FINISHED, attempt=3, started=50.0)
    view = replace(view, ended=60.0, ran_s=130.0, evaluated_at=3725.0)
    assert "took 2m 10s · evaluated again 01:02:05" in status_line(view, PALETTE).plain


def test_the_config_page_says_what_run_takes() -> None:
    config = {"a": None, "b": True, "c": ["x", "y"], "d": {"lr": 0.001}}
    text = page(Manifest("i", "n", 1.0, config=config), PALETTE).plain
    for words in ("a: null", "b: true", "c: [x,y]", "lr: 0.001"):
        assert words in text, text
