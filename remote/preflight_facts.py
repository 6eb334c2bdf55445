"""What a host said about itself before a launch, as values; and the asking of it.

One script gathers everything in one go. Where there is no python3 to run it, single commands tell the little that they
can; what nobody told is None.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ..engine.format import plain
from .host import Completed, HostError

SCRIPT = Path(__file__).parent / "payload" / "preflight_facts.py"
GATHER_S = 150.0
"""An import of torch from a cold disk is the longest part; it has its own, shorter limit."""
COMMAND_S = 15.0
ANSWER_BYTES = 1 << 20
_MARK = b"WAVEDECK-PREFLIGHT "


class Looked(Protocol):
    """What a look needs of a host: its name and commands, whether or not an agent runs there."""

    @property
    def name(self) -> str:
        """What users call it."""
        ...

    async def run(
        self, argv: Sequence[str], *, timeout_s: float = ..., stdin: bytes = ..., limit: int = ...
    ) -> Completed:
        """As `Host.run`."""
        ...


class FileSystem(msgspec.Struct, frozen=True):
    """Room on a file system, in bytes and files; with `path`, of the directory asked for or what it would be in."""

    free: int | None = None
    total: int | None = None
    files_free: int | None = None
    read_only: bool = False
    path: str = ""
    exists: bool = False
    writable: bool | None = None


class Memory(msgspec.Struct, frozen=True):
    """Bytes of the machine, and what its container allows."""

    total: int | None = None
    limit: int | None = None


class Gpus(msgspec.Struct, frozen=True):
    """Rows of nvidia-smi (index, name, driver_version, memory.total, compute_cap), or how it failed."""

    rows: list[dict[str, str]] = []
    status: int | None = None
    text: str = ""


class Torch(msgspec.Struct, frozen=True):
    """One interpreter's torch. Versions stand even when the import failed."""

    path: str
    missing: bool = False
    """The interpreter cannot be started."""
    python: str | None = None
    torch: str | None = None
    torch_error: str | None = None
    cuda: str | None = None
    """The CUDA version it was built for; None for a CPU-only one."""
    hip: str | None = None
    available: bool | None = None
    archs: list[str] = []
    warning: str | None = None
    cuda_error: str | None = None
    torchaudio: str | None = None
    torchaudio_error: str | None = None
    slow: bool = False
    crashed: int | None = None
    said: str = ""


class Facts(msgspec.Struct, frozen=True):
    """Everything a host told; `asked` and `answered` are the times here before and after."""

    t: float | None = None
    asked: float = 0.0
    answered: float = 0.0
    python: str | None = None
    user: str = ""
    root: bool | None = None
    system: str = ""
    home: FileSystem | None = None
    memory: Memory | None = None
    shm: FileSystem | None = None
    files: tuple[int, int] | None = None
    installer: str | None = None
    provider: dict[str, str] = {}
    shutdown: float | None = None
    container: bool = False
    programs: dict[str, str | None] | None = None
    gpus: Gpus | None = None
    cuda: str | None = None
    torch: list[Torch] | None = None

    @property
    def skew_s(self) -> float | None:
        """The least that the host's clock can be off: its time as far as it lies outside of the question's."""
        if self.t is None:
            return None
        return max(0.0, self.t - self.answered) or min(0.0, self.t - self.asked)


async def ask(host: Looked, home: str, python: str | None) -> Facts:
    """The facts of a host; `home` is Wavedeck's there (may be empty), `python` what trainings use, where that is set.

    Raises
    ------
    HostUnreachable. Whatever else goes wrong on the host is a fact that is missing.
    """
    asked = time.time()
    try:
        argv = ["python3", "-", home, python or ""]
        done = await host.run(argv, timeout_s=GATHER_S, stdin=SCRIPT.read_bytes(), limit=ANSWER_BYTES)
    except HostError:
        done = None
    told = _parse(done.stdout) if done is not None and done.status == 0 else None
    if told is None:
        told = await _by_single_commands(host, home)
    return msgspec.structs.replace(told, asked=told.asked or asked, answered=told.answered or time.time())


def _parse(output: bytes) -> Facts | None:
    """The facts in what the script printed; None when they are not there or not what they should be."""
    for line in output.splitlines():
        if line.startswith(_MARK):
            try:
                value: Any = msgspec.json.decode(line[len(_MARK) :])
                return msgspec.convert(_clean(value), Facts)
            except msgspec.MsgspecError:
                return None
    return None


def _clean(value: Any) -> Any:
    """Text of a host made safe to show, at any depth."""
    if isinstance(value, str):
        return plain(value, 1000)
    if isinstance(value, list):
        return [_clean(item) for item in value[:500]]
    if isinstance(value, dict):
        return {plain(str(key), 100): _clean(item) for key, item in list(value.items())[:500]}
    return value


async def _by_single_commands(host: Looked, home: str) -> Facts:
    """What POSIX tools tell where python3 does not run."""
    asked = time.time()
    clock = await _words(host, ["date", "+%s"])
    answered = time.time()
    programs: dict[str, str | None] = {}
    for name, argument in (("tmux", "-V"), ("rsync", "--version"), ("git", "--version"), ("uv", "--version")):
        said = await _words(host, [name, argument])
        programs[name] = None if said is None else plain(said.splitlines()[0], 80) if said else name
    installers = [name for name in ("apt-get", "dnf", "apk") if await _words(host, [name, "--version"]) is not None]
    user = await _words(host, ["id", "-un"])
    return Facts(
        t=float(clock) + 0.5 if clock and clock.isdecimal() else None,
        asked=asked - 0.5,  # `date` tells whole seconds only
        answered=answered + 0.5,
        user=plain(user or "", 80),
        root=None if user is None else user == "root",
        home=await _room(host, home),
        installer=installers[0] if installers else None,
        programs=programs,
        gpus=await _gpus(host),
    )


async def _room(host: Looked, home: str) -> FileSystem | None:
    place = Path(home or "/root")
    for directory in (place, *place.parents):
        said = await _words(host, ["df", "-Pk", str(directory)])
        cells = said.splitlines()[-1].split() if said else []
        if len(cells) >= 6 and cells[1].isdecimal() and cells[3].isdecimal():
            may_write = await _words(host, ["test", "-w", str(directory)])
            return FileSystem(
                free=int(cells[3]) * 1024,
                total=int(cells[1]) * 1024,
                path=str(place),
                exists=directory == place,
                writable=may_write is not None,
            )
    return None


async def _gpus(host: Looked) -> Gpus | None:
    fields = ("index", "name", "driver_version", "memory.total")
    argv = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    done = await _done(host, argv)
    if done is None:
        return Gpus(status=127)
    text = plain(done.stdout.decode("utf-8", "replace").replace("\n", ";"), 4000)
    rows = [[cell.strip() for cell in line.split(",")] for line in text.split(";")]
    listed = [dict(zip(fields, row, strict=True)) for row in rows if len(row) == len(fields)]
    return Gpus(listed, done.status, "" if listed else text)


async def _words(host: Looked, argv: Sequence[str]) -> str | None:
    """What a command printed; None when it failed."""
    done = await _done(host, argv)
    return None if done is None or done.status else done.stdout.decode("utf-8", "replace").strip()


async def _done(host: Looked, argv: Sequence[str]) -> Completed | None:
    try:
        done = await host.run(argv, timeout_s=COMMAND_S, limit=ANSWER_BYTES)
    except HostError:
        return None
    return None if done.status in (126, 127) else done
