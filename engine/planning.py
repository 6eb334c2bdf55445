"""From what a user asked for to what is launched: the manifest and first attempt of a new run. Nothing is started here.

Both front doors plan with these functions, so a launch from the form and from the command line are the same launch.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import time
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from .config import Composed, compose
from .errors import UsageError
from .manifest import Attempt, Manifest
from .names import new_run_id
from .provenance import git_state, package_versions, redact_argv
from .recipe import Recipe
from .rundir import Home, RunDir

PATTERNS_FILE = "patterns.toml"
GRACE_S = (15.0, 10.0)


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
class Wish:
    """A training that passed every check but was not given an id or a time yet: cheap enough for every key typed."""

    recipe: Recipe
    composed: Composed
    stage: str | None
    name: str | None
    tags: tuple[str, ...]
    equivalent: tuple[str, ...]

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
) -> Wish:
    """Check what is wished for.

    Raises
    ------
    UsageError: unknown stage, preset or field, or a value that is not allowed.
    """
    if stage is not None:
        recipe.stage(stage)
    composed = compose(recipe, overrides, preset)
    target = f"{recipe.name}.{stage}" if stage else recipe.name
    words = ("wavedeck", "run", target, *composed.arguments, *_common_words(name, tags))
    return Wish(recipe, composed, stage, name, tuple(tags), words)


def _common_words(name: str | None, tags: Sequence[str]) -> tuple[str, ...]:
    named = ("--name", name) if name else ()
    return (*named, *(word for tag in tags for word in ("--tag", tag)))


def plan_recipe(
    home: Home, wish: Wish, *, taken: Collection[str] = (), host: str = "local", now: float | None = None
) -> Plan:
    """Give a checked wish its id, time and provenance. Asks git, so it belongs in a thread of the deck."""
    recipe, composed = wish.recipe, wish.composed
    now = time.time() if now is None else now
    label = wish.name or recipe.name
    run_id = new_run_id(label, now, taken)
    cwd = str(Path.cwd())
    argv = [sys.executable, "-P", "-m", "wavedeck.engine.pipeline", str(home.runs / run_id)]
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
        host=host,
        cwd=cwd,
        git=git_state(cwd),
        packages=package_versions(),
        headline=recipe.headline,
        columns=list(recipe.columns),
        tags=list(wish.tags),
    )
    attempt = Attempt(attempt=1, requested=now, argv=argv, cwd=cwd, grace_s=list(GRACE_S))
    return Plan(manifest, attempt, wish.equivalent)


def plan_command(
    argv: Sequence[str],
    *,
    name: str | None = None,
    cwd: Path | None = None,
    patterns: Sequence[str] = (),
    tags: Sequence[str] = (),
    taken: Collection[str] = (),
    host: str = "local",
    now: float | None = None,
) -> Plan:
    """Plan the supervision of any program.

    Raises
    ------
    UsageError: no command, no such directory, no such program, or a pattern that is no regular expression.
    """
    if not argv:
        raise UsageError("there is no command: put it after `--`, as in `wavedeck exec -- python train.py`.")
    directory = (cwd or Path.cwd()).absolute()
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory.")
    _check_program(argv[0], directory)
    check_patterns(patterns)
    now = time.time() if now is None else now
    label = name or _command_label(argv)
    run_id = new_run_id(label, now, taken)
    manifest = Manifest(
        id=run_id,
        name=label,
        created=now,
        command=redact_argv(argv),
        host=host,
        cwd=str(directory),
        git=git_state(str(directory)),
        tags=list(tags),
    )
    attempt = Attempt(
        attempt=1,
        requested=now,
        argv=list(argv),
        cwd=str(directory),
        grace_s=list(GRACE_S),
        parse_console=True,
        patterns=list(patterns),
    )
    place = ("--cwd", str(cwd)) if cwd else ()
    words = ("wavedeck", "exec", *_common_words(name, tags), *place, "--", *manifest.command)
    return Plan(manifest, attempt, words)


def _check_program(program: str, directory: Path) -> None:
    if os.sep in program:
        path = directory / program
        if not path.exists():
            raise UsageError(f"there is no {program} in {directory}.")
        if not os.access(path, os.X_OK) or path.is_dir():
            raise UsageError(f"{program} is not executable: `chmod +x` it, or name its interpreter first.")
    elif shutil.which(program) is None:
        raise UsageError(f"there is no program {program!r} on the PATH.")


def _command_label(argv: Sequence[str]) -> str:
    """The script's name rather than the interpreter's: `python -u train.py` is `train`, `python -m pkg.fit` is `fit`"""
    for before, word in zip(("", *argv), argv, strict=False):
        if before == "-m":
            return word.rsplit(".", 1)[-1]
        if word.endswith((".py", ".sh")):
            return Path(word).stem
    return Path(argv[0]).stem


def load_patterns(home: Home, path: Path | None = None) -> list[str]:
    """The user's own console patterns: `patterns = ['loss is (?P<loss>\\S+)', …]` in a TOML file.

    Without `path`, `$WAVEDECK_HOME/patterns.toml` where it exists.

    Raises
    ------
    UsageError: the file cannot be read, is no TOML, or holds no list of regular expressions with named groups.
    """
    chosen = path or home.root / PATTERNS_FILE
    if path is None and not chosen.exists():
        return []
    try:
        table = tomllib.loads(chosen.read_text())
    except OSError as error:
        raise UsageError(f"{chosen} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{chosen} is no TOML: {error}.") from error
    patterns = table.get("patterns")
    if not isinstance(patterns, list) or not all(isinstance(item, str) for item in patterns):
        raise UsageError(f"{chosen} needs a line `patterns = ['…', '…']` with regular expressions.")
    check_patterns(patterns)
    return patterns


def check_patterns(patterns: Sequence[str]) -> None:
    """Refuse what is no regular expression or names no group: a group's name is the metric's name."""
    for pattern in patterns:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise UsageError(f"pattern {pattern!r} is no regular expression: {error}.") from error
        if not compiled.groupindex:
            raise UsageError(f"pattern {pattern!r} names no group: write (?P<loss>…) around the number.")


def plan_resume(run: RunDir, manifest: Manifest, last: Attempt, now: float | None = None) -> Attempt:
    """The next attempt of a run: the same command again, told to go on from its newest whole checkpoint."""
    return Attempt(
        attempt=last.attempt + 1,
        requested=time.time() if now is None else now,
        argv=last.argv,
        cwd=last.cwd,
        env=last.env,
        grace_s=last.grace_s,
        parse_console=last.parse_console,
        patterns=last.patterns,
        resume=True,
        columns=last.columns,
        rows=last.rows,
    )
