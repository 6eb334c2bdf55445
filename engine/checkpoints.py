"""Checkpoints as files with a manifest: what exists, which is newest, which is best, which may go.

Torch-free, so that the deck and the backup use it too. A checkpoint exists once its line stands in
`checkpoints/manifest.jsonl`, and that line is written only after the file itself is durable under its final name:
temporary name, fsync, sha256, rename, fsync of the directory, then the line. "Newest" and "best" come from the lines
only. A glob would trust a file that a dying disk or a half-finished copy left behind.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from .events import as_float
from .files import append_line, sync_directory
from .manifest import Headline

MANIFEST_NAME = "manifest.jsonl"
TEMPORARY_SUFFIX = ".partial"
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,199}")
_SHA256 = re.compile(r"[0-9a-fA-F]{12,64}")
_MAX_PATH = 1024
_BLOCK = 1 << 20


class CheckpointLine(msgspec.Struct, frozen=True):
    """One line of the manifest: a checkpoint that was whole under this name when the line was written.

    `best` says whether it was the best so far by the run's headline; `kind` is `full` when everything needed to go on
    exactly is inside, `weights` when only the model is, `foreign` for a file of a trainer that is not ours.
    """

    name: str
    step: int
    bytes: int
    sha256: str
    t: float
    epoch: float | None = None
    metrics: dict[str, float | str | None] = {}
    best: bool = False
    kind: str = "full"
    path: str | None = None
    """For a foreign trainer's file (`kind="foreign"`): where it lies, relative to the run's working directory on its
    host. The file `checkpoints/<name>` is then only where a copy is."""

    def value(self, metric: str) -> float | None:
        """A finite metric recorded with this checkpoint, or None."""
        number = as_float(self.metrics.get(metric))
        return number if number is not None and math.isfinite(number) else None


_decoder = msgspec.json.Decoder(CheckpointLine)
_encoder = msgspec.json.Encoder()


def is_safe_name(name: str) -> bool:
    """Whether a name is one plain path component: names may come from another host and are never trusted.

    The manifest's own name is none, nor what begins like it: a host that calls a checkpoint so would replace the list.
    """
    return bool(_SAFE_NAME.fullmatch(name)) and ".." not in name and not name.lower().startswith(MANIFEST_NAME)


def is_safe_path(path: str) -> bool:
    """Whether a path stays below the directory it is relative to. Blanks, quotes and newlines are allowed in it: it
    goes into argument lists, never through a shell."""
    if not 0 < len(path) <= _MAX_PATH or "\0" in path or path.startswith(("/", "~")):
        return False
    return all(part not in ("", ".", "..") for part in path.split("/"))


def foreign_name(path: str, sha256: str) -> str:
    """The name of a foreign trainer's file: `<stem>.<first 12 of its sha256><suffix>`, one safe path component.

    The hash is in the name because such files are overwritten in place: each content is a checkpoint of its own.

    Raises
    ------
    ValueError: `sha256` is no hash.
    """
    if _SHA256.fullmatch(sha256) is None:
        raise ValueError(f"{sha256!r} is no sha256")
    file = PurePosixPath(path)
    stem = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._=+-]", "_", file.stem)).strip("._=+-")
    if stem.lower().startswith(MANIFEST_NAME.split(".")[0]):
        stem = f"file-{stem}"  # `manifest.jsonl` belongs to the list itself
    suffix = file.suffix if re.fullmatch(r"\.[A-Za-z0-9_]{1,15}", file.suffix) else ""
    return f"{stem[:120].rstrip('.') or 'file'}.{sha256[:12].lower()}{suffix}"


def read_checkpoints(manifest: Path) -> list[CheckpointLine]:
    """The checkpoints of a manifest in the order written; the last line of a name is the one that counts.

    A missing manifest is an empty list. Torn, damaged and unsafe lines are left out: a tail without its newline is
    "not yet", and a name with a slash in it is an attack or an accident. Two foreign files with the same content may
    share a name: both lines stay.
    """
    try:
        data = manifest.read_bytes()
    except FileNotFoundError:
        return []
    known: dict[str, dict[str | None, tuple[int, CheckpointLine]]] = {}
    for number, raw in enumerate(data.split(b"\n")[:-1]):
        try:
            line = _decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if not is_safe_name(line.name) or (line.path is not None and not is_safe_path(line.path)):
            continue
        alike = known.setdefault(line.name, {})
        other = next(iter(alike.items()), None)  # those beside it agree with it
        if line.path is None or (other is not None and (other[0] is None or other[1][1].sha256 != line.sha256)):
            alike.clear()
        alike[line.path] = (number, line)
    return [line for _, line in sorted((pair for alike in known.values() for pair in alike.values()), key=_order)]


def _order(pair: tuple[int, CheckpointLine]) -> int:
    return pair[0]


def latest(lines: Sequence[CheckpointLine]) -> CheckpointLine | None:
    """The checkpoint written last. After a roll-back that is not the one with the highest step."""
    return lines[-1] if lines else None


def ranked(lines: Iterable[CheckpointLine], headline: Headline) -> list[CheckpointLine]:
    """The checkpoints that carry the headline metric, best first; among equals the earlier one leads."""
    sign = -1.0 if headline.direction == "max" else 1.0
    valued = [(sign * value, line) for line in lines if (value := line.value(headline.metric)) is not None]
    return [line for _, line in sorted(valued, key=lambda pair: pair[0])]


def best(lines: Iterable[CheckpointLine], headline: Headline) -> CheckpointLine | None:
    """The best checkpoint by the headline metric, or None when no line carries it."""
    order = ranked(lines, headline)
    return order[0] if order else None


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def fault(directory: Path, line: CheckpointLine) -> str | None:
    """What is wrong with the file of `line` (`is missing`, `has 12 of 40 bytes`, …), or None when it is whole."""
    path = directory / line.name
    try:
        if path.is_symlink():
            return "is a link, which is never followed"
        size = path.stat().st_size
        if size != line.bytes:
            return f"has {size} bytes instead of {line.bytes}"
        if sha256_of(path) != line.sha256:
            return "does not match its sha256"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def newest_whole(
    directory: Path, lines: Sequence[CheckpointLine], say: Callable[[str], None], kind: str = "full"
) -> CheckpointLine | None:
    """The newest checkpoint whose bytes are the recorded ones; each newer one that is not is named through `say`."""
    for line in reversed(lines):
        if line.kind != kind:
            continue
        wrong = fault(directory, line)
        if wrong is None:
            return line
        if wrong != "is missing":
            say(f"checkpoint {line.name} {wrong}: passed over for the one before it.")
    return None


def temporary_path(directory: Path, name: str) -> Path:
    """Where a checkpoint is written before it has a name; hidden, in the same directory, so that a rename is atomic."""
    return directory / f".{name}{TEMPORARY_SUFFIX}"


def sweep_temporary(directory: Path) -> int:
    """Remove what a killed writer left half-written; returns how many. Only the run's own trainer may call this."""
    leftovers = list(directory.glob(f".*{TEMPORARY_SUFFIX}"))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def unused_name(directory: Path, step: int) -> str:
    """`step-00000400.ckpt`, or with a counter when a roll-back comes by this step again.

    A name is never written twice: between the rename and the new line, the old line would vouch for the new bytes.
    """
    stem = f"step-{step:08d}"
    name, again = f"{stem}.ckpt", 2
    while (directory / name).exists():
        name, again = f"{stem}-{again}.ckpt", again + 1
    return name


