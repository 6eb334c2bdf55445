"""Runs that moved: who may write, who won the race to move one, and charts joined across the seam."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from wavedeck.engine.catalog import Catalog
from wavedeck.engine.feed import RunFeed, read_metrics
from wavedeck.engine.journal import Budget
from wavedeck.engine.lineage import (
    Lease,
    Moved,
    ancestors,
    claim_move,
    fenced,
    first_lease,
    first_start_step,
    next_lease,
    read_lease,
    read_moved,
    write_lease,
)
from wavedeck.engine.manifest import Headline
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.tests.fakes.runs import T0, make_home, make_run

ROOT, CHILD, GRANDCHILD = (
    f"20260921-142{n}-voice-{tail}" for n, tail in enumerate(("calm-auk", "bold-bat", "wise-cod"))
)
LOSS = Headline("val/loss")


@pytest.fixture
def at(home: Path) -> Home:
    return make_home(home)


def log(run: RunDir, *events: dict[str, object], file: str = "events.jsonl") -> None:
    with open(run.path / file, "ab") as journal:
        for number, event in enumerate(events):
            journal.write(msgspec.json.encode({"t": T0 + number, **event}) + b"\n")


def rows(first: int, last: int, sign: float = 1.0) -> list[dict[str, object]]:
    return [{"k": "metrics", "step": step, "v": {"loss": sign * step}} for step in range(first, last + 1)]


def start(step: int | None, attempt: int = 1) -> dict[str, object]:
    return {"k": "start", "attempt": attempt} if step is None else {"k": "start", "attempt": attempt, "step": step}


def family(at: Home, *seams: int | None) -> list[RunDir]:
    """A root and what it moved to, each run's `parent_step` in turn."""
    ids = [ROOT, CHILD, GRANDCHILD]
    runs = [make_run(at, ROOT, headline=LOSS)]
    for number, step in enumerate(seams, 1):
        runs.append(
            make_run(at, ids[number], created=T0 + number, headline=LOSS, parent=ids[number - 1], parent_step=step)
        )
    return runs


def loss(run: RunDir) -> dict[int, float]:
    view = read_metrics(run).get("loss")
    if view is None:
        return {}
    steps = view.x_of("step", np.arange(len(view))).astype(int).tolist()
    assert steps == sorted(set(steps)), "one curve"
    return dict(zip(steps, np.asarray(view.values).tolist(), strict=True))


def test_a_lease_names_one_holder_and_each_move_is_a_generation(at: Home) -> None:
    run = make_run(at, ROOT)
    assert read_lease(run) is None
    first = first_lease(ROOT)
    assert first.allows(ROOT) and not first.allows(CHILD)
    after = next_lease(None, ROOT, CHILD)
    assert after == Lease(ROOT, 2, CHILD) and after.allows(CHILD) and not after.allows(ROOT)
    assert next_lease(after, CHILD, GRANDCHILD) == Lease(ROOT, 3, GRANDCHILD)
    off = fenced(first, ROOT, CHILD)
    assert off == Lease(ROOT, 2, CHILD, fenced_by=CHILD)
    assert not off.allows(ROOT) and not Lease(ROOT, 2, ROOT, fenced_by=CHILD).allows(ROOT)
    write_lease(run, off)
    assert read_lease(run) == off
    assert json.loads(run.lease.read_text()) == {"lineage": ROOT, "generation": 2, "holder": CHILD, "fenced_by": CHILD}


def test_a_run_moves_once_in_its_life(at: Home) -> None:
    run = make_run(at, ROOT)
    first = Moved(CHILD, "gpu2", T0, step=800, lost_steps=412, lost_s=840.0, reason="silent", automatic=True)
    assert read_moved(run) is None and claim_move(run, first)
    assert not claim_move(run, Moved(GRANDCHILD, "gpu3", T0))
    assert read_moved(run) == first
    assert [path.name for path in run.path.iterdir() if path.name.endswith(".tmp")] == []


CLAIM = """
import sys, time
from pathlib import Path
from wavedeck.engine.lineage import Moved, claim_move
from wavedeck.engine.rundir import RunDir
go = Path(sys.argv[2])
print("ready", flush=True)
while not go.exists():
    time.sleep(0.0005)
print(claim_move(RunDir(Path(sys.argv[1])), Moved(sys.argv[3], "gpu2", 1.0)))
"""


