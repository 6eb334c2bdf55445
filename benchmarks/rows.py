"""The figures of the design, one function a row of the plan: each measures deck and peer in turn, so that both meet
the same machine."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import deck, leet
from .generate import Shape, many_runs, wandb_file, writer
from .measure import NotSeen, Spread, child_cpu_s, wait_for
from .viewer import Followed, Opened, Viewer, follow, open_finished

SMALL, MEDIUM, LARGE = Shape(1_000, 5), Shape(100_000, 5), Shape(1_000_000, 3)
RUNS = 200
LEET_KILL_S = 60.0


@dataclass(slots=True)
class Figure:
    """One line of the table. `peer` is the same figure of its peer; `bar` the most that is allowed."""

    row: int
    what: str
    unit: str
    ours: Spread
    bar: float | None = None
    peer: Spread | None = None
    note: str = ""
    peer_name: str = ""
    """Another peer than `wandb leet`."""


@dataclass(slots=True)
class Plan:
    """What to measure, how often, for how long."""

    bench: deck.Bench
    peer: str | None
    """The `wandb` command, or None."""
    trials: int = 3
    large_trials: int = 2
    verbs: int = 15
    idle_s: float = 20.0
    live_s: float = 30.0
    copy_bytes: int = 200_000_000
    shapes: tuple[Shape, ...] = (SMALL, MEDIUM, LARGE)
    now: str = ""
    """What is being measured."""
    loads: dict[str, list[float]] = field(default_factory=dict)
    """The 1-minute load average at the start of every trial, by what was measured."""
    say: Callable[[str], None] = print

    def note_load(self) -> None:
        """Remember what else the machine was doing."""
        self.loads.setdefault(self.now, []).append(os.getloadavg()[0])


def verbs(plan: Plan) -> Iterator[Figure]:
    """Row 1: `--help` and `ps`, CPU seconds of the process."""
    bench = deck.Bench(plan.bench.sandbox, plan.bench.data, "many")
    many_runs(bench.home, RUNS, bench.data)
    env = {**os.environ, **bench.env}
    figures = {
        "wavedeck --help": (["--help"], False),
        f"wavedeck ps, {RUNS} runs, summaries cached": (["ps"], False),
        f"wavedeck ps, {RUNS} runs, no summaries yet": (["ps"], True),
    }
    spreads = {what: Spread() for what in figures}
    for trial in range(plan.verbs + 1):
        plan.note_load()
        for what, (words, forget) in figures.items():
            if forget:
                bench.forget()
            cpu = child_cpu_s(bench.wavedeck(*words), env)
            if trial:  # the first time compiles and fills the page cache
                spreads[what].add(cpu)
    for what, spread in spreads.items():
        yield Figure(1, what, "CPU s", spread, bar=0.35)


def opening(plan: Plan) -> Iterator[Figure]:
    """Rows 2 to 5a: first chart, all read, peak memory, idling. A first opening, which compiles, does not count."""
    warm = replace(plan, trials=1, idle_s=0.0, shapes=(SMALL,))
    _openings(warm, SMALL)
    for shape in plan.shapes:
        ours, peers = _openings(plan, shape)
        yield Figure(2, f"launch to first chart, {shape}", "s", _of(ours, "first_chart_s"), 1.0,
                     _of(peers, "first_chart_s"))  # fmt: skip
        yield Figure(3, f"fully loaded, {shape}", "CPU s", _of(ours, "loaded_cpu_s"),
                     {MEDIUM: 2.0, LARGE: 15.0}.get(shape), _of(peers, "loaded_cpu_s"))  # fmt: skip
        yield Figure(3, f"fully loaded, {shape}", "s", _of(ours, "loaded_s"), None, _of(peers, "loaded_s"))
        yield Figure(4, f"peak memory, {shape}", "MB", _of(ours, "peak_mb"), 250.0 if shape == LARGE else None,
                     _of(peers, "peak_mb"))  # fmt: skip
        yield Figure(5, f"idle CPU, finished {shape} open", "% of a core", _of(ours, "idle_percent"), 1.0,
                     _of(peers, "idle_percent"))  # fmt: skip


def _openings(plan: Plan, shape: Shape) -> tuple[list[Opened], list[Opened]]:
    fresh = plan.bench.finished(shape)
    ours: list[Opened] = []
    peers: list[Opened] = []
    for _ in range(plan.large_trials if shape == LARGE else plan.trials):
        ours += _opened(plan, fresh, shape)
        if plan.peer:
            command, file = plan.peer, wandb_file(shape, plan.bench.data)
            peers += _opened(plan, lambda command=command, file=file: leet.viewer(command, file), shape)
    return ours, peers


def _opened(plan: Plan, make: Callable[[], Viewer], shape: Shape) -> list[Opened]:
    """One trial; one that does not get there is told and left out."""
    plan.note_load()
    try:
        return [open_finished(make(), shape, plan.bench.sandbox, plan.idle_s, timeout_s=900)]
    except NotSeen as error:
        plan.say(str(error))
        return []


def _of(trials: list[Opened] | list[Followed], name: str) -> Spread:
    spread = Spread()
    for trial in trials:
        spread.add(getattr(trial, name))
    return spread


def keys_while_loading(plan: Plan) -> Iterator[Figure]:
    """Row 3: the interface is live throughout. The figure is the slowest answer of each trial."""
    shape = plan.shapes[-1]
    fresh = plan.bench.finished(shape)
    slowest, typical = Spread(), Spread()
    for _ in range(plan.trials):
        plan.note_load()
        answers = deck.answers_while_loading(fresh(), shape, plan.bench.sandbox, timeout_s=300)
        slowest.add(max(answers))
        typical.add(statistics.median(answers))
    yield Figure(3, f"key to its tab while {shape} loads, slowest of a load", "s", slowest)
    yield Figure(3, f"key to its tab while {shape} loads, median of a load", "s", typical)


def live(plan: Plan) -> Iterator[Figure]:
    """Row 5b: following a run that logs ten rows a second."""
    ours: list[Followed] = []
    peers: list[Followed] = []
    for _ in range(plan.trials):
        plan.note_load()
        ours.append(_follow_deck(plan))
        if plan.peer:
            plan.note_load()
            peers.append(_follow_leet(plan, plan.peer))
    yield Figure(5, "CPU while a run logs 10 rows/s", "% of a core", _of(ours, "cpu_percent"), 8.0,
                 _of(peers, "cpu_percent"))  # fmt: skip
    for name, statistic in (("median", statistics.median), ("slowest", max)):
        spreads = [Spread([statistic(trial.lags_s) for trial in trials]) for trials in (ours, peers)]
        yield Figure(5, f"line to screen here, {name} row", "s", spreads[0], None, spreads[1])


def _follow_deck(plan: Plan) -> Followed:
    run_id, written = plan.bench.live(plan.live_s + 40)
    return follow(plan.bench.viewer(run_id), written, plan.live_s, plan.bench.sandbox)


def _follow_leet(plan: Plan, command: str) -> Followed:
    with _LeetWriter(plan, plan.live_s + 40) as live_run:
        return follow(leet.viewer(command, live_run.file), live_run.written, plan.live_s, plan.bench.sandbox)


class _LeetWriter:
    """A process that logs to an offline W&B run, ended with everything it started."""

    def __init__(self, plan: Plan, seconds: float) -> None:
        self.folder = plan.bench.sandbox / f"leet-{time.monotonic_ns()}"
        self.written = self.folder / "written.txt"
        command = [*writer("wandb"), str(self.folder), "--steps", "1000", "--seconds", str(seconds)]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)

    def __enter__(self) -> _LeetWriter:
        wait_for(lambda: self.written.exists() and self.written.read_text(), 90, "the first live row of W&B")
        return self

    @property
    def file(self) -> Path:
        return next(self.folder.glob("wandb/offline-run-*/run-*.wandb"))

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def killed(plan: Plan) -> Iterator[Figure]:
    """Row 7: `kill -9` of the trainer; the figure is when its death is told, with the signal."""
    on_deck, in_ps = Spread(), Spread()
    for _ in range(plan.trials):
        plan.note_load()
        deck_s, ps_s = deck.noticing_a_kill(plan.bench, seconds=90)
        on_deck.add(deck_s)
        in_ps.add(ps_s)
    note, peer = _leet_after_a_kill(plan, plan.peer) if plan.peer else ("", None)
    yield Figure(7, "kill -9 of the trainer, until the deck tells it", "s", on_deck, 10.0, peer, note)
    yield Figure(7, "kill -9 of the trainer, until `ps --json` tells it", "s", in_ps, 10.0)


def _leet_after_a_kill(plan: Plan, command: str) -> tuple[str, Spread | None]:
    with (
        _LeetWriter(plan, LEET_KILL_S + 60) as live_run,
        leet.viewer(command, live_run.file).open(plan.bench.sandbox) as pane,
    ):
        pane.wait(lambda text: leet.state(text) == "Running", 60, "the running run in LEET")
        live_run.process.kill()
        begin = time.monotonic()
        while time.monotonic() - begin < LEET_KILL_S:
            if leet.state(pane.text()) not in ("Running", "?"):
                return "", Spread([time.monotonic() - begin])
            time.sleep(0.2)
        return f"leet still says {leet.state(pane.text())} after {LEET_KILL_S:.0f} s", None


LOG_CALLS = """
import time
from wavedeck import log
clock, values = time.perf_counter_ns, {{"train/loss": 0.123456, "train/acc": 0.91, "lr": 1e-4}}
took = []
for step in range({calls}):
    begin = clock()
    log(values, step=step)
    took.append(clock() - begin)
