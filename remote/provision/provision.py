"""Everything that happens on a host before a run is launched there, in one function that both front doors call.

Order: what costs nothing is checked first, then the environment is found or made, then the code is pushed, then the run
is planned. A launch that fails anywhere before its end leaves no run behind.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ...engine.errors import UsageError, WavedeckError
from ...engine.format import plain
from ...engine.names import new_run_id
from ...engine.patterns import check_patterns
from ...engine.planning import Place, Plan, Wish, command_label, plan_command, plan_recipe
from ...engine.rundir import Home
from ..host import HostError
from .environment import (
    EnvironmentReady,
    EnvironmentSpec,
    named_environment,
    prepare,
    project_environment,
    recipe_environment,
)
from .project import Listing, Project, files, find_project
from .push import SCRIPT, Pushed, push
from .there import Progress, RemoteHost, Report, ask, path_of, text_of
from .wheel import build_wheel, wheel_digest

AUTO, NONE = "auto", "none"
OURS = "wavedeck."
CHECK = "check"
_IMPORTS = "import wavedeck.engine.pipeline, wavedeck; print(wavedeck.__version__)"


@dataclass(frozen=True, slots=True)
class Command:
    """A user's own program that is to run on another machine: the options of `exec`."""

    argv: tuple[str, ...]
    name: str | None = None
    cwd: Path | None = None
    """With `push` a directory here, else one there."""
    patterns: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    gpus: tuple[int, ...] | None = None
    push: bool = True
    """Whether the project here is pushed; otherwise it runs in `cwd` on the host as it is."""
    push_large: bool = False
    """Whether a project is pushed however large it is."""
    env: str = AUTO
    """`auto`: what the project's requirements say; `none`: the host's own programs; else a path there."""
    root: Path | None = None
    """The project's directory when git is not to be asked about it: all that is in it is pushed, and nothing else."""


@dataclass(slots=True)
class Prepared:
    """A launch that can be made: hand `plan.manifest` and `plan.attempt` to `operations.launch`."""

    plan: Plan
    notices: list[str] = field(default_factory=list)
    """What its user should know, as sentences."""


async def prepare_launch(
    home: Home,
    host: RemoteHost,
    wished: Wish | Command,
    *,
    taken: Collection[str] = (),
    report: Report = lambda progress: None,
    dry_run: bool = False,
    now: float | None = None,
    run_id: str | None = None,
) -> Prepared:
    """Get code and environment onto the host and plan the run.

    Parameters
    ----------
    report: is told how far it is, in this event loop.
    dry_run: check everything and look what is there, but make and push nothing.
    run_id: the run's id when it has one already; a fresh one is made otherwise.

    Raises
    ------
    UsageError: what was asked for is not there or not allowed. WavedeckError: the environment or the code cannot be put
    there. HostError, HostUnreachable.
    """
    launch = _Launch(home, host, report, dry_run, time.time() if now is None else now, run_id)
    await launch.look()
    await launch.check_gpus(wished.gpus)
    if isinstance(wished, Wish):
        return await launch.recipe(wished, taken)
    return await launch.command(wished, taken)


