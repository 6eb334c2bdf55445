"""A real agent that follows real run directories: every byte once, in order, and no end before the log is drained."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from wavedeck.engine.logger import EventWriter
from wavedeck.engine.manifest import SupervisorRecord, write_record
from wavedeck.engine.names import SET_NAME
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.samples.ids import is_set_name
from wavedeck.remote.mirror_files import is_appended
from wavedeck.remote.payload import agent_run
from wavedeck.tests.fakes.agent_driver import AgentDriver, digest
from wavedeck.tests.fakes.runs import make_run, write_metrics

RUN = "20260921-1426-sousa-brisk-heron"
OTHER = "20260921-1430-sousa-calm-otter"
PYTHON = [sys.executable, "-IS", "-c"]
Start = Callable[..., AgentDriver]


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """`start(**options of AgentDriver)` starts an agent."""
    started: list[AgentDriver] = []

    def begin(**options: Any) -> AgentDriver:
        started.append(AgentDriver(home, **options))
        return started[-1]

    yield begin
    for agent in started:
        agent.close()
        assert agent.gaps == []


@pytest.fixture
def run(home: Path) -> RunDir:
    """A finished run with metrics and a console."""
    made = make_run(Home(home), RUN)
    write_metrics(made, 300)
    made.console.write_bytes(os.urandom(200_000))
    return made


def test_a_finished_run_is_sent_whole_and_its_end_last(start: Start, run: RunDir) -> None:
    (run.path / "samples" / "val").mkdir(parents=True)
    (run.path / "samples" / "val" / "index.jsonl").write_text('{"id":1}\n')
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / "manifest.jsonl").write_text('{"name":"a.ckpt"}\n')
    (run.path / "checkpoints" / "a.ckpt").touch()
    agent = start()
    agent.follow(RUN)
    agent.op("caught_up", run=RUN)
    for path in ("events.jsonl", "console.log", "samples/val/index.jsonl", "checkpoints/manifest.jsonl"):
        assert agent.copy(RUN, path) == (run.path / path).read_bytes()
    for path in ("manifest.json", "supervisor.json", "exit.json", "attempts/0001.json"):
        assert agent.record(RUN, path) == (run.path / path).read_bytes()
    told = agent.ops(RUN)
    assert told[0] == "record manifest.json" and told[-3:] == ["record exit.json", "alive", "caught_up"]
    assert agent.op("alive", run=RUN) == {"op": "alive", "run": RUN, "attempt": 1, "alive": False, "orphan": None}
    assert agent.op("present", run=RUN)["names"] == ["a.ckpt"]
    assert not [kind for kind in told if kind.startswith("reset")]


def test_every_set_that_can_be_read_is_sent_and_taken(start: Start, run: RunDir) -> None:
    sets = ["val", "val.clean", "_dev", "9" * 80, "a-b_c.d"]
    for name in [*sets, "9" * 81, ".hidden", "with blank"]:
        (run.path / "samples" / name).mkdir(parents=True)
        (run.path / "samples" / name / "index.jsonl").write_text('{"id":1}\n')
    agent = start()
    agent.follow(RUN)
    agent.op("caught_up", run=RUN)
    there = [path.name for path in (run.path / "samples").iterdir()]
    assert {name for name in there if agent.copy(RUN, f"samples/{name}/index.jsonl")} == set(sets)
    assert {name for name in there if is_set_name(name)} == set(sets)
    assert all(is_appended(f"samples/{name}/index.jsonl") for name in sets)
    assert SET_NAME == agent_run.SET_NAME  # the agent runs elsewhere, with a copy of the rule


def test_what_is_here_already_is_not_sent_again(start: Start, run: RunDir) -> None:
    events, console = run.events.read_bytes(), run.console.read_bytes()
    have = {"events.jsonl": events[:5000], "console.log": console, "machine.jsonl": b""}
    records = {name: (run.path / name).read_bytes() for name in ("manifest.json", "exit.json")}
    agent = start()
    agent.follow(RUN, have, records | {"attempts/0001.json": b"old", "stop.json": b"gone since"})
    agent.op("caught_up", run=RUN)
    assert agent.copy(RUN, "events.jsonl") == events and agent.copy(RUN, "console.log") == console
    sent = [(h["file"], h["offset"]) for h, _ in agent.said if h["op"] == "data"]
    assert sent[0] == ("events.jsonl", 5000) and {name for name, _ in sent} == {"events.jsonl"}
    assert agent.ops(RUN, "record") == ["record supervisor.json", "record stop.json", "record attempts/0001.json"]
    assert agent.op("record", file="stop.json")["gone"] is True


@pytest.mark.parametrize("have", [b"something else", b"x" * 5000, b"y" * 10_000_000], ids=["short", "middle", "longer"])
def test_a_copy_of_something_else_begins_anew(start: Start, run: RunDir, have: bytes) -> None:
    agent = start()
    agent.follow(RUN, {"events.jsonl": have})
    agent.op("caught_up", run=RUN)
    assert agent.copy(RUN, "events.jsonl") == run.events.read_bytes()
    assert agent.ops(RUN, "reset") == ["reset events.jsonl"]


def test_appended_lines_arrive_soon(start: Start, home: Path, wait_for: Callable[..., Any]) -> None:
    run = make_run(Home(home), RUN, state="starting")
    agent = start()
    agent.follow(RUN)
    agent.op("caught_up", run=RUN)
    writer = EventWriter(run.events)
    delays = []
    for step in range(20):
        before = time.monotonic()
        writer._append(json.dumps({"t": 1, "k": "metrics", "step": step, "v": {}}) + "\n")
        wait_for(lambda: agent.copy(RUN, "events.jsonl") == run.events.read_bytes())
        delays.append(time.monotonic() - before)
    writer.close()
    assert sorted(delays)[10] < 0.5, f"usually below 0.1 s: {sorted(delays)}"
    with run.events.open("ab") as handle:
        handle.write(b'{"torn')
    wait_for(lambda: agent.copy(RUN, "events.jsonl").endswith(b'{"torn'), what="half a line as it is")


@pytest.mark.parametrize("how", ["truncated", "replaced", "rewritten", "removed"])
def test_a_file_that_is_written_anew(start: Start, home: Path, how: str, wait_for: Callable[..., Any]) -> None:
    run = make_run(Home(home), RUN, state="starting")
    run.events.write_bytes(b"first line\n" * 50)
    agent = start()
    agent.follow(RUN)
    agent.op("caught_up", run=RUN)
    fresh = b"another beginning\n" * (2 if how == "truncated" else 80)
    if how == "replaced":
        other = run.path / "events.new"
        other.write_bytes(fresh)
        other.replace(run.events)
    elif how == "removed":
        run.events.unlink()
        agent.ask("ping")
        since = len(agent.said)
        (run.path / "stop.json").write_text("{}")  # the look that takes this up has missed the file as well
        agent.op("record", since=since, file="stop.json")
        run.events.write_bytes(fresh)
    else:
        run.events.write_bytes(fresh)
    wait_for(lambda: agent.copy(RUN, "events.jsonl") == fresh, what="the new content")
    assert agent.ops(RUN, "reset") == ["reset events.jsonl"]


def test_links_lead_nowhere(start: Start, run: RunDir, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    for name in ("index.jsonl", "manifest.jsonl", "machine.jsonl", "stop.json", "0002.json"):
        (secret / name).write_text("secret")
    (run.path / "machine.jsonl").symlink_to(secret / "machine.jsonl")
    (run.path / "stop.json").symlink_to(secret / "stop.json")
    (run.path / "attempts" / "0002.json").symlink_to(secret / "0002.json")
    (run.path / "checkpoints").symlink_to(secret)
    (run.path / "samples").mkdir()
    (run.path / "samples" / "val").symlink_to(secret)
    os.mkfifo(run.path / "supervisor.log")
    agent = start()
    agent.follow(RUN)
    agent.op("caught_up", run=RUN)
    assert not any(b"secret" in data for _, data in agent.said)
    assert "present" not in agent.ops(RUN)


def test_a_real_training_from_its_first_byte_to_its_end(
    start: Start, supervise: Callable[..., Any], run_dir: RunDir, wait_for: Callable[..., Any]
) -> None:
    agent = start()
    agent.follow(run_dir.id)
    go = run_dir.path / "go"
    code = f"""
