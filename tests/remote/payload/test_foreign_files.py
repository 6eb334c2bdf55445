"""Checkpoints of foreign trainers: beside a real supervisor, and step by step against writers that misbehave."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from wavedeck.engine.checkpoints import CheckpointLine, read_checkpoints
from wavedeck.engine.logger import EventWriter
from wavedeck.engine.manifest import Attempt, ExitRecord, Manifest, encode, write_record
from wavedeck.engine.rundir import RunDir
from wavedeck.remote.payload import foreign_files
from wavedeck.remote.payload.foreign_files import ForeignFiles, Over

from .test_foreign_structure import safetensors, torch_like

Supervise = Callable[..., Any]
SAVE = """
import os, sys, time
def save(path, data):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "wb") as handle: handle.write(data)
"""


@pytest.fixture(autouse=True)
def foreign(run_dir: RunDir) -> None:
    run_dir.checkpoints.mkdir()
    write_record(run_dir.manifest, Manifest(id=run_dir.id, name="drums", created=1.0))


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    """Where the trainer works."""
    path = tmp_path / "project"
    path.mkdir()
    return path


def lines(run: RunDir) -> list[CheckpointLine]:
    return read_checkpoints(run.checkpoints / "manifest.jsonl")


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def lookers(run: RunDir) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(word.endswith("foreign_files.py") for word in words) and str(run.path) in words:
            found.append(process)
    return found


# --- beside a real supervisor


def test_a_training_whose_checkpoints_appear(supervise: Supervise, cwd: Path, wait_for: Callable[..., Any]) -> None:
    (cwd / "pretrained.pt").write_bytes(torch_like(seed=9))
    time.sleep(0.05)
    whole, shard = torch_like(500, seed=1), safetensors(500, seed=2)
    code = f"""{SAVE}