@dataclass(slots=True)
class _Launch:
    home: Home
    host: RemoteHost
    report: Report
    dry_run: bool
    now: float
    run_id: str | None = None
    notices: list[str] = field(default_factory=list)
    base_path: str = ""
    """Where programs are looked for there."""
    python_path: str = ""

    async def look(self) -> None:
        """Wait until the host answers, and ask what its login environment is."""
        self._tell("asking the host")
        await self.host.run(["true"])
        answer = await self._which(())
        self.base_path, self.python_path = text_of(answer, "path", 32768), text_of(answer, "pythonpath")

    # -- a recipe

    async def recipe(self, wish: Wish, taken: Collection[str]) -> Prepared:
        """The built-in recipes run with Wavedeck's own wheel, or with the interpreter that hosts.toml names."""
        if self.host.entry.python:
            ready = named_environment(self.host, self.host.entry.python)
            await self._check_own_wavedeck(ready)
        else:
            _refuse_foreign(wish, self.host.name)
            ready = await self._prepare(await asyncio.to_thread(recipe_environment, self.home.cache))
        place = Place(
            host=self.host.name,
            runs=f"{self.host.home}/runs",
            python=ready.python,
            cwd=self.host.home,
            env=self._recipe_environment(ready),
            price_per_hour=self.host.entry.price_per_hour,
            run_id=self.run_id,
        )
        plan = await asyncio.to_thread(plan_recipe, self.home, wish, taken=taken, place=place, now=self.now)
        return Prepared(plan, self.notices)

    def _recipe_environment(self, ready: EnvironmentReady) -> dict[str, str]:
        """Of an environment that was made for this nothing is shadowed by a PYTHONPATH that an image sets."""
        alone = {"PYTHONPATH": "", "VIRTUAL_ENV": ready.root} if ready.root else {}
        return {"PATH": self._path(ready), **alone}

    async def _check_own_wavedeck(self, ready: EnvironmentReady) -> None:
        """Refuse an interpreter of the user's own that cannot run a recipe."""
        from ... import __version__

        name, python = self.host.name, ready.python
        done = await self.host.run([python, "-P", "-c", _IMPORTS], timeout_s=120)
        if done.status != 0:
            raise WavedeckError(
                f"{python} on {name} cannot run recipes: install `wavedeck[train]` there, or remove python= from "
                "hosts.toml, and an environment is made."
            )
        version = plain(done.stdout.decode("utf-8", "replace").strip(), 40)
        if version != __version__:
            self.notices.append(f"{python} on {name} has Wavedeck {version}; here it is {__version__}.")

    # -- a command

    async def command(self, command: Command, taken: Collection[str]) -> Prepared:
        """A user's own program, in a copy of the project here or in a directory there as it is."""
        if not command.argv:
            raise UsageError("there is no command: put it after `--`, as in `wavedeck exec -- python train.py`.")
        check_patterns(command.patterns)
        run_id = self.run_id or new_run_id(command.name or command_label(command.argv), self.now, taken)
        project, listing = await self._project(command)
        ready = await self._environment(command, project)
        await self._check_program(command, ready)
        pushed: Pushed | None = None
        if project is not None and listing is not None:
            pushed = await self._push(project, listing, run_id)
        place = Place(
            host=self.host.name,
            runs=f"{self.host.home}/runs",
            python=ready.python if ready else "python3",
            cwd=pushed.cwd if pushed else str(command.cwd),
            env=await self._command_environment(ready),
            price_per_hour=self.host.entry.price_per_hour,
            run_id=run_id,
            code=project.root / project.subdirectory if project else None,
            words=_words(command),
        )
        plan = await asyncio.to_thread(
            plan_command,
            command.argv,
            name=command.name,
            cwd=command.cwd if command.push else None,
            patterns=command.patterns,
            tags=command.tags,
            gpus=command.gpus,
            place=place,
            now=self.now,
        )
        return Prepared(plan, self.notices)

    async def _project(self, command: Command) -> tuple[Project | None, Listing | None]:
        """What is to be pushed; nothing with `--no-push`, but then the directory must be there."""
        if not command.push:
            await self._check_directory(command.cwd)
            return None, None
        cwd = (command.cwd or Path.cwd()).absolute()
        if not cwd.is_dir():
            raise UsageError(f"{cwd} is not a directory here; for one on {self.host.name}, add --no-push.")
        self._tell("listing the project's files")
        project = _whole(command.root, cwd) if command.root else await asyncio.to_thread(find_project, cwd)
        listing = await asyncio.to_thread(files, project, unlimited=command.push_large, whole=command.root is not None)
        self.notices += listing.notices
        _check_travels(command.argv, project, listing)
        return project, listing

    async def _check_directory(self, cwd: Path | None) -> None:
        if cwd is None or not PurePosixPath(cwd).is_absolute():
            raise UsageError(f"--no-push needs an absolute path of {self.host.name}: add --cwd DIR.")
        answer = await self._which((), directories=(str(cwd),))
        if str(cwd) not in (answer.get("directories") or ()):
            raise UsageError(f"there is no directory {plain(str(cwd), 200)} on {self.host.name}.")

    async def _environment(self, command: Command, project: Project | None) -> EnvironmentReady | None:
        if command.env == NONE:
            return None
        if command.env != AUTO:
            return await self._named(command.env)
        if self.host.entry.python:
            return await self._named(self.host.entry.python)
        spec = await asyncio.to_thread(project_environment, project.root) if project else None
        return await self._prepare(spec) if spec else None

    async def _named(self, python: str) -> EnvironmentReady:
        ready = named_environment(self.host, python)
        answer = await self._which((ready.python,))
        if not _found(answer, ready.python):
            raise UsageError(f"there is no interpreter {ready.python} on {self.host.name}: see --env and hosts.toml.")
        return ready

    async def _check_program(self, command: Command, ready: EnvironmentReady | None) -> None:
        """Refuse a program that is not there; one in the project is pushed with it."""
        program, name = command.argv[0], self.host.name
        if "/" in program and not program.startswith("/"):
            if command.push:
                return
            program = f"{command.cwd}/{program}"
        if ready is not None and ready.missing:
            return  # a dry run: nobody knows what will be in an environment that was never made
        answer = await self._which((program, "python3"), path=ready.bin if ready else "")
        if _found(answer, program):
            return
        if program in (answer.get("exist") or ()) and "/" in program:
            raise UsageError(f"{program} on {name} is not executable: `chmod +x` it, or name its interpreter first.")
        if program == "python" and _found(answer, "python3"):
            raise UsageError(f"there is no program 'python' on {name}, but there is 'python3': use that.")
        raise UsageError(f"there is no program {program!r} on {name}.")

    async def _push(self, project: Project, listing: Listing, run_id: str) -> Pushed:
        if self.dry_run:
            root = f"{self.host.home}/code/{run_id}"
            return Pushed(root, f"{root}/{project.subdirectory}" if project.subdirectory else root)
        return await push(self.host, project, listing, run_id, self.report)

    async def _command_environment(self, ready: EnvironmentReady | None) -> dict[str, str]:
        """`from wavedeck import log` works there without an installation: Python imports from a wheel as it is."""
        wheel = await self._place_wheel()
        env = {"PYTHONPATH": f"{self.python_path}:{wheel}" if self.python_path else wheel}
        if ready is not None:
            env["PATH"] = self._path(ready)
            if ready.root:
                env["VIRTUAL_ENV"] = ready.root
        return env

    async def _place_wheel(self) -> str:
        path = await asyncio.to_thread(build_wheel, self.home.cache / "wheels")
        request = {"op": "wheel", "name": path.name, "digest": wheel_digest(path)[:16]}
        answer = await ask(self.host, SCRIPT, request)
        if answer.get("missing") and not self.dry_run:
            answer = await ask(self.host, SCRIPT, request, {path.name: path.read_bytes()})
        return path_of(self.host, answer, "path")

    # -- both

    async def check_gpus(self, gpus: Sequence[int] | None) -> None:
        """Refuse GPUs that are not there, where nvidia-smi can tell."""
        if not gpus:
            return
        self._tell("looking for its GPUs")
        try:
            done = await self.host.run(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"])
        except HostError:
            return
        found = {int(word) for word in done.stdout.split() if word.isdigit()} if done.status == 0 else set()
        missing = [index for index in gpus if index not in found]
        if found and missing:
            has = ", ".join(map(str, sorted(found)))
            raise UsageError(f"there is no GPU {missing[0]} on {self.host.name}: it has {has}.")

    async def _prepare(self, spec: EnvironmentSpec) -> EnvironmentReady:
        ready = await prepare(self.host, spec, self.report, look_only=self.dry_run)
        self.notices += ready.notices
        return ready

    def _path(self, ready: EnvironmentReady) -> str:
        return f"{ready.bin}:{self.base_path}" if self.base_path else ready.bin

    async def _which(
        self, programs: Sequence[str], *, directories: Sequence[str] = (), path: str = ""
    ) -> Mapping[str, Any]:
        request = {"op": "which", "programs": list(programs), "directories": list(directories), "path": path}
        return await ask(self.host, SCRIPT, request)

    def _tell(self, text: str) -> None:
        self.report(Progress(CHECK, text))


def _whole(root: Path, cwd: Path) -> Project:
    """A directory that holds a project and nothing else."""
    inside = cwd.relative_to(root).as_posix()
    return Project(root, "" if inside == "." else inside, False)


def _found(answer: Mapping[str, Any], program: str) -> bool:
    programs = answer.get("programs")
    return isinstance(programs, dict) and bool(programs.get(program))


def _refuse_foreign(wish: Wish, host: str) -> None:
    """A recipe of a third party is not in Wavedeck's wheel."""
    module = wish.recipe.config.__module__
    if not module.startswith(OURS):
        package = module.partition(".")[0]
        raise UsageError(
            f"{wish.recipe.name} comes with {package}, which Wavedeck cannot install on {host}: install it there "
            "beside `wavedeck[train]`, and name that interpreter with python= in hosts.toml."
        )


def _check_travels(argv: Sequence[str], project: Project, listing: Listing) -> None:
    """Refuse a program of the project that does not exist, or that git ignores and so is not pushed."""
    program = argv[0]
    if "/" not in program or program.startswith("/"):
        return
    here = project.root / project.subdirectory
    if not (here / program).exists():
        raise UsageError(f"there is no {program} in {here}.")
    if not os.access(here / program, os.X_OK):
        raise UsageError(f"{program} is not executable: `chmod +x` it, or name its interpreter first.")
    inside = os.path.normpath(os.path.join(project.subdirectory, program))
    if os.fsencode(inside) not in listing.paths:
        raise UsageError(f"{program} is not pushed: git ignores it, or it lies outside of {project.root}.")


def _words(command: Command) -> tuple[str, ...]:
    """The options of this launch that only another machine has."""
    pushing = () if command.push else ("--no-push", "--cwd", str(command.cwd))
    large = ("--push-large",) if command.push and command.push_large else ()
    return (*pushing, *large, *(("--env", command.env) if command.env != AUTO else ()))
