"""Every kind of run and of place: foreign files, this machine as source or target, nothing to go on from."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from wavedeck.engine.backup.copies import read_copies
from wavedeck.engine.backup.policy import BackupPolicy, read_policy, write_policy
from wavedeck.engine.catalog import newest_attempt
from wavedeck.engine.checkpoints import read_checkpoints
from wavedeck.engine.errors import UsageError, WavedeckError
from wavedeck.engine.hosts import MirrorRecord, write_mirror
from wavedeck.engine.lineage import read_lease, read_moved
from wavedeck.engine.manifest import ExitRecord, SupervisorRecord, read_manifest, write_record
from wavedeck.engine.planning import RESUME_FROM, gpu_environment, plan_resume
from wavedeck.engine.rundir import Home
from wavedeck.remote import operations
from wavedeck.remote.failover import prepare as module
from wavedeck.remote.failover.choose import Chosen
from wavedeck.remote.failover.lease import refuse_moved
from wavedeck.remote.failover.move import _Asked, move
from wavedeck.remote.failover.prepare import Ready
from wavedeck.remote.local import LocalHost
from wavedeck.remote.ssh_host import SshHost

from .conftest import FOREIGN, OLD, Hosts, add_foreign, lost_run, steps, until


async def test_a_foreign_trainer_finds_its_files_where_they_lay(hosts: Hosts) -> None:
    home = hosts.home
    run = lost_run(home, checkpoints=(), script=FOREIGN)
    add_foreign(run, "out/model.bin", "model 10", 10)
    add_foreign(run, "out/optim.bin", "optim 20", 20)
    add_foreign(run, "out/model.bin", "model 20", 20)
    write_policy(run, BackupPolicy(keep_last=7, failover="gpu2", budget=20.0))
    gpu2 = await hosts.up("gpu2")
    (run.project / "out").mkdir()
    (run.project / "out" / "optim.bin").write_text("of its user")
    result = await move(home, run, None, gpu2, environ={})
    child, there = result.child, hosts.servers["gpu2"].remote_home
    cwd = there / "code" / child.id
    await until(lambda: child.console.exists() and b"optim.bin optim" in child.console.read_bytes(), "the console")
    said = child.console.read_text()
    assert f"resume 1 {cwd}/out/model.bin" in said
    assert "out/model.bin model 20" in said and "out/optim.bin optim 20" in said
    assert not (cwd / ".incoming").exists()
    (kept,) = (cwd / "out").glob("optim.bin.before-*")
    assert kept.read_text() == "of its user"
    assert (there / "runs" / child.id / "checkpoints" / "manifest.jsonl").read_bytes().count(b"\n") == 2
    policy = read_policy(home, child)
    assert (policy.keep_last, policy.budget, policy.failover) == (7, 20.0, None)
    await until(child.checkpoint_manifest.exists, "the lines here")
    held = [read_copies(child).holds(line) for line in read_checkpoints(child.checkpoint_manifest)]
    assert all(held)  # what was just sent there need not come back
    last = newest_attempt(child)
    assert last is not None and plan_resume(child, read_manifest(child.manifest), last).env[RESUME_FROM] == (
        f"{cwd}/out/model.bin"
    )


async def test_from_this_machine_to_a_host(hosts: Hosts) -> None:
    home = hosts.home
    run = lost_run(home, host=None)
    gpu2 = await hosts.up("gpu2")
    result = await move(home, run, None, gpu2, environ={})
    await until(lambda: len(steps(result.child)) > 3, "the curve")
    assert steps(result.child)[0] == 31 and hosts.trainers("gpu2") == 1
    lease = read_lease(run)
    assert lease is not None and lease.fenced_by == result.child.id and lease.generation == 2
    with pytest.raises(UsageError, match=result.child.id):
        await operations.resume(home, LocalHost(home=home), run)
    assert not run.attempt(2).exists()


@pytest.mark.usefixtures("tmux_socket")
async def test_from_a_host_to_this_machine(home: Path) -> None:
    place = Home(home)
    run = lost_run(place)
    (run.project / "deep").mkdir()
    manifest = read_manifest(run.manifest)
    write_record(run.manifest, msgspec.structs.replace(manifest, cwd=f"{manifest.cwd}/deep"))
    (run.project / "train.py").rename(run.project / "deep" / "train.py")
    here = LocalHost(home=place)
    result = await move(place, run, None, here)
    child = result.child
    await until(lambda: len(steps(child)) > 3, "the curve")
    assert steps(child)[0] == 31 and read_manifest(child.manifest).cwd == str(child.project / "deep")
    with pytest.raises(UsageError, match=f"{run.id} is|was moved to local"):
        await move(place, run, None, here)
    await operations.request_stop(here, child)
    await operations.wait_ended(child, 20)


async def test_a_damaged_newest_checkpoint(hosts: Hosts) -> None:
    home = hosts.home
    run = lost_run(home)
    (run.checkpoints / "step-00000030.ckpt").write_bytes(b'{"step": 99}')
    result = await move(home, run, None, await hosts.up("gpu2"), environ={})
    assert (result.moved.step, result.moved.lost_steps) == (20, 17)
    assert any("does not match its sha256" in notice for notice in result.notices)
    await until(lambda: len(steps(result.child)) > 3, "the curve")
    assert steps(result.child)[0] == 21


async def test_nothing_to_go_on_from(hosts: Hosts) -> None:
    home = hosts.home
    run = lost_run(home, checkpoints=())
    gpu2 = await hosts.up("gpu2")
    with pytest.raises(UsageError, match=r"all 37 steps would be trained again.*--from-scratch"):
        await move(home, run, None, gpu2)
    assert not run.moved.exists()
    result = await move(home, run, None, gpu2, from_scratch=True, environ={})
    assert result.moved.step is None and result.moved.lost_steps == 37
    assert read_manifest(result.child.manifest).parent_step == 0
    await until(lambda: len(steps(result.child)) > 3, "the curve")
    assert steps(result.child)[0] == 1 and "from the beginning" in result.sentence


async def test_a_target_that_cannot_take_it_costs_nothing(hosts: Hosts) -> None:
    """The environment, the code and the program are looked at before anything is claimed."""
    home = hosts.home
    run = lost_run(home)
    gpu2 = await hosts.up("gpu2")
    attempt = newest_attempt(run)
    assert attempt is not None
    write_record(run.attempt(1), msgspec.structs.replace(attempt, argv=["/no/such/python", "train.py"]))
    with pytest.raises(UsageError, match="no program '/no/such/python' on gpu2"):
        await move(home, run, None, gpu2)
    (run.project / "train.py").unlink()
    run.project.rmdir()
    with pytest.raises(UsageError, match=r"the code of .* is not here.*--code DIR"):
        await move(home, run, None, gpu2)
    assert not run.moved.exists() and hosts.runs("gpu2") == []


async def test_a_host_that_is_back_before_the_claim_keeps_its_run(hosts: Hosts) -> None:
    """An environment may take long to make; then it is looked once more."""
    home = hosts.home
    run = lost_run(home)
    gpu2 = await hosts.up("gpu2")
    with pytest.raises(UsageError, match="answers again: it is left where it is"):
        await move(home, run, None, gpu2, still_lost=lambda: False)
    assert not run.moved.exists() and hosts.runs("gpu2") == []


async def test_other_gpus_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...] | None] = []

    async def there(*words: object) -> Ready:
        gpus = words[4]
        assert isinstance(gpus, tuple)
        asked.append(gpus)
        if 3 in gpus:
            raise UsageError("there is no GPU 3 on gpu2: it has 0, 1.")
        return Ready(("python",), "/", {}, gpus)

    monkeypatch.setattr(module, "_there", there)
    run = lost_run(Home(home))
    attempt = newest_attempt(run)
    assert attempt is not None
    last = msgspec.structs.replace(attempt, env=gpu_environment((2, 3)))
    gpu2 = object.__new__(SshHost)
    monkeypatch.setattr(SshHost, "name", "gpu2")
    old = module.Ancestor(run, read_manifest(run.manifest), last)
    ready = await module.prepare(Home(home), gpu2, old, "child", code=None, env="auto", report=lambda progress: None)
    assert asked == [(2, 3), (0, 1)] and ready.gpus == (0, 1)
    assert ready.notices == ("GPUs 2,3 are not on gpu2: it is given 0,1 instead.",)


def test_what_is_never_moved(home: Path) -> None:
    place = Home(home)
    finished = lost_run(place)
    write_record(finished.exit, ExitRecord(1, 2.0, started=1.0, exit_code=0))
    here = LocalHost(home=place)
    with pytest.raises(UsageError, match="has finished"):
        asyncio.run(move(place, finished, None, here))
    own = lost_run(place, run_id=OLD.replace("heron", "otter"), host=None)
    with pytest.raises(UsageError, match="is on local already"):
        asyncio.run(move(place, own, None, here))
    broken = lost_run(place, run_id=OLD.replace("heron", "puma"))
    broken.manifest.write_text("{")
    with pytest.raises(WavedeckError, match="damaged"):
        asyncio.run(move(place, broken, None, here))
    assert not list(place.runs.glob("*/moved.json"))


def test_a_run_that_another_machine_moved_is_not_resumed_here(home: Path) -> None:
    run = lost_run(Home(home))
    refuse_moved(run)
    lease = {"lineage": run.id, "generation": 2, "holder": "another", "fenced_by": "another"}
    run.lease.write_text(json.dumps(lease))
    with pytest.raises(UsageError, match="goes on as another"):
        refuse_moved(run)
    assert read_moved(run) is None


@pytest.mark.parametrize(
    ("written", "lost_s"),
    [(-20.0, 20.0), (-9000.0, 60.0), (9000.0, 0.0), (None, 50.0)],
    ids=["by the host's clock", "an older file's time was kept", "in the future", "from scratch"],
)
def test_what_is_lost_is_counted_from_the_file_s_own_time(home: Path, written: float | None, lost_s: float) -> None:
    """The host's clock is an hour ahead; a foreign file's `t` is when it was last written there."""
    place, skew = Home(home), 3600.0
    run = lost_run(place, checkpoints=(), newest=0)
    now = read_manifest(run.manifest).created + 60
    write_mirror(run.path, MirrorRecord("gpu1", skew_s=skew))
    write_record(run.supervisor, SupervisorRecord(attempt=1, pid=4_000_000, started=now - 50 + skew, boot_id="x"))
    lines = [
        {"t": now - 50 + skew, "k": "start", "attempt": 1, "step": 0},
        {"t": now + skew, "k": "metrics", "step": 86, "v": {"loss": 1.0}},
    ]
    run.events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    chosen = None
    if written is not None:
        line = add_foreign(run, "out/model.bin", "model", 20)
        line = msgspec.structs.replace(line, t=now + written + skew)
        chosen = Chosen(run, 20, line.t, (line,), (run.checkpoints / line.name,))
    target = LocalHost(home=place)
    asked = _Asked(place, run, None, target, print, True, "", False, None, "auto", None, lambda: True)
    moved = asked._claim("20261120-1900-voice-calm-otter", chosen)
    assert (moved.lost_steps, moved.lost_s) == (66 if chosen else 86, pytest.approx(lost_s, abs=0.2))
