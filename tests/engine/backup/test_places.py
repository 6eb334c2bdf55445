"""Where checkpoints are, as `ckpt RUN ls` lists them, and how the backup of a run stands in its view."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wavedeck.engine.backup.copies import BAD, HERE, NOTE, REMOVED, SECOND, append_copy, copy_line
from wavedeck.engine.backup.places import places
from wavedeck.engine.backup.policy import BackupPolicy, write_policy
from wavedeck.engine.catalog import Catalog
from wavedeck.engine.hosts import MirrorRecord, write_mirror
from wavedeck.engine.manifest import ExitRecord, Headline, write_record
from wavedeck.engine.run_view import RunView
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.tests.engine.backup.made import bring, ckpt, far_run, foreign, write_lines
from wavedeck.tests.fakes.runs import T0, make_home, make_run

LOSS = Headline("val/loss")
LINES = [ckpt(1, loss=0.1), ckpt(2, loss=0.5), ckpt(3, loss=0.3)]


@pytest.fixture
def at(home: Path) -> Home:
    return make_home(home)


def view_of(at: Home, run: RunDir, catalog: Catalog | None = None) -> RunView:
    chosen = catalog or Catalog(at, lambda *_: False, clock=lambda: T0 + 500, far=lambda *_: (True, T0 + 499))
    return next(view for view in chosen.views() if view.id == run.id)


def where(view: RunView) -> dict[int, list[str]]:
    return {row["step"]: row["where"] for row in places(view)}


def test_a_copy_is_on_its_host_here_and_at_the_second_place(at: Home) -> None:
    run = far_run(at, LINES, gone=LINES[:1], headline=LOSS)
    write_policy(run, BackupPolicy(second="nas:/b"))
    bring(run, *LINES[:2])
    bring(run, LINES[0], place=SECOND)
    view = view_of(at, run)
    assert where(view) == {1: ["here", "nas:/b"], 2: ["gpu1", "here"], 3: ["gpu1"]}
    rows = {row["step"]: row for row in places(view)}
    assert set(rows[1]) >= {"name", "step", "bytes", "sha256", "where", "verified_at"}
    assert (rows[1]["verified_at"], rows[3]["verified_at"]) == (T0 + 2001, None)
    assert [(row["best"], row["latest"]) for row in rows.values()] == [(True, False), (False, False), (False, True)]
    json.dumps(places(view))


def test_a_run_of_this_machine_has_its_checkpoints_where_it_wrote_them(at: Home, tmp_path: Path) -> None:
    own, theirs = ckpt(1), foreign("out/a b.pt", 2)
    run = make_run(at, cwd=str(tmp_path), recipe=None)
    write_lines(run, [own, theirs, foreign("out/gone.pt", 3)])
    (run.checkpoints / own.name).write_bytes(b"x" * 10)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a b.pt").write_bytes(b"y" * 10)
    view = view_of(at, run)
    assert where(view) == {1: ["local"], 2: ["local"]} and [line.step for line in view.checkpoints] == [1, 2]
    assert view.backup is None, "nobody wants it elsewhere"
    (tmp_path / "out/a b.pt").write_bytes(b"another size")
    assert where(view) == {1: ["local"]}


def test_of_a_path_written_again_the_earlier_content_is_only_where_it_was_brought(at: Home) -> None:
    lines = [foreign("latest.pt", step) for step in (1, 2)]
    run = far_run(at, lines, recipe=None)
    bring(run, lines[0])
    assert where(view_of(at, run)) == {1: ["here"], 2: ["gpu1"]}


def test_a_foreign_file_counts_as_there_until_the_backup_finds_it_gone(at: Home) -> None:
    lines = [foreign(f"epoch={epoch}.ckpt", epoch) for epoch in (1, 2)]
    run = far_run(at, lines, gone=lines, recipe=None)  # the mirror lists no files of a foreign trainer
    assert where(view_of(at, run)) == {1: ["gpu1"], 2: ["gpu1"]}
    append_copy(run, copy_line(lines[0], HERE, NOTE, T0, "is gone there"))
    assert where(view_of(at, run)) == {2: ["gpu1"]}
    bring(run, *lines)
    assert where(view_of(at, run)) == {1: ["gpu1", "here"], 2: ["gpu1", "here"]}


def test_a_record_whose_file_is_gone_or_has_another_size_is_no_copy(at: Home) -> None:
    run = far_run(at, LINES)
    bring(run, *LINES)
    (run.checkpoints / LINES[0].name).unlink()
    (run.checkpoints / LINES[1].name).write_bytes(b"short")
    (run.checkpoints / LINES[2].name).unlink()
    (run.checkpoints / LINES[2].name).symlink_to(run.manifest)
    view = view_of(at, run)
    assert where(view) == {1: ["gpu1"], 2: ["gpu1"], 3: ["gpu1"]}
    assert view.backup is not None and (view.backup.verified_step, view.backup.outstanding) == (None, 3)


def test_the_view_says_how_the_backup_stands_by_the_clock_here(at: Home) -> None:
    run = far_run(at, LINES, headline=LOSS)
    write_mirror(run.path, MirrorRecord("gpu1", [line.name for line in LINES], skew_s=3600.0))
    bring(run, LINES[1])
    append_copy(run, copy_line(LINES[2], HERE, BAD, T0, "came with other bytes"))
    backup = view_of(at, run).backup
    assert backup is not None
    assert (backup.verified_step, backup.verified_at, backup.verified_t) == (2, T0 + 2002, T0 + 2 - 3600)
    assert (backup.outstanding, backup.bytes_outstanding, backup.bad, backup.second) == (2, 20, 1, None)
    data = view_of(at, run).to_json()["backup"]
    assert (data["verified_step"], data["outstanding"], data["enabled"]) == (2, 2, True)


def test_a_second_place_on_the_runs_own_host_saves_nothing(at: Home) -> None:
    run = far_run(at, LINES)
    write_policy(run, BackupPolicy(second="gpu1:/other/disk"))
    bring(run, *LINES, place=SECOND)
    backup = view_of(at, run).backup
    assert backup is not None and (backup.verified_step, backup.outstanding) == (None, 3)
    write_policy(run, BackupPolicy(second="nas"))
    bring(run, *LINES, place=SECOND)
    backup = view_of(at, run).backup
    assert backup is not None and (backup.verified_step, backup.outstanding) == (3, 0)


def test_a_copy_at_a_place_that_the_policy_names_no_more_counts_nowhere(at: Home) -> None:
    run = far_run(at, LINES)
    write_policy(run, BackupPolicy(second="/mnt/old"))
    bring(run, *LINES, place=SECOND)
    assert where(view_of(at, run))[3] == ["gpu1", "/mnt/old"]
    for second in ("/mnt/new", None):
        write_policy(run, BackupPolicy(second=second))
        view = view_of(at, run)
        assert where(view)[3] == ["gpu1"] and view.backup is not None
        assert (view.backup.verified_step, view.backup.verified_at, view.backup.outstanding) == (None, None, 3)


def test_an_ended_run_is_looked_at_again_when_its_backup_changes(at: Home) -> None:
    run = far_run(at, LINES)
    catalog = Catalog(at, lambda *_: False, clock=lambda: T0 + 500)
    assert where(view_of(at, run, catalog))[3] == ["gpu1"]
    seen = []
    for change in (
        lambda: bring(run, LINES[2]),
        lambda: append_copy(run, copy_line(LINES[2], HERE, REMOVED, T0)),
        lambda: write_policy(run, BackupPolicy(second="nas")),
        lambda: at.backup_settings.write_text("[default]\n"),
    ):
        before = view_of(at, run, catalog)
        assert view_of(at, run, catalog) is before
        change()
        after = view_of(at, run, catalog)
        assert after is not before
        assert after.backup is not None
        seen.append((after.backup.verified_step, after.backup.second))
    assert seen == [(3, None), (None, None), (None, "nas"), (None, "nas")]


def test_damage_beside_a_run_is_a_sentence_and_no_hidden_run(at: Home) -> None:
    run = far_run(at, LINES)
    run.lease.write_text("{")
    at.backup_settings.write_text("[defaults]\n")
    view = view_of(at, run)
    assert view.state == "finished" and view.problem is not None
    assert "lease.json is damaged" in view.problem and "[defaults]" in view.problem
    assert len(view.checkpoints) == 3


def test_a_run_that_was_fenced_names_who_may_write_and_two_copies_are_told(at: Home) -> None:
    from wavedeck.engine.lineage import Moved, claim_move, fenced, write_lease

    run = far_run(at, LINES, state="running")
    assert view_of(at, run).fenced is None
    claim_move(run, Moved("child", "gpu2", T0))
    write_lease(run, fenced(None, run.id, "child"))
    view = view_of(at, run)
    assert (view.moved_to, view.fenced, view.doubled) == ("child", "child", True)
    assert {"parent": None, "moved_to": "child", "fenced": "child", "lineage": run.id}.items() <= view.to_json().items()
    write_record(run.exit, ExitRecord(1, T0 + 60, exit_code=0, fenced="ch\x1b[2Jild"))
    view = view_of(at, run)
    assert not view.doubled and view.fenced == "ch·[2Jild"
