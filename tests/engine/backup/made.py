"""Checkpoints, copies and runs for the tests of the backup's decisions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from wavedeck.engine.backup.copies import HERE, VERIFIED, Copies, Folding, append_copy, copy_line
from wavedeck.engine.backup.policy import own_policy
from wavedeck.engine.checkpoints import CheckpointLine
from wavedeck.engine.hosts import MirrorRecord, write_mirror
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.tests.fakes.runs import T0, make_run


def sha(text: str) -> str:
    """A sha256 that belongs to a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def ckpt(
    step: int, *, loss: float | None = None, name: str | None = None, kind: str = "full", size: int = 10
) -> CheckpointLine:
    """One of our own checkpoints."""
    name = name or f"step-{step:08d}.ckpt"
    metrics: dict[str, float | str | None] = {} if loss is None else {"val/loss": loss}
    return CheckpointLine(name, step, size, sha(name), T0 + step, metrics=metrics, kind=kind)


def foreign(path: str, step: int, content: str | None = None, size: int = 10) -> CheckpointLine:
    """A file of a trainer that is not ours."""
    from wavedeck.engine.checkpoints import foreign_name

    digest = sha(content or f"{path} {step}")
    return CheckpointLine(foreign_name(path, digest), step, size, digest, T0 + step, kind="foreign", path=path)


def copies_of(lines: Iterable[CheckpointLine], place: str = HERE, event: str = VERIFIED) -> Copies:
    """These checkpoints at a place."""
    folding = Folding()
    for number, line in enumerate(lines):
        folding.take(copy_line(line, place, event, T0 + 1000 + number))
    return folding.copies()


def write_lines(run: RunDir, lines: Iterable[CheckpointLine]) -> None:
    """The manifest of a run's checkpoints."""
    run.checkpoints.mkdir(exist_ok=True)
    run.checkpoint_manifest.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def bring(run: RunDir, *lines: CheckpointLine, place: str = HERE) -> None:
    """As the backup does: the file, then its line; at the second place of its policy."""
    policy = own_policy(run)
    text = "" if place == HERE or policy is None else policy.second or ""
    for line in lines:
        if place == HERE:
            (run.checkpoints / line.name).write_bytes(b"x" * line.bytes)
        append_copy(run, copy_line(line, place, VERIFIED, T0 + 2000 + line.step, text))


def far_run(
    home: Home, lines: Iterable[CheckpointLine] = (), *, gone: Iterable[CheckpointLine] = (), **fields: object
) -> RunDir:
    """The copy of a run on host `gpu1`; `gone` were rotated away there."""
    lines, away = list(lines), {line.name for line in gone}
    run = make_run(home, **fields)  # type: ignore[arg-type]
    write_lines(run, lines)
    write_mirror(run.path, MirrorRecord("gpu1", [line.name for line in lines if line.name not in away]))
    return run


def path_of(home: Path, name: str) -> Path:
    """A file in a home that is made on the way."""
    home.mkdir(parents=True, exist_ok=True)
    return home / name
