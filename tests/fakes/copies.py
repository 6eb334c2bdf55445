"""A run of another host as it is here: its records, the copies that a backup has verified, what the backup does now."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import msgspec

from wavedeck.engine.backup.copies import BAD, HERE, SECOND, VERIFIED, append_copy, copy_line
from wavedeck.engine.backup.policy import BackupPolicy, write_policy
from wavedeck.engine.checkpoints import CheckpointLine
from wavedeck.engine.hosts import MirrorRecord, write_mirror
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.remote.backup.state import BackupState, RunBackup, state_file
from wavedeck.tests.fakes.runs import T0, make_run, write_metrics

HERON = "20260921-1426-sousa-brisk-heron"
STEPS = (100, 120, 160, 180)


def data_of(step: int) -> bytes:
    """The bytes of the checkpoint of a step."""
    return hashlib.shake_128(step.to_bytes(4, "big")).digest(1000 + step)


def make_copy(home: Home, host: str = "gpu1", state: str = "stopped", policy: BackupPolicy | None = None) -> RunDir:
    """A run of `host` with four checkpoints: 100 and 120 here and at the second place, 160 here and damaged at the
    second, 180 not here yet. 100 is gone from its host; 160 is the best."""
    run = make_run(home, HERON, state=state, price_per_hour=180.0)
    write_metrics(run, 200)
    names = [f"step-{step:08d}.ckpt" for step in STEPS]
    write_mirror(run.path, MirrorRecord(host=host, checkpoints=names[1:]))
    write_policy(run, policy or BackupPolicy(keep_last=5, second="/mnt/nas", budget=5.0))
    second = (policy.second if policy is not None else None) or "/mnt/nas"
    run.checkpoints.mkdir(exist_ok=True)
    for name, step in zip(names, STEPS, strict=True):
        data = data_of(step)
        score = {"val/balanced_accuracy": 0.9 if step == 160 else step / 1000}
        line = CheckpointLine(
            name, step, len(data), hashlib.sha256(data).hexdigest(), T0 + step / 4, step / 20, score, step == 160
        )
        with open(run.checkpoint_manifest, "ab") as handle:
            handle.write(msgspec.json.encode(line) + b"\n")
        if step == 180:
            continue
        (run.checkpoints / name).write_bytes(data)
        append_copy(run, copy_line(line, HERE, VERIFIED, line.t + 3))
        event, text = (VERIFIED, second) if step < 160 else (BAD, "sha256 differs")
        append_copy(run, copy_line(line, SECOND, event, line.t + 5, text))
    return run


def backing_up(home: Home, run_id: str = HERON, **fields: object) -> None:
    """What a backup says of itself while it copies."""
    now = RunBackup(**fields)  # type: ignore[arg-type]
    path = state_file(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(f"{path}.new")
    temporary.write_bytes(msgspec.json.encode(BackupState(os.getpid(), time.time(), {run_id: now})))
    temporary.replace(path)
