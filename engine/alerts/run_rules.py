"""What may befall a run: it crashes, vanishes, falls silent, computes NaN, or is done."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator

from ..format import ago, duration, number
from ..run_view import RunView
from ..state import RunState, describe_end
from .alert import Alert, Severity, make_alert
from .evidence import Evidence
from .rules import RECENT_S, Kind, Memory, Said

VANISHED_S = 5.0
"""For so long it must be gone: the record of its end may still be on its way."""
TAIL_LINES = 3
METRICS_NAMED = 3
DOUBLED_S = 30.0
"""A host that comes back is fenced at once, and a trainer that saves before it ends takes a while."""
MOST_SPOKEN = 20
"""Alerts of its own that are passed on from one attempt of a run."""
_NUMBER = re.compile(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?", re.IGNORECASE)
_SPOKEN = {"warning": Severity.WARNING, "error": Severity.ERROR, "critical": Severity.ERROR}


def ended(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """It failed or was killed, with exit code, reason and last lines; over once it goes on or is done after all."""
    for view in evidence.runs:
        if view.moved_to is not None:
            yield from _goes_on(view, evidence, memory)
            continue  # it went on elsewhere: how what was left of it ended is no news
        if view.state in (RunState.FAILED, RunState.KILLED):
            yield Said(Kind.PROBLEM, _crash(view, evidence.now), happened=_when(view, evidence))
        elif view.state is RunState.VANISHED:
            where = "" if view.host == "local" else f" on {view.host}"
            alert = make_alert(
                f"vanished/{view.id}/{view.attempt or 0}", Severity.ERROR, f"{view.name} has vanished{where}",
                [f"{_reach(view)}: there is neither a process nor a record of its end.",
                 f"The machine was rebooted, or its processes were killed: `wavedeck resume {view.id}` goes on."],
                t=evidence.now, run=view.id, host=view.host,
            )  # fmt: skip
            yield Said(Kind.PROBLEM, alert, after_s=VANISHED_S, happened=_when(view, evidence))
        elif view.state is RunState.FINISHED:
            yield Said(Kind.NEWS, _done(view, evidence.now), happened=_when(view, evidence))
        yield from _goes_on(view, evidence, memory)


def _crash(view: RunView, now: float) -> Alert:
    exit_ = view.exit
    how = describe_end(exit_) or "no exit code is known"
    memory = bool(exit_ and exit_.oom_killed)
    verb = "ran out of memory" if memory else "crashed"
    where = "" if view.host == "local" else f" on {view.host}"
    lines = [line for line in (exit_.tail if exit_ else []) if line.strip()][-TAIL_LINES:]
    return make_alert(
        f"crashed/{view.id}/{view.attempt or 0}", Severity.ERROR, f"{view.name} {verb}{where}: {how}",
        [_reach(view), *lines], t=now, run=view.id, host=view.host,
    )  # fmt: skip


def _done(view: RunView, now: float) -> Alert:
    took = None if view.started is None or view.ended is None else view.ended - view.started
    facts = [_reach(view) + (f" after {duration(took)}" if took is not None else "")]
    if view.best is not None:
        metric, value, step = view.best
        facts.append(f"best {metric} {number(value)}" + ("" if step is None else f" at step {step:,}"))
        last = (view.last or {}).get(metric)
        if last is not None:
            facts[-1] += f", last {number(last)}"
    title = f"{view.name} is finished" + (f": {view.best[0]} {number(view.best[1])}" if view.best else "")
    return make_alert(
        f"finished/{view.id}/{view.attempt or 0}", Severity.INFO, title, facts, t=now, run=view.id, host=view.host
    )


def _goes_on(view: RunView, evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """The end of an attempt is over once the run lives again or has ended well; said once, however many there were.

    A crash whose record came after "vanished" was said, or of the next attempt, takes its place without a word.
    """
    keys = [*memory.open_keys(f"crashed/{view.id}/"), *memory.open_keys(f"vanished/{view.id}/")]
    if view.state in (RunState.FAILED, RunState.KILLED):
        for key in keys:
            if key != f"crashed/{view.id}/{view.attempt or 0}":
                yield Said(Kind.FINE, _over(key, "", "", evidence.now, view), quiet=True)
    elif view.state in (RunState.RUNNING, RunState.STALLED, RunState.FINISHED, RunState.STOPPED):
        words = f"{view.name} goes on" if view.state.active else f"{view.name} has ended: {view.state}"
        text = _reach(view) + (f", attempt {view.attempt}" if view.attempt else "")
        told = False
        for key in keys:
            yield Said(Kind.FINE, _over(key, words, text, evidence.now, view), quiet=told)
            told = told or key in memory.open


def stalled(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """It lives and has been silent for much longer than its usual rhythm."""
    for view in evidence.runs:
        key = f"stalled/{view.id}/{view.attempt or 0}"
        if view.state is RunState.STALLED:
            since = "" if view.last_sign is None else f" The last sign came {ago(view.last_sign, evidence.now)}."
            alert = make_alert(
                key, Severity.WARNING, f"{view.name} is silent",
                f"{_reach(view)}. Its process lives, but writes nothing any more.{since}",
                t=evidence.now, run=view.id, host=view.host,
            )  # fmt: skip
            yield Said(Kind.PROBLEM, alert)
        elif view.state not in (RunState.UNREACHABLE, RunState.UNREADABLE):
            words = f"{view.name} speaks again" if view.state is RunState.RUNNING else f"{view.name} is {view.state}"
            for old in memory.open_keys(f"stalled/{view.id}/"):
                yield Said(Kind.FINE, _over(old, words, _reach(view), evidence.now, view))


def not_finite(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """A metric is NaN or infinite; over once all of them are numbers again."""
    for view in evidence.runs:
        if not view.state.active:
            continue
        key = f"nan/{view.id}/{view.attempt or 0}"
        bad = {name: value for name, value in (view.last or {}).items() if not math.isfinite(value)}
        if bad:
            shown = ", ".join(f"{name} {number(value)}" for name, value in list(bad.items())[:METRICS_NAMED])
            more = f" and {len(bad) - METRICS_NAMED} more" if len(bad) > METRICS_NAMED else ""
            grave = any("loss" in name.lower() for name in bad)
            alert = make_alert(
                key, Severity.ERROR if grave else Severity.WARNING,
                f"{view.name}: {next(iter(bad))} is {number(next(iter(bad.values())))}",
                [f"{_reach(view)}: {shown}{more}."], t=evidence.now, run=view.id, host=view.host,
            )  # fmt: skip
            yield Said(Kind.PROBLEM, alert)
            continue
        yield Said(Kind.FINE, _over(key, f"{view.name} computes numbers again", _reach(view), evidence.now, view))
        before = memory.nans.get(view.id)
        count = sum((view.nan_counts or {}).values())
        if before is not None and count > before and key not in memory.open:
            names = ", ".join(list(view.nan_counts or {})[:METRICS_NAMED])
            alert = make_alert(
                f"nan-passed/{view.id}/{view.attempt or 0}", Severity.WARNING,
                f"{view.name}: a value was not finite",
                f"{_reach(view)}: {count - before} of {names}; the newest values are numbers again.",
                t=evidence.now, run=view.id, host=view.host,
            )  # fmt: skip
            yield Said(Kind.NEWS, alert)


def doubled(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """A run goes on elsewhere, and its old trainer still lives: two copies of one training."""
    for view in evidence.runs:
        key = f"doubled/{view.id}"
        if view.doubled:
            where = view.moved_host or "another host"
            alert = make_alert(
                key, Severity.ERROR, f"{view.name} is being trained twice: on {view.host} and on {where}",
                [f"{view.id} is {view.state} on {view.host} ({_reach(view)}), though {view.moved_to} goes on in its "
                 f"place on {where}.", f"`wavedeck stop {view.id}` ends the one that is too many."],
                t=evidence.now, run=view.id, host=view.host,
            )  # fmt: skip
            yield Said(Kind.PROBLEM, alert, after_s=DOUBLED_S)
        elif key in memory.open and view.state not in (RunState.UNREACHABLE, RunState.UNREADABLE):
            yield Said(Kind.FINE, _over(key, f"{view.name} is trained only once again", "", evidence.now, view))


def spoken(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """What a trainer itself raised as an alert: each kind of sentence once an attempt, and so many at most."""
    for view in evidence.runs:
        loud = [notice for notice in view.notices if notice.rule and notice.level in _SPOKEN]
        if not loud or (not view.state.active and _when(view, evidence) < (memory.looked or math.inf) - RECENT_S):
            continue
        before = f"trainer/{view.id}/{view.attempt or 0}/"
        known = set(memory.open_keys(before))
        for notice in loud:
            # The same sentence with the numbers of another step is the same sentence.
            words = f"{notice.rule}\0{_NUMBER.sub('#', notice.text)}"
            key = f"{before}{zlib.crc32(words.encode()):08x}"
            if key in known or len(known) >= MOST_SPOKEN:
                continue
            known.add(key)
            alert = make_alert(
                key, _SPOKEN[notice.level], f"{view.name}: {notice.text}",
                [f"{_reach(view)}; said by its trainer ({notice.rule}).",
                 "That was the last one passed on of this attempt." if len(known) == MOST_SPOKEN else ""],
                t=evidence.now, run=view.id, host=view.host,
            )  # fmt: skip
            yield Said(Kind.NEWS, alert, happened=_here(notice.t, view, evidence))


def _over(key: str, title: str, text: str, now: float, view: RunView) -> Alert:
    return make_alert(key, Severity.INFO, title, text, t=now, run=view.id, host=view.host, recovered=True)


def _reach(view: RunView) -> str:
    """How far it is: `step 1,200, epoch 3`."""
    if view.step is None:
        return f"{view.what}, no step yet"
    return f"step {view.step:,}" + ("" if view.epoch is None else f", epoch {number(view.epoch)}")


def _when(view: RunView, evidence: Evidence) -> float:
    """When it ended, by this machine's clock."""
    return _here(view.ended or view.last_sign or view.created or 0.0, view, evidence)


def _here(then: float, view: RunView, evidence: Evidence) -> float:
    """A time of a run by this machine's clock: what a run elsewhere wrote down has the clock of its host."""
    host = evidence.host(view.host)
    skew = (host.skew_s if host is not None else None) or 0.0
    return then - skew if view.is_copy else then


RULES = (ended, doubled, stalled, not_finite, spoken)
