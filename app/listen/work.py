"""What the Listen screen does in threads: reading sound into pictures, reading another run, exporting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...engine.format import count, plain
from ...engine.samples import OpenFile, SampleError, SampleItem, SampleSet, TrackPlace, file_name, sample_sets
from ...engine.samples.export import export_read, export_set, export_track, item_stem
from ...engine.samples.notes import SampleNotes
from ...widgets.time_axis import TimeWindow
from ...widgets.track_view import TrackView
from .export_ask import ExportWish
from .messages import TracksSeen
from .reading import Cancelled, ViewCache, closer_look, difference_view, first_look, look
from .session import Other
from .voices import Difference, Voice


@dataclass(frozen=True, slots=True, eq=False)
class Showing:
    """What is to be read: the voices of one generation, the audible one first, and the difference when it is seen."""

    generation: int
    item: SampleItem | None
    voices: Sequence[Voice]
    heard: int
    difference: Difference | None
    columns: int


def read_showing(
    showing: Showing, cache: ViewCache, cancelled: Callable[[], bool], post: Callable[[TracksSeen], object]
) -> None:
    """Read everything that is shown and post it as it becomes known; ends early when it is of no use any more."""
    voices, difference = list(showing.voices), showing.difference
    views: list[TrackView] = [cache.get(voice.key, voice.note) or first_look(voice) for voice in voices]
    if difference is not None:
        views.append(difference_view(difference))
    wrong = _problem(showing)
    post(TracksSeen(showing.generation, views, wrong))
    order = sorted(range(len(voices)), key=lambda place: place != showing.heard)
    try:
        for place in order:
            voice = voices[place]
            if cache.get(voice.key, voice.note) is not None:
                continue
            for view in look(views[place], voice.read, showing.columns, cancelled):
                views[place] = view
                post(TracksSeen(showing.generation, views, wrong))
            if views[place].problem is None:
                cache.put(voice.key, voice.note, views[place])
        if difference is not None:
            for view in look(views[-1], difference.read, showing.columns, cancelled):
                views[-1] = view
                post(TracksSeen(showing.generation, views, wrong))
    except Cancelled:
        return


def _problem(showing: Showing) -> str:
    """What is wrong with the item, in sentences, or nothing."""
    if showing.item is None or not showing.voices:
        return " ".join(showing.item.problems) if showing.item is not None else ""
    own = next((voice.samples for voice in showing.voices if voice.item is showing.item), None)
    return (own.problem(showing.item) or "") if own is not None else ""


def read_closer(
    views: Sequence[TrackView], reads: Sequence[Callable[[int, int], object]], window: TimeWindow, columns: int
) -> list[TrackView]:
    """The visible part of each track in detail."""
    return [
        closer_look(view, read, window, columns)  # type: ignore[arg-type]
        for view, read in zip(views, reads, strict=True)
    ]


def open_other(run_dir: Path, set_name: str, name: str, open_file: OpenFile | None = None) -> Other:
    """Another run's samples: the set of the same name, else its first.

    Raises
    ------
    SampleError: it has none, or they cannot be read.
    """
    sets = sample_sets(run_dir)
    if not sets:
        raise SampleError(f"{name} has no samples to compare with.")
    return Other(SampleSet(run_dir, set_name if set_name in sets else sets[0], open_file).load(), name)


def export(
    wish: ExportWish,
    samples: SampleSet,
    voice: Voice | Difference | None,
    loop: tuple[float, float] | None,
    rows: Sequence[int],
    notes: SampleNotes,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> str:
    """Write what is wished for; what was written, as a sentence.

    Raises
    ------
    SampleError: nothing could be written, or `cancelled()` became true.
    """
    if wish.what in ("item", "files", "set"):
        only_files = wish.what == "files"
        report = export_set(
            samples, rows, wish.folder, kind=wish.kind, notes=notes, progress=progress, cancelled=cancelled,
            tracks=() if only_files else None, attachments=only_files,
        )  # fmt: skip
        wrong = f" {len(report.problems)} problems, the first: {report.problems[0]}" if report.problems else ""
        written = len(report.files) + len(report.attachments)
        files = "1 file" if written == 1 else f"{count(written)} files"
        return plain(f"{files} and {report.table.name} in {wish.folder}.{wrong}", 600)
    if voice is None:
        raise SampleError("There is no track to export: hear one first.")
    try:
        wish.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SampleError(f"{wish.folder} cannot be made ({error.strerror}).") from error
    return _export_sound(wish, voice, loop, cancelled)


def _export_sound(
    wish: ExportWish, voice: Voice | Difference, loop: tuple[float, float] | None, cancelled: Callable[[], bool]
) -> str:
    """One track or one difference, or the looped region of it."""
    rate = voice.rate if isinstance(voice, Difference) else voice.place.rate
    stem = f"{item_stem(voice.item)}-{_name(voice)}"
    start, frames = 0, None
    if wish.what == "region" and loop is not None:
        start, frames = round(loop[0] * rate), max(1, round((loop[1] - loop[0]) * rate))
        stem += f"-{loop[0]:.3f}-{loop[1]:.3f}s"
    path = wish.folder / f"{stem}.{wish.kind}"
    if isinstance(voice, Difference):
        layout = TrackPlace(voice.rate, voice.channels, 0, voice.frames)
        done = export_read(voice.read, voice.title, layout, path, start=start, frames=frames, cancelled=cancelled)
    else:
        done = export_track(
            voice.samples, voice.item, voice.track, path, start=start, frames=frames, cancelled=cancelled
        )
    lost = [f"{done.clipped:,} samples were clipped" if done.clipped else ""]
    lost += [f"{done.silenced:,} NaN or infinite samples became silence" if done.silenced else ""]
    return plain(f"{done.path}: {done.frames:,} frames{''.join(f', {word}' for word in lost if word)}.", 600)


def _name(voice: Voice | Difference) -> str:
    """`prediction`, `prediction-minus-target`."""
    if isinstance(voice, Voice):
        return file_name(voice.track)
    first, second = voice.pair
    return f"{file_name(second.title)}-minus-{file_name(first.title)}"
