"""Listening: opening a large set, pictures of sound, switching tracks, and what a moving playhead costs.

Sound goes through real PortAudio into ALSA's `file` plug-in over `null`, which keeps every sample (Linux only).
"""

from __future__ import annotations

import ctypes.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wavedeck.engine.playback import Output, Source
from wavedeck.engine.playback.sound import SoundPlayer
from wavedeck.engine.rundir import RunDir
from wavedeck.engine.samples.spectrogram import read_spectrogram
from wavedeck.engine.samples.writer import SampleWriter
from wavedeck.widgets.spectrogram import loudest_db, paint_spectrogram, pixels
from wavedeck.widgets.time_axis import TimeWindow

from .generate import Shape, finished_run
from .measure import NotSeen, Pane, Spread, compiled, wait_for
from .rows import Figure, Plan

ITEMS, REAL_ITEMS = 10_000, 50
CLIP_S, PICTURE_RATE, COLUMNS, ROWS = 10.0, 44_100, 150, 40
RATE, STEP, SWITCHES = 48_000, 2.0**-20, 12
STEADY = 100
"""Samples of a counter in a row that count as heard; fades and silence have fewer."""
ALSA = """<confdir:alsa.conf>
pcm.!default { type plug slave.pcm "recorder" }
pcm.recorder { type file slave.pcm "null" file "PLACE" format "raw" }
"""
QUIET = dict.fromkeys(("PULSE_SERVER", "PIPEWIRE_REMOTE", "JACK_DEFAULT_SERVER"), os.devnull)
OPEN_RUN = "from wavedeck.app.cli.opening import open_deck; open_deck({!r})"
OPEN_LISTEN = "from wavedeck.app.cli.opening import open_deck; open_deck(listen=({!r}, None, None))"
Audio = npt.NDArray[np.float32]


