"""What a real agent answers about the files of a run: facts, hashes, and what no backup would cover."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.files import write_atomic
from wavedeck.engine.manifest import Attempt, Manifest, encode
from wavedeck.engine.rundir import RunDir
from wavedeck.remote.payload import run_files
from wavedeck.tests.fakes.agent_driver import AgentDriver

MIB = 1 << 20


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    (path / "out").mkdir(parents=True)
    return path


@pytest.fixture
def run(run_dir: RunDir, cwd: Path) -> RunDir:
    """A foreign command's run, begun just now."""
    (cwd / "before.bin").write_bytes(b"b" * 2 * MIB)
    time.sleep(0.02)
    run_dir.checkpoints.mkdir()
    run_dir.manifest.write_bytes(encode(Manifest(id=run_dir.id, name="drums", created=1.0)))
    run_dir.attempt(1).write_bytes(encode(Attempt(attempt=1, requested=1.0, argv=["x"], cwd=str(cwd))))
    time.sleep(0.02)
    return run_dir


@pytest.fixture
def agent(home: Path, run: RunDir) -> Iterator[AgentDriver]:
    driver = AgentDriver(home)
    yield driver
    driver.close()


def uncovered(agent: AgentDriver, run: str) -> dict[str, Any]:
    key = agent.begin("uncovered", run=run)
    assert agent.answer(key)["op"] == "done"
    return json.loads(next(data for header, data in agent.said if header.get("id") == key))  # type: ignore[no-any-return]


def test_facts_and_hashes_by_name_and_by_path(agent: AgentDriver, run: RunDir, cwd: Path) -> None:
    own, other = os.urandom(100_000), os.urandom(3 * MIB)
    (run.checkpoints / "step-1.ckpt").write_bytes(own)
    path = "out/ü '\n\".pt"
    (cwd / path).write_bytes(other)
    for fields, file, data in (
        ({"name": "step-1.ckpt"}, run.checkpoints / "step-1.ckpt", own),
        ({"path": path}, cwd / path, other),
    ):
        facts, there = agent.ask("stat", run=run.id, **fields), file.stat()
        assert (facts["size"], facts["mtime_ns"], facts["inode"], facts["kind"], facts["blocks"]) == (
            len(data), there.st_mtime_ns, there.st_ino, "file", there.st_blocks,
        )  # fmt: skip
        digest = agent.ask("sha256", run=run.id, **fields)
        assert (digest["sha256"], digest["size"]) == (hashlib.sha256(data).hexdigest(), len(data))
        assert digest["changed"] is False and digest["mtime_ns"] == there.st_mtime_ns
    assert agent.ask("stat", run=run.id, path="out")["kind"] == "dir"
    for op in ("stat", "sha256"):
        assert agent.ask(op, run=run.id, name="none.ckpt")["why"] == "missing"
        assert agent.ask(op, run=run.id, path="none/x.pt")["why"] == "missing"
        assert agent.ask(op, run=run.id[:-1] + "s", name="a")["why"] == "missing"


@pytest.mark.parametrize(
    "fields",
    [
        {"path": "../secret"},
        {"path": "out/../../secret"},
        {"path": "/etc/passwd"},
        {"path": "link.pt"},
        {"path": "linked/secret"},
        {"path": "fifo"},
        {"path": ""},
        {"path": 3},
        {"path": "a\0b"},
        {"name": "../manifest.json"},
        {"name": ".."},
        {"name": "link.ckpt"},
        {"name": 5},
        {"name": "a", "path": "b"},
        {},
    ],
)
def test_nothing_outside_is_looked_at(agent: AgentDriver, run: RunDir, cwd: Path, fields: dict[str, object]) -> None:
    (cwd.parent / "secret").write_text("s")
    (cwd / "link.pt").symlink_to("../secret")
    (cwd / "linked").symlink_to("..")
    (run.checkpoints / "link.ckpt").symlink_to(cwd.parent / "secret")
    os.mkfifo(cwd / "fifo")
    answer = agent.ask("sha256", run=run.id, **fields)
    assert answer["op"] == "failed" and "sha256" not in answer
    if fields.get("path") != "fifo":
        assert agent.ask("stat", run=run.id, **fields)["op"] == "failed"


