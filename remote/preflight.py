"""Is a host fit to train on? Everything that is known to spoil a launch, found before it and named with its remedy.

Nothing on the host is changed. The judgements are pure functions of what it told (`preflight_facts`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from ..engine import format as fmt
from ..engine.hosts import LOCAL
from . import preflight_gpu
from .findings import BAD, MISSING, OK, WARN, Finding
from .preflight_facts import Facts, FileSystem, Looked, ask

__all__ = ["BAD", "MISSING", "OK", "WARN", "Finding", "check", "judge"]

SLOW_LINK_MS = 400.0
SLOW_SHELL_MS = 1500.0
OLDEST_PYTHON = (3, 8)
ROOM_BYTES = 20 << 30
"""torch with its CUDA libraries takes 8 GiB, and a few checkpoints of a large model as much again."""
LEAST_ROOM_BYTES = 5 << 30
SHM_BYTES = 1 << 30
MEMORY_BYTES = 8 << 30
OPEN_FILES = 4096
SKEW_S = 2.0
ENDS_SOON_S = 6 * 3600.0
NEEDED = ("tmux", "rsync")
"""Programs that are asked of every host; git and uv only help."""
_WHY = {
    "tmux": "runs cannot be attached to",
    "rsync": "checkpoints cannot be backed up",
    "git": "recipes with data from a repository cannot fetch it",
    "uv": "environments are prepared more slowly, with pip",
}


async def check(
    host: Looked,
    *,
    python: str | None = None,
    ends: float | None = None,
    noise: bytes | None = None,
) -> list[Finding]:
    """Look at a host; findings in the order they are best read in.

    What is not given is taken from the host's entry in hosts.toml and from its connection.

    Parameters
    ----------
    python: interpreter its trainings use; None when Wavedeck prepares one.
    ends: when the provider takes it back, seconds since the epoch.
    noise: what its login shell printed before the agent spoke.

    Raises
    ------
    HostUnreachable: it does not answer.
    """
    entry = getattr(host, "entry", None)
    python = python or getattr(entry, "python", None)
    ends = getattr(entry, "ends", None) if ends is None else ends
    noise = noise if noise is not None else getattr(host, "noise", None)
    facts = await ask(host, _home(host), python)
    findings = [_link(host)]
    if noise is not None:
        findings.append(shell_finding(noise, getattr(host, "shell_ms", None)))
    return [*findings, *judge(facts, python=python, ends=ends, now=time.time())]


def judge(facts: Facts, *, python: str | None = None, ends: float | None = None, now: float = 0.0) -> list[Finding]:
    """All findings that follow from a host's facts."""
    return [
        _python(facts),
        *_programs(facts),
        *_home_findings(facts.home),
        *_memory(facts),
        *_open_files(facts),
        *preflight_gpu.findings(facts, python),
        *_clock(facts),
        _time_left(facts, ends, now),
    ]


def fit(findings: Iterable[Finding]) -> bool:
    """Whether nothing is bad or missing."""
    return not any(finding.state in (BAD, MISSING) for finding in findings)


def shell_finding(noise: bytes, took_ms: float | None = None) -> Finding:
    """What the login shell printed although nobody sat in front of it, and how long it takes to come up."""
    guard = "put `case $- in *i*) ;; *) return;; esac` at the top of ~/.bashrc there"
    if noise.strip():
        said = fmt.plain(noise.decode("utf-8", "replace").strip().splitlines()[0], 60)
        found = f"prints {len(noise)} bytes before every command: {said!r}; rsync cannot work like that"
        return Finding("login shell", BAD, found, guard)
    if took_ms is not None and took_ms > SLOW_SHELL_MS:
        return Finding("login shell", WARN, f"takes {took_ms / 1000:.1f} s to come up, for every command", guard)
    return Finding("login shell", OK, "says nothing by itself")


def _home(host: Looked) -> str:
    home = getattr(host, "home", "")
    return str(getattr(home, "root", home))


def _link(host: Looked) -> Finding:
    if host.name == LOCAL:
        return Finding("link", OK, "this machine")
    latency = getattr(host, "latency_ms", None)
    if latency is None:
        return Finding("link", OK, "answers")
    slow = latency > SLOW_LINK_MS
    fix = "a host nearer by, or without a busy jump host, answers faster" if slow else None
    return Finding("link", WARN if slow else OK, f"answers in {latency:.0f} ms", fix)


def _python(facts: Facts) -> Finding:
    if facts.python is None:
        return Finding(
            "python3", MISSING, "none that runs: Wavedeck can hardly work there", install(facts, ["python3"])
        )
    version = tuple(int(part) for part in facts.python.split(".")[:2] if part.isdecimal())
    if version < OLDEST_PYTHON:
        return Finding("python3", BAD, f"{facts.python}, needed is 3.8 or newer", install(facts, ["python3.11"]))
    return Finding("python3", OK, facts.python)


def _programs(facts: Facts) -> Iterator[Finding]:
    if facts.programs is None:
        return
    lacking = [name for name in NEEDED if not facts.programs.get(name)]
    for name in ("tmux", "rsync", "git", "uv"):
        version = facts.programs.get(name)
        if version:
            yield Finding(name, OK, version)
        elif name in NEEDED:
            yield Finding(name, MISSING, f"not installed: {_WHY[name]}", install(facts, lacking))
        else:
            fix = "python3 -m pip install uv" if name == "uv" else install(facts, [name])
            yield Finding(name, WARN, f"not installed: {_WHY[name]}", fix)


