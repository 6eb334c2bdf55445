"""Journals that rewind, steer terminals or hold absurd numbers: what summaries and series make of them."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedeck.engine.events import Event, decode_line, decode_lines
from wavedeck.engine.feed import read_metrics
from wavedeck.engine.logger import EventWriter
from wavedeck.engine.manifest import Attempt, ExitRecord
from wavedeck.engine.rundir import RunDir
from wavedeck.engine.state import Evidence, RunState, derive_state
from wavedeck.engine.summary import Summary, all_notices

HOSTILE = "a\x1b]0;owned\x07\x9b31m\u202e\n"


def line(kind: str, t: float = 1.0, **fields: object) -> bytes:
    return json.dumps({"t": t, "k": kind, **fields}).encode() + b"\n"


def summary_of(*lines: bytes) -> Summary:
    summary = Summary()
    summary.absorb(decode_lines(b"".join(lines))[0])
    return summary


def row(step: int | None, **values: float) -> Event:
    return Event(t=1.0, k="metrics", step=step, v=dict(values))


numbers = st.floats(-4, 4) | st.just(math.nan) | st.just(math.inf)
rows = st.builds(
    lambda step, values: Event(t=1.0, k="metrics", step=step, v=values),
    st.none() | st.integers(0, 30),
    st.dictionaries(st.sampled_from(["train/loss", "val/acc", "x"]), numbers, max_size=3),
)
starts = st.builds(
    lambda step, attempt: Event(t=1.0, k="start", step=step, attempt=attempt),
    st.none() | st.integers(0, 30),
    st.integers(1, 4),
)
journals = st.tuples(st.lists(rows, max_size=30), starts, st.lists(rows | starts, max_size=30))


@given(journals, st.lists(st.integers(0, 61), max_size=8))
@settings(deadline=None, max_examples=80)
def test_any_batching_of_a_journal_with_a_resume_is_summarised_alike(
    parts: tuple[list[Event], Event, list[Event]], cuts: list[int]
) -> None:
    journal = [*parts[0], parts[1], *parts[2]]
    singly, batched = Summary(), Summary()
    for event in journal:
        singly.absorb([event])
    edges = [0, *sorted(min(cut, len(journal)) for cut in cuts), len(journal)]
    for begin, end in zip(edges, edges[1:], strict=False):
        batched.absorb(journal[begin:end])
    for name in ("step", "epoch", "last", "last_steps", "bests", "nan_counts", "rows"):
        assert repr(getattr(batched, name)) == repr(getattr(singly, name)) or (
            _sorted(getattr(batched, name)) == _sorted(getattr(singly, name))
        ), name


def _sorted(value: Any) -> str:
    return repr(sorted(value.items())) if isinstance(value, dict) else repr(value)


def test_many_records_in_one_batch_are_thinned_as_one_by_one_and_the_first_stays() -> None:
    journal = [row(step, loss=1.0 / (1 + step)) for step in range(1000)]
    whole, singly = Summary(), Summary()
    whole.absorb(journal)
    for event in journal:
        singly.absorb([event])
    assert whole.bests == singly.bests and len(whole.bests["loss"]) <= 64
    whole.absorb([Event(t=2.0, k="start", step=10, attempt=2)])
    best = whole.best(None)
    assert best is not None and best[2] is not None and 0 <= best[2] <= 10


def test_a_resume_takes_back_the_step_and_the_values_after_it() -> None:
    summary = Summary()
    summary.absorb([row(5, val=0.5), row(9, loss=0.1), Event(t=2.0, k="start", step=6, attempt=2)])
    assert (summary.step, summary.last) == (6, {"val": 0.5})
    spoken = Summary()
    spoken.absorb([row(9, loss=0.3, lr=0.1)], only_new_keys_than=summary)
    assert spoken.last == {"lr": 0.1}, "a value that was taken back is still the trainer's own metric"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (*_texts(key), *_texts(item))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def test_no_text_of_a_run_steers_a_terminal(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    hostile = [
        line("metrics", step=1, v={HOSTILE: 0.5, "a\x1c]0;owned\x08\x9b31m\u202e\r": 0.7, "x" * 10_000: 1.0}),
        line("progress", done=1, total=2, unit=HOSTILE, description=HOSTILE * 1000),
        line("phase", name=HOSTILE),
        line("alert", level=HOSTILE, text=HOSTILE * 1000),
        line("alert", rule=HOSTILE),
        line("log", level="warning", text=HOSTILE),
        line("end", reason=HOSTILE),
    ]
    run.events.write_bytes(b"".join(hostile) * 2)
    found = [*_texts(msgspec.to_builtins(summary_of(*hostile))), *read_metrics(run)]
    assert any("owned" in text for text in found)
    for text in found:
        assert len(text) <= 500
        assert not [char for char in text if unicodedata.category(char) in ("Cc", "Cf")]


def test_names_that_look_alike_when_made_safe_cost_one_of_them_only(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.events.write_bytes(line("metrics", step=1, v={"a\x1b": 1.0, "a\x07": 2.0, "b": 3.0}) * 3)
    views = read_metrics(run)
    assert set(views) == {"a·", "b"} and len(views["a·"]) == len(views["b"]) == 3


@pytest.mark.parametrize(
    "absurd",
    [
        b'{"t":1,"k":"metrics","step":1' + b"0" * 30 + b',"v":{"a":1}}',
        b'{"t":1,"k":"metrics","step":9223372036854775808,"v":{"a":1}}',
        b'{"t":1e400,"k":"metrics","step":2,"v":{"a":1}}',
        b'{"t":1e30,"k":"metrics","step":2,"v":{"a":1}}',
        b'{"t":1,"k":"metrics","step":2,"epoch":1e300,"v":{"a":1}}',
        b'{"t":1,"k":"progress","done":1e300}',
        b'{"t":1,"k":"end","reason":"failed","attempt":1' + b"0" * 30 + b"}",
    ],
)
def test_an_absurd_number_costs_its_line_only(tmp_path: Path, absurd: bytes) -> None:
    run = RunDir(tmp_path)
    good = line("metrics", step=3, v={"a": 2})
    run.events.write_bytes(good + absurd + b"\n" + good)
    events, bad = decode_lines(run.events.read_bytes())
    assert (len(events), bad) == (2, 1) and decode_line(absurd) is None
    summary = Summary()
    summary.absorb(events)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(summary), type=Summary) == summary
    assert read_metrics(run)["a"].name == "a"


def test_rows_without_steps_after_the_largest_step_are_read(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.events.write_bytes(line("metrics", step=2**62, v={"a": 1}) + line("metrics", v={"a": 2}) * 3)
    assert len(read_metrics(run)["a"]) == 4


def test_warnings_are_noticed_the_last_ten_and_each_once() -> None:
    lines = [line("log", float(n), level="warning", text=f"w{n % 12}") for n in range(30)]
    summary = summary_of(*lines, line("log", level="info", text="quiet"), line("log", 31.0, level="error", text="w5"))
    texts = [notice.text for notice in summary.notices]
    assert texts[-1] == "w5" and len(texts) == len(set(texts)) == 10 and "quiet" not in texts


def test_a_resume_drops_the_notices_of_the_attempt_before_and_keeps_its_own() -> None:
    old, new = line("alert", 1.0, text="old"), line("log", 3.0, level="warning", text="new")
    summary = summary_of(line("start", attempt=1), old, line("start", 2.0, attempt=2), new)
    assert [notice.text for notice in summary.notices] == ["new"]
    summary.absorb([Event(t=4.0, k="start", step=5, attempt=2)])
    assert [notice.text for notice in summary.notices] == ["new"], "the training's own start is no new attempt"
    spoken = summary_of(line("log", 1.0, level="warning", text="old"), line("log", 2.5, level="warning", text="said"))
    assert [notice.text for notice in all_notices(summary, spoken)] == ["said", "new"]


@pytest.mark.parametrize(
    ("end_attempt", "state"), [(1, RunState.KILLED), (2, RunState.STOPPED), (None, RunState.STOPPED)]
)
def test_a_reason_counts_for_its_own_attempt_only(end_attempt: int | None, state: RunState) -> None:
    attempt = Attempt(attempt=2, requested=1.0, argv=["x"], cwd="/")
    exit_ = ExitRecord(attempt=2, ended=5.0, signal=9, oom_killed=True)
    evidence = Evidence(attempt, None, exit_, end_reason="stopped", end_attempt=end_attempt)
    assert derive_state(evidence, 10.0) is state


def test_the_summary_knows_whose_end_it_is() -> None:
    summary = summary_of(line("start", attempt=1), line("end", reason="stopped", attempt=1))
    assert (summary.end_reason, summary.end_attempt) == ("stopped", 1)
    summary.absorb([Event(t=2.0, k="start", attempt=2)])
    assert (summary.end_reason, summary.end_attempt) == (None, None)


@pytest.mark.parametrize("done", [math.nan, math.inf, "x", None, np.arange(3), 10**400, 1e300])
def test_a_progress_that_is_no_number_is_said_once(tmp_path: Path, done: Any) -> None:
    writer = EventWriter(tmp_path / "events.jsonl")
    for _ in range(2):
        writer.progress(done, 10)
    writer.progress(np.int64(3), math.inf, description=None)  # type: ignore[arg-type]
    writer.progress(4, "many")
    events, bad = decode_lines((tmp_path / "events.jsonl").read_bytes())
    assert bad == 0
    assert [(event.done, event.total) for event in events if event.k == "progress"] == [(3.0, None), (4.0, None)]
    assert len([event for event in events if event.k == "log"]) == 2


def test_a_metric_called_step_and_the_step_are_refused_apart(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "events.jsonl")
    writer.metrics({"step": "x"}, step=2**63, epoch=1e300)
    events, bad = decode_lines((tmp_path / "events.jsonl").read_bytes())
    assert bad == 0 and [event.text for event in events if event.k == "log"] == [
        "metric 'step' was not recorded: str is not one number",
        "the step was not recorded: too large or not finite",
        "the epoch was not recorded: too large or not finite",
    ]
