"""A run that moved to another host is a new run with a parent: who may write, where it went, what came before.

Three records, each with one writer. `lease.json` says which run of a lineage may write, and the supervisor there obeys
it. `moved.json` is created exclusively before anything starts elsewhere: of two failovers at once one wins, and a run
moves once in its life. `manifest.parent` leads back from the child.
"""

from __future__ import annotations

import msgspec

from .errors import RunDirError
from .events import decode_line
from .files import create_exclusive
from .manifest import Manifest, encode, read_manifest, read_record, write_record
from .names import RUN_ID
from .rundir import Home, RunDir

_DEEPEST = 64
"""A lineage longer than this is taken for damage."""
_HEAD_BYTES = 4 << 20
_LINE_BYTES = 1 << 20


class Lease(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who may write a lineage.

    `lineage` is the id of its first run, `generation` counts from 1, `holder` is the id of the run that may write.
    `fenced_by` names the run that took over, in the record of the one that may no longer.
    """

    lineage: str
    generation: int
    holder: str
    fenced_by: str | None = None

    def allows(self, run_id: str) -> bool:
        """Whether this run may write."""
        return self.holder == run_id and self.fenced_by is None


class Moved(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a run went: `child` on `host`, decided at `t`, resumed from `step` (None: from the start).

    `lost_steps` and `lost_s` are what had been trained since that step, as far as it was known here.
    """

    child: str
    host: str
    t: float
    step: int | None = None
    lost_steps: int | None = None
    lost_s: float | None = None
    reason: str = ""
    automatic: bool = False


def first_lease(run_id: str) -> Lease:
    """The lease of a run that nobody moved."""
    return Lease(lineage=run_id, generation=1, holder=run_id)


def next_lease(lease: Lease | None, run_id: str, child: str) -> Lease:
    """The child's lease, one generation on. `lease` is what `run_id` has; None is the first."""
    before = lease or first_lease(run_id)
    return Lease(lineage=before.lineage, generation=before.generation + 1, holder=child)


def fenced(lease: Lease | None, run_id: str, child: str) -> Lease:
    """What `run_id` gets once `child` has taken over: the next generation, held by another."""
    return msgspec.structs.replace(next_lease(lease, run_id, child), fenced_by=child)


def read_lease(run: RunDir) -> Lease | None:
    """Who may write the lineage of a run; None is a run that was never moved.

    Raises
    ------
    RunDirError: the record is damaged.
    """
    return read_record(run.lease, Lease)


def write_lease(run: RunDir, lease: Lease) -> None:
    """Replace a run's lease."""
    write_record(run.lease, lease)


def read_moved(run: RunDir) -> Moved | None:
    """Where a run went; None is a run that is still where it was launched.

    Raises
    ------
    RunDirError: the record is damaged: somebody moved it, and it cannot be told where.
    """
    return read_record(run.moved, Moved)


def claim_move(run: RunDir, moved: Moved) -> bool:
    """Say durably that a run moves, before anything starts elsewhere. False: somebody else has said so already."""
    return create_exclusive(run.moved, encode(moved))


def ancestors(home: Home, run: RunDir) -> list[tuple[RunDir, int]]:
    """The runs that a moved run goes on from, oldest first, each with the last step of it that counts.

    A parent that is not here, cannot be read, or of which nothing was kept (a sweep, a move that began anew) ends the
    list, as does a circle.
    """
    found: list[tuple[RunDir, int]] = []
    seen = {run.id}
    child, limit = run, None
    while len(found) < _DEEPEST:
        manifest = _manifest(child)
        if (
            manifest is None
            or manifest.parent is None
            or manifest.parent in seen
            or not RUN_ID.fullmatch(manifest.parent)
        ):
            break
        parent = home.run(manifest.parent)
        step = seam(parent, child, manifest)
        if step is None or step <= 0 or not parent.manifest.exists():
            break
        limit = step if limit is None else min(limit, step)
        found.append((parent, limit))
        seen.add(parent.id)
        child = parent
    return found[::-1]


def has_parent(run: RunDir) -> bool:
    """Whether a run names another one that it comes from."""
    manifest = _manifest(run)
    return manifest is not None and manifest.parent is not None


def seam(parent: RunDir, child: RunDir, manifest: Manifest) -> int | None:
    """The step of `parent` that `child` went on from; None when it cannot be told.

    The child's own `start` event knows best, then its manifest; the parent's `moved.json` is all there is for a child
    of an older launcher.
    """
    step = first_start_step(child)
    if step is not None:
        return step
    if manifest.parent_step is not None:
        return manifest.parent_step
    try:
        moved = read_moved(parent)
    except RunDirError:
        return None
    return moved.step if moved is not None and moved.child == child.id else None


def first_start_step(run: RunDir) -> int | None:
    """The step that a run's trainer began at, by its journal; None while it has not said so."""
    try:
        with open(run.events, "rb") as journal:
            while journal.tell() < _HEAD_BYTES:
                raw = journal.readline(_LINE_BYTES)
                if not raw.endswith(b"\n"):
                    return None
                event = decode_line(raw)
                if event is None:
                    continue
                if event.k == "start" and event.step is not None:
                    return event.step
                if event.k == "metrics" and event.step is not None:
                    return None  # a trainer that tells no start
    except OSError:
        return None
    return None


def _manifest(run: RunDir) -> Manifest | None:
    try:
        return read_manifest(run.manifest)
    except (RunDirError, OSError):
        return None
