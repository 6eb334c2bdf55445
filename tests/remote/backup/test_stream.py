"""A large file streamed from a real sshd: what it goes on from, what it refuses, and when rsync does it instead."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.backup.copies import BAD, VERIFIED
from wavedeck.engine.backup.policy import BackupPolicy
from wavedeck.engine.checkpoints import CheckpointLine
from wavedeck.engine.hosts import LinkState
from wavedeck.engine.rundir import Home
from wavedeck.remote.backup import arrival, stream
from wavedeck.remote.backup import pull as pulling
from wavedeck.remote.backup.disk import RealDisk
from wavedeck.remote.backup.transfer import Cut, DiskFull
from wavedeck.remote.fleet import Fleet
from wavedeck.tests.remote.backup.conftest import POLICY, QUICK, Lab, leftovers, noise, until
from wavedeck.tests.remote.backup.test_pull import HOSTILE
from wavedeck.tests.servers.proxy import Proxy
from wavedeck.tests.servers.sshd import Sshd

SIZE = 6_000_000
SLOW = BackupPolicy(limit_kib_s=4000)


@pytest.fixture
def no_rsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything has to be streamed."""

    async def refuse(*_: object) -> None:
        raise AssertionError("rsync was asked")

    monkeypatch.setattr(stream, "STREAM_FROM", 1)
    monkeypatch.setattr(pulling, "fetch", refuse)


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The digest of every stream that came to its end."""
    real, ended = pulling.stream, []

    async def counted(*arguments: Any) -> str:
        ended.append(await real(*arguments))
        return ended[-1]

    monkeypatch.setattr(pulling, "stream", counted)
    return ended


def part_of(lab: Lab, line: CheckpointLine, data: bytes, mtime_ns: int | None = None) -> Path:
    """What a try before has left, of the file as it is there now or of an older one."""
    folder = lab.run.checkpoints / ".incoming" / line.sha256[:12]
    part = folder / ".partial" / line.name
    part.parent.mkdir(parents=True)
    part.write_bytes(data)
    there = (lab.there.checkpoints / line.name).stat()
    (folder / arrival.SOURCE).write_text(json.dumps([there.st_size, mtime_ns or there.st_mtime_ns]))
    return part


async def begun(lab: Lab, line: CheckpointLine) -> asyncio.Task[object]:
    """A slow pull some way into its file."""
    lab.said.clear()
    pulled = pulling.pull(lab.host, lab.run, line, SLOW, lab.said.append, RealDisk())
    task: asyncio.Task[object] = asyncio.create_task(pulled)
    await until(lambda: any(moving.bytes > 500_000 for moving in lab.said) or task.done(), "some bytes")
    assert not task.done()
    return task


async def test_it_arrives_without_rsync(lab: Lab, no_rsync: None, streams: list[str]) -> None:
    line = lab.save("big.ckpt", noise(20_000_000))
    assert (await lab.pull(line)).event == VERIFIED
    assert streams == [line.sha256] and lab.accepted() == {"big.ckpt"} and leftovers(lab.run) == []
    moving = [said for said in lab.said if said.rate is not None]
    assert moving and all(said.rate and 0 < said.bytes <= said.total == 20_000_000 for said in moving)


@pytest.mark.parametrize("count", [0, 1, SIZE // 2, SIZE - 1, SIZE, SIZE + 1])
async def test_it_goes_on_from_what_is_here(lab: Lab, no_rsync: None, streams: list[str], count: int) -> None:
    data = noise(SIZE)
    line = lab.save("big.ckpt", data)
    part_of(lab, line, (data + b"x")[:count])
    assert (await lab.pull(line)).event == VERIFIED
    assert streams == [line.sha256] and lab.accepted() == {"big.ckpt"}
    assert all(said.bytes >= count for said in lab.said) or count > SIZE


async def test_a_byte_that_flipped_in_staging(lab: Lab, no_rsync: None, streams: list[str]) -> None:
    """The prefix is not trusted: the whole is wrong, and begins from zero once."""
    data = noise(SIZE)
    line = lab.save("big.ckpt", data)
    part_of(lab, line, data[:1000] + bytes([data[1000] ^ 1]) + data[1001:3_000_000])
    assert (await lab.pull(line)).event == VERIFIED
    assert len(streams) == 2 and streams[0] != streams[1] == line.sha256 and lab.accepted() == {"big.ckpt"}


async def test_what_was_begun_of_another_source_begins_anew(lab: Lab, no_rsync: None, streams: list[str]) -> None:
    line = lab.save("big.ckpt", noise(SIZE))
    part_of(lab, line, noise(3_000_000, 9), mtime_ns=1)
    assert (await lab.pull(line)).event == VERIFIED
    assert streams == [line.sha256] and lab.accepted() == {"big.ckpt"}


async def test_overwritten_in_place_midway(lab: Lab, no_rsync: None) -> None:
    """A mixture of two files hashes to neither."""
    line = lab.foreign("latest.pt", noise(2 * SIZE, 1))  # more than pipes and buffers hold
    task = await begun(lab, line)
    with open(lab.cwd / "latest.pt", "r+b") as handle:
        handle.seek(SIZE)
        handle.write(noise(SIZE, 2))
    told = await task
    assert isinstance(told, pulling.CopyLine) and told.event == BAD and "overwritten there meanwhile" in told.text
    assert lab.accepted() == set() and not (lab.run.checkpoints / line.name).exists()


async def test_replaced_by_another_between_two_tries(lab: Lab, no_rsync: None) -> None:
    """Its old part is never continued with new bytes."""
    line = lab.foreign("latest.pt", noise(SIZE, 1))
    task = await begun(lab, line)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (lab.cwd / "new.pt").write_bytes(noise(SIZE, 2))
    os.replace(lab.cwd / "new.pt", lab.cwd / "latest.pt")
    assert (await lab.pull(line)).event == BAD
    after = lab.foreign("latest.pt", noise(SIZE, 2))
    assert (await lab.pull(after)).event == VERIFIED and lab.accepted() == {after.name}


async def test_a_link_put_there_at_the_last_moment(lab: Lab, no_rsync: None, monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise(SIZE)
    line = lab.foreign("x.pt", data)
    (lab.sshd.root / "outside.pt").write_bytes(data)
    real = pulling.stream

    async def late(*arguments: Any) -> str:
        (lab.cwd / "x.pt").unlink()
        (lab.cwd / "x.pt").symlink_to(lab.sshd.root / "outside.pt")
        return await real(*arguments)

    monkeypatch.setattr(pulling, "stream", late)
    told = await lab.pull(line)
    assert told.event == BAD and "link" in told.text and lab.accepted() == set()


async def test_names_that_are_traps(lab: Lab, no_rsync: None, streams: list[str]) -> None:
    lines = [lab.foreign(path, noise(2000, number)) for number, path in enumerate([*HOSTILE, ".partial.pt"])]
    for line in lines:
        assert (await lab.pull(line)).event == VERIFIED
    assert len(streams) == len(lines) and lab.accepted() == {line.name for line in lines}
    assert not (lab.cwd / "pwn").exists() and leftovers(lab.run) == []


async def test_the_disk_here_fills_midway(lab: Lab, no_rsync: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has been written stays; once there is room, only the rest comes."""
    line = lab.save("big.ckpt", noise(SIZE))
    real = arrival._write_all
    room = 2_000_000

    def narrow(descriptor: int, pieces: Sequence[bytes]) -> None:
        nonlocal room
        data = b"".join(pieces)
        real(descriptor, [data[:room]])
        room -= len(data)
        if room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(arrival, "_write_all", narrow)
    with pytest.raises(DiskFull, match="free some space"):
        await lab.pull(line)
    part = lab.run.checkpoints / ".incoming" / line.sha256[:12] / ".partial" / line.name
    assert part.stat().st_size == 2_000_000 and lab.accepted() == set()
    monkeypatch.setattr(arrival, "_write_all", real)
    lab.said.clear()
    assert (await lab.pull(line)).event == VERIFIED
    assert lab.accepted() == {"big.ckpt"} and all(said.bytes >= 2_000_000 for said in lab.said)


