"""From what a user asked for to what is launched: the manifest and first attempt of a new run. Nothing is started here.

Both front doors plan with these functions, so a launch from the form and from the command line are the same launch.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from .batch_view import batch_ids
from .checkpoints import CheckpointLine, best, latest, read_checkpoints
from .config import Composed, compose
from .config.sweep import read_line
from .errors import UsageError
from .format import plain
from .hosts import LOCAL
from .manifest import Attempt, GitState, Headline, Manifest
from .names import new_run_id
from .patterns import check_patterns
from .programs import check_program, command_label
from .provenance import git_state, package_versions, redact_argv
from .recipe import Recipe, load_object
from .rundir import Home, RunDir

GRACE_S = (15.0, 10.0)
RECIPE_RESTARTS = 2
"""How often a recipe's training goes on by itself after a crash; a foreign program's does where its user says so."""
RESUME_FROM = "WAVEDECK_RESUME_FROM"
"""In the environment of a foreign trainer that is resumed: its newest checkpoint as far as known, an absolute path."""
NO_GPU = "none"
"""What `--gpus` says for a run that is to see no GPU."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that could be launched: everything is checked, nothing is written.

    `equivalent`: the command line that launches the same, with secrets of a foreign command masked.
    """

    manifest: Manifest
    attempt: Attempt
    equivalent: tuple[str, ...]

    @property
    def run_id(self) -> str:
        """Id of the run to be."""
        return self.manifest.id

    @property
    def command_line(self) -> str:
        """`equivalent` as one shell line."""
        return shlex.join(self.equivalent)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is to live when that is another machine. All paths are absolute and are there."""

    host: str
    runs: str
    """The directory of its runs."""
    python: str
    """The interpreter that recipes run with."""
    cwd: str
    env: Mapping[str, str] = field(default_factory=dict)
    """What its trainer needs in its environment; it is saved with the attempt, so nothing secret."""
    price_per_hour: float | None = None
    run_id: str | None = None
    """The id under which its code lies there already; None for a fresh one."""
    code: Path | None = None
    """The directory here whose code was pushed there; None when nothing was."""
    words: tuple[str, ...] = ()
    """Options of the command line that were given for this place."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A training that passed every check but was not given an id or a time yet: cheap enough for every key typed."""

    recipe: Recipe
    composed: Composed
    stage: str | None
    name: str | None
    tags: tuple[str, ...]
    equivalent: tuple[str, ...]
    host: str = LOCAL
    gpus: tuple[int, ...] | None = None

    @property
    def command_line(self) -> str:
        """The command that launches the same, as one shell line."""
        return shlex.join(self.equivalent)


def check_recipe(
    recipe: Recipe,
    overrides: Sequence[str] = (),
    *,
    stage: str | None = None,
    preset: str | None = None,
    name: str | None = None,
    tags: Sequence[str] = (),
    host: str = LOCAL,
    gpus: tuple[int, ...] | None = None,
    here: bool = True,
) -> Wish:
    """Check what is wished for.

    Parameters
    ----------
    gpus: indices of the GPUs it may use; none of them with `()`, all with None.
    here: False where the files it reads are on another machine than this, although `host` does not say so.

    Raises
    ------
    UsageError: unknown stage, preset or field, a value that is not allowed, or what the recipe's own check refuses.
    """
    if stage is not None:
        recipe.stage(stage)
    composed = compose(recipe, read_line(recipe, overrides, preset).overrides, preset)
    if recipe.check is not None:
        load_object(recipe.check)(composed.config, stage, here and host == LOCAL)
    target = f"{recipe.name}.{stage}" if stage else recipe.name
    words = ("wavedeck", "run", target, *composed.arguments, *_common_words(name, tags), *_place_words(host, gpus))
    return Wish(recipe, composed, stage, name, tuple(tags), words, host, gpus)


def _common_words(name: str | None, tags: Sequence[str]) -> tuple[str, ...]:
    named = ("--name", name) if name else ()
    return (*named, *(word for tag in tags for word in ("--tag", tag)))


def _place_words(host: str, gpus: Sequence[int] | None) -> tuple[str, ...]:
    there = ("--host", host) if host != LOCAL else ()
    chosen = () if gpus is None else ("--gpus", ",".join(map(str, gpus)) or NO_GPU)
    return (*there, *chosen)


