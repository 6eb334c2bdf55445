"""What a host has for trainings, gathered in one go and printed as one line of JSON. Looks only, changes nothing.

Handed to `python3 -` on standard input with two arguments, Wavedeck's home there and the interpreter its trainings use
(both may be empty), so it stands alone: it imports no sibling. Every question has its own time limit and its own None.
Of other programs' environments only names on a short list are ever read: the rest of them are secrets.
"""

from __future__ import annotations

import json
import os
import platform
import pwd
import re
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Optional, Sequence, Tuple

MARK = "WAVEDECK-PREFLIGHT "
TOOL_S = 10.0
GPU_S = 30.0
TORCH_S = 90.0
"""Importing torch from a cold network disk takes this long."""
KILL_S = 2.0
TEXT = 300
VERSIONS = {
    "tmux": ["-V"],
    "rsync": ["--version"],
    "git": ["--version"],
    "uv": ["--version"],
}
INSTALLERS = ("apt-get", "dnf", "yum", "apk", "pacman", "zypper")
GPU_FIELDS = ["index", "name", "driver_version", "memory.total", "compute_cap"]
PROVIDER_NAMES = (
    "VAST_CONTAINERLABEL",
    "RUNPOD_POD_ID",
    "SLURM_JOB_ID",
    "SLURM_JOB_END_TIME",
    "PAPERSPACE_MACHINE_ID",
    "KUBERNETES_SERVICE_HOST",
    "COLAB_RELEASE_TAG",
)
"""What tells whose machine this is. Nothing here is a secret; nothing else is read."""
UNLIMITED = 1 << 60

_TORCH_CHILD = r"""
import json, sys, warnings
def say(**facts):
    sys.stdout.write("WAVEDECK-TORCH " + json.dumps(facts) + "\n"); sys.stdout.flush()
def version(name):
    try:
        from importlib.metadata import version
        return version(name)
    except Exception:
        return None
say(python="%d.%d.%d" % sys.version_info[:3], torch=version("torch"), torchaudio=version("torchaudio"))
try:
    import torch
except BaseException as error:
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        raise SystemExit(0)
    say(torch_error=("%s: %s" % (type(error).__name__, error))[:300])
    raise SystemExit(0)
say(torch=str(torch.__version__), cuda=torch.version.cuda, hip=getattr(torch.version, "hip", None))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        available = bool(torch.cuda.is_available())
        archs = list(torch.cuda.get_arch_list()) if available else []
    except BaseException as error:
        available, archs = False, []
        say(cuda_error=("%s: %s" % (type(error).__name__, error))[:300])
say(available=available, archs=archs[:40], warning=(str(caught[0].message)[:300] if caught else None))
try:
    import torchaudio
    say(torchaudio=str(torchaudio.__version__))
except BaseException as error:
    say(torchaudio_error=("%s: %s" % (type(error).__name__, error))[:300])
"""


def gather(home: str, python: str) -> Dict[str, Any]:
    """Every fact, as far as it can be had."""
    t = time.time()
    names = environment_of_provider()
    jobs = {
        "programs": lambda: {name: program(name, words) for name, words in VERSIONS.items()},
        "gpus": gpus,
        "cuda": cuda_of_driver,
        "torch": lambda: torch_in(interpreters(python)),
    }
    with ThreadPoolExecutor(len(jobs)) as pool:
        waiting = {name: pool.submit(job) for name, job in jobs.items()}
        facts = {
            "t": t,
            "python": "{}.{}.{}".format(*sys.version_info[:3]),
            "user": user(),
            "root": os.geteuid() == 0,
            "system": system(),
            "home": directory(wavedeck_home(home)),
            "memory": memory(),
            "shm": file_system("/dev/shm"),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "installer": next((name for name in INSTALLERS if which(name)), None),
            "provider": names,
            "shutdown": planned_shutdown(),
            "container": in_container(),
        }
        for name, future in waiting.items():
            try:
                facts[name] = future.result()
            except Exception as error:
                facts[name], facts[name + "_error"] = None, str(error)[:TEXT]
    return facts


def wavedeck_home(given: str) -> str:
    """Where Wavedeck keeps its runs here: as given, else by the environment, else the usual place."""
    if given:
        return os.path.join(os.path.expanduser("~"), os.path.expanduser(given))
    named = os.environ.get("WAVEDECK_HOME")
    if named:
        return named
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return os.path.join(data, "wavedeck")


