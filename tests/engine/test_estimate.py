"""Time and cost before a launch: which earlier run is believed, how far, and what is said when none is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine import estimate as estimating
from wavedeck.engine.clouds import FLAVORS, find_flavor, flavor_of_platform
from wavedeck.engine.errors import UsageError
from wavedeck.engine.estimate import Machine, estimate, items_of, machine_of, machine_of_flavor, total
from wavedeck.engine.logger import EventWriter
from wavedeck.engine.planning import Wish, check_recipe
from wavedeck.engine.recipe import load_recipe
from wavedeck.engine.rundir import Home
from wavedeck.tests.fakes.runs import make_run

WISHED = ("data.clips=1000", "data.val_share=0.13", "data.test_share=0.19", "training.max_epochs=10")


def wish(*more: str, host: str = "local", gpus: tuple[int, ...] | None = None) -> Wish:
    return check_recipe(load_recipe("sousa"), [*WISHED, *more], host=host, gpus=gpus)


def measured(home: Path, tail: str, *overrides: str, rate: float = 100.0, gpu: str | None = None, **other: Any) -> str:
    """A finished run that told its rate; `gpu` is what its machine had."""
    run_id = f"20260921-1426-sousa-{tail}"
    numbers = {"samples_per_s": rate, **other.pop("numbers", {})}
    config = wish(*overrides).composed.resolved
    run = make_run(Home(home), run_id, config=config, **other)
    EventWriter(run.events).write("about", numbers=numbers)
    if gpu:
        run.machine.write_text(f'{{"t":1.0,"gpus":[{{"index":0,"name":"{gpu}"}}]}}\n')
    return run_id


def test_items_of_all_epochs() -> None:
    asked = wish()
    assert items_of(asked.recipe, asked.composed.config, asked.composed.resolved) == 6800
    asked = wish("training.max_steps=7", "training.batch_size=4", "training.accumulate=3")
    assert items_of(asked.recipe, asked.composed.config, asked.composed.resolved) == 84
    silent = replace(asked.recipe, items=None)
    assert items_of(silent, wish().composed.config, wish().composed.resolved) is None


def test_nothing_measured_is_unknown_and_says_how_to_measure(home: Path) -> None:
    found = estimate(Home(home), wish("model=hts_at", "strategy=lora"))
    assert found.seconds is None and found.cost is None and found.run is None and found.items == 6800
    assert "unknown" in found.line and "hts_at (full) + lora" in found.basis and "max_steps=50" in found.basis
    assert found.to_json()["seconds"] is None


def test_the_same_training_here_is_believed(home: Path) -> None:
    run_id = measured(home, "brisk-heron", "model=ast", "strategy=lora")
    found = estimate(Home(home), wish("model=ast", "strategy=lora", "training.lr=5e-4"))
    assert found.run == run_id and found.rate == 100.0
    assert found.seconds == pytest.approx(68 * 1.25 + 35)
    assert found.low_s is not None and found.high_s is not None and found.low_s < found.seconds < found.high_s
    assert found.cost is None and "$" not in found.line and "same model and strategy here" in found.basis


def test_validation_is_taken_from_what_that_run_measured(home: Path) -> None:
    measured(home, "brisk-heron", numbers={"train_s": 20.0, "evaluate_s": 4.0})
    run = Home(home).run("20260921-1426-sousa-brisk-heron")
    EventWriter(run.events).metrics({"train/loss": 1.0}, 50)  # 50 steps of 32 at 100/s are 16 s
    found = estimate(Home(home), wish())
    assert found.seconds == pytest.approx(68 * 20 / 16 + 4 + 35)


def test_the_nearest_match_wins_and_its_range_is_wider(home: Path) -> None:
    measured(home, "brisk-heron", "model=ast", "strategy=full_finetune", rate=50.0)
    near = estimate(Home(home), wish("model=ast", "strategy=lora"))
    assert near.rate == 50.0 and "other settings" in near.basis
    exact = measured(home, "calm-otter", "model=ast", "strategy=lora", rate=80.0, created=1.0)
    same = estimate(Home(home), wish("model=ast", "strategy=lora"))
    assert same.run == exact, "an older run of the same kind counts more than a newer one of another"
    assert same.high_s / same.low_s < near.high_s / near.low_s  # type: ignore[operator]
    other = estimate(Home(home), wish("model=hts_at", "strategy=lora"))
    assert other.seconds is None, "another network says nothing"


def test_clips_of_another_length_are_scaled(home: Path) -> None:
    measured(home, "brisk-heron", "data.duration_s=2.0", rate=100.0)
    found = estimate(Home(home), wish("data.duration_s=4.0"))
    assert found.rate == 50.0 and "scaled" in found.basis


def test_a_rented_gpu_is_matched_by_its_name_and_priced_by_the_minute(home: Path) -> None:
    measured(home, "brisk-heron", "model=ast", "strategy=lora", gpu="NVIDIA A10G")
    rented = machine_of_flavor(find_flavor("a10g-small"))
    found = estimate(Home(home), wish("model=ast", "strategy=lora"), rented)
    assert found.run and "here" in found.basis
    assert found.cost == pytest.approx(1.00 * 7 / 60), "370 s are seven minutes begun"
    assert "2026-08-21" in found.price_words and "list of" in found.lines[-1]
    elsewhere = estimate(Home(home), wish("model=ast", "strategy=lora"), machine_of_flavor(find_flavor("a100-large")))
    assert elsewhere.seconds is not None and "rough guess" in elsewhere.basis
    own = machine_of_flavor(find_flavor("a100-large"), 9.0)
    assert own.price_per_hour == 9.0 and "as you said" in own.price_words


def test_a_processor_says_nothing_about_a_gpu(home: Path) -> None:
    measured(home, "brisk-heron", "model=ast", "strategy=lora")
    found = estimate(Home(home), wish("model=ast", "strategy=lora"), machine_of_flavor(find_flavor("a10g-small")))
    assert found.seconds is None and found.price_per_hour == 1.0 and "A10G" in found.basis


def test_a_run_without_a_gpu_is_not_compared_with_one_that_had_it(home: Path) -> None:
    measured(home, "brisk-heron", gpu="NVIDIA H100 80GB HBM3")
    assert estimate(Home(home), wish()).seconds is not None
    assert estimate(Home(home), wish(gpus=())).seconds is None


def test_a_host_needs_its_own_measurement_and_has_its_own_price(home: Path) -> None:
    measured(home, "brisk-heron", host="gpu1", gpu="NVIDIA L4")
    there = wish(host="gpu1")
    found = estimate(Home(home), there, machine_of(there, 0.4))
    assert found.cost == pytest.approx(0.4 * found.seconds / 3600)  # type: ignore[operator]
    assert "hosts.toml" in found.price_words
    assert estimate(Home(home), wish()).seconds is None, "a GPU there says nothing about a processor here"


def test_a_batch_is_a_sum_and_counts_what_it_does_not_know(home: Path) -> None:
    measured(home, "brisk-heron", gpu="NVIDIA A10G")
    machine = machine_of_flavor(find_flavor("a10g-small"))
    one = estimate(Home(home), wish(), machine)
    none = estimate(Home(home), wish("model=ast"), machine)
    both = total([one, one, none])
    assert both.seconds == 2 * one.seconds and both.cost == 2 * one.cost  # type: ignore[operator]
    assert both.unknown == 1 and "1 more unknown" in both.line and both.price_per_hour == 1.0
    assert total([none]).seconds is None


def test_flavors() -> None:
    assert find_flavor("h200").gpu_memory_gb == 141
    with pytest.raises(UsageError, match="a10g-small"):
        find_flavor("a10g-smal")
    a10g, a100 = flavor_of_platform("hf_jobs_a10g"), flavor_of_platform("hf_jobs_a100")
    assert a10g is not None and a10g.name == "a10g-small"
    assert a100 is not None and a100.name == "a100-large"
    assert flavor_of_platform("m4_max") is None and flavor_of_platform(None) is None
    assert all(flavor.price > 0 and bool(flavor.gpu) == bool(flavor.gpus) for flavor in FLAVORS.values())


def test_every_platform_fits_the_config_and_keeps_the_effective_batch() -> None:
    recipe = load_recipe("sousa")
    for option in recipe.groups["platform"]:
        training = check_recipe(recipe, [f"platform={option}"]).composed.config.training
        assert training.batch_size * training.accumulate == 32, option
        if option.startswith("hf_jobs_"):
            assert flavor_of_platform(option) is not None, option


def test_a_machine_without_a_price_costs_nothing_known(home: Path) -> None:
    measured(home, "brisk-heron")
    assert estimate(Home(home), wish(), Machine()).cost is None


@pytest.mark.parametrize("record", ['{"torn', "[1]", "\xff"])
def test_a_damaged_record_of_an_old_run_hides_no_estimate(home: Path, record: str) -> None:
    run_id = measured(home, "brisk-heron")
    run = Home(home).run(run_id)
    run.attempt(2).write_bytes(run.attempt(1).read_bytes())
    run.attempt(1).write_bytes(record.encode("latin-1"))
    assert estimate(Home(home), wish()).run == run_id


@pytest.mark.parametrize(
    ("rate", "duration_s", "numbers", "known"),
    [(-3.0, 2.0, {}, False), (1e308 * 10, 2.0, {}, False), (9.0, 0, {}, True), (9.0, 2.0, {"evaluate_s": -1e9}, True)],
)
def test_odd_numbers_of_an_old_run_are_not_counted_with(
    home: Path, rate: float, duration_s: float, numbers: dict[str, float], known: bool
) -> None:
    run_id = measured(home, "brisk-heron", rate=rate, numbers=numbers)
    manifest = Home(home).run(run_id).manifest
    manifest.write_text(manifest.read_text().replace('"duration_s":2.0', f'"duration_s":{duration_s}'))
    seconds = estimate(Home(home), wish()).seconds
    assert (seconds is not None and seconds > 0) == known


def test_a_recipe_whose_items_fail_is_unknown() -> None:
    broken = replace(wish().recipe, items="operator:truediv")
    assert items_of(broken, wish().composed.config, wish().composed.resolved) is None


def test_the_files_of_a_run_are_read_once_until_they_change(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Home(home).run(measured(home, "brisk-heron", gpu="NVIDIA A10G"))
    read, real = [], estimating.read_machine
    monkeypatch.setattr(estimating, "read_machine", lambda *all: read.append(all) or real(*all))
    rented = machine_of_flavor(find_flavor("a10g-small"))
    assert all("here" in estimate(Home(home), wish(), rented).basis for _ in range(3)) and len(read) == 1
    run.machine.write_text('{"t":1.0,"gpus":[{"index":0,"name":"NVIDIA A100-SXM4-80GB"}]}\n')
    assert "other hardware" in estimate(Home(home), wish(), rented).basis and len(read) == 2
