"""Machines as values: what screens and verbs know of a host at one moment. Nothing here connects to anything."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from .files import write_atomic
from .machine import GpuReading, MachineReading
from .manifest import read_record

LOCAL = "local"
"""The name of this machine."""


class LinkState(StrEnum):
    """How this process and a host stand with each other. Every state has a word: colour is never the only signal."""

    OFF = "off"
    """Nobody watches this host at the moment."""
    CONNECTING = "connecting"
    CONNECTED = "connected"
    SLOW = "slow"
    """Connected, but the last question has been unanswered for some seconds."""
    RECONNECTING = "reconnecting"
    """It does not answer; the next try is at `retry_at`."""
    REFUSED = "refused"
    """It answers and does not let us in."""
    KEY_UNKNOWN = "unknown host key"
    """It was never seen before and nobody has said that its key is right."""
    KEY_CHANGED = "host key changed"
    """Its key is not the one that was accepted: nothing is sent until its user has looked."""
    LIMITED = "limited"
    """Connected, but there is no Python: its load can be shown, and nothing can be launched there."""
    PAUSED = "paused"
    """Connected, but nothing is mirrored: the disk here is full, or the process that mirrors has stopped."""

    @property
    def up(self) -> bool:
        """Whether the host answers."""
        return self in _UP

    @property
    def needs_user(self) -> bool:
        """Whether only its user can end this state."""
        return self in (LinkState.REFUSED, LinkState.KEY_UNKNOWN, LinkState.KEY_CHANGED)

    @property
    def mark(self) -> str:
        """One character that tells the states apart without colour."""
        return _MARKS[self]


_UP = frozenset({LinkState.CONNECTED, LinkState.SLOW, LinkState.PAUSED, LinkState.LIMITED})
_MARKS = {
    LinkState.OFF: "○",
    LinkState.CONNECTING: "◔",
    LinkState.CONNECTED: "●",
    LinkState.SLOW: "◐",
    LinkState.RECONNECTING: "↻",
    LinkState.REFUSED: "✗",
    LinkState.KEY_UNKNOWN: "?",
    LinkState.KEY_CHANGED: "⚠",
    LinkState.LIMITED: "◌",
    LinkState.PAUSED: "‖",
}


class GpuProcess(msgspec.Struct, frozen=True):
    """One process that holds memory on a GPU."""

    gpu: int | None
    """Index of the GPU; None when the driver names one that is not listed."""
    pid: int
    memory_mib: float | None = None
    name: str | None = None
    user: str | None = None
    run: str | None = None
    """The run it belongs to; None is a foreign process."""


class TmuxSession(msgspec.Struct, frozen=True):
    """One tmux session. Times in seconds since the epoch; None for what tmux did not tell."""

    name: str
    created: float | None = None
    activity: float | None = None
    attached: int | None = None
    """Clients that look at it now."""
    windows: int | None = None
    ours: bool = True
    """On Wavedeck's own tmux server; False is the user's own."""
    id: str | None = None
    """tmux's own name for it (`$3`), which nobody can choose or change: the target of every command."""

    @property
    def run_id(self) -> str | None:
        """The run it belongs to, when it is one of ours."""
        return self.name[3:] if self.ours and self.name.startswith("wd-") else None


class HostFacts(msgspec.Struct, frozen=True):
    """What a host said about itself when it was connected to."""

    hostname: str = ""
    user: str = ""
    home: str = ""
    """Wavedeck's home there, an absolute path."""
    python: str | None = None
    """Version of its python3; None when there is none."""
    system: str = ""
    cores: int | None = None
    programs: dict[str, str | None] = {}
    """Name -> version (or path) of tmux, rsync, git, uv, nvidia-smi; None for what is missing."""
    tmux_socket: str = "wavedeck"
    boot_id: str | None = None


