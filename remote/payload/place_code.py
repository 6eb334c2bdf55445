"""Makes room for a run's code on a host, and looks what is there: sent over standard input to its python3.

After this script standard input holds one line of JSON with the key `op`; the answer is one line of JSON. The code of a
run lies in `<home>/code/<run>` and never changes once it is there: it is pushed to a hidden name first, and files that
are the same as in the push before are copied, not linked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from typing import Any, Dict, List, Optional

KEPT_S = 86400.0
"""Code whose run does not exist is deleted after this: a launch under way has none yet."""
NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,120}")


class Failed(Exception):
    """The text is a sentence for the user."""


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    request["files"] = {name: sys.stdin.buffer.read(size) for name, size in request["files"]}
    doing = {"begin": begin, "finish": finish, "abandon": abandon, "which": which, "wheel": wheel}[request["op"]]
    try:
        say(answer=doing(request))
    except Failed as error:
        say(failed=str(error))
    except OSError as error:
        say(failed="{} on {}: {}.".format(error.filename or request["home"], request["host"], error.strerror or error))


def say(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def begin(request: Dict[str, Any]) -> Dict[str, Any]:
    """An empty hidden directory for the code, and where the push before lies."""
    code = os.path.join(request["home"], "code")
    os.makedirs(code, exist_ok=True)
    staging = hidden(code, request)
    if os.path.lexists(os.path.join(code, request["run"])):
        raise Failed("there is code of {} on {} already.".format(request["run"], request["host"]))
    prune(code, os.path.join(request["home"], "runs"), time.time() - KEPT_S)
    shutil.rmtree(staging, ignore_errors=True)
    os.mkdir(staging, 0o700)
    return {"staging": staging, "before": newest(request, code), "free": shutil.disk_usage(staging).free}


def finish(request: Dict[str, Any]) -> Dict[str, Any]:
    """Give the code its name: it is whole. The directory that the command runs in may be empty, and so was not sent."""
    code = os.path.join(request["home"], "code")
    place = os.path.join(code, request["run"])
    os.makedirs(os.path.join(hidden(code, request), request.get("inside") or "."), exist_ok=True)
    os.rename(hidden(code, request), place)
    mark = project_file(request)
    os.makedirs(os.path.dirname(mark), exist_ok=True)
    with open(mark + ".tmp", "w") as handle:
        handle.write(request["run"] + "\n")
    os.replace(mark + ".tmp", mark)
    return {"place": place}


def abandon(request: Dict[str, Any]) -> Dict[str, Any]:
    """Delete what a push that failed has left."""
    code = os.path.join(request["home"], "code")
    shutil.rmtree(hidden(code, request), ignore_errors=True)
    return {}


def wheel(request: Dict[str, Any]) -> Dict[str, Any]:
    """Wavedeck's wheel under a name of its content: programs import from it while they run, so it never changes."""
    if not NAME.fullmatch(request["name"]) or not NAME.fullmatch(request["digest"]):
        raise Failed("{!r} is no name of a wheel.".format(request["name"]))
    path = os.path.join(request["home"], "wheels", request["digest"], request["name"])
    if os.path.exists(path):
        return {"path": path}
    data = request["files"].get(request["name"])
    if data is None:
        return {"path": path, "missing": True}
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = "{}.{}.tmp".format(path, os.getpid())
    with open(temporary, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)
    return {"path": path}


def which(request: Dict[str, Any]) -> Dict[str, Any]:
    """Where programs are, and whether directories are there. `path` comes before this machine's own PATH."""
    path = os.pathsep.join([word for word in [request.get("path"), os.environ.get("PATH", os.defpath)] if word])
    programs: Dict[str, Optional[str]] = {name: shutil.which(name, path=path) for name in request.get("programs", [])}
    directories: List[str] = [name for name in request.get("directories", []) if os.path.isdir(name)]
    exist: List[str] = [name for name in request.get("programs", []) if os.path.exists(name)]
    return {"programs": programs, "directories": directories, "exist": exist, "path": path,
            "pythonpath": os.environ.get("PYTHONPATH", "")}  # fmt: skip


def hidden(code: str, request: Dict[str, Any]) -> str:
    if not NAME.fullmatch(request["run"]):
        raise Failed("{!r} is no name of a run.".format(request["run"]))
    return os.path.join(code, ".{}.new".format(request["run"]))


def project_file(request: Dict[str, Any]) -> str:
    if not NAME.fullmatch(request["project"]):
        raise Failed("{!r} is no name of a project.".format(request["project"]))
    return os.path.join(request["home"], "projects", request["project"])


def newest(request: Dict[str, Any], code: str) -> Optional[str]:
    """The code of the newest push of the same project."""
    try:
        with open(project_file(request)) as handle:
            name = handle.read(200).strip()
    except OSError:
        return None
    path = os.path.join(code, name)
    return path if NAME.fullmatch(name) and os.path.isdir(path) else None


def prune(code: str, runs: str, before: float) -> None:
    """Delete the code of runs that are gone, and pushes that were cut off."""
    for name in os.listdir(code):
        path = os.path.join(code, name)
        try:
            old = os.lstat(path).st_ctime < before
        except OSError:
            continue
        if old and not os.path.lexists(os.path.join(runs, name)):
            shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main()
