"""The second place, a directory and another host: verified there, the same retention, and no secrets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wavedeck.engine.backup.copies import SECOND, read_copies
from wavedeck.engine.backup.places import locate
from wavedeck.engine.backup.policy import BackupPolicy, read_policy, write_policy
from wavedeck.engine.manifest import ExitRecord, read_manifest, write_record
from wavedeck.remote.backup import second
from wavedeck.remote.backup.disk import RealDisk
from wavedeck.remote.backup.keeper import once
from wavedeck.remote.backup.places import DirectoryPlace, Item
from wavedeck.remote.backup.policies import asked_policy, set_policy
from wavedeck.remote.backup.pull import pull_many
from wavedeck.remote.backup.state import RunBackup, read_state
from wavedeck.remote.backup.trusted import distrusted, trust_second
from wavedeck.remote.backup.verify import verify
from wavedeck.remote.payload import backup_files
from wavedeck.tests.remote.backup.conftest import Lab, noise, sha
from wavedeck.tests.servers.sshd import Sshd, write_ssh_config


@pytest.fixture
def nas(sshd: Sshd) -> Iterator[Sshd]:
    with Sshd("nas") as server:
        write_ssh_config(sshd.ssh_config, sshd, server)
        sshd.known_hosts.write_text(sshd.known_line())
        yield server


def settings(lab: Lab, *lines: str) -> None:
    (lab.home.root / "backup.toml").write_text("\n".join(["[default]", *lines]) + "\n")


async def back_up(lab: Lab) -> RunBackup:
    done = await once(lab.home, None, fleet=lab.fleet)
    assert not done.failed
    state = read_state(lab.home)
    assert state is not None
    return state.runs[lab.run_id]


def beyond(lab: Lab, base: Path) -> set[str]:
    """The names that are vouched for at the second place, after each was hashed there."""
    found = read_copies(lab.run).verified(SECOND)
    for name, copy in found.items():
        assert sha((base / "checkpoints" / name).read_bytes()) == copy.sha256
    return set(found)


def furnish(lab: Lab) -> None:
    """Records, journals, samples; and what must stay here."""
    lab.run.events.write_text('{"event": 1}\n')
    lab.run.attempts.mkdir()
    lab.run.attempt(1).write_text('{"argv": ["--token", "secret"]}')
    (lab.run.path / ".env").write_text("TOKEN=secret")
    (lab.run.samples / "val").mkdir(parents=True)
    (lab.run.samples / "val" / "index.jsonl").write_text("{}\n")
    (lab.run.samples / "val" / "step-1.h5").write_bytes(noise(3000))
    (lab.run.samples / "val" / ".env").write_text("TOKEN=secret")
    (lab.run.samples / "val" / "attachments").mkdir()
    (lab.run.samples / "val" / "attachments" / "item-score.mid").write_bytes(noise(300))
    (lab.run.samples / "val" / "attachments" / ".env").write_text("TOKEN=secret")
    write_record(lab.run.exit, ExitRecord(1, 2.0))


def assert_records(lab: Lab, base: Path) -> None:
    names = {str(path.relative_to(base)) for path in base.rglob("*") if path.is_file()}
    assert {"manifest.json", "exit.json", "events.jsonl", "checkpoints/manifest.jsonl"} <= names
    assert {"samples/val/index.jsonl", "samples/val/step-1.h5"} <= names
    assert "samples/val/attachments/item-score.mid" in names
    assert not [name for name in names if "attempts" in name or ".env" in name]
    assert (base / "events.jsonl").read_bytes() == lab.run.events.read_bytes()


async def test_a_directory(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "mnt nas"
    settings(lab, f'second = "{place}"', "keep_last = 2")
    lab.save("s1.ckpt", noise(50_000, 1), 1)
    furnish(lab)
    told = await back_up(lab)
    assert "mount it" in (told.second_error or "") and told.second_outstanding == 1 and not place.exists()
    assert lab.accepted() == {"s1.ckpt"}  # here it is all the same
    place.mkdir()
    for turns in (1, 2):
        monkeypatch.setattr(second, "EVERY_S", 0.0)
        told = await back_up(lab)
        assert (told.second_error, told.second_outstanding) == (None, 0), turns
    base = place / "runs" / lab.run_id
    assert beyond(lab, base) == {"s1.ckpt"}
    assert_records(lab, base)
    for step in (2, 3):
        lab.save(f"s{step}.ckpt", noise(50_000, step), step)
    await back_up(lab)
    assert beyond(lab, base) == {"s2.ckpt", "s3.ckpt"}
    assert sorted(path.name for path in (base / "checkpoints").glob("*.ckpt")) == ["s2.ckpt", "s3.ckpt"]


async def test_damaged_at_the_second_place(lab: Lab, tmp_path: Path) -> None:
    settings(lab, f'second = "{tmp_path}"')
    lab.save("s1.ckpt", noise(50_000, 1), 1)
    await back_up(lab)
    base = tmp_path / "runs" / lab.run_id
    (base / "checkpoints" / "s1.ckpt").write_bytes(noise(50_000, 9))
    found = await verify(lab.home, lab.run)
    assert [(copy.name, copy.place) for copy in found.bad] == [("s1.ckpt", SECOND)] and len(found.right) == 1
    await back_up(lab)
    assert beyond(lab, base) == {"s1.ckpt"}


async def test_damaged_here_does_not_go_on(lab: Lab, tmp_path: Path) -> None:
    """The second place never gets what is not right; here it is fetched again first."""
    lab.save("s1.ckpt", noise(50_000, 1), 1)
    await back_up(lab)
    (lab.run.checkpoints / "s1.ckpt").write_bytes(noise(50_000, 9))
    settings(lab, f'second = "{tmp_path}"')
    await back_up(lab)
    assert lab.accepted() == {"s1.ckpt"}
    assert beyond(lab, tmp_path / "runs" / lab.run_id) == {"s1.ckpt"}


async def test_another_place_begins_anew(lab: Lab, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        settings(lab, f'second = "{tmp_path / name}"')
        if name == "one":
            lab.save("s1.ckpt", noise(50_000, 1), 1)
        located = locate(
            lab.run, read_manifest(lab.run.manifest), None, read_copies(lab.run), read_policy(lab.home, lab.run)
        )
        assert not [place for place in located if place.second], "what is at the place before this one is not here"
        await back_up(lab)
        assert beyond(lab, tmp_path / name / "runs" / lab.run_id) == {"s1.ckpt"}


@pytest.mark.parametrize("chosen", [False, True])
async def test_another_host(lab: Lab, nas: Sshd, monkeypatch: pytest.MonkeyPatch, chosen: bool) -> None:
    place = nas.root / "backup place" if chosen else nas.remote_home / "backup"
    settings(lab, f'second = "nas:{place}"' if chosen else 'second = "nas"', "keep_last = 2")
    await lab.fleet.watch("nas").ready(20)
    furnish(lab)
    for step in (1, 2, 3, 4):
        lab.save(f"s{step}.ckpt", noise(50_000, step), step)
        if step > 2:
            monkeypatch.setattr(second, "EVERY_S", 0.0)
            told = await back_up(lab)
            assert (told.second_error, told.second_outstanding) == (None, 0)
    base = place / "runs" / lab.run_id
    assert beyond(lab, base) == {"s3.ckpt", "s4.ckpt"}
    assert sorted(path.name for path in (base / "checkpoints").glob("*.ckpt")) == ["s3.ckpt", "s4.ckpt"]
    assert_records(lab, base)
    (base / "checkpoints" / "s4.ckpt").write_bytes(noise(50_000, 9))
    found = await verify(lab.home, lab.run, hosts=lab.fleet.host)
    assert [(copy.name, copy.place) for copy in found.bad] == [("s4.ckpt", SECOND)]
    await back_up(lab)
    assert beyond(lab, base) == {"s3.ckpt", "s4.ckpt"}


async def test_its_own_host_is_no_second_place(lab: Lab) -> None:
    settings(lab, 'second = "gpu1"')
    lab.save("s1.ckpt", noise(1000))
    assert "own host" in ((await back_up(lab)).second_error or "")
    assert lab.accepted() == {"s1.ckpt"}


async def test_a_directory_that_came_with_a_policy_is_not_followed(lab: Lab, tmp_path: Path) -> None:
    """A host's policy.json must not make us write where nobody here said; naming the place here once is enough."""
    place = tmp_path / "nas"
    place.mkdir()
    lab.save("s1.ckpt", noise(1000, 1), 1)
    write_policy(lab.run, BackupPolicy(second=str(place)))
    told = await back_up(lab)
    assert "never named on this machine" in (told.second_error or "") and told.second_outstanding == 1
    assert list(place.iterdir()) == [] and lab.accepted() == {"s1.ckpt"}
    write_policy(lab.run, BackupPolicy(second=f"nas:{place}"))
    assert "never named on this machine" in ((await back_up(lab)).second_error or "")
    policy = BackupPolicy(second=str(place))
    write_policy(lab.run, policy)
    await set_policy(lab.home, lab.run, policy, lab.host)  # nothing about it was said
    assert list(place.iterdir()) == [] and "never named" in (distrusted(lab.home, lab.run, policy) or "")
    await set_policy(lab.home, lab.run, policy, lab.host, said_second=True)
    assert (await back_up(lab)).second_error is None
    assert beyond(lab, place / "runs" / lab.run_id) == {"s1.ckpt"}


