"""Samples and pushed code come along: whole files that rest, hashed on both sides, put where readers look."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wavedeck.engine.backup.policy import BackupPolicy
from wavedeck.engine.manifest import Manifest, SupervisorRecord, write_record
from wavedeck.remote.backup import samples
from wavedeck.remote.backup.disk import RealDisk
from wavedeck.remote.backup.keeper import once
from wavedeck.remote.far_samples import sample_opener
from wavedeck.tests.remote.backup.conftest import Lab, leftovers, noise


@pytest.fixture(autouse=True)
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "REST_S", 0.5)


def put(lab: Lab, name: str, data: bytes) -> Path:
    path = lab.there.samples / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    (lab.run.samples / name).parent.mkdir(parents=True, exist_ok=True)  # the mirror brings the index
    (lab.run.samples / name).with_name("index.jsonl").write_bytes(os.urandom(8))
    return path


async def test_sound_comes_along(lab: Lab) -> None:
    put(lab, "val/step-1.h5", noise(300_000, 1))
    put(lab, "val/step-2.h5", noise(5_000, 2))
    put(lab, "other/step-1.h5", noise(5_000, 3))
    put(lab, "val/notes.txt", b"no sound")
    (lab.there.samples / "val" / "link.h5").symlink_to("/etc/hostname")
    (lab.there.samples / "loop").symlink_to(lab.there.samples)
    await once(lab.home, None, fleet=lab.fleet)
    found = {str(path.relative_to(lab.run.samples)) for path in lab.run.samples.rglob("*.h5")}
    assert found == {"val/step-1.h5", "val/step-2.h5", "other/step-1.h5"}
    assert (lab.run.samples / "val/step-1.h5").read_bytes() == noise(300_000, 1) and leftovers(lab.run) == []
    opened = sample_opener(lab.home, lab.run, None)(lab.run.samples / "val/step-1.h5")  # type: ignore[arg-type]
    assert opened == lab.run.samples / "val/step-1.h5"  # read here, not there


async def test_what_is_attached_to_samples_comes_along(lab: Lab) -> None:
    put(lab, "val/step-1.h5", noise(5000, 1))
    beside = lab.there.samples / "val" / "attachments"
    beside.mkdir()
    (beside / "item-score.mid").write_bytes(noise(900, 2))
    (beside / "link").symlink_to("/etc/hostname")
    (beside / "..x").write_bytes(b"no such name")
    (beside / "deeper").mkdir()
    outside = lab.there.samples / "outside"
    outside.mkdir()
    (outside / "attachments").symlink_to("/etc")
    assert await samples.samples_behind(lab.host, lab.run) == 5900
    await once(lab.home, None, fleet=lab.fleet)
    here = lab.run.samples / "val" / "attachments"
    assert [path.name for path in here.iterdir()] == ["item-score.mid"]
    assert (here / "item-score.mid").read_bytes() == noise(900, 2)
    assert not (lab.run.samples / "outside").exists() and await samples.samples_behind(lab.host, lab.run) == 0


async def test_what_is_being_written_waits(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(lab, "val/step-1.h5", noise(1000, 1))
    resting = samples.Resting()
    arguments = (lab.host, lab.run, BackupPolicy(), lab.said.append, RealDisk(), resting)
    assert await samples.pull_samples(*arguments) == 0 and resting.waiting == 1
    path.write_bytes(noise(2000, 2))
    monkeypatch.setattr(samples, "REST_S", 0.0)
    assert await samples.pull_samples(*arguments) == 0 and resting.waiting == 1  # it has changed since
    assert await samples.pull_samples(*arguments) == 1 and resting.waiting == 0
    assert (lab.run.samples / "val/step-1.h5").read_bytes() == noise(2000, 2)
    assert await samples.pull_samples(*arguments) == 0


async def test_changed_while_it_moved_is_not_taken(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(lab, "val/step-1.h5", noise(100_000, 1))
    real = samples.fetch

    async def late(*rest: object) -> None:
        path.write_bytes(noise(100_000, 2))
        await real(*rest)  # type: ignore[arg-type]

    monkeypatch.setattr(samples, "fetch", late)
    monkeypatch.setattr(samples, "REST_S", 0.0)
    arguments = (lab.host, lab.run, BackupPolicy(), lab.said.append, RealDisk(), samples.Resting())
    for _ in range(2):
        assert await samples.pull_samples(*arguments) == 0
    assert not list(lab.run.samples.rglob("*.h5"))


async def test_pushed_code_is_kept(lab: Lab) -> None:
    """With what may be executed and links inside it; not what the training wrote, nor links that lead out."""
    code = lab.sshd.remote_home / "code" / lab.run_id
    (code / "src" / "empty").mkdir(parents=True)
    (code / "train it.py").write_text("print(1)")
    (code / "src" / "go.sh").write_text("#!/bin/sh\n")
    (code / "src" / "go.sh").chmod(0o755)
    (code / "src" / "same.py").symlink_to("../train it.py")
    (code / "out").symlink_to("/etc")
    for run in (lab.there, lab.run):
        write_record(run.manifest, Manifest(lab.run_id, "drums", 0.0, cwd=str(code), command=["python"]))
    await once(lab.home, None, fleet=lab.fleet)
    assert not lab.run.project.exists()  # nobody knows yet when it began
    started = (code / "train it.py").stat().st_ctime + 0.001
    write_record(lab.run.supervisor, SupervisorRecord(1, 1, started))
    (code / "model.pt").write_bytes(noise(2 << 20))
    os.utime(code / "model.pt", (1, 1))
    done = await once(lab.home, None, fleet=lab.fleet)
    assert not done.failed
    project = lab.run.project
    assert (project / "train it.py").read_text() == "print(1)"
    assert os.access(project / "src" / "go.sh", os.X_OK) and (project / "src" / "same.py").read_text() == "print(1)"
    assert not (project / "model.pt").exists() and not os.path.lexists(project / "out")
    (code / "train it.py").write_text("print(2)")
    await once(lab.home, None, fleet=lab.fleet)
    assert (project / "train it.py").read_text() == "print(1)" and leftovers(lab.run) == []
