"""From a wish to a plan: here and on another machine, with GPUs chosen, and the command line that does the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from wavedeck.engine.errors import UsageError
from wavedeck.engine.planning import Place, check_recipe, gpu_environment, parse_gpus, plan_command, plan_recipe
from wavedeck.engine.recipe import load_recipe
from wavedeck.engine.rundir import Home

THERE = Place(
    host="gpu1", runs="/data/wavedeck/runs", python="/data/wavedeck/envs/abc/bin/python", cwd="/data/wavedeck",
    env={"PATH": "/data/wavedeck/envs/abc/bin:/usr/bin"}, price_per_hour=0.4,
)  # fmt: skip
RUN = "20261120-1759-mine-brisk-heron"


@pytest.mark.parametrize(
    ("text", "indices"), [(None, None), ("", None), (" 0, 1", (0, 1)), ("3", (3,)), ("none", ()), ("1,0", (1, 0))]
)
def test_gpus_are_indices(text: str | None, indices: tuple[int, ...] | None) -> None:
    assert parse_gpus(text) == indices


@pytest.mark.parametrize("text", ["a", "0,,1", "-1", "0,0", "none,1", "1.5", "²", "0;1", "99999", ","])
def test_gpus_that_are_no_indices(text: str) -> None:
    with pytest.raises(UsageError, match="--gpus"):
        parse_gpus(text)


def test_what_a_program_sees_of_the_gpus() -> None:
    assert gpu_environment(None) == {}
    assert gpu_environment((1, 0)) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1,0"}
    assert gpu_environment(())["CUDA_VISIBLE_DEVICES"] == ""


def test_a_recipe_here(tmp_path: Path) -> None:
    wish = check_recipe(load_recipe("sousa"), ["preset=debug"], gpus=(0, 2))
    plan = plan_recipe(Home(tmp_path), wish)
    assert plan.attempt.argv[:4] == [sys.executable, "-P", "-m", "wavedeck.engine.pipeline"]
    assert plan.attempt.argv[4] == str(tmp_path / "runs" / plan.run_id)
    assert plan.attempt.env["CUDA_VISIBLE_DEVICES"] == "0,2" and plan.manifest.gpus == [0, 2]
    assert plan.manifest.host == "local" and plan.manifest.price_per_hour is None
    assert plan.command_line.endswith("--gpus 0,2") and "--host" not in plan.command_line


def test_a_recipe_there(tmp_path: Path) -> None:
    wish = check_recipe(load_recipe("sousa"), ["preset=debug"], stage="train", tags=["a"], host="gpu1", gpus=(0, 1))
    plan = plan_recipe(Home(tmp_path), wish, place=THERE)
    assert plan.attempt.argv == [
        THERE.python, "-P", "-m", "wavedeck.engine.pipeline", f"/data/wavedeck/runs/{plan.run_id}",
    ]  # fmt: skip
    assert plan.attempt.cwd == plan.manifest.cwd == "/data/wavedeck"
    assert plan.attempt.env == {**THERE.env, **gpu_environment((0, 1))}
    assert plan.manifest.host == "gpu1" and plan.manifest.price_per_hour == 0.4 and plan.manifest.gpus == [0, 1]
    assert plan.manifest.packages["python"] == ".".join(map(str, sys.version_info[:3]))
    assert plan.equivalent == (
        "wavedeck", "run", "sousa.train", "--preset", "debug", "--tag", "a", "--host", "gpu1", "--gpus", "0,1",
    )  # fmt: skip
    assert wish.command_line == plan.command_line


def test_a_wish_for_there_is_not_planned_here(tmp_path: Path) -> None:
    recipe = load_recipe("sousa")
    with pytest.raises(UsageError, match="gpu1"):
        plan_recipe(Home(tmp_path), check_recipe(recipe, host="gpu1"))
    with pytest.raises(UsageError, match="local"):
        plan_recipe(Home(tmp_path), check_recipe(recipe), place=THERE)


def test_a_command_there() -> None:
    place = Place(
        host="gpu1", runs="/w/runs", python="/w/bin/python", cwd="/w/code/x/sub", run_id=RUN, env={"PATH": "/w/bin"},
        words=("--no-push", "--cwd", "/w"),
    )  # fmt: skip
    plan = plan_command(["only-there", "--api-key", "s3cret", "train.py"], gpus=(), place=place, tags=["t"])
    assert plan.run_id == RUN and plan.manifest.name == "train"
    assert plan.attempt.cwd == "/w/code/x/sub" and plan.attempt.env["CUDA_VISIBLE_DEVICES"] == ""
    assert plan.manifest.git is None, "nothing of this directory is there"
    assert plan.command_line == (
        "wavedeck exec --tag t --host gpu1 --gpus none --no-push --cwd /w -- only-there --api-key '***' train.py"
    )
    assert plan.attempt.argv[2] == "s3cret"


def test_a_command_there_knows_the_code_that_was_pushed(tmp_path: Path) -> None:
    repository = Path(__file__).resolve().parent
    place = Place(host="gpu1", runs="/w/runs", python="python3", cwd="/w/code/x", code=repository)
    plan = plan_command(["python", "train.py"], cwd=repository, place=place)
    assert plan.manifest.git is not None and len(plan.manifest.git.commit) == 40
    assert plan.equivalent[2:6] == ("--host", "gpu1", "--cwd", str(repository))
    assert plan.attempt.cwd == "/w/code/x"


def test_a_command_here_is_checked_here(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no program 'only-there'"):
        plan_command(["only-there"])
    with pytest.raises(UsageError, match="is not a directory"):
        plan_command(["true"], cwd=tmp_path / "absent")
    plan = plan_command(["true"], gpus=(1,))
    assert plan.attempt.env["CUDA_VISIBLE_DEVICES"] == "1" and plan.command_line == "wavedeck exec --gpus 1 -- true"
