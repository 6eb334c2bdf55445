"""Wavedeck's own wheel, packed from the modules that run here, whether installed or from a checkout.

A host gets exactly the code that launches, without an index and without a build tool. The same files always give the
same bytes and the same digest, so an environment that has them is recognised. What is packed is what `setup.py` packs.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from ...engine.errors import WavedeckError
from ...engine.files import write_atomic

PACKAGE = "wavedeck"
ROOMS = ("app", "assets", "engine", "recipes", "remote", "widgets")
_TOP = ("__init__.py", "__main__.py", "py.typed")
_DATA = {"assets": (".tcss", ".lock", ".css", ".js"), "recipes": (".csv", ".md"), "remote": (".sh",)}
_WHEEL = "Wheel-Version: 1.0\nGenerator: wavedeck\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_METADATA = ("METADATA", "entry_points.txt", "licenses/LICENSE", "top_level.txt")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def build_wheel(directory: Path) -> Path:
    """Pack the wheel into `directory`; its path. A few hundred kilobytes, about 0.1 s.

    Raises
    ------
    WavedeckError: Wavedeck is not installed (only lies on the path), or `directory` cannot be written.
    """
    try:
        installed = distribution(PACKAGE)
    except PackageNotFoundError:
        raise WavedeckError(
            "Wavedeck is not installed here, so it cannot be packed for a host: `make setup` or pip installs it."
        ) from None
    path = directory / f"{PACKAGE}-{installed.version}-py3-none-any.whl"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_atomic(path, _pack(_files(installed), f"{PACKAGE}-{installed.version}.dist-info"), durable=False)
    except OSError as error:
        raise WavedeckError(f"{path} cannot be written: {error.strerror}.") from error
    return path


def wheel_digest(path: Path) -> str:
    """What identifies the wheel's content: its list of files and their hashes, however it was compressed."""
    with zipfile.ZipFile(path) as archive:
        record = next(name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        return hashlib.sha256(archive.read(record)).hexdigest()


def package_files(root: Path) -> Iterator[Path]:
    """The modules and data of the package in `root` that ship: no tests, benchmarks or tools."""
    yield from (root / name for name in _TOP if (root / name).is_file())
    for room in ROOMS:
        yield from _package(root / room, _DATA.get(room, ()))


def _package(directory: Path, data: tuple[str, ...]) -> Iterator[Path]:
    """What is in a package; a folder without `__init__.py` is none."""
    if not (directory / "__init__.py").is_file():
        return
    for path in sorted(directory.iterdir()):
        if path.is_dir():
            yield from _package(path, data)
        elif path.suffix == ".py" or path.suffix in data:
            yield path


def _files(installed: Distribution) -> dict[str, bytes]:
    """Name in the archive -> content, without the RECORD."""
    root = Path(__file__).resolve().parent.parent.parent
    files = {f"{PACKAGE}/{path.relative_to(root).as_posix()}": path.read_bytes() for path in package_files(root)}
    about = f"{PACKAGE}-{installed.version}.dist-info"
    for name in _METADATA:
        text = installed.read_text(name)
        if text is not None:
            files[f"{about}/{name}"] = text.encode()
    files[f"{about}/WHEEL"] = _WHEEL.encode()
    return files


def _pack(files: dict[str, bytes], about: str) -> bytes:
    """The archive, in a fixed order and with fixed times."""
    lines = [f"{name},sha256={_hash(data)},{len(data)}" for name, data in sorted(files.items())]
    record = "\n".join([*lines, f"{about}/RECORD,,", ""]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in [*sorted(files.items()), (f"{about}/RECORD", record)]:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3  # unix, wherever it is packed
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return buffer.getvalue()


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
