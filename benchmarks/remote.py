"""The figures of a host reached by SSH, measured on the loopback interface: rows 11 to 15.

What a link costs is given in CPU seconds of both sides, and beside it the same of OpenSSH's own client: seconds of the
wall clock say more about what else the machine does.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wavedeck.engine.logger import EventWriter
from wavedeck.engine.rundir import RunDir

from .far import HOST, QUIET, FarBench, Mirroring, answer_of, cpu_s, far_bench
from .generate import journal
from .measure import Spread, wait_for
from .rows import MEDIUM, Figure, Plan
from .viewer import Followed, follow

TRIPS_MS = (0, 100)
"""Round trips that the line adds to those of the loopback interface."""
RUN_ID = "20261120-{:04d}-bench-far-run"
MANY = 50
CUT_S = 10.0
RECORDINGS = Path(__file__).parent.parent / "tests" / "recordings" / "nvidia_smi"
SMI = """#!/bin/sh
case "$*" in
*query-compute-apps*) cat {apps} ;;
*) cat {rows}; case "$*" in *-l*) exec sleep 1000 ;; esac ;;
esac
"""


def line_to_screen(plan: Plan) -> Iterator[Figure]:
    """Row 11: a run there logs ten rows a second; the real deck here shows them."""
    for trip in TRIPS_MS:
        trials = []
        for _ in range(plan.trials):
            plan.note_load()
            with far_bench(plan.bench, "line", line=trip > 0) as far:
                far.line.delay_ms = trip / 2
                trials.append(_followed(plan, far))
        where = "loopback" if not trip else f"{trip} ms more a round trip"
        samples = f"{sum(len(trial.lags_s) for trial in trials)} rows"
        statistics_of: Sequence[tuple[str, Callable[[list[float]], float], float | None]] = (
            ("median", statistics.median, 0.3),
            ("99th of 100", _p99, None),
            ("slowest", max, 1.0),
        )
        for name, statistic, bar in statistics_of:
            spread = Spread([statistic(trial.lags_s) for trial in trials])
            yield Figure(11, f"remote line to screen, {where}, {name} row", "s", spread, None if trip else bar,
                         note=samples)  # fmt: skip
        cpu = Spread([trial.cpu_percent for trial in trials])
        yield Figure(11, f"CPU of the deck meanwhile, {where}", "% of a core", cpu, 8.0)


def _followed(plan: Plan, far: FarBench) -> Followed:
    run_id, written = far.live(plan.live_s + 60)
    return follow(far.viewer(run_id), written, plan.live_s, plan.bench.sandbox)


def _p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * 99 // 100)]


# --- row 12


@dataclass(slots=True)
class Copied:
    """One copy of a large file. `here_s`, `there_s`: CPU seconds on each side."""

    seconds: float
    here_s: float
    there_s: float


def throughput(plan: Plan) -> Iterator[Figure]:
    """Row 12: a long run that appears on the host, until its journal is here. The peers are OpenSSH's."""
    data, rows = _long_journal(plan)
    ours: list[Copied] = []
    peers: dict[str, list[Copied]] = {"ssh cat": [], "ssh tail -F": []}
    for trial in range(plan.trials):
        with far_bench(plan.bench, "copy") as far:
            plan.note_load()
            with Mirroring(far) as mirroring:
                ours.append(_mirrored(far, mirroring, data, trial))
            source = far.there.runs / RUN_ID.format(trial) / "events.jsonl"
            for name, words in (("ssh cat", ["cat"]), ("ssh tail -F", ["tail", "-c", "+1", "-F"])):
                plan.note_load()
                peers[name].append(_copied(far, [*words, str(source)], len(data)))
    size = f"{len(data) / 1e6:.0f} MB"
    for name, trials in peers.items():
        yield Figure(12, f"mirror of {size} against {name}", "MB/s",
                     Spread([len(data) / 1e6 / one.seconds for one in ours]), None,
                     Spread([len(data) / 1e6 / one.seconds for one in trials]), peer_name=name)  # fmt: skip
        for side in ("here", "there"):
            yield Figure(12, f"CPU of it {side} against {name}", "CPU s",
                         Spread([getattr(one, f"{side}_s") for one in ours]), None,
                         Spread([getattr(one, f"{side}_s") for one in trials]), peer_name=name)  # fmt: skip
    yield Figure(12, f"mirror of {size}", "rows/s", Spread([rows / one.seconds for one in ours]))


