"""How the instruments of the Listen screen look: speech, drums, silence, clipping, stereo; dark and light."""

from __future__ import annotations

import numpy as np
import pytest
from textual.app import App, ComposeResult
from textual.theme import Theme
from textual.widget import Widget

from wavedeck.app.themes import COLOUR_BLIND_SAFE, DARK, LIGHT
from wavedeck.engine.playback import PlayerState
from wavedeck.engine.samples.alignment import confusion
from wavedeck.engine.samples.columns import ColumnBuilder
from wavedeck.engine.samples.items import IndexLine, Parameter
from wavedeck.engine.samples.order import group_rows, sort_rows
from wavedeck.tests.conftest import Snapshot
from wavedeck.tests.fakes.listen_tracks import drum_tracks, odd_tracks, speech_tracks
from wavedeck.widgets.class_bars import ClassBars, ClassScores
from wavedeck.widgets.confusion_matrix import ConfusionMatrix
from wavedeck.widgets.parameter_table import ParameterTable
from wavedeck.widgets.sample_list import SampleList
from wavedeck.widgets.sample_table import SampleTable
from wavedeck.widgets.text_diff import TextDiff, TextPair
from wavedeck.widgets.track_stack import TrackStack
from wavedeck.widgets.transport import TrackButton, Transport, TransportState

Extent = tuple[int, int]
SIZES = pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])
THEMES = pytest.mark.parametrize("theme", [LIGHT, COLOUR_BLIND_SAFE], ids=["light", "okabe-ito"])
RUDIMENTS = ("flam", "paradiddle", "five stroke roll", "ratamacue", "single drag tap")


class Stage(App[None]):
    def __init__(self, *widgets: Widget, theme: Theme = DARK) -> None:
        super().__init__()
        self.widgets = widgets
        self.animation_level = "none"
        self.register_theme(theme)
        self.theme = theme.name

    def compose(self) -> ComposeResult:
        yield from self.widgets


async def take(snapshot: Snapshot, size: Extent, *widgets: Widget, theme: Theme = DARK) -> None:
    """The picture of some widgets below each other."""
    app = Stage(*widgets, theme=theme)
    async with app.run_test(size=size) as pilot:
        for widget in app.query(ParameterTable):
            widget.show_parameters(PARAMETERS)
        for table in app.query(SampleTable):
            table.show_samples(samples(grouped=size[0] > 80))
            table.action_cursor(3)
        await pilot.pause()
        snapshot.check(app)


def player(**state: object) -> Transport:
    line = Transport()
    tracks = (TrackButton("a", "target"), TrackButton("b", "prediction"))
    line.state = TransportState(PlayerState(1.25, duration_s=3.0, **state), tracks, matched=True)  # type: ignore[arg-type]
    return line


PARAMETERS = {
    "cutoff": Parameter(0.5, 0.8),
    "resonance": Parameter(0.25, 0.2),
    "drive": Parameter(0.1, float("nan")),
    "[b]attack": Parameter(0.3, None),
}


def samples(*, grouped: bool) -> SampleList:
    builder = ColumnBuilder()
    for number in range(60):
        line = IndexLine(
            id=f"{number * 2654435761 % 2**40:010x}",
            step=9000,
            metrics={"wer": number * 37 % 60 / 60, "val/loss": 0.25 * (number % 7)},
            text={"target": f"number {number} [red]of sixty"},
            label=RUDIMENTS[number % 5],
            predicted=RUDIMENTS[number % 3],
            tracks={"target": {"rate": 16000, "channels": 1, "start": 0, "frames": 0 if number == 8 else 20000}},
        )
        builder.add([(line, ())])
    found = builder.snapshot()
    rows = sort_rows(found, np.arange(60), "wer")
    ratings = np.where(np.arange(60) % 4 == 0, np.arange(60) % 5 + 1.0, np.nan)
    groups = group_rows(found, rows) if grouped else ()
    return SampleList(found, rows, groups, ("wer", "val/loss"), "wer", True, ratings)


def stack(kind: str) -> TrackStack:
    """Tracks with a playhead."""
    found = TrackStack({"speech": speech_tracks, "drums": drum_tracks, "odd": odd_tracks}[kind]())
    found.position_s = 1.25
    if kind == "drums":
        found.audible, found.loop = 1, (0.5, 1.5)
    return found


@SIZES
async def test_speech(snapshot: Snapshot, size: Extent) -> None:
    await take(snapshot, size, player(playing=True, device="Speakers", rate=48000), stack("speech"))


@SIZES
async def test_drums_in_stereo_that_clip_with_a_loop(snapshot: Snapshot, size: Extent) -> None:
    await take(snapshot, size, player(playing=True, source=1, loop=(0.5, 1.5), underruns=2), stack("drums"))


@SIZES
async def test_silence_and_tracks_with_something_wrong(snapshot: Snapshot, size: Extent) -> None:
    error = "PortAudio is not installed: apt install libportaudio2; e exports a WAV."
    await take(snapshot, size, player(error=error), stack("odd"))


@THEMES
async def test_other_themes(snapshot: Snapshot, theme: Theme) -> None:
    await take(snapshot, (120, 36), player(playing=True), stack("speech"), theme=theme)


@SIZES
async def test_the_list(snapshot: Snapshot, size: Extent) -> None:
    await take(snapshot, size, SampleTable())


@SIZES
async def test_texts_and_classes(snapshot: Snapshot, size: Extent) -> None:
    diff, bars = TextDiff(), ClassBars()
    diff.pair = TextPair(
        "the quick brown fox jumps over the lazy dog and runs away",
        "the quack brown socks jump over a the dog and [b]runs away",
    )
    bars.scores = ClassScores(dict(zip(RUDIMENTS, (0.1, 0.5, 0.25, 0.05, 0.1), strict=True)), "ratamacue", "paradiddle")
    await take(snapshot, size, diff, bars)


@SIZES
async def test_classes_confused_and_parameters(snapshot: Snapshot, size: Extent) -> None:
    matrix = ConfusionMatrix()
    labels = [RUDIMENTS[number % 5] for number in range(200)]
    matrix.confusion = confusion(labels, [RUDIMENTS[number % 5 if number % 7 else number % 3] for number in range(200)])
    await take(snapshot, size, matrix, ParameterTable())


@SIZES
async def test_nothing_there(snapshot: Snapshot, size: Extent) -> None:
    await take(snapshot, size, Transport(), TrackStack(), TextDiff(), ClassBars(), ConfusionMatrix())