@pytest.mark.parametrize("how", ["backup.toml", "launch", "a change", "a host without a directory"])
def test_a_place_that_was_named_here_is_followed(lab: Lab, tmp_path: Path, how: str) -> None:
    policy = BackupPolicy(second=str(tmp_path))
    if how == "backup.toml":
        settings(lab, f'second = "{tmp_path}"')
    elif how == "launch":
        asked_policy(lab.home, "gpu1", words=[f"second={tmp_path}"])
    elif how == "a change":
        trust_second(lab.home, policy)
    else:
        policy = BackupPolicy(second="nas")
    assert distrusted(lab.home, lab.run, policy) is None
    assert distrusted(lab.home, lab.run, BackupPolicy(second="/other")) is not None


async def test_a_directory_is_filled_no_faster_than_the_policy_says(lab: Lab, tmp_path: Path) -> None:
    """Bytes over time, with slack downwards only."""
    items = []
    for number in (1, 2):
        (lab.run.checkpoints / f"s{number}.ckpt").write_bytes(noise(150_000, number))
        items.append(Item(f"checkpoints/s{number}.ckpt", sha(noise(150_000, number)), 150_000))
    began = time.monotonic()
    placed = await DirectoryPlace(tmp_path).put(lab.run, lab.run.path, items, lab.said.append, 200)
    took = time.monotonic() - began
    assert len(placed) == 2 and 300_000 / took < 200 * 1024 * 1.4


