"""All runs together: order, batches, full disks, lines that come back, and what is told about it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from wavedeck.engine.backup.copies import BAD, NOTE, read_copies
from wavedeck.engine.checkpoints import CheckpointLine, foreign_name
from wavedeck.engine.hosts import MirrorRecord, write_mirror
from wavedeck.engine.manifest import Headline, Manifest, write_record
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.remote import copy_bytes
from wavedeck.remote.backup import keeper, turn
from wavedeck.remote.backup.keeper import Keeper, once
from wavedeck.remote.backup.state import read_state
from wavedeck.remote.backup.verify import verify
from wavedeck.remote.fleet import Fleet
from wavedeck.tests.remote.backup.conftest import QUICK, RUN_ID, Lab, accepted, leftovers, noise, sha, until
from wavedeck.tests.servers.sshd import Sshd


async def back_up(lab: Lab) -> keeper.Done:
    return await once(lab.home, [lab.run_id], fleet=lab.fleet)


async def test_newest_and_best_first_then_the_rest_by_retention(lab: Lab) -> None:
    losses = [5.0, 1.0, 4.0, 3.0, 2.0, 6.0]
    for step, loss in enumerate(losses, 1):
        lab.save(f"s{step}.ckpt", noise(1_200_000, step), step, metrics={"loss": loss})
    order: list[str] = []
    await once(lab.home, None, lambda run, moving: order.append(moving.name), fleet=lab.fleet)
    assert list(dict.fromkeys(order))[:2] == ["s6.ckpt", "s2.ckpt"]
    assert lab.accepted() == {"s6.ckpt", "s5.ckpt", "s4.ckpt", "s2.ckpt"}  # the last three and the best two
    state = read_state(lab.home)
    assert state is not None and state.fresh
    run = state.runs[lab.run_id]
    assert (run.verified_step, run.outstanding, run.error, run.behind_since, run.doing) == (6, 0, None, None, None)
    for step in (7, 8, 9):
        lab.save(f"s{step}.ckpt", noise(1000, step), step, metrics={"loss": 9.0})
    await back_up(lab)
    assert lab.accepted() == {"s9.ckpt", "s8.ckpt", "s7.ckpt", "s5.ckpt", "s2.ckpt"}
    assert sorted(path.name for path in lab.run.checkpoints.glob("*.ckpt")) == sorted(lab.accepted())
    assert leftovers(lab.run) == []


async def test_rotated_away_the_next_one_is_taken(lab: Lab) -> None:
    lines = [lab.save(f"s{step}.ckpt", noise(2_000_000, step), step) for step in (1, 2, 3)]
    (lab.home.root / "backup.toml").write_text("[default]\nkeep_last = 1\n")
    (lab.there.checkpoints / "s3.ckpt").unlink()
    done = await back_up(lab)
    assert lab.accepted() == {"s2.ckpt"} and not done.failed and lines


async def test_rotated_away_while_it_is_copied_is_said(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        lab.save(f"s{step}.ckpt", noise(2_000_000, step), step)
    (lab.home.root / "backup.toml").write_text("[default]\nkeep_last = 1\n")
    real = turn.pull

    async def late(*arguments: object) -> object:
        (lab.there.checkpoints / "s2.ckpt").unlink(missing_ok=True)
        return await real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(turn, "pull", late)
    await back_up(lab)
    assert lab.accepted() == {"s1.ckpt"}
    note = read_copies(lab.run).notes[-1]
    assert (note.event, note.name) == (NOTE, "s2.ckpt") and "gone there" in note.text


async def test_a_bad_original_costs_the_others_nothing(lab: Lab) -> None:
    lab.save("good.ckpt", noise(2_000_000, 1), 1)
    lab.save("rot.ckpt", noise(2_000_000, 2), 2)
    (lab.there.checkpoints / "rot.ckpt").write_bytes(noise(2_000_000, 3))
    await back_up(lab)
    assert lab.accepted() == {"good.ckpt"}
    tries = read_copies(lab.run).bad()["rot.ckpt"]
    await back_up(lab)
    assert read_copies(lab.run).bad()["rot.ckpt"] == tries  # it is not fetched again and again


async def test_damaged_at_rest_is_found_and_fetched_again(lab: Lab) -> None:
    lab.save("a.ckpt", noise(100_000, 1), 1)
    lab.save("b.ckpt", noise(100_000, 2), 2)
    await back_up(lab)
    with open(lab.run.checkpoints / "a.ckpt", "r+b") as handle:
        handle.seek(50_000)
        handle.write(b"\0\1\2")
    (lab.run.checkpoints / "b.ckpt").unlink()
    seen: list[tuple[int, int]] = []
    found = await verify(lab.home, lab.run, lambda moving: seen.append((moving.bytes, moving.total)))
    assert {copy.name for copy in found.bad} == {"a.ckpt", "b.ckpt"} and seen[-1] == (200_000, 200_000)
    assert read_copies(lab.run).verified() == {} and set(read_copies(lab.run).bad()) == {"a.ckpt", "b.ckpt"}
    await back_up(lab)
    assert lab.accepted() == {"a.ckpt", "b.ckpt"}
    assert not (await verify(lab.home, lab.run)).bad


async def test_a_copy_somebody_deleted_is_fetched_again(lab: Lab) -> None:
    lab.save("a.ckpt", noise(1000))
    await back_up(lab)
    (lab.run.checkpoints / "a.ckpt").unlink()
    await back_up(lab)
    assert lab.accepted() == {"a.ckpt"}


async def test_a_copy_deleted_while_the_backup_runs_is_fetched_again(lab: Lab) -> None:
    """By the same process, which has seen it verified."""
    lab.save("a.ckpt", noise(1000))
    work = Keeper(lab.home, lab.fleet, [lab.run_id])
    await work.once()
    assert lab.accepted() == {"a.ckpt"}
    (lab.run.checkpoints / "a.ckpt").unlink()
    for turns in work._turns.values():
        turns.before.quiet_until = 0.0
    await work.once()
    assert lab.accepted() == {"a.ckpt"} and (lab.run.checkpoints / "a.ckpt").exists()


async def test_what_its_trainer_let_go_is_written_down(lab: Lab) -> None:
    """Once: without it `safe` would count the file as outstanding for ever."""
    lab.foreign("out/a.pt", noise(5000, 1), 1)
    gone = [lab.foreign("out/b.pt", noise(5000, 2), 2), lab.save("s2.ckpt", noise(100, 3), 2)]
    (lab.cwd / "out" / "b.pt").unlink()
    (lab.there.checkpoints / "s2.ckpt").unlink()
    for _ in range(2):
        await back_up(lab)
        copies = read_copies(lab.run)
        assert [copies.is_gone(line) for line in gone] == [True, True]
        assert sorted(note.name for note in copies.notes) == sorted(line.name for line in gone)
    (lab.cwd / "out" / "b.pt").write_bytes(noise(5000, 2))  # somebody put it back
    await back_up(lab)
    assert gone[0].name in lab.accepted() and not read_copies(lab.run).is_gone(gone[0])


async def test_a_disk_that_is_not_mounted_is_no_deletion(lab: Lab) -> None:
    line = lab.foreign("a.pt", noise(5000, 1))
    lab.cwd.rename(lab.cwd.with_name("unmounted"))
    await back_up(lab)
    assert not read_copies(lab.run).is_gone(line) and lab.accepted() == set()
    lab.cwd.with_name("unmounted").rename(lab.cwd)
    await back_up(lab)
    assert lab.accepted() == {line.name}


@pytest.mark.parametrize("hours", [-7, 7])
async def test_a_clock_that_is_hours_off_there(lab: Lab, hours: int) -> None:
    """What is fetched and kept goes by the order of writing, and a trainer's file by its bytes: no clock decides."""
    write_mirror(lab.run.path, MirrorRecord(host="gpu1", skew_s=hours * 3600.0))
    then = time.time() + hours * 3600
    (lab.home.root / "backup.toml").write_text("[default]\nkeep_last = 2\n")
    lines = []
    for step in (1, 2, 3):
        data = noise(3000, step)
        (lab.there.checkpoints / f"s{step}.ckpt").write_bytes(data)
        lines.append(lab.line(CheckpointLine(f"s{step}.ckpt", step, len(data), sha(data), then - 100 * step)))
        os.utime(lab.there.checkpoints / f"s{step}.ckpt", (then, then))
        await back_up(lab)
    theirs = lab.foreign("out/a.pt", noise(3000, 9), 3)
    os.utime(lab.cwd / "out" / "a.pt", (then, then))
    await back_up(lab)
    assert lab.accepted() == {"s2.ckpt", "s3.ckpt", theirs.name}
    copy = read_copies(lab.run).holds(theirs)
    assert copy is not None and abs(copy.t - time.time()) < 600, "events here are of the clock here"


