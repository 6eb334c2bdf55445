"""Whether a crashed training goes on by itself, and as which attempt. Decided by the supervisor, from files alone.

A crash is a signal that nobody asked for, or an exit code that its trainer gave no final word about. Not every end of
that kind is worth another try: a program that is not there, one that somebody interrupted, one that said itself why it
cannot go on, and one that came no further than the time before. What is left is tried again as often as its attempt
allows, with pauses that grow; the record of the next attempt is created exclusively, so that a resume by its user,
wherever it comes from, wins.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .foreign_lines import can_be_named
from .records import sync_directory

TAIL_BYTES = 1 << 20
"""How much of a journal's end is read for the last step."""
MOST_BACKOFF_S = 30.0
MOST_RESTARTS = 100
"""Whatever a record says; more than any front door takes."""
ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
"""Whoever sends these wants the end, though not through Wavedeck."""
FINAL_CODES = (126, 127, *(128 + number for number in ASKED))
"""What shells say of a program that cannot be started, and of one that was interrupted."""
RESUME_FROM = "WAVEDECK_RESUME_FROM"
"""As `engine.planning` has it."""


def next_attempt(
    run_dir: str, attempt: Dict[str, Any], ended: Dict[str, Any]
) -> Tuple[Optional[Dict[str, Any]], Optional[str]]:
    """The record of the attempt that follows a crash, or None; and why there is none, where there could be one.

    Parameters
    ----------
    attempt: the record of the one that has ended. ended: what its exit record is going to say.
    """
    allowed, done = min(_count(attempt, "restarts"), MOST_RESTARTS), _count(attempt, "restarted")
    if not allowed or attempt.get("stage") is not None or not _crashed(ended):
        return None, None
    number = _count(attempt, "attempt")
    reached, last_word = _journal(run_dir, number, float(ended.get("started") or 0.0))
    if last_word is not None:
        return None, last_word
    if done >= allowed:
        return None, "it was restarted {} already".format("once" if done == 1 else "{} times".format(done))
    if done and not _further(attempt, reached):
        place = "before its first step" if reached is None else "at step {}".format(reached)
        return None, "it crashed again {} and came no further than before".format(place)
    backoff_s = min(MOST_BACKOFF_S, max(0.0, float(attempt.get("backoff_s", 2.0))) * 2.0 ** min(done, 10))
    now = time.time()
    record = {key: value for key, value in attempt.items() if key != "checkpoint"}
    record.update(
        attempt=number + 1,
        requested=now,
        resume=True,
        env=_environment(run_dir, attempt),
        restarted=done + 1,
        crash=_words(ended, reached),
        crash_step=reached,
        not_before=now + backoff_s,
    )
    return record, None


def claim(run_dir: str, record: Dict[str, Any]) -> bool:
    """Create the record of an attempt; False when somebody else has asked for it, or the disk refuses."""
    name = "{:04d}.json".format(record["attempt"])
    folder = os.path.join(run_dir, "attempts")
    path, temporary = os.path.join(folder, name), os.path.join(folder, ".{}.{}.tmp".format(name, os.getpid()))
    data = json.dumps(record, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    try:
        _write(temporary, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # exFAT, some network mounts: no hard links there
            _write(path, data)
    except OSError:
        return False
    finally:
        _forget(temporary)
    sync_directory(folder)
    return True


def hand_on(run_dir: str, number: int, environ: Dict[str, str]) -> None:
    """Leave the trainer's environment for the next supervisor, which deletes it first thing. Raises OSError."""
    path = _handed(run_dir, number)
    _forget(path)
    _write(path, json.dumps(environ, ensure_ascii=False).encode("utf-8", "surrogateescape"))


def _handed(run_dir: str, number: int) -> str:
    return os.path.join(run_dir, "attempts", ".env-{:04d}".format(number))


def become(script: str, run_dir: str, number: int, session: Optional[str], environ: Optional[Dict[str, str]]) -> str:
    """Run `script` in place of this process, as the supervisor of another attempt; returns only why it could not."""
    words = [sys.executable, "-IS", script, run_dir, str(number)] + ([session] if session else [])
    try:
        if not os.path.exists(script):
            return "the supervisor's own files are gone: resume the run."
        if environ is not None:
            hand_on(run_dir, number, environ)
            words.append("--env")
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))  # until it listens
        os.execv(words[0], words)
    except OSError as error:
        _forget(_handed(run_dir, number))
        return "the next attempt could not be started ({}): resume the run.".format(error.strerror)


