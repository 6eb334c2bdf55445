"""A snare drum or pad in numpy: two damped modes, a burst of wire noise, a room.

Shapes: S samples of a clip, H samples of one hit. About 4 ms of one core per four-second clip.

The two hands differ as they do on a real drum (other stick, other grip, other spot on the head): `hand_timbre` moves
the left hand's pitch down by about a tenth and makes it duller. At 0 both hands sound alike, and then no listener can
tell a double-stroke roll from a single-stroke one: 34 of the 40 patterns remain distinct.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from .players import Stroke

HIT_S = 0.22
"""Length of one hit; by then its tail is 25 to 50 dB down."""
_BEND_S = 0.010
"""Seconds in which a bent pitch has come down to 1/e of its excess."""


@dataclass(frozen=True, slots=True)
class Kit:
    """One instrument. Frequencies in Hz, decays in seconds (to 1/e), `wires` the share of noise, `click` how hard the
    stick is heard, `bend` by what share the pitch falls in the first hundredth of a second (a loose head).
    """

    name: str
    low_hz: float
    high_ratio: float
    body_s: float
    wires_s: float
    wires: float
    click: float = 1.0
    bend: float = 0.0


KITS = (
    Kit("concert", 186.0, 1.78, 0.045, 0.060, 0.60),
    Kit("marching", 262.0, 1.62, 0.028, 0.035, 0.75),
    Kit("piccolo", 322.0, 1.55, 0.024, 0.040, 0.65),
    Kit("fieldpad", 410.0, 2.10, 0.012, 0.012, 0.35),
    Kit("brushed", 214.0, 1.69, 0.035, 0.090, 0.85),
    Kit("deep", 128.0, 1.84, 0.070, 0.075, 0.50, 0.7, 0.25),
    Kit("steel", 246.0, 2.32, 0.060, 0.050, 0.45, 1.4),
    Kit("funk", 286.0, 1.47, 0.018, 0.026, 0.80, 1.6, 0.10),
    Kit("tabor", 158.0, 1.59, 0.055, 0.018, 0.25, 0.6, 0.18),
    Kit("rubber", 530.0, 1.90, 0.008, 0.006, 0.15, 1.2),
    Kit("kevlar", 365.0, 1.73, 0.014, 0.030, 0.88, 1.8),
    Kit("vintage", 204.0, 2.05, 0.040, 0.110, 0.70, 0.5, 0.12),
    Kit("timbale", 440.0, 1.51, 0.050, 0.010, 0.12, 1.3, 0.05),
    Kit("woodblock", 690.0, 2.71, 0.011, 0.008, 0.08, 1.1),
)
"""Fourteen, so that two or three can be held out for validation and for the test with `data.unseen_kits`."""


@dataclass(frozen=True, slots=True)
class Room:
    """Reflections: how loud the first is, seconds to 1/e, and how many."""

    name: str
    level: float
    decay_s: float
    taps: int


ROOMS = (
    Room("dry", 0.0, 0.01, 0),
    Room("booth", 0.18, 0.03, 6),
    Room("studio", 0.25, 0.07, 9),
    Room("hall", 0.22, 0.16, 14),
)


class Drum:
    """One kit under two hands, ready to be hit; small random differences make every clip's drum its own.

    Parameters
    ----------
    hand_timbre: 0…1, how differently the hands sound.
    """

    def __init__(self, kit: Kit, hand_timbre: float, sample_rate: int, rng: Generator) -> None:
        self.sample_rate, self.rng = sample_rate, rng
        self.length = round(HIT_S * sample_rate)
        time_H = np.arange(self.length, dtype=np.float32) / sample_rate
        tuning = float(np.exp(rng.normal(0.0, 0.06)))
        pitch_gap = hand_timbre * rng.uniform(0.06, 0.12)
        dullness = hand_timbre * rng.uniform(0.35, 0.55)
        attack_H = np.minimum(1.0, time_H / 0.0006).astype(np.float32)
        self._body_H = {}
        for hand, side in (("R", 0.5), ("L", -0.5)):
            hertz = kit.low_hz * tuning * (1.0 + side * pitch_gap)
            cycles_H = hertz * (time_H + kit.bend * _BEND_S * (1.0 - np.exp(-time_H / _BEND_S)))
            low_H = np.sin(2 * math.pi * cycles_H) * np.exp(-time_H / kit.body_s)
            high_H = np.sin(2 * math.pi * kit.high_ratio * cycles_H) * np.exp(-time_H / (0.6 * kit.body_s))
            self._body_H[hand] = ((low_H + 0.6 * high_H) * attack_H * (1 - 0.6 * kit.wires)).astype(np.float32)
        self._wires_H = (np.exp(-time_H / kit.wires_s) * attack_H * kit.wires).astype(np.float32)
        self._click_H = (kit.click * np.exp(-time_H / 0.0025) * attack_H).astype(np.float32)
        noise = rng.standard_normal(4 * self.length).astype(np.float32)
        self._bright = np.diff(noise, append=0.0).astype(np.float32) * 0.7
        self._dark = np.convolve(noise, np.full(5, 0.45, np.float32), mode="same").astype(np.float32)
        self._brightness = {"R": 0.75, "L": 0.75 - dullness}

    def hit(self, hand: str, velocity: float) -> np.ndarray:
        """One stroke, (H,). Louder strokes are also brighter; amplitude grows with the square of velocity/127."""
        force = velocity / 127.0
        bright = min(1.0, self._brightness[hand] * (0.5 + 0.7 * force))
        start = int(self.rng.integers(0, 3 * self.length))
        window = slice(start, start + self.length)
        noise_H = bright * self._bright[window] + (1.0 - bright) * self._dark[window]
        hit_H = self._body_H[hand] + noise_H * (self._wires_H + bright * self._click_H)
        return hit_H * np.float32(force * force)


def bounces(drum: Drum, hand: str, velocity: float) -> list[tuple[float, float]]:
    """A buzz as (delay in seconds, velocity): 3 to 8 bounces, each weaker and sooner than the one before."""
    rng = drum.rng
    count = int(rng.integers(3, 9))
    gap_s, fall = rng.uniform(0.026, 0.036), rng.uniform(0.80, 0.90)
    delay, played = 0.0, []
    for bounce in range(count):
        played.append((delay, velocity * fall**bounce))
        delay += gap_s * 0.92**bounce * rng.uniform(0.93, 1.07)
    return played


def render(
    strokes: list[Stroke], kit: Kit, room: Room, duration_s: float, sample_rate: int, rng: Generator,
    hand_timbre: float = 1.0, noise_db: float = -60.0,
) -> np.ndarray:  # fmt: skip
    """The clip, (S,) float32, peak between -8 and -1 dB of full scale.

    Parameters
    ----------
    noise_db: RMS of the background noise under a full-scale peak.
    """
    drum = Drum(kit, hand_timbre, sample_rate, rng)
    total = round(duration_s * sample_rate)
    wave_S = np.zeros(total + drum.length, dtype=np.float32)
    for stroke in strokes:
        hits = [(0.0, stroke.actual_velocity)]
        if stroke.stroke_type == "buzz":
            hits = bounces(drum, stroke.hand, stroke.actual_velocity)
        for delay_s, velocity in hits:
            start = round((stroke.actual_time_ms / 1000.0 + delay_s) * sample_rate)
            if 0 <= start < total:
                wave_S[start : start + drum.length] += drum.hit(stroke.hand, velocity)
    wave_S = _in_room(wave_S[:total], room, sample_rate, rng)
    peak = float(np.abs(wave_S).max()) or 1.0
    wave_S *= 10 ** (rng.uniform(-8.0, -1.0) / 20) / peak
    wave_S += rng.standard_normal(total, dtype=np.float32) * np.float32(10 ** (noise_db / 20))
    return np.clip(wave_S, -1.0, 1.0)


def _in_room(wave_S: np.ndarray, room: Room, sample_rate: int, rng: Generator) -> np.ndarray:
    """Add a room's reflections at random delays, later ones weaker."""
    out_S = wave_S.copy()
    for delay_s in np.sort(rng.uniform(0.004, 3 * room.decay_s, room.taps)):
        delay = round(float(delay_s) * sample_rate)
        level = room.level * math.exp(-float(delay_s) / room.decay_s) * rng.choice((-1.0, 1.0))
        out_S[delay:] += np.float32(level) * wave_S[: len(wave_S) - delay]
    return out_S
