"""How texts, labels and guesses differ: alignment by word or character, confusion counts, odds of a blind test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["equal", "substitute", "delete", "insert"]
IntArray = npt.NDArray[np.int64]

MOST_TOKENS = 20_000
"""Longer texts are cut: a transcript of two hours has about this many words."""
ERROR, SUBSTITUTION = 1 << 20, (1 << 20) + 1
"""Costs: the fewest errors first, then the fewest substitutions, which is the most equal tokens."""
MATRIX_CELLS = 1 << 20
"""Above this the alignment is divided (Hirschberg), so that memory grows with the length only."""


@dataclass(frozen=True, slots=True)
class Op:
    """One step from reference to hypothesis; `reference` is empty for insertions, `hypothesis` for deletions."""

    kind: Kind
    reference: str
    hypothesis: str


@dataclass(frozen=True, slots=True)
class Alignment:
    """A way from reference to hypothesis with the fewest errors (Levenshtein), and of these with the most equals."""

    ops: tuple[Op, ...]
    substitutions: int
    deletions: int
    insertions: int
    length: int
    """Tokens of the reference."""
    cut: bool = False
    """One of the texts was longer than `MOST_TOKENS` and its rest was left out."""

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per token of the reference: WER for words, CER for characters. Infinite for an empty reference."""
        if self.length:
            return self.errors / self.length
        return math.inf if self.errors else 0.0


def align_words(reference: str, hypothesis: str) -> Alignment:
    """Alignment of words, which are what blanks separate; case and punctuation count."""
    return align(reference.split(), hypothesis.split())


def align_characters(reference: str, hypothesis: str) -> Alignment:
    """Alignment of characters; a run of white space is one blank."""
    return align(" ".join(reference.split()), " ".join(hypothesis.split()))


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> Alignment:
    """Alignment of tokens."""
    cut = max(len(reference), len(hypothesis)) > MOST_TOKENS
    left, right = list(reference[:MOST_TOKENS]), list(hypothesis[:MOST_TOKENS])
    numbers: dict[str, int] = {}
    a, b = (np.array([numbers.setdefault(token, len(numbers)) for token in side], np.int64) for side in (left, right))
    steps: list[tuple[int, int]] = []
    _steps(a, b, 0, 0, steps)
    ops = tuple(_op(left, right, *step) for step in steps)
    kinds = [op.kind for op in ops]
    return Alignment(ops, kinds.count("substitute"), kinds.count("delete"), kinds.count("insert"), len(left), cut)


def _op(left: list[str], right: list[str], i: int, j: int) -> Op:
    if j < 0:
        return Op("delete", left[i], "")
    if i < 0:
        return Op("insert", "", right[j])
    return Op("equal" if left[i] == right[j] else "substitute", left[i], right[j])


def _steps(a: IntArray, b: IntArray, i: int, j: int, steps: list[tuple[int, int]]) -> None:
    """Append the index pairs of an alignment, with -1 where a side has no token; `i`, `j` are where a and b begin."""
    shorter = min(len(a), len(b))
    same = a[:shorter] == b[:shorter]
    head = shorter if same.all() else int(np.argmin(same))
    steps.extend((i + k, j + k) for k in range(head))
    a, b, i, j = a[head:], b[head:], i + head, j + head
    if not len(a) or not len(b):
        steps.extend((i + k, -1) for k in range(len(a)))
        steps.extend((-1, j + k) for k in range(len(b)))
    elif (len(a) + 1) * (len(b) + 1) <= MATRIX_CELLS or len(a) == 1:
        steps.extend((x + i if x >= 0 else -1, y + j if y >= 0 else -1) for x, y in _traced(a, b))
    else:
        middle = len(a) // 2
        above = _last_row(a[:middle], b)
        below = _last_row(a[middle:][::-1], b[::-1])[::-1]
        split = int(np.argmin(above + below))
        _steps(a[:middle], b[:split], i, j, steps)
        _steps(a[middle:], b[split:], i + middle, j + split, steps)


