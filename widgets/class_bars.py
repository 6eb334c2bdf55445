"""`ClassBars`: the probabilities of an item's classes, largest first; the target is always among them and marked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from ..engine import format as fmt
from .palette import BOLD, Palette

EIGHTHS = " ▏▎▍▌▋▊▉█"
LEAST_BAR = 4
NAME_CELLS = 24


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Probabilities in 0…1 by class (untrusted names and numbers), the right class and the chosen one."""

    probabilities: Mapping[str, float] = field(default_factory=dict)
    target: str | None = None
    predicted: str | None = None


class ClassBars(Widget):
    """One line a class: `►` target, `●` predicted, name, percent, bar.

    Reactives
    ---------
    scores: what to show; None shows `words`.
    """

    DEFAULT_CSS = "ClassBars { height: 1fr; background: $surface; padding: 0 1; }"

    scores: reactive[ClassScores | None] = reactive[ClassScores | None](None)
    words: reactive[str] = reactive("no class probabilities in this item")

    def notify_style_update(self) -> None:
        """Colours changed with the theme."""
        super().notify_style_update()
        self.refresh()

    def render(self) -> Text:
        """As many lines as fit."""
        palette, (width, height) = Palette.of(self.app), self.content_size
        scores = self.scores
        if scores is None or not (scores.probabilities or scores.target or scores.predicted):
            return Text(fmt.plain(self.words), palette.muted)
        lines = chosen_classes(scores, max(1, height))
        names = min(max(cell_len(fmt.plain(name, NAME_CELLS)) for name, _ in lines), NAME_CELLS, max(1, width - 10))
        bar = width - names - 11
        text = Text(no_wrap=True, overflow="ellipsis")
        for place, (name, value) in enumerate(lines):
            text.append("\n" if place else "")
            _append_line(text, scores, name, value, names, bar, palette)
        return text


def chosen_classes(scores: ClassScores, count: int) -> list[tuple[str, float]]:
    """The `count` most probable classes, NaN last; target and prediction take the last places if need be."""
    ranked = sorted(scores.probabilities.items(), key=lambda pair: -pair[1] if math.isfinite(pair[1]) else math.inf)
    known = dict(ranked)
    marked = [name for name in dict.fromkeys((scores.target, scores.predicted)) if name is not None]
    ranked += [(name, math.nan) for name in marked if name not in known]
    kept = ranked[:count]
    missing = [pair for pair in ranked[count:] if pair[0] in marked]
    return kept[: max(0, count - len(missing))] + missing[:count]


def _append_line(
    text: Text, scores: ClassScores, name: str, value: float, names: int, bar: int, palette: Palette
) -> None:
    target, predicted = name == scores.target, name == scores.predicted
    style = palette.good if target else palette.bad if predicted and scores.target is not None else palette.text
    strong = style + BOLD if target or predicted else style
    text.append("►" if target else " ", palette.good + BOLD)
    text.append("● " if predicted else "  ", strong)
    text.append(set_cell_size(fmt.plain(name, NAME_CELLS), names), strong)
    known = math.isfinite(value)
    text.append(f" {100 * value:5.1f}% " if known and abs(value) < 10 else f" {fmt.MISSING:>5}  ", strong)
    if bar >= LEAST_BAR and known:
        text.append(bar_cells(value, bar), style if target or predicted else palette.primary)


def bar_cells(part: float, cells: int) -> str:
    """A bar for 0…1, exact to an eighth of a cell."""
    eighths = round(min(max(part, 0.0), 1.0) * cells * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (EIGHTHS[rest] if rest else "")
