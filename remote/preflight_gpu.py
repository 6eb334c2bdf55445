"""Do the driver, torch and torchaudio of a host fit together? Pure functions of what it told.

A driver serves every torch built for its own CUDA major version or an older one; within a major version the minor one
does not matter. A GPU that is newer than a torch knows has no kernels in it. And torchaudio's native part loads beside
the torch it was built for only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from ..engine.format import plain, size
from .findings import BAD, MISSING, OK, WARN, Finding, FindingState
from .payload.nvidia_rows import explain
from .preflight_facts import Facts, Torch

LOCK = Path(__file__).parent.parent / "assets" / "train.lock"
"""What the environments that Wavedeck prepares hold."""
DRIVER_FOR = {11: "450", 12: "525", 13: "580"}
"""The oldest driver for each CUDA major version."""
_CUDA_OF_DRIVER = ((580, (13, 0)), (525, (12, 0)), (450, (11, 0)))

Version = tuple[int, ...]


def findings(facts: Facts, python: str | None) -> Iterator[Finding]:
    """GPUs, driver, torch and torchaudio, in this order; `python` is the configured interpreter."""
    rows = facts.gpus.rows if facts.gpus is not None else []
    yield _gpus(facts)
    driver = driver_cuda(facts)
    if rows and python is None:
        yield from _prepared(facts, driver)
    for torch in facts.torch or []:
        yield from _torch(torch, driver, rows, configured=python is not None)
    if facts.torch is None and python is not None:
        yield Finding("torch", WARN, f"{plain(python)} was not asked, without a python3 that could do it")


def driver_cuda(facts: Facts) -> Version | None:
    """The newest CUDA version the driver serves: as it says, else by its number."""
    if facts.cuda is not None:
        return _version(facts.cuda) or None
    rows = facts.gpus.rows if facts.gpus is not None else []
    major = _version(rows[0].get("driver_version", ""))[:1] if rows else ()
    return next((cuda for oldest, cuda in _CUDA_OF_DRIVER if major and major[0] >= oldest), None)


def _gpus(facts: Facts) -> Finding:
    gpus = facts.gpus
    if gpus is None:
        return Finding("GPUs", WARN, "nobody could be asked about them")
    if gpus.rows:
        names: dict[str, int] = {}
        for row in gpus.rows:
            memory = row.get("memory.total", "")
            room = f" ({size(int(memory) << 20)})" if memory.isdecimal() else ""
            name = f"{row.get('name', '?')}{room}"
            names[name] = names.get(name, 0) + 1
        listed = ", ".join(f"{count} × {name}" if count > 1 else name for name, count in names.items())
        cuda = driver_cuda(facts)
        serves = f", CUDA {_dotted(cuda)}" if cuda else ""
        lost = [row for row in gpus.rows if any("GPU is lost" in cell for cell in row.values())]
        if lost:
            return Finding("GPUs", BAD, f"{len(lost)} of {len(gpus.rows)} fell off the bus", "move to another host")
        return Finding("GPUs", OK, f"{listed}, driver {gpus.rows[0].get('driver_version', '?')}{serves}")
    if gpus.status == 127:
        return Finding("GPUs", WARN, "no NVIDIA driver: trainings use the CPU")
    said = explain(gpus.text, gpus.status) or "nvidia-smi lists none."
    return Finding("GPUs", BAD, said.rstrip("."), "restart the instance, or take another one")


def _prepared(facts: Facts, driver: Version | None) -> Iterator[Finding]:
    """Whether the environment that Wavedeck would prepare can use these GPUs."""
    needed = cuda_of_lock()
    if needed is None or driver is None or driver[0] >= needed[0]:
        return
    yield Finding(
        "driver",
        BAD,
        f"it serves CUDA {_dotted(driver)}; the environment Wavedeck prepares needs {_dotted(needed)}",
        f"take a host with driver {DRIVER_FOR.get(needed[0], 'of that CUDA')} or newer, or set `python = …` in "
        f"hosts.toml to an interpreter whose torch is built for CUDA {driver[0]}",
    )


@lru_cache(maxsize=1)
def cuda_of_lock() -> Version | None:
    """The CUDA version of the environments that Wavedeck prepares."""
    try:
        match = re.search(r"^nvidia-cuda-runtime(?:-cu\d+)?==(\d+)\.(\d+)", LOCK.read_text(), re.M)
    except OSError:
        return None
    return (int(match[1]), int(match[2])) if match else None


def _torch(torch: Torch, driver: Version | None, rows: list[dict[str, str]], *, configured: bool) -> Iterator[Finding]:
    """One interpreter's torch. One that no training was told to use is never worse than a warning."""
    worst = BAD if configured else WARN
    where = f"in {torch.path}"
    if torch.missing:
        fix = "correct `python = …` in hosts.toml" if configured else None
        yield Finding("torch", MISSING if configured else OK, f"there is no interpreter {torch.path}", fix)
        return
    if torch.torch is None and torch.torch_error is None:
        if configured:
            late = " (or it did not answer in time)" if torch.slow else ""
            yield Finding("torch", MISSING, f"none {where}{late}", f"{torch.path} -m pip install torch")
        return
    if torch.torch_error is not None or torch.crashed is not None or torch.slow:
        why = torch.torch_error or ("importing it takes too long" if torch.slow else f"it crashes: {torch.said}")
        yield Finding(
            "torch", worst, f"{torch.torch or '?'} {where} cannot be imported: {why}", _reinstall(torch, driver)
        )
        return
    yield _torch_itself(torch, driver, rows, where, worst)
    yield from _torchaudio(torch, where, worst)


