"""The second line of a run's header: what happened to the run comes before what it once warned of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.style import Style

from wavedeck.engine.hosts import LinkState
from wavedeck.engine.manifest import ExitRecord
from wavedeck.engine.run_view import RunView
from wavedeck.engine.state import RunState
from wavedeck.engine.summary import Notice
from wavedeck.widgets.palette import Palette
from wavedeck.widgets.run_facts import status_line

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