async def test_it_goes_on_by_itself_after_the_line_was_lost(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "DOWN_S", 0.2)
    (lab.home.root / "backup.toml").write_text("[default]\nlimit_kib_s = 8000\n")
    other = RunDir(lab.home.runs / "20261121-1100-other-calm-fox")
    other.checkpoints.mkdir(parents=True)
    write_record(other.manifest, Manifest(other.id, "other", 0.0))
    write_mirror(other.path, MirrorRecord(host="nobody"))  # a host that was removed
    data = noise(100)
    other.checkpoint_manifest.write_bytes(msgspec.json.encode(CheckpointLine("x.ckpt", 1, 100, sha(data), 1.0)) + b"\n")
    task = asyncio.create_task(Keeper(lab.home, lab.fleet).forever())
    try:
        lab.save("s1.ckpt", noise(24_000_000, 1), 1)
        await until(lambda: (state := read_state(lab.home)) and state.runs.get(RUN_ID) and state.runs[RUN_ID].bytes,
                    "bytes")  # fmt: skip
        lab.sshd.stop()
        await until(lambda: (state := read_state(lab.home)) and state.runs[RUN_ID].error, "a sentence")
        state = read_state(lab.home)
        assert state is not None and state.runs[RUN_ID].outstanding == 1 and state.runs[RUN_ID].behind_since
        assert "nobody" in (state.runs[other.id].error or "")
        lab.sshd.start()
        await until(lambda: lab.accepted() == {"s1.ckpt"}, "the copy")
        began = time.monotonic()
        lab.save("s2.ckpt", noise(1000, 2), 2)
        await until(lambda: lab.accepted() == {"s1.ckpt", "s2.ckpt"}, "the next one")
        assert time.monotonic() - began < 15
        await until(lambda: (state := read_state(lab.home)) and state.runs[RUN_ID].error is None, "no error any more")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --- disks that are full


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system of a few MiB; skips where none may be mounted."""
    path.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path)], capture_output=True
    ).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)


@pytest.fixture
async def cramped(tmp_path: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    """A home on a disk of 16 MiB."""
    with small_disk(tmp_path / "small", "16m") as place:
        monkeypatch.setenv("WAVEDECK_HOME", str(place))
        fleet = Fleet(Home(place), rhythm=QUICK, mirrors=False)
        await fleet.watch("gpu1").ready(20)
        yield Lab(Home(place), fleet, sshd)
        await fleet.close()


@pytest.mark.parametrize("floor", [1 << 20, -(1 << 40)])
async def test_the_disk_here_is_full(cramped: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, floor: int) -> None:
    """Seen before anything moves, and (with no floor) only as rsync meets it: said, nothing deleted, and it goes on."""
    monkeypatch.setattr(copy_bytes, "FREE_FLOOR", floor)
    monkeypatch.setattr(keeper, "FAILED_S", 0.0)
    cramped.save("s1.ckpt", noise(6_000_000, 1), 1)
    await back_up(cramped)
    cramped.save("s2.ckpt", noise(12_000_000, 2), 2)
    done = await back_up(cramped)
    assert "free some space" in done.failed[cramped.run_id]
    state = read_state(cramped.home)
    if state is not None and floor > 0:
        assert state.runs[cramped.run_id].disk_full and state.runs[cramped.run_id].outstanding == 1
    assert cramped.accepted() == {"s1.ckpt"} and (cramped.run.checkpoints / "s1.ckpt").exists()
    subprocess.run(["mount", "-o", "remount,size=64m", str(tmp_path / "small")], check=True)
    done = await back_up(cramped)
    assert not done.failed and cramped.accepted() == {"s1.ckpt", "s2.ckpt"}
    state = read_state(cramped.home)
    assert state is not None and not state.runs[cramped.run_id].disk_full


# --- foreign trainers


async def test_a_foreign_trainers_files(lab: Lab) -> None:
    lab.foreign("out/model 1.pt", noise(2_000_000, 1), 1)
    first = lab.foreign("out/latest.pt", noise(2_000_000, 2), 2)
    await back_up(lab)
    second = lab.foreign("out/latest.pt", noise(2_000_000, 3), 3)
    await back_up(lab)
    assert {first.name, second.name} <= lab.accepted()


async def test_a_foreign_run_of_this_machine(home: Path, tmp_path: Path) -> None:
    """Nothing travels, but what is overwritten in place is kept; a recipe's own checkpoints are left alone."""
    work = tmp_path / "work"
    work.mkdir()
    run = RunDir(Home(home).runs / RUN_ID)
    run.checkpoints.mkdir(parents=True)
    write_record(run.manifest, Manifest(RUN_ID, "drums", 0.0, cwd=str(work), headline=Headline("loss")))
    lines = []
    fleet = Fleet(Home(home), mirrors=False)
    try:
        for step in range(1, 6):
            data = noise(50_000, step)
            (work / "latest.pt").write_bytes(data)
            name = foreign_name("latest.pt", sha(data))
            lines.append(CheckpointLine(name, step, len(data), sha(data), 1.0, kind="foreign", path="latest.pt"))
            with open(run.checkpoint_manifest, "ab") as handle:
                handle.write(msgspec.json.encode(lines[-1]) + b"\n")
            done = await once(Home(home), None, fleet=fleet)
            assert not done.failed
        assert accepted(run) == {line.name for line in lines[-3:]}
        assert (work / "latest.pt").exists() and leftovers(run) == []
        (work / "latest.pt").write_bytes(noise(50_000, 99))  # the next one, and its line is not there yet
        lost = CheckpointLine("latest.0123456789ab.pt", 9, 50_000, "0" * 64, 1.0, kind="foreign", path="latest.pt")
        with open(run.checkpoint_manifest, "ab") as handle:
            handle.write(msgspec.json.encode(lost) + b"\n")
        await once(Home(home), None, fleet=fleet)
        assert (
            read_copies(run).bad()[lost.name].event == BAD and "overwritten" in read_copies(run).bad()[lost.name].text
        )
        (run.checkpoints / "own.ckpt").write_bytes(b"own")
        shutil.rmtree(work)
        work.mkdir()
        await once(Home(home), None, fleet=fleet)
        assert (run.checkpoints / "own.ckpt").exists() and accepted(run) >= {lines[-1].name}
    finally:
        await fleet.close()