def _next_row(row: IntArray, token: int, b: IntArray, places: IntArray) -> IntArray:
    """The row of costs after one more token of a. Insertions run along the row: a running minimum of d[j] - j."""
    best = np.empty_like(row)
    best[0] = row[0] + ERROR
    np.minimum(row[1:] + ERROR, row[:-1] + np.where(b != token, SUBSTITUTION, 0), out=best[1:])
    return np.minimum.accumulate(best - places) + places


def _last_row(a: IntArray, b: IntArray) -> IntArray:
    places = ERROR * np.arange(len(b) + 1)
    row = places.copy()
    for token in a:
        row = _next_row(row, token, b, places)
    return row


def _traced(a: IntArray, b: IntArray) -> list[tuple[int, int]]:
    """The whole matrix of costs, walked back from its end."""
    places = ERROR * np.arange(len(b) + 1)
    rows = [places.copy()]
    for token in a:
        rows.append(_next_row(rows[-1], token, b, places))
    steps: list[tuple[int, int]] = []
    i, j = len(a), len(b)
    while i or j:
        if i and j and rows[i][j] == rows[i - 1][j - 1] + (SUBSTITUTION if a[i - 1] != b[j - 1] else 0):
            i, j = i - 1, j - 1
            steps.append((i, j))
        elif i and rows[i][j] == rows[i - 1][j] + ERROR:
            i -= 1
            steps.append((i, -1))
        else:
            j -= 1
            steps.append((-1, j))
    return steps[::-1]


def guessing_p(correct: int, trials: int) -> float:
    """The chance to get at least `correct` of `trials` blind A/B/X answers right by guessing; 1 before the first."""
    if not 0 <= correct <= trials:
        raise ValueError(f"{correct} of {trials} answers cannot be right")
    return sum(math.comb(trials, k) for k in range(correct, trials + 1)) / 2**trials


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """Counts of labels against predictions.

    Parameters
    ----------
    classes: in order; those of `order` first, others by name.
    counts: shape (C, C), row is the label, column the prediction.
    rows, columns: class index of each item, -1 where it has no label or no prediction.
    """

    classes: tuple[str, ...]
    counts: IntArray
    rows: IntArray
    columns: IntArray

    @property
    def accuracy(self) -> float:
        """Share of items on the diagonal; NaN without items."""
        total = int(self.counts.sum())
        return float(np.trace(self.counts)) / total if total else math.nan

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """Share of each label that was predicted, shape (C,); NaN where a label does not occur."""
        return _share(np.diag(self.counts), self.counts.sum(axis=1))

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """Share of each prediction that was right, shape (C,); NaN where a class is never predicted."""
        return _share(np.diag(self.counts), self.counts.sum(axis=0))

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the labels that occur; NaN without items."""
        known = self.recall[~np.isnan(self.recall)]
        return float(known.mean()) if len(known) else math.nan

    def items(self, row: int, column: int) -> IntArray:
        """Indices of the items of a cell."""
        return np.flatnonzero((self.rows == row) & (self.columns == column))


def confusion(labels: Sequence[str | None], predicted: Sequence[str | None], order: Sequence[str] = ()) -> Confusion:
    """Count items by label and prediction; an item that lacks either is not counted."""
    first = list(dict.fromkeys(order))
    others = {name for name in (*labels, *predicted) if name is not None} - set(first)
    classes = (*first, *sorted(others))
    number: dict[Any, int] = {name: index for index, name in enumerate(classes)}
    rows = np.array([number.get(name, -1) for name in labels], np.int64)
    columns = np.array([number.get(name, -1) for name in predicted], np.int64)
    if rows.shape != columns.shape:
        raise ValueError(f"{len(rows)} labels and {len(columns)} predictions do not belong together")
    both = (rows >= 0) & (columns >= 0)
    size = len(classes)
    counts = np.bincount(rows[both] * size + columns[both], minlength=size * size).reshape(size, size)
    return Confusion(classes, counts.astype(np.int64), rows, columns)


def _share(part: IntArray, whole: IntArray) -> npt.NDArray[np.float64]:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
