"""What a moved run goes on from: the newest checkpoint whose bytes are here and are, hashed now, the recorded ones.

The backup's word that it verified a file once is where the search begins, not where it ends: disks forget. Of a foreign
trainer all files of one step belong together, since a model without its optimizer is no state to go on from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...engine.backup.copies import read_copies
from ...engine.checkpoints import CheckpointLine, read_checkpoints, sha256_of
from ...engine.errors import RunDirError
from ...engine.format import plain
from ...engine.hosts import read_mirror
from ...engine.manifest import read_manifest
from ...engine.rundir import Home, RunDir

_DEEPEST = 64


@dataclass(frozen=True, slots=True)
class Chosen:
    """A checkpoint to go on from."""

    run: RunDir
    """Whose it is: the run's own, or an ancestor's while the run has none yet."""
    step: int
    t: float
    """When it was written, by the clock of its host."""
    lines: tuple[CheckpointLine, ...]
    """One file of a recipe, or all files of one step of a foreign trainer, the newest last."""
    files: tuple[Path, ...]
    """Where they are here, in the order of `lines`."""

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(line.bytes for line in self.lines)

    @property
    def label(self) -> str:
        """What it is called on screen."""
        return ", ".join(plain(line.path or line.name, 120) for line in self.lines)


def choose(home: Home, run: RunDir, notices: list[str], at_most: int | None = None) -> Chosen | None:
    """The newest whole checkpoint of a run, or of the run it was moved from; None without any.

    Hashes what it takes, so it belongs in a thread. What is passed over because it is damaged is added to `notices`.

    Parameters
    ----------
    at_most: only steps up to this one.
    """
    for place, limit in _lineage(home, run):
        found = _newest(place, notices, _lower(at_most, limit))
        if found is not None:
            return found
    return None


def held_step(home: Home, run: RunDir) -> int | None:
    """The step that `choose` would most likely find, by what the records say: cheap, and nothing is hashed."""
    for place, limit in _lineage(home, run):
        lines = [line for line in read_checkpoints(place.checkpoint_manifest) if limit is None or line.step <= limit]
        if read_mirror(place.path) is not None:
            copies = read_copies(place)
            lines = [line for line in lines if copies.holds(line) is not None]
        group = next(groups(lines), None)
        if group:
            return group[-1].step
    return None


def _lower(one: int | None, two: int | None) -> int | None:
    return min((step for step in (one, two) if step is not None), default=None)


def _lineage(home: Home, run: RunDir) -> Iterator[tuple[RunDir, int | None]]:
    """The run itself, then those it was moved from, each with the step up to which it counts."""
    limit: int | None = None
    for _ in range(_DEEPEST):
        yield run, limit
        try:
            manifest = read_manifest(run.manifest)
        except (RunDirError, OSError):
            return
        if manifest.parent is None or manifest.parent_step is None:
            return  # a parent of another kind: a sweep
        run, limit = home.run(manifest.parent), _lower(limit, manifest.parent_step)


def _newest(run: RunDir, notices: list[str], at_most: int | None) -> Chosen | None:
    lines = [line for line in read_checkpoints(run.checkpoint_manifest) if at_most is None or line.step <= at_most]
    partial: Chosen | None = None
    for group in groups(lines):
        whole = [(line, path) for line in group if (path := whole_file(run, line, notices)) is not None]
        if not whole:
            continue
        last = whole[-1][0]
        chosen = Chosen(run, last.step, last.t, tuple(line for line, _ in whole), tuple(path for _, path in whole))
        if len(whole) == len(group):
            return chosen
        partial = partial or chosen
    if partial is not None:
        notices.append(f"not all files of step {partial.step} are here: it goes on from {partial.label} alone.")
    return partial


def groups(lines: list[CheckpointLine]) -> Iterator[list[CheckpointLine]]:
    """What can be resumed from, newest first: single files of a recipe, all foreign files of one step."""
    seen: set[int] = set()
    for line in reversed(lines):
        if line.path is None:
            if line.kind == "full":
                yield [line]
        elif line.step not in seen:
            seen.add(line.step)
            by_path = {other.path: other for other in lines if other.path is not None and other.step == line.step}
            yield list(by_path.values())


def whole_file(run: RunDir, line: CheckpointLine, notices: list[str]) -> Path | None:
    """The file here that holds the bytes of a line; None when no copy does."""
    for path, is_kept in _places(run, line):
        wrong = fault(path, line)
        if wrong is None:
            return path
        if is_kept and wrong != "is missing":
            notices.append(f"checkpoint {plain(line.name, 120)} {wrong}: passed over for the one before it.")
    return None


def _places(run: RunDir, line: CheckpointLine) -> Iterator[tuple[Path, bool]]:
    """Where a file may be here, and whether nobody may have changed it there since."""
    far = read_mirror(run.path) is not None
    if read_copies(run).holds(line) is not None or (not far and line.path is None):
        yield run.checkpoints / line.name, True
    if not far and line.path is not None:
        yield Path(read_manifest(run.manifest).cwd or "/") / line.path, False


def fault(path: Path, line: CheckpointLine) -> str | None:
    """What is wrong with a file that should hold the bytes of `line`; None when it does."""
    try:
        if path.is_symlink():
            return "is a link, which is never followed"
        size = path.stat().st_size
        if size != line.bytes:
            return f"has {size} bytes instead of {line.bytes}"
        return None if sha256_of(path) == line.sha256 else "does not match its sha256"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
