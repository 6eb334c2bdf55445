"""What a moved run goes on from: only bytes that are right now."""

from __future__ import annotations

import time
from pathlib import Path

from wavedeck.engine.backup.copies import HERE, REMOVED, append_copy, copy_line
from wavedeck.engine.checkpoints import read_checkpoints
from wavedeck.engine.manifest import Manifest, write_record
from wavedeck.engine.rundir import Home
from wavedeck.remote.failover.choose import choose

from .conftest import add_foreign, lost_run


def test_the_newest_verified_one(home: Path) -> None:
    run = lost_run(Home(home))
    notices: list[str] = []
    chosen = choose(Home(home), run, notices)
    assert chosen is not None and chosen.step == 30 and chosen.files[0].is_file() and not notices
    older = choose(Home(home), run, notices, at_most=29)
    assert older is not None and older.step == 20


def test_a_damaged_one_is_passed_over_and_said(home: Path) -> None:
    run = lost_run(Home(home))
    (run.checkpoints / "step-00000030.ckpt").write_bytes(b'{"step": 99}')  # as long as before: only the hash tells
    notices: list[str] = []
    chosen = choose(Home(home), run, notices)
    assert chosen is not None and chosen.step == 20
    assert notices == ["checkpoint step-00000030.ckpt does not match its sha256: passed over for the one before it."]
    (run.checkpoints / "step-00000020.ckpt").write_bytes(b"")
    assert choose(Home(home), run, notices) is None


def test_a_file_that_nobody_vouches_for_is_none(home: Path) -> None:
    """In a copy only the backup's word counts, whatever lies there; a file that is a link never."""
    run = lost_run(Home(home))
    lines = {line.step: line for line in read_checkpoints(run.checkpoint_manifest)}
    append_copy(run, copy_line(lines[30], HERE, REMOVED, time.time()))
    chosen = choose(Home(home), run, [])
    assert chosen is not None and chosen.step == 20
    kept = run.checkpoints / "step-00000020.ckpt"
    kept.rename(home / "elsewhere")
    kept.symlink_to(home / "elsewhere")
    assert choose(Home(home), run, []) is None


def test_foreign_files_of_one_step_belong_together(home: Path) -> None:
    run = lost_run(Home(home), checkpoints=())
    add_foreign(run, "out/model.bin", "model 10", 10)
    add_foreign(run, "out/optim.bin", "optim 10", 10)
    add_foreign(run, "out/model.bin", "model 20", 20)
    half = add_foreign(run, "out/optim.bin", "optim 20", 20)
    chosen = choose(Home(home), run, [])
    assert chosen is not None and chosen.step == 20
    assert sorted(line.path or "" for line in chosen.lines) == ["out/model.bin", "out/optim.bin"]
    append_copy(run, copy_line(half, HERE, REMOVED, time.time()))
    whole = choose(Home(home), run, [])
    assert whole is not None and whole.step == 10 and len(whole.lines) == 2


def test_without_a_whole_step_what_there_is_and_said(home: Path) -> None:
    run = lost_run(Home(home), checkpoints=())
    add_foreign(run, "out/model.bin", "model 10", 10)
    missing = add_foreign(run, "out/optim.bin", "optim 10", 10)
    append_copy(run, copy_line(missing, HERE, REMOVED, time.time()))
    notices: list[str] = []
    chosen = choose(Home(home), run, notices)
    assert chosen is not None and [line.path for line in chosen.lines] == ["out/model.bin"]
    assert notices == ["not all files of step 10 are here: it goes on from out/model.bin alone."]


def test_a_child_without_a_checkpoint_has_its_parents(home: Path) -> None:
    """Moved, and its new host died as well before a first checkpoint; not the one after the seam."""
    place = Home(home)
    run = lost_run(place)
    child = lost_run(place, run_id="20261120-1800-voice-calm-otter", host="gpu2", checkpoints=())
    manifest = Manifest(child.id, "voice", time.time(), host="gpu2", parent=run.id, parent_step=20)
    write_record(child.manifest, manifest)
    chosen = choose(place, child, [])
    assert chosen is not None and chosen.step == 20 and chosen.run == run
    write_record(child.manifest, Manifest(child.id, "voice", time.time(), host="gpu2", parent=run.id))  # of a sweep
    assert choose(place, child, []) is None


def test_the_files_of_a_run_of_this_machine_are_where_they_are(home: Path) -> None:
    place = Home(home)
    run = lost_run(place, host=None, checkpoints=())
    line = add_foreign(run, "out/model.bin", "model 10", 10)
    run.backup.unlink()
    (run.checkpoints / line.name).unlink()
    own = home.parent / "project" / "out" / "model.bin"
    own.parent.mkdir()
    own.write_text("model 10")
    chosen = choose(place, run, [])
    assert chosen is not None and chosen.files == (own,)
    own.write_text("model 11")  # overwritten in place since: that is no damage, and no checkpoint that is known
    notices: list[str] = []
    assert choose(place, run, notices) is None and not notices
