"""What runs inside a recipe run's own process: `python -m wavedeck.engine.pipeline RUN_DIR`.

It reads the manifest, rebuilds the config and runs one stage, or the recipe's whole pipeline, each stage a `phase`.
The journal gets a `start` with the number of the attempt and, whatever happens short of SIGKILL, an `end` with its
reason: `finished`, `failed` (and a sentence), or `stopped`.

Exit codes
----------
0: finished; or stopped because a stop was asked for (`stop.json`), in which case the supervisor's record says so.
1: failed. A `WavedeckError` prints its sentence alone; anything else prints its traceback, for the console.
2: not called with one run directory.
130: interrupted by a signal that nobody asked for through Wavedeck (Ctrl-C in the attached console, a machine shutting
     down). Not 0: a run cut short must not look finished.

How a stage is stopped: SIGINT raises KeyboardInterrupt, as ever in Python, and so does SIGTERM, unless an interruption
is under way already: the supervisor's second signal must not cut short the saving that its first one started. A stage
that takes the signals itself saves and then raises KeyboardInterrupt. A stop asked for while a stage comes to its
end by itself keeps the next one from starting; after the last there is nothing left to stop: the run is finished.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from .config import from_resolved
from .context import Context, default_threads
from .errors import ExitCode, UsageError, WavedeckError
from .files import write_atomic
from .hosts import LOCAL
from .logger import RUN_DIR_VARIABLE, EventWriter, is_main_process
from .manifest import Attempt, GitState, Manifest, StopRequest, read_manifest, read_record
from .provenance import environment_text, git_state
from .recipe import Recipe, Stage, load_object, load_recipe
from .rundir import Home, RunDir

ATTEMPT_VARIABLE = "WAVEDECK_ATTEMPT"
THREADS_VARIABLES = ("WAVEDECK_THREADS", "OMP_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: the reason for the journal, the process's exit code, and a sentence when it failed."""

    reason: str
    exit_code: int
    text: str | None = None
    final: bool = False
    """A failure that another attempt would only meet again: the supervisor then starts none by itself."""


