"""`ckpt rm`: what is deleted on a host is what was meant, where its trainer works now, and never behind a link."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavedeck.engine.backup.copies import read_copies
from wavedeck.engine.backup.places import locate
from wavedeck.engine.backup.policy import BackupPolicy
from wavedeck.engine.checkpoints import CheckpointLine
from wavedeck.engine.errors import UsageError, WavedeckError
from wavedeck.engine.hosts import read_mirror
from wavedeck.engine.manifest import Attempt, encode, read_manifest
from wavedeck.remote.backup.remove import HOST, remove
from wavedeck.remote.payload import backup_files
from wavedeck.tests.remote.backup.conftest import Lab, noise, sha


async def delete(lab: Lab, line: CheckpointLine) -> None:
    await remove(lab.home, lab.run, line.name, HOST, lab.fleet.host)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def at_host(lab: Lab) -> list[str]:
    located = locate(
        lab.run, read_manifest(lab.run.manifest), read_mirror(lab.run.path), read_copies(lab.run), BackupPolicy()
    )
    return [place.line.name for place in located if place.origin]


async def test_what_was_meant_is_deleted_and_said_to_be_gone(lab: Lab) -> None:
    own, theirs = lab.save("s1.ckpt", noise(5000, 1), 1), lab.foreign("out/a.pt", noise(5000, 2), 2)
    assert at_host(lab) == [own.name, theirs.name]
    for line in (own, theirs):
        await delete(lab, line)
    assert not (lab.there.checkpoints / "s1.ckpt").exists() and names(lab.cwd / "out") == []
    assert at_host(lab) == []


async def test_another_file_of_the_same_size_stays(lab: Lab) -> None:
    line = lab.foreign("latest.pt", noise(5000, 1))
    (lab.cwd / "latest.pt").write_bytes(noise(5000, 2))
    with pytest.raises(UsageError, match="another file by now: nothing was deleted"):
        await delete(lab, line)
    assert names(lab.cwd) == ["latest.pt"] and sha((lab.cwd / "latest.pt").read_bytes()) == sha(noise(5000, 2))


async def test_it_is_deleted_where_the_newest_attempt_works(lab: Lab) -> None:
    now = lab.sshd.root / "elsewhere"
    now.mkdir()
    lab.run.attempts.mkdir()
    lab.run.attempt(2).write_bytes(encode(Attempt(attempt=2, requested=1.0, argv=["x"], cwd=str(now))))
    line = lab.foreign("a.pt", noise(5000, 1))  # the one of the first attempt, which is not meant
    (now / "a.pt").write_bytes(noise(5000, 1))
    await delete(lab, line)
    assert (lab.cwd / "a.pt").exists() and not (now / "a.pt").exists()


@pytest.mark.parametrize("folder", [True, False])
async def test_no_link_is_followed(lab: Lab, folder: bool) -> None:
    line = lab.foreign("out/a.pt", noise(5000, 1))
    kept = lab.sshd.root / "kept"
    if folder:
        (lab.cwd / "out").rename(kept)
        (lab.cwd / "out").symlink_to(kept)
    else:
        kept.mkdir()
        (lab.cwd / "out" / "a.pt").rename(kept / "a.pt")
        (lab.cwd / "out" / "a.pt").symlink_to(kept / "a.pt")
    with pytest.raises(WavedeckError, match="is a link"):
        await delete(lab, line)
    assert (kept / "a.pt").exists()


def test_a_name_that_changes_hands_meanwhile_keeps_the_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the hash and the deletion the trainer renames its next checkpoint over the name."""
    path = tmp_path / "latest.pt"
    path.write_bytes(b"old")
    request = {"base": str(tmp_path), "name": "latest.pt", "size": 3, "sha256": sha(b"old")}
    real = backup_files._unlink_same

    def late(*rest: object) -> bool:
        (tmp_path / "new").write_bytes(b"new")
        (tmp_path / "new").rename(path)
        return real(*rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(backup_files, "_unlink_same", late)
        assert backup_files.unlink(request) == {"done": False, "why": "changed"}
    assert path.read_bytes() == b"new" and names(tmp_path) == ["latest.pt"]
    path.write_bytes(b"old")
    assert backup_files.unlink(request)["done"] and names(tmp_path) == []
    assert backup_files.unlink(request) == {"done": False, "why": "missing"}


def test_the_second_place_deletes_nothing_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a").write_bytes(b"x")
    (tmp_path / "checkpoints").symlink_to("kept")
    (tmp_path / "b").write_bytes(b"x")
    assert backup_files.remove({"base": str(tmp_path), "names": ["checkpoints/a", "b", "c"]}) == {"removed": 1}
    assert (tmp_path / "kept" / "a").exists()
