"""The lease beside a real supervisor: a run that went on elsewhere ends here, and never starts again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.lineage import Lease, fenced, first_lease, next_lease, write_lease
from wavedeck.engine.rundir import RunDir
from wavedeck.remote.payload.orders import Orders

Supervise = Callable[..., Any]
PYTHON = [sys.executable, "-IS", "-c"]
CHILD = "20261121-0100-drums-calm-otter"
SAVING = """
import time
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("saved", flush=True)
"""


@pytest.mark.parametrize("how", ["fenced", "held by another"])
def test_a_run_that_went_on_elsewhere_is_stopped_and_says_so(supervise: Supervise, run_dir: RunDir, how: str) -> None:
    write_lease(run_dir, first_lease(run_dir.id))
    run = supervise([*PYTHON, SAVING])
    run.printed(b"ready")
    lease = fenced(None, run_dir.id, CHILD) if how == "fenced" else next_lease(None, run_dir.id, CHILD)
    write_lease(run_dir, lease)
    ended = run.ended()
    assert ended.fenced == CHILD and ended.stop_requested and ended.exit_code == 0 and ended.tail == ["ready", "saved"]


def test_a_stubborn_one_is_killed(supervise: Supervise, run_dir: RunDir) -> None:
    run = supervise(["sh", "-c", "trap '' INT TERM; echo ready; while :; do sleep 0.05; done"], grace_s=[0.2, 0.2])
    run.printed(b"ready")
    write_lease(run_dir, fenced(None, run_dir.id, CHILD))
    ended = run.ended()
    assert (ended.signal, ended.fenced) == (9, CHILD)


def test_it_never_starts_again(supervise: Supervise, run_dir: RunDir, tmp_path: Path) -> None:
    write_lease(run_dir, fenced(first_lease(run_dir.id), run_dir.id, CHILD))
    ended = supervise(["touch", str(tmp_path / "started")]).ended()
    assert ended.error == f"the run went on as {CHILD}: this copy may not write any more."
    assert ended.fenced == CHILD and ended.exit_code == 126 and ended.pid is None
    assert not (tmp_path / "started").exists() and not run_dir.supervisor.exists()
    assert not list(run_dir.attempts.glob(".env-*")), "its secrets are gone as well"


def test_its_own_lease_lets_a_run_go_on(supervise: Supervise, run_dir: RunDir) -> None:
    write_lease(run_dir, Lease(lineage=CHILD, generation=2, holder=run_dir.id))
    ended = supervise(["sh", "-c", "exit 3"]).ended()
    assert ended.exit_code == 3 and ended.fenced is None and not ended.stop_requested


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"holder": 3}', b'{"holder": ""}', b'{"holder": "%s", "fenced_by": 1}', b"\xff"]
)
def test_a_lease_that_makes_no_sense_counts_as_none_and_is_told(
    supervise: Supervise, run_dir: RunDir, data: bytes, wait_for: Callable[..., Any]
) -> None:
    lease, log = run_dir.path / "lease.json", run_dir.path / "supervisor.log"
    run = supervise(["sh", "-c", "echo ready; read x; exit 5"])
    run.printed(b"ready")
    lease.write_bytes(data.replace(b"%s", run_dir.id.encode()))
    wait_for(lambda: log.exists() and "lease.json cannot be understood" in log.read_text(), what="a word about it")
    run.process.terminate()
    assert run.ended().fenced is None
    assert log.read_text().count("\n") == 1, "once, not at every look"


def test_a_lease_that_goes_away_or_comes_back_is_seen(run_dir: RunDir) -> None:
    orders = Orders(str(run_dir.path), 1)
    assert orders.fenced_by() is None
    write_lease(run_dir, fenced(None, run_dir.id, CHILD))
    assert orders.fenced_by() == CHILD == orders.fenced_by()
    (run_dir.path / "lease.json").unlink()
    assert orders.fenced_by() is None
    (run_dir.path / "lease.json").write_text('{"holder": "x\\u001b[31m/../y", "fenced_by": null}')
    assert orders.fenced_by() == "x??31m?..?y"
