"""The table, on a terminal and as docs/benchmarks.md, with the machine it was measured on."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from .measure import Spread
from .rows import Figure, Plan

MOST_LOADS = 14
HEAD = ("row", "figure", "unit", "wavedeck", "bar", "", "wandb leet, or the peer named", "peer / wavedeck")


def table(figures: Sequence[Figure]) -> str:
    """A Markdown table whose columns also line up on a terminal."""
    lines = [HEAD, *(_line(figure) for figure in figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(f"| {' | '.join(word.ljust(w) for word, w in zip(line, widths, strict=True))} |" for line in lines)


def _line(figure: Figure) -> tuple[str, ...]:
    ours, peer = figure.ours, figure.peer
    if figure.unit == "seen":
        seen = bool(ours.values and ours.values[0])
        return (str(figure.row), figure.what, "", "yes" if seen else "no", "yes", "ok" if seen else "MISSED", "", "")
    ratio = f"{peer.median / ours.median:.1f}" if peer and peer.values and ours.values and ours.median else ""
    told = "" if peer is None else f"{_spread(peer)} {figure.peer_name}".strip()
    verdict = "" if figure.bar is None or not ours.values else ("ok" if ours.median <= figure.bar else "MISSED")
    bar = "" if figure.bar is None else f"≤ {figure.bar:g}"
    return (str(figure.row), figure.what, figure.unit, _spread(ours), bar, verdict, told or figure.note, ratio)


def _spread(spread: Spread) -> str:
    """min / median / max, or the one value there is."""
    if not spread.values:
        return "–"
    low, high = spread.ends
    words = [_number(value) for value in (low, spread.median, high)]
    return words[1] if len(spread.values) == 1 else " / ".join(words)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def machine(plan: Plan) -> str:
    """What these figures were measured on, and with."""
    memory = psutil.virtual_memory().total / 2**30
    loads = "; ".join(f"{what} {_loads(values)}" for what, values in plan.loads.items())
    facts = [
        f"{psutil.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, {platform.system()} {platform.release()}",
        f"Python {platform.python_version()}, {_tmux()}, textual {_version('textual')}, numpy {_version('numpy')}"
        + (f", wandb {_version('wandb')}" if plan.peer else ""),
        f"1-minute load average at the start of each trial: {loads or 'not measured'}",
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def _loads(values: Sequence[float]) -> str:
    """Each trial's load; of many trials the ends."""
    if len(values) > MOST_LOADS:
        return f"{min(values):.1f} to {max(values):.1f}"
    return ", ".join(f"{value:.1f}" for value in values)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _tmux() -> str:
    return subprocess.run(["tmux", "-V"], capture_output=True, text=True, check=False).stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


PAGE = """# Benchmarks

Measured {date} by `make bench`. Each figure is min / median / max of its trials; the verdict is the median's.

{table}

{machine}

## How to read it

CPU seconds are user and system seconds of the program and everything it started; wall-clock seconds stretch with
whatever else the machine does, so compare CPU seconds and ratios. Deck and `wandb leet` are measured in turn, on the
same numbers, each on a tmux terminal of 200 × 50 of its own; a screen is read about fifty times a second.

- **First chart**: from starting the program to the first screen with the metric's name and a braille dot.
- **Fully loaded**: the first screen on which the deck's header counts the last step, the chart's legend names the last
  value and nothing says loading; for LEET, `State: Finished` (the exit record is its file's last). The deck starts
  without cached summaries, so it reads the journal twice: for the chart and for the header.
- **Peak memory**: the sum of `VmHWM` over the processes.
- **Idle**: {idle:.0f} s from 3 s after everything was loaded. **Live**: {live:.0f} s of a run that has 1,000 rows and
  gets ten more a second. **Line to screen**: for every such row, from its `log()` having returned to the first screen
  that shows it or a newer one.
- **Key to its tab**: `6` (config) and `1` (charts) in turn while the journal is being read; includes about 20 ms of
  tmux and looking.
- **No summaries yet**: as if 200 runs had never been listed; their files are in the page cache in every case.
- **Kill**: `SIGKILL` to the supervised trainer; told means the state `killed` and the signal.
- **Remote** (rows 11 to 15): OpenSSH's sshd on the loopback interface, so both sides share these cores. Round trips are
  added by a TCP proxy, which also goes dead (half open: bytes are swallowed, nothing ends) or refuses for ten seconds.
  The mirror is a process that does nothing else; *there* is the agent with sshd. A copy is timed from its first byte to
  its last. The fifty runs log three metrics once a second each. `hosts add` meets a host key it never saw and a driver
  that is played back.
- **Listen** (rows 16 to 19): the set has 10,000 index lines over the sound of 50 clips of 2 s. The first picture is the
  first screen with the list, a track's loudness and its spectrogram. Sound goes through PortAudio into ALSA's `file`
  device; two tracks that count their samples tell when a switch is heard. CPU is deck and sound process together.

{spike}"""

SPIKE = """## The spike

A value of 50 at step 54,321 and a NaN at step 77,777 among 100,000 points between 0.1 and 1.15, as the deck shows them
at 120 columns:

```
{text}
```
"""


def page(figures: Sequence[Figure], plan: Plan) -> str:
    """docs/benchmarks.md."""
    shown = next((figure.note for figure in figures if figure.unit == "seen" and figure.note), "")
    return PAGE.format(
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        table=table(figures),
        machine=machine(plan),
        idle=plan.idle_s,
        live=plan.live_s,
        spike=SPIKE.format(text=shown) if shown else "",
    )
