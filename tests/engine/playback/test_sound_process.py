"""What can go wrong around the sound process: each is a state with words, nothing blocks, nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavedeck.engine.playback import Output, Source, open_player
from wavedeck.engine.playback import sound as sound_module
from wavedeck.engine.playback.devices import NoSound, list_devices

RATE = 48_000
Wait = Callable[..., Any]
Make = Callable[..., Source]


def at_once(call: Callable[[], Any]) -> Any:
    """The call's result; it must not have waited for anything."""
    begin = time.perf_counter()
    result = call()
    assert time.perf_counter() - begin < 0.25  # a wait would be seconds; this is what a busy machine may take
    return result


def stand_in(monkeypatch: pytest.MonkeyPatch, place: Path, text: str) -> None:
    """Have the sound process import this instead of sounddevice."""
    place.mkdir()
    (place / "sounddevice.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(place))


def test_no_library_is_said_and_the_playhead_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counter: Make, wait_for: Wait
) -> None:
    stand_in(monkeypatch, tmp_path / "site", "raise OSError('PortAudio library not found')\n")
    player = open_player()
    try:
        player.load([counter(1.0), counter(1.0, 1)])
        player.play()
        assert player.state().buffering
        wait_for(lambda: player.state().error)
        state = player.state()
        assert "libportaudio2" in str(state.error)
        assert "export" in str(state.error)
        assert (state.device, state.playing) == ("", True)
        wait_for(lambda: player.state().position_s > 0.2)
        player.switch(1)
        player.seek(0.1)
        player.loop(0.1, 0.3)
        player.match([1.0, 2.0])
        player.gain_db = -3
        state = player.state()
        assert (state.source, state.loop, state.gain_db) == (1, (0.1, 0.3), -3)
        player.pause()
        assert not player.state().playing
    finally:
        player.close()


def test_no_package_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, tmp_path / "site", "raise ImportError('No module named sounddevice')\n")
    with pytest.raises(NoSound, match="pip install sounddevice"):
        list_devices()


def test_no_device_is_said_and_one_that_appears_is_played_on(
    recorder: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, counter: Make, wait_for: Wait
) -> None:
    there = os.environ["ALSA_CONFIG_PATH"]
    empty = tmp_path / "empty.conf"
    empty.write_text("<confdir:alsa.conf>\n")
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(empty))
    assert list_devices() == []
    player = recorder.player(counter(30.0), device=None)
    wait_for(lambda: player.state().error)
    assert "No sound device was found" in player.state().error
    player.play()
    wait_for(lambda: player.state().position_s > 0.05)
    monkeypatch.setenv("ALSA_CONFIG_PATH", there)

    def heard() -> bool:
        player.play()  # each press looks again; one that is under way is not started twice
        return bool(player.state().device)

    wait_for(heard, what="sound")
    assert player.state().error is None
    wait_for(lambda: recorder.runs())
    assert recorder.runs()[0].position > 0.05 * RATE  # it joined where the silent playhead was


def test_portaudio_that_aborts_is_said(recorder: Any, monkeypatch: Any, counter: Make, wait_for: Wait) -> None:
    """It calls abort() where ALSA has no configuration at all; in the deck's own process that would be the end."""
    monkeypatch.setenv("ALSA_CONFIG_PATH", os.devnull)
    with pytest.raises(NoSound, match=r"crashed \(SIGABRT\)"):
        list_devices()
    player = recorder.player(counter(1.0))
    wait_for(lambda: player.state().error)
    assert "crashed (SIGABRT)" in player.state().error
    player.play()
    wait_for(lambda: player.state().position_s > 0.05)


def test_devices_are_listed_and_chosen_by_name(recorder: Any, counter: Make, wait_for: Wait) -> None:
    found = list_devices()
    assert {"default", "recorder"} <= {device.name for device in found}
    assert [device.name for device in found if device.default] == ["default"]
    player = recorder.player(counter(0.2), device="RECORD")
    wait_for(lambda: player.state().device)
    assert player.state().device == "recorder"
    wrong = recorder.player(counter(0.2), device="recoder")
    wait_for(lambda: wrong.state().error)
    assert "Did you mean recorder?" in wrong.state().error


@pytest.mark.parametrize(("output", "text"), [({"rate": -5}, "rate of -5 Hz"), ({"sample_format": "x[b]"}, "float32")])
def test_impossible_wishes_are_refused(
    recorder: Any, counter: Make, wait_for: Wait, output: dict[str, Any], text: str
) -> None:
    player = recorder.player(counter(0.2), **output)
    wait_for(lambda: player.state().error)
    assert text in player.state().error


def test_a_killed_sound_process_is_a_state_and_play_goes_on(recorder: Any, counter: Make, wait_for: Wait) -> None:
    player = recorder.player(counter(20.0), counter(20.0, 1))
    player.switch(1)
    player.play()
    wait_for(lambda: player.state().position_s > 0.3)
    os.kill(player.pid, signal.SIGKILL)
    wait_for(lambda: player.state().error)
    state = player.state()
    assert "killed (SIGKILL)" in state.error
    assert not state.playing
    assert state.position_s > 0.3
    recorder.place.unlink()
    player.play()
    assert player.state().playing
    wait_for(lambda: player.state().position_s > state.position_s + 0.2)
    assert player.state().error is None
    run = recorder.runs()[0]
    assert (run.source, run.position) == (1, pytest.approx(state.position_s * RATE + 240, abs=2))


