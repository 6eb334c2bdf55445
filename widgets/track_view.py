"""What a track looks like, as values: sound summary, spectrogram, facts, and the words of its label line."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..engine import format as fmt
from ..engine.samples.measures import Measures
from ..engine.samples.overview import BUCKET, Columns, Overview, columns_of
from ..engine.samples.spectrogram import Spectrogram
from .cell_grid import one_cell
from .time_axis import TimeWindow

DC_WORTH_SAYING = 0.005
SILENCE_WORTH_SAYING = 0.5
NAME_CELLS = 24


@dataclass(frozen=True, slots=True, eq=False)
class Detail:
    """Samples around a close window: float32 of shape (frames, channels), `start` frames after the clip's first."""

    start: int
    audio: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class TrackView:
    """One track as far as it is known; what is still being read or measured is None.

    Parameters
    ----------
    name: untrusted; it is made safe where it is drawn. letter: the key that makes it audible.
    rate: frames a second. channels, frames: of the whole track.
    overview: the summary a waveform is drawn from. detail: samples for windows closer than its buckets.
    spectrogram: of the whole track; closer: of the visible part, drawn over it.
    measures: level, peaks and so on.
    problem: why there is nothing to see or hear, a sentence; None when nothing is wrong.
    note: anything else to say on the label line ("step 1000", "+2.1 dB matched").
    """

    name: str
    letter: str = ""
    rate: int = 0
    channels: int = 1
    frames: int = 0
    overview: Overview | None = None
    detail: Detail | None = None
    spectrogram: Spectrogram | None = None
    closer: Spectrogram | None = None
    measures: Measures | None = None
    problem: str | None = None
    note: str = ""

    @property
    def seconds(self) -> float:
        """Length; 0 where rate or frames make no sense."""
        return self.frames / self.rate if self.rate > 0 and self.frames > 0 else 0.0

    def envelope(self, window: TimeWindow, columns: int) -> Columns | None:
        """The envelope of the first columns of `window`, as far as the track reaches; None when nothing is known."""
        if self.overview is None or not self.seconds or self.seconds <= window.start or columns <= 0:
            return None
        end = min(window.end, self.seconds)
        count = max(1, min(columns, round((end - window.start) / window.length * columns)))
        first, last = round(window.start * self.rate), max(round(end * self.rate), round(window.start * self.rate) + 1)
        detail = self.detail
        if detail is not None and (last - first) / count < 2 * BUCKET:
            begin, stop = first - detail.start, last - detail.start
            if begin >= 0 and stop <= len(detail.audio):
                return columns_of(detail.audio[begin:stop], count)
        return self.overview.columns(first, last, count)

    def peak(self) -> float:
        """The largest sample that is known of, linear; 0 when none is."""
        if self.overview is None or not self.frames:
            return 0.0
        whole = self.overview.columns(0, self.frames, 1)
        values = np.concatenate((whole.minimum.ravel(), whole.maximum.ravel()))
        known = np.abs(values[np.isfinite(values)])
        return float(known.max()) if known.size else 0.0


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing said about a track; `role` is plain, muted, warn or bad, and bad ones are words, not only colours."""

    text: str
    role: str = "muted"


def facts_of(track: TrackView) -> list[Fact]:
    """Everything to say, the most important first."""
    facts: list[Fact] = []
    if track.problem is not None:
        facts.append(Fact("! cannot be heard", "bad"))
    if track.note:
        facts.append(Fact(fmt.plain(track.note, 60), "plain"))
    if track.measures is not None:
        facts += _faults(track.measures)
        facts += _levels(track.measures)
    if track.seconds:
        facts.append(Fact(f"{kilohertz(track.rate)} {channel_words(track.channels)}"))
        facts.append(Fact(f"{track.seconds:.2f} s" if track.seconds < 60 else fmt.duration(track.seconds)))
    if track.measures is not None:
        facts += _rest(track.measures)
    elif track.problem is None:
        facts.append(Fact("measuring…"))
    return facts


def _faults(measures: Measures) -> list[Fact]:
    """What is wrong with the sound, in words."""
    found = []
    if measures.not_finite:
        found.append(Fact(f"! {fmt.count(measures.not_finite)} samples are NaN or infinite", "bad"))
    if measures.clipped:
        found.append(Fact(f"! clips, {fmt.count(measures.clipped)} samples", "bad"))
    if measures.silence >= 1.0:
        found.append(Fact("! silent", "warn"))
    elif measures.silence >= SILENCE_WORTH_SAYING:
        found.append(Fact(f"! {fmt.percent(measures.silence)} silence", "warn"))
    if abs(measures.dc_offset) >= DC_WORTH_SAYING:
        found.append(Fact(f"! DC offset {measures.dc_offset:+.3f}", "warn"))
    return found


def _levels(measures: Measures) -> list[Fact]:
    return [
        Fact(f"{decibels(measures.loudness_lufs)} LUFS", "plain"),
        Fact(f"peak {decibels(measures.true_peak_db)} dB", "warn" if measures.true_peak_db > 0 else "muted"),
        Fact(f"RMS {decibels(measures.rms_db)} dB"),
    ]


def _rest(measures: Measures) -> list[Fact]:
    """What is normal and still somebody's question."""
    rest = []
    if measures.silence < SILENCE_WORTH_SAYING:
        rest.append(Fact(f"{fmt.percent(measures.silence)} silence"))
    if abs(measures.dc_offset) < DC_WORTH_SAYING:
        rest.append(Fact(f"DC {measures.dc_offset:+.4f}"))
    if not measures.clipped:
        rest.append(Fact("no clipping"))
    return rest


def label_facts(track: TrackView, cells: int) -> list[Fact]:
    """The facts that fit into so many cells, two blanks between; what is wrong comes before what is not."""
    kept: list[Fact] = []
    for fact in facts_of(track):
        if len(fact.text) + (2 if kept else 0) <= cells:
            kept.append(fact)
            cells -= len(fact.text) + (2 if len(kept) > 1 else 0)
    return kept


def track_name(track: TrackView, cells: int = NAME_CELLS) -> str:
    """The name, safe to draw, in at most so many cells."""
    return one_cell(fmt.plain(track.name), cells) or "(no name)"[:cells]


def kilohertz(rate: int) -> str:
    """`44.1 kHz`."""
    return f"{rate / 1000:g} kHz" if rate >= 1000 else f"{rate} Hz"


def channel_words(channels: int) -> str:
    """`mono`, `stereo`, `8 channels`."""
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")


def decibels(value: float) -> str:
    """A level with one decimal and a true minus: `−18.2`, `−∞` for silence."""
    if math.isnan(value):
        return fmt.MISSING
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    text = f"{value:+.1f}" if value > 0 else f"{value:.1f}"
    return text.replace("-", "−")
