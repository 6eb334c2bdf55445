"""What is kept of copies here: files that retention lets go, and lines about files that are not there any more."""

from __future__ import annotations

from collections.abc import Sequence

from ...engine.backup.copies import BAD, HERE, REMOVED, CopyLine, copy_line, read_copies
from ...engine.backup.plan import plan_removals
from ...engine.backup.policy import BackupPolicy
from ...engine.checkpoints import CheckpointLine
from ...engine.manifest import Headline
from ...engine.rundir import RunDir
from . import staging
from .disk import Disk
from .pull import now, record

AT_REST = "here"
"""How the text of a `bad` line begins that is about a copy here and not about its way: it is fetched again at once."""


def reconcile(run: RunDir, disk: Disk) -> list[CopyLine]:
    """Withdraw lines whose file is not here with its size: somebody deleted it, or a disk lost it."""
    gone = []
    for name, copy in read_copies(run).verified(HERE).items():
        path = run.checkpoints / name
        try:
            facts = path.lstat()
            wrong = None if facts.st_size == copy.bytes and not path.is_symlink() else f"has {facts.st_size} bytes"
        except FileNotFoundError:
            wrong = "is missing"
        if wrong is not None:
            gone.append(bad_here(copy, wrong))
    if gone:
        record(disk, run, gone)
    return gone


def bad_here(copy: CopyLine, wrong: str) -> CopyLine:
    """That a copy here is not what its line vouches for."""
    return CopyLine(now(), copy.name, copy.sha256, copy.bytes, copy.step, HERE, BAD, f"{AT_REST} it {wrong}")


def let_go(
    run: RunDir,
    lines: Sequence[CheckpointLine],
    policy: BackupPolicy,
    headline: Headline | None,
    disk: Disk,
    *,
    mirrored: bool,
) -> list[str]:
    """Delete the copies here that retention lets go; their names.

    They lose their names first, then their line, then their bytes: at no point does a line speak for what is not there
    for longer than it takes to write the next one, and what a crash leaves lies in staging, which is swept.
    """
    if not mirrored:  # the trainer's own files are its own; those of a foreign one were brought here by us
        lines = [line for line in lines if line.path is not None]
    surplus = plan_removals(lines, read_copies(run), policy, headline, mirrored=True)
    if not surplus:
        return []
    folder = staging.incoming(run.checkpoints) / "removed"
    folder.mkdir(parents=True, exist_ok=True)
    for line in surplus:
        if (run.checkpoints / line.name).is_file():
            disk.rename(run.checkpoints / line.name, folder / line.name)
    disk.sync_folder(run.checkpoints)
    record(disk, run, [copy_line(line, HERE, REMOVED, now(), "retention") for line in surplus])
    for line in surplus:
        disk.unlink(folder / line.name)
    return [line.name for line in surplus]