def _torch_itself(
    torch: Torch, driver: Version | None, rows: list[dict[str, str]], where: str, worst: FindingState
) -> Finding:
    version = f"{torch.torch} {where}"
    built = _version(torch.cuda or "")
    if not rows:
        return Finding("torch", OK, version)
    if torch.hip is None and not built:
        return Finding(
            "torch", worst, f"{version} is built for CPUs only: the GPUs stay idle", _reinstall(torch, driver)
        )
    if built and driver is not None and built[0] > driver[0] and not torch.available:
        return Finding(
            "torch",
            worst,
            f"{version} is built for CUDA {torch.cuda}, the driver serves {_dotted(driver)}: it is too old",
            f"{_reinstall(torch, driver)}, or take a host with driver {DRIVER_FOR.get(built[0], 'for it')} or newer",
        )
    if not torch.available:
        said = torch.warning or torch.cuda_error or "it does not say why"
        return Finding("torch", worst, f"{version} sees no GPU: {said}", "restart the instance, or take another one")
    foreign = _without_kernels(torch, rows)
    if foreign:
        return Finding("torch", worst, f"{version} has no kernels for {foreign}", _reinstall(torch, driver))
    return Finding("torch", OK, version)


def _torchaudio(torch: Torch, where: str, worst: FindingState) -> Iterator[Finding]:
    if torch.torchaudio is None:
        return
    version = f"{torch.torchaudio} {where}"
    ours, theirs = _version(torch.torchaudio), _version(torch.torch or "")
    mismatched = ours[:2] == (2, 11) and theirs[:2] >= (2, 15)
    if torch.torchaudio_error is None and not mismatched:
        yield Finding("torchaudio", OK, version)
        return
    why = torch.torchaudio_error or "they are of different CUDA versions"
    fix = f"{torch.path} -m pip install 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12'"
    yield Finding("torchaudio", worst, f"{version} does not work beside torch {torch.torch}: {why}", fix)


def _without_kernels(torch: Torch, rows: list[dict[str, str]]) -> str | None:
    """The first GPU that this torch has no kernels for."""
    known = [match for arch in torch.archs if (match := re.fullmatch(r"(sm|compute)_(\d{1,2})(\d)[af]?", arch))]
    if not known:
        return None
    for row in rows:
        capability = _version(row.get("compute_cap", ""))
        if len(capability) != 2:
            continue
        fits = any(
            (int(major), int(minor)) <= capability and (kind == "compute" or int(major) == capability[0])
            for kind, major, minor in (match.groups() for match in known)
        )
        if not fits:
            return f"{row.get('name', 'this GPU')} (sm_{capability[0]}{capability[1]})"
    return None


def _reinstall(torch: Torch, driver: Version | None) -> str:
    """How to get a torch that fits."""
    build = f" (a build for CUDA {driver[0]}.x, see the table on pytorch's own page)" if driver else ""
    return f"{torch.path} -m pip install 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12'{build}"


def _version(text: str) -> Version:
    """The leading numbers of a version; empty when there are none."""
    match = re.match(r"\d{1,4}(?:\.\d{1,4}){0,2}", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _dotted(version: Version | None) -> str:
    return ".".join(map(str, version or ()))
