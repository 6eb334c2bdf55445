"""Where each checkpoint of a run is: on its host, here, at the second place.

What is at the host is the mirror's list, what is here is what the backup verified and what still has its bytes, and the
second place is believed by its record: it cannot be asked while a table is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import msgspec

from ..checkpoints import CheckpointLine, best, read_checkpoints
from ..hosts import LOCAL, MirrorRecord, read_mirror
from ..manifest import Headline, Manifest
from ..rundir import Home, RunDir
from .copies import HERE, SECOND, Copies, CopyLine, read_copies
from .plan import current, kept, newest_of
from .policy import BackupPolicy, read_policy

if TYPE_CHECKING:
    from ..run_view import RunView


@dataclass(frozen=True, slots=True)
class Located:
    """One checkpoint and where it is. `origin`: on the run's host, as far as it was last heard."""

    line: CheckpointLine
    origin: bool = False
    here: CopyLine | None = None
    """The event that vouches for the copy on this machine."""
    second: CopyLine | None = None
    """The same for the second place."""

    @property
    def anywhere(self) -> bool:
        """Whether it exists, as far as it is known."""
        return self.origin or self.here is not None or self.second is not None


class BackupPicture(msgspec.Struct, frozen=True):
    """How the backup of a run stands at one moment. Times are of this machine's clock.

    `verified_step`, `verified_t` (written), `verified_at` (verified) are of the newest checkpoint that a training can
    go on from and that is verified off its host; None while there is none. `outstanding` counts what retention wants
    and is not verified, `bytes_outstanding` its bytes; `bad` what arrived damaged, or was damaged since.
    """

    verified_step: int | None = None
    verified_at: float | None = None
    verified_t: float | None = None
    outstanding: int = 0
    bytes_outstanding: int = 0
    bad: int = 0
    second: str | None = None
    enabled: bool = True
    budget: float | None = None


class Where(TypedDict):
    """One row of `ckpt RUN ls`."""

    name: str
    step: int
    bytes: int
    sha256: str
    where: list[str]
    verified_at: float | None
    kind: str
    t: float
    path: str | None
    best: bool
    latest: bool
    bad: list[str]


def locate(
    run: RunDir, manifest: Manifest, mirror: MirrorRecord | None, copies: Copies, policy: BackupPolicy
) -> list[Located]:
    """The checkpoints of a run that still exist, in order of writing. A second place is the one of the policy.

    Raises
    ------
    OSError: their list is there and cannot be read.
    """
    lines, copies = read_checkpoints(run.checkpoint_manifest), copies.at_second(policy.second)
    if not lines:
        return []
    origin = _origin(lines, manifest, mirror, run.checkpoints, copies)
    found = [
        Located(
            line,
            origin=id(line) in origin,
            here=_vouched(run, line, copies) if mirror is not None or line.path is not None else None,
            second=copies.holds(line, SECOND),
        )
        for line in lines
    ]
    return [place for place in found if place.anywhere]


def _vouched(run: RunDir, line: CheckpointLine, copies: Copies) -> CopyLine | None:
    """The event that vouches for the copy here, as long as the file is there with its size."""
    copy = copies.holds(line, HERE)
    return copy if copy is not None and _has_size(run.checkpoints / line.name, line.bytes) else None


def _origin(
    lines: Sequence[CheckpointLine],
    manifest: Manifest,
    mirror: MirrorRecord | None,
    directory: Path,
    copies: Copies,
) -> set[int]:
    """Identities of the lines whose files are on the run's host.

    The mirror lists only our own, and may lag behind the manifest. So a foreign trainer's file, and the newest of ours,
    count as there until the backup finds them gone: the other way round a machine would be called safe with files that
    nobody has fetched.
    """
    if mirror is not None:
        there = set(mirror.checkpoints)
        newest = next((line for line in reversed(lines) if line.path is None), None)
        return {
            id(line)
            for line in current(lines)
            if line.name in there or ((line.path is not None or line is newest) and not copies.is_gone(line))
        }
    try:
        names = {entry.name for entry in directory.iterdir()}
    except OSError:
        names = set()
    return {id(line) for line in current(lines) if _is_at_origin(line, manifest, names)}