def test_of_processes_that_claim_a_move_at_once_one_wins_and_its_record_is_whole(at: Home, tmp_path: Path) -> None:
    run, go = make_run(at, ROOT), tmp_path / "go"
    claims = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(run.path), str(go), f"child-{number}"], stdout=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    for claim in claims:
        assert claim.stdout is not None and claim.stdout.readline() == "ready\n"
    go.touch()
    told = [claim.communicate(timeout=30)[0].strip() for claim in claims]
    assert sorted(told) == ["False", "False", "False", "True"]
    moved = read_moved(run)
    assert moved is not None and moved.child == f"child-{told.index('True')}"


def test_a_child_shows_its_parent_up_to_the_seam_and_then_its_own(at: Home) -> None:
    parent, child = family(at, 5)
    log(parent, start(0), *rows(1, 9))
    log(child, start(None), start(5), *rows(6, 12, -1))
    assert loss(child) == {**{n: n for n in range(1, 6)}, **{n: -n for n in range(6, 13)}}
    assert loss(parent) == {n: n for n in range(1, 10)}
    assert ancestors(at, child) == [(parent, 5)] and ancestors(at, parent) == []


def test_a_console_is_joined_as_well(at: Home) -> None:
    parent, child = family(at, 5)
    log(parent, *rows(1, 9), file="console.jsonl")
    log(child, *rows(6, 7, -1), file="console.jsonl")
    assert loss(child) == {**{n: n for n in range(1, 6)}, 6: -6, 7: -7}


def test_without_a_parent_step_the_journal_or_the_record_of_the_move_tells_the_seam(at: Home) -> None:
    parent, child = family(at, None)
    log(parent, *rows(1, 9))
    log(child, *rows(4, 5, -1))
    assert ancestors(at, child) == []
    claim_move(parent, Moved("somebody-else", "gpu2", T0, step=3))
    assert ancestors(at, child) == []
    parent.moved.unlink()
    claim_move(parent, Moved(CHILD, "gpu2", T0, step=3))
    assert ancestors(at, child) == [(parent, 3)]
    assert loss(child) == {1: 1, 2: 2, 3: 3, 4: -4, 5: -5}
    child.events.unlink()
    log(child, *rows(1, 2, -1))
    assert loss(child) == {1: -1, 2: -2}, "a program that tells no start and began anew"
    child.events.unlink()
    log(child, start(2), *rows(3, 4, -1))
    assert loss(child) == {1: 1, 2: 2, 3: -3, 4: -4}, "the trainer itself knows best"


def test_a_child_that_began_anew_and_a_sweep_show_only_their_own(at: Home) -> None:
    parent, child, grandchild = family(at, 5, None)
    log(parent, *rows(1, 9))
    log(child, start(0), *rows(1, 3, -1), start(2, attempt=2), *rows(3, 4, -1))
    log(grandchild, start(0), *rows(1, 2))
    assert loss(child) == {1: -1, 2: -2, 3: -3, 4: -4} and ancestors(at, child) == []
    assert loss(grandchild) == {1: 1, 2: 2}


def test_three_generations_are_one_curve_even_when_the_last_goes_back_before_the_second(at: Home) -> None:
    root, child, grandchild = family(at, 6, 4)
    log(root, *rows(1, 9))
    log(child, start(6), *rows(7, 9, 10))
    log(grandchild, start(4), *rows(5, 6, -1))
    assert ancestors(at, grandchild) == [(root, 4), (child, 4)]
    assert loss(grandchild) == {1: 1, 2: 2, 3: 3, 4: 4, 5: -5, 6: -6}


