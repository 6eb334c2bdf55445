"""Safe to destroy? Every reason that says no, and the one case that says yes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wavedeck.engine.backup.copies import HERE, NOTE, SECOND, append_copy, copy_line
from wavedeck.engine.backup.gather import gather
from wavedeck.engine.backup.policy import BackupPolicy, write_policy
from wavedeck.engine.backup.safety import HostSafety, RunSafety, Uncovered, host_safety, run_safety
from wavedeck.engine.catalog import Catalog
from wavedeck.engine.hosts import MirrorRecord, write_mirror
from wavedeck.engine.lineage import Moved, claim_move
from wavedeck.engine.manifest import Headline
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.tests.engine.backup.made import bring, ckpt, far_run, foreign, write_lines
from wavedeck.tests.fakes.runs import T0, make_home, make_run

KNOWN: dict[str, Any] = {"samples_behind": 0, "journal_behind": 0, "uncovered": ()}
LINES = [ckpt(400, loss=0.4), ckpt(800, loss=0.5)]
LOSS = Headline("val/loss")
NOW = T0 + 800 + 840


@pytest.fixture
def at(home: Path) -> Home:
    return make_home(home)


def judged(
    at: Home, run: RunDir, *, alive: bool | None = True, heard: float | None = NOW, now: float = NOW, **told: Any
) -> RunSafety:
    catalog = Catalog(at, lambda *_: alive, clock=lambda: now, far=lambda *_: (alive, heard))
    return run_safety(gather(at, catalog.view(run), **{**KNOWN, **told}), now)


def at_step(run: RunDir, step: int) -> None:
    run.events.write_bytes(msgspec.json.encode({"t": NOW, "k": "metrics", "step": step, "v": {"loss": 1.0}}) + b"\n")


def test_an_ended_run_whose_checkpoints_samples_and_logs_are_here_is_safe(at: Home) -> None:
    run = far_run(at, LINES, headline=LOSS)
    bring(run, *LINES)
    found = judged(at, run)
    assert found == RunSafety(run.id, 800, 800, 840.0, 0, 0.0, (), safe=True)
    assert judged(at, run, alive=None, journal_behind=None).safe, "its exit record came after all its logs"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"samples_behind": 2048}, "samples: 2.0 KiB are not here"),
        ({"samples_behind": None}, "how much of its samples is not here is unknown"),
        ({"journal_behind": 10}, "logs: 10 B are not here"),
        (
            {"uncovered": (Uncovered("out/embeddings.npy", 812 << 20), Uncovered("a\x1b[2J.bin", 5))},
            "2 files no policy covers: out/embeddings.npy 812 MiB, a·[2J.bin 5 B",
        ),
        (
            {"uncovered": tuple(Uncovered(f"{n}.npy", n) for n in range(5))},
            "5 files no policy covers: 4.npy 4 B, 3.npy 3 B, 2.npy 2 B and 2 more",
        ),
    ],
)
def test_one_thing_that_is_not_here_makes_it_unsafe(at: Home, told: dict[str, Any], said: str) -> None:
    run = far_run(at, LINES, headline=LOSS)
    bring(run, *LINES)
    found = judged(at, run, **told)
    assert not found.safe and found.reasons == (said,)
    behind = (told.get("samples_behind") or 0) + (told.get("journal_behind") or 0)
    assert found.bytes_outstanding == behind


def test_an_ended_run_whose_newest_checkpoint_is_not_here_says_what_would_be_lost(at: Home) -> None:
    run = far_run(at, LINES)
    found = judged(at, run)
    assert not found.safe and (found.newest_step, found.verified_step, found.age_s) == (800, None, None)
    assert found.bytes_outstanding == 20
    assert found.reasons[0] == "has no verified checkpoint: its newest checkpoint (step 800, 10 B) is not verified here"
    bring(run, LINES[0])
    found = judged(at, run)
    assert found.reasons == (
        "its newest checkpoint (step 800, 10 B) is not verified here; the newest that is, is step 400 (7 min before)",
    )
    assert (found.verified_step, found.bytes_outstanding, round(found.minutes, 1)) == (400, 10, 6.7)


def test_the_best_must_be_here_too(at: Home) -> None:
    run = far_run(at, LINES, headline=LOSS)
    bring(run, LINES[1])
    assert judged(at, run).reasons == ("1 checkpoint (10 B) that retention wants is not verified here",)


def test_a_running_one_is_never_safe_and_says_how_much_is_only_there(at: Home) -> None:
    run = far_run(at, LINES, state="running")
    at_step(run, 1212)
    found = judged(at, run)
    assert found.reasons[0] == "runs and has no verified checkpoint: 1,212 steps, 27 min are only there"
    bring(run, *LINES)
    found = judged(at, run)
    assert found.reasons == ("runs: 412 steps (14 min) since step 800 are only there",)
    assert (found.newest_step, found.verified_step, found.minutes, found.safe) == (1212, 800, 14.0, False)
    at_step(run, 800)
    assert judged(at, run, now=T0 + 801).reasons == ("runs: less than a minute since step 800 are only there",)


def test_a_host_that_does_not_answer_says_since_when_nothing_is_known(at: Home) -> None:
    run = far_run(at, LINES, state="running")
    bring(run, *LINES)
    heard = NOW - 300
    clock = time.strftime("%H:%M", time.localtime(heard))
    found = judged(at, run, alive=None, heard=heard, link_up=False)
    assert found.reasons == (f"its link is down: what was written since {clock} is unknown",)
    other = far_run(at, LINES, run_id="20260921-1430-sousa-calm-otter", state="queued")
    assert not judged(at, other, link_up=False).safe and judged(at, other, link_up=True).safe


def test_the_age_is_told_by_the_hosts_clock(at: Home) -> None:
    run = far_run(at, LINES)
    bring(run, *LINES)
    for skew in (-7200.0, 7200.0):
        write_mirror(run.path, MirrorRecord("gpu1", [line.name for line in LINES], skew_s=skew))
        assert judged(at, run, now=NOW - skew).age_s == 840.0


def test_a_flipped_switch_is_said(at: Home) -> None:
    run = far_run(at, LINES)
    write_policy(run, BackupPolicy(enabled=False))
    assert "its backup is switched off" in judged(at, run).reasons


def test_a_model_without_its_optimizer_is_not_verified(at: Home) -> None:
    lines = [foreign(f"{part}.pt", step) for step in (100, 200) for part in ("model", "optim")]
    run = far_run(at, lines, recipe=None)
    bring(run, *lines[:3])
    found = judged(at, run)
    assert (found.verified_step, found.newest_step, found.safe) == (100, 200, False)
    bring(run, lines[3])
    found = judged(at, run)
    assert (found.verified_step, found.safe) == (200, True)


def test_a_foreign_file_that_nobody_fetched_is_never_taken_for_safe(at: Home) -> None:
    lines = [foreign("out/latest.pt", 100)]
    run = far_run(at, lines, gone=lines, recipe=None)
    found = judged(at, run)
    assert not found.safe and found.bytes_outstanding == 10
    bring(run, *lines)
    assert judged(at, run).safe


def test_a_list_of_the_mirror_that_lags_makes_nothing_safe(at: Home) -> None:
    run = far_run(at, LINES)
    bring(run, LINES[0])
    write_mirror(run.path, MirrorRecord("gpu1", [LINES[0].name]))
    assert not judged(at, run).safe
    append_copy(run, copy_line(LINES[1], HERE, NOTE, T0, "is gone there"))
    assert judged(at, run).safe, "it was looked for, and there is no such file any more"


def test_a_foreign_program_is_not_safe_before_its_directory_was_looked_at(at: Home) -> None:
    run = far_run(at, recipe=None)
    assert judged(at, run, uncovered=None).reasons == ("nobody has looked which of its files no policy covers",)
    assert judged(at, run).safe, "it left nothing"


def test_a_run_that_was_moved_has_nothing_to_lose_unless_it_still_runs(at: Home) -> None:
    run = far_run(at, LINES, state="running")
    claim_move(run, Moved("child", "gpu2", T0))
    found = judged(at, run)
    assert found.reasons == ("still runs although child goes on in its place: stop one of them",)
    assert judged(at, run, alive=None).reasons == ()
    assert judged(at, run, alive=None, samples_behind=5).reasons == ("samples: 5 B are not here",)


def test_on_this_machine_only_a_second_place_counts(at: Home) -> None:
    run = make_run(at)
    write_lines(run, LINES)
    for line in LINES:
        (run.checkpoints / line.name).write_bytes(b"x" * 10)
    bring(run, *LINES)  # a line that says `here` proves nothing about a machine that is destroyed
    assert judged(at, run).verified_step is None
    write_policy(run, BackupPolicy(second="/mnt/nas/wd"))
    bring(run, *LINES, place=SECOND)
    found = judged(at, run)
    assert found.verified_step == 800 and found.reasons == ("its logs and samples are on this machine alone",)


def test_a_run_that_cannot_be_read_is_not_safe(at: Home) -> None:
    run = far_run(at, LINES)
    run.manifest.write_text("{")
    found = judged(at, run)
    assert not found.safe and found.reasons[0].startswith("cannot be read here: manifest.json is damaged")


def test_a_host_is_safe_when_all_its_runs_are_and_its_json_keeps_its_keys(at: Home) -> None:
    run = far_run(at, LINES, price_per_hour=3.6)
    bring(run, *LINES)
    other = far_run(at, LINES, run_id="20260921-1430-sousa-calm-otter", state="running")
    catalog = Catalog(at, lambda *_: True, clock=lambda: NOW, far=lambda *_: (True, NOW))
    evidence = [gather(at, catalog.view(one), **KNOWN) for one in (run, other)]
    good: HostSafety = host_safety("gpu1", evidence[:1], NOW, price_per_hour=0.4, idle_gpu_minutes=12.34)
    assert good.safe and good.spent == pytest.approx(0.0949) and good.bytes_outstanding == 0
    both = host_safety("gpu1", evidence, NOW, link_up=False, notes=["the disk is full"])
    assert not both.safe and both.bytes_outstanding == 20 and both.minutes > 0
    assert both.notes == ("its link is down: what else is on it, nobody here can know.", "the disk is full")
    assert both.reasons == both.notes[:1]
    data = json.loads(json.dumps(both.to_json()))
    assert set(data) >= {"safe", "runs", "price_per_hour", "spent", "idle_gpu_minutes", "uncovered", "notes"}
    assert set(data["runs"][1]) >= {
        "id", "newest_step", "verified_step", "age_s", "bytes_outstanding", "minutes", "reasons",
    }  # fmt: skip
    assert host_safety("gpu1", [], NOW, notes=["a GPU process of no run"]).safe


def test_a_host_is_not_safe_for_what_is_unknown_of_it(at: Home) -> None:
    assert not host_safety("gpu1", [], NOW, link_up=False).safe
    assert host_safety("local", [], NOW, link_up=False).safe, "this machine needs no link"
    found = host_safety("gpu1", [], NOW, reasons=["1 run there is not copied here: x."])
    assert not found.safe and found.to_json()["reasons"] == ["1 run there is not copied here: x."] == list(found.notes)


def test_what_was_not_looked_into_makes_it_unsafe_beside_files_too(at: Home) -> None:
    run = far_run(at, LINES, recipe=None)
    bring(run, *LINES)
    assert judged(at, run).safe
    found = judged(at, run, unseen=("out -> /big\x1b (3 large files)", "venv/", "a", "b"))
    assert found.reasons == ("not looked into there: out -> /big· (3 large files), venv/, a and 1 more",)
    both = judged(at, run, uncovered=(Uncovered("a.npy", 5),), unseen=("looking took too long",))
    assert len(both.reasons) == 2 and "looking took too long" in both.reasons[1]


def test_steps_of_which_no_checkpoint_was_ever_found_are_not_safe(at: Home) -> None:
    run = far_run(at, recipe=None)
    at_step(run, 10_000)
    found = judged(at, run)
    assert found.reasons == ("10,000 steps, and no checkpoint of it was ever found: do its patterns fit?",)
    other = far_run(at, run_id="20260921-1430-sousa-calm-otter")
    at_step(other, 10_000)
    assert judged(at, other).safe, "a recipe's run that saved nothing has nothing to lose"


def test_an_end_that_is_older_than_what_the_host_has_is_no_end(at: Home) -> None:
    run = far_run(at, LINES)
    bring(run, *LINES)
    assert judged(at, run, newer_there=True).reasons == (
        "its host has more of it than was read here so far: ask again",
    )
    queued = far_run(at, run_id="20260921-1430-sousa-calm-otter", state="queued")
    assert not judged(at, queued, newer_there=True).safe


def test_a_second_place_that_is_another_by_now_makes_nothing_safe(at: Home) -> None:
    run = far_run(at, LINES)
    write_policy(run, BackupPolicy(second="/mnt/old"))
    bring(run, *LINES, place=SECOND)
    assert judged(at, run).safe
    write_policy(run, BackupPolicy(second="/mnt/new"))
    found = judged(at, run)
    assert not found.safe and (found.verified_step, found.bytes_outstanding) == (None, 20)


def test_a_clock_that_is_hours_off_changes_no_verdict(at: Home) -> None:
    """Lines, notes and mtimes carry the host's clock; only ages are counted in it."""
    for hours, run_id in ((-5, "20260921-1430-sousa-calm-otter"), (5, "20260921-1431-sousa-calm-otter")):
        skew = hours * 3600.0
        lines = [msgspec.structs.replace(line, t=line.t + skew) for line in LINES]
        run = far_run(at, lines, headline=LOSS, run_id=run_id)
        write_mirror(run.path, MirrorRecord("gpu1", [line.name for line in lines], skew_s=skew))
        bring(run, lines[0])
        found = judged(at, run)
        assert not found.safe and found.age_s == NOW - (T0 + 400) and round(found.minutes, 1) == 6.7
        bring(run, lines[1])
        found = judged(at, run)
        assert found.safe and (found.age_s, found.minutes) == (840.0, 0.0)


def test_what_nobody_told_is_unknown_and_so_not_safe(at: Home) -> None:
    run = far_run(at, LINES, recipe=None)
    bring(run, *LINES)
    catalog = Catalog(at, lambda *_: True, clock=lambda: NOW, far=lambda *_: (True, NOW))
    assert not run_safety(gather(at, catalog.view(run)), NOW).safe