def _long_journal(plan: Plan) -> tuple[bytes, int]:
    """A journal of about `plan.copy_bytes`, and how many lines it has."""
    piece = journal(MEDIUM, plan.bench.data).read_bytes()
    if plan.copy_bytes < len(piece):
        piece = piece[: piece.index(b"\n", plan.copy_bytes) + 1]
    data = piece * max(1, round(plan.copy_bytes / len(piece)))
    return data, data.count(b"\n")


def _mirrored(far: FarBench, mirroring: Mirroring, data: bytes, trial: int) -> Copied:
    cpu_there, cpu_here = far.cpu_there_s(), cpu_s(mirroring.process)
    copy = far.copy_of(far.finished_there(RUN_ID.format(trial), data))
    begin: list[float] = []

    def whole() -> bool:
        size = _size(copy)
        if size and not begin:
            begin.append(time.monotonic())
        return size == len(data)

    wait_for(whole, 300, "the whole copy", every_s=0.002)
    seconds = time.monotonic() - begin[0]
    return Copied(seconds, cpu_s(mirroring.process) - cpu_here, far.cpu_there_s() - cpu_there)


def _size(copy: RunDir) -> int:
    try:
        return copy.events.stat().st_size
    except FileNotFoundError:
        hidden = next(copy.path.parent.glob(f".{copy.path.name}.*.mirror/events.jsonl"), None)
        return hidden.stat().st_size if hidden is not None else 0


def _copied(far: FarBench, words: list[str], size: int) -> Copied:
    """The same by OpenSSH, from its first byte on as well."""
    target = far.sandbox / "copied"
    cpu_there = far.cpu_there_s()
    with target.open("wb") as file:
        process = subprocess.Popen(far.ssh(*words), stdin=QUIET, stdout=file, stderr=QUIET)
        wait_for(lambda: target.stat().st_size, 60, "the first byte by OpenSSH", every_s=0.002)
        begin = time.monotonic()
        wait_for(lambda: target.stat().st_size == size, 300, "the whole copy by OpenSSH", every_s=0.002)
        seconds = time.monotonic() - begin
        there = far.cpu_there_s() - cpu_there
        os.kill(process.pid, signal.SIGKILL)  # Popen.kill would reap it, and its times with it
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    target.unlink()
    return Copied(seconds, usage.ru_utime + usage.ru_stime, there)


# --- row 13


def many_runs(plan: Plan) -> Iterator[Figure]:
    """Row 13: the share of a core that following costs on each side, without a run and with fifty that log."""
    here: dict[int, Spread] = {0: Spread(), MANY: Spread()}
    there: dict[int, Spread] = {0: Spread(), MANY: Spread()}
    for _ in range(plan.trials):
        with far_bench(plan.bench, "many") as far:
            for count in (0, MANY):
                plan.note_load()
                mirroring_percent, agent_percent = _share(far, count, plan.idle_s)
                here[count].add(mirroring_percent)
                there[count].add(agent_percent)
    for count in (0, MANY):
        what = f"{count} runs of 1 row/s each" if count else "no run"
        bar = 3.0 if count else 1.0
        yield Figure(13, f"CPU of the mirroring process, {what}", "% of a core", here[count], bar)
        yield Figure(13, f"CPU of the agent, {what}", "% of a core", there[count], bar)


def _share(far: FarBench, count: int, seconds: float) -> tuple[float, float]:
    run_ids = [RUN_ID.format(1000 + number) for number in range(count)]
    argv = [sys.executable, "-m", "wavedeck.benchmarks.many", str(far.there.runs), str(seconds + 120), *run_ids]
    writer = subprocess.Popen(argv, stdout=QUIET) if run_ids else None
    try:
        runs = [far.living_there(run_id, writer.pid) for run_id in run_ids] if writer else []
        with Mirroring(far) as mirroring:
            agent = far.agent()
            for run in runs:
                wait_for(lambda run=run: _size(far.copy_of(run)), 60, "the first row of each run")  # type: ignore[misc]
            time.sleep(3.0)
            before, begin = [cpu_s(mirroring.process), cpu_s(agent)], time.monotonic()
            time.sleep(seconds)
            took = time.monotonic() - begin
            after = [cpu_s(mirroring.process), cpu_s(agent)]
            stale = [run for run in runs if _size(far.copy_of(run)) < run.events.stat().st_size - 1000]
            if stale:
                raise RuntimeError(f"{len(stale)} of {count} copies are behind: the cost says nothing")
    finally:
        if writer is not None:
            writer.kill()
            writer.wait()
    mirroring_percent, agent_percent = (100 * (b - a) / took for a, b in zip(before, after, strict=True))
    return mirroring_percent, agent_percent


