"""Looks at, hashes, sends and places files for a backup: sent over standard input to a host's python3.

After this script standard input holds one line of JSON with the key `op`; the answer is one line of JSON. Every file is
named by a base directory and a path inside it, and no link inside the base is followed: neither the file nor any folder
on the way to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import sys
from typing import Any, Callable, Dict, List, Tuple

BLOCK = 1 << 20
MOST_FILES = 20000
ABOVE = 3
"""Folders above a run's that a first copy may have made: `runs`, the second place, and where that is."""
SMALL = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ATTEMPT = re.compile(r"[0-9]{4}\.json$")
SKIPPED = frozenset([".git", "__pycache__", ".venv"])


class Failed(Exception):
    """The text is a sentence for the user."""


class Odd(Exception):
    """A file that is not taken: `why` is one of missing, nowhere (its base is), link, other, outside, changed."""

    def __init__(self, why: str) -> None:
        Exception.__init__(self, why)
        self.why = why


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    if request["op"] == "send":
        return send(request)
    doing: Dict[str, Callable[[Dict[str, Any]], Dict[str, Any]]] = {
        "look": look, "hash": hashes, "samples": samples, "tree": tree, "begin": begin, "commit": commit,
        "remove": remove, "unlink": unlink, "runs": runs,
    }  # fmt: skip
    try:
        say(answer=doing[request["op"]](request))
    except Failed as error:
        say(failed=str(error))
    except OSError as error:
        say(failed="{} on {}: {}.".format(error.filename or request["base"], request["host"], error.strerror or error))


