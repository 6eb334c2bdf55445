"""What the agent says about its host when it begins: the facts a deck plans with."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from typing import Any, Dict, Optional

from .agent_frames import Frame
from .agent_living import BOOT

VERSION = 1
PROGRAMS = {"tmux": "-V", "rsync": "--version", "git": "--version", "uv": "--version"}
VERSIONS_S = 2.0
MORE_PATH = (
    "~/.local/bin",
    "~/.cargo/bin",
    "/usr/local/bin",
    "/usr/bin",
    "/bin",
    "/opt/homebrew/bin",
    "/usr/lib/wsl/lib",
)
DRIVER = "/proc/driver/nvidia/version"
TMUX_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
_NUMBER = re.compile(r"[0-9]+\.[0-9][0-9A-Za-z.]*")


def hello(home: str, tmux_socket: str) -> Frame:
    """The first frame."""
    paths = {name: find(name) for name in [*PROGRAMS, "nvidia-smi"]}
    return {
        "op": "hello",
        "version": VERSION,
        "pid": os.getpid(),
        "python": platform.python_version(),
        "executable": _text(sys.executable or ""),
        "hostname": _text(socket.gethostname()),
        "user": user_name(os.getuid()),
        "uid": os.getuid(),
        "home": home,
        "boot": BOOT,
        "t": time.time(),
        "mono": time.monotonic(),
        "system": _text("{} {} {}".format(platform.system(), platform.release(), platform.machine())),
        "cores": cores(),
        "tmux_socket": tmux_socket,
        "programs": _versions(paths),
        "paths": paths,
    }


def home_directory(asked: Optional[str]) -> str:
    """Wavedeck's home: what hosts.toml says, else what the variables of this host say."""
    environ = os.environ
    home = asked or environ.get("WAVEDECK_HOME")
    if not home:
        home = os.path.join(environ.get("XDG_DATA_HOME") or os.path.join("~", ".local", "share"), "wavedeck")
    return os.path.abspath(os.path.join(os.path.expanduser("~"), os.path.expanduser(home)))


def socket_name(asked: Optional[str]) -> str:
    """The socket of Wavedeck's tmux server."""
    for name in (asked, os.environ.get("WAVEDECK_TMUX_SOCKET")):
        if name and TMUX_NAME.fullmatch(name):
            return name
    return "wavedeck"


def lengthen_path() -> None:
    """A shell that is not interactive often has a short PATH; ours, and that of what we start, gets the usual rest."""
    known = [folder for folder in (os.environ.get("PATH") or os.defpath).split(os.pathsep) if folder]
    more = [os.path.expanduser(folder) for folder in MORE_PATH]
    os.environ["PATH"] = os.pathsep.join([*known, *(folder for folder in more if folder not in known)])


def find(name: str) -> Optional[str]:
    """Where a program is."""
    found = shutil.which(name)
    return _text(os.path.abspath(found)) if found else None


def user_name(uid: int) -> str:
    """A user's name from /etc/passwd; a directory service that does not answer must not hold anybody up."""
    try:
        with open("/etc/passwd", "rb") as handle:
            for line in handle.read(1 << 20).split(b"\n"):
                cells = line.split(b":")
                if len(cells) > 2 and cells[2] == str(uid).encode():
                    return cells[0].decode("utf-8", "replace")[:64]
    except OSError:
        pass
    own = os.environ.get("USER") or os.environ.get("LOGNAME")
    return _text(own)[:64] if own and uid == os.getuid() else str(uid)


def cores() -> Optional[int]:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count()


def _versions(paths: Dict[str, Optional[str]]) -> Dict[str, Optional[str]]:
    """Versions of what there is, asked of all at once; the path where one does not tell in time."""
    found: Dict[str, Optional[str]] = dict(paths)
    asked: Dict[str, Any] = {}
    for name, option in PROGRAMS.items():
        path = paths[name]
        if path is not None:
            try:
                asked[name] = subprocess.Popen(
                    [path, option], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/"
                )
            except OSError:
                found[name] = None
    deadline = time.monotonic() + VERSIONS_S
    for name, process in asked.items():
        try:
            said = process.communicate(timeout=max(0.01, deadline - time.monotonic()))[0]
        except subprocess.TimeoutExpired:
            process.kill()
            continue
        match = _NUMBER.search(said[:400].decode("utf-8", "replace"))
        found[name] = match.group() if match else found[name]
    if found["nvidia-smi"] is not None:
        found["nvidia-smi"] = _driver() or found["nvidia-smi"]
    return found


def _driver() -> Optional[str]:
    """The driver's version from the kernel module: nvidia-smi itself may take seconds, or hang."""
    try:
        with open(DRIVER) as handle:
            match = re.search(r"Kernel Module.*?\s([0-9]+\.[0-9.]+)", handle.read(4096))
    except (OSError, ValueError):
        return None
    return match.group(1) if match else None


def _text(value: str) -> str:
    """A name that may hold any bytes, as Unicode."""
    return value.encode("utf-8", "replace").decode("utf-8")[:400]
