"""`TextDiff`: reference above hypothesis, word by word, differences marked by signs as well as colours.

Aligning takes time that grows with the square of the length, so that long texts are aligned in a thread, and only once
they are on screen.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.style import Style
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from ..engine import format as fmt
from ..engine.samples.alignment import Alignment, Op, align_characters, align_words
from .palette import BOLD, Palette

SIGNS = {"equal": "", "substitute": "~", "delete": "-", "insert": "+"}
ROLES = {"substitute": "warn", "delete": "bad", "insert": "good"}
GAP = "·"
MOST_OPS = 4000
WORD_CELLS = 40
MOST_LETTERS = 5000
"""Longer texts are not compared letter by letter: 20,000 letters take seconds."""
QUICK_LETTERS = 500
"""Texts up to this are aligned in a few milliseconds, at once and wherever they are."""


@dataclass(frozen=True, slots=True)
class TextPair:
    """Two texts to compare, untrusted. `names`: what to call them.

    `beside`: name and text of what somebody else said, which is written below as it is.
    """

    reference: str
    hypothesis: str
    names: tuple[str, str] = ("target", "predicted")
    beside: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """A pair with its alignments; `letters` is None for texts that are too long for it."""

    pair: TextPair
    words: Alignment
    letters: Alignment | None

    @property
    def summary(self) -> list[str]:
        """Rates and counts, in versions ever shorter."""
        words = self.words
        cer = rate_words(self.letters.rate) if self.letters is not None else f"not beyond {MOST_LETTERS:,} letters"
        rates = f"WER {rate_words(words.rate)}  CER {cer}"
        counts = f"~{words.substitutions} changed  -{words.deletions} missing  +{words.insertions} added"
        total = f"of {fmt.count(words.length)} words{'  (only the beginning)' if words.cut else ''}"
        return [f"{rates}  {counts}  {total}", f"{rates}  {counts}", rates]


def compared(pair: TextPair) -> Compared:
    """Align two texts; for long ones this takes seconds."""
    words = align_words(fmt.plain(pair.reference, 200_000), fmt.plain(pair.hypothesis, 200_000))
    short = max(len(pair.reference), len(pair.hypothesis)) <= MOST_LETTERS
    return Compared(pair, words, align_characters(pair.reference, pair.hypothesis) if short else None)


class TextDiff(VerticalScroll):
    """Compares `pair`; None shows `words` (loading, failed, nothing to compare)."""

    DEFAULT_CSS = """
    TextDiff { height: 1fr; background: $surface; scrollbar-size-vertical: 1; }
    TextDiff > DiffLines { height: auto; padding: 0 1; }
    """

    pair: reactive[TextPair | None] = reactive[TextPair | None](None)
    words: reactive[str] = reactive("no text in this item")

    class Aligned(Message):
        """A thread is done; `compared` is None where it failed."""

        def __init__(self, compared: Compared | None) -> None:
            super().__init__()
            self.compared = compared

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines = DiffLines()
        self._on_screen = False
        self._aligning = False

    def compose(self) -> ComposeResult:
        """One tall widget in a scrolled one."""
        yield self._lines

    def on_show(self) -> None:
        """Texts that came while this was hidden are aligned now."""
        self._on_screen = True
        self._begin()

    def on_hide(self) -> None:
        """What comes now can wait."""
        self._on_screen = False

    def watch_pair(self, pair: TextPair | None) -> None:
        """Align once; drawing only wraps."""
        known = self._lines.compared
        if pair is None or known is None or known.pair != pair:
            self._lines.show(None, self.words if pair is None else "aligning…")
            self._begin()
        if self.is_attached:
            self.scroll_home(animate=False)

    def watch_words(self, words: str) -> None:
        """Something else to say in place of texts."""
        if self.pair is None:
            self._lines.show(None, words)

    def _begin(self) -> None:
        """Align what is on screen and not aligned yet; one thread at a time, however fast other pairs come."""
        pair, known = self.pair, self._lines.compared
        if pair is None or (known is not None and known.pair == pair):
            return
        if max(len(pair.reference), len(pair.hypothesis)) <= QUICK_LETTERS:
            self._lines.show(compared(pair))
        elif self._on_screen and not self._aligning:
            self._aligning = True
            # A daemon: Textual's threads are an executor's, which the end of the program would wait for.
            threading.Thread(target=self._align, args=(pair,), name="comparing the texts", daemon=True).start()

    def _align(self, pair: TextPair) -> None:
        found = None
        try:
            found = compared(pair)
        finally:
            self.post_message(self.Aligned(found))

    @on(Aligned)
    def _aligned(self, message: Aligned) -> None:
        message.stop()
        self._aligning, found = False, message.compared
        if found is not None and found.pair == self.pair:
            self._lines.show(found)
        elif found is not None:
            self._begin()
        else:
            self._lines.show(None, "these texts could not be compared")


class DiffLines(Widget):
    """The lines: the rates, then pairs of reference and hypothesis."""

    def __init__(self) -> None:
        super().__init__()
        self.compared: Compared | None = None
        self._words = ""

    def show(self, compared: Compared | None, words: str = "") -> None:
        """Take other texts, or words in place of them."""
        self.compared, self._words = compared, words
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
        if self.compared is None:
            return _fitted([fmt.plain(self._words)], width, palette.muted)
        ops = self.compared.words.ops
        text = _fitted(self.compared.summary, width, palette.text if self.compared.words.errors else palette.good)
        names = [fmt.plain(name, 12) for name in self.compared.pair.names]
        left = max(map(cell_len, names)) + 2 if width >= 30 else 0
        room = max(1, width - left)
        for block in blocks(ops[:MOST_OPS], room):
            text.append("\n")
            for line, name in enumerate(names):
                text.append("\n")
                if left:
                    text.append(set_cell_size(name, left), palette.muted)
                _append_row(text, block, line, room, palette)
        if len(ops) > MOST_OPS:
            text.append(f"\n\n… {fmt.count(len(ops) - MOST_OPS)} more words", palette.muted)
        if not ops:
            text.append("\n\nboth texts are empty", palette.muted)
        if self.compared.pair.beside is not None:
            name, said = self.compared.pair.beside
            words = f"{fmt.plain(name, 24)}: {fmt.plain(said, 4000)}"
            lines = Text(words, palette.text).wrap(self.app.console, width)
            for row in lines:
                row.rstrip()
                text.append("\n")
                text.append_text(row)
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
