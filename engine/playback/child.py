"""The sound process: `python -m wavedeck.engine.playback.child list`, or `play MEMORY OUTPUT`.

It holds PortAudio for the deck and nothing else: samples, wishes and facts are on the shared board (`board.py`). One
line of JSON on standard output says how the device was opened, or why not; one more says why it had to stop. Any
failure ends the process, and the next try is a fresh one with a fresh PortAudio: only that sees a device come back.

Standard input is its life line: it ends when the deck closes it or dies, however hard, whatever PortAudio is doing.
A byte on it means "look at the board".
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import json
import os
import select
import signal
import sys
import threading
import time
from typing import Any

import numpy as np

from ..format import plain
from .board import Board
from .devices import NoSound, Opened, choose, devices, import_sound, negotiated
from .mixing import Mixer, converted
from .model import Output

CHECK_S = 0.25
"""How often the stream is looked at."""
IDLE_S = 3.0
"""After so long without playing the stream is stopped: a device may sleep, and a laptop's battery lasts longer."""
STALL_S = 3.0
"""A running stream that asks for no samples for so long is a device that is gone."""
PR_SET_PDEATHSIG = 1
LAST_WORDS_S = 0.5
"""How long the stream may take to be closed when the deck is gone."""
LEAD_S = 0.02
"""A device that takes samples faster than time passes, beyond its buffer by this much, is slowed down."""


class Sound:
    """One open stream that plays what is on the board."""

    def __init__(self, sound: Any, opened: Opened, output: Output, board: Board) -> None:
        self._sound = sound
        self._opened = opened
        self._board = board
        self._blocks = 0
        self._played = 0
        self._started = 0.0
        self._called = 0.0
        self._busy = 0.0
        self._late = 0
        self.failure = ""
        self._stream = sound.RawOutputStream(
            device=opened.device.index,
            samplerate=opened.rate,
            channels=opened.channels,
            dtype=opened.sample_format,
            blocksize=512 * max(1, round(opened.rate / 48_000)),
            latency=output.latency_s or "high",
            callback=self._fill,
            dither_off=True,
            clip_off=True,
        )
        self._mixer = Mixer(board, opened.rate, opened.channels, min(self.latency_s, 0.5) + LEAD_S)
        if round(self._stream.samplerate) != opened.rate:
            raise NoSound(
                f"The sound device “{opened.device.name}” does not run at {opened.rate} Hz. Choose another rate."
            )

    @property
    def latency_s(self) -> float:
        """Seconds from rendering to hearing, as PortAudio has it."""
        return float(self._stream.latency)

    def look(self) -> None:
        """Start or stop the stream as wished; raises `NoSound` when the device is gone."""
        now = time.monotonic()
        self._board.status["beat"] = now
        if self.failure:
            raise NoSound(self.failure)
        running = self._started > 0
        if running and (not self._stream.active or now - self._called > STALL_S):
            raise NoSound(f"The sound device “{self._opened.device.name}” disappeared or stopped; press play to go on.")
        asked = self._board.asked()
        if asked.playing and int(self._board.status["ended"]) != asked.generation:
            self._busy = now
            if not running:
                self._played, self._started, self._called = 0, now, now
                self._stream.start()
        elif running and now - self._busy > IDLE_S:
            self._started = 0.0
            self._stream.abort()

    def close(self) -> None:
        """Let the device go."""
        self._stream.close()

    def _fill(self, out: Any, frames: int, times: Any, status: Any) -> None:
        """PortAudio's callback, in its thread."""
        try:
            now = time.monotonic()
            latency = times.outputBufferDacTime - times.currentTime
            latency = latency if 0 < latency < 5 else self.latency_s
            block = self._mixer.render(frames)
            data = converted(block, self._opened.sample_format)
            np.frombuffer(out, np.uint8)[:] = np.frombuffer(data.tobytes(), np.uint8)
            mixer = self._mixer
            self._board.note(self._blocks, now + latency, mixer.generation, mixer.began, mixer.advance)
            self._blocks += 1
            self._called = now
            self._late += bool(status.output_underflow)
            self._board.status["underruns"] = self._late + mixer.underruns
            self._board.status["latency_s"] = latency
            self._pace(frames, latency)
        except BaseException as error:
            self.failure = f"Playing stopped because of an error ({plain(repr(error), 200)}); press play to go on."
            raise self._sound.CallbackAbort from error

    def _pace(self, frames: int, latency: float) -> None:
        """Wait where the device has no clock, as ALSA's null device: a clip lasts as long there as anywhere."""
        self._played += frames
        ahead = self._played / self._opened.rate - (time.monotonic() - self._started)
        if ahead > latency + LEAD_S:
            time.sleep(ahead - latency - LEAD_S)


class LifeLine:
    """Waits for bytes of the deck, and ends this process when there is no deck.

    `woken` is set by every byte, `cut` when the deck is gone; then the stream has `LAST_WORDS_S` to be closed.
    """

    def __init__(self) -> None:
        self.woken = threading.Event()
        self.cut = False
        threading.Thread(target=self._watch, args=(os.getppid(),), daemon=True).start()

    def _watch(self, parent: int) -> None:
        while not self.cut:
            ready, _, _ = select.select([0], [], [], 1.0)
            self.cut = bool(ready and not os.read(0, 4096)) or os.getppid() != parent
            if ready:
                self.woken.set()
        time.sleep(LAST_WORDS_S)
        os._exit(0)


def play(memory: int, output: Output) -> None:
    """Open the device and play until the deck is gone; raises `NoSound` when the device is."""
    line = LifeLine()
    board = Board(memory)
    sound = import_sound()
    device = choose(devices(sound), output.device)
    opened = negotiated(sound, device, output)
    try:
        player = Sound(sound, opened, output, board)
        tell(ready=dataclasses.asdict(opened))
        gc.disable()  # nothing here makes cycles, and a collection could be heard
        while not line.cut:
            player.look()
            line.woken.wait(CHECK_S)
            line.woken.clear()
        player.close()
    except sound.PortAudioError as error:
        text = f"The sound device “{device.name}” does not work ({plain(str(error), 120)}); press play to try again."
        raise NoSound(text) from None


def die_with_parent() -> None:
    """Have Linux kill this process with the deck, even where it is stopped and cannot read its life line.

    The signal comes when the *thread* that started this process ends; `process.py` keeps that thread until we are gone.
    """
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def tell(**message: Any) -> None:
    """One line to the deck."""
    os.write(1, (json.dumps(message) + "\n").encode())


def main(arguments: list[str]) -> int:
    """Do as the command line says; failures are told on standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    try:
        if arguments[0] == "list":
            tell(devices=[dataclasses.asdict(device) for device in devices(import_sound())])
        else:
            play(int(arguments[1]), Output(**json.loads(arguments[2])))
    except NoSound as error:
        tell(failed=str(error))
    except Exception as error:
        tell(failed=f"The sound process failed: {plain(repr(error), 200)}")
    sys.stdout.flush()
    os._exit(0)  # PortAudio's own clean-up may hang on a device that is gone


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