def commit(
    temporary: Path,
    name: str,
    step: int,
    epoch: float | None = None,
    metrics: Mapping[str, float | str | None] | None = None,
    headline: Headline | None = None,
    kind: str = "full",
) -> CheckpointLine:
    """Turn a written temporary file into a checkpoint that survives a power cut, and record it.

    Steps, each durable before the next: fsync of the file, sha256 of what the disk holds, rename, fsync of the
    directory, one appended and synced line.

    Raises
    ------
    ValueError: `name` is no plain file name.
    OSError: the disk is full or failing; no line is written, earlier checkpoints stay as they are.
    """
    if not is_safe_name(name):
        raise ValueError(f"{name!r} is no file name for a checkpoint")
    directory = temporary.parent
    with open(temporary, "rb+") as handle:
        os.fsync(handle.fileno())
        size = os.fstat(handle.fileno()).st_size
    digest = sha256_of(temporary)
    os.replace(temporary, directory / name)
    sync_directory(directory)
    known = read_checkpoints(directory / MANIFEST_NAME)
    line = CheckpointLine(
        name=name, step=step, bytes=size, sha256=digest, t=round(time.time(), 3), epoch=epoch,
        metrics=dict(metrics or {}), kind=kind,
    )  # fmt: skip
    if headline is not None and best([*known, line], headline) is line:
        line = msgspec.structs.replace(line, best=True)
    append_line(directory / MANIFEST_NAME, _encoder.encode(line))
    return line


def surplus(
    lines: Sequence[CheckpointLine], headline: Headline | None, keep_last: int, keep_best: int
) -> list[CheckpointLine]:
    """The checkpoints that retention lets go: all but the last `keep_last` and the best `keep_best`.

    The newest and the best are kept whatever the numbers say.
    """
    keep = {line.name for line in lines[-max(1, keep_last) :]}
    if headline is not None:
        keep |= {line.name for line in ranked(lines, headline)[: max(1, keep_best)]}
    return [line for line in lines if line.name not in keep]


def prune(directory: Path, headline: Headline | None, keep_last: int, keep_best: int) -> list[str]:
    """Delete the files that retention lets go; their lines stay as history. Returns the names deleted.

    Only files that are there count towards the numbers, so a file lost elsewhere never costs a good one.
    """
    lines = [line for line in read_checkpoints(directory / MANIFEST_NAME) if (directory / line.name).is_file()]
    gone = surplus(lines, headline, keep_last, keep_best)
    for line in gone:
        (directory / line.name).unlink(missing_ok=True)
    return [line.name for line in gone]
