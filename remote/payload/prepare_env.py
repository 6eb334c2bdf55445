"""Makes an environment on a host, once: sent over standard input to its python3 by `remote/provision/environment.py`.

After this script standard input holds one line of JSON, then the files it names. Progress and the answer are JSON
lines on standard output. An environment cannot be made under another name and renamed, because absolute paths stand in
it: it is made in place, under a lock, and `.ready` is written last. One without it is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional, Tuple

READY = ".ready"
ABOUT = "environment.json"
POLL_S = 0.1
TELL_S = 5.0
KEPT = 40
TORCH_S = 300
TORCH = """
import json, torch
found = torch.cuda.is_available()
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if found else []
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "available": found, "gpus": names}))
"""


class Failed(Exception):
    """The environment could not be made; the text is a sentence for the user."""


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    files = {name: sys.stdin.buffer.read(size) for name, size in request["files"]}
    try:
        say(answer=prepare(request, files))
    except Failed as error:
        say(failed=str(error))
    except OSError as error:
        say(failed="the environment on {} cannot be made: {}.".format(request["host"], error))


def say(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def prepare(request: Dict[str, Any], files: Dict[str, bytes]) -> Dict[str, Any]:
    """Find the environment or make it."""
    uv = find_uv()
    version, python = choose_python(request, uv)
    key = hashlib.sha256("{} {}".format(request["digest"], version).encode()).hexdigest()[:20]
    envs = os.path.join(request["home"], "envs")
    path = os.path.join(envs, key)
    if is_ready(path):
        return answer(path, reused=True)
    if request.get("look_only"):
        return dict(answer(path, reused=False), missing=True)
    os.makedirs(envs, exist_ok=True)
    with open(os.path.join(envs, ".{}.lock".format(key)), "ab") as lock:
        waited = take(lock, path)
        if is_ready(path):
            return dict(answer(path, reused=True), waited=waited)
        make(request, files, uv, python, path)
    return answer(path, reused=False)


def answer(path: str, reused: bool) -> Dict[str, Any]:
    about = read_about(path)
    return {"path": path, "python": os.path.join(path, "bin", "python"), "bin": os.path.join(path, "bin"),
            "reused": reused, "about": about}  # fmt: skip


def is_ready(path: str) -> bool:
    """Whether it is whole and still works: the interpreter it was made from may be gone with the container's disk."""
    if not os.path.exists(os.path.join(path, READY)):
        return False
    try:
        status = subprocess.run([os.path.join(path, "bin", "python"), "-I", "-c", ""], check=False).returncode
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    if status < 0:  # killed: the machine has no memory left, which says nothing about the environment
        raise Failed("{} was ended by signal {}: the machine is out of memory; try again.".format(path, -status))
    return status == 0


def read_about(path: str) -> Dict[str, Any]:
    try:
        with open(os.path.join(path, ABOUT), "rb") as handle:
            value = json.loads(handle.read())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def take(lock: Any, path: str) -> bool:
    """Hold the lock; True when somebody else had it first. Their news is passed on meanwhile."""
    told, last = 0.0, ""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return told > 0
        except BlockingIOError:
            news = read_news(path)
            if time.monotonic() - told >= TELL_S or news != last:
                told, last = time.monotonic(), news
                say(text="another launch is preparing it{}".format(": " + news if news else ""))
            time.sleep(POLL_S)
        except OSError:  # a network file system without locks: two makers at once are unlikely, none is worse
            say(text="this file system has no locks: launch one run at a time until the environment is there")
            return False


def news_file(path: str) -> str:
    """Where the one who makes it leaves its last line for those who wait."""
    return os.path.join(os.path.dirname(path), ".{}.news".format(os.path.basename(path)))


def read_news(path: str) -> str:
    try:
        with open(news_file(path), "rb") as handle:
            return handle.read(300).decode("utf-8", "replace")
    except OSError:
        return ""


# -- which Python


def find_uv() -> Optional[str]:
    """uv on the PATH, where its installer puts it, or beside this Python."""
    places = [os.path.expanduser("~/.local/bin"), os.path.expanduser("~/.cargo/bin"), os.path.dirname(sys.executable)]
    return shutil.which("uv") or shutil.which("uv", path=os.pathsep.join(places))


def choose_python(request: Dict[str, Any], uv: Optional[str]) -> Tuple[str, Optional[str]]:
    """Version (`3.11`) and path of the interpreter to build on; no path when uv is to find or fetch one."""
    allowed: List[str] = request.get("pythons") or []  # best first; empty allows any
    own = "{}.{}".format(*sys.version_info[:2])
    if not allowed or own in allowed:
        return own, sys.executable
    for version in allowed:
        found = shutil.which("python" + version)
        if found and (uv or works(found)):
            return version, found
    if uv:
        return allowed[0], None
    raise Failed(
        "python3 on {host} is {own} and this needs {first} to {last}: install one there (`apt-get install -y "
        "python{best} python{best}-venv`, or uv, which brings its own), or name an interpreter with python= in "
        "hosts.toml.".format(
            host=request["host"], own=own, first=oldest(allowed), last=newest(allowed), best=allowed[0]
        )
    )


def oldest(versions: List[str]) -> str:
    return min(versions, key=lambda text: [int(part) for part in text.split(".")])


def newest(versions: List[str]) -> str:
    return max(versions, key=lambda text: [int(part) for part in text.split(".")])


