"""Which sound device the user chose, kept in the home. `WAVEDECK_DEVICE` stands above it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..errors import WavedeckError
from ..files import write_atomic

DEVICE_VARIABLE = "WAVEDECK_DEVICE"
SETTINGS_FILE = "sound.json"
MOST_BYTES = 65_536
MOST_NAME = 200


def forced_device() -> str | None:
    """What `WAVEDECK_DEVICE` says; None when it is not set."""
    return os.environ.get(DEVICE_VARIABLE, "").strip() or None


def wanted_device(home: Path) -> str | None:
    """The device to play on, as `Output.device` takes it; None is the system's default.

    A settings file that cannot be read costs the choice only: the default is played on.
    """
    forced = forced_device()
    if forced is not None:
        return forced
    try:
        with open(home / SETTINGS_FILE, "rb") as handle:
            settings = json.loads(handle.read(MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    name = settings.get("device") if isinstance(settings, dict) else None
    return name[:MOST_NAME] if isinstance(name, str) and name.strip() else None


def keep_device(home: Path, name: str | None) -> None:
    """Remember the device, None for the system's default.

    Raises
    ------
    WavedeckError: the home cannot be written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        write_atomic(home / SETTINGS_FILE, json.dumps({"device": name}, ensure_ascii=False).encode() + b"\n")
    except OSError as error:
        reason = error.strerror or str(error)
        raise WavedeckError(f"The choice could not be kept in {home / SETTINGS_FILE} ({reason}).") from error
