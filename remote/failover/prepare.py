"""What a run needs on another machine before it can go on there: environment, code, interpreter.

Made as a launch there makes it, under the child's id, and before anything is claimed: an environment that cannot be
built costs a sentence and not the run's only move. What is there already from a try before is taken as it is.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ...engine.config import Composed
from ...engine.errors import UsageError, WavedeckError
from ...engine.hosts import LOCAL, read_mirror
from ...engine.manifest import Attempt, Manifest
from ...engine.planning import Wish, check_program, gpu_environment
from ...engine.recipe import load_recipe
from ...engine.rundir import Home, RunDir
from ..host import Host
from ..provision.provision import AUTO, Command, prepare_launch
from ..provision.push import SCRIPT
from ..provision.there import RemoteHost, Report, ask

GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Ready:
    """Where and how the child runs."""

    argv: tuple[str, ...]
    cwd: str
    env: dict[str, str]
    gpus: tuple[int, ...] | None
    price_per_hour: float | None = None
    notices: tuple[str, ...] = ()
    copy: Path | None = None
    """Code that is yet to be copied into the child's own `project/`; only on this machine."""


@dataclass(frozen=True, slots=True)
class Ancestor:
    """The run that is moved, with what its child takes over of it."""

    run: RunDir
    manifest: Manifest
    last: Attempt
    before: tuple[RunDir, ...] = ()
    """The runs it was itself moved from: one of them may have the code."""

    @property
    def gpus(self) -> tuple[int, ...] | None:
        """The GPUs it was given; None is all there are."""
        text = self.last.env.get(GPU_VARIABLE)
        if text is None:
            return None
        words = [word for word in text.split(",") if word]
        return tuple(int(word) for word in words) if all(word.isdecimal() for word in words) else None

    @property
    def inside(self) -> str:
        """The directory it runs in, relative to the project that was pushed; empty for the project itself."""
        cwd = self.manifest.cwd or ""
        for mark in (f"/code/{self.run.id}", f"/{self.run.id}/project"):
            _, found, rest = cwd.partition(mark)
            if found and (not rest or rest.startswith("/")):
                return rest.strip("/")
        return ""

    @property
    def was_pushed(self) -> bool:
        """Whether it runs in a copy of a project that was made for it."""
        cwd = f"{self.manifest.cwd or ''}/"
        return f"/code/{self.run.id}/" in cwd or f"/{self.run.id}/project/" in cwd


async def prepare(
    home: Home, host: Host, old: Ancestor, child: str, *, code: Path | None, env: str, report: Report
) -> Ready:
    """Get everything ready on the target.

    Raises
    ------
    UsageError, WavedeckError: it cannot be made there; the sentence says why. HostError, HostUnreachable.
    """
    if host.name == LOCAL:
        return await asyncio.to_thread(_here, home, old, child, code)
    from ..ssh_host import SshHost

    assert isinstance(host, SshHost)
    gpus = old.gpus
    try:
        return await _there(home, host, old, child, gpus, code, env, report)
    except UsageError as error:
        if not gpus or "there is no GPU" not in str(error):
            raise
    fewer = tuple(range(len(gpus)))  # other numbers there: as many, from the first on
    ready = await _there(home, host, old, child, fewer, code, env, report)
    told = f"GPUs {_list(gpus)} are not on {host.name}: it is given {_list(fewer)} instead."
    return replace(ready, notices=(*ready.notices, told))


def _list(gpus: Sequence[int]) -> str:
    return ",".join(map(str, gpus))


async def _there(
    home: Home,
    host: RemoteHost,
    old: Ancestor,
    child: str,
    gpus: tuple[int, ...] | None,
    code: Path | None,
    env: str,
    report: Report,
) -> Ready:
    wished: Wish | Command | None = _wish(old.manifest, host.name, gpus)
    if wished is None:
        wished = await _command(host, old, child, gpus, code, env)
    done = await prepare_launch(home, host, wished, report=report, run_id=child)
    attempt = done.plan.attempt
    price = done.plan.manifest.price_per_hour
    return Ready(tuple(attempt.argv), attempt.cwd, attempt.env, gpus, price, tuple(done.notices))