def _is_at_origin(line: CheckpointLine, manifest: Manifest, names: set[str]) -> bool:
    if line.path is None:
        return line.name in names
    return manifest.cwd is not None and _has_size(Path(manifest.cwd) / line.path, line.bytes)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except (OSError, ValueError):
        return False


def safe_places(host: str, policy: BackupPolicy) -> tuple[str, ...]:
    """The places that outlive a host: this machine unless it is the host, and the second unless it is there."""
    second = () if policy.second is None or policy.second_host == host else (SECOND,)
    return second if host == LOCAL else (HERE, *second)


def is_elsewhere(place: Located, places: Sequence[str]) -> bool:
    """Whether a checkpoint is verified at one of the places, and still has its bytes where that can be seen."""
    return (HERE in places and place.here is not None) or (SECOND in places and place.second is not None)


def newest_elsewhere(located: Sequence[Located], places: Sequence[str]) -> CheckpointLine | None:
    """The newest checkpoint to go on from that is verified at one of the places; None if none is."""
    held = {id(place.line) for place in located if is_elsewhere(place, places)}
    return newest_of([place.line for place in located], held)


def still_to_come(
    located: Sequence[Located], places: Sequence[str], policy: BackupPolicy, headline: Headline | None
) -> list[CheckpointLine]:
    """What retention wants of the checkpoints that exist and is verified at none of the places; most urgent first."""
    elsewhere = {id(place.line) for place in located if is_elsewhere(place, places)}
    groups = kept([place.line for place in located], policy, headline)
    return [line for group in groups for line in group if id(line) not in elsewhere]


def picture(
    located: Sequence[Located],
    copies: Copies,
    policy: BackupPolicy,
    headline: Headline | None,
    mirror: MirrorRecord | None,
) -> BackupPicture | None:
    """How the backup of a run stands; None for a run of this machine that nobody wants elsewhere."""
    host, copies = LOCAL if mirror is None else mirror.host, copies.at_second(policy.second)
    places = safe_places(host, policy)
    if not places:
        return None
    newest = newest_elsewhere(located, places)
    missing = still_to_come(located, places, policy, headline)
    vouched = next((copy for place in places if newest is not None and (copy := copies.holds(newest, place))), None)
    return BackupPicture(
        verified_step=None if newest is None else newest.step,
        verified_at=None if vouched is None else vouched.t,
        verified_t=None if newest is None else newest.t - (0.0 if mirror is None else mirror.skew_s),
        outstanding=len(missing),
        bytes_outstanding=sum(line.bytes for line in missing),
        bad=sum(any(copies.tries(place.line, at) for at in places) for place in located),
        second=policy.second,
        enabled=policy.enabled,
        budget=policy.budget,
    )


def places(view: RunView) -> list[Where]:
    """Where every checkpoint of a run is that still exists, in order of writing: what `ckpt RUN ls` lists.

    `where` has the host's name (`local` for this machine), `here`, and the second place as the policy words it.

    Raises
    ------
    RunDirError: a record of the run is damaged. OSError: a file of it cannot be read.
    """
    if view.manifest is None:
        return []
    run = RunDir(view.dir)
    mirror, copies = read_mirror(run.path), read_copies(run)
    policy = read_policy(Home(run.path.parent.parent), run)
    second = policy.second or SECOND
    located = locate(run, view.manifest, mirror, copies, policy)
    ranked_best = _best(located, view.manifest.headline)
    rows: list[Where] = []
    for place in located:
        line = place.line
        vouched = place.here or place.second
        names = (view.host if place.origin else None, HERE if place.here else None, second if place.second else None)
        rows.append(
            Where(
                name=line.name,
                step=line.step,
                bytes=line.bytes,
                sha256=line.sha256,
                where=[name for name in names if name is not None],
                verified_at=None if vouched is None else vouched.t,
                kind=line.kind,
                t=line.t,
                path=line.path,
                best=line is ranked_best,
                latest=place is located[-1],
                bad=[at for at in (HERE, SECOND) if line.name in copies.bad(at)],
            )
        )
    return rows


def _best(located: Sequence[Located], headline: Headline | None) -> CheckpointLine | None:
    """The best by the headline; where nobody named one, the newest that was the best when it was written."""
    lines = [place.line for place in located]
    if headline is not None and (found := best(lines, headline)) is not None:
        return found
    return next((line for line in reversed(lines) if line.best), None)
