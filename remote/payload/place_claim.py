"""One record of who moves a run here: sent over standard input to a host's python3, or called on this machine.

Two machines that watch the same hosts see each other only on a host that both reach. Whoever is to go on with a run
puts `<home>/claims/<run>.json` there before anything else of it exists; of two the first one stands.

After this script standard input holds one line of JSON with the key `op`; the answer is one line of JSON.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from typing import Any, Dict, Optional

RUN = re.compile(r"[0-9]{8}-[0-9]{4}-[a-z0-9][a-z0-9-]{0,63}")
MOST = 16 << 10


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    doing = {"claim": claim, "release": release}[request["op"]]
    try:
        event: Dict[str, Any] = {"answer": {"claim": doing(request["home"], request["run"], request["claim"])}}
    except OSError as error:
        what = "{} on {}: {}.".format(error.filename or request["home"], request["host"], error.strerror or error)
        event = {"failed": what}
    sys.stdout.write(json.dumps(event) + "\n")


def claim(home: str, run: str, mine: Dict[str, Any]) -> Dict[str, Any]:
    """The claim that stands now: `mine`, or another home's. Empty: the record that stands cannot be understood.

    One of the same home gives way: there a run has one child at a time, and the one before was taken back.
    """
    path = _path(home, run)
    while True:
        standing = _read(path)
        if standing is None:
            if _write(path, mine, exclusive=True):
                return mine
            continue
        if standing.get("home") == mine["home"] and standing.get("child") != mine["child"]:
            _write(path, mine, exclusive=False)
            return mine
        return standing


def release(home: str, run: str, mine: Dict[str, Any]) -> Dict[str, Any]:
    """Take a claim back, if it stands."""
    path = _path(home, run)
    standing = _read(path) or {}
    if standing.get("home") == mine["home"] and standing.get("child") == mine["child"]:
        os.unlink(path)
        _sync(os.path.dirname(path))
    return standing


def _path(home: str, run: str) -> str:
    if RUN.fullmatch(run) is None:
        raise OSError(0, "that is no id of a run")
    return os.path.join(home, "claims", run + ".json")


def _read(path: str) -> Optional[Dict[str, Any]]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as handle:
        try:
            record = json.loads(handle.read(MOST).decode("utf-8"))
        except (ValueError, RecursionError):
            return {}
    return record if isinstance(record, dict) else {}


def _write(path: str, record: Dict[str, Any], exclusive: bool) -> bool:
    """Put it there whole; False when `exclusive` and there is one already."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    temporary = os.path.join(folder, ".{}.{}.tmp".format(os.path.basename(path), secrets.token_hex(4)))
    data = json.dumps(record).encode() + b"\n"
    try:
        _fill(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), data)
        if not exclusive:
            os.replace(temporary, path)
        else:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError:  # no hard links there: still one winner, but a crash midway leaves a damaged record
                try:
                    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                except FileExistsError:
                    return False
                _fill(descriptor, data)
    finally:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass
    _sync(folder)
    return True


def _fill(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(descriptor)


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
