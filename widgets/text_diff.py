"""`TextDiff`: reference above hypothesis, word by word, differences marked by signs as well as colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.reactive import reactive
from textual.widget import Widget

from ..engine import format as fmt
from ..engine.samples.alignment import Op, align_characters, align_words
from .palette import BOLD, Palette

SIGNS = {"equal": "", "substitute": "~", "delete": "-", "insert": "+"}
ROLES = {"substitute": "warn", "delete": "bad", "insert": "good"}
GAP = "·"
MOST_OPS = 4000
WORD_CELLS = 40


@dataclass(frozen=True, slots=True)
class TextPair:
    """Two texts to compare, untrusted. `names`: what to call them."""

    reference: str
    hypothesis: str
    names: tuple[str, str] = ("target", "predicted")


class TextDiff(VerticalScroll):
    """Compares `pair`; None shows `words` (loading, failed, nothing to compare)."""

    DEFAULT_CSS = """
    TextDiff { height: 1fr; background: $surface; scrollbar-size-vertical: 1; }
    TextDiff > DiffLines { height: auto; padding: 0 1; }
    """

    pair: reactive[TextPair | None] = reactive[TextPair | None](None)
    words: reactive[str] = reactive("no text in this item")

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines = DiffLines()

    def compose(self) -> ComposeResult:
        """One tall widget in a scrolled one."""
        yield self._lines

    def watch_pair(self, pair: TextPair | None) -> None:
        """Align once; drawing only wraps."""
        self._lines.compare(pair, self.words)
        if self.is_attached:
            self.scroll_home(animate=False)

    def watch_words(self, words: str) -> None:
        """Something else to say in place of texts."""
        self._lines.compare(self.pair, words)


class DiffLines(Widget):
    """The lines: the rates, then pairs of reference and hypothesis."""

    def __init__(self) -> None:
        super().__init__()
        self._ops: tuple[Op, ...] = ()
        self._summary: list[str] = []
        self._perfect = False
        self._pair: TextPair | None = None
        self._words = ""

    def compare(self, pair: TextPair | None, words: str) -> None:
        """Take other texts."""
        if pair is not None and pair != self._pair:
            aligned = align_words(fmt.plain(pair.reference, 200_000), fmt.plain(pair.hypothesis, 200_000))
            letters = align_characters(pair.reference, pair.hypothesis)
            self._ops = aligned.ops
            self._perfect = not aligned.errors
            rates = f"WER {rate_words(aligned.rate)}  CER {rate_words(letters.rate)}"
            counts = f"~{aligned.substitutions} changed  -{aligned.deletions} missing  +{aligned.insertions} added"
            total = f"of {fmt.count(aligned.length)} words{'  (only the beginning)' if aligned.cut else ''}"
            self._summary = [f"{rates}  {counts}  {total}", f"{rates}  {counts}", rates]
        self._pair, self._words = pair, words
        self.refresh(layout=True)

    def notify_style_update(self) -> None:
        """Colours changed with the theme."""
        super().notify_style_update()
        self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Lines for a width: the layout asks before there is one."""
        return self._text(width).plain.count("\n") + 1

    def render(self) -> Text:
        """Everything, wrapped to the width."""
        return self._text(self.content_size.width)

    def _text(self, width: int) -> Text:
        """No line is longer than `width`."""
        palette, width = Palette.of(self.app), max(1, width)
        if self._pair is None:
            return _fitted([fmt.plain(self._words)], width, palette.muted)
        text = _fitted(self._summary, width, palette.good if self._perfect else palette.text)
        names = [fmt.plain(name, 12) for name in self._pair.names]
        left = max(map(cell_len, names)) + 2 if width >= 30 else 0
        room = max(1, width - left)
        for block in blocks(self._ops[:MOST_OPS], room):
            text.append("\n")
            for line, name in enumerate(names):
                text.append("\n")
                if left:
                    text.append(set_cell_size(name, left), palette.muted)
                _append_row(text, block, line, room, palette)
        if len(self._ops) > MOST_OPS:
            text.append(f"\n\n… {fmt.count(len(self._ops) - MOST_OPS)} more words", palette.muted)
        if not self._ops:
            text.append("\n\nboth texts are empty", palette.muted)
        return text


def _fitted(versions: Sequence[str], width: int, style: Style) -> Text:
    """The longest of some versions that fits, or the shortest one cut."""
    text = Text(next((words for words in versions if cell_len(words) <= width), versions[-1]), style)
    text.truncate(width, overflow="ellipsis")
    return text


def rate_words(rate: float) -> str:
    """`12.5%`; an error rate over an empty reference has no number."""
    return "no reference" if math.isinf(rate) else f"{100 * rate:.1f}%"


def sides(op: Op, room: int = WORD_CELLS) -> tuple[str, str]:
    """What stands in the two rows for one step, signs included; dots where a side has nothing."""
    sign = SIGNS[op.kind]
    limit = max(1, min(WORD_CELLS, room - 1))
    above, below = (_cut(fmt.plain(word, limit), limit) for word in (op.reference, op.hypothesis))
    if op.kind == "insert":
        return GAP * (cell_len(below) + 1), sign + below
    if op.kind == "delete":
        return sign + above, GAP * (cell_len(above) + 1)
    return sign + above, sign + below


def _cut(word: str, cells: int) -> str:
    """Wide characters take two cells; what is too long is cut."""
    return word if cell_len(word) <= cells else set_cell_size(word, cells).rstrip()


def blocks(ops: Sequence[Op], width: int) -> list[list[Op]]:
    """Steps that fit side by side into `width` cells, one blank between."""
    found: list[list[Op]] = []
    used = 0
    for op in ops:
        cells = max(map(cell_len, sides(op, width)))
        if not found or used + 1 + cells > width:
            found.append([])
            used = -1
        found[-1].append(op)
        used += 1 + cells
    return found


def _append_row(text: Text, block: Sequence[Op], line: int, room: int, palette: Palette) -> None:
    """One of the two rows of a block, each word as wide as the wider of its two sides."""
    for place, op in enumerate(block):
        both = sides(op, room)
        word = both[line]
        role = ROLES.get(op.kind)
        style = palette.text if role is None else getattr(palette, role) + BOLD
        if word.startswith(GAP) and role is not None:
            style = palette.muted
        text.append(" " if place else "")
        text.append(word, style)
        text.append(" " * (max(map(cell_len, both)) - cell_len(word)))
