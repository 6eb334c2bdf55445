"""Tables of losses that a program prints row by row: Markdown, CSV, box-drawn, or aligned with blanks.

A header row starts one: a counter column (epoch, step) and at least one more, all of them names. Rows must follow with
exactly as many cells, every cell a number, a time or a dash; anything else is not a row. Nothing is emitted for a
header alone, so a sentence that looks like one does no harm.
"""

from __future__ import annotations

import re
from typing import Dict, List, Optional

from .console_rows import Found
from .console_text import EPOCH_NAMES, STEP_NAMES, Number, judge, key_name, parse_value

_NAME = re.compile(r"[A-Za-z_#][\w ./@%()+-]{0,40}$")
_RULE = re.compile(r"[\s|+:=\-─━═┼╋╇╈│┃├┤┡┩╞╡╪┌┐└┘┏┓┗┛┳┻┴┬]+$")
_CLOCK = re.compile(r"\d{1,3}:\d\d(?::\d\d)?(?:\.\d+)?$")
_BOX = str.maketrans("│┃║", "|||")
_EMPTY = frozenset(("", "-", "–", "—", "n/a", "N/A", "None", "null"))
PATIENCE = {"|": 24, ",": 24, " ": 3}
"""How many lines that are no rows may stand between two rows, by what separates the cells."""


def _cells(text: str, separator: str) -> List[str]:
    if separator == "|":
        parts = text.translate(_BOX).strip()
        return [cell.strip() for cell in parts.strip("|").split("|")]
    if separator == ",":
        return [cell.strip().strip('"') for cell in text.split(",")]
    wide = re.split(r"\s{2,}|\t", text.strip())
    return wide if len(wide) > 1 and _looks_like_header(wide) else text.split()


def _looks_like_header(cells: List[str]) -> bool:
    if not 2 <= len(cells) <= 64 or not all(_NAME.match(cell) for cell in cells):
        return False
    names = [key_name(cell).lower() for cell in cells]
    counters = sum(name in STEP_NAMES or name in EPOCH_NAMES for name in names)
    return counters >= 1 and len(set(names)) == len(names) and counters < len(names)


class Table:
    """A header that has been seen, and the rows that follow it."""

    def __init__(self, names: List[str], separator: str) -> None:
        self._names = names
        self._separator = separator
        self._missed = 0

    @classmethod
    def from_header(cls, text: str) -> Optional["Table"]:
        """The table whose header this line is, or None."""
        if len(text) > 2048 or "://" in text:
            return None
        separator = "|" if any(sign in text for sign in "|│┃║") else ("," if "," in text else " ")
        cells = _cells(text, separator)
        if not _looks_like_header(cells):
            return None
        names = [key_name(cell) for cell in cells]
        metric = any(judge(name)[0] for name in names)
        return cls(names, separator) if metric or (separator != " " and len(names) > 2) else None

    def row(self, text: str) -> Optional[Found]:
        """The row on this line, or None when it is none."""
        if _RULE.match(text):
            return None
        cells = text.split() if self._separator == " " else _cells(text, self._separator)
        if len(cells) != len(self._names):
            self._missed += 1
            return None
        found: Dict[str, Number] = {}
        for name, cell in zip(self._names, cells):
            value = parse_value(cell.rstrip("*")) if cell else None
            if value is not None:
                found[name] = value
            elif cell not in _EMPTY and not _CLOCK.match(cell):
                self._missed += 1
                return None
        return self._found(found)

    def _found(self, values: Dict[str, Number]) -> Optional[Found]:
        step: Optional[int] = None
        epoch: Optional[Number] = None
        rest: Dict[str, Number] = {}
        for name, value in values.items():
            if name.lower() in STEP_NAMES and float(value).is_integer():
                step = int(value)
            elif name.lower() in EPOCH_NAMES and value == value:
                epoch = value
            elif not judge(name)[2]:
                rest[name] = value
        if step is None and epoch is None:
            self._missed += 1
            return None
        self._missed = 0
        return Found(rest, step=step, epoch=epoch) if rest else None

    @property
    def over(self) -> bool:
        """Too many other lines since the last row."""
        return self._missed > PATIENCE[self._separator]