class HostView(msgspec.Struct, frozen=True):
    """One host at one moment, as every table and `--json` shows it."""

    name: str
    target: str = ""
    """`root@203.0.113.20:10648`, with ` via HOST` for a jump; empty for this machine."""
    link: LinkState = LinkState.OFF
    reason: str | None = None
    """Why the link is as it is, as a sentence."""
    since: float | None = None
    """When `link` became what it is (seconds since the epoch)."""
    retry_at: float | None = None
    latency_ms: float | None = None
    """Median round trip of the last questions to the agent."""
    skew_s: float | None = None
    """The host's clock minus this machine's."""
    heard: float | None = None
    """When anything last arrived from it."""
    facts: HostFacts | None = None
    reading: MachineReading | None = None
    processes: tuple[GpuProcess, ...] = ()
    sessions: tuple[TmuxSession, ...] = ()
    notices: tuple[str, ...] = ()
    """What its user should know: a disk that fills, an Xid, a clock that is wrong. Sentences, newest last."""
    mirrored_runs: int = 0
    mirror_behind: int | None = None
    """Bytes there that are not yet here; None while unknown."""
    price_per_hour: float | None = None
    ends: float | None = None
    """When the provider takes it back, where that is known."""
    gpu_idle_since: float | None = None
    """Since when, as far as it was watched, none of its GPUs has computed; None while one does, or nothing is known."""

    @property
    def is_local(self) -> bool:
        """Whether it is this machine."""
        return self.name == LOCAL

    @property
    def gpus(self) -> tuple[GpuReading, ...]:
        """Its GPUs as last read."""
        return self.reading.gpus if self.reading else ()

    def link_words(self, now: float) -> str:
        """`reconnecting in 4 s`, or the state's own word."""
        if self.link is LinkState.RECONNECTING and self.retry_at is not None:
            return f"reconnecting in {max(0, round(self.retry_at - now))} s"
        return str(self.link)

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `hosts ls --json`."""
        return {
            "name": self.name,
            "target": self.target,
            "link": str(self.link),
            "latency_ms": self.latency_ms,
            "since": self.since,
            "reason": self.reason,
            "heard": self.heard,
            "skew_s": self.skew_s,
            "price_per_hour": self.price_per_hour,
            "ends": self.ends,
            "facts": msgspec.to_builtins(self.facts) if self.facts else None,
        }


GONE = 1 << 30
"""In place of an attempt's number: its host has no such run any more."""

MIRROR_FILE = "mirror.json"


class MirrorRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """`mirror.json` in a run directory: this is the copy of a run that lives on another host.

    Written here, by the mirror only; it is never part of the original.
    """

    host: str
    checkpoints: list[str] = []
    """Names in the original's `checkpoints/`; the files themselves are not mirrored."""
    skew_s: float = 0.0
    """The host's clock minus this machine's, so that ages can be told."""
    notices: list[str] = []
    """Sentences about the mirror itself: a file that grew too large to be copied whole."""


class LinkRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """`hosts/<name>/link.json`: what the process that mirrors a host knows, for the others.

    It is rewritten every few seconds; one that is old says nothing about now.
    """

    pid: int
    written: float
    link: LinkState
    reason: str | None = None
    since: float | None = None
    retry_at: float | None = None
    latency_ms: float | None = None
    skew_s: float | None = None
    heard: float | None = None
    signs: dict[str, tuple[int, bool]] = {}
    """Run id -> the attempt that the agent last spoke of, and whether its supervisor lives. What is not named here is
    not known; a run that is there and was never started stands as attempt 0, one that is no longer there as `GONE`."""
    gpu_idle_since: float | None = None


def read_mirror(run: Path) -> MirrorRecord | None:
    """Whose copy a run directory is; None for a run of this machine.

    Raises
    ------
    RunDirError: the record is damaged.
    """
    return read_record(run / MIRROR_FILE, MirrorRecord)


def write_mirror(run: Path, record: MirrorRecord) -> None:
    """Say whose copy a run directory is."""
    write_atomic(run / MIRROR_FILE, msgspec.json.encode(record) + b"\n", durable=False)
