"""Hosts as values, in every condition that a screen has to show; and a fleet that only notes what it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from wavedeck.engine.backup.policy import BackupPolicy
from wavedeck.engine.backup.safety import HostSafety
from wavedeck.engine.hosts import GpuProcess, HostFacts, HostView, LinkState, TmuxSession
from wavedeck.engine.machine import GpuReading, MachineReading
from wavedeck.engine.machine_series import HostHistory
from wavedeck.engine.planning import Wish
from wavedeck.engine.run_view import RunView
from wavedeck.engine.rundir import RunDir
from wavedeck.engine.series_view import SeriesView
from wavedeck.remote.operations import LaunchResult
from wavedeck.tests.fakes.runs import T0

NOW = T0 + 100.0
HERON = "20260921-1426-sousa-brisk-heron"
LYNX = "20260921-1421-sousa-bold-lynx"
GIB = 2**30
HOSTILE = "\x1b[31m[red]bad\x1b]0;owned\x07\u202e[/red]"
FACTS = HostFacts(
    hostname="c-7fa3",
    user="root",
    home="/workspace/wavedeck",
    python="3.10.12",
    system="Ubuntu 22.04.4 LTS, Linux 5.15.0",
    cores=52,
    programs={"tmux": "3.2a", "rsync": "3.2.7", "git": "2.34.1", "uv": None, "nvidia-smi": "550.127.05"},
)


def h100(index: int, **fields: object) -> GpuReading:
    """A busy H100."""
    facts: dict[str, object] = {
        "index": index,
        "uuid": f"GPU-5f3a9c1e-77d2-4b6e-9a10-0c2d4e6f80{index:02d}",
        "name": "NVIDIA H100 80GB HBM3",
        "utilization_pct": 99.0 - 7 * (index % 3),
        "memory_used_mib": 70_123.0 - 2048 * index,
        "memory_total_mib": 81_559.0,
        "temperature_c": 61.0 + index,
        "power_w": 688.0 - 13 * index,
        "power_limit_w": 700.0,
        "clocks_sm_mhz": 1755.0,
        "pstate": "P0",
        "throttle": ("power cap",),
        "ecc_errors": 0,
    }
    return GpuReading(**(facts | fields))  # type: ignore[arg-type]


def reading(gpus: tuple[GpuReading, ...] = (), t: float = NOW, **fields: object) -> MachineReading:
    """A machine at one moment."""
    facts: dict[str, object] = {
        "host_cpu_pct": 61.0,
        "load_1m": 30.5,
        "memory_used": 310 * GIB,
        "memory_total": 512 * GIB,
        "disk_free": 812 * GIB,
        "disk_total": 2048 * GIB,
    }
    return MachineReading(t=t, gpus=gpus, **(facts | fields))  # type: ignore[arg-type]


HERE = reading(host_cpu_pct=37.0, memory_used=9 * GIB, memory_total=24 * GIB, disk_free=80 * GIB)
"""This machine."""
BUSY_GPUS = (
    *(h100(n) for n in range(4)),
    h100(4, temperature_c=88.0, throttle=("power cap", "hardware thermal"), clocks_sm_mhz=1230.0),
    h100(5, utilization_pct=None, throttle=None, ecc_errors=None),
    h100(6, utilization_pct=0.0, memory_used_mib=0.0, power_w=70.0, throttle=("idle",), pstate="P8", ecc_errors=2),
    GpuReading(index=7, name="NVIDIA H100 80GB HBM3", lost=True),
)
BUSY = HostView(
    "gpu1",
    "root@203.0.113.20:10648",
    link=LinkState.CONNECTED,
    since=NOW - 7500,
    latency_ms=12.4,
    skew_s=0.01,
    heard=NOW - 0.4,
    facts=FACTS,
    reading=reading(BUSY_GPUS),
    processes=(
        *(GpuProcess(n, 4312 + n, 69_400.0 - 2048 * n, "python", "root", HERON) for n in range(4)),
        GpuProcess(4, 5001, 61_000.0, "python3 train.py", "root", LYNX),
        GpuProcess(4, 977, 812.0, "/usr/bin/python3 -m jupyter", "alex", None),
        GpuProcess(None, 12, None, None, None, None),
    ),
    sessions=(
        TmuxSession(f"wd-{HERON}", NOW - 7000, NOW - 3, 0, 1, id="$0"),
        TmuxSession("notes", NOW - 90_000, NOW - 4000, 1, 3, ours=False, id="$1"),
        TmuxSession("train-10", NOW - 400, NOW - 45, 0, 1, ours=False, id="$2"),
    ),
    notices=("GPU 7: Xid 79, it fell off the bus.",),
    mirrored_runs=3,
    mirror_behind=1_258_291,
    price_per_hour=19.92,
    ends=NOW + 11_520,
)
AWAY = HostView(
    "gpu2",
    "root@203.0.113.77:22014",
    link=LinkState.RECONNECTING,
    reason="203.0.113.77 port 22014: the connection timed out.",
    since=NOW - 184,
    retry_at=NOW + 4,
    heard=NOW - 184,
    facts=FACTS,
    reading=reading((h100(0), h100(1)), t=NOW - 184),
    processes=(GpuProcess(0, 88, 60_000.0, "python", "root", LYNX),),
    sessions=(TmuxSession("wd-" + LYNX, NOW - 900, NOW - 200, 0, 1),),
    mirrored_runs=1,
    mirror_behind=None,
    price_per_hour=4.10,
)
CPU_ONLY = HostView(
    "lab",
    "alex@lab.example via gate",
    link=LinkState.SLOW,
    since=NOW - 30,
    latency_ms=412.0,
    skew_s=-321.0,
    heard=NOW - 21,
    facts=msgspec.structs.replace(
        FACTS, programs={"tmux": None, "rsync": None, "git": None, "uv": None, "nvidia-smi": None}
    ),
    reading=reading(disk_free=3 * GIB, memory_used=30 * GIB),
    notices=("The disk of /workspace is almost full: 3.0 GiB left.",),
)
MIG = HostView(
    "mig",
    "root@198.51.100.4",
    link=LinkState.CONNECTED,
    since=NOW - 60,
    latency_ms=3.2,
    heard=NOW,
    facts=FACTS,
    reading=reading((h100(0, name="NVIDIA A100-SXM4-80GB MIG 1g.10gb", utilization_pct=None, power_w=None),)),
    ends=NOW - 300,
)
CONNECTING = HostView("fresh", "root@203.0.113.90:1022", link=LinkState.CONNECTING, since=NOW - 1)
REFUSED = HostView(
    "wrong",
    "nobody@203.0.113.9",
    link=LinkState.REFUSED,
    reason="203.0.113.9 takes none of the keys of this machine (tried: id_ed25519).",
    since=NOW - 50,
)
CHANGED = HostView(
    "moved",
    "root@203.0.113.30",
    link=LinkState.KEY_CHANGED,
    reason="moved shows another host key (SHA256:Qm5uZXcga2V5IG9mIHRoZSBob3N0IGlzIHRoaXM) than the one that was "
    "accepted (SHA256:b2xkIGtleSBvZiB0aGUgaG9zdCB3YXMgdGhpcyE).",
    since=NOW - 20,
)
RUDE = HostView(
    "rude",
    HOSTILE,
    link=LinkState.REFUSED,
    reason=HOSTILE * 20,
    heard=NOW - 7,
    since=NOW - 3,
    facts=HostFacts(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, 2, {"tmux": HOSTILE, HOSTILE: None}, HOSTILE),
    reading=reading((h100(0, name=HOSTILE, uuid=HOSTILE, throttle=(HOSTILE,)),), gpu_error=HOSTILE),
    processes=(GpuProcess(0, 1, 1.0, HOSTILE, HOSTILE, HOSTILE),),
    sessions=(TmuxSession(HOSTILE, None, None, None, None, ours=False), TmuxSession("wd-" + HOSTILE)),
    notices=(HOSTILE,),
)
ALL = (BUSY, AWAY, CPU_ONLY, MIG, CONNECTING, REFUSED, CHANGED, RUDE)


_histories: dict[str, dict[str, SeriesView]] = {}


def history(view: HostView) -> dict[str, SeriesView]:
    """Half an hour that led to a host's newest reading; made once, since series are frozen."""
    if view.name not in _histories:
        _histories[view.name] = _past(view)
    return _histories[view.name]