async def test_a_pull_is_no_faster_than_the_policy_says(lab: Lab) -> None:
    """Both ways that bytes take: our own stream, and rsync for what is small and travels together."""
    big = lab.save("big.ckpt", noise(3_000_000, 1), 1)
    small = [lab.save(f"s{step}.ckpt", noise(750_000, step), step) for step in (2, 3, 4, 5)]
    for work, total in ((lambda policy: lab.pull(big, policy), 3_000_000), (
        lambda policy: pull_many(lab.host, lab.run, small, policy, lab.said.append, RealDisk()), 3_000_000,
    )):  # fmt: skip
        began = time.monotonic()
        await work(BackupPolicy(limit_kib_s=1500))
        assert total / (time.monotonic() - began) < 1500 * 1024 * 1.4
    assert lab.accepted() == {"big.ckpt", *(line.name for line in small)}


def test_the_folders_above_a_new_run_are_made_durable_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "home" / "backup" / "runs" / "x"
    backup_files.begin({"base": str(base)})
    (base / ".incoming" / "a").write_bytes(b"a")
    synced: list[str] = []
    monkeypatch.setattr(backup_files, "_sync", synced.append)
    told = backup_files.commit({"base": str(base), "host": "nas", "rows": [["a", sha(b"a"), 1]]})
    assert told == {"files": ["placed"]}
    assert synced[1:] == [str(path) for path in (base, base.parent, base.parent.parent, base.parent.parent.parent)]