def parse_gpus(text: str | None) -> tuple[int, ...] | None:
    """`0,1` as indices; `none` is no GPU at all, and nothing said is all of them (None).

    Raises
    ------
    UsageError: it is neither, or an index stands there twice.
    """
    if text is None or not text.strip():
        return None
    words = [word.strip() for word in text.split(",")]
    if words == [NO_GPU]:
        return ()
    if not all(word.isascii() and word.isdecimal() and len(word) <= 3 for word in words):
        raise UsageError(f"--gpus {plain(text, 80)} is no list of indices: write `--gpus 0,1`, or `--gpus none`.")
    indices = tuple(int(word) for word in words)
    if len(set(indices)) < len(indices):
        raise UsageError(f"--gpus {plain(text, 80)} names a GPU twice.")
    return indices


def gpu_environment(gpus: Sequence[int] | None) -> dict[str, str]:
    """The variables that show a program these GPUs only, counted as `nvidia-smi` counts them."""
    if gpus is None:
        return {}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))}


@dataclass(frozen=True, slots=True)
class Code:
    """The code that a run is launched with: what git says of it, and the versions of packages."""

    git: GitState | None
    packages: Mapping[str, str]

    @classmethod
    def here(cls) -> Code:
        """The code of this directory. Asks git, which takes a moment."""
        return cls(git_state(Path.cwd()), package_versions())


def plan_recipe(
    home: Home,
    wish: Wish,
    *,
    taken: Collection[str] = (),
    place: Place | None = None,
    now: float | None = None,
    batch: str | None = None,
    code: Code | None = None,
) -> Plan:
    """Give a checked wish its id, time and provenance. Asks git, so it belongs in a thread of the deck.

    Parameters
    ----------
    taken: ids of the runs that are there; of batches it knows itself.
    place: where it is to run when that is another machine; git and package versions stay those of the code here.
    batch: the batch it belongs to.
    code: what is known of the code already.
    """
    if wish.host != (place.host if place else LOCAL):
        raise UsageError(f"this training is wished for on {wish.host}: its environment there comes first.")
    recipe, composed = wish.recipe, wish.composed
    now = time.time() if now is None else now
    label = wish.name or recipe.name
    if batch is None:  # one that is of a batch was given words of its own together with it
        taken = [*taken, *batch_ids(home)]
    run_id = (place.run_id if place else None) or new_run_id(label, now, taken)
    code = code or Code.here()
    cwd = place.cwd if place else str(Path.cwd())
    python, runs = (place.python, place.runs) if place else (sys.executable, str(home.runs))
    argv = [python, "-P", "-m", "wavedeck.engine.pipeline", f"{runs}/{run_id}"]
    manifest = Manifest(
        id=run_id,
        name=label,
        created=now,
        recipe=recipe.name,
        stage=wish.stage,
        preset=composed.preset,
        overrides=composed.overrides,
        command=argv,
        config=composed.resolved,
        signature=composed.signature,
        host=wish.host,
        cwd=cwd,
        git=code.git,
        packages=dict(code.packages),
        headline=recipe.headline,
        columns=list(recipe.columns),
        price_per_hour=place.price_per_hour if place else None,
        gpus=list(wish.gpus or ()),
        tags=list(wish.tags),
        batch=batch,
    )
    env = {**(place.env if place else {}), **gpu_environment(wish.gpus)}
    attempt = Attempt(
        attempt=1, requested=now, argv=argv, cwd=cwd, env=env, grace_s=list(GRACE_S), restarts=RECIPE_RESTARTS
    )
    return Plan(manifest, attempt, wish.equivalent)