class _Interruption:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt; a SIGTERM during one is only the supervisor's reminder."""

    def __init__(self) -> None:
        self._under_way = False

    def install(self) -> None:
        """Take both signals; SIGINT even where a shell started us in the background and had it ignored."""
        signal.signal(signal.SIGINT, self._raise)
        signal.signal(signal.SIGTERM, self._raise)

    def _raise(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGTERM and self._under_way:
            return
        self._under_way = True
        raise KeyboardInterrupt


class _SilentWriter(EventWriter):
    """The journal of every rank but 0: the same calls, no lines."""

    def _append(self, line: str) -> None:
        return


def main(argv: list[str] | None = None) -> int:
    """Run what the manifest in the one given directory says; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        print("usage: python -m wavedeck.engine.pipeline RUN_DIR", file=sys.stderr)
        return ExitCode.USAGE
    run = RunDir(Path(arguments[0]).absolute())
    if not run.path.is_dir():
        print(f"{run.path} is not a run directory.", file=sys.stderr)
        return ExitCode.FAILED
    os.environ[RUN_DIR_VARIABLE] = str(run.path)
    return run_directory(run)


def run_directory(run: RunDir) -> int:
    """One attempt at a run, from its `start` to its `end`; returns the exit code."""
    journal = EventWriter(run.events) if is_main_process() else _SilentWriter(run.events)
    number = 0
    try:
        _Interruption().install()
        attempt = _attempt(run)
        number = attempt.attempt
        journal.write("start", attempt=number)
        _limit_threads()
        outcome = _run(run, journal, attempt)
    except KeyboardInterrupt:
        outcome = _stopped(run, number)
    except WavedeckError as error:
        print(error, file=sys.stderr)
        outcome = Outcome("failed", ExitCode.FAILED, str(error), final=True)
    except SystemExit as error:
        outcome = _exited(error)
    except BaseException as error:
        traceback.print_exc()
        outcome = Outcome("failed", ExitCode.FAILED, _first_line(error))
    details: dict[str, Any] = {"text": outcome.text} if outcome.text else {}
    if outcome.final:
        details["final"] = True
    journal.write("end", reason=outcome.reason, attempt=number, **details)
    return outcome.exit_code


def _run(run: RunDir, journal: EventWriter, attempt: Attempt) -> Outcome:
    manifest = read_manifest(run.manifest)
    recipe = _recipe(manifest)
    reason = load_object(recipe.outdated)(manifest.config) if recipe.outdated is not None else None
    if reason is not None:
        raise UsageError(reason)
    config: Any = from_resolved(recipe.config, manifest.config)
    data_root = Home.default().data / recipe.name
    context = Context(run, data_root, resume=attempt.resume, attempt=attempt.attempt, checkpoint=attempt.checkpoint)
    context.journal = journal
    if is_main_process():
        _write_surroundings(run, manifest, context)
    only = attempt.stage or manifest.stage
    stages = recipe.stages if only is None else (recipe.stage(only),)
    begun = False
    for stage in stages:
        if only is None and _is_done(stage, config, data_root):
            context.say(f"{stage.name}: already done, skipped.")
            continue
        if begun and _stop_requested(run, attempt.attempt):
            return _stopped(run, attempt.attempt)
        begun = True
        context.phase(stage.name)
        _call(stage, config, context)
    return Outcome("finished", ExitCode.OK)


def _write_surroundings(run: RunDir, manifest: Manifest, context: Context) -> None:
    """`config.yaml` and `environment.txt` beside the run, once: for whoever wants to repeat it without Wavedeck.

    A run that waited, or is resumed, may find other code than it was planned with: that is said, and written down.
    """
    from omegaconf import OmegaConf

    code, changed = _code(manifest)
    if changed:
        context.say(f"the code is not what this run was planned with: {code}.", level="warning")

    def environment() -> str:
        head, _, rest = environment_text().partition("\n")
        return f"{head}{f'; code: {code}' if code else ''}\n{rest}"

    for name, text in (
        ("config.yaml", lambda: OmegaConf.to_yaml(OmegaConf.create(manifest.config))),
        ("environment.txt", environment),
    ):
        with contextlib.suppress(OSError):  # a full disk is no reason not to train
            if not (run.path / name).exists():
                write_atomic(run.path / name, text().encode())


def _code(manifest: Manifest) -> tuple[str, bool]:
    """The code of a run of this machine now, in words, and whether it is known to differ from what was planned with.

    Where the manifest knows none, and on other hosts, where the code may lie in no repository, nothing is said.
    """
    planned = manifest.git
    if planned is None or manifest.host != LOCAL or manifest.cwd is None:
        return "", False
    now = git_state(manifest.cwd)
    if now is None:
        return f"commit {_words(planned)} when it was planned, no repository now", False
    if now.commit == planned.commit and (planned.dirty or not now.dirty):
        return f"commit {_words(now)}", False
    return f"commit {_words(now)} now, {_words(planned)} when it was planned", True


def _words(git: GitState) -> str:
    return git.commit + (" with changes" if git.dirty else "")


def _recipe(manifest: Manifest) -> Recipe:
    if manifest.recipe is None:
        raise UsageError("this run is a foreign command, not a recipe: there is no pipeline to run.")
    return load_recipe(manifest.recipe)


def _call(stage: Stage, config: Any, context: Context) -> None:
    """Run one stage; one that leaves through `sys.exit(0)` is done, and the next one follows."""
    function = stage.load()
    try:
        function(config, context)
    except SystemExit as error:
        if error.code not in (None, 0):
            raise


def _is_done(stage: Stage, config: Any, data_root: Path) -> bool:
    return stage.is_done is not None and bool(load_object(stage.is_done)(config, data_root))


def _attempt(run: RunDir) -> Attempt:
    """The attempt this process is; without the supervisor's variable, the first.

    A missing record is no reason not to run (somebody runs the command by hand): it then starts from scratch.
    """
    text = os.environ.get(ATTEMPT_VARIABLE, "1")
    if not text.isdecimal():
        raise UsageError(f"{ATTEMPT_VARIABLE}={text}: expected a whole number.")
    number = int(text)
    record = read_record(run.attempt(number), Attempt)
    return record or Attempt(attempt=number, requested=0.0, argv=sys.argv, cwd=str(Path.cwd()))


def _limit_threads() -> None:
    """Set the number of OpenMP threads before torch or numpy read it; a user's own OMP_NUM_THREADS is kept."""
    ours, theirs = THREADS_VARIABLES
    text = os.environ.get(ours, "1")
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{ours}={text}: expected a whole number ≥ 1.")
    if ours in os.environ or theirs not in os.environ:
        os.environ[theirs] = str(default_threads())


def _stop_requested(run: RunDir, attempt: int) -> bool:
    request = read_record(run.stop, StopRequest)
    return request is not None and request.attempt == attempt


def _stopped(run: RunDir, attempt: int) -> Outcome:
    asked = _stop_requested(run, attempt)
    return Outcome("stopped", ExitCode.OK if asked else ExitCode.INTERRUPTED)


def _exited(exit_: SystemExit) -> Outcome:
    """A stage that called `sys.exit` with a code or a message: both mean failure."""
    if isinstance(exit_.code, int):
        return Outcome("failed", exit_.code, f"the stage exited with code {exit_.code}", final=True)
    print(exit_.code, file=sys.stderr)
    return Outcome("failed", ExitCode.FAILED, str(exit_.code), final=True)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
