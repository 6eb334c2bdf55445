"""`python -m wavedeck.benchmarks`: measure, print one table, and with `--write` put it into docs/benchmarks.md.

Everything happens under a temporary directory with its own home and tmux servers, and is gone afterwards. Generated
runs are kept in `--data DIR` when one is given: the W&B SDK takes minutes to write a million rows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from . import backup, leet, listen, remote, sousa_cache
from .deck import Bench
from .measure import NotSeen
from .report import machine, page, table
from .rows import MEASUREMENTS, SMALL, Figure, Plan

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def main() -> int:
    """Measure what was asked for. Exit status 1 when something could not be measured."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="wdbench-") as folder:
        sandbox = Path(folder)
        bench = Bench(sandbox, options.data or sandbox / "data")
        plan = _plan(bench, options)
        try:
            figures, complete = _measure(plan, options.rows)
        finally:
            bench.close()
        print(table(figures))
        print(machine(plan))
        if options.write:
            PAGE.write_text(page(figures, plan))
            _say(f"written to {PAGE}")
    return 0 if complete else 1


def _measure(plan: Plan, wanted: frozenset[int]) -> tuple[list[Figure], bool]:
    figures: list[Figure] = []
    complete = True
    for rows, measurement in (
        *MEASUREMENTS,
        *remote.MEASUREMENTS,
        *listen.MEASUREMENTS,
        *backup.MEASUREMENTS,
        *sousa_cache.MEASUREMENTS,
    ):
        if wanted and not rows & wanted:
            continue
        plan.now = measurement.__name__.replace("_", " ")
        _say(f"measuring {plan.now} …")
        try:
            figures += [figure for figure in measurement(plan) if not wanted or figure.row in wanted]
        except (NotSeen, RuntimeError) as error:
            complete = False
            _say(f"{plan.now} could not be measured: {error}")
    return sorted(figures, key=lambda figure: figure.row), complete


def _plan(bench: Bench, options: argparse.Namespace) -> Plan:
    peer = None if options.no_leet else leet.program()
    plan = Plan(bench, peer, say=_say)
    if options.quick:
        plan.trials = plan.large_trials = 1
        plan.verbs, plan.idle_s, plan.live_s, plan.shapes = 3, 5.0, 8.0, (SMALL,)
        plan.copy_bytes = 10_000_000
    if options.trials:
        plan.trials = plan.large_trials = options.trials
    return plan


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=_rows, default=frozenset(), help="only these rows of the table, such as 1,2,7")
    parser.add_argument("--quick", action="store_true", help="one trial on small runs, for trying it out")
    parser.add_argument("--trials", type=int, help="trials of each figure (default 3, and 2 of the largest run)")
    parser.add_argument("--no-leet", action="store_true", help="leave `wandb leet` out")
    parser.add_argument("--data", type=Path, help="where generated runs are kept (0.7 GB for all of them)")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md as well")
    return parser.parse_args()


def _rows(text: str) -> frozenset[int]:
    return frozenset(int(word) for word in text.split(","))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