def test_a_device_that_fails_is_a_state_and_play_goes_on(recorder: Any, counter: Make, wait_for: Wait) -> None:
    """ALSA's plug-in cannot write to a full disk, so PortAudio's stream ends with an error."""
    configuration = Path(os.environ["ALSA_CONFIG_PATH"])
    good = configuration.read_text()
    configuration.write_text(good.replace(str(recorder.place), "/dev/full"))
    player = recorder.player(counter(20.0))
    player.play()
    wait_for(lambda: player.state().error)
    assert "“default” disappeared" in player.state().error
    assert not player.state().playing
    configuration.write_text(good)
    player.play()
    wait_for(lambda: player.state().position_s > 0.3)
    assert player.state().error is None


BROKEN = """
import runpy, sys
sys.path.remove({place!r})
del sys.modules["sounddevice"]
import sounddevice as real
class Stream(real.RawOutputStream):
    # A device that is pulled out: after a second of sound PortAudio stops calling and the stream is not active.
    @property
    def active(self):
        return not self.gone and super().active
    gone = False
    def start(self):
        super().start()
        import threading
        threading.Timer(0.5, self.pull).start()
    def pull(self):
        type(self).gone = True
        self.abort()
real.RawOutputStream = Stream
sys.modules["sounddevice"] = real
"""


def test_a_device_that_is_pulled_out_is_a_state_and_play_goes_on(
    recorder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counter: Make, wait_for: Wait
) -> None:
    stand_in(monkeypatch, tmp_path / "site", BROKEN.format(place=str(tmp_path / "site")))
    player = recorder.player(counter(20.0))
    player.play()
    wait_for(lambda: player.state().error)
    state = player.state()
    assert "“default” disappeared" in state.error
    assert not state.playing
    assert 0.1 < state.position_s < 2
    monkeypatch.delenv("PYTHONPATH")
    player.play()
    wait_for(lambda: player.state().position_s > state.position_s + 0.2)
    assert player.state().error is None


def test_a_frozen_sound_process_is_a_state_and_blocks_nobody(
    recorder: Any, monkeypatch: pytest.MonkeyPatch, counter: Make, wait_for: Wait, alive: Callable[[int], bool]
) -> None:
    monkeypatch.setattr(sound_module, "SILENT_S", 0.8)
    player = recorder.player(counter(20.0))
    player.play()
    wait_for(lambda: player.state().position_s > 0.1)
    frozen = player.pid
    os.kill(frozen, signal.SIGSTOP)
    wait_for(lambda: player.state().error)
    assert "does not answer" in player.state().error
    for n in range(20_000):  # more wake-ups than a pipe holds
        player.gain_db = -n % 7
    for call in (player.pause, player.state, lambda: player.seek(1.0), lambda: player.loop(1, 2), player.play):
        at_once(call)
    wait_for(lambda: not alive(frozen))
    wait_for(lambda: player.state().error is None and player.state().position_s > 1.1)
    at_once(player.close)