def test_a_disk_that_takes_less_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, take = noise(10_000), 777
    pieces = [data[:10], data[10:4000], data[4000:4001], data[4001:]]
    writev, write = os.writev, os.write
    monkeypatch.setattr(os, "writev", lambda descriptor, given: write(descriptor, b"".join(given)[:take]))
    monkeypatch.setattr(os, "write", lambda descriptor, given: writev(descriptor, [bytes(given)[:take]]))
    descriptor = os.open(tmp_path / "x", os.O_WRONLY | os.O_CREAT)
    arrival._write_all(descriptor, pieces)
    os.close(descriptor)
    assert (tmp_path / "x").read_bytes() == data


async def test_a_shell_that_prints(lab: Lab, no_rsync: None) -> None:
    """It would break rsync; a stream passes over it."""
    (lab.sshd.account / ".bashrc").write_text("echo 'Welcome to gpu1!'; head -c 5000 /dev/urandom\n")
    assert (await lab.pull(lab.save("big.ckpt", noise(SIZE)))).event == VERIFIED


@pytest.mark.parametrize("code", ["print('what?')", "import sys; sys.exit(3)", "print('x' * 100000)"])
async def test_a_host_that_cannot_is_left_to_rsync(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streams: list[str], code: str
) -> None:
    (tmp_path / stream.SCRIPT).write_text(code)
    monkeypatch.setattr(stream, "PAYLOAD", tmp_path)
    assert (await lab.pull(lab.save("big.ckpt", noise(SIZE)))).event == VERIFIED
    assert streams == [] and lab.accepted() == {"big.ckpt"}


