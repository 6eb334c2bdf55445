"""Reads progress bars: tqdm, Lightning's tqdm and rich bars, Keras.

A bar is a counter, maybe a total, a unit, a description and the numbers written beside it (the postfix).
"""

from __future__ import annotations

import re
from typing import Dict, NamedTuple, Optional, Tuple

from .console_rows import Found, from_text
from .console_text import STEP_NAMES, Number, judge, key_name, parse_value


class Bar(NamedTuple):
    """One drawing of a bar; counts are in `unit`."""

    done: int
    total: Optional[int]
    unit: str
    description: str
    values: Dict[str, Number]
    step: Optional[int] = None
    """A step named in the postfix (`global_step=345`)."""
    epoch: Optional[Number] = None
    epoch_total: Optional[int] = None
    keras: bool = False

    @property
    def key(self) -> Tuple[str, Optional[int]]:
        """Drawings with the same key are the same bar; numbers in the description do not tell bars apart."""
        return re.sub(r"\d[\d.,]*", "#", self.description)[:80], self.total


_COUNT = r"(\d[\d.,]{0,15})([kKMGT]?)"
_TQDM = re.compile(rf"[|\s]\s{{0,12}}{_COUNT}/{_COUNT}\s?([A-Za-z]{{0,12}})\s?\[(\d+:\d\d(?::\d\d)?|\?)")
_TQDM_OPEN = re.compile(rf"(?:^|:\s|\s){_COUNT}\s?([A-Za-z]{{1,12}})\s\[(\d+:\d\d(?::\d\d)?),")
_PERCENT = re.compile(r"(\d{1,3})%$")
_RATE = re.compile(r"\s?(?:\?|[\d.,]+\s?[kKMGT]?)\s?([A-Za-zµ]{1,16})/([A-Za-z]{1,16})$")
_RICH = re.compile(
    r"(?P<description>[^━╸╺]{0,120}?)\s{0,8}[━╸╺]{4,200}\s{1,4}(?:(?P<done>\d{1,12})/(?P<total>\d{1,12}|--|\?)|(?P<percent>\d{1,3})%)"
)
_RICH_TAIL = re.compile(r"(?:\s{0,4}(?:[\d-]+:[\d-]+:[\d-]+|[\d.]+\s?(?:it|[a-z]{1,12})/s|•|[\d.]+s/it)){1,8}")
_KERAS = re.compile(
    r"\s{0,4}(?P<done>\d{1,12})/(?P<total>\d{1,12}|Unknown)\s{1,4}(?:\[[=>.]{3,80}\]|[━]{3,80})\s{1,4}(?P<tail>.*)"
)
_EPOCH = re.compile(r"(?:\w{1,16}\s)?epoch\s{0,2}[:#]?\s{0,2}\[?(\d{1,9})(?:\s?/\s?(\d{1,9}))?\]?", re.IGNORECASE)
_SAID = re.compile(r"(?:^|[\s,|(]\s?)[A-Za-z_][\w/]{0,40}\s?[=:]\s?[-\d.]")
_SCALES = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def parse_bar(text: str) -> Optional[Bar]:
    """The bar drawn on this line, or None."""
    if "━" in text or "[=" in text or "[>" in text:
        return _keras(text) or _rich(text)
    match = _TQDM.search(text)
    if match is not None:
        return _tqdm(text, match)
    match = _TQDM_OPEN.search(text)
    if match is None:
        return None
    body, rate = _bracket(text, match.end(3))
    if rate is None:
        return None
    done = _count(match[1], match[2])
    return None if done is None else _make(text[: match.start(1)], done, None, rate, body)


def _count(digits: str, scale: str) -> Optional[int]:
    value = parse_value(digits.rstrip("."))
    return None if value is None or value != value else int(value * _SCALES[scale])


def _tqdm(text: str, match: "re.Match[str]") -> Optional[Bar]:
    done, total = _count(match[1], match[2]), _count(match[3], match[4])
    if done is None or total is None:
        return None
    head = text[: match.start()]
    if "%|" in head:
        head = head[: head.index("%|") + 1]
        percent = _PERCENT.search(head)
        head = head[: percent.start()] if percent else head[:-1]
    body, rate = _bracket(text, match.end(5))
    if rate is None:
        return None
    return _make(head, done, total, rate or match[5] or "it", body)


def _bracket(text: str, at: int) -> Tuple[str, Optional[str]]:
    """The postfix in tqdm's square bracket that opens at or after `at`, and the unit of its rate; None: no bracket."""
    start = text.find("[", at)
    if start < 0:
        return "", None
    end = text.rfind("]")
    inner = text[start + 1 : end if end > start else len(text)]
    fields = inner.split(", ")
    unit = ""
    rest = []
    for index, field in enumerate(fields):
        rate = _RATE.match(field) if index <= 2 and not unit else None
        if rate is not None:
            unit = rate[1] if rate[2] in ("s", "sec", "second") else rate[2]
        elif index:
            rest.append(field)
    return ", ".join(rest), unit


def _make(head: str, done: int, total: Optional[int], unit: str, postfix: str) -> Bar:
    """A bar from its parts: numbers may stand in the postfix and in the description."""
    description = head.strip().rstrip(":").strip()[-120:]
    values, step = _postfix(postfix)
    epoch = _EPOCH.match(description)
    if any(sign in description for sign in "=:") or "loss" in description.lower():
        said = from_text(description)
        if said is not None:
            values = {**said.values, **values}
            step = said.step if step is None and said.step_total is None else step
            description = _SAID.split(description)[0].strip() or description
    return Bar(
        done, total, unit or "it", description, values, step,
        int(epoch[1]) if epoch else None, int(epoch[2]) if epoch and epoch[2] else None,
    )  # fmt: skip


def _postfix(text: str) -> Tuple[Dict[str, Number], Optional[int]]:
    values: Dict[str, Number] = {}
    step = None
    for item in text.split(", ")[:64]:
        key, separator, digits = item.partition("=")
        if not separator:
            key, separator, digits = item.partition(": ")
        value = parse_value(digits.strip()) if separator else None
        if value is None:
            continue
        name = key_name(key)
        if name.lower() in STEP_NAMES:
            step = int(value) if value == value and abs(value) < 1e15 else step
        elif name and not judge(name)[2] and name.lower() != "epoch":
            values[name] = value
    if not values and text and "=" not in text:
        said = from_text(text)
        values = said.values if said is not None else values
    return values, step


def _rich(text: str) -> Optional[Bar]:
    match = _RICH.match(text)
    if match is None:
        return None
    tail = _RICH_TAIL.match(text, match.end())
    said: Optional[Found] = from_text(text[tail.end() :].strip()) if tail else None
    done, total = (int(match["percent"]), 100) if match["percent"] else (int(match["done"]), None)
    if match["total"] and match["total"].isdigit():
        total = int(match["total"])
    bar = _make(match["description"], done, total, "%" if match["percent"] else "it", "")
    values = {name: value for name, value in said.values.items() if not judge(name)[2]} if said else {}
    return bar._replace(values={**bar.values, **values}, step=said.step if said else bar.step)


def _keras(text: str) -> Optional[Bar]:
    match = _KERAS.match(text)
    if match is None:
        return None
    total = int(match["total"]) if match["total"].isdigit() else None
    values: Dict[str, Number] = {}
    for item in match["tail"].split(" - ")[1:64]:
        key, separator, digits = item.partition(": ")
        value = parse_value(digits.strip()) if separator else None
        if value is not None and key.strip().lower() != "eta":
            values[key_name(key)] = value
    return Bar(int(match["done"]), total, "step", "", values, keras=True)
