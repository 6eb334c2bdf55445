"""One checkpoint from a real sshd by real rsync: whatever happens on the way, only right files are vouched for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wavedeck.engine.backup.copies import BAD, NOTE, VERIFIED, read_copies
from wavedeck.engine.checkpoints import CheckpointLine
from wavedeck.engine.errors import WavedeckError
from wavedeck.engine.manifest import Attempt, write_record
from wavedeck.remote.backup import pull as pulling
from wavedeck.remote.backup import staging
from wavedeck.remote.backup.disk import RealDisk
from wavedeck.remote.backup.transfer import DiskFull
from wavedeck.tests.remote.backup.conftest import POLICY, Lab, leftovers, noise, sha

HOSTILE = [
    "a b.pt", "it's \"so\".pt", "new\nline.pt", "übung-音.pt", "-rf.pt", "a*[x]?.pt", "$(touch pwn).pt", "#c.pt",
    ";d.pt", "sub dir/*/deep.pt", ".hidden.pt",
]  # fmt: skip


async def test_a_checkpoint_arrives_whole_and_is_recorded(lab: Lab) -> None:
    data = noise(3_000_000)
    told = await lab.pull(lab.save("step-00000001.ckpt", data))
    assert (told.event, told.name, told.sha256, told.place) == (VERIFIED, "step-00000001.ckpt", sha(data), "here")
    assert lab.accepted() == {"step-00000001.ckpt"}
    assert leftovers(lab.run) == []
    assert lab.said[-1].bytes == lab.said[-1].total == len(data)


@pytest.mark.parametrize("size", [0, 1, 700])
async def test_tiny_files(lab: Lab, size: int) -> None:
    assert (await lab.pull(lab.save("tiny.ckpt", noise(size)))).event == VERIFIED
    assert lab.accepted() == {"tiny.ckpt"}


async def test_names_that_are_traps(lab: Lab) -> None:
    """Each is one file and nothing else; neighbours that a pattern would mean are not taken for it."""
    (lab.sshd.root / "work dir 1").mkdir()
    lines = [lab.foreign(path, noise(2000, number)) for number, path in enumerate(HOSTILE)]
    (lab.cwd / "aZx.pt").write_bytes(b"what a pattern would mean")
    for line in lines[:4]:
        assert (await lab.pull(line)).event == VERIFIED
    told = await pulling.pull_many(lab.host, lab.run, lines[4:], POLICY, lab.said.append, RealDisk())
    assert [line.event for line in told] == [VERIFIED] * len(lines[4:])
    assert lab.accepted() == {line.name for line in lines}
    assert not (lab.cwd / "pwn").exists() and leftovers(lab.run) == []


@pytest.mark.parametrize("path", ["../secret.pt", "/etc/hostname", "a/../../secret.pt", "nul\0.pt"])
async def test_a_path_that_leads_out_is_refused(lab: Lab, path: str) -> None:
    (lab.sshd.root / "secret.pt").write_bytes(b"secret")
    line = CheckpointLine("secret.000000000000.pt", 1, 6, sha(b"secret"), 1.0, kind="foreign", path=path)
    told = await lab.pull(line)
    assert told.event == BAD and "outside" in told.text
    assert lab.accepted() == set() and not (lab.run.checkpoints / line.name).exists()


@pytest.mark.parametrize("digest", ["../../../../../x", "A" * 64, ""])
async def test_a_hash_that_is_none_is_refused(lab: Lab, digest: str) -> None:
    (lab.there.checkpoints / "x.ckpt").write_bytes(b"x")
    told = await lab.pull(CheckpointLine("x.ckpt", 1, 1, digest, 1.0))
    assert told.event == BAD and lab.accepted() == set()


async def test_links_are_not_followed(lab: Lab) -> None:
    """Neither a file nor a folder on the way may be one, not even to a file that hashes right."""
    data = noise(5000)
    outside = lab.sshd.root / "outside"
    outside.mkdir()
    (outside / "x.pt").write_bytes(data)
    (lab.cwd / "folder").symlink_to(outside)
    (lab.cwd / "file.pt").symlink_to(outside / "x.pt")
    for path in ("folder/x.pt", "file.pt"):
        told = await lab.pull(CheckpointLine("x.pt", 1, len(data), sha(data), 1.0, kind="foreign", path=path))
        assert told.event == BAD and "link" in told.text
    line = CheckpointLine("l.ckpt", 1, len(data), sha(data), 1.0)
    (lab.there.checkpoints / "l.ckpt").symlink_to(outside / "x.pt")
    assert (await lab.pull(line)).event == BAD
    os.mkfifo(lab.there.checkpoints / "p.ckpt")
    assert (await lab.pull(CheckpointLine("p.ckpt", 1, 0, sha(b""), 1.0))).event == BAD
    told_many = await pulling.pull_many(lab.host, lab.run, [line], POLICY, lab.said.append, RealDisk())
    assert [told.event for told in told_many] == [BAD]
    assert lab.accepted() == set()


async def test_rotated_away(lab: Lab) -> None:
    line = lab.save("old.ckpt", noise(1000))
    (lab.there.checkpoints / "old.ckpt").unlink()
    told = await lab.pull(line)
    assert told.event == NOTE and "gone there" in told.text
    assert read_copies(lab.run).notes[-1].text == told.text and lab.accepted() == set()


async def test_damaged_there_is_said_and_not_tried_for_ever(lab: Lab) -> None:
    line = lab.save("rot.ckpt", noise(50_000))
    with open(lab.there.checkpoints / "rot.ckpt", "r+b") as handle:
        handle.seek(20_000)
        handle.write(b"flip")
    told = await lab.pull(line)
    assert told.event == BAD and "damaged there" in told.text and lab.accepted() == set()
    short = lab.save("short.ckpt", noise(50_000))
    os.truncate(lab.there.checkpoints / "short.ckpt", 10)
    assert "10 of 50000 bytes" in (await lab.pull(short)).text


async def test_bits_that_flip_on_the_way(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrived is changed before it is checked, twice; the third try is right."""
    line = lab.save("flip.ckpt", noise(300_000))
    real, flips = pulling.fetch, []

    async def flipping(host: object, base: str, names: list[str], target: Path, *rest: object) -> None:
        await real(host, base, names, target, *rest)  # type: ignore[arg-type]
        if len(flips) < 2:
            flips.append(1)
            with open(target / names[0], "r+b") as handle:
                handle.seek(1234)
                handle.write(b"\xff\x00\xff")

    monkeypatch.setattr(pulling, "fetch", flipping)
    assert (await lab.pull(line)).event == VERIFIED
    assert len(flips) == 2 and lab.accepted() == {"flip.ckpt"}
    flips[:] = []
    monkeypatch.setattr(pulling, "TRIES", 2)
    told = await lab.pull(lab.save("always.ckpt", noise(1000)))
    assert told.event == BAD and "right there" in told.text
    assert lab.accepted() == {"flip.ckpt"} and not (lab.run.checkpoints / "always.ckpt").exists()