def directory(path: str) -> Dict[str, Any]:
    """A directory, or what it would be made in: whether it can be written, and the room there."""
    place = path
    while not os.path.exists(place) and os.path.dirname(place) != place:
        place = os.path.dirname(place)
    writable = os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK)
    facts = file_system(place) or {}
    facts.update(path=path, exists=place == path, writable=writable and not facts.get("read_only"))
    return facts


def file_system(path: str) -> Optional[Dict[str, Any]]:
    """Bytes and files there is room for."""
    try:
        facts = os.statvfs(path)
    except OSError:
        return None
    return {
        "free": facts.f_bavail * facts.f_frsize,
        "total": facts.f_blocks * facts.f_frsize,
        "files_free": facts.f_favail if facts.f_files else None,
        "read_only": bool(facts.f_flag & os.ST_RDONLY),
    }


def memory() -> Dict[str, Optional[int]]:
    """Bytes of the machine, and the least that a control group on the way to its root allows this process."""
    total = None
    try:
        with open("/proc/meminfo") as handle:
            match = re.search(r"^MemTotal:\s+(\d+) kB", handle.read(), re.M)
        total = int(match.group(1)) * 1024 if match else None
    except OSError:
        pass
    limits = [limit for limit in (number_in(path) for path in limit_files()) if limit is not None]
    limit = min(limits) if limits else None
    if limit is not None and (limit >= UNLIMITED or (total is not None and limit >= total)):
        limit = None
    return {"total": total, "limit": limit}


