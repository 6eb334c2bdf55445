"""Sound devices: which there are, which one is meant, how it is opened, and the sentences for when that fails.

Only the sound process (`child.py`) asks PortAudio; `list_devices` starts such a process, because a sound system that
hangs must not hang the deck. Device names come from drivers and sound servers: they are cleaned right here.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import WavedeckError, suggestion
from ..format import plain
from .model import MAX_CHANNELS, MAX_RATE, Output

EXPORT = "Everything else works, and clips can be exported."
NO_PACKAGE = f"The Python package sounddevice is missing, so nothing can be heard: pip install sounddevice. {EXPORT}"
NO_LIBRARY = (
    "There is no PortAudio library here, so nothing can be heard: sudo apt install libportaudio2 "
    f"(macOS: brew install portaudio), then press play again. {EXPORT}"
)
NO_DEVICE = (
    "No sound device was found, so nothing can be heard: connect one and press play again, "
    f"or run the deck on the machine you sit at. {EXPORT}"
)
FORMATS = ("float32", "int32", "int24", "int16")
PREFERRED_RATE = 48_000
LIST_TIMEOUT_S = 10.0


class NoSound(WavedeckError):
    """There is no device to play on, or it cannot be opened."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device that can play: `index` and `name` both select it in `Output.device`."""

    index: int
    name: str
    api: str
    channels: int
    rate: int
    default: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """How a device is driven."""

    device: Device
    rate: int
    channels: int
    sample_format: str


def child_command(*arguments: str) -> list[str]:
    """The sound process's command line. `-P`: a file in the working directory never stands in for a module."""
    return [sys.executable, "-P", "-m", f"{__package__}.child", *arguments]


def list_devices(timeout_s: float = LIST_TIMEOUT_S) -> list[Device]:
    """The devices here that can play; blocks up to `timeout_s`. Raises `NoSound` where there is no sound system."""
    try:
        done = subprocess.run(
            child_command("list"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            start_new_session=True,
        )
        if done.returncode:
            raise NoSound(ending(done.returncode))
        answer = json.loads(done.stdout.decode("utf-8", "replace").splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise NoSound(f"The sound system did not answer within {timeout_s:.0f} s. Try again, or restart it.") from None
    except (OSError, ValueError, IndexError):
        raise NoSound(f"The sound process could not list the devices. {EXPORT}") from None
    if "failed" in answer:
        raise NoSound(str(answer["failed"]))
    return [Device(**fields) for fields in answer["devices"]]


def ending(status: int) -> str:
    """Why the sound process ended, from its exit status. PortAudio itself aborts where ALSA has no configuration."""
    if status >= 0:
        return f"The sound process ended by itself (exit code {status}); press play to try again."
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    if name in ("SIGABRT", "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE"):
        return f"The sound system here crashed ({name}), so nothing can be heard; press play to try again. {EXPORT}"
    return f"The sound process was killed ({name}); press play to go on."


def import_sound() -> Any:
    """The module sounddevice, with PortAudio behind it."""
    try:
        import sounddevice
    except ImportError:
        raise NoSound(NO_PACKAGE) from None
    except OSError as error:
        if "not found" in str(error):
            raise NoSound(NO_LIBRARY) from None
        raise NoSound(
            f"PortAudio cannot be loaded ({plain(str(error), 120)}), so nothing can be heard. {EXPORT}"
        ) from None
    except Exception as error:  # PortAudio's own initialisation failed; its error class is inside the module
        raise NoSound(f"The sound system does not start ({plain(str(error), 120)}). {EXPORT}") from None
    return sounddevice


def devices(sound: Any) -> list[Device]:
    """The devices that can play."""
    apis = sound.query_hostapis()
    usable = [(index, found) for index, found in enumerate(sound.query_devices()) if found["max_output_channels"] > 0]
    default = sound.default.device[1]
    if default < 0 and usable:  # PortAudio knows no default where the first host API has only inputs, or none
        default = usable[0][0]
    return [
        Device(
            index=index,
            name=plain(found["name"], 80),
            api=plain(apis[found["hostapi"]]["name"], 40),
            channels=int(found["max_output_channels"]),
            rate=int(found["default_samplerate"]),
            default=index == default,
        )
        for index, found in usable
    ]


def choose(found: Sequence[Device], wanted: str | None) -> Device:
    """The device that is meant: by index, by name, or by a part of a name; None is the default."""
    if not found:
        raise NoSound(NO_DEVICE)
    if wanted is None:
        return next((device for device in found if device.default), found[0])
    for device in found:
        if wanted in (str(device.index), device.name):
            return device
    for device in found:
        if wanted.casefold() in device.name.casefold():
            return device
    names = [device.name for device in found]
    hint = suggestion(wanted, names) or f" There are: {', '.join(names[:8])}."
    raise NoSound(f"There is no sound device “{plain(wanted, 60)}”.{hint}")


def negotiated(sound: Any, device: Device, output: Output) -> Opened:
    """Rate, channels and sample format that the device accepts, as near to what is wanted as it gets."""
    channels = max(1, min(output.channels or 2, device.channels, MAX_CHANNELS))
    rates = [output.rate] if output.rate else [PREFERRED_RATE, device.rate]
    if output.rate is None and device.api != "ALSA":
        rates.reverse()  # PortAudio says 44.1 kHz of every ALSA device; elsewhere the device's rate is a fact
    formats = [output.sample_format] if output.sample_format else list(FORMATS)
    problem = "it accepts no sample format"
    for rate in rates:
        if not 0 < rate <= MAX_RATE:
            raise NoSound(f"A sample rate of {rate} Hz is not possible; choose one up to {MAX_RATE} Hz.")
        for sample_format in formats:
            if sample_format not in FORMATS:
                raise NoSound(
                    f"There is no sample format {plain(sample_format, 20)}; choose one of {', '.join(FORMATS)}."
                )
            try:
                sound.check_output_settings(device.index, channels, sample_format, samplerate=rate)
            except sound.PortAudioError as error:
                problem = plain(str(error), 120)
                continue
            return Opened(device, rate, channels, sample_format)
    raise NoSound(f"The sound device “{device.name}” cannot be opened: {problem}. Choose another, or try again.")
