"""Cost over attempts and over a lineage, and budgets."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from wavedeck.engine.backup.money import BudgetState, budget_state, cost, lineage_cost, ran_s
from wavedeck.engine.catalog import Catalog
from wavedeck.engine.errors import suggestion
from wavedeck.engine.format import money
from wavedeck.engine.hosts import MirrorRecord, write_mirror
from wavedeck.engine.lineage import Lease, Moved, claim_move, write_lease
from wavedeck.engine.logger import EventWriter
from wavedeck.engine.manifest import Attempt, ExitRecord, write_record
from wavedeck.engine.run_view import RunView
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.tests.fakes.runs import T0, make_home, make_run

CHILD = "20260921-1826-sousa-calm-otter"


@pytest.fixture
def at(home: Path) -> Home:
    return make_home(home)


def views(at: Home, now: float = T0 + 3600, alive: bool | None = False) -> dict[str, RunView]:
    catalog = Catalog(at, lambda *_: alive, clock=lambda: now, far=lambda *_: (alive, now))
    return {view.id: view for view in catalog.views()}


def journal(run: RunDir, *rows: tuple[str, float, int]) -> None:
    """(kind, seconds after T0, attempt or step) as lines."""
    with open(run.events, "ab") as file:
        for kind, t, number in rows:
            field = {"attempt": number} if kind == "start" else {"step": number, "v": {"loss": 1.0}}
            file.write(msgspec.json.encode({"t": T0 + t, "k": kind, **field}) + b"\n")


def test_a_price_and_a_time_make_a_cost_and_a_missing_one_makes_none() -> None:
    assert cost(0.5, 7200) == 1.0 and cost(None, 10) is None and cost(0.5, None) is None and cost(0.0, 10) == 0.0
    assert ran_s(100.0, None, 160.0) == 60.0 and ran_s(100.0, 130.0, 160.0, 5.0) == 35.0
    assert ran_s(None, None, 160.0) is None and ran_s(None, None, 1.0, 7.0) == 7.0
    assert ran_s(100.0, None, 40.0) == 0.0, "a clock that went back costs nothing"


def test_all_attempts_cost_and_the_night_between_them_does_not(at: Home) -> None:
    run = make_run(at, state="failed", price_per_hour=3.6)
    journal(run, ("start", 1, 1), ("metrics", 50, 5), ("metrics", 61, 6))
    (view,) = views(at).values()
    assert view.ran_s == pytest.approx(94.9)  # of one attempt: started to ended, as the supervisor tells it
    write_record(run.attempt(2), Attempt(attempt=2, requested=T0 + 40_000, argv=["true"], cwd="/"))
    journal(run, ("start", 40_001, 2), ("metrics", 40_010, 7))
    write_record(run.exit, ExitRecord(2, T0 + 40_100, started=T0 + 40_000, exit_code=0))
    (view,) = views(at, T0 + 90_000).values()
    assert view.ran_s == pytest.approx(60 + 100) and view.cost == pytest.approx(0.16)
    assert view.to_json()["cost"] == pytest.approx(0.16)


def test_the_trainers_own_start_of_an_attempt_is_no_new_attempt(at: Home) -> None:
    run = make_run(at)
    writer = EventWriter(run.events)
    for attempt in (1, 1):
        writer.write("start", attempt=attempt, step=0)
    writer.close()
    (view,) = views(at).values()
    assert view.ran_s == pytest.approx(94.9)


def test_a_running_one_is_counted_by_its_hosts_clock(at: Home) -> None:
    run = make_run(at, state="running", price_per_hour=1.0)
    write_mirror(run.path, MirrorRecord("gpu1", skew_s=-7200.0))  # that clock is two hours behind
    (view,) = views(at, T0 + 0.1 + 7200 + 600, alive=True).values()
    assert view.ran_s == pytest.approx(600)


def test_one_that_vanished_costs_until_its_last_sign(at: Home) -> None:
    run = make_run(at, state="vanished", price_per_hour=1.0)
    journal(run, ("metrics", 300.1, 5))
    run.console.unlink(missing_ok=True)
    (view,) = views(at, T0 + 90_000).values()
    assert view.ran_s == pytest.approx(300)


def test_a_lineage_costs_what_all_its_runs_cost(at: Home) -> None:
    parent = make_run(at, state="killed", price_per_hour=3.6)
    child = make_run(at, CHILD, created=T0 + 10_000, price_per_hour=7.2, parent=parent.id)
    make_run(at, "20260921-1827-sousa-brave-lynx", price_per_hour=100.0)
    assert claim_move(parent, Moved(CHILD, "gpu2", T0))
    write_lease(child, Lease(parent.id, 2, CHILD))
    found = views(at)
    assert found[CHILD].lineage == found[parent.id].lineage == parent.id
    assert lineage_cost(found.values(), found[CHILD]) == pytest.approx(94.9 * (3.6 + 7.2) / 3600)
    assert lineage_cost([], found[CHILD]) == pytest.approx(94.9 * 7.2 / 3600)
    assert lineage_cost(found.values(), RunView("x", at.root, found[CHILD].state)) is None


def test_a_sweep_is_no_lineage(at: Home) -> None:
    parent = make_run(at, price_per_hour=3.6)
    make_run(at, CHILD, price_per_hour=3.6, parent=parent.id)
    found = views(at)
    assert lineage_cost(found.values(), found[CHILD]) == pytest.approx(94.9 * 3.6 / 3600)


@pytest.mark.parametrize(
    ("spent", "near", "over"), [(0.0, False, False), (7.99, False, False), (8.0, True, False), (10.0, False, True)]
)
def test_a_budget_is_near_from_four_fifths_on_and_over_when_it_is_spent(spent: float, near: bool, over: bool) -> None:
    state = BudgetState(spent, 10.0)
    assert (state.near, state.over, state.share, state.left) == (near, over, spent / 10, 10 - spent)


def test_a_budget_has_words() -> None:
    assert BudgetState(4.1, 5.0).words == "$4.10 of $5.00 (82%)"
    assert BudgetState(6.0, 5.0).words == "$6.00 of $5.00 (120%), over its budget"
    assert BudgetState(4.0, 5.0).hours_left(0.5) == 2.0 and BudgetState(4.0, 5.0).hours_left(None) is None
    assert BudgetState(6.0, 5.0).left == 0.0
    assert budget_state(None, 5.0) is None and budget_state(1.0, None) is None
    assert budget_state(1.0, 5.0) == BudgetState(1.0, 5.0)


def test_less_than_a_cent_is_told() -> None:
    assert [money(amount) for amount in (None, 0.0, 0.0073, 0.07, 2.5)] == ["–", "$0.00", "$0.0073", "$0.07", "$2.50"]


def test_a_word_is_suggested_once() -> None:
    assert suggestion("gpu3", ["gpu2", "gpu2", "gpu1"]).count("gpu2") == 1