def test_a_file_that_changes_while_it_is_hashed_is_told(
    run: RunDir, cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cwd / "a.pt"
    path.write_bytes(b"x" * 3 * MIB)
    assert run_files.sha256(str(run.path), None, "a.pt", threading.Event())["changed"] is False
    monkeypatch.setattr(run_files.hashlib, "sha256", lambda: Meddling(path))
    assert run_files.sha256(str(run.path), None, "a.pt", threading.Event())["changed"] is True


class Meddling:
    """A hash that has its file written to while it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def update(self, data: bytes) -> None:
        with open(self._path, "r+b") as handle:
            handle.write(b"y")

    def hexdigest(self) -> str:
        return ""


def test_what_no_backup_would_have(agent: AgentDriver, run: RunDir, cwd: Path) -> None:
    assert uncovered(agent, run.id) | {"cut": ""} == {
        "files": [], "count": 0, "bytes": 0, "pending": [], "pending_count": 0, "pending_bytes": 0, "cut": "",
        "skipped": [],
    }  # fmt: skip
    (cwd / "small.bin").write_bytes(b"s")
    (cwd / "exactly.bin").write_bytes(b"s" * MIB)
    (cwd / "out" / "features.h5").write_bytes(b"s" * 3 * MIB)
    (cwd / os.fsdecode(b"\xff.pt")).write_bytes(b"s" * 2 * MIB)
    (cwd / "new.pt").write_bytes(b"n" * 2 * MIB)
    done = cwd / "done.pt"
    done.write_bytes(b"d" * 2 * MIB)
    line = {"name": "done.1.pt", "path": "done.pt", "bytes": 2 * MIB, "mtime_ns": done.stat().st_mtime_ns}
    (run.checkpoints / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    found = uncovered(agent, run.id)
    assert found["files"] == [["out/features.h5", 3 * MIB], ["\ufffd.pt", 2 * MIB]]
    assert (found["count"], found["bytes"], found["cut"]) == (2, 5 * MIB, "")
    assert found["pending"] == [["new.pt", 2 * MIB]] and found["pending_count"] == 1
    done.write_bytes(b"e" * 2 * MIB)
    assert uncovered(agent, run.id)["pending_count"] == 2, "a new content of a file that has a line"
    (run.path / "policy.json").write_text('{"patterns": ["out/*.h5"]}')
    found = uncovered(agent, run.id)
    assert found["pending"] == [["out/features.h5", 3 * MIB]] and found["count"] == 3
    assert agent.ask("uncovered", run="../x")["why"] == "error"
    assert agent.ask("uncovered", run=run.id[:-1] + "s")["why"] == "missing"


def test_only_the_largest_are_named_and_the_time_is_bounded(run: RunDir, cwd: Path) -> None:
    for number in range(60):
        with open(cwd / f"{number:02d}.bin", "wb") as handle:
            handle.truncate(2 * MIB + number)
    found = run_files.uncovered(str(run.path), threading.Event())
    assert found["count"] == 60 and len(found["files"]) == 50 and found["files"][0] == ["59.bin", 2 * MIB + 59]
    assert run_files.uncovered(str(run.path), threading.Event(), 0.0)["cut"] == "looking took too long"
    cancelled = threading.Event()
    cancelled.set()
    assert run_files.uncovered(str(run.path), cancelled)["count"] == 0


def test_policy_and_lease_are_records(agent: AgentDriver, run: RunDir, wait_for: Callable[..., Any]) -> None:
    (run.path / "policy.json").write_text("{}")
    (run.path / "lease.json").write_text('{"holder": "x"}')
    agent.follow(run.id)
    agent.op("caught_up")
    assert agent.record(run.id, "policy.json") == b"{}" and agent.record(run.id, "lease.json") == b'{"holder": "x"}'
    write_atomic(run.path / "policy.json", b'{"keep_last": 5}')
    wait_for(lambda: agent.record(run.id, "policy.json") == b'{"keep_last": 5}')


def test_links_out_and_hidden_folders_are_not_passed_over_in_silence(run: RunDir, cwd: Path, tmp_path: Path) -> None:
    disk, old = tmp_path / "bigdisk", tmp_path / "recordings"
    for folder in (disk / "deep", old, cwd / ".ckpts", cwd / "wandb", cwd / "venv", cwd / ".git"):
        folder.mkdir(parents=True)
    (old / "music.wav").write_bytes(b"m" * 2 * MIB)
    os.utime(old / "music.wav", (1, 1))
    attempt = run.attempt(1)
    began = os.stat(old / "music.wav").st_ctime + 0.01
    os.utime(attempt, (began, began))
    time.sleep(0.02)
    (cwd / "data").symlink_to(old)
    (cwd / "same").symlink_to(cwd / "out")
    for name in ("venv", ".git"):  # something is new in both: in the latter that is nobody's checkpoint
        (cwd / name / "new").touch()
    assert run_files.uncovered(str(run.path), threading.Event())["skipped"] == ["venv/"]
    for path in (disk / "a.pt", disk / "deep" / "b.pt", cwd / ".ckpts" / "c.pt", cwd / "wandb" / "d.pt"):
        path.write_bytes(b"x" * 3 * MIB)
    (cwd / "out2").symlink_to(disk)
    (cwd / "last.pt").symlink_to(disk / "a.pt")
    (cwd / "out" / "again").symlink_to(disk)
    found = run_files.uncovered(str(run.path), threading.Event())
    assert sorted(found["files"]) == [[".ckpts/c.pt", 3 * MIB], ["wandb/d.pt", 3 * MIB]], (
        "a pattern that never comes there"
    )
    assert sorted(found["skipped"]) == [
        f"last.pt -> {disk}/a.pt", f"out2 -> {disk} (2 large files)", "venv/",
    ]  # fmt: skip
    (run.path / "policy.json").write_text('{"patterns": [".ckpts/*.pt", "wandb/**/*.pt"]}')
    found = run_files.uncovered(str(run.path), threading.Event())
    assert found["files"] == [] and found["pending_count"] == 2


def test_a_link_to_more_than_can_be_looked_at_is_told(run: RunDir, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wavedeck.remote.payload import file_walk

    disk = cwd.parent / "disk"
    disk.mkdir()
    for number in range(20):
        (disk / str(number)).touch()
    monkeypatch.setattr(file_walk, "MAX_OF_FOLDER", 10)
    (cwd / "out2").symlink_to(disk)
    assert run_files.uncovered(str(run.path), threading.Event())["skipped"] == [
        f"out2 -> {disk} (a folder has more than 10 files)"
    ]
