"""What the sound process does with a block: read the tape, fade where something changes, convert. No PortAudio here.

Everything is sample-accurate and deterministic: the same wishes at the same blocks give the same samples, which is how
it is tested.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .board import NO_END, Board, Control
from .model import FADE_S, FloatArray

FULL_SCALE = {"int16": 2.0**15, "int24": 2.0**23, "int32": 2.0**31}


def crossfade(old: FloatArray, new: FloatArray) -> FloatArray:
    """From `old` to `new`, both (frames, channels), at constant power.

    The usual equal-power fade takes two signals for unrelated and makes like ones 3 dB louder in the middle: audible
    when comparing a prediction with its target, and a give-away in a blind test. So the gains are scaled by the power
    that the mix has for the correlation found here: sqrt(f² + g² + 2 r f g) is 1 throughout. For r = 0 that is equal
    power, for r = 1 a straight line, through which equal signals pass unchanged.
    """
    if np.array_equal(old, new):
        return new
    rise = ((np.arange(len(new), dtype=np.float32) + 1) / (len(new) + 1))[:, None]
    energy = float(np.sqrt(np.vdot(old, old) * np.vdot(new, new)))
    likeness = min(1.0, max(0.0, float(np.vdot(old, new)) / energy)) if energy > 0 else 1.0
    fall = 1 - rise
    power = np.sqrt(rise**2 + fall**2 + 2 * likeness * rise * fall)
    return np.asarray((old * fall + new * rise) / power, dtype=np.float32)


def converted(block: FloatArray, sample_format: str) -> npt.NDArray[np.generic]:
    """Samples within ±1 as the device wants them; int24 is three bytes a sample, lowest first.

    Full scale is 2^15 or 2^23, so that a 16-bit file comes out with the very numbers that are in it.
    """
    if sample_format == "float32":
        return block
    scale = FULL_SCALE[sample_format]
    whole = np.clip(np.rint(block * np.float64(scale)), -scale, scale - 1).astype("<i4")
    if sample_format == "int16":
        return whole.astype("<i2")
    return whole if sample_format == "int32" else whole[..., None].view(np.uint8)[..., :3]


class Mixer:
    """Renders block after block from the tapes on a board.

    After each `render`, `generation`, `began` and `advance` say which frames of which tape the block holds. `cushion_s`
    of a tape must be there before it is begun: a device that starts swallows its whole buffer at once.
    """

    def __init__(self, board: Board, rate: int, channels: int, cushion_s: float = 0.0) -> None:
        self._board = board
        self._channels = channels
        self._fade = max(2, round(FADE_S * rate))
        self._cushion = round(cushion_s * rate)
        self._gate = 0  # frames of the fade-in done: 0 is closed, self._fade is open
        self._mixed: FloatArray = np.empty((0, channels), np.float32)  # a crossfade under way
        self._amplitude: float | None = None
        self._slot = 0
        self._axis = 0
        self._delivered = False
        self.generation = 0
        self.frame = 0
        self.began = 0
        self.advance = 0
        self.underruns = 0
        self.clipped = 0

    def render(self, frames: int) -> FloatArray:
        """The next block, shape (frames, channels), within ±1."""
        control = self._board.asked()
        self._move_to(control, frames)
        self.began = self.frame
        out = np.zeros((frames, self._channels), np.float32)
        data = self._pull(frames if control.playing else min(frames, self._gate))
        self.advance = count = len(data)
        out[:count] = self._gated(data, control.playing)
        self._account(control, frames, count)
        self._set_volume(out, control.amplitude)
        self._limit(out)
        self._publish(control.playing and count < frames and not self._ended())
        return out

    def _move_to(self, control: Control, frames: int) -> None:
        """Go over to the tape that is asked for as soon as enough of it is there."""
        if control.generation == self.generation or len(self._mixed) or (self._gate and not control.playing):
            return  # a pause is heard to its end first
        tape = self._board.tapes[control.slot]
        if int(tape["generation"]) != control.generation:
            return
        written, origin, end = int(tape["written"]), int(tape["origin"]), int(tape["end"])
        start = self.frame if int(tape["axis"]) == self._axis else origin
        whole = NO_END < end <= written
        need = min(self._fade + 2 * frames + self._cushion, int(tape["capacity"]) // 4)
        if start < origin or not (whole or written >= start + need):
            return
        if self._gate:
            new = self._board.read(control.slot, self._channels, start, self._fade)
            old = np.zeros_like(new)
            left = self._board.read(self._slot, self._channels, self.frame, len(new))
            old[: len(left)] = left
            self._mixed = crossfade(old, new)
        self._slot, self._axis = control.slot, int(tape["axis"])
        self.generation, self.frame = control.generation, start
        self._delivered = False

    def _pull(self, count: int) -> FloatArray:
        """Up to `count` frames of what is being played; the rest is not there, or not there yet."""
        mixed, self._mixed = self._mixed[:count], self._mixed[count:]
        self.frame += len(mixed)
        rest = count - len(mixed)
        if not self.generation or not rest:
            return mixed
        data = self._board.read(self._slot, self._channels, self.frame, rest)
        self.frame += len(data)
        return np.concatenate((mixed, data)) if len(mixed) else data

    def _gated(self, data: FloatArray, playing: bool) -> FloatArray:
        """Fade in after silence and out before it. The very start of a clip is not faded: a drum begins there."""
        count = len(data)
        if playing and self._gate == 0 and count:
            tape = self._board.tapes[self._slot]
            if tape["sharp"] and self.began == int(tape["origin"]):
                self._gate = self._fade
        if playing and self._gate >= self._fade:
            return data
        step = 1 if playing else -1
        levels = np.clip((self._gate + step * np.arange(1, count + 1)) / self._fade, 0, 1)
        self._gate = min(self._fade, max(0, self._gate + step * count))
        return data * levels.astype(np.float32)[:, None]

    def _account(self, control: Control, frames: int, count: int) -> None:
        """Close the gate after the end or in a gap, and count the gap once."""
        if count:
            self._delivered = True
        if not control.playing or count == frames:
            return
        self._gate = 0
        if self._delivered and not self._ended() and control.generation == self.generation:
            self.underruns += 1
            self._delivered = False

    def _ended(self) -> bool:
        return NO_END < int(self._board.tapes[self._slot]["end"]) <= self.frame and self.generation > 0

    def _set_volume(self, out: FloatArray, amplitude: float) -> None:
        before = amplitude if self._amplitude is None else self._amplitude
        self._amplitude = amplitude
        if before != amplitude:
            out *= np.linspace(before, amplitude, len(out), dtype=np.float32)[:, None]
        elif amplitude != 1.0:
            out *= np.float32(amplitude)

    def _limit(self, out: FloatArray) -> None:
        if len(out) and max(float(out.max()), -float(out.min())) > 1.0:
            self.clipped += int(np.count_nonzero(np.abs(out) > 1.0))
            np.clip(out, -1.0, 1.0, out=out)

    def _publish(self, starving: bool) -> None:
        status = self._board.status
        self._board.tell(self.generation, self._axis, self.frame)
        status["slot"] = self._slot
        status["ended"] = self.generation if self._ended() else 0
        status["starving"] = starving
        status["clipped"] = self.clipped