def tone(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> Audio:
    """Something to look at: a chirp with noise, shape (frames, channels)."""
    t = np.arange(round(seconds * rate)) / rate
    sound = 0.3 * np.sin(2 * np.pi * (200 + 300 * t) * t)[:, None]
    noise = np.random.default_rng(seed).normal(0, 0.05, (len(t), channels))
    return (sound + noise).astype(np.float32)


# --- row 16


def opening_a_set(plan: Plan) -> Iterator[Figure]:
    """Row 16: a set of 10,000 items, from the key on the run's screen and from the start of the program."""
    run_id = "20260921-1600-bench-listen-set"
    large_set(finished_run(plan.bench.home, run_id, Shape(200, 5), plan.bench.data))
    by_key, again, cpu, from_start = Spread(), Spread(), Spread(), Spread()
    for trial in range(plan.trials + 1):
        plan.note_load()
        with _pane(plan, OPEN_RUN.format(run_id)) as pane:
            pane.wait(lambda text: "6 Config" in text, 60, "the run's screen")
            time.sleep(2.0)
            before = pane.cpu_s()
            first = pane.answer_s("8", shows_picture)
            used = pane.cpu_s() - before
            pane.press("Escape")
            pane.wait(lambda text: not shows_picture(text), 30, "the run's screen again")
            second = pane.answer_s("8", shows_picture)
        with _pane(plan, OPEN_LISTEN.format(run_id)) as pane:
            whole = pane.wait(shows_picture, 60, "the first picture of a set")
        if trial:  # the first time compiles
            by_key.add(first)
            again.add(second)
            cpu.add(used)
            from_start.add(whole)
    yield Figure(16, f"key to the first picture, set of {ITEMS:,} items", "s", by_key, bar=0.5)
    yield Figure(16, "the same once more in the same deck", "s", again, bar=0.5)
    yield Figure(16, f"CPU from the key to the first picture, set of {ITEMS:,}", "CPU s", cpu)
    yield Figure(16, f"`wavedeck listen` to its first picture, set of {ITEMS:,}", "s", from_start)


def shows_picture(text: str) -> bool:
    """The list, the facts of a track and a spectrogram are on screen."""
    return f"{ITEMS:,} items" in text and "LUFS" in text and "▀▀▀" in text


def large_set(run: RunDir, name: str = "val") -> None:
    """10,000 items; the sound of the first 50 is that of all others too, so that it is an index that is large."""
    with SampleWriter(run.path, name) as writer:
        for item in range(REAL_ITEMS):
            clip = tone(2.0, 16_000, seed=item)
            writer.log(
                {"target": (clip, 16_000), "prediction": (clip * 0.5, 16_000)},
                step=100,
                key=f"clip-{item}",
                metrics={"wer": item / REAL_ITEMS, "snr": 20.0 - item},
                text={"target": "the quick brown fox", "prediction": "the quack brown fox"},
                tags=["hard"] if item % 3 else [],
            )
    index = run.path / "samples" / name / "index.jsonl"
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    with index.open("a") as handle:
        for number in range(ITEMS - REAL_ITEMS):
            line = dict(lines[number % REAL_ITEMS], id=f"{number:016x}")
            line["metrics"] = {"wer": (number * 7919 % 10_007) / 10_007, "snr": float(number % 40)}
            handle.write(json.dumps(line, separators=(",", ":")) + "\n")


# --- row 17


def picture(plan: Plan) -> Iterator[Figure]:
    """Row 17: the spectrogram of a clip of 10 s whose samples are in memory, and its cells."""
    for channels, words in ((1, "mono"), (2, "stereo")):
        clip = tone(CLIP_S, PICTURE_RATE, channels)

        def read(start: int, frames: int, clip: Audio = clip) -> Audio:
            return clip[start : start + frames]

        spread, cpu, painted = Spread(), Spread(), Spread()
        plan.note_load()
        for trial in range(3 * plan.trials + 1):
            began, cpu_began = time.perf_counter(), time.process_time()
            view = read_spectrogram(read, 0, len(clip), PICTURE_RATE, COLUMNS)
            made, cpu_made = time.perf_counter(), time.process_time()
            levels = pixels(view, PICTURE_RATE, TimeWindow(0.0, CLIP_S), COLUMNS, 2 * ROWS)
            paint_spectrogram(levels, loudest_db(view), 0, 40, 0)
            if trial:
                spread.add(1e3 * (made - began))
                cpu.add(1e3 * (cpu_made - cpu_began))
                painted.add(1e3 * (time.perf_counter() - made))
        what = f"spectrogram of {CLIP_S:g} s, {PICTURE_RATE / 1000:g} kHz {words}, {COLUMNS} columns"
        yield Figure(17, what, "ms", spread, bar=50.0)
        yield Figure(17, f"{what}, CPU", "CPU ms", cpu)
        yield Figure(17, f"its {COLUMNS} × {ROWS} cells, {words}", "ms", painted)


# --- row 18


def switching(plan: Plan) -> Iterator[Figure]:
    """Row 18: from the playhead at which another track is asked for to its first sample, and what is lost between."""
    latency, lost = Spread(), Spread()
    for trial in range(plan.trials):
        plan.note_load()
        with recording(plan.bench.sandbox / f"switches-{trial}") as (env, place), _environment(env):
            asked, runs = _switches(place)
        for at, before, after in zip(asked, runs, runs[1:], strict=False):
            latency.add(after[1] - at * RATE)
            lost.add(abs((after[0] - after[1]) - (before[0] - before[1])))
    yield Figure(18, "A/B switch: playhead at the call to the other track whole", "samples at 48 kHz", latency)
    yield Figure(18, "samples lost or repeated by a switch", "samples", lost, bar=0.0)


def _switches(place: Path) -> tuple[list[float], list[tuple[int, int, int]]]:
    """Switch between two counters; the playheads (seconds) at the calls, and what was recorded."""
    player = SoundPlayer(Output(device="default"))
    try:
        player.load([counter(30.0, 0), counter(30.0, 1)])
        player.play()
        asked = []
        for number in range(SWITCHES):
            _play_on(player, 0.3)
            asked.append(player.state().position_s)
            player.switch((number + 1) % 2)
        _play_on(player, 0.5)
    finally:
        player.close()
    wait_for(lambda: len(recorded(place)) == SWITCHES + 1, 20, "the record of every switch")
    return asked, recorded(place)


def _play_on(player: SoundPlayer, seconds: float) -> None:
    until = player.state().position_s + seconds
    wait_for(lambda: player.state().position_s > until, 20, "the playhead", every_s=0.002)


def counter(seconds: float, source: int) -> Source:
    """Sample i of source 0 is (i + 1) · 2^-20, of source 1 the same below zero: each sample says what it is."""
    frames = round(seconds * RATE)

    def read(start: int, count: int) -> Audio:
        at = np.arange(start, min(start + count, frames))
        return ((at + 1) * (-STEP if source else STEP)).astype(np.float32)[:, None]

    return Source(read, RATE, 1, frames, name=f"counter {source}")


def recorded(place: Path) -> list[tuple[int, int, int]]:
    """Stretches in which one counter counts: (sample of the recording, sample of the clip, source)."""
    data = np.fromfile(place, "<f4") if place.exists() else np.zeros(0, np.float32)
    counts = data[: len(data) // 2 * 2].reshape(-1, 2)[:, 0].astype(np.float64) / STEP
    whole = (counts == np.rint(counts)) & (counts != 0)
    steady = whole[1:] & whole[:-1] & (np.abs(np.diff(counts)) == 1) & (counts[1:] * counts[:-1] > 0)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], steady.astype(np.int8), [0]))))
    return [
        (int(first), int(abs(counts[first])) - 1, int(counts[first] < 0))
        for first, last in zip(edges[::2], edges[1::2], strict=True)
        if last - first >= STEADY
    ]