def told(attempt: Dict[str, Any]) -> bytes:
    """What the console says before a restart begins; nothing for an attempt that a user started."""
    if not _count(attempt, "restarted"):
        return b""
    number = _count(attempt, "attempt")
    text = "[wavedeck: attempt {} crashed ({}); attempt {} goes on in {:.0f} s, restart {} of {}]\r\n".format(
        number - 1, attempt.get("crash"), number, wait_s(attempt), attempt.get("restarted"), attempt.get("restarts")
    )
    return text.encode("utf-8", "replace")


def wait_s(attempt: Dict[str, Any]) -> float:
    """Seconds until an attempt may begin; never more than the longest pause, whatever the clock does."""
    due = attempt.get("not_before")
    if not isinstance(due, (int, float)):
        return 0.0
    return min(MOST_BACKOFF_S, max(0.0, due - time.time()))


def _crashed(ended: Dict[str, Any]) -> bool:
    if ended.get("stop_requested") or ended.get("fenced") or ended.get("error"):
        return False
    number, code = ended.get("signal"), ended.get("exit_code")
    if number is not None:
        return number not in ASKED
    return code is not None and code != 0 and code not in FINAL_CODES


def _further(attempt: Dict[str, Any], reached: Optional[int]) -> bool:
    """Whether this restart came further than the attempt before it. Another program may tell no steps at all."""
    before = attempt.get("crash_step")
    if reached is None:
        return before is None and bool(attempt.get("parse_console"))
    return before is None or reached > before


def _journal(run_dir: str, number: int, since: float) -> Tuple[Optional[int], Optional[str]]:
    """The last step of this attempt, and why it is over for good if its trainer said so."""
    reached: Optional[int] = None
    last_word: Optional[str] = None
    for name in ("events.jsonl", "console.jsonl"):
        for event in _events(os.path.join(run_dir, name)):
            if not isinstance(event.get("t"), (int, float)) or event["t"] < since:
                continue
            kind = event.get("k")
            step = event.get("done") if kind == "progress" and event.get("unit") == "step" else event.get("step")
            if kind in ("metrics", "progress", "checkpoint") and _is_step(step):
                reached = max(-1 if reached is None else reached, int(step or 0))
            elif kind == "end" and event.get("attempt") == number:
                last_word = _last_word(event)
    return reached, last_word


def _last_word(event: Dict[str, Any]) -> Optional[str]:
    if event.get("reason") in ("stopped", "finished"):
        return "its trainer was {}".format("stopped" if event["reason"] == "stopped" else "done")
    return "its trainer said why it cannot go on" if event.get("final") else None


def _is_step(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**62


def _events(path: str) -> Iterator[Dict[str, Any]]:
    """The last lines of a journal that are objects."""
    try:
        with open(path, "rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - TAIL_BYTES))
            lines: List[bytes] = handle.read(TAIL_BYTES).split(b"\n")
    except OSError:
        return
    for line in lines[1:] if size > TAIL_BYTES else lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            yield event


def _environment(run_dir: str, attempt: Dict[str, Any]) -> Dict[str, str]:
    """The attempt's own variables; another program's trainer is told its newest checkpoint."""
    env = {str(key): str(value) for key, value in (attempt.get("env") or {}).items() if key != RESUME_FROM}
    paths = [line.get("path") for line in _events(os.path.join(run_dir, "checkpoints", "manifest.jsonl"))]
    known = [path for path in paths if isinstance(path, str) and path and can_be_named(path)]
    if known:
        env[RESUME_FROM] = "{}/{}".format(attempt.get("cwd") or "", known[-1])
    return env


def _words(ended: Dict[str, Any], reached: Optional[int]) -> str:
    """`killed by SIGKILL (out of memory) at step 5`."""
    number = ended.get("signal")
    if number is None:
        words = "exit code {}".format(ended.get("exit_code"))
    else:
        try:
            words = "killed by {}".format(signal.Signals(number).name)
        except ValueError:
            words = "killed by signal {}".format(number)
    words += " (out of memory)" if ended.get("oom_killed") else ""
    return words if reached is None else "{} at step {}".format(words, reached)


def _write(path: str, data: bytes) -> None:
    """A new file for this user's eyes; nothing is left of one that cannot be written whole. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
    except OSError:
        _forget(path)
        raise


def _count(record: Dict[str, Any], key: str) -> int:
    value = record.get(key)
    return min(value, 1 << 30) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