def limit_files(groups: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> List[str]:
    """Files that hold a memory limit for this process, in either version of control groups."""
    found = []
    for line in (read(own) or "0::/").splitlines():
        _, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        if kinds == "":
            top, name = groups, "memory.max"
        elif "memory" in kinds.split(","):
            top, name = os.path.join(groups, "memory"), "memory.limit_in_bytes"
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for length in range(len(parts) + 1):
            found.append(os.path.join(top, *parts[:length], name))
    return found


def environment_of_provider() -> Dict[str, str]:
    """The names of PROVIDER_NAMES that are set here, or for the container's first process, or for every login."""
    found: Dict[str, str] = {}
    lines = (read("/etc/environment") or "").splitlines()
    lines += (read("/proc/1/environ") or "").split("\0")
    lines += ["{}={}".format(name, os.environ[name]) for name in PROVIDER_NAMES if name in os.environ]
    for line in lines:
        name, _, value = line.partition("=")
        name = name.replace("export ", "").strip()
        if name in PROVIDER_NAMES:
            found[name] = value.strip().strip("\"'")[:80]
    if "VAST_CONTAINERLABEL" not in found:
        label = (read(os.path.expanduser("~/.vast_containerlabel")) or "").strip()
        if label:
            found["VAST_CONTAINERLABEL"] = label[:80]
    return found


def planned_shutdown() -> Optional[float]:
    """When systemd will switch the machine off, in seconds since the epoch; None when nothing is planned."""
    match = re.search(r"^USEC=(\d{1,18})$", read("/run/systemd/shutdown/scheduled") or "", re.M)
    return int(match.group(1)) / 1e6 if match else None


def in_container() -> bool:
    """Whether this is a container rather than a machine."""
    return os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv")


def gpus() -> Dict[str, Any]:
    """What nvidia-smi lists: rows of GPU_FIELDS, or its words and exit status when it fails."""
    fields = list(GPU_FIELDS)
    while True:
        query = "--query-gpu=" + ",".join(fields)
        done = child(["nvidia-smi", query, "--format=csv,noheader,nounits"], GPU_S)
        if done is None:
            return {"rows": [], "status": 127, "text": ""}
        refused = re.search(r'Field "([^"]{1,80})" is not a valid field', done["out"])
        if done["status"] == 0 or refused is None or refused.group(1) not in fields:
            break
        fields.remove(refused.group(1))
    rows = []
    if done["status"] == 0:
        for line in done["out"].splitlines()[:64]:
            cells = [cell.strip()[:80] for cell in line.split(",")]
            if len(cells) == len(fields):
                rows.append(dict(zip(fields, cells)))
    return {"rows": rows, "status": done["status"], "text": (done["out"] + done["err"])[:1000] if not rows else ""}


def cuda_of_driver() -> Optional[str]:
    """The newest CUDA version that the driver serves, `12.4`, from the head of nvidia-smi's table."""
    done = child(["nvidia-smi"], GPU_S)
    match = re.search(r"CUDA (?:[A-Z]+ )?Version:\s*(\d{1,3}\.\d{1,3})", done["out"]) if done else None
    return match.group(1) if match else None


def interpreters(python: str) -> List[str]:
    """Whose torch is looked for: the configured interpreter's, else python3's and those of the usual environments."""
    if python:
        return [os.path.expanduser(python)]
    venv = os.environ.get("VIRTUAL_ENV")
    found = [sys.executable or "python3"]
    found += [os.path.join(venv, "bin", "python")] if venv else []
    found += ["/venv/main/bin/python", "/opt/conda/bin/python", "/workspace/venv/bin/python"]
    kept: List[str] = []
    for path in found:
        if os.path.exists(path) and path not in kept:
            kept.append(path)
    return kept


def torch_in(paths: Sequence[str]) -> List[Dict[str, Any]]:
    """What each interpreter says of its torch and torchaudio; `missing` when it cannot be started."""
    with ThreadPoolExecutor(max(1, len(paths))) as pool:
        return list(pool.map(torch_of, paths))


def torch_of(path: str) -> Dict[str, Any]:
    """One interpreter's torch: versions even when the import fails, crashes or takes too long."""
    facts: Dict[str, Any] = {"path": path}
    environ = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", CUDA_MODULE_LOADING="LAZY")
    done = child([path, "-c", _TORCH_CHILD], TORCH_S, environ)
    if done is None:
        facts["missing"] = True
        return facts
    for line in done["out"].splitlines():
        if line.startswith("WAVEDECK-TORCH "):
            facts.update(json.loads(line[len("WAVEDECK-TORCH ") :]))
    if done["status"] is None:
        facts["slow"] = True
    elif done["status"] != 0:
        facts["crashed"] = done["status"]
        facts["said"] = done["err"].strip()[-TEXT:]
    return facts


def program(name: str, words: Sequence[str]) -> Optional[str]:
    """The first line a program says of its version, or its path when it does not; None when there is none."""
    path = which(name)
    if path is None:
        return None
    done = child([path, *words], TOOL_S)
    lines = done["out"].splitlines() if done else []
    return lines[0][:80] if lines else path


def which(name: str) -> Optional[str]:
    """Where a program is: on the PATH, or where installers of a user's own put it."""
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for place in [*places, os.path.expanduser("~/.local/bin"), os.path.expanduser("~/.cargo/bin")]:
        path = os.path.join(place, name)
        if place and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def child(argv: Sequence[str], limit_s: float, environ: Optional[Dict[str, str]] = None) -> Optional[Dict[str, Any]]:
    """A command's status (None: out of time, it was killed) and output; None when it cannot be started."""
    try:
        process = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", env=environ,
            start_new_session=True,
        )  # fmt: skip
    except (OSError, ValueError):
        return None
    try:
        out, err = process.communicate(timeout=limit_s)
        status: Optional[int] = process.returncode
    except subprocess.TimeoutExpired:
        out, err, status = *_killed(process), None
    return {
        "status": status,
        "out": out[-65536:].decode("utf-8", "replace"),
        "err": err[-4096:].decode("utf-8", "replace"),
    }


def _killed(process: "subprocess.Popen[bytes]") -> Tuple[bytes, bytes]:
    """End a command with all it started; what it had said by then. A driver that hangs may hold it for ever."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        pass
    try:
        return process.communicate(timeout=KILL_S)
    except subprocess.TimeoutExpired:
        return b"", b""


def user() -> str:
    """Who this is."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def system() -> str:
    """`Debian GNU/Linux 12`, or the kernel's own words."""
    match = re.search(r'^PRETTY_NAME="?([^"\n]{1,80})', read("/etc/os-release") or "", re.M)
    return match.group(1) if match else platform.platform()[:80]


def read(path: str) -> Optional[str]:
    """The start of a small file."""
    try:
        with open(path, "rb") as handle:
            return handle.read(1 << 20).decode("utf-8", "replace")
    except OSError:
        return None


def number_in(path: str) -> Optional[int]:
    """A file that holds one number; None for `max`."""
    text = (read(path) or "").strip()
    return int(text) if text.isdigit() and len(text) <= 20 else None


if __name__ == "__main__":
    arguments = [*sys.argv[1:], "", ""]
    sys.stdout.write(MARK + json.dumps(gather(arguments[0], arguments[1])) + "\n")