print("step 1200 loss=0.25", flush=True)
time.sleep(0.3)
whole, shard = {whole!r}, {shard!r}
for name in ("a b.pt", "sub/ü\\n'\\".pt", "-x.ckpt"): save(name, whole)
for n in (1, 2): save("out/model-0000%d-of-00002.safetensors" % n, shard[:-1] + bytes([n]))
save(b"\\xff.pt", whole); save(".hidden.pt", whole); save("half.pt", whole[:-9]); os.symlink("a b.pt", "link.pt")
while not os.path.exists("go"): time.sleep(0.05)
"""
    run = supervise([sys.executable, "-IS", "-c", code], cwd=str(cwd), parse_console=True)
    wait_for(lambda: len(lines(run.run)) == 5, what="five lines")
    by_path = {line.path: line for line in lines(run.run)}
    assert set(by_path) == {
        "a b.pt",
        "sub/ü\n'\".pt",
        "-x.ckpt",
        "out/model-00001-of-00002.safetensors",
        "out/model-00002-of-00002.safetensors",
    }
    for path, line in by_path.items():
        data = (cwd / path).read_bytes()
        assert (line.sha256, line.bytes, line.kind, line.step) == (sha(data), len(data), "foreign", 1200)
        assert line.metrics["loss"] == 0.25
    assert by_path["a b.pt"].name == f"a_b.{sha(whole)[:12]}.pt"
    said = wait_for(lambda: [e for e in events(run.run) if "not UTF-8" in e.get("text", "")], what="a word about it")
    assert len(said) == 1
    assert lookers(run.run)
    (cwd / "go").touch()
    assert run.ended().exit_code == 0


def events(run: RunDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.console_events.read_text().splitlines()]


def test_the_last_checkpoint_comes_after_the_end_which_does_not_wait(
    supervise: Supervise, cwd: Path, wait_for: Callable[..., Any]
) -> None:
    data = torch_like(500, seed=3)
    run = supervise([sys.executable, "-IS", "-c", f"{SAVE}\nsave('last.pt', {data!r})"], cwd=str(cwd))
    ended = run.ended()
    assert ended.exit_code == 0 and lines(run.run) == []
    wait_for(lambda: [line.sha256 for line in lines(run.run)] == [sha(data)], what="the last checkpoint")
    wait_for(lambda: not lookers(run.run), what="the end of the looking")


def test_the_next_attempt_takes_over(supervise: Supervise, cwd: Path, wait_for: Callable[..., Any]) -> None:
    saving = f"{SAVE}\nsave('a.pt', {torch_like(500)!r})"
    supervise([sys.executable, "-IS", "-c", saving], cwd=str(cwd)).ended()
    run = supervise(["sleep", "60"], number=2, cwd=str(cwd))
    run.record()
    wait_for(lambda: [p.cmdline()[-1] for p in lookers(run.run)] == ["2"], what="one process that looks")
    wait_for(lambda: len(lines(run.run)) == 1, what="the file of the attempt before")
    os.kill(run.record().child, signal.SIGKILL)
    run.ended()


def test_own_recipes_are_not_looked_through_unless_asked(
    supervise: Supervise, run_dir: RunDir, cwd: Path, wait_for: Callable[..., Any]
) -> None:
    write_record(run_dir.manifest, Manifest(id=run_dir.id, name="drums", created=1.0, recipe="voxformer"))
    run = supervise(["sh", "-c", "echo ready; sleep 60"], cwd=str(cwd))
    run.printed(b"ready")
    wait_for(lambda: run.run.machine.exists())
    assert not lookers(run.run)
    (run_dir.path / "policy.json").write_text('{"patterns": ["out/*.bin"]}')
    wait_for(lambda: lookers(run.run), what="a process that looks")
    os.kill(run.record().child, signal.SIGKILL)
    run.ended()
    wait_for(lambda: not lookers(run.run), what="the end of the looking")


# --- step by step


class Quick(ForeignFiles):
    """Driven by the test, with seconds that are short."""

    over = False

    def _listen(self, timeout_s: float) -> None:
        if self.over and self._ended is None:
            self._ended = time.monotonic()

    def rest(self, turns: int = 4) -> None:
        for _ in range(turns):
            self.turn()
            time.sleep(0.03)


@pytest.fixture
def look(run_dir: RunDir, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Quick]:
    monkeypatch.setattr(foreign_files, "REST_S", 0.02)
    monkeypatch.setattr(foreign_files, "LONG_REST_S", 0.05)
    run_dir.attempt(1).write_bytes(encode(Attempt(attempt=1, requested=1.0, argv=["x"], cwd=str(cwd))))
    time.sleep(0.02)
    return lambda where=None: Quick(str(run_dir.path), 1, str(where or cwd))


def test_a_file_needs_rest_and_an_end(look: Callable[..., Quick], run_dir: RunDir, cwd: Path) -> None:
    watch, data = look(), torch_like()
    (cwd / "a.pt").write_bytes(data[:-100])
    watch.rest()
    assert lines(run_dir) == []
    assert [e["text"] for e in events(run_dir)] == ["a.pt is not taken for a checkpoint: its end is missing."]
    (cwd / "a.pt").write_bytes(data)
    watch.turn()
    assert lines(run_dir) == [], "seen once"
    watch.rest()
    assert [line.sha256 for line in lines(run_dir)] == [sha(data)]


def test_the_same_content_is_one_line_and_another_content_another(
    look: Callable[..., Quick], run_dir: RunDir, cwd: Path
) -> None:
    watch, first, second = look(), torch_like(seed=1), torch_like(seed=2)
    for data in (first, first, second, second, first):
        (cwd / "latest.pt").write_bytes(data)
        watch.rest()
        time.sleep(0.01)
    raw = [json.loads(row)["sha256"] for row in (run_dir.checkpoints / "manifest.jsonl").read_text().splitlines()]
    assert raw == [sha(first), sha(second), sha(first)]
    assert lines(run_dir)[-1].sha256 == sha(first), "the newest is what is there now"
    again = look()
    monitored: list[str] = []
    again._hash = lambda path, seen: monitored.append(path)  # type: ignore[method-assign,func-returns-value,return-value]
    again.rest()
    assert monitored == [], "what is recorded is not read again"
    os.utime(cwd / "latest.pt")
    look().rest()
    assert len((run_dir.checkpoints / "manifest.jsonl").read_text().splitlines()) == 3


def test_lines_come_in_the_order_of_the_files(look: Callable[..., Quick], run_dir: RunDir, cwd: Path) -> None:
    watch = look()
    for number in (3, 1, 2):
        (cwd / f"{number}.pt").write_bytes(torch_like(seed=number))
        time.sleep(0.02)
    watch.rest()
    assert [line.path for line in lines(run_dir)] == ["3.pt", "1.pt", "2.pt"]
    assert [line.step for line in lines(run_dir)] == [3, 1, 2], "nothing else was known"


@pytest.mark.parametrize(
    ("name", "step"), [("step=50.pt", 50), ("checkpoint-50/model.pt", 50), ("step=5000.pt", 55), ("latest.pt", 55)]
)
def test_a_step_in_the_name_goes_before_what_was_printed_meanwhile(
    look: Callable[..., Quick], run_dir: RunDir, cwd: Path, name: str, step: int
) -> None:
    (cwd / name).parent.mkdir(exist_ok=True)
    (cwd / name).write_bytes(torch_like())
    written = (cwd / name).stat().st_mtime
    EventWriter(run_dir.events).metrics({"loss": 0.5}, step=55)
    watch = look()
    watch.rest()
    (line,) = lines(run_dir)
    assert line.step == step
    assert line.t == pytest.approx(written, abs=0.001), "when it was written, not when it was found"


def test_a_file_that_is_overwritten_in_place_never_yields_a_mixture(
    look: Callable[..., Quick], run_dir: RunDir, cwd: Path
) -> None:
    """Every generation has the same size and looks whole at every moment: only rest and `stat` can tell."""
    watch, path = look(), cwd / "latest.pt"
    generations = [torch_like(3_000_000, seed) for seed in range(40)]
    path.write_bytes(generations[0])
    over = threading.Event()

    def write() -> None:
        for number, data in enumerate(generations):
            with open(path, "rb+") as handle:
                for start in range(0, len(data), 1 << 18):
                    handle.write(data[start : start + (1 << 18)])
                    handle.flush()
                    time.sleep(0.001)
            time.sleep(0.15 if number % 8 == 0 else 0.004)
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not over.is_set():
        watch.turn()
    writer.join()
    watch.rest()
    known = {sha(data) for data in generations}
    found = [line.sha256 for line in lines(run_dir)]
    assert set(found) <= known and found[-1] == sha(generations[-1])


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_a_writer_that_pauses_half_way_is_waited_for(
    look: Callable[..., Quick], run_dir: RunDir, cwd: Path, how: str
) -> None:
    """A disk that stalls for longer than any rest: the file looks whole and does not change."""
    watch, path = look(), cwd / "latest.pt"
    old, new = torch_like(seed=1), torch_like(seed=2)
    path.write_bytes(old)
    with open(path, "r+b", buffering=0) as handle:
        target: Any = handle if how == "open" else mmap.mmap(handle.fileno(), 0)
        target.write(new[: len(new) // 2])
        if how == "mapped":
            handle.close()
            os.utime(path)
        watch.rest(6)
        assert lines(run_dir) == []
        assert [e["text"] for e in events(run_dir)] == [
            "latest.pt is not taken for a checkpoint yet: it is open for writing."
        ]
        target.write(new[len(new) // 2 :])
        target.close()
    watch.rest()
    assert [line.sha256 for line in lines(run_dir)] == [sha(new)]


@pytest.mark.parametrize("how", ["write", "truncate", "replace", "delete", "link"])
def test_a_file_that_changes_while_it_is_hashed_gets_no_line(
    look: Callable[..., Quick], run_dir: RunDir, cwd: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, path = look(), cwd / "a.pt"
    path.write_bytes(torch_like(3 << 20))
    real, reads = os.read, []

    def read(descriptor: int, count: int) -> bytes:
        reads.append(count)
        if len(reads) == 2:
            if how == "write":
                with open(path, "r+b") as handle:
                    handle.write(b"x")
            elif how == "truncate":
                os.truncate(path, 2 << 20)
            elif how == "replace":
                os.replace(other, path)
            else:
                path.unlink()
                if how == "link":
                    path.symlink_to(other)
        return real(descriptor, count)

    other = cwd.parent / "other"
    other.write_bytes(b"y")
    monkeypatch.setattr(foreign_files, "BLOCK", 1 << 20)
    watch.turn()
    time.sleep(0.03)
    monkeypatch.setattr(foreign_files.os, "read", read)
    watch.turn()
    monkeypatch.undo()
    assert len(reads) >= 2 and lines(run_dir) == []


def test_what_cannot_be_looked_into_is_taken_only_from_a_trainer_that_ended_well(
    look: Callable[..., Quick], run_dir: RunDir, cwd: Path
) -> None:
    watch = look()
    (cwd / "early.ckpt").write_bytes(b"a format of its own")
    watch.rest()
    assert [line.path for line in lines(run_dir)] == ["early.ckpt"]
    (cwd / "late.ckpt").write_bytes(b"a format of its own, maybe cut")
    watch.over = True
    watch.rest()
    assert len(lines(run_dir)) == 1 and watch._waits()
    write_record(run_dir.exit, ExitRecord(attempt=1, ended=2.0, signal=9))
    watch.rest()
    assert len(lines(run_dir)) == 1 and not watch._waits()
    write_record(run_dir.exit, ExitRecord(attempt=1, ended=2.0, exit_code=0))
    (cwd / "later.ckpt").write_bytes(b"a format of its own, whole")
    watch.rest()
    assert [line.path for line in lines(run_dir)] == ["early.ckpt", "later.ckpt"]


def test_a_fenced_run_records_nothing_more(look: Callable[..., Quick], run_dir: RunDir, cwd: Path) -> None:
    watch = look()
    (cwd / "a.pt").write_bytes(torch_like())
    (run_dir.path / "lease.json").write_text(json.dumps({"lineage": "a", "generation": 2, "holder": "other"}))
    with pytest.raises(Over):
        watch.rest()
    assert lines(run_dir) == []


def test_a_policy_that_changes(look: Callable[..., Quick], run_dir: RunDir, cwd: Path) -> None:
    watch, policy = look(), run_dir.path / "policy.json"
    for name in ("a.bin", "b.pt", "c.pt"):
        (cwd / name).write_bytes(torch_like(seed=ord(name[0])))
    policy.write_text('{"patterns": ["*.bin", 7]}')
    watch.rest()
    assert [line.path for line in lines(run_dir)] == ["a.bin"]
    policy.write_text('{"enabled": false}')
    watch.rest()
    assert len(lines(run_dir)) == 1
    policy.write_text("rubbish")
    watch.rest()
    assert sorted(line.path or "" for line in lines(run_dir)) == ["a.bin", "b.pt", "c.pt"]


# --- full disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB; only root may have one."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(mount)], capture_output=True)
    if done.returncode:
        pytest.skip("only root can mount a small disk")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as handle:
        while True:
            try:
                handle.write(b"b" * 65536)
            except OSError:
                break


def test_a_line_waits_for_room_and_is_never_torn(
    look: Callable[..., Quick], run_dir: RunDir, cwd: Path, disk: Path
) -> None:
    shutil.rmtree(run_dir.checkpoints)
    manifest = disk / run_dir.id / "checkpoints" / "manifest.jsonl"
    shutil.copytree(run_dir.path, disk / run_dir.id)
    manifest.parent.mkdir()
    manifest.write_bytes(b'{"name": "torn')
    watch = Quick(str(disk / run_dir.id), 1, str(cwd))
    fill(disk / "ballast")
    with open(manifest, "ab", buffering=0) as handle:
        handle.write(b"x" * (4096 - 14 - 20))  # room for a part of a line
    data = torch_like()
    (cwd / "a.pt").write_bytes(data)
    (cwd / "gone.pt").write_bytes(torch_like(seed=1))
    watch.rest()
    assert read_checkpoints(manifest) == []
    (cwd / "gone.pt").unlink()
    (disk / "ballast").unlink()
    watch.rest()
    assert [(line.path, line.sha256) for line in read_checkpoints(manifest)] == [("a.pt", sha(data))]
    rows = manifest.read_bytes().split(b"\n")
    assert rows[-1] == b"" and sum(row.startswith(b'{"name":"a.') and row.endswith(b"}") for row in rows) == 1


def test_what_was_cut_short_by_a_full_disk_is_never_taken(
    look: Callable[..., Quick], run_dir: RunDir, disk: Path
) -> None:
    watch = look(disk)
    fill(disk / "whole.ckpt")
    zipped = torch_like(5 << 20)
    (disk / "whole.ckpt").unlink()
    for name, data in (("cut.pt", zipped), ("cut.ckpt", b"no structure " * 500_000)):
        try:
            (disk / name).write_bytes(data)
        except OSError as error:
            assert error.errno == 28
        watch.rest()
        assert (disk / name).stat().st_size
        if name == "cut.pt":
            (disk / name).unlink()
    (disk / "small").touch()
    os.truncate(disk / "cut.ckpt", 1 << 20)
    watch.rest()
    assert [line.bytes for line in lines(run_dir)] == [1 << 20], "with room again a new content is believed"