def test_a_parent_that_is_not_here_a_circle_and_a_bad_name_end_the_list(at: Home) -> None:
    _, child = family(at, 5)
    log(child, *rows(6, 7))
    log(make_run(at, GRANDCHILD, parent="../../etc", parent_step=5), *rows(6, 7))
    assert ancestors(at, RunDir(at.runs / GRANDCHILD)) == [] and loss(RunDir(at.runs / GRANDCHILD)) == {6: 6, 7: 7}
    a = make_run(at, "20260921-1500-voice-sly-fox", parent="20260921-1501-voice-shy-owl", parent_step=5)
    b = make_run(at, "20260921-1501-voice-shy-owl", parent="20260921-1500-voice-sly-fox", parent_step=7)
    log(a, *rows(1, 9))
    log(b, *rows(1, 9, -1))
    assert [run.id for run, _ in ancestors(at, a)] == [b.id]
    assert loss(a) == {n: n for n in range(1, 10)}
    for file in sorted((at.runs / ROOT).rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    assert loss(child) == {6: 6, 7: 7}


@pytest.mark.parametrize("records", [1, 3, 1000])
def test_reading_in_small_pieces_ends_at_the_same_curve(at: Home, records: int) -> None:
    parent, child = family(at, 500)
    log(parent, *rows(1, 900))
    log(child, start(500), *rows(501, 800, -1))
    feed = RunFeed(child)
    for _ in range(10_000):
        feed.poll(Budget(records, 0.0))
        if not feed.more:
            break
    view = feed.views()["loss"]
    assert len(view) == 800 and feed.loading.done
    assert np.asarray(view.values)[[0, 499, 500, 799]].tolist() == [1, 500, -501, -800]


def test_a_live_child_is_joined_once_it_says_where_it_goes_on(at: Home) -> None:
    parent, child = family(at, None)
    log(parent, *rows(1, 9))
    feed = RunFeed(child)
    assert not feed.poll() and feed.views() == {}
    log(child, start(None), start(5))
    assert feed.poll() and len(feed.views()["loss"]) == 5
    before = feed.views()["loss"]
    assert not feed.poll() and feed.views()["loss"] is before, "nothing new is nothing new"
    log(child, *rows(6, 6, -1))
    assert feed.poll() and np.asarray(feed.views()["loss"].values).tolist() == [1, 2, 3, 4, 5, -6]


def test_rows_of_the_parent_that_arrive_after_the_move_are_put_in_their_place(at: Home) -> None:
    parent, child = family(at, 5)
    log(parent, *rows(1, 3))
    log(child, start(5), *rows(6, 7, -1))
    feed = RunFeed(child)
    while feed.poll() or feed.more:
        pass
    assert np.asarray(feed.views()["loss"].values).tolist() == [1, 2, 3, -6, -7]
    log(parent, *rows(4, 9))  # its mirror caught up; what lies beyond the seam is nobody's
    while feed.poll() or feed.more:
        pass
    assert np.asarray(feed.views()["loss"].values).tolist() == [1, 2, 3, 4, 5, -6, -7]
    before = feed.views()["loss"]
    log(parent, *rows(10, 12))
    assert not feed.poll() and not feed.more and feed.views()["loss"] is before


def test_a_childs_journal_that_is_begun_anew_keeps_its_parent(at: Home) -> None:
    parent, child = family(at, 2)
    log(parent, *rows(1, 3))
    log(child, start(2), *rows(3, 8, -1))
    feed = RunFeed(child)
    while feed.poll() or feed.more:
        pass
    other = child.path / "other"
    other.write_bytes(child.events.read_bytes()[: len(child.events.read_bytes()) // 2])
    os.replace(other, child.events)
    while feed.poll() or feed.more:
        pass
    assert np.asarray(feed.views()["loss"].values).tolist()[:3] == [1, 2, -3]


def test_the_start_is_found_behind_damage_and_not_looked_for_beyond_the_first_row(at: Home) -> None:
    run = make_run(at, ROOT)
    assert first_start_step(run) is None
    run.events.write_bytes(b'garbage\n{"k": 3}\n')
    log(run, start(None), start(7), start(9, attempt=2))
    assert first_start_step(run) == 7
    run.events.write_bytes(b"")
    log(run, *rows(1, 2), start(7))
    assert first_start_step(run) is None
    run.events.write_bytes(b'{"t":1,"k":"start","step":7}')
    assert first_start_step(run) is None, "a line without its newline is not yet"


def test_the_best_of_a_child_is_that_of_its_lineage(at: Home) -> None:
    parent, child = family(at, 5)
    log(parent, *({"k": "metrics", "step": n, "v": {"val/loss": v}} for n, v in ((2, 0.5), (4, 0.3), (6, 0.1))))
    log(child, start(5), {"k": "metrics", "step": 6, "v": {"val/loss": 0.4}})
    catalog = Catalog(at, lambda *_: False, clock=lambda: T0 + 500)
    best = {view.id: view.best for view in catalog.views()}
    assert best == {ROOT: ("val/loss", 0.1, 6), CHILD: ("val/loss", 0.3, 4)}
    log(child, {"k": "metrics", "step": 8, "v": {"val/loss": 0.2}})
    fresh = Catalog(at, lambda *_: False, clock=lambda: T0 + 500)
    assert fresh.view(child).best == ("val/loss", 0.2, 8)
    assert fresh.view(child).parent == ROOT
