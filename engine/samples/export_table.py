"""The CSV beside exported sound: all that is known about each item, in cells that harm no spreadsheet."""

from __future__ import annotations

import contextlib
import csv
import math
import secrets
from pathlib import Path

from .items import SampleItem
from .notes import SampleNotes


def item_cells(item: SampleItem, notes: SampleNotes | None) -> dict[str, str]:
    """An item's cells by column name, `metric/…`, `text/…` and `probability/…` for what has names of its own."""
    cells = {
        "set": item.set,
        "id": item.id,
        "key": item.key or "",
        "step": "" if item.step is None else str(item.step),
        "epoch": _cell(item.epoch),
        "label": item.label or "",
        "predicted": item.predicted or "",
        "tags": " ".join(item.tags),
        "seconds": _cell(item.seconds),
    }
    cells |= {f"metric/{name}": _cell(value) for name, value in item.metrics.items()}
    cells |= {f"text/{name}": value for name, value in item.text.items()}
    cells |= {f"probability/{name}": _cell(value) for name, value in item.probabilities.items()}
    for name, parameter in item.parameters.items():
        cells[f"target/{name}"], cells[f"predicted/{name}"] = _cell(parameter.target), _cell(parameter.predicted)
    if notes is not None:
        note = notes.of(item)
        cells |= {"rating": "" if note.rating is None else str(note.rating), "note": note.text}
    return cells


def _cell(value: float | None) -> str:
    """A number; one that is NaN says so, since an empty cell is a number that is not there."""
    return "" if value is None else "NaN" if math.isnan(value) else repr(float(value))


def write_table(path: Path, lines: list[dict[str, str]]) -> None:
    """Write one row a line, with the columns of all of them. Raises OSError; a table that is there stays then."""
    columns: dict[str, None] = {}
    for line in lines:
        columns |= dict.fromkeys(line)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "w", newline="", encoding="utf-8", errors="replace") as handle:
            table = csv.writer(handle)
            table.writerow([_harmless(name) for name in columns])
            table.writerows([_harmless(line.get(name, "")) for name in columns] for line in lines)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula and no terminal for a command; line ends stay."""
    clean = "".join(char if char.isprintable() or char in "\n\t" else "·" for char in cell)
    try:
        float(clean)
    except ValueError:
        return f"'{clean}" if clean[:1] in ("=", "+", "-", "@", "\t") else clean
    return clean