async def test_holes_and_small_files_are_left_to_rsync(lab: Lab, streams: list[str]) -> None:
    with open(lab.there.checkpoints / "holes.ckpt", "wb") as handle:
        handle.truncate(16 << 20)
    holes = lab.save("none.ckpt", bytes(16 << 20))
    os.replace(lab.there.checkpoints / "holes.ckpt", lab.there.checkpoints / "none.ckpt")
    small = lab.save("small.ckpt", noise(2_000_000))
    for line in (holes, small):
        assert (await lab.pull(line)).event == VERIFIED
    assert streams == []


async def test_nothing_arrives_any_more(
    home: Path, sshd: Sshd, proxy: Proxy, no_rsync: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-open line: it is given up, and the next try goes on from there."""
    async with through(home, sshd) as lab:
        line = lab.save("big.ckpt", noise(SIZE))
        monkeypatch.setattr(stream, "STALL_S", 0.7)
        task = await begun(lab, line)
        proxy.stall()
        with pytest.raises(Cut):
            await task
        left = (lab.run.checkpoints / ".incoming" / line.sha256[:12] / ".partial" / line.name).stat().st_size
        assert left >= 500_000
        monkeypatch.setattr(stream, "STALL_S", 60.0)
        link = lab.fleet.watch("gpu1")
        await until(lambda: link.state is not LinkState.CONNECTED, "the end of the link")
        proxy.resume()
        proxy.cut()
        await until(lambda: link.state is LinkState.CONNECTED and link.agent is not None, "the link")
        assert (await lab.pull(line, POLICY)).event == VERIFIED and lab.accepted() == {"big.ckpt"}


class through:
    """A lab behind a line that can fall silent."""

    def __init__(self, home: Path, sshd: Sshd) -> None:
        self._home, self._sshd = Home(home), sshd

    async def __aenter__(self) -> Lab:
        self._fleet = Fleet(self._home, rhythm=QUICK, mirrors=False)
        await self._fleet.watch("gpu1").ready(20)
        return Lab(self._home, self._fleet, self._sshd)

    async def __aexit__(self, *_: object) -> None:
        await self._fleet.close()