# --- row 19


def playing(plan: Plan) -> Iterator[Figure]:
    """Row 19: deck and sound process while a stereo clip plays, the playhead over waveforms and spectrograms."""
    run_id = "20260921-1900-bench-listen-play"
    run = finished_run(plan.bench.home, run_id, Shape(200, 5), plan.bench.data)
    with SampleWriter(run.path, "val") as writer:
        length = plan.idle_s + 30
        clips = [(tone(length, PICTURE_RATE, 2, seed), PICTURE_RATE) for seed in range(2)]
        writer.log({"target": clips[0], "prediction": clips[1]}, step=1, key="long")
    still, moving = Spread(), Spread()
    for trial in range(plan.trials):
        plan.note_load()
        with (
            recording(plan.bench.sandbox / f"playing-{trial}") as (env, place),
            _pane(plan, OPEN_LISTEN.format(run_id), env) as pane,
        ):
            pane.wait(lambda text: text.count("LUFS") == 2 and "▀▀▀" in text, 60, "the pictures")
            time.sleep(3.0)
            still.add(pane.cpu_percent(plan.idle_s / 2))
            pane.press("Space")
            wait_for(lambda: place.exists() and place.stat().st_size > RATE, 20, "sound")
            time.sleep(1.0)
            moving.add(pane.cpu_percent(plan.idle_s))
            if "playing" not in pane.text():
                raise NotSeen("the clip ended while its cost was measured")
    yield Figure(19, "Listen, nothing playing", "% of a core", still)
    what = "Listen, a stereo clip playing, two tracks shown, sound process included"
    yield Figure(19, what, "% of a core", moving, bar=10.0)


# --- what they share


@contextmanager
def recording(folder: Path) -> Iterator[tuple[dict[str, str], Path]]:
    """A sound device that keeps what is played: its environment, and the file.

    Raises
    ------
    RuntimeError: there is no PortAudio or no ALSA here.
    """
    if not sys.platform.startswith("linux") or not ctypes.util.find_library("portaudio"):
        raise RuntimeError("no PortAudio over ALSA here (Debian: libportaudio2, libasound2-data)")
    folder.mkdir()
    place, configuration = folder / "played.raw", folder / "alsa.conf"
    configuration.write_text(ALSA.replace("PLACE", str(place)))
    yield {**QUIET, "ALSA_CONFIG_PATH": str(configuration)}, place


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _pane(plan: Plan, code: str, more: Mapping[str, str] | None = None) -> Pane:
    env = {**compiled(plan.bench.sandbox), **plan.bench.env, **QUIET, **(more or {})}
    return Pane(plan.bench.sandbox, [sys.executable, "-c", code], env, 200, 50)


MEASUREMENTS: tuple[tuple[frozenset[int], Callable[[Plan], Iterator[Figure]]], ...] = (
    (frozenset({16}), opening_a_set),
    (frozenset({17}), picture),
    (frozenset({18}), switching),
    (frozenset({19}), playing),
)
