"""Lists of values become combinations, in Hydra's own order; experiments are lines under a name."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from wavedeck.engine import names
from wavedeck.engine.batch_view import batch_ids, batch_of, grouped, is_batch_id, resolve_batch
from wavedeck.engine.batches import check_batch, plan_batch
from wavedeck.engine.catalog import Catalog
from wavedeck.engine.config import compose
from wavedeck.engine.config.sweep import Combination, expand, read_line
from wavedeck.engine.errors import UsageError
from wavedeck.engine.planning import check_recipe, plan_recipe
from wavedeck.engine.recipe import Recipe
from wavedeck.engine.rundir import Home
from wavedeck.tests.fakes.recipe_fake import RECIPE
from wavedeck.tests.fakes.runs import make_run

GROUPS = {
    "model": {name: {"name": name} for name in ("ast", "hts_at", "beats", "mn10")},
    "way": {"lora": {"training.lr": 0.01}, "ia3": {"training.lr": 0.02}, "adalora": {}},
    "data": {"tiny": {"data.items": 8}},
}
LAB = dataclasses.replace(
    RECIPE,
    groups=GROUPS,
    experiments={
        "twelve": ("model=ast,hts_at,beats,mn10", "way=lora,adalora,ia3"),
        "quick": ("data.items=4", "training.steps=20"),
        "noisy": ("preset=debug", "seed=1,2"),
    },
    presets={"debug": ("training.steps=20",), "long": ("training.steps=900",)},
)


def _labels(recipe: Recipe, *overrides: str) -> list[str]:
    return [combination.label for combination in expand(recipe, read_line(recipe, overrides).overrides)]


def _refusal(*overrides: str, preset: str | None = None, recipe: Recipe = LAB) -> str:
    with pytest.raises(UsageError) as caught:
        check_batch(recipe, overrides, preset=preset)
    return str(caught.value)


def test_the_product_in_hydras_order_the_last_list_varying_fastest() -> None:
    found = expand(LAB, ["model=ast,beats", "seed=7", "way=lora,ia3"])
    assert found[1] == Combination(("model=ast", "seed=7", "way=ia3"), ("model=ast", "way=ia3"), "ast ia3")
    assert [one.label for one in found] == ["ast lora", "ast ia3", "beats lora", "beats ia3"]


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("seed=range(1,4)", ["1", "2", "3"]),
        ("training.lr=choice(1e-3,2e-4)", ["0.001", "0.0002"]),
        ("name='a,b',c", ["'a,b'", "c"]),
        ("data.bands=[1,2],[3]", ["[1,2]", "[3]"]),
        ("training.clip=null,1.5", ["null", "1.5"]),
        ("seed=${training.steps},1", ["'${training.steps}'", "1"]),
        ("seed=1,1,2", ["1", "2"]),
        ("way=glob(*lora)", ["lora", "adalora"]),
    ],
)
def test_every_kind_of_list(typed: str, values: list[str]) -> None:
    key = typed.partition("=")[0]
    assert [one.overrides[0].removeprefix(f"{key}=") for one in expand(LAB, [typed])] == values
    for combination in expand(LAB, [typed]):
        compose(LAB, combination.overrides)


def test_of_two_values_for_one_key_the_later_counts() -> None:
    assert _labels(LAB, "seed=1,2", "model=ast,beats", "seed=5") == ["ast", "beats"]


def test_labels_are_short_and_tell_the_runs_apart() -> None:
    assert _labels(LAB, "training.lr=0.1,0.2", "preset=debug,long")[0] == "lr=0.1 debug"
    both = dataclasses.replace(LAB, groups={})
    assert _labels(both, "training.steps=1,2", "data.items=3,4")[3] == "steps=2 items=4"
    assert _labels(LAB, "seed=1") == [""]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("training.lr=interval(0,1)",), "has no steps: write training.lr=range(from,to,step)"),
        (("seed=range(0,0)",), "names no value at all"),
        (("seed=range(0,100000)",), "names more than 1,000 values"),
        (("seed=range(0,200)", "data.items=range(1,200)"), "that is 39,800 trainings"),
        (("seed=glob(*)",), "seed is no group"),
        (("experiment=twleve",), "no experiment 'twleve'. Did you mean twelve?"),
        (("experiment=twelve,quick",), "one experiment at a time"),
        (("experiment=twelve", "experiment=quick"), "two experiments are named"),
        (("seed=1,2", "+x=1"), "a recipe's fields are fixed"),
    ],
)
def test_what_is_no_sweep_is_told_in_a_sentence(overrides: tuple[str, ...], words: str) -> None:
    assert words in _refusal(*overrides)


def test_without_m_a_list_offers_it() -> None:
    with pytest.raises(UsageError, match=r"'seed=1,2' names several values, but seed takes one: add -m"):
        compose(LAB, ["seed=1,2"])


def test_an_experiment_stands_before_what_is_typed_which_wins() -> None:
    assert read_line(LAB, ["experiment=twelve"]).several
    quick = read_line(LAB, ["experiment=quick", "seed=3"])
    assert (quick.overrides, quick.experiment, quick.several) == (
        ("data.items=4", "training.steps=20", "seed=3"), "quick", False,
    )  # fmt: skip
    assert read_line(LAB, ["experiment=quick", "data=tiny"]).overrides == ("training.steps=20", "data=tiny")
    assert read_line(LAB, ["data={items:9}", "experiment=quick"]).overrides == ("training.steps=20", "data={items:9}")
    assert _labels(LAB, "experiment=twelve", "way=ia3") == ["ast", "hts_at", "beats", "mn10"]
    assert read_line(LAB, ["experiment=noisy"], "long").overrides == ("seed=1,2",)


def test_a_recipe_whose_own_field_is_called_experiment_keeps_it() -> None:
    own = dataclasses.replace(RECIPE, groups={"experiment": {"a": {"seed": 1}, "b": {"seed": 2}}})
    assert read_line(own, ["experiment=a"]).experiment is None
    assert _labels(own, "experiment=a,b") == ["a", "b"]


def test_one_bad_combination_refuses_all_and_is_named() -> None:
    sentence = _refusal("model=ast,beats", "training.steps=100,5")
    assert sentence.startswith("model=ast training.steps=5: ") and sentence.endswith(" Nothing was queued.")
    assert "schedule.warmup is longer" in sentence
    assert "Nothing was queued" not in _refusal("training.lrr=1")


def test_twelve_are_planned_with_one_batch_and_names_of_their_own() -> None:
    wish = check_batch(LAB, ["experiment=twelve", "seed=3"], preset="debug", tags=["night"])
    assert (wish.label, len(wish.members)) == ("twelve", 12)
    assert wish.command_line == (
        "wavedeck run fake -m model=ast,hts_at,beats,mn10 way=lora,adalora,ia3 seed=3 --preset debug --tag night"
    )
    again = check_batch(LAB, wish.equivalent[4:7], preset="debug")
    assert [one.wish.composed.resolved for one in again.members] == [one.wish.composed.resolved for one in wish.members]
    plan = plan_batch(Home.default(), wish, taken=[], now=1_790_000_000.0)
    manifests = [one.manifest for one in plan.plans]
    assert plan.id.startswith("batch-20260921-") and {manifest.batch for manifest in manifests} == {plan.id}
    assert [manifest.name for manifest in manifests][:4] == ["ast lora", "ast adalora", "ast ia3", "hts_at lora"]
    assert len({manifest.id for manifest in manifests} | {plan.id}) == 13
    assert all(a.created < b.created for a, b in itertools.pairwise(manifests))
    assert {manifest.signature for manifest in manifests} == {one.wish.composed.signature for one in wish.members}


def test_a_batch_is_meant_by_its_id_its_beginning_or_its_two_words() -> None:
    known = ["batch-20260921-1426-twelve-brisk-heron", "batch-20260922-1426-fake-calm-owl"]
    assert resolve_batch("brisk-heron", known) == resolve_batch("batch-20260921", known) == known[0]
    assert resolve_batch("20260921-1426-sousa-brisk-heron", known) is None
    for word, reason in (("batch-2026", "fits 2 batches"), ("batch-2025", "there is no batch")):
        with pytest.raises(UsageError, match=reason):
            resolve_batch(word, known)
    with pytest.raises(UsageError, match="'calm-owl' fits 2 batches"):
        resolve_batch("calm-owl", [*known, "batch-20260923-1426-other-calm-owl"])


@pytest.mark.parametrize("ending", ["\x1b]0;pwned\x07", "\n", "-\u202e", " x", "/../x", "A", "-" + "x" * 64])
def test_what_is_no_id_of_a_batch_is_none(ending: str, home: Path) -> None:
    name = "batch-20260921-1426-twelve-calm-fox"
    assert is_batch_id(name) and not is_batch_id(name + ending) and not is_batch_id(name[6:])
    at = Home(home)
    run = make_run(at, batch=name + ending)
    view = Catalog(at, lambda run_id, record: False).view(run)
    assert view.manifest is not None and view.manifest.batch == name + ending
    assert batch_of(view) is None and batch_ids(at) == [] and grouped([view]) == [view]


def test_two_words_are_given_once_to_runs_and_batches_alike(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "ADJECTIVES", ("calm", "bold"))
    monkeypatch.setattr(names, "ANIMALS", ("fox",))
    at = Home(home)
    make_run(at, batch="batch-20260921-1426-twelve-calm-fox")
    assert {plan_recipe(at, check_recipe(LAB)).run_id[-8:] for _ in range(5)} == {"bold-fox"}
    wish = check_batch(LAB, ["seed=3"])
    assert {plan_batch(at, wish).id[-8:] for _ in range(5)} == {"bold-fox"}
