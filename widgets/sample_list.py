"""What the list of samples shows, as a value, and its columns and cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len
from rich.text import Text

from ..engine import format as fmt
from ..engine.samples import NO_STEP, SampleColumns
from ..engine.samples.order import Group
from .cell_grid import one_cell
from .live_table import Column
from .palette import BOLD, Palette

Ints = npt.NDArray[np.int64]
ID_CELLS, KEY_CELLS, LABEL_CELLS, METRIC_CELLS = 8, 16, 20, 9
LOOKED_AT = 2000
"""So many rows tell whether the list has labels and texts."""
NOTED = "✎"
BEST = 5
RISING, FALLING = "▲", "▼"


@dataclass(frozen=True, slots=True, eq=False)
class SampleList:
    """What the table shows; replaced as a whole.

    Parameters
    ----------
    columns: the set. rows: numbers into them, filtered and sorted.
    groups: the same rows under headers, or empty.
    metrics: which metrics get a column, in order.
    sort, descending: which column the rows are sorted by, for the arrow in the header.
    ratings: by row, 1…5 or NaN. faults: rows known to be broken beyond what their index line says.
    text_of: the beginning of a row's text as it was written; without it the searchable text is shown.
    steps: whether items of several steps are listed, so that a row says its step.
    noted: the notes by row, or nothing. grouped: what the groups are groups of: `label`, `predicted` or `tag`.
    """

    columns: SampleColumns = field(default_factory=SampleColumns)
    rows: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    groups: Sequence[Group] = ()
    metrics: tuple[str, ...] = ()
    sort: str = ""
    descending: bool = True
    ratings: npt.NDArray[np.float64] | None = None
    faults: frozenset[int] = frozenset()
    text_of: Callable[[int], str] | None = None
    steps: bool = False
    noted: Sequence[str] = ()
    grouped: str = "label"


def columns_of(samples: SampleList) -> tuple[tuple[str, ...], tuple[Column, ...]]:
    """Sort keys and columns; what the listed items do not have gets no column.

    Where it is narrow the metric that is sorted by stays, and what tells the items from each other: the classes where
    every item has one, else the text or the id.
    """
    columns = samples.columns
    rows = _some(samples)
    labelled = float((columns.label_codes[rows] >= 0).mean()) if len(rows) else 0.0
    told = float(np.mean([bool(columns.texts[row]) for row in rows.tolist()])) if len(rows) else 0.0
    classes, text, id = (1, 3, 4) if labelled == 1 else (4, 1, 2) if told == 1 else (3, 5, 1)
    longest = max((cell_len(fmt.plain(name, LABEL_CELLS)) for name in columns.classes), default=0)
    label = max(9, longest)
    longest = max((cell_len(fmt.plain(columns.keys[row], KEY_CELLS)) for row in rows.tolist()), default=0)
    called = Column("KEY", max(ID_CELLS, longest), rank=id) if longest else Column("ID", ID_CELLS, rank=id)
    found: list[tuple[str, Column]] = [("", Column("", 1)), ("id", called)]
    if samples.steps:
        found.append(("step", Column("STEP", 7, rank=6, right=True)))
    if labelled:
        found.append(("label", Column("TARGET", label, rank=classes)))
    if len(rows) and (columns.predicted_codes[rows] >= 0).any():
        found.append(("predicted", Column("PREDICTED", label + 2, rank=classes + (labelled == 1))))
    for place, name in enumerate(samples.metrics):
        title = one_cell(fmt.plain(name).rsplit("/", 1)[-1].upper(), 12)
        rank = 0 if name == samples.sort else 10 + place
        found.append((name, Column(title, max(METRIC_CELLS, len(title) + 1), rank=rank, right=True)))
    found.append(("seconds", Column("LENGTH", 8, rank=0 if samples.sort == "seconds" else 400, right=True)))
    if samples.ratings is not None:
        found.append(("rating", Column("RATING", BEST + 1, rank=0 if samples.sort == "rating" else 8)))
    if told or not len(rows):
        found.append(("", Column("TEXT", 0, rank=text, least=12 if labelled == 1 else 18)))
    keys = tuple(key for key, _ in found)
    arrow = FALLING if samples.descending else RISING
    shown = [_with_arrow(column, arrow) if key and key == samples.sort else column for key, column in found]
    return keys, tuple(shown)


def _some(samples: SampleList) -> Ints:
    """Enough of the listed rows, from all over the list; of all rows where none is listed."""
    rows = np.asarray(samples.rows, np.int64) if len(samples.rows) else np.arange(len(samples.columns))
    rows = rows[:: max(1, -(-len(rows) // LOOKED_AT))]
    return rows[rows < len(samples.columns)]


def _with_arrow(column: Column, arrow: str) -> Column:
    title = f"{column.title[: max(1, column.width - 1)]}{arrow}"
    return Column(title, column.width, column.rank, column.right, column.least)


def cells_of(samples: SampleList, row: int, keys: Sequence[str], palette: Palette) -> tuple[Text | str, ...]:
    """The cells of a row, one for each column."""
    columns = samples.columns
    cells: list[Text | str] = []
    for place, key in enumerate(keys):
        if place == 0:
            broken = bool(columns.broken[row]) or row in samples.faults
            noted = row < len(samples.noted) and samples.noted[row]
            cells.append(Text("!", palette.bad + BOLD) if broken else Text(NOTED, palette.accent) if noted else "")
        elif key == "id":
            key_or_id = fmt.plain(columns.keys[row], KEY_CELLS) or fmt.plain(columns.ids[row])[:ID_CELLS]
            cells.append(Text(key_or_id, palette.muted))
        elif key == "step":
            step = int(columns.steps[row])
            cells.append(fmt.MISSING if step == NO_STEP else str(step))
        elif key in ("label", "predicted"):
            cells.append(_class_cell(columns, row, key, palette))
        elif key == "seconds":
            cells.append(Text(_seconds(float(columns.seconds[row])), palette.muted))
        elif key == "rating":
            cells.append(_stars(samples.ratings, row, palette))
        elif key:
            cells.append(_metric(samples, row, key, palette))
        else:
            text = samples.text_of(row) if samples.text_of is not None else columns.texts[row]
            cells.append(Text(fmt.plain(text, 200), palette.muted))
    return tuple(cells)


def _class_cell(columns: SampleColumns, row: int, key: str, palette: Palette) -> Text:
    """The target's or the predicted class; a wrong prediction has a sign as well as a colour."""
    target, predicted = int(columns.label_codes[row]), int(columns.predicted_codes[row])
    code = target if key == "label" else predicted
    if code < 0:
        return Text(fmt.MISSING, palette.muted)
    name = fmt.plain(columns.classes[code], LABEL_CELLS)
    if key == "label" or target < 0:
        return Text(name, palette.text)
    return Text(f"✓ {name}", palette.good) if target == predicted else Text(f"✗ {name}", palette.bad)


def _metric(samples: SampleList, row: int, key: str, palette: Palette) -> Text:
    """The number; NaN is one, and not the same as none."""
    values = samples.columns.metrics.get(key)
    if values is None or (np.isnan(values[row]) and not _is_nan(samples.columns, row, key)):
        return Text(fmt.MISSING, palette.muted)
    value = float(values[row])
    return Text(fmt.number(value), palette.text if np.isfinite(value) else palette.bad)


def _is_nan(columns: SampleColumns, row: int, key: str) -> bool:
    rows = columns.nan_rows.get(key, ())
    place = int(np.searchsorted(rows, row))
    return place < len(rows) and int(rows[place]) == row


def _stars(ratings: npt.NDArray[np.float64] | None, row: int, palette: Palette) -> Text:
    if ratings is None or row >= len(ratings) or np.isnan(ratings[row]):
        return Text("")
    count = int(min(max(ratings[row], 0), BEST))
    return Text("★" * count + "☆" * (BEST - count), palette.accent)


def _seconds(value: float) -> str:
    if np.isnan(value):
        return fmt.MISSING
    return f"{value:.2f}s" if value < 60 else fmt.duration(value)
