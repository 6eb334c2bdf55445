"""`safe` asks the host itself which runs it has: whatever nobody copied makes it not safe, and is named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from wavedeck.engine.backup.safety import HostSafety
from wavedeck.engine.catalog import Catalog
from wavedeck.engine.manifest import Attempt, ExitRecord, Manifest, encode, write_record
from wavedeck.engine.run_view import RunView
from wavedeck.remote.backup import assess as assessing
from wavedeck.remote.backup.assess import assess
from wavedeck.remote.backup.keeper import once
from wavedeck.remote.mirror import Mirror
from wavedeck.remote.mirror_files import forget_run
from wavedeck.tests.remote.backup.conftest import RUN_ID, Lab, noise

OTHER = "20250101-1200-old-calm-fox"


def views(lab: Lab) -> list[RunView]:
    return Catalog(lab.home, lambda *_: False, far=lambda *_: (False, None)).views()


async def judge(lab: Lab, caught_up: bool = True) -> HostSafety:
    return await assess(lab.home, "gpu1", views(lab), lab.fleet, caught_up=caught_up)


@pytest.fixture
async def ended(lab: Lab) -> Lab:
    """A recipe's run that has ended, with all of it here."""
    for run in (lab.there, lab.run):
        write_record(run.manifest, Manifest(RUN_ID, "drums", 0.0, recipe="x", cwd=str(lab.cwd)))
        run.attempts.mkdir()
        run.attempt(1).write_bytes(encode(Attempt(attempt=1, requested=1.0, argv=["x"], cwd=str(lab.cwd))))
        run.events.write_bytes(b'{"t": 1.0, "k": "metrics", "step": 7, "v": {}}\n')
        write_record(run.exit, ExitRecord(1, 2.0, exit_code=0))
    lab.save("s1.ckpt", noise(1000), 7)
    await once(lab.home, None, fleet=lab.fleet)
    return lab


async def test_a_host_with_nothing_else_is_safe(ended: Lab) -> None:
    found = await judge(ended)
    assert found.safe and found.reasons == (), (found.notes, found.runs)
    (ended.there.path.parent / OTHER).mkdir()
    assert (await judge(ended)).safe, "an empty folder is no run"
    late = await judge(ended, caught_up=False)
    assert not late.safe and "not all that is new on it was here in time" in late.reasons[0]


async def test_runs_that_nobody_copied_are_named(ended: Lab) -> None:
    names = [f"2025010{day}-1200-old-calm-fox" for day in range(1, 6)]
    for name in names:
        (ended.there.path.parent / name).mkdir()
        (ended.there.path.parent / name / "manifest.json").write_text("{}")
        os.utime(ended.there.path.parent / name / "manifest.json", (1, 1))
    forget_run(ended.home, "gpu1", names[0])
    found = await judge(ended)
    assert not found.safe
    assert found.reasons == (f"5 runs there are not copied here: {names[4]}, {names[3]}, {names[2]} and 2 more.",)
    for name in names[1:]:
        shutil.rmtree(ended.there.path.parent / name)
    assert (await judge(ended)).reasons == (f"1 run there is not copied here: {names[0]}.",), "a forgotten one is there"


async def test_a_run_of_that_name_here_that_is_no_copy_is_not_that_run(ended: Lab) -> None:
    (ended.run.path / "mirror.json").unlink()
    assert (await judge(ended)).reasons == (f"1 run there is not copied here: {RUN_ID}.",)


async def test_logs_and_attempts_that_are_not_here_yet_are_seen(ended: Lab) -> None:
    with open(ended.there.events, "ab") as handle:
        handle.write(b"x" * 500)
    (run,) = (await judge(ended)).runs
    assert run.reasons == ("logs: 500 B are not here",) and run.bytes_outstanding == 500
    shutil.copy(ended.there.events, ended.run.events)
    ended.there.attempt(2).write_bytes(b"{}")  # resumed by somebody else: its end here is an old one
    (run,) = (await judge(ended)).runs
    assert run.reasons == ("its host has more of it than was read here so far: ask again",)


async def test_a_host_that_does_not_tell_is_not_safe(ended: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(ended.there.path)
    ended.there.path.mkdir()
    assert (await judge(ended)).safe, "it has nothing of that run any more"

    async def silent(*_: object) -> object:
        raise TimeoutError

    monkeypatch.setattr(assessing, "runs_there", silent)
    found = await judge(ended)
    assert not found.safe and "took too long" in found.reasons[0]


async def test_nobody_knows_where_a_foreign_run_worked(ended: Lab) -> None:
    """A run whose records do not say where it worked may have written anywhere."""
    for run in (ended.there, ended.run):
        write_record(run.manifest, Manifest(RUN_ID, "drums", 0.0))
        run.attempt(1).write_bytes(encode(Attempt(attempt=1, requested=1.0, argv=["x"], cwd="somewhere")))
    (run,) = (await judge(ended)).runs
    assert not run.safe and "nobody has looked which of its files no policy covers" in run.reasons


async def test_links_out_of_a_foreign_runs_directory_are_a_reason(ended: Lab) -> None:
    for run in (ended.there, ended.run):
        write_record(run.manifest, Manifest(RUN_ID, "drums", 0.0, cwd=str(ended.cwd)))
    assert (await judge(ended)).safe
    disk = ended.sshd.root / "bigdisk"
    disk.mkdir()
    (disk / "a.pt").write_bytes(b"x" * (3 << 20))
    (ended.cwd / "out").symlink_to(disk)
    (run,) = (await judge(ended)).runs
    assert run.reasons == (f"not looked into there: out -> {disk} (1 large files)",)


def test_a_full_list_of_runs_says_of_none_that_it_is_gone(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """The agent names so many and no more; one that is passed over is there all the same, and so is one too many."""
    monkeypatch.setattr("wavedeck.remote.mirror.MOST_RUNS", 2)
    send: Callable[..., None] = lambda *_, **__: None  # noqa: E731
    mirror = Mirror(lab.home, "gpu1")
    mirror._send = send
    mirror.take(
        {"op": "runs", "runs": [[f"2026010{day}-1200-new-calm-fox", 9e9] for day in (1, 2)] + [[RUN_ID, 1.0]]}, b""
    )
    assert mirror.runs == 2 and RUN_ID not in mirror._gone
    mirror.take({"op": "runs", "runs": []}, b"")
    assert RUN_ID not in mirror._gone