@pytest.mark.parametrize("stopped", [False, True])
def test_it_never_outlives_a_killed_parent(
    recorder: Any, alive: Callable[[int], bool], wait_for: Wait, stopped: bool
) -> None:
    code = """
import numpy as np, time
from wavedeck.engine.playback import Output, Source
from wavedeck.engine.playback.sound import SoundPlayer
player = SoundPlayer(Output())
player.load([Source(lambda start, count: np.full((count, 1), 0.1, np.float32), 48000, 1, 48000 * 3600)])
player.play()
while player.state().position_s < 0.2:
    time.sleep(0.01)
print(player.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
    wait_for(lambda: not alive(pid), timeout=10)


def test_closing_ends_it_and_the_player(recorder: Any, counter: Make, wait_for: Wait, alive: Any) -> None:
    player = recorder.player(counter(5.0))
    player.play()
    wait_for(lambda: player.state().position_s > 0.1)
    pid = player.pid
    at_once(player.close)
    wait_for(lambda: not alive(pid))
    player.close()
    player.play()
    player.load([counter(1.0)])
    assert player.pid is None
    assert not player.state().playing


def test_closing_while_it_starts_leaves_nothing(recorder: Any, counter: Make, wait_for: Wait) -> None:
    player = recorder.player(counter(1.0))
    process = player._process
    player.close()
    wait_for(lambda: process._process is None or process._process.returncode is not None)


def test_every_call_returns_while_a_source_hangs(recorder: Any, counter: Make, wait_for: Wait) -> None:
    release = threading.Event()

    def hang(start: int, count: int) -> np.ndarray:
        release.wait(60)
        return np.full((count, 1), 0.25, np.float32)

    player = recorder.player(counter(10.0), Source(hang, RATE, 1, 10 * RATE, name="remote"))
    player.play()
    wait_for(lambda: player.state().position_s > 0.1)
    at_once(lambda: player.switch(1))
    wait_for(lambda: player.state().buffering)
    there = at_once(player.state).position_s
    wait_for(lambda: player.state().position_s > there + 0.2)  # the first one is heard until the other is there
    at_once(lambda: player.seek(5.0))
    assert player.state().position_s == 5.0
    assert player.state().buffering
    at_once(lambda: player.switch(0))
    wait_for(lambda: player.state().position_s > 5.1)
    at_once(lambda: player.switch(1))
    there = player.state().position_s
    wait_for(lambda: player.state().position_s > there + 0.5)
    release.set()
    wait_for(lambda: not player.state().buffering)
    at_once(player.pause)
    runs = recorder.runs()
    assert {run.source for run in runs} == {0}
    assert player.state().underruns == 0


def test_an_hour_is_opened_by_parts(recorder: Any, wait_for: Wait) -> None:
    read: list[tuple[int, int]] = []

    def samples(start: int, count: int) -> np.ndarray:
        read.append((start, count))
        at = np.arange(start, start + count)
        return ((at % 1000) / 2000).astype(np.float32)[:, None]

    player = recorder.player(Source(samples, RATE, 1, 3600 * RATE, name="an hour"))
    assert player.state().duration_s == 3600
    player.seek(3000.0)
    player.play()
    wait_for(lambda: player.state().position_s > 3000.3)
    player.pause()
    assert min(start for start, _ in read if start) >= 3000 * RATE
    assert sum(count for _, count in read) < 6 * RATE


def test_samples_that_are_no_numbers_are_silence_and_said(recorder: Any, array_source: Make, wait_for: Wait) -> None:
    audio = np.full((RATE // 2, 2), 0.25, np.float32)
    audio[1000:1003, 0] = np.nan, np.inf, -np.inf
    audio[2000] = 1e30
    player = recorder.player(array_source(audio, name="a [b]\x1b"))
    player.play()
    wait_for(lambda: not player.state().playing)
    state = player.state()
    assert state.warning == "3 samples of “a [b]·” so far: NaN or infinite, played as silence."
    assert (state.error, state.clipped) == (None, 2)
    recorder.finish()
    audio[1000:1003, 0] = 0
    audio[2000] = 1
    assert np.array_equal(recorder.heard(), audio)


def test_sources_that_cannot_be_read_are_silent_and_said(
    recorder: Any, counter: Make, array_source: Make, wait_for: Wait
) -> None:
    def broken(start: int, count: int) -> np.ndarray:
        raise OSError("truncated file\x1b[31m")

    sources = [
        Source(broken, RATE, 1, RATE, name="broken"),
        counter(1.0),
        Source(lambda start, count: np.zeros((count, 3)), RATE, 2, RATE, name="three"),
        Source(lambda start, count: np.zeros((0, 1)), RATE, 1, RATE, name="short"),
        Source(broken, 0, 1, RATE, name="no rate"),
        Source(broken, RATE, 1, 0, name="empty"),
    ]
    player = recorder.player(*sources)
    player.play()
    wait_for(lambda: player.state().position_s > 0.1)
    assert player.state().warning == "“broken” cannot be read and is silent there: truncated file·[31m"
    for index, text in ((2, "(512, 3)"), (3, "shorter"), (4, "rate of 0 Hz"), (5, "no samples")):
        player.switch(index)
        wait_for(lambda text=text: text.split(",")[0].strip("(512") in str(player.state().warning))
    player.switch(1)
    wait_for(lambda: not player.state().playing)
    recorder.finish()
    run = recorder.runs()[-1]
    assert (run.source, run.position + run.length) == (0, RATE)


def test_a_late_source_is_an_underrun_and_goes_on_where_it_was(recorder: Any, wait_for: Wait) -> None:
    step, release = 2.0**-20, threading.Event()

    def slow(start: int, count: int) -> np.ndarray:
        if start + count > RATE // 2:
            release.wait(60)
        return ((np.arange(start, start + count) + 1) * step).astype(np.float32)[:, None]

    player = recorder.player(Source(slow, RATE, 1, 2 * RATE))
    player.play()
    wait_for(lambda: player.state().buffering and player.state().position_s > 0.3)
    assert player.state().underruns == 1
    release.set()
    wait_for(lambda: not player.state().playing)
    assert player.state().underruns == 1
    recorder.finish()
    runs = recorder.runs()
    assert len(runs) == 2
    assert runs[1].position == runs[0].length + 239  # faded in again, nothing is lost or repeated


def test_wishes_for_a_device_can_be_given(recorder: Any, counter: Make, wait_for: Wait) -> None:
    player = recorder.player(counter(0.2), channels=64, rate=96000, latency_s=0.2)
    wait_for(lambda: player.state().device)
    assert player.state().rate == 96000
    assert Output() == Output(None, None, None, None, None)
