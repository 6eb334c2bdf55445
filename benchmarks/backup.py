"""The figures of the backup, on the loopback interface: rows 20 to 22.

The peer of the whole backup of one checkpoint (its transfer, its hash, its fsyncs and its records, in a process that is
started for it) is plain rsync over OpenSSH, which proves nothing about what it has brought.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wavedeck.engine.backup.copies import read_copies
from wavedeck.engine.checkpoints import commit, sha256_of, temporary_path
from wavedeck.engine.hosts import MirrorRecord, write_mirror
from wavedeck.engine.manifest import Manifest, write_record
from wavedeck.engine.rundir import RunDir
from wavedeck.remote.backup.worker import NICENESS

from .far import HOST, QUIET, FarBench, Mirroring, far_bench
from .measure import NotSeen, Spread, wait_for
from .rows import Figure, Plan

RUN_ID = "20261121-1200-bench-still-heron"
LARGE, SMALL = 1 << 30, 16 << 20
WORKER = [sys.executable, "-m", "wavedeck.remote.backup.worker"]
LATENCIES = 8


@dataclass(slots=True)
class Cost:
    """Wall-clock seconds, and CPU seconds of each side."""

    seconds: float
    here_s: float
    there_s: float


def backup_rate(plan: Plan) -> Iterator[Figure]:
    """Row 20: one checkpoint there, until it is verified here; rsync beside it."""
    ours: list[Cost] = []
    peers: list[Cost] = []
    size = LARGE if plan.copy_bytes >= 100_000_000 else LARGE // 8
    for _ in range(plan.trials):
        with far_bench(plan.bench, "backup") as far:
            there, here = _run(far)
            _checkpoint(there, "big.ckpt", size, 1)
            here.checkpoint_manifest.write_bytes(there.checkpoint_manifest.read_bytes())
            os.sync()  # what was just made is not to be written out while one of the two is measured
            plan.note_load()
            ours.append(_cost(far, [*WORKER, "--once", "--run", RUN_ID]))
            if not read_copies(here).verified():
                raise NotSeen("the checkpoint was not backed up")
            shell = shlex.join(["ssh", "-F", str(far.server.ssh_config), "-o", "BatchMode=yes"])
            target = far.sandbox / "plain.ckpt"
            os.sync()
            plan.note_load()
            # As low in priority as the worker makes itself, or other work would decide who is faster.
            rsync = ["nice", "-n", str(NICENESS), "rsync", "-W", "-e", shell]
            peers.append(_cost(far, [*rsync, f"{HOST}:{there.checkpoints}/big.ckpt", str(target)]))
            target.unlink()
    mega = size / 1e6
    label = f"backup of {mega:.0f} MB, verified"
    yield Figure(20, label, "MB/s", Spread([mega / one.seconds for one in ours]), None,
                 Spread([mega / one.seconds for one in peers]), peer_name="rsync over ssh")  # fmt: skip
    yield Figure(20, label, "s", Spread([one.seconds for one in ours]), None,
                 Spread([one.seconds for one in peers]), peer_name="rsync over ssh")  # fmt: skip
    for side in ("here", "there"):
        yield Figure(20, f"CPU of it {side}", "CPU s", Spread([getattr(one, f"{side}_s") for one in ours]), None,
                     Spread([getattr(one, f"{side}_s") for one in peers]), peer_name="rsync over ssh")  # fmt: skip


def _cost(far: FarBench, argv: list[str]) -> Cost:
    there = far.cpu_there_s()
    began = time.monotonic()
    process = subprocess.Popen(argv, env=far.environ, stdin=QUIET, stdout=QUIET, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    if process.returncode:
        raise NotSeen(f"{argv[0]} failed: {said.decode(errors='replace').strip()[-300:]}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, far.cpu_there_s() - there)


def hashing(plan: Plan) -> Iterator[Figure]:
    """Row 21: what proving a checkpoint costs, once it is here."""
    path = plan.bench.sandbox / "hashed.bin"
    _fill(path, LARGE, 0)
    spread = Spread()
    for _ in range(plan.trials):
        plan.note_load()
        began = time.process_time()
        sha256_of(path)
        spread.add(time.process_time() - began)
    path.unlink()
    yield Figure(21, f"sha256 of {LARGE / 1e6:.0f} MB", "CPU s", spread)


def latency(plan: Plan) -> Iterator[Figure]:
    """Row 22: from a checkpoint's line having been written there to its copy having been verified here."""
    trials = []
    with far_bench(plan.bench, "latency") as far, Mirroring(far):
        there, here = _run(far)
        worker = subprocess.Popen([*WORKER, "--tied"], env=far.environ, stdin=subprocess.PIPE, stderr=QUIET)
        assert worker.stdin is not None
        worker.stdin.write(b"{}\n")
        worker.stdin.flush()
        try:
            for number in range(LATENCIES + 1):
                plan.note_load()
                name = f"step-{number}.ckpt"
                _checkpoint(there, name, SMALL, number)
                began = time.monotonic()
                wait_for(lambda name=name: name in read_copies(here).verified(), 60, name, every_s=0.005)  # type: ignore[misc]
                if number:  # the first one waits for the link of the worker
                    trials.append(time.monotonic() - began)
        finally:
            worker.stdin.close()
            worker.wait()
    yield Figure(22, f"checkpoint of {SMALL / 1e6:.0f} MB written to verified here", "s", Spread(trials), 10.0)


def _run(far: FarBench) -> tuple[RunDir, RunDir]:
    """A run there and the copy of it here."""
    there, here = RunDir(far.there.runs / RUN_ID), RunDir(far.home.runs / RUN_ID)
    for run in (there, here):
        run.checkpoints.mkdir(parents=True)
        write_record(run.manifest, Manifest(RUN_ID, "bench", time.time()))
    write_mirror(here.path, MirrorRecord(host=HOST))
    return there, here


def _checkpoint(run: RunDir, name: str, size: int, step: int) -> None:
    temporary = temporary_path(run.checkpoints, name)
    _fill(temporary, size, step)
    commit(temporary, name, step)


def _fill(path: Path, size: int, seed: int) -> None:
    """Bytes that no compression makes smaller."""
    with path.open("wb") as handle:
        for block in range(size >> 22):
            handle.write(hashlib.shake_128(f"{seed} {block}".encode()).digest(1 << 22))


MEASUREMENTS: tuple[tuple[frozenset[int], Callable[[Plan], Iterator[Figure]]], ...] = (
    (frozenset({20}), backup_rate),
    (frozenset({21}), hashing),
    (frozenset({22}), latency),
)