took.sort()
print(took[len(took) // 2] / 1e3, took[len(took) * 99 // 100] / 1e3)
"""


def logging(plan: Plan) -> Iterator[Figure]:
    """Row 8: `log()` with three metrics, on the file system of the sandbox."""
    medians, tails = Spread(), Spread()
    for trial in range(plan.trials):
        plan.note_load()
        folder = plan.bench.sandbox / f"log-{trial}"
        folder.mkdir()
        code = LOG_CALLS.format(calls=100_000)
        env = {**os.environ, **plan.bench.env, "WAVEDECK_RUN_DIR": str(folder)}
        said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
        median, tail = map(float, said.split())
        medians.add(median)
        tails.add(tail)
    yield Figure(8, "log() with three metrics, median of 100,000 calls", "µs", medians, 20.0)
    yield Figure(8, "log() with three metrics, 99th of 100 calls", "µs", tails)


def spike(plan: Plan) -> Iterator[Figure]:
    """Row 10: one spike and one NaN in 100,000 points, on 120 columns; 1 is seen."""
    plan.note_load()
    spike_seen, nan_seen, text = deck.spike_on_screen(plan.bench)
    yield Figure(10, "spike in 100,000 points at 120 columns: mark, value, step", "seen", _truth(spike_seen), note=text)
    yield Figure(10, "NaN in 100,000 points at 120 columns: mark, step", "seen", _truth(nan_seen))


def _truth(seen: bool) -> Spread:
    return Spread([float(seen)])


MEASUREMENTS: tuple[tuple[frozenset[int], Callable[[Plan], Iterator[Figure]]], ...] = (
    (frozenset({1}), verbs),
    (frozenset({8}), logging),
    (frozenset({2, 3, 4, 5}), opening),
    (frozenset({3}), keys_while_loading),
    (frozenset({5}), live),
    (frozenset({7}), killed),
    (frozenset({10}), spike),
)
