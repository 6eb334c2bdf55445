"""A sound device for tests: ALSA's `file` plug-in over `null`, through real PortAudio, keeps every sample played.

Sources for most tests are *counters*: the value of a sample says at which position it is and of which source, so that a
recording tells exactly what was played when, and gaps and repeats cannot hide.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from wavedeck.engine.playback import Output, Source
from wavedeck.engine.playback.sound import SoundPlayer

RATE = 48_000
FADE = 240
STEP = 2.0**-20
CONFIGURATION = """<confdir:alsa.conf>
pcm.!default { type plug slave.pcm "recorder" }
pcm.recorder { type file slave.pcm "null" file "PLACE" format "raw" }
"""
NEEDED = "needs the Debian packages libportaudio2 and libasound2-data (tools/setup.sh test-packages installs them)"


@dataclass(frozen=True)
class Run:
    """A stretch of a recording in which a counter counts: from sample `at`, position `position` of source `source`."""

    at: int
    source: int
    position: int
    length: int


class Recorder:
    """Players whose sound lands in a file, and what is in that file."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.players: list[SoundPlayer] = []

    def player(self, *sources: Source, **output: object) -> SoundPlayer:
        """A player with these sources loaded."""
        player = SoundPlayer(Output(**{"device": "default", **output}))  # type: ignore[arg-type]
        self.players.append(player)
        player.load(sources)
        return player

    def finish(self) -> None:
        """Close the players; only then is the last of the file written."""
        pids = [player.pid for player in self.players]
        for player in self.players:
            player.close()
        for pid in pids:
            if pid is not None:
                ended(pid)

    def samples(self, dtype: str = "<f4", channels: int = 2) -> np.ndarray:
        """All that was played so far, shape (frames, channels)."""
        data = np.fromfile(self.place, dtype) if self.place.exists() else np.zeros(0, dtype)
        return data[: len(data) // channels * channels].reshape(-1, channels)

    def heard(self) -> np.ndarray:
        """What was played from the first to the last sample that is not zero."""
        samples = self.samples()
        loud = np.flatnonzero(np.abs(samples).max(axis=1))
        return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]

    def quiet(self, seconds: float = 0.05) -> bool:
        """Something was played, and it is over."""
        tail = self.samples()[-round(seconds * RATE) :]
        return len(tail) > 0 and not tail.any() and bool(self.samples().any())

    def runs(self) -> list[Run]:
        """The stretches in which counters count, at least 100 samples long: the rest is silence and fades."""
        counts = self.samples()[:, 0] / STEP
        whole = (counts == np.rint(counts)) & (counts != 0)
        steady = whole[1:] & whole[:-1] & (np.abs(np.diff(counts)) == 1) & (counts[1:] * counts[:-1] > 0)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], steady.astype(np.int8), [0]))))
        return [
            Run(int(a), int(counts[a] < 0), int(abs(counts[a])) - 1, int(b - a + 1))
            for a, b in zip(edges[::2], edges[1::2], strict=True)
            if b - a >= 100
        ]


def counter(seconds: float, source: int = 0) -> Source:
    """A source that counts: sample i of source 0 is (i + 1) · 2^-20, of source 1 the same below zero."""
    frames = round(seconds * RATE)

    def read(start: int, count: int) -> np.ndarray:
        at = np.arange(start, min(start + count, frames))
        return ((at + 1) * (-STEP if source else STEP)).astype(np.float32)[:, None]

    return Source(read, RATE, 1, frames, name=f"counter {source}")


def array_source(audio: np.ndarray, rate: int = RATE, name: str = "clip", gain_db: float = 0.0) -> Source:
    """A source of samples of shape (frames, channels)."""
    return Source(lambda start, count: audio[start : start + count], rate, audio.shape[1], len(audio), name, gain_db)


@pytest.fixture(name="counter")
def counter_fixture() -> Callable[..., Source]:
    """`counter(seconds, source)`."""
    return counter


@pytest.fixture(name="array_source")
def array_source_fixture() -> Callable[..., Source]:
    """`array_source(audio, rate, name, gain_db)`."""
    return array_source


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """A sound device that records."""
    if not sys.platform.startswith("linux"):
        pytest.skip("records by ALSA, which only Linux has")
    if not ctypes.util.find_library("portaudio") or not Path("/usr/share/alsa/alsa.conf").exists():
        pytest.skip(NEEDED)
    place = tmp_path / "played.raw"
    configuration = tmp_path / "alsa.conf"
    configuration.write_text(CONFIGURATION.replace("PLACE", str(place)))
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(configuration))
    recorder = Recorder(place)
    yield recorder
    recorder.finish()


def ended(pid: int, timeout: float = 20.0) -> None:
    """Wait until a process is gone."""
    import time

    deadline = time.monotonic() + timeout
    while alive(pid):
        assert time.monotonic() < deadline, f"the sound process {pid} outlived its player"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """The process runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(name="alive")
def alive_fixture() -> Callable[[int], bool]:
    """`alive(pid)`."""
    return alive


@pytest.fixture(autouse=True)
def no_sound_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever sound there is on this machine, tests leave it alone."""
    for name in ("PULSE_SERVER", "PIPEWIRE_REMOTE", "JACK_DEFAULT_SERVER"):
        monkeypatch.setenv(name, os.devnull)