def say(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


# --- looking


def look(request: Dict[str, Any]) -> Dict[str, Any]:
    """Size, time in ns, bytes on the disk and inode of each name, or the reason why it is not taken."""
    return {"files": [_each(request["base"], name, _facts) for name in request["names"]]}


def hashes(request: Dict[str, Any]) -> Dict[str, Any]:
    """sha256, size and time in ns of each name; `changed` for one that was written to meanwhile."""
    return {"files": [_each(request["base"], name, _hash) for name in request["names"]]}


def samples(request: Dict[str, Any]) -> Dict[str, Any]:
    """Every `<set>/<name>.h5` and `<set>/attachments/<name>` under the base with size and time in ns."""
    base = request["base"]
    found: List[Any] = []
    for folder in _names(base)[:64]:
        names = [name for name in _names(os.path.join(base, folder)) if name.endswith(".h5")]
        beside = os.path.join(base, folder, "attachments")
        if not os.path.islink(os.path.join(base, folder)) and not os.path.islink(beside):
            names += ["attachments/" + name for name in _names(beside)]
        for name in names:
            if len(found) < MOST_FILES:
                inner = "{}/{}".format(folder, name)
                row = _each(base, inner, _facts)
                if isinstance(row, list):
                    found.append([inner, row[0], row[1]])
    return {"files": found}


def tree(request: Dict[str, Any]) -> Dict[str, Any]:
    """Every regular file under the base, bounded: code, not what a training wrote into it."""
    base, total = request["base"], 0
    found: List[str] = []
    links: List[List[str]] = []
    if not os.path.isdir(base):
        return {"missing": True}
    for folder, inner, names in os.walk(base):
        inner[:] = sorted(name for name in inner if name not in SKIPPED)
        for name in sorted(names) + [name for name in inner if os.path.islink(os.path.join(folder, name))]:
            path = os.path.join(folder, name)
            facts = os.lstat(path)
            if stat.S_ISLNK(facts.st_mode) and len(links) < MOST_FILES:
                links.append([os.path.relpath(path, base), os.readlink(path)])
            if not stat.S_ISREG(facts.st_mode):
                continue
            if facts.st_size > SMALL and facts.st_ctime > request["before"]:
                continue  # written by the training; the clock of this machine decides, and never that of a pushed file
            total += facts.st_size
            if len(found) >= MOST_FILES or total > request["most"]:
                return {"large": True}
            found.append(os.path.relpath(path, base))
    return {"files": found, "size": total, "links": links}


def runs(request: Dict[str, Any]) -> Dict[str, Any]:
    """What there is of every run under the base: its name, the number of its newest attempt, the size of each journal.

    A folder with nothing in it is no run. `cut` when there are more than can be told.
    """
    found: List[Any] = []
    names = [name for name in _names(request["base"]) if not name.startswith(".")]
    for name in names[:MOST_FILES]:
        place = os.path.join(request["base"], name)
        if not os.path.isdir(place) or not _names(place):
            continue
        numbers = [int(row[:4]) for row in _names(os.path.join(place, "attempts")) if _ATTEMPT.match(row)]
        sizes = {}
        for journal in request["journals"]:
            try:
                sizes[journal] = os.lstat(os.path.join(place, journal)).st_size
            except OSError:
                continue
        found.append([name, max(numbers) if numbers else 0, sizes])
    return {"runs": found, "cut": len(names) > MOST_FILES}


def _names(folder: str) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _each(base: str, name: str, work: Callable[[int], Any]) -> Any:
    try:
        descriptor = open_inside(base, name)
    except Odd as odd:
        return odd.why
    except OSError:
        return "unreadable"
    try:
        return work(descriptor)
    except Odd as odd:
        return odd.why
    except OSError:
        return "unreadable"
    finally:
        os.close(descriptor)


def open_inside(base: str, name: str) -> int:
    """Open a regular file under `base`, following no link below it. Raises Odd, OSError."""
    folder, descriptor = _open_with_folder(base, name)
    os.close(folder)
    return descriptor


def _open_with_folder(base: str, name: str) -> Tuple[int, int]:
    """The folder that a file is in, and the file; the caller closes both. Raises Odd, OSError."""
    parts = name.split("/")
    if not name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise Odd("outside")
    try:
        folder = os.open(base, _FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        raise Odd("nowhere") from None
    try:
        for part in parts[:-1]:
            inner = _open(part, _FOLDER | os.O_NOFOLLOW, folder)
            os.close(folder)
            folder = inner
        descriptor = _open(parts[-1], _FILE, folder)
    except (Odd, OSError):
        os.close(folder)
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        os.close(folder)
        raise Odd("other")
    return folder, descriptor


def _open(part: str, flags: int, folder: int) -> int:
    try:
        facts = os.stat(part, dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        raise Odd("missing") from None
    if stat.S_ISLNK(facts.st_mode):
        raise Odd("link")
    if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
        raise Odd("other")
    return os.open(part, flags, dir_fd=folder)


def _facts(descriptor: int) -> List[int]:
    facts = os.fstat(descriptor)
    return [facts.st_size, facts.st_mtime_ns, facts.st_blocks * 512, facts.st_ino]


def _hash(descriptor: int) -> List[Any]:
    before = os.fstat(descriptor)
    digest = hashlib.sha256()
    while True:
        block = os.read(descriptor, BLOCK)
        if not block:
            break
        digest.update(block)
    after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise Odd("changed")
    return [digest.hexdigest(), after.st_size, after.st_mtime_ns]


# --- sending


def send(request: Dict[str, Any]) -> None:
    """One line, then the bytes of a file from an offset on: raw, and nothing after them.

    The line begins with the request's token, for a login shell may have printed something before it. A file that is
    not as it was looked at is not sent.
    """
    try:
        descriptor = open_inside(request["base"], request["name"])
        facts = os.fstat(descriptor)
        if (facts.st_size, facts.st_mtime_ns) != (request["size"], request["mtime_ns"]):
            raise Odd("changed")
    except Odd as odd:
        _head(request, odd.why)
        return
    except OSError:
        _head(request, "unreadable")
        return
    _head(request, None)
    _pour(descriptor, request["offset"], facts.st_size)
    # Whoever asked says when everything is there; a channel that is closed earlier may lose what is on its way.
    while sys.stdin.buffer.read(BLOCK):
        pass


def _head(request: Dict[str, Any], why: Any) -> None:
    sys.stdout.write("\n{} {}\n".format(request["token"], json.dumps({"why": why})))
    sys.stdout.flush()


def _pour(descriptor: int, offset: int, size: int) -> None:
    """To standard output, until the end or where the file has become shorter: then this ends with a status."""
    os.lseek(descriptor, offset, os.SEEK_SET)
    while offset < size:
        block = os.read(descriptor, min(BLOCK, size - offset))
        if not block:
            sys.exit(1)
        offset += len(block)
        view = memoryview(block)
        while view:
            view = view[os.write(1, view) :]


# --- placing, on a second place


def begin(request: Dict[str, Any]) -> Dict[str, Any]:
    """An existing staging folder, what lies under final names, and how much room there is."""
    base = request["base"]
    staging = os.path.join(base, ".incoming")
    os.makedirs(staging, mode=0o700, exist_ok=True)
    return {"staging": staging, "free": shutil.disk_usage(staging).free}


def commit(request: Dict[str, Any]) -> Dict[str, Any]:
    """Hash what was staged; sync and rename what fits. One word a file: placed, or why not."""
    base = request["base"]
    staging, told, folders = os.path.join(base, ".incoming"), [], set()
    for name, sha, size in request["rows"]:
        if any(part in ("", ".", "..") for part in name.split("/")):
            raise Failed("{!r} is no name of a file.".format(name))
        row = _each(staging, name, _hash)
        if not isinstance(row, list) or row[0] != sha or row[1] != size:
            told.append(row if isinstance(row, str) else "wrong")
            continue
        _sync(os.path.join(staging, name))
        target = os.path.join(base, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.isdir(target) and not os.path.islink(target):
            raise Failed("{} on {} is a directory.".format(target, request["host"]))
        os.replace(os.path.join(staging, name), target)
        folders.add(os.path.dirname(target))
        told.append("placed")
    for folder in sorted(folders):
        while len(folder) >= len(base):
            _sync(folder)
            folder = os.path.dirname(folder)
    above = base
    for _ in range(ABOVE):  # `runs/<id>` may be new, and so may be what it is in
        above = os.path.dirname(above)
        try:
            _sync(above)
        except OSError:
            break  # a folder of somebody else's, who made it
    return {"files": told}


def remove(request: Dict[str, Any]) -> Dict[str, Any]:
    """Unlink files under the base; how many were there."""
    count = 0
    for name in request["names"]:
        try:
            folder, descriptor = _open_with_folder(request["base"], name)
        except (Odd, OSError):
            continue
        try:
            os.unlink(os.path.basename(name), dir_fd=folder)
            count += 1
        except OSError:
            continue
        finally:
            os.close(descriptor)
            os.close(folder)
    return {"removed": count}


def unlink(request: Dict[str, Any]) -> Dict[str, Any]:
    """Unlink one file if it holds what is meant; `done`, or the word why not (`wrong`: it holds something else)."""
    try:
        folder, descriptor = _open_with_folder(request["base"], request["name"])
    except Odd as odd:
        return {"done": False, "why": odd.why}
    try:
        if os.fstat(descriptor).st_size != request["size"] or _hash(descriptor)[0] != request["sha256"]:
            return {"done": False, "why": "wrong"}
        done = _unlink_same(folder, os.path.basename(request["name"]), os.fstat(descriptor))
        return {"done": done, "why": "" if done else "changed"}
    except Odd as odd:
        return {"done": False, "why": odd.why}
    finally:
        os.close(descriptor)
        os.close(folder)


def _unlink_same(folder: int, name: str, meant: os.stat_result) -> bool:
    """Unlink a name if it still stands for the file that was hashed.

    Its trainer may give the name to another file at any moment, so it is taken away first and looked at then; what was
    not meant gets it back, unless there is a newer one by now.
    """
    aside = ".{}.removed-{}".format(name[:200], os.urandom(4).hex())
    os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
    now = os.stat(aside, dir_fd=folder, follow_symlinks=False)
    same = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns) == (
        meant.st_dev, meant.st_ino, meant.st_size, meant.st_mtime_ns,
    )  # fmt: skip
    if not same:
        try:
            os.link(aside, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            pass
        except OSError:
            os.rename(aside, name, src_dir_fd=folder, dst_dir_fd=folder)  # a disk that knows no links
            return False
    os.unlink(aside, dir_fd=folder)
    return same


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
