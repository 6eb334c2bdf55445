"""What is fetched and what is let go: retention over our own checkpoints and over a foreign trainer's files."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedeck.engine.backup.copies import BAD, HERE, SECOND, VERIFIED, Copies, Folding, copy_line
from wavedeck.engine.backup.plan import current, kept, newest_held, plan_pulls, plan_removals, series_of
from wavedeck.engine.backup.policy import BackupPolicy
from wavedeck.engine.checkpoints import CheckpointLine, ranked
from wavedeck.engine.manifest import Headline
from wavedeck.tests.engine.backup.made import ckpt, copies_of, foreign

LOSS = Headline("val/loss")
TIGHT = BackupPolicy(keep_last=2, keep_best=1)


def steps(lines: list[CheckpointLine]) -> list[int]:
    return [line.step for line in lines]


def names(lines: list[CheckpointLine]) -> set[str]:
    return {line.name for line in lines}


def test_the_newest_comes_first_then_the_best_then_the_rest_that_is_wanted() -> None:
    lines = [ckpt(step, loss=loss) for step, loss in ((1, 0.1), (2, 0.5), (3, 0.2), (4, 0.9), (5, 0.8), (6, 0.7))]
    pulls = plan_pulls(lines, names(lines), Copies(), BackupPolicy(keep_last=3, keep_best=2), LOSS)
    assert steps(pulls) == [6, 1, 3, 5, 4]
    held = copies_of([lines[5], lines[0]])
    assert steps(plan_pulls(lines, names(lines), held, BackupPolicy(keep_last=3, keep_best=2), LOSS)) == [3, 5, 4]


def test_every_steps_keeps_the_first_at_or_after_each_multiple() -> None:
    lines = [ckpt(step) for step in (900, 1900, 2100, 2900, 3050, 5000, 5100)]
    pulls = plan_pulls(lines, names(lines), Copies(), BackupPolicy(keep_last=1, every_steps=1000), None)
    assert steps(pulls) == [5100, 5000, 3050, 2100, 1900]


def test_what_is_gone_at_the_source_is_not_asked_for_and_costs_no_other_its_place() -> None:
    lines = [ckpt(step) for step in (1, 2, 3, 4)]
    assert steps(plan_pulls(lines, names(lines[:3]), Copies(), TIGHT, None)) == [3, 2]


def test_nothing_is_fetched_while_the_policy_is_off_or_everything_is_here() -> None:
    lines = [ckpt(1), ckpt(2)]
    assert plan_pulls(lines, names(lines), Copies(), BackupPolicy(enabled=False), None) == []
    assert plan_pulls(lines, names(lines), copies_of(lines), BackupPolicy(), None) == []


def test_what_arrived_damaged_three_times_waits_for_the_others() -> None:
    lines = [ckpt(1), ckpt(2), ckpt(3)]
    for tries, order in ((2, [3, 2, 1]), (3, [2, 1, 3])):
        copies = copies_of([lines[2]] * tries, event=BAD)
        assert steps(plan_pulls(lines, names(lines), copies, BackupPolicy(), None)) == order


def test_a_resaved_name_is_fetched_again() -> None:
    old, new = ckpt(1), CheckpointLine("step-00000001.ckpt", 1, 12, "f" * 64, 0.0)
    assert plan_pulls([new], {new.name}, copies_of([old]), BackupPolicy(), None) == [new]
    assert plan_removals([new], copies_of([old]), TIGHT, None, mirrored=True) == []


def test_only_copies_are_thinned_and_never_before_what_replaces_them_is_here() -> None:
    lines = [ckpt(step) for step in (1, 2, 3, 4, 5)]
    held = copies_of(lines[:3])
    assert steps(plan_removals(lines, held, TIGHT, None, mirrored=True)) == [1]
    assert plan_removals(lines, held, TIGHT, None, mirrored=False) == []
    assert plan_removals(lines, held, BackupPolicy(enabled=False, keep_last=1), None, mirrored=True) == []
    assert plan_removals(lines, copies_of(lines[:2]), TIGHT, None, mirrored=True) == []
    assert steps(plan_removals(lines, copies_of(lines), TIGHT, None, mirrored=True)) == [1, 2, 3]


def test_the_best_is_never_let_go_even_where_none_is_to_be_kept() -> None:
    lines = [ckpt(step, loss=loss) for step, loss in ((1, 0.1), (2, 0.5), (3, 0.4))]
    none = BackupPolicy(keep_last=1, keep_best=0)
    assert steps(plan_removals(lines, copies_of(lines), none, LOSS, mirrored=True)) == [2]
    assert steps(plan_pulls(lines, names(lines), Copies(), none, LOSS)) == [3, 1]


def test_the_second_place_is_filled_from_what_is_here_and_thinned_by_itself() -> None:
    lines = [ckpt(step) for step in (1, 2, 3, 4)]
    here = copies_of(lines[1:])
    assert steps(plan_pulls(lines, here.verified(), here, TIGHT, None, SECOND)) == [4, 3]
    assert steps(plan_removals(lines, copies_of(lines, SECOND), TIGHT, None, mirrored=False, place=SECOND)) == [1, 2]


def test_weights_do_not_push_out_what_a_training_can_go_on_from() -> None:
    lines = [ckpt(1), *(ckpt(step, name=f"ema-{step}.ckpt", kind="weights") for step in range(2, 8))]
    assert 1 in steps(plan_pulls(lines, names(lines), Copies(), TIGHT, None))
    assert 1 not in steps(plan_removals(lines, copies_of(lines), TIGHT, None, mirrored=True))
    newest = newest_held(lines, copies_of(lines))
    assert newest is not None and newest.step == 1


def test_of_a_path_that_is_overwritten_only_its_present_content_can_be_fetched() -> None:
    lines = [foreign("out/latest.pt", step) for step in (100, 200, 300)]
    everything = names(lines)
    assert steps(plan_pulls(lines, everything, Copies(), BackupPolicy(), None)) == [300]
    held = copies_of(lines[:2])
    assert steps(plan_pulls(lines, everything, held, BackupPolicy(), None)) == [300]
    assert plan_removals(lines, held, TIGHT, None, mirrored=True) == []
    assert steps(plan_removals(lines, copies_of(lines), TIGHT, None, mirrored=True)) == [100]  # earlier contents count
    assert current(lines) == lines[2:]


def test_siblings_of_a_step_are_wanted_together() -> None:
    lines = [foreign(f"out/{part}.pt", step) for step in (100, 200) for part in ("model", "optim")]
    one = BackupPolicy(keep_last=1)
    pulls = plan_pulls(lines, names(lines), Copies(), one, None)
    assert [(line.path, line.step) for line in pulls] == [("out/optim.pt", 200), ("out/model.pt", 200)]
    half = [*lines[:2], lines[3]]
    assert plan_removals(lines, copies_of(half), one, None, mirrored=True) == [
        lines[1]
    ]  # model.pt of 100 is its newest
    newest = newest_held(lines, copies_of(half))
    assert newest is not None and newest.step == 100, "a model without its optimizer is no place to go on from"


def test_siblings_that_settle_at_different_steps_do_not_push_each_other_out() -> None:
    lines = [foreign("model.pt", 100), foreign("optim.pt", 101), foreign("model.pt", 200), foreign("optim.pt", 201)]
    pulls = plan_pulls(lines, names(lines), Copies(), BackupPolicy(keep_last=1), None)
    assert [(line.path, line.step) for line in pulls] == [("optim.pt", 201), ("model.pt", 200)]


def test_numbers_in_a_path_are_generations_and_shards_are_not() -> None:
    hf = [f"out/checkpoint-{step}/model-0000{part}-of-00002.safetensors" for step in (500, 1000) for part in (1, 2)]
    lines = [foreign(path, int(path.split("-")[1].split("/")[0])) for path in hf]
    assert len({series_of(line) for line in lines}) == 2
    assert names(plan_pulls(lines, names(lines), Copies(), BackupPolicy(keep_last=1), None)) == names(lines[2:])
    epochs = [foreign(f"ck/epoch={epoch}.ckpt", epoch * 10) for epoch in range(6)]
    assert steps(plan_pulls(epochs, names(epochs), Copies(), TIGHT, None)) == [50, 40]
    ranks = [foreign(f"rank{rank}.pt", step) for step in (1, 2) for rank in range(4)]
    assert names(plan_pulls(ranks, names(ranks), Copies(), BackupPolicy(keep_last=1), None)) == names(ranks[4:])


@st.composite
def histories(draw: st.DrawFn) -> list[CheckpointLine]:
    """Any training: rising steps, roll-backs, losses or none, our own files and foreign ones."""
    lines: list[CheckpointLine] = []
    for number in range(draw(st.integers(0, 14))):
        step = draw(st.integers(0, 40))
        kind = draw(st.sampled_from(["full", "full", "full", "weights", "foreign"]))
        if kind == "foreign":
            path = draw(st.sampled_from(["model.pt", "optim.pt", f"e{step}.ckpt"]))
            lines.append(foreign(path, step, f"{number}"))
        else:
            loss = draw(st.none() | st.integers(0, 9).map(lambda tenth: tenth / 10))
            lines.append(ckpt(step, loss=loss, name=f"{kind}-{number}.ckpt", kind=kind))
    return lines


policies = st.builds(
    BackupPolicy, keep_last=st.integers(1, 4), keep_best=st.integers(0, 3), every_steps=st.sampled_from([0, 5, 10])
)
picks = st.lists(st.booleans(), min_size=14, max_size=14)
headlines = st.sampled_from([None, LOSS])


def some(lines: list[CheckpointLine], chosen: list[bool]) -> list[CheckpointLine]:
    return [line for line, yes in zip(lines, chosen, strict=False) if yes]


def after(copies: Copies, lines: list[CheckpointLine], more: list[CheckpointLine]) -> Copies:
    folding = Folding()
    for line in lines:
        if copies.holds(line) is not None or any(line is new for new in more):
            folding.take(copy_line(line, HERE, VERIFIED, 1.0))
    return folding.copies()


@given(histories(), picks, policies, headlines)
@settings(max_examples=120, deadline=None)
def test_the_newest_and_the_best_verified_are_never_let_go_and_the_unverified_never(
    lines: list[CheckpointLine], held: list[bool], policy: BackupPolicy, headline: Headline | None
) -> None:
    copies = copies_of(some(lines, held))
    removals = plan_removals(lines, copies, policy, headline, mirrored=True)
    assert all(copies.holds(line) is not None for line in removals)
    verified = some(lines, held)
    for kind in ("full", "weights", "foreign"):
        of_kind = [line for line in verified if line.kind == kind]
        assert not of_kind or of_kind[-1] not in removals
    if headline is not None and (order := ranked(verified, headline)):
        assert order[0] not in removals
    left = [line for line in verified if line not in removals]
    assert left[-policy.keep_last :] if verified else not left
    own = [line for line in verified if line.kind == "full"]
    assert all(line in left for line in own[-policy.keep_last :])
    again = plan_removals(lines, copies_of(left), policy, headline, mirrored=True)
    assert again == [], "what is left is wanted: nothing is let go in portions"


@given(histories(), picks, picks, policies, headlines)
@settings(max_examples=120, deadline=None)
def test_nothing_is_fetched_that_would_be_let_go_at_once_in_whatever_order_the_rest_comes(
    lines: list[CheckpointLine], there: list[bool], held: list[bool], policy: BackupPolicy, headline: Headline | None
) -> None:
    source, copies = some(lines, there), copies_of(some(lines, held))
    pulls = plan_pulls(lines, names(source), copies, policy, headline)
    assert len({id(line) for line in pulls}) == len(pulls)
    assert names(pulls) <= names(source) and not any(copies.holds(line) for line in pulls)
    for kind in ("full", "foreign"):
        known = [line for line in lines if line.kind == kind and (copies.holds(line) or line in source)]
        if known and known[-1] in current(lines) and not copies.holds(known[-1]):
            assert known[-1] in pulls, "the newest is always wanted"
    for one in pulls:
        removals = plan_removals(lines, after(copies, lines, [one]), policy, headline, mirrored=True)
        assert one not in removals
    removals = plan_removals(lines, after(copies, lines, pulls), policy, headline, mirrored=True)
    assert not any(line in removals for line in pulls)


@given(histories(), picks, policies, headlines)
@settings(max_examples=120, deadline=None)
def test_what_is_kept_of_many_is_kept_of_any_part_of_them(
    lines: list[CheckpointLine], chosen: list[bool], policy: BackupPolicy, headline: Headline | None
) -> None:
    part = some(lines, chosen)
    of_all = {id(line) for group in kept(lines, policy, headline) for line in group}
    of_part = {id(line) for group in kept(part, policy, headline) for line in group}
    assert {id(line) for line in part} & of_all <= of_part


@pytest.mark.parametrize("count", [0, 1])
def test_a_run_with_nothing_wants_nothing(count: int) -> None:
    lines = [ckpt(1)][:count]
    assert plan_removals(lines, copies_of(lines), TIGHT, LOSS, mirrored=True) == []
    assert steps(plan_pulls(lines, names(lines), Copies(), TIGHT, LOSS)) == [1] * count