def _wish(manifest: Manifest, host: str, gpus: tuple[int, ...] | None) -> Wish | None:
    """The recipe with the very config of the run, whatever its defaults have become since; None for a command."""
    if manifest.recipe is None:
        return None
    composed = Composed(None, manifest.config, manifest.signature or "", manifest.preset, manifest.overrides, {})
    recipe, tags = load_recipe(manifest.recipe), tuple(manifest.tags)
    return Wish(recipe, composed, manifest.stage, manifest.name, tags, (), host, gpus)


async def _command(
    host: RemoteHost, old: Ancestor, child: str, gpus: tuple[int, ...] | None, code: Path | None, env: str
) -> Command:
    base = Command(
        tuple(old.last.argv), old.manifest.name, patterns=tuple(old.last.patterns), gpus=gpus, env=env, push_large=True
    )
    placed = f"{host.home}/code/{child}"
    answer = await ask(host, SCRIPT, {"op": "which", "programs": [], "directories": [placed]})
    if placed in (answer.get("directories") or ()):
        return replace(base, push=False, cwd=Path(_join(placed, old.inside)))
    if code is not None:
        return replace(base, cwd=code)
    kept = _kept_project(old)
    if kept is not None:
        return replace(base, root=kept, cwd=_made(kept / old.inside))
    if old.was_pushed:
        raise UsageError(_no_code(old))
    if read_mirror(old.run.path) is None:
        return replace(base, cwd=Path(old.manifest.cwd or "/"))
    return replace(base, push=False, cwd=Path(old.manifest.cwd or "/"))  # a directory of the host, as it is


def _here(home: Home, old: Ancestor, child: str, code: Path | None) -> Ready:
    """On this machine a recipe runs with this very interpreter, and a command in a copy of its project."""
    gpus, env = old.gpus, gpu_environment(old.gpus)
    if old.manifest.recipe is not None:
        load_recipe(old.manifest.recipe)
        own = (sys.executable, "-P", "-m", "wavedeck.engine.pipeline", str(home.runs / child))
        return Ready(own, str(home.root), env, gpus)
    argv = tuple(old.last.argv)
    if code is not None:
        check_program(argv[0], code)
        return Ready(argv, str(code), env, gpus)
    kept = _kept_project(old)
    if kept is None:
        cwd = Path(old.manifest.cwd or "/")
        if old.was_pushed or not cwd.is_dir():
            raise UsageError(_no_code(old))
        check_program(argv[0], cwd)
        return Ready(argv, str(cwd), env, gpus)
    check_program(argv[0], _made(kept / old.inside))
    return Ready(argv, str(Path(home.runs, child, "project", old.inside)), env, gpus, copy=kept)


def _kept_project(old: Ancestor) -> Path | None:
    """The pushed project as the backup keeps it here."""
    return next((run.project for run in (old.run, *old.before) if run.project.is_dir()), None)


def copy_project(ready: Ready, child: RunDir) -> None:
    """Give a child on this machine its own copy of the code; again after a cut, until it is whole.

    Raises
    ------
    WavedeckError: it cannot be written.
    """
    if ready.copy is None or child.project.exists():
        return
    half = child.path / ".project.new"
    try:
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(ready.copy, half, symlinks=True)
        os.replace(half, child.project)
        Path(ready.cwd).mkdir(parents=True, exist_ok=True)
    except (OSError, shutil.Error) as error:
        raise WavedeckError(f"the code of {child.id} cannot be copied: {error}.") from error


def _made(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _join(root: str, inside: str) -> str:
    return str(PurePosixPath(root, inside)) if inside else root


def _no_code(old: Ancestor) -> str:
    return (
        f"the code of {old.run.id} is not here: it lies on {old.manifest.host} only. "
        "Name the project's directory here with --code DIR."
    )


__all__ = ["AUTO", "Ancestor", "Ready", "copy_project", "prepare"]