async def test_overwritten_in_place_while_it_is_copied(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """`latest.pt`: the mixture rsync brings, with exit status 0, is never accepted."""
    line = lab.foreign("latest.pt", noise(400_000, 1))
    real = pulling.fetch

    async def late(*arguments: object) -> None:
        with open(lab.cwd / "latest.pt", "r+b") as handle:  # its trainer is half way through the next one
            handle.write(noise(200_000, 2))
        await real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pulling, "fetch", late)
    told = await lab.pull(line)
    assert told.event == BAD and "overwritten there meanwhile" in told.text
    assert lab.accepted() == set()
    monkeypatch.undo()
    after = lab.foreign("latest.pt", noise(400_000, 3))
    assert (await lab.pull(after)).event == VERIFIED and lab.accepted() == {after.name}


async def test_files_lie_where_the_newest_attempt_works(lab: Lab) -> None:
    """As the agent has it that finds them; the manifest tells where the first one did."""
    elsewhere = lab.sshd.root / "elsewhere"
    elsewhere.mkdir()
    line = lab.foreign("x.pt", noise(1000))
    (lab.cwd / "x.pt").rename(elsewhere / "x.pt")
    lab.run.attempts.mkdir()
    write_record(lab.run.attempt(2), Attempt(2, 1.0, ["python"], str(elsewhere)))
    assert (await lab.pull(line)).event == VERIFIED and lab.accepted() == {line.name}


async def test_one_at_a_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "LOCK_S", 0.1)
    line = lab.save("a.ckpt", noise(1000))
    async with staging.locked(lab.run.checkpoints):
        with pytest.raises(WavedeckError, match="another process"):
            await lab.pull(line)
    assert (await lab.pull(line)).event == VERIFIED


async def test_a_name_with_new_content_is_never_vouched_for_as_the_old(lab: Lab) -> None:
    await lab.pull(lab.save("same.ckpt", noise(1000, 1)))
    await lab.pull(lab.save("same.ckpt", noise(1000, 2)))
    assert lab.accepted() == {"same.ckpt"}
    assert read_copies(lab.run).verified()["same.ckpt"].sha256 == sha(noise(1000, 2))


async def test_no_room_is_said_before_anything_moves(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = lab.save("kept.ckpt", noise(1000))
    await lab.pull(kept)
    monkeypatch.setattr(staging, "free_bytes", lambda path: (256 << 20) + 999_999)
    with pytest.raises(DiskFull, match="free some space"):
        await lab.pull(lab.save("big.ckpt", noise(1_000_000)))
    assert lab.accepted() == {"kept.ckpt"} and {moving.name for moving in lab.said} == {"kept.ckpt"}
    monkeypatch.setattr(staging, "free_bytes", lambda path: (256 << 20) + 1_000_000)
    assert (await lab.pull(lab.save("big.ckpt", noise(1_000_000)))).event == VERIFIED


async def test_holes_stay_holes(lab: Lab) -> None:
    size = 256 << 20
    with open(lab.there.checkpoints / "holes.ckpt", "wb") as handle:
        handle.write(noise(100_000))
        handle.seek(size - 4)
        handle.write(b"tail")
    line = CheckpointLine("holes.ckpt", 1, size, _sparse_sha(lab.there.checkpoints / "holes.ckpt"), 1.0)
    assert (await lab.pull(line)).event == VERIFIED
    facts = (lab.run.checkpoints / "holes.ckpt").stat()
    assert facts.st_size == size and facts.st_blocks * 512 < 1 << 22


def _sparse_sha(path: Path) -> str:
    from wavedeck.engine.checkpoints import sha256_of

    return sha256_of(path)
