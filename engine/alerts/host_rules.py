"""What may befall a host: it falls silent, shows another key, refuses, fills its disk, is taken back."""

from __future__ import annotations

from collections.abc import Iterator

from ..format import clock, duration, percent, size
from ..hosts import HostView, LinkState
from .alert import Alert, Severity, make_alert
from .evidence import Evidence
from .rules import Kind, Memory, Said

SILENT_S = 30.0
DISK_SHARE, DISK_BYTES = 0.10, 10 << 30
"""Both: a tenth of 8 TB is no trouble, and neither is 10 GiB of a small disk that is half empty."""
DISK_LAST_SHARE, DISK_LAST_BYTES = 0.02, 1 << 30
"""Either, as in the agent's own notice: the next checkpoint may not fit."""
DISK_WELL = 1.2
"""So many times the limits it must be for the problem to be over, or a disk at the limit would come and go."""
ENDS_S, ENDS_LAST_S = 3600.0, 600.0
RUNS_NAMED = 5


def unreachable(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """It has been silent for half a minute; once, with the runs whose state nobody knows now."""
    for host in evidence.hosts:
        key = f"unreachable/{host.name}"
        if host.link.up and host.link is not LinkState.SLOW:
            yield _fine(key, f"{host.name} answers again", _was_away(key, evidence, memory), evidence, host)
        elif not _silent(host, memory):
            continue
        elif host.heard is None or evidence.now - host.heard > SILENT_S:
            runs = _runs_on(host.name, evidence)
            age = "" if host.heard is None else f" for {duration(evidence.now - host.heard)}"
            alert = make_alert(
                key, Severity.ERROR if runs else Severity.WARNING, f"{host.name} does not answer{age}",
                [host.reason or "", f"Runs on it: {runs}." if runs else "No run of ours is active on it.",
                 "That says nothing about the runs. Look at the provider's panel." if runs else ""],
                t=evidence.now, host=host.name,
            )  # fmt: skip
            yield Said(Kind.PROBLEM, alert, after_s=SILENT_S if host.heard is None else 0.0)


def _silent(host: HostView, memory: Memory) -> bool:
    """Whether its silence is a matter of this rule: a host that refuses us is heard, in a way."""
    if host.is_local or host.link is LinkState.OFF or host.link.needs_user:
        return False
    return not any(f"{rule}/{host.name}" in memory.open for rule in ("refused", "host-key", "host-key-unknown"))


def _was_away(key: str, evidence: Evidence, memory: Memory) -> str:
    known = memory.open.get(key)
    return "" if known is None else f"It was away for about {duration(evidence.now - known.since + SILENT_S)}."


def locked_out(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """It answers, and only its user can mend why nothing works: another key, an unknown one, no access."""
    cases = (
        (LinkState.KEY_CHANGED, "host-key", Severity.ERROR, "{} shows another host key than before",
         "Nothing was sent to it. Is it still your machine? If it was set up anew: `wavedeck hosts trust {}`."),
        (LinkState.KEY_UNKNOWN, "host-key-unknown", Severity.WARNING, "nobody has said that the key of {} is right",
         "Compare the fingerprint with the provider's, then: `wavedeck hosts trust {}`."),
        (LinkState.REFUSED, "refused", Severity.ERROR, "{} does not let us in",
         "Is your key on the instance? Keys that need a passphrase need an agent here: `wavedeck hosts check {}`."),
    )  # fmt: skip
    for host in evidence.hosts:
        for state, rule, severity, title, advice in cases:
            key = f"{rule}/{host.name}"
            if host.link is state:
                runs = _runs_on(host.name, evidence)
                lines = [host.reason or "", f"Runs on it: {runs}." if runs else "", advice.format(host.name)]
                alert = make_alert(key, severity, title.format(host.name), lines, t=evidence.now, host=host.name)
                yield Said(Kind.PROBLEM, alert)
            elif host.link.up:
                yield _fine(key, f"{host.name} lets us in again", "", evidence, host)


def disk(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """Its disk fills: there, where trainings save; here, where the copies go."""
    for host in evidence.hosts:
        reading = host.reading
        if not host.link.up or reading is None or reading.disk_free is None or not reading.disk_total:
            continue
        free, total = reading.disk_free, reading.disk_total
        where = "this machine" if host.is_local else host.name
        key = f"disk/{host.name}"
        last = free < DISK_LAST_BYTES or free < DISK_LAST_SHARE * total
        if last or (free < DISK_BYTES and free < DISK_SHARE * total):
            why = "Copies of checkpoints go here." if host.is_local else "The next checkpoint may not fit."
            runs = _runs_on(host.name, evidence)
            alert = make_alert(
                key, Severity.ERROR if last else Severity.WARNING,
                f"the disk of {where} is {'almost full' if last else 'filling'}: {size(free)} left",
                [f"{percent(free / total)} of {size(total)} is free. {why}", f"Runs on it: {runs}." if runs else "",
                 "Nothing is deleted to make room: that is for you to do."],
                t=evidence.now, host=host.name,
            )  # fmt: skip
            yield Said(Kind.PROBLEM, alert)
        elif free > DISK_WELL * max(DISK_LAST_BYTES, DISK_LAST_SHARE * total, min(DISK_BYTES, DISK_SHARE * total)):
            yield _fine(key, f"the disk of {where} has room again: {size(free)}", "", evidence, host)


def copies(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """It answers and nothing is copied: the disk here is full, or who mirrors it has stopped."""
    for host in evidence.hosts:
        key = f"mirror/{host.name}"
        if host.link is LinkState.PAUSED:
            title = f"nothing is copied from {host.name}"
            alert = make_alert(key, Severity.ERROR, title, host.reason or "", t=evidence.now, host=host.name)
            yield Said(Kind.PROBLEM, alert, after_s=SILENT_S)
        elif host.link is LinkState.CONNECTED:
            yield _fine(key, f"{host.name} is copied again", "", evidence, host)


def ends_soon(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """The provider takes it back within the hour, and again within ten minutes."""
    for host in evidence.hosts:
        if host.ends is None or host.is_local:
            continue
        left = host.ends - evidence.now
        for old in memory.open_keys(f"ends/{host.name}/"):
            if old != f"ends/{host.name}/{host.ends:.0f}":
                yield _fine(old, f"{host.name} stays until {clock(host.ends)}", "", evidence, host)
        if left > ENDS_S:
            continue
        runs = _runs_on(host.name, evidence)
        when = f"in {duration(left)}" if left > 0 else "now"
        alert = make_alert(
            f"ends/{host.name}/{host.ends:.0f}",
            Severity.ERROR if left < ENDS_LAST_S and runs else Severity.WARNING,
            f"{host.name} is taken back {when}",
            [f"It ends at {clock(host.ends)}.", f"Runs on it: {runs}." if runs else "No run of ours is active on it.",
             f"`wavedeck safe {host.name}` says what would be lost."],
            t=evidence.now, host=host.name,
        )  # fmt: skip
        yield Said(Kind.PROBLEM, alert, happened=None if left > 0 else host.ends)


def _runs_on(host: str, evidence: Evidence) -> str:
    names = [view.name for view in evidence.active_on(host)]
    more = f" and {len(names) - RUNS_NAMED} more" if len(names) > RUNS_NAMED else ""
    return ", ".join(names[:RUNS_NAMED]) + more


def _fine(key: str, title: str, text: str, evidence: Evidence, host: HostView) -> Said:
    return Said(Kind.FINE, _over(key, title, text, evidence, host))


def _over(key: str, title: str, text: str, evidence: Evidence, host: HostView) -> Alert:
    return make_alert(key, Severity.INFO, title, text, t=evidence.now, host=host.name, recovered=True)


RULES = (locked_out, unreachable, disk, copies, ends_soon)