# --- row 14


def first_look(plan: Plan) -> Iterator[Figure]:
    """Row 14: `hosts add` with a key that was never seen, until its GPUs are printed."""
    printed, cpu, reading = Spread(), Spread(), Spread()
    tools = plan.bench.sandbox / "tools"
    tools.mkdir(exist_ok=True)
    smi = tools / "nvidia-smi"
    smi.write_text(SMI.format(rows=RECORDINGS / "one_shot_2xh100.txt", apps=RECORDINGS / "apps_2xh100.txt"))
    smi.chmod(0o755)
    for trial in range(plan.trials + 1):
        plan.note_load()
        with far_bench(plan.bench, "add", known=False, env={"PATH": f"{tools}:{os.environ['PATH']}"}) as far:
            words = ["hosts", "add", "box", HOST, "--accept-fingerprint", far.server.fingerprint, "--json"]
            seconds, cpu_seconds, answer = answer_of(far, *words)
            if len(answer["gpus"]) != 2:
                raise RuntimeError(f"the host shows {len(answer['gpus'])} GPUs instead of 2")
            if trial:  # the first time compiles
                printed.add(seconds)
                cpu.add(cpu_seconds)
                reading.add(answer["first_reading_s"])
    yield Figure(14, "hosts add, from the key to the first reading printed", "s", printed, 10.0)
    yield Figure(14, "hosts add, from connecting to the first reading", "s", reading)
    yield Figure(14, "hosts add, CPU of the verb", "CPU s", cpu)


# --- row 15


def reconnecting(plan: Plan) -> Iterator[Figure]:
    """Row 15: the line is dead for ten seconds; the figure is from when it works again to the first row here."""
    figures = {
        "half open": ("stall", "resume", Spread(), Spread()),
        "refused": ("refuse", "accept", Spread(), Spread()),
    }
    for _ in range(plan.trials):
        for cut, heal, back, noticed in figures.values():
            plan.note_load()
            with far_bench(plan.bench, "cut", line=True) as far, Mirroring(far) as mirroring:
                back_s, noticed_s = _back(far, mirroring, getattr(far.line, cut), getattr(far.line, heal))
                back.add(back_s)
                noticed.add(noticed_s)
    for name, (_, _, back, noticed) in figures.items():
        yield Figure(15, f"line {name} for {CUT_S:.0f} s, then until what was missed is here", "s", back, 45.0)
        yield Figure(15, f"line {name}, until the link is not called connected any more", "s", noticed, 15.0)


def _back(
    far: FarBench, mirroring: Mirroring, cut: Callable[[], None], heal: Callable[[], None]
) -> tuple[float, float | None]:
    run = far.living_there(RUN_ID.format(0), os.getpid())
    copy = far.copy_of(run)
    writer = EventWriter(run.events)
    writer.metrics({"loss": 1.0}, step=0)
    wait_for(lambda: _size(copy) == run.events.stat().st_size, 60, "the first row")
    cut()
    began = time.time()
    writer.metrics({"loss": 0.5}, step=1)
    time.sleep(CUT_S)
    heal()
    back = wait_for(lambda: _size(copy) == run.events.stat().st_size, 120, "the row that was missed")
    noticed = next((t - began for t, state in mirroring.states if t >= began and state != "connected"), None)
    return back, noticed


MEASUREMENTS: tuple[tuple[frozenset[int], Callable[[Plan], Iterator[Figure]]], ...] = (
    (frozenset({11}), line_to_screen),
    (frozenset({12}), throughput),
    (frozenset({13}), many_runs),
    (frozenset({14}), first_look),
    (frozenset({15}), reconnecting),
)