import os, time
for i in range(2000): print('line', i, 'x' * 200, flush=True)
while not os.path.exists({str(go)!r}): time.sleep(0.01)
for i in range(2000): print('last', i, 'x' * 200)
"""
    run = supervise([*PYTHON, code])
    agent.op("alive", run=run_dir.id, alive=True)
    go.touch()
    run.ended()
    agent.op("alive", run=run_dir.id, alive=False)
    assert agent.copy(run_dir.id, "console.log") == run_dir.console.read_bytes()
    assert len(agent.copy(run_dir.id, "console.log")) > 800_000
    told = agent.ops(run_dir.id)
    end = told.index("record exit.json")
    assert "data console.log" not in told[end:] and told.index("record supervisor.json") < told.index("alive") < end
    assert [h["alive"] for h, _ in agent.said if h["op"] == "alive"] == [True, False]


def test_the_end_waits_for_the_log_even_when_the_link_is_slow(start: Start, run: RunDir) -> None:
    run.console.write_bytes(os.urandom(3 << 20))
    agent = start(acknowledge=False)
    agent.follow(RUN)
    agent.op("behind")
    console = run.console.read_bytes()
    while True:
        told = agent.ops(RUN)
        if agent.copy(RUN, "console.log") == console:
            break
        assert "record exit.json" not in told and "alive" not in told
        count, agent.unacknowledged = agent.unacknowledged, 0
        agent.send("ack", bytes=count)
        agent.ask("ping")
    agent.op("alive", run=RUN, alive=False)
    told = agent.ops(RUN)
    assert told.index("record exit.json") > max(i for i, kind in enumerate(told) if kind == "data console.log")


def test_no_more_than_the_credit_is_under_way_and_live_lines_pass_a_backfill(
    start: Start, home: Path, run: RunDir, wait_for: Callable[..., Any]
) -> None:
    run.console.write_bytes(os.urandom(6 << 20))
    live = make_run(Home(home), OTHER, state="starting")
    agent = start(acknowledge=False, options={"credit": 256 << 10})
    agent.follow(RUN)
    agent.op("behind")
    for _ in range(3):
        agent.ask("ping")
    wait_for(lambda: agent.unacknowledged > 192 << 10)
    assert agent.unacknowledged <= 224 << 10
    agent.follow(OTHER)
    live.events.write_bytes(b"now\n")
    agent.op("data", run=OTHER, file="events.jsonl")
    assert agent.unacknowledged <= 256 << 10
    agent._acknowledge = True
    agent.send("ack", bytes=agent.unacknowledged)
    wait_for(lambda: agent.copy(RUN, "console.log") == run.console.read_bytes(), what="the backfill")
    agent.op("behind", bytes=0)


def test_backfills_take_turns(start: Start, home: Path) -> None:
    runs = [make_run(Home(home), name) for name in (RUN, OTHER)]
    for run in runs:
        run.console.write_bytes(os.urandom(2 << 20))
    agent = start()
    for run in runs:
        agent.follow(run.id)
    for run in runs:
        agent.op("caught_up", run=run.id)
    order = [h["run"] for h, _ in agent.said if h["op"] == "data" and len(h) and h["file"] == "console.log"]
    first_end = min(len(order) - order[::-1].index(run.id) for run in runs)
    assert first_end > len(order) * 0.7


def test_runs_are_announced(start: Start, home: Path, run: RunDir) -> None:
    older = make_run(Home(home), OTHER)
    for path in [*older.path.rglob("*"), older.path]:
        os.utime(path, (1_000_000_000, 1_000_000_000))
    (home / "runs" / "notes.txt").touch()
    (home / "runs" / ".20260921-1426-x-y-z.0123.new").mkdir()
    agent = start()
    agent.send("watch")
    rows = agent.op("runs")["runs"]
    assert [name for name, _ in rows] == [RUN, OTHER] and rows[1][1] == 1_000_000_000
    agent.ask("create_run", b"{}", run="20260922-0000-new-one-here", files=[["manifest.json", 2]])
    agent.op("run_new", run="20260922-0000-new-one-here")
    agent.ask("discard", run=OTHER)
    agent.op("run_gone", run=OTHER)
    assert len([1 for h, _ in agent.said if h["op"] == "run_new"]) == 1


def test_two_thousand_runs_are_announced_in_frames_that_fit(start: Start, home: Path) -> None:
    for number in range(2003):
        (home / "runs" / f"20260101-{number:04d}-many-runs-here").mkdir(parents=True)
    agent = start()
    agent.send("watch")
    agent.wait(lambda h: h["op"] == "runs" and not h.get("more"), "the last part")
    rows = [row for h, _ in agent.said if h["op"] == "runs" for row in h["runs"]]
    assert len(rows) == 2000 and len({name for name, _ in rows}) == 2000
    assert [mtime for _, mtime in rows] == sorted((mtime for _, mtime in rows), reverse=True)
    for name, _ in rows:
        agent.send("follow", run=name, have={}, records={})
    done = agent.wait(lambda h: h["op"] == "caught_up" and h["run"] == rows[-1][0], "the last run", 60)
    assert done
    assert len(psutil.Process(agent.process.pid).open_files()) < 20


def test_a_run_that_is_deleted_while_it_is_followed(start: Start, home: Path, run: RunDir) -> None:
    agent = start()
    agent.send("watch")
    agent.follow(RUN)
    agent.op("caught_up", run=RUN)
    shutil.rmtree(run.path)
    agent.op("run_gone", run=RUN)
    make_run(Home(home), RUN, state="starting")
    agent.op("run_new", run=RUN)
    at = len(agent.said)
    agent.follow(RUN)
    agent.op("caught_up", run=RUN, since=at)


def test_an_unfollowed_run_is_silent(start: Start, run: RunDir, home: Path) -> None:
    agent = start()
    agent.follow(RUN)
    agent.op("caught_up", run=RUN)
    agent.send("unfollow", run=RUN)
    run.stop.write_text("{}")
    make_run(Home(home), OTHER)
    agent.follow(OTHER)
    agent.op("caught_up", run=OTHER)
    assert "record stop.json" not in agent.ops(RUN)


def test_a_killed_supervisor_and_the_trainer_it_left(
    start: Start, supervise: Callable[..., Any], run_dir: RunDir
) -> None:
    agent = start()
    agent.follow(run_dir.id)
    code = "import signal,time; signal.signal(signal.SIGHUP, signal.SIG_IGN); print('up', flush=True); time.sleep(300)"
    run = supervise([*PYTHON, code])
    run.printed(b"up")
    agent.op("alive", run=run_dir.id, alive=True, attempt=1)
    run.process.kill()
    run.process.wait()
    gone = agent.op("alive", run=run_dir.id, alive=False)
    assert gone["orphan"] == run.record().child
    os.kill(gone["orphan"], signal.SIGKILL)
    agent.op("alive", run=run_dir.id, alive=False, orphan=None)
    assert "record exit.json" not in agent.ops(run_dir.id)


def test_a_supervisor_of_another_boot_or_with_a_stolen_pid_is_dead(start: Start, home: Path) -> None:
    for name, record in (
        (RUN, SupervisorRecord(attempt=1, pid=os.getpid(), started=1.0, child=os.getpid())),
        (OTHER, SupervisorRecord(attempt=1, pid=os.getpid(), started=1.0, boot_id="another")),
    ):
        made = make_run(Home(home), name, state="running")
        write_record(made.supervisor, record)
    agent = start()
    for name in (RUN, OTHER):
        agent.follow(name)
        assert agent.op("alive", run=name)["alive"] is False and agent.op("alive", run=name)["orphan"] is None


def test_a_resumed_run_is_alive_again(start: Start, supervise: Callable[..., Any], run_dir: RunDir) -> None:
    agent = start()
    agent.follow(run_dir.id)
    supervise([*PYTHON, "print('one')"]).ended()
    agent.op("alive", run=run_dir.id, alive=False, attempt=1)
    at = len(agent.said)
    supervise([*PYTHON, "print('two' * 100000)"], number=2).ended()
    agent.op("record", run=run_dir.id, file="exit.json", since=at)
    agent.op("alive", run=run_dir.id, alive=False, attempt=2, since=at)
    assert json.loads(agent.record(run_dir.id, "exit.json") or b"")["attempt"] == 2
    assert agent.copy(run_dir.id, "console.log") == run_dir.console.read_bytes()
    assert digest(agent.record(run_dir.id, "attempts/0002.json") or b"") == digest(run_dir.attempt(2).read_bytes())


def test_records_that_change_and_go(start: Start, run: RunDir) -> None:
    agent = start()
    agent.follow(RUN)
    agent.op("caught_up", run=RUN)
    at = len(agent.said)
    for text in ("1", "22", "333"):
        temporary = run.path / ".stop.tmp"
        temporary.write_text(text)
        temporary.replace(run.stop)
    agent.wait(lambda h: agent.record(RUN, "stop.json") == b"333", "the last of them", since=at)
    run.stop.unlink()
    agent.op("record", run=RUN, file="stop.json", gone=True, since=at)
    run.manifest.write_bytes(b"x" * (1 << 20) + b"x")
    (run.path / "checkpoints").mkdir(exist_ok=True)
    (run.path / "checkpoints" / "one.ckpt").touch()
    agent.op("present", run=RUN, names=["one.ckpt"], since=at, timeout=30)
    assert len(agent.record(RUN, "manifest.json") or b"") < 1 << 20