def works(python: str) -> bool:
    """Whether it starts and can make environments."""
    done = subprocess.run(
        [python, "-I", "-c", "import ensurepip, venv"],
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return done.returncode == 0


# -- making it


def make(request: Dict[str, Any], files: Dict[str, bytes], uv: Optional[str], python: Optional[str], path: str) -> None:
    clear(path)
    maker = Maker(request["host"], path, cache_environment(request["home"]))
    if uv:
        version = choose_python(request, uv)[0]
        maker.run("making an environment with uv", [uv, "venv", "--python", python or version, path])
    else:
        if not works(str(python)):
            raise Failed(
                "python3 on {} cannot make environments: run `apt-get install -y python3-venv` there.".format(
                    request["host"]
                )
            )
        maker.run("making an environment with venv", [str(python), "-m", "venv", path])
    inside = os.path.join(path, "bin", "python")
    for name, data in files.items():
        with open(os.path.join(path, os.path.basename(name)), "wb") as handle:
            handle.write(data)
    install = (
        [uv, "pip", "install", "--python", inside]
        if uv
        else [inside, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    )
    maker.wanted = request.get("count") or 0
    if files.get("requirements.txt", b"").strip():
        constraints = ["-c", os.path.join(path, "constraints.txt")] if files.get("constraints.txt") else []
        maker.run("installing", [*install, "-r", os.path.join(path, "requirements.txt"), *constraints])
    for name in files:
        if name.endswith(".whl"):
            maker.run("installing Wavedeck", [*install, "--no-deps", os.path.join(path, os.path.basename(name))])
    finish(request, maker, inside, path)


def finish(request: Dict[str, Any], maker: "Maker", inside: str, path: str) -> None:
    """Write what is known about it, then that it is ready."""
    about: Dict[str, Any] = {"label": request.get("label"), "made": time.time(), "python": maker.version(inside)}
    if request.get("check_torch"):
        maker.tell("asking torch for its GPUs")
        about["torch"] = ask_torch(inside)
    write(os.path.join(path, ABOUT), json.dumps(about, indent=2).encode() + b"\n")
    forget(news_file(path))
    write(os.path.join(path, READY), b"")


def ask_torch(inside: str) -> Dict[str, Any]:
    """Whether torch loads and what it sees; `error` when it does not load."""
    try:
        done = subprocess.run(
            [inside, "-I", "-c", TORCH], check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TORCH_S
        )
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        warnings = done.stderr.decode("utf-8", "replace").strip().splitlines()
        if done.returncode == 0 and lines:
            value: Dict[str, Any] = json.loads(lines[-1])
            return dict(value, warning=" ".join(warnings)[-500:]) if warnings else value
        return {"error": (warnings or ["exit status {}".format(done.returncode)])[-1][-300:]}
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)[:300]}


class Maker:
    """Runs the tools and tells what they say. Raises Failed with their reason."""

    def __init__(self, host: str, path: str, env: Dict[str, str]) -> None:
        self._host = host
        self._path = path
        self._env = env
        self.wanted = 0
        """Packages that will be installed, as far as that is known."""
        self._seen = 0

    def run(self, what: str, argv: List[str]) -> None:
        self.tell(what)
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/", env=self._env
        )
        kept: List[str] = []
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.decode("utf-8", "replace").strip()[:300]
            if line:
                kept = [*kept[-KEPT:], line]
                self.tell(line)
        status = process.wait()
        if status != 0:
            raise Failed(reason(self._host, self._path, what, status, kept))

    def tell(self, line: str) -> None:
        self._seen += line.startswith(("Collecting ", "Downloaded ", "+ "))
        counted = {"done": min(self._seen, self.wanted), "total": self.wanted} if self.wanted and self._seen else {}
        say(text=line, **counted)
        try:
            with open(news_file(self._path), "wb") as handle:
                handle.write(line.encode()[:300])
        except OSError:
            return  # the tool itself will say that the disk is full

    def version(self, inside: str) -> str:
        done = subprocess.run(
            [inside, "-I", "-c", "import platform; print(platform.python_version())"],
            check=False, stdout=subprocess.PIPE,
        )  # fmt: skip
        return done.stdout.decode("utf-8", "replace").strip()[:40]


def reason(host: str, path: str, what: str, status: int, lines: List[str]) -> str:
    """Why a tool failed, as a sentence."""
    text = "\n".join(lines)
    if "No space left" in text or "os error 28" in text or "Errno 28" in text:
        return (
            "the disk of {} on {} is full: free some space there, or set home= in hosts.toml to a larger disk.".format(
                os.path.dirname(path), host
            )
        )
    telling = [line for line in lines if line.lower().startswith(("error", "×", "fatal"))] or lines[-1:]
    said = " ".join(telling[-2:]).rstrip(".") if telling else "exit status {}".format(status)
    return "{} on {} failed: {}. It is made anew with the next launch.".format(what, host, said)


def cache_environment(home: str) -> Dict[str, str]:
    """uv links what is on the same disk and copies the rest: its cache belongs on the disk of the environments."""
    env = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    own = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    try:
        apart = os.stat(nearest(own)).st_dev != os.stat(home).st_dev
    except OSError:
        apart = False
    if apart:
        env.setdefault("UV_CACHE_DIR", os.path.join(home, "cache", "uv"))
    return env


def nearest(path: str) -> str:
    while not os.path.exists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def clear(path: str) -> None:
    """Take an unfinished environment out of the way; nothing runs in it, because it never was ready."""
    if not os.path.lexists(path):
        return
    aside = "{}.old.{}".format(path, os.getpid())
    os.rename(path, aside)
    shutil.rmtree(aside, ignore_errors=True)


def write(path: str, data: bytes) -> None:
    with open(path + ".tmp", "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(path + ".tmp", path)


def forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return


if __name__ == "__main__":
    main()