def install(facts: Facts, packages: list[str]) -> str:
    """The command line that installs packages there."""
    verb = {"apk": "add", "pacman": "-S --noconfirm"}.get(facts.installer or "", "install -y")
    if facts.installer is None:
        return f"ask the administrator for {' and '.join(packages)}"
    return f"{'' if facts.root else 'sudo '}{facts.installer} {verb} {' '.join(packages)}"


def _home_findings(home: FileSystem | None) -> Iterator[Finding]:
    if home is None:
        return
    if home.writable is False:
        why = "the file system is read-only" if home.read_only else "this user may not write there"
        yield Finding(
            "home", BAD, f"{home.path}: {why}", "set `home = …` in hosts.toml to a directory that can be written"
        )
    else:
        yield Finding("home", OK, home.path if home.exists else f"{home.path} (made at the first run)")
    if home.free is None:
        return
    free = f"{fmt.size(home.free)} free of {fmt.size(home.total)}"
    elsewhere = "set `home = …` in hosts.toml to a larger disk, or delete what is not needed"
    if home.files_free is not None and home.files_free < 10_000:
        yield Finding("disk", BAD, f"{free}, but room for only {home.files_free} more files", elsewhere)
    elif home.free < LEAST_ROOM_BYTES:
        yield Finding("disk", BAD, f"{free}: too little for an environment and checkpoints", elsewhere)
    else:
        tight = home.free < ROOM_BYTES
        yield Finding("disk", WARN if tight else OK, free, elsewhere if tight else None)


def _memory(facts: Facts) -> Iterator[Finding]:
    if facts.memory is not None and facts.memory.total is not None:
        limit, total = facts.memory.limit, facts.memory.total
        words = (
            f"{fmt.size(total)}" if limit is None else f"{fmt.size(limit)}, the container's share of {fmt.size(total)}"
        )
        small = (total if limit is None else limit) < MEMORY_BYTES
        fix = "fewer workers and smaller batches; what uses more is killed" if small else None
        yield Finding("memory", WARN if small else OK, words, fix)
    if facts.shm is not None and facts.shm.total is not None and facts.shm.total < SHM_BYTES:
        yield Finding(
            "shared memory",
            WARN,
            f"/dev/shm holds {fmt.size(facts.shm.total)}: data loaders with workers may die of `bus error`",
            "start the container with --shm-size=8g, or train with no workers",
        )


def _open_files(facts: Facts) -> Iterator[Finding]:
    if facts.files is None:
        return
    soft, hard = facts.files
    known = [limit if limit >= 0 else 1 << 30 for limit in (soft, hard)]
    words = "no limit" if soft < 0 else f"{soft} (at most {hard if hard >= 0 else 'any number'})"
    few = max(known) < OPEN_FILES
    fix = "have the administrator raise `nofile` in /etc/security/limits.conf" if few else None
    yield Finding("open files", WARN if few else OK, words, fix)


def _clock(facts: Facts) -> Iterator[Finding]:
    skew = facts.skew_s
    if skew is None:
        return
    if abs(skew) <= SKEW_S:
        yield Finding("clock", OK, "agrees with this machine's")
        return
    way = "ahead of" if skew > 0 else "behind"
    fix = "set it: `timedatectl set-ntp true`, in a container ask the provider; ages are corrected meanwhile"
    yield Finding("clock", WARN, f"at least {fmt.duration(abs(skew))} {way} this machine's", fix)


def _time_left(facts: Facts, ends: float | None, now: float) -> Finding:
    provider = facts.provider
    slurm = provider.get("SLURM_JOB_END_TIME", "")
    told = {
        "hosts.toml": ends,
        "Slurm": float(slurm) if slurm.isdecimal() and len(slurm) < 12 else None,
        "a planned shutdown": facts.shutdown,
    }
    known = {source: when for source, when in told.items() if when is not None}
    if known:
        source, when = min(known.items(), key=lambda item: item[1])
        left = when - now
        if left <= 0:
            fix = "correct `ends` in hosts.toml if it was extended" if source == "hosts.toml" else None
            return Finding("time left", BAD, f"it ended {fmt.duration(-left)} ago, by {source}", fix)
        soon = left < ENDS_SOON_S
        fix = "back up what matters now: `wavedeck backup`" if soon else None
        return Finding("time left", WARN if soon else OK, f"{fmt.duration(left)}, by {source}", fix)
    if "VAST_CONTAINERLABEL" in provider or "RUNPOD_POD_ID" in provider:
        whose = "Vast.ai" if "VAST_CONTAINERLABEL" in provider else "RunPod"
        which = provider.get("VAST_CONTAINERLABEL") or provider.get("RUNPOD_POD_ID")
        fix = "write `ends = 2026-11-22T10:00:00Z` (as the provider's page says) into hosts.toml"
        return Finding("time left", WARN, f"not known inside {whose} instance {which}", fix)
    return Finding("time left", OK, "no end is known")
