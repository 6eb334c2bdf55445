"""The environment of a run on another machine: what it must hold, and making it there once.

An environment lies in `<home>/envs/<key>/`; the key is a hash of everything it is made from, so the second launch of
the same finds it in a second. What is made is made by `remote/payload/prepare_env.py` on the host.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...engine.errors import WavedeckError
from ...engine.format import plain
from .requirements import read_requirements
from .there import Progress, RemoteHost, Report, ask, path_of
from .wheel import build_wheel, wheel_digest

TRAIN_LOCK = Path(__file__).resolve().parent.parent.parent / "assets" / "train.lock"
TRAIN_PYTHONS = ("3.12", "3.11", "3.13", "3.14")
"""What the lock's packages have binaries for, best first."""
PREPARE_S = 2 * 3600.0
"""Torch and its libraries are gigabytes, and rented lines differ."""
PHASE = "environment"
SCRIPT = "prepare_env.py"


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """What an environment must hold."""

    label: str
    """What it is for, as people read it."""
    requirements: bytes = b""
    """Text of a requirements file; it depends on no other file."""
    constraints: bytes = b""
    wheel: Path | None = None
    """Wavedeck's own wheel, where its recipes are to run."""
    pythons: tuple[str, ...] = ()
    """Versions it may be made with, best first; empty allows any."""
    check_torch: bool = False
    notices: tuple[str, ...] = ()
    """What its user should know about it, as sentences."""

    @property
    def digest(self) -> str:
        """Hash of all it is made from but the Python version, which only the host knows."""
        parts = [self.requirements, self.constraints, wheel_digest(self.wheel).encode() if self.wheel else b""]
        return hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()

    @property
    def count(self) -> int:
        """About how many packages it will have."""
        return sum(1 for line in self.requirements.splitlines() if line.strip() and not line.startswith(b"-"))


@dataclass(frozen=True, slots=True)
class EnvironmentReady:
    """An environment that can be used."""

    python: str
    """Its interpreter, an absolute path there."""
    bin: str
    """The directory of its programs."""
    reused: bool
    """Whether it was there already."""
    root: str | None = None
    """Its directory; None when Wavedeck did not make it."""
    notices: tuple[str, ...] = ()
    missing: bool = False
    """Whether it was only looked for and is not there yet."""


def recipe_environment(cache: Path) -> EnvironmentSpec:
    """What the built-in recipes need. Packs Wavedeck's wheel into `cache`; call it in a thread.

    Raises
    ------
    WavedeckError: the wheel cannot be packed.
    """
    return EnvironmentSpec(
        "Wavedeck's recipes",
        requirements=TRAIN_LOCK.read_bytes(),
        wheel=build_wheel(cache / "wheels"),
        pythons=TRAIN_PYTHONS,
        check_torch=True,
    )


def project_environment(root: Path) -> EnvironmentSpec | None:
    """What a user's project says that it needs; None when it says nothing. May ask uv: call it in a thread.

    Raises
    ------
    WavedeckError: its requirements cannot be read.
    """
    found = read_requirements(root)
    if found is None:
        return None
    return EnvironmentSpec(
        f"{root.name} ({found.source})", found.text, found.constraint_text, notices=tuple(found.notices)
    )


async def prepare(
    host: RemoteHost, spec: EnvironmentSpec, report: Report, *, look_only: bool = False
) -> EnvironmentReady:
    """Find the environment on the host, or make it; of two launches at once one makes it and the other waits.

    Parameters
    ----------
    look_only: make nothing, only say whether it is there (`missing`) and where it would be.

    Raises
    ------
    WavedeckError: it cannot be made; the sentence says why and what to install there. HostError, HostUnreachable.
    """

    def tell(event: dict[str, Any]) -> None:
        report(Progress(PHASE, plain(str(event["text"]), 200), _number(event.get("done")), _number(event.get("total"))))

    report(Progress(PHASE, f"looking for the environment of {spec.label}"))
    files = {"requirements.txt": spec.requirements, "constraints.txt": spec.constraints}
    if spec.wheel is not None:
        files[spec.wheel.name] = spec.wheel.read_bytes()
    request = {
        "digest": spec.digest,
        "label": spec.label,
        "pythons": list(spec.pythons),
        "count": spec.count,
        "check_torch": spec.check_torch,
    }
    answer = await ask(host, SCRIPT, {**request, "look_only": True})
    if answer.get("missing") is True and not look_only:  # only now it is worth sending the files
        answer = await ask(host, SCRIPT, request, files, timeout_s=PREPARE_S, on_event=tell)
    ready = EnvironmentReady(
        python=path_of(host, answer, "python"),
        bin=path_of(host, answer, "bin"),
        reused=answer.get("reused") is True,
        root=path_of(host, answer, "path"),
        notices=(*spec.notices, *_torch_notices(host.name, answer.get("about"))),
        missing=answer.get("missing") is True,
    )
    words = "is not there yet" if ready.missing else "was there already" if ready.reused else "is ready"
    report(Progress(PHASE, f"the environment of {spec.label} {words}", 1, 1))
    return ready


def named_environment(host: RemoteHost, python: str) -> EnvironmentReady:
    """An interpreter, or the environment it lies in, that the user named: nothing is prepared.

    Raises
    ------
    WavedeckError: it is no absolute path.
    """
    if not python.startswith("/") or not python.isprintable():
        raise WavedeckError(
            f"{plain(python, 200)} is no absolute path on {host.name}: name one like /venv/main/bin/python."
        )
    if not python.rstrip("/").rsplit("/", 1)[-1].startswith("py"):
        python = python.rstrip("/") + "/bin/python"
    return EnvironmentReady(python, python.rsplit("/", 1)[0] or "/", reused=True)


def _torch_notices(host: str, about: object) -> tuple[str, ...]:
    """What torch said when the environment was made, where it is bad news."""
    torch = about.get("torch") if isinstance(about, dict) else None
    if not isinstance(torch, dict):
        return ()
    if error := torch.get("error"):
        return (f"torch does not load on {host}: {plain(str(error), 300)}.",)
    if torch.get("available") is True:
        return ()
    why = plain(str(torch.get("warning") or "there is no GPU, or its driver is too old for this torch"), 300)
    cuda = torch.get("cuda")
    built = f" (it is built for CUDA {plain(str(cuda), 20)})" if cuda else ""
    return (f"torch on {host} sees no GPU{built}: {why.rstrip('.')}. The training would run on its CPU.",)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