def _past(view: HostView, count: int = 900) -> dict[str, SeriesView]:
    past = HostHistory()
    if view.reading is None:
        return {}
    for n in range(count):
        wave = abs((n % 120) - 60) / 60
        gpus = tuple(_earlier(gpu, wave, n / count) for gpu in view.reading.gpus)
        t = view.reading.t - 2 * (count - n - 1)
        past.add(msgspec.structs.replace(view.reading, t=t, gpus=gpus, host_cpu_pct=40 + 30 * wave))
    return past.views()


def _earlier(gpu: GpuReading, wave: float, part: float) -> GpuReading:
    if gpu.utilization_pct is None or gpu.lost:
        return gpu
    return msgspec.structs.replace(
        gpu,
        utilization_pct=gpu.utilization_pct * (0.4 + 0.6 * wave),
        memory_used_mib=(gpu.memory_used_mib or 0) * min(1.0, 0.2 + 2 * part),
        temperature_c=(gpu.temperature_c or 0) - 12 * (1 - wave),
        power_w=(gpu.power_w or 0) * (0.6 + 0.4 * wave),
    )


class FleetFake:
    """Notes what it is asked to do, as (verb, words)."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.error: Exception | None = None
        self.argv = ["true"]
        self.safe: dict[str, HostSafety] = {}

    def _note(self, *words: object) -> None:
        self.asked.append(words)
        if self.error is not None:
            raise self.error

    async def retry(self, name: str) -> None:
        self._note("retry", name)

    async def add(self, name: str, ssh_line: str) -> None:
        self._note("add", name, ssh_line)

    async def remove(self, name: str) -> None:
        self._note("remove", name)

    async def trust(self, name: str) -> None:
        self._note("trust", name)

    async def sessions_kill(self, name: str, session: TmuxSession) -> None:
        self._note("kill", name, session.name)

    async def sessions_rename(self, name: str, session: TmuxSession, new: str) -> None:
        self._note("rename", name, session.name, new)

    async def sessions_new(self, name: str, new: str) -> None:
        self._note("new", name, new)

    async def attach_argv(self, name: str, session: TmuxSession) -> list[str]:
        self._note("attach", name, session.name)
        return self.argv

    async def safety(self, names: Sequence[str], views: Sequence[RunView]) -> list[HostSafety]:
        self._note("safety", *names)
        return [self.safe[name] for name in names if name in self.safe]

    async def launch(self, name: str, wish: Wish, policy: BackupPolicy | None = None) -> LaunchResult:
        self._note("launch", name, wish.command_line, wish.gpus)
        return LaunchResult(RunDir(Path("/nowhere") / HERON), 1, None)
