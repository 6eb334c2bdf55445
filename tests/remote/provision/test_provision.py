"""A launch elsewhere, prepared: the run it plans works there with the code and the environment it was given."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from wavedeck.engine.errors import UsageError, WavedeckError
from wavedeck.engine.planning import Plan, check_recipe
from wavedeck.engine.recipe import load_recipe
from wavedeck.engine.rundir import Home
from wavedeck.remote.provision import provision as module
from wavedeck.remote.provision.environment import EnvironmentSpec
from wavedeck.remote.provision.provision import Command, prepare_launch

from .conftest import Entry, There, Told, without_uv
from .test_environment import tiny_wheel
from .test_project import git


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's project, where the user is."""
    root = tmp_path / "here"
    (root / "sub").mkdir(parents=True)
    (root / "train.py").write_text(
        "import tiny, helper; from wavedeck import log; log({'x': 1}); print(tiny.VERSION)\n"
    )
    (root / "helper.py").touch()
    (root / "go.sh").write_text('#!/bin/sh\necho went in "$(basename "$(pwd)")"\n')
    (root / "go.sh").chmod(0o755)
    (root / "secret.sh").write_text("#!/bin/sh\n")
    (root / "secret.sh").chmod(0o755)
    (root / ".gitignore").write_text("secret.sh\n")
    (root / "requirements.txt").write_text(f"{tiny_wheel(tmp_path)}\n-e .\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "x")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def ours(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def execute(plan: Plan, there: There, run_dir: Path) -> subprocess.CompletedProcess[str]:
    """What the supervisor there would do."""
    run_dir.mkdir(exist_ok=True)
    env = {**there.env, **plan.attempt.env, "WAVEDECK_RUN_DIR": str(run_dir)}
    return subprocess.run(plan.attempt.argv, cwd=plan.attempt.cwd, env=env, capture_output=True, text=True, timeout=60)


async def test_a_command_runs_with_its_code_and_environment(
    there: There, ours: Home, tree: Path, told: Told, tmp_path: Path
) -> None:
    command = Command(("python", "train.py"), name="my try", gpus=None, tags=("a",))
    prepared = await prepare_launch(ours, there, command, report=told)
    plan = prepared.plan
    assert plan.attempt.cwd == f"{there.home}/code/{plan.run_id}" and plan.manifest.host == "gpu1"
    assert plan.manifest.git is not None and not plan.manifest.git.dirty and plan.manifest.price_per_hour == 0.4
    assert plan.command_line == "wavedeck exec --name 'my try' --tag a --host gpu1 -- python train.py"
    done = execute(plan, there, tmp_path / "run")
    assert done.stdout == "1.0\n", done.stderr
    assert '"x"' in (tmp_path / "run" / "events.jsonl").read_text()
    assert any("`-e .` is left out" in notice for notice in prepared.notices)
    assert {item.phase for item in told} == {"check", "environment", "push"}
    again = await prepare_launch(ours, there, command, taken=[plan.run_id])
    assert again.plan.attempt.cwd != plan.attempt.cwd
    assert again.plan.attempt.env["VIRTUAL_ENV"] == plan.attempt.env["VIRTUAL_ENV"]


async def test_it_runs_where_the_user_is(there: There, ours: Home, tree: Path, tmp_path: Path) -> None:
    prepared = await prepare_launch(ours, there, Command(("../go.sh",), cwd=tree / "sub", env="none"))
    assert prepared.plan.attempt.cwd == f"{there.home}/code/{prepared.plan.run_id}/sub"
    assert execute(prepared.plan, there, tmp_path / "run").stdout == "went in sub\n"
    assert f"--env none --cwd {tree / 'sub'}" in prepared.plan.command_line


async def test_a_dry_run_changes_nothing_there(there: There, ours: Home, tree: Path) -> None:
    prepared = await prepare_launch(ours, there, Command(("python", "train.py")), dry_run=True)
    assert prepared.plan.attempt.env["PATH"].startswith(f"{there.home}/envs/")
    assert not Path(there.home).exists()


async def test_no_push_runs_in_a_directory_there(there: There, ours: Home, tree: Path, tmp_path: Path) -> None:
    command = Command(("./go.sh",), cwd=tree, push=False)
    plan = (await prepare_launch(ours, there, command)).plan
    assert plan.attempt.cwd == str(tree) and plan.manifest.git is None
    assert plan.command_line == f"wavedeck exec --host gpu1 --no-push --cwd {tree} -- ./go.sh"
    assert not Path(there.home, "code").exists() and not Path(there.home, "envs").exists()
    for wrong, words in (
        (replace(command, cwd=None), "needs an absolute path of gpu1: add --cwd DIR"),
        (replace(command, cwd=Path("relative")), "absolute path"),
        (replace(command, cwd=tmp_path / "absent"), "no directory .* on gpu1"),
        (replace(command, argv=("./absent",)), "no program .*absent' on gpu1"),
        (replace(command, argv=("./train.py",)), "not executable"),
    ):
        with pytest.raises(UsageError, match=words):
            await prepare_launch(ours, there, wrong)


async def test_what_is_not_there_is_said_before_anything_is_sent(there: There, ours: Home, tree: Path) -> None:
    for command, words in (
        (Command(()), "there is no command"),
        (Command(("no-such-program",), env="none"), "no program 'no-such-program' on gpu1"),
        (Command(("./absent.sh",)), "no ./absent.sh in"),
        (Command(("./train.py",)), "not executable"),
        (Command(("./secret.sh",)), "not pushed: git ignores it"),
        (Command(("true",), cwd=tree / "absent"), "add --no-push"),
        (Command(("true",), patterns=("loss",)), "names no group"),
        (Command(("true",), env="/absent/python"), "no interpreter /absent/python on gpu1"),
    ):
        with pytest.raises(UsageError, match=words):
            await prepare_launch(ours, there, command)
    assert not Path(there.home, "code").exists()


async def test_python3_but_no_python(there: There, ours: Home, tree: Path, tmp_path: Path) -> None:
    without_uv(there, tmp_path / "bin")
    with pytest.raises(UsageError, match="no program 'python' on gpu1, but there is 'python3': use that"):
        await prepare_launch(ours, there, Command(("python", "train.py"), env="none"))


async def test_an_interpreter_that_is_named_is_used(there: There, ours: Home, tree: Path, tmp_path: Path) -> None:
    there.entry = Entry(python=sys.executable)
    prepared = await prepare_launch(ours, there, Command(("python", "-c", "import sys; print(sys.executable)")))
    assert execute(prepared.plan, there, tmp_path / "run").stdout.strip() == sys.executable
    assert not Path(there.home, "envs").exists()


async def test_gpus_that_are_not_there(there: There, ours: Home, tree: Path, tmp_path: Path) -> None:
    without_uv(there, tmp_path / "bin")
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 0\necho 1\n")
    smi.chmod(0o755)
    with pytest.raises(UsageError, match="no GPU 2 on gpu1: it has 0, 1"):
        await prepare_launch(ours, there, Command(("./go.sh",), gpus=(0, 2), env="none"))
    plan = (await prepare_launch(ours, there, Command(("./go.sh",), gpus=(1,), env="none"))).plan
    assert plan.attempt.env["CUDA_VISIBLE_DEVICES"] == "1" and plan.manifest.gpus == [1]
    smi.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert (await prepare_launch(ours, there, Command(("./go.sh",), gpus=(7,), env="none"))).plan


async def test_a_recipe_gets_wavedecks_own_wheel(
    there: There, ours: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.recipe_environment

    def light(cache: Path) -> EnvironmentSpec:  # all but the gigabytes
        return replace(real(cache), requirements=f"{tiny_wheel(tmp_path)}\n".encode(), check_torch=False)

    monkeypatch.setattr(module, "recipe_environment", light)
    wish = check_recipe(load_recipe("sousa"), ["preset=debug"], host="gpu1", gpus=None)
    plan = (await prepare_launch(ours, there, wish)).plan
    assert plan.attempt.argv[0].startswith(f"{there.home}/envs/") and plan.attempt.cwd == there.home
    assert plan.attempt.argv[4] == f"{there.home}/runs/{plan.run_id}"
    code = "import importlib.util as u; print(u.find_spec('wavedeck').origin)"
    found = subprocess.run([plan.attempt.argv[0], "-P", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.startswith(there.home)
    assert plan.command_line == "wavedeck run sousa --preset debug --host gpu1"
    assert json.dumps(plan.manifest.config)


async def test_a_recipe_with_a_named_interpreter(there: There, ours: Home, tmp_path: Path) -> None:
    there.entry = Entry(python=sys.executable)
    wish = check_recipe(load_recipe("sousa"), host="gpu1")
    prepared = await prepare_launch(ours, there, wish)
    assert prepared.plan.attempt.argv[0] == sys.executable and prepared.notices == []
    bare = tmp_path / "python3"
    bare.symlink_to(Path(sys.executable).resolve())
    there.entry = Entry(python=str(bare))
    with pytest.raises(WavedeckError, match=r"cannot run recipes: install `wavedeck\[train\]` there"):
        await prepare_launch(ours, there, wish)


async def test_a_third_partys_recipe_needs_its_own_interpreter(there: There, ours: Home) -> None:
    wish = check_recipe(load_recipe("sousa"), host="gpu1")
    foreign = type("Config", (wish.recipe.config,), {"__module__": "theirs.recipe"})
    with pytest.raises(UsageError, match="comes with theirs, which Wavedeck cannot install on gpu1"):
        await prepare_launch(ours, there, replace(wish, recipe=replace(wish.recipe, config=foreign)))


async def test_through_a_real_ssh_connection(home: Path, tree: Path, tmux_socket: str, sshd: object) -> None:
    """Prepared, pushed, launched and run to its end on the other side of an sshd."""
    from wavedeck.engine.manifest import ExitRecord, read_record
    from wavedeck.remote import operations
    from wavedeck.remote.fleet import Fleet
    from wavedeck.remote.link import Rhythm

    (tree / "two\nlines.txt").write_text("odd")
    fleet = Fleet(Home(home), rhythm=Rhythm(ping_s=0.2, lock_s=0.05))
    try:
        host = fleet.host("gpu1")
        prepared = await prepare_launch(Home(home), host, Command(("python", "train.py"), gpus=()))
        plan = prepared.plan
        result = await operations.launch(Home(home), host, plan.manifest, plan.attempt)
        async with asyncio.timeout(30):
            while read_record(result.run.exit, ExitRecord) is None:
                await asyncio.sleep(0.05)
        assert read_record(result.run.exit, ExitRecord).exit_code == 0, result.run.console.read_text()  # type: ignore[union-attr]
        assert "1.0" in result.run.console.read_text() and '"x"' in result.run.events.read_text()
        assert Path(plan.attempt.cwd, "two\nlines.txt").read_text() == "odd"
        assert plan.attempt.cwd.startswith(f"{host.home}/code/")
    finally:
        await fleet.close()
