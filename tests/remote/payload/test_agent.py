"""A real agent over pipes: its first word, requests, and how it ends."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from wavedeck.remote.bundle import agent_command, agent_input
from wavedeck.tests.fakes.agent_driver import NONCE, AgentDriver

RUN = "20261120-1759-drums-brisk-heron"
Start = Callable[..., AgentDriver]


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """`start(**options of AgentDriver)` starts an agent."""
    started: list[AgentDriver] = []

    def begin(place: Path | str | None = None, **options: Any) -> AgentDriver:
        started.append(AgentDriver(place or home, **options))
        return started[-1]

    yield begin
    for agent in started:
        agent.close()


def test_it_introduces_itself(start: Start, home: Path) -> None:
    agent = start()
    hello = agent.op("hello")
    assert agent.said[0][0] is hello
    assert hello["version"] == 1 and hello["pid"] == agent.process.pid and hello["home"] == str(home)
    assert hello["uid"] == os.getuid() and hello["boot"] and hello["tmux_socket"] == "wavedeck"
    assert hello["python"] == ".".join(map(str, sys.version_info[:3])) and hello["cores"] >= 1
    assert hello["programs"]["rsync"] is None or hello["programs"]["rsync"][0].isdigit()
    assert abs(hello["t"] - time.time()) < 60
    assert not home.exists(), "looking at a host writes nothing there"


def test_a_question_is_answered_with_both_clocks(start: Start) -> None:
    agent = start()
    pong = agent.ask("ping")
    assert pong["op"] == "pong" and abs(pong["t"] - time.time()) < 60 and pong["mono"] > 0


def test_commands_run_in_the_root_directory_with_input_and_environment(start: Start) -> None:
    agent = start()
    key = agent.begin(
        "run", b"hello", argv=["sh", "-c", 'cat; pwd; echo "$A" >&2; exit 3'], env={"A": "b", "PATH": "/bin:/usr/bin"}
    )
    assert agent.answer(key) == {"op": "done", "id": key, "status": 3}
    assert agent.output(key) == b"hello/\n" and agent.output(key, 2) == b"b\n"
    killed = agent.ask("run", argv=["sh", "-c", "kill -9 $$"])
    assert killed["status"] == -9
    assert agent.ask("run", argv=["cat"])["status"] == 0, "without input there is an empty one"


def test_a_program_that_is_not_there(start: Start) -> None:
    agent = start()
    assert agent.ask("run", argv=["/no/such/program"])["why"] == "missing"
    assert agent.ask("run", argv=["/etc"])["why"] == "missing"
    assert agent.ask("run", argv=[])["why"] == "error"
    assert agent.ask("run", argv=["echo", "\0"])["why"] == "error"


def test_a_command_that_takes_too_long_is_killed_with_its_group(
    start: Start, tmp_path: Path, wait_for: Callable[..., Any]
) -> None:
    agent = start()
    pid = tmp_path / "pid"
    key = agent.begin("run", argv=["sh", "-c", f"sleep 300 & echo $! > {pid}; wait"], timeout=0.5)
    answer = agent.answer(key)
    assert answer["why"] == "timeout" and "0.5 s" in answer["text"]
    wait_for(lambda: not alive(int(pid.read_text())), what="the end of its child")


def test_a_command_that_prints_too_much_is_killed(start: Start) -> None:
    agent = start()
    key = agent.begin("run", argv=["yes"], limit=100_000)
    assert agent.answer(key)["why"] == "too_large"
    assert len(agent.output(key)) <= 100_000


def test_a_cancelled_command_is_killed_and_says_nothing(
    start: Start, tmp_path: Path, wait_for: Callable[..., Any]
) -> None:
    agent = start()
    pid = tmp_path / "pid"
    key = agent.begin("run", argv=["sh", "-c", f"echo $$ > {pid}; sleep 300"])
    wait_for(lambda: pid.exists() and pid.read_text().strip())
    agent.send("cancel", id=key)
    wait_for(lambda: not alive(int(pid.read_text())))
    agent.ask("ping")
    assert not [h for h, _ in agent.said if h.get("id") == key]


def test_much_output_arrives_whole_while_pings_are_answered(start: Start) -> None:
    agent = start()
    size = 8 << 20
    key = agent.begin("run", argv=["head", "-c", str(size), "/dev/zero"], limit=size)
    assert agent.ask("ping")["op"] == "pong"
    assert agent.answer(key)["status"] == 0
    assert len(agent.output(key)) == size


def test_a_background_process_with_its_own_output_lives_on(start: Start, tmp_path: Path) -> None:
    agent = start()
    key = agent.begin("run", argv=["sh", "-c", "setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $!"])
    assert agent.answer(key)["status"] == 0
    pid = int(agent.output(key))
    agent.end_input()
    assert agent.process.wait(10) == 0
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_files_of_a_run(start: Start, home: Path) -> None:
    agent = start()
    files = [["manifest.json", 2], ["attempts/0001.json", 3], ["attempts/.env-0001", 1]]
    assert agent.ask("create_run", b"{}[1]x", run=RUN, files=files)["op"] == "done"
    run = home / "runs" / RUN
    assert (run / "manifest.json").read_bytes() == b"{}" and (run / "attempts/0001.json").read_bytes() == b"[1]"
    assert (run / "attempts").stat().st_mode & 0o777 == 0o700 and (run / "checkpoints").is_dir()
    assert (run / "attempts/.env-0001").stat().st_mode & 0o777 == 0o600
    assert agent.ask("create_run", b"", run=RUN, files=[])["why"] == "exists"
    assert [path.name for path in (home / "runs").iterdir()] == [RUN]

    assert agent.ask("place", b"one", run=RUN, name="stop.json", exclusive=False)["op"] == "done"
    assert agent.ask("place", b"two", run=RUN, name="stop.json", exclusive=True)["why"] == "exists"
    assert agent.ask("place", b"three", run=RUN, name="stop.json", exclusive=False)["op"] == "done"
    assert (run / "stop.json").read_bytes() == b"three"
    assert agent.ask("place", b"2", run=RUN, name="attempts/0002.json", exclusive=True)["op"] == "done"
    assert agent.ask("place", b"e", run=RUN, name="attempts/.env-0002", exclusive=False)["op"] == "done"
    assert (run / "attempts/.env-0002").stat().st_mode & 0o777 == 0o600

    assert agent.ask("exists", run=RUN, name="attempts/.env-0002")["existed"] is True
    assert agent.ask("withdraw", run=RUN, name="attempts/.env-0002")["existed"] is True
    assert agent.ask("withdraw", run=RUN, name="attempts/.env-0002")["existed"] is False
    assert agent.ask("exists", run=RUN, name="attempts/.env-0002")["existed"] is False
    leftovers = [path for path in run.rglob(".*") if path.name != ".env-0001"]
    assert leftovers == []


def test_a_discarded_run_is_gone(start: Start, home: Path, wait_for: Callable[..., Any]) -> None:
    agent = start()
    agent.ask("create_run", b"{}", run=RUN, files=[["manifest.json", 2]])
    assert agent.ask("discard", run=RUN)["op"] == "done"
    assert not (home / "runs" / RUN).exists()
    wait_for(lambda: not list((home / "trash").iterdir()), what="an empty trash")
    assert agent.ask("discard", run=RUN)["why"] == "missing"


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x", "a/b/c/d", "a//b", ".", "x\n", "ä", None, 3])
def test_names_that_lead_elsewhere_are_refused(start: Start, home: Path, name: object) -> None:
    agent = start()
    agent.ask("create_run", b"{}", run=RUN, files=[["manifest.json", 2]])
    for op in ("place", "withdraw", "exists"):
        assert agent.ask(op, run=RUN, name=name, exclusive=False)["why"] == "error"
    assert agent.ask("create_run", b"", run=RUN[:-1] + "s", files=[[name, 0]])["why"] == "error"
    assert [path.name for path in (home / "runs").iterdir()] == [RUN]


@pytest.mark.parametrize("run", ["", "..", "../runs", RUN + "/..", "x", None, 7, [RUN]])
def test_ids_that_are_none_are_refused(start: Start, run: object) -> None:
    agent = start()
    for op in ("create_run", "place", "withdraw", "exists", "discard", "living"):
        assert agent.ask(op, run=run, name="stop.json", files=[])["why"] == "error"


def test_no_link_inside_a_run_is_followed(start: Start, home: Path, tmp_path: Path) -> None:
    run = home / "runs" / RUN
    run.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (run / "attempts").symlink_to(tmp_path / "elsewhere")
    agent = start()
    assert agent.ask("place", b"x", run=RUN, name="attempts/0001.json", exclusive=True)["op"] == "failed"
    assert not list((tmp_path / "elsewhere").iterdir())
    assert (
        agent.ask("place", b"x", run="20261120-1759-none-no-run", name="stop.json", exclusive=True)["why"] == "missing"
    )


def test_hashes_and_facts_of_files(start: Start, home: Path, tmp_path: Path) -> None:
    home.mkdir()
    data = os.urandom(3_000_000)
    (home / "big").write_bytes(data)
    agent = start()
    answer = agent.ask("sha256", path="big")
    assert answer["sha256"] == hashlib.sha256(data).hexdigest() and answer["size"] == len(data)
    facts = agent.ask("stat", path=str(home / "big"))
    assert (facts["size"], facts["kind"]) == (len(data), "file") and abs(facts["mtime"] - time.time()) < 60
    assert agent.ask("stat", path=str(home))["kind"] == "dir"
    assert agent.ask("stat", path="nothing")["why"] == "missing"
    assert agent.ask("sha256", path="nothing")["why"] == "missing"
    assert agent.ask("sha256", path=str(home))["op"] == "failed"
    os.mkfifo(tmp_path / "fifo")
    assert agent.ask("sha256", path=str(tmp_path / "fifo"))["op"] == "failed"


def test_our_own_files_are_kept_once(start: Start, home: Path) -> None:
    agent = start()
    first = agent.ask("payload", b"print()", digest="abcdef0123", name="supervisor.py")
    assert first["existed"] is False and Path(first["path"]).read_bytes() == b"print()"
    assert Path(first["path"]) == home / "payload" / "abcdef0123" / "supervisor.py"
    assert agent.ask("payload", b"print()", digest="abcdef0123", name="supervisor.py")["existed"] is True
    for digest, name in (("../..", "x"), ("abcdef0123", "../x"), ("abcdef0123", ".x")):
        assert agent.ask("payload", b"", digest=digest, name=name)["why"] == "error"


def test_who_of_a_run_lives(
    start: Start, supervise: Callable[..., Any], run_dir: Any, wait_for: Callable[..., Any]
) -> None:
    agent = start()
    assert agent.ask("living", run=run_dir.id) == {"op": "done", "id": 1, "supervisors": [], "orphan": None}
    trainer = [
        sys.executable,
        "-c",
        "import signal,time; signal.signal(signal.SIGHUP, signal.SIG_IGN); print('up', flush=True); time.sleep(300)",
    ]
    run = supervise(trainer)
    run.printed(b"up")
    answer = agent.ask("living", run=run_dir.id)
    assert answer["supervisors"] == [[run.record().pid, 1]] and answer["orphan"] is None
    run.process.kill()
    run.process.wait()
    answer = agent.ask("living", run=run_dir.id)
    assert answer["supervisors"] == [] and answer["orphan"] == run.record().child
    os.kill(answer["orphan"], signal.SIGKILL)
    wait_for(lambda: agent.ask("living", run=run_dir.id)["orphan"] is None)


# How it ends


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@pytest.mark.parametrize("how", ["eof", "silence", "hang-up"])
def test_it_leaves_no_process(start: Start, how: str, tmp_path: Path, wait_for: Callable[..., Any]) -> None:
    agent = start(options={"idle_s": 1.0 if how == "silence" else 60})
    pids = tmp_path / "pids"
    agent.begin("run", argv=["sh", "-c", f"sleep 300 & echo $! $$ > {pids}; wait"])
    started = [int(word) for word in wait_for(lambda: pids.exists() and pids.read_text().split())]
    if how == "eof":
        agent.end_input()
    elif how == "hang-up":
        agent.process.send_signal(signal.SIGHUP)
    assert agent.process.wait(10) == 0
    wait_for(lambda: not any(alive(pid) for pid in started), what="the end of its commands")
    agent._thread.join(5)
    assert agent.stderr() == ""


def test_it_ends_when_nobody_reads(start: Start) -> None:
    agent = start()
    agent.op("hello")
    sleeper = subprocess.Popen(["true"])
    sleeper.wait()
    process = subprocess.Popen(
        ["sh", "-c", agent_command(sys.executable)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin and process.stdout
    process.stdin.write(agent_input(NONCE))
    process.stdin.flush()
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(10) == 0
    process.stdin.close()


@pytest.mark.parametrize(
    "rubbish",
    [
        b"hello\n",
        b"[1]\n",
        b'{"id": 1}\n',
        b'{"op": "ping", "n": -1}\n',
        b'{"op":"x","n":99999999}\n',
        b"x" * 70000,
        b"\xff\xfe\n",
        b"[" * 60000 + b"\n",
    ],
)
def test_rubbish_ends_it_with_one_line(start: Start, rubbish: bytes) -> None:
    agent = start()
    agent.op("hello")
    agent.send_bytes(rubbish)
    assert agent.process.wait(10) == 2
    agent._thread.join(5)
    said = agent.stderr()
    assert said.startswith("wavedeck: the agent ends: ") and said.count("\n") == 1


def test_requests_that_make_no_sense_are_answered(start: Start) -> None:
    agent = start()
    assert agent.ask("fly")["why"] == "error"
    for fields in (
        {"argv": "ls"},
        {"argv": [1]},
        {"argv": ["true"], "timeout": "soon"},
        {"argv": ["true"], "env": [1]},
        {"argv": ["true"], "limit": -1},
    ):
        assert agent.ask("run", **fields)["why"] == "error"
    agent.send("follow", run=RUN, have=3, records="x")
    agent.send("follow", run="/etc")
    agent.send("ack", bytes="many")
    agent.send("unfollow", run=4)
    agent.send("cancel", id=[1])
    agent.send("run", id={"a": 1}, argv=["true"])
    agent.send("sha256", path="x")
    assert agent.ask("sha256", path=5)["why"] == "error"
    assert agent.ask("create_run", b"abc", run=RUN, files=[["a", 1]])["why"] == "error"
    assert agent.ask("create_run", b"abc", run=RUN, files={"a": 3})["why"] == "error"
    assert agent.ask("ping")["op"] == "pong"
