"""An evaluation as texts and rows: headline numbers, breakdowns as bars, classes and mistakes for their tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.style import Style
from rich.text import Text

from ..engine import format as fmt
from ..engine.evaluation import ClassScore, Evaluation, Mistake, Part, doubt_words, judged_words, metric_names
from .class_bars import bar_cells
from .live_table import Column, Row
from .palette import BOLD, Palette

WEAK = 0.5
"""A share below which it is marked."""
BAR_CELLS = 24
LEAST_BAR = 6
GAP = 3
"""Cells between two metrics on one line."""
SORTS = ("family", "recall", "f1", "clips", "name")
"""What classes can be sorted by; the family's order is the file's."""
CLASS_COLUMNS = (
    Column("CLASS", 0, least=16),
    Column("FAMILY", 12, rank=4),
    Column("CLIPS", 6, rank=2, right=True),
    Column("RECALL", 7, right=True),
    Column("PRECISION", 9, rank=3, right=True),
    Column("F1", 6, rank=1, right=True),
)
MISTAKE_COLUMNS = (
    Column("TRUTH", 0, least=9),
    Column("TAKEN FOR", 0, least=9),
    Column("CLIPS", 6, right=True),
    Column("SHARE", 6, rank=1, right=True),
)


def share(value: float | None) -> str:
    """A share in three decimals."""
    return fmt.MISSING if value is None else f"{value:.3f}"


def head_text(evaluation: Evaluation, palette: Palette, width: int, *, whole: bool = True) -> Text:
    """What was judged, each metric with its interval and ceiling; with `whole`, what those two mean."""
    text = Text()
    text.append(judged_words(evaluation, digest=whole), style=palette.muted)
    doubt = doubt_words(evaluation)
    if doubt:
        text.append(f"\n{doubt}", style=palette.warn)
    used = width
    for place, name in enumerate(metric_names(evaluation)):
        metric = _metric_text(evaluation, name, palette, strong=place == 0)
        alone = name in evaluation.intervals or name in evaluation.ceilings
        breaks = alone or used + GAP + metric.cell_len > width
        text.append("\n" if breaks else " " * GAP)
        text.append_text(metric)
        used = metric.cell_len + (0 if breaks else used + GAP)
    for words_of in _explanations(evaluation) if whole else []:
        text.append(f"\n{words_of}", style=palette.muted)
    return text


def _metric_text(evaluation: Evaluation, name: str, palette: Palette, *, strong: bool) -> Text:
    text = Text()
    value, interval, ceiling = evaluation.metrics[name], evaluation.intervals.get(name), evaluation.ceilings.get(name)
    text.append(f"{name.replace('_', ' ')} ", style=palette.muted)
    text.append(share(value), style=palette.accent + BOLD if strong else Style(bold=True))
    if interval is not None:
        level = f" {interval.level:.0%}" if interval.level is not None else ""
        text.append(f"  [{interval.low:.3f}, {interval.high:.3f}]{level}")
    if ceiling is not None:
        text.append(f"  ceiling {ceiling.value:.3f}", style=palette.good)
        if ceiling.value > 0:
            text.append(f", {value / ceiling.value:.0%} of it", style=palette.muted)
    return text


def _explanations(evaluation: Evaluation) -> list[str]:
    methods = [interval.method for interval in evaluation.intervals.values() if interval.method]
    reasons = [ceiling.words for ceiling in evaluation.ceilings.values() if ceiling.words]
    return [
        *(f"intervals: {method}" for method in dict.fromkeys(methods)),
        *(f"ceiling: {reason}" for reason in dict.fromkeys(reasons)),
    ]


def breakdown_text(breakdowns: Mapping[str, Sequence[Part]], palette: Palette, width: int) -> Text:
    """A bar for each part, by what the clips are grouped by; the bar is the balanced accuracy where there is one."""
    text = Text(no_wrap=True, overflow="ellipsis")
    names = [part.name for parts in breakdowns.values() for part in parts]
    left = min(18, max((len(name) for name in names), default=0))
    clips_cells = max((len(_clips(part)) for parts in breakdowns.values() for part in parts), default=0)
    room = width - left - 7
    clips_fit = room - clips_cells >= LEAST_BAR
    room -= clips_cells if clips_fit else 0
    cells = min(BAR_CELLS, max(0, room))
    both_fit = clips_fit and room - cells >= len(", accuracy 0.123")
    for place, (title, parts) in enumerate(breakdowns.items()):
        text.append("\n\n" if place else "")
        text.append(f"by {title}", style=palette.accent + BOLD)
        for part in parts:
            value = part.accuracy if part.balanced_accuracy is None else part.balanced_accuracy
            text.append(f"\n{part.name[:left]:<{left}} ")
            text.append(share(value), style=_strength(value, palette))
            text.append(" ")
            text.append(f"{bar_cells(value or 0.0, cells):<{cells}}", style=palette.primary)
            both = both_fit and part.accuracy is not None and part.balanced_accuracy is not None
            accuracy = f", accuracy {share(part.accuracy)}" if both else ""
            text.append(f"{_clips(part) if clips_fit else ''}{accuracy}", style=palette.muted)
    return text


def _clips(part: Part) -> str:
    return "" if part.clips is None else f" {fmt.count(part.clips)} clips"


def class_rows(classes: Sequence[ClassScore], sort: str, *, falling: bool, palette: Palette) -> list[Row]:
    """Rows of the table of classes; missing numbers come last, whichever way it is sorted."""
    ordered = list(classes)
    if sort == "name":
        ordered.sort(key=lambda score: score.name, reverse=falling)
    elif sort != "family":
        known = [score for score in ordered if getattr(score, sort) is not None]
        known.sort(key=lambda score: getattr(score, sort), reverse=falling)
        ordered = known + [score for score in ordered if getattr(score, sort) is None]
    elif falling:
        ordered.reverse()
    return [_class_row(score, palette) for score in ordered]


def _class_row(score: ClassScore, palette: Palette) -> Row:
    return Row(
        score.name,
        (
            score.name,
            Text(score.family, style=palette.muted),
            fmt.MISSING if score.clips is None else fmt.count(score.clips),
            Text(share(score.recall), style=_strength(score.recall, palette)),
            Text(share(score.precision), style=_strength(score.precision, palette)),
            Text(share(score.f1), style=_strength(score.f1, palette)),
        ),
        f"{score.name} {score.family}",
    )


def mistake_rows(evaluation: Evaluation, palette: Palette) -> list[Row]:
    """The commonest mistakes, with the share of the truth's clips that they are."""
    clips = {score.name: score.clips for score in evaluation.classes}
    return [_mistake_row(mistake, clips.get(mistake.truth), palette) for mistake in evaluation.confusions]


def _mistake_row(mistake: Mistake, clips: int | None, palette: Palette) -> Row:
    part = fmt.percent(mistake.clips / clips) if clips else fmt.MISSING
    cells = (mistake.truth, mistake.answer, fmt.count(mistake.clips), Text(part, style=palette.muted))
    return Row((mistake.truth, mistake.answer), cells, f"{mistake.truth} {mistake.answer}")


def _strength(value: float | None, palette: Palette) -> Style:
    return palette.warn if value is not None and value < WEAK else Style()