def plan_command(
    argv: Sequence[str],
    *,
    name: str | None = None,
    cwd: Path | None = None,
    patterns: Sequence[str] = (),
    tags: Sequence[str] = (),
    taken: Collection[str] = (),
    gpus: tuple[int, ...] | None = None,
    place: Place | None = None,
    now: float | None = None,
) -> Plan:
    """Plan the supervision of any program.

    Parameters
    ----------
    gpus: indices of the GPUs it may use; none of them with `()`, all with None.
    place: where it is to run when that is another machine; its program and directory were looked for there.

    Raises
    ------
    UsageError: no command, no such directory, no such program, or a pattern that is no regular expression.
    """
    if not argv:
        raise UsageError("there is no command: put it after `--`, as in `wavedeck exec -- python train.py`.")
    directory = (cwd or Path.cwd()).absolute()
    if place is None:
        if not directory.is_dir():
            raise UsageError(f"{directory} is not a directory.")
        check_program(argv[0], directory)
    check_patterns(patterns)
    now = time.time() if now is None else now
    label = name or command_label(argv)
    run_id = (place.run_id if place else None) or new_run_id(label, now, taken)
    code = place.code if place else directory
    manifest = Manifest(
        id=run_id,
        name=label,
        created=now,
        command=redact_argv(argv),
        host=place.host if place else LOCAL,
        cwd=place.cwd if place else str(directory),
        git=git_state(str(code)) if code else None,
        price_per_hour=place.price_per_hour if place else None,
        gpus=list(gpus or ()),
        tags=list(tags),
    )
    attempt = Attempt(
        attempt=1,
        requested=now,
        argv=list(argv),
        cwd=manifest.cwd or "/",
        env={**(place.env if place else {}), **gpu_environment(gpus)},
        grace_s=list(GRACE_S),
        parse_console=True,
        patterns=list(patterns),
    )
    where = (*_place_words(manifest.host, gpus), *(place.words if place else ()))
    where += ("--cwd", str(cwd)) if cwd else ()
    words = ("wavedeck", "exec", *_common_words(name, tags), *where, "--", *manifest.command)
    return Plan(manifest, attempt, words)


def with_restarts(plan: Plan, restarts: int | None) -> Plan:
    """The same plan, going on by itself after a crash so many times; None leaves what is usual."""
    if restarts is None or restarts == plan.attempt.restarts:
        return plan
    at = plan.equivalent.index("--") if "--" in plan.equivalent else len(plan.equivalent)
    words = (*plan.equivalent[:at], "--restarts", str(restarts), *plan.equivalent[at:])
    return replace(plan, attempt=msgspec.structs.replace(plan.attempt, restarts=restarts), equivalent=words)


def plan_resume(run: RunDir, manifest: Manifest, last: Attempt, now: float | None = None) -> Attempt:
    """The next attempt of a run: the same command again, told to go on from its newest whole checkpoint."""
    return Attempt(
        attempt=last.attempt + 1,
        requested=time.time() if now is None else now,
        argv=last.argv,
        cwd=last.cwd,
        env=resume_environment(run, last),
        grace_s=last.grace_s,
        parse_console=last.parse_console,
        patterns=last.patterns,
        resume=True,
        restarts=last.restarts,
        backoff_s=last.backoff_s,
        columns=last.columns,
        rows=last.rows,
    )


def resume_environment(run: RunDir, last: Attempt) -> dict[str, str]:
    """The variables of the attempt before; a foreign trainer is told its newest file anew."""
    env = {name: value for name, value in last.env.items() if name != RESUME_FROM}
    newest = latest([line for line in read_checkpoints(run.checkpoint_manifest) if line.path is not None])
    return env if newest is None else {**env, RESUME_FROM: f"{last.cwd}/{newest.path}"}


def plan_evaluation(
    run: RunDir,
    manifest: Manifest,
    last: Attempt,
    *,
    stage: str,
    checkpoint: str,
    after: str | None = None,
    now: float | None = None,
) -> Attempt:
    """An attempt that only judges a checkpoint; a later resume goes on with the training, not with this.

    `after` is the state the run is in: a training that was stopped stays one, however its evaluation ended.
    """
    planned = plan_resume(run, manifest, last, now)
    after = last.after if last.after is not None else after
    return msgspec.structs.replace(planned, resume=False, stage=stage, checkpoint=checkpoint, after=after)


def choose_checkpoint(lines: Sequence[CheckpointLine], wanted: str, headline: Headline | None) -> CheckpointLine:
    """The checkpoint that `best`, `last`, a step or a file's name means.

    Raises
    ------
    UsageError: there is no such checkpoint; the sentence names those there are.
    """
    if not lines:
        raise UsageError("this run has no checkpoint to evaluate yet.")
    if wanted in ("best", "last"):
        found = (best(lines, headline) if wanted == "best" and headline is not None else None) or latest(lines)
    else:
        step = int(wanted) if wanted.isascii() and wanted.isdecimal() and len(wanted) < 19 else None
        found = next((line for line in reversed(lines) if line.name == wanted or line.step == step), None)
    if found is None:
        steps = ", ".join(str(line.step) for line in lines[-8:])
        raise UsageError(f"there is no checkpoint {plain(wanted, 60)!r}: use best, last or one of the steps {steps}.")
    return found
