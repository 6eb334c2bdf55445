"""What a filter line means: `wer>0.3 label:flam* -tag:hard text~word id:abc`, all of which an item has to fulfil.

| term | keeps |
| --- | --- |
| `wer>0.3`, `>=`, `<`, `<=`, `=`, `!=`, `wer:..0.3` | metrics, `step`, `epoch`, `seconds`, `channels`, `rate` … |
| `wer=nan`, `wer=none` | a metric that is NaN; items without it |
| `error/cutoff>0.1`, `target/…`, `predicted/…` | a parameter |
| `label:flam*`, `predicted:`, `tag:`, `track:`, `id:`, `key:` | by a word, with `*`, `?`; `=` takes them literally |
| `text~word`, also for `label`, `tag`, `track`, `id`, `key`, `note` | by a part of it |
| `is:wrong`, `is:right`, `is:broken`, `is:rated` | by what holds; `step:last` the newest evaluation |
| `word` | anything that shows it: texts, key, id, label, predicted class, tags |

A leading `-` turns a term around, quotes hold blanks together (`"val loss">0.3`), case never matters.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..errors import UsageError, suggestion
from ..format import plain
from .columns import NO_STEP, PARAMETER_SIDES, Codes, Floats, Mask, SampleColumns

Word = TypeVar("Word")
_TERM = re.compile(
    r'(?P<not>-(?=\S))?(?:(?P<field>"[^"]+"|[^\s:<>=!~"]+)(?P<sign>>=|<=|!=|[:<>=~]))?(?P<value>(?:"[^"]*"|[^\s"])*)'
)
WORD_FIELDS = ("id", "key", "label", "predicted", "tag", "track", "text", "note")
NUMBER_FIELDS = ("step", "epoch", "seconds", "channels", "rate", "rating")
NONE = "none"
"""`wer=none`: the items without it."""
STATES = ("wrong", "right", "broken", "rated", "noted")


class QueryError(UsageError):
    """A filter line that means nothing; the sentence says which part."""


@dataclass(frozen=True, slots=True)
class NoteColumns:
    """What the listener added, by row: rating 1…5 or NaN, and the note, casefolded or empty."""

    ratings: Floats
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Term:
    """One condition; `field` is empty for a bare word."""

    field: str
    sign: str
    value: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed filter line; an empty one keeps everything."""

    terms: tuple[Term, ...] = ()

    def mask(self, columns: SampleColumns, notes: NoteColumns | None = None) -> Mask:
        """Which rows are kept, shape (N,).

        Raises
        ------
        QueryError: a term names no field or metric of this set.
        """
        kept = np.ones(len(columns), np.bool_)
        for term in self.terms:
            kept &= _mask(term, columns, notes) ^ term.negated
        return kept


def parse(text: str) -> Query:
    """The query that a line means.

    Raises
    ------
    QueryError: quotes that do not end, a field without a value, a number that is none.
    """
    if text.count('"') % 2:
        raise QueryError('A quote " in the filter does not end.')
    terms = []
    for match in _TERM.finditer(text):
        field, sign, value = (match[name] or "" for name in ("field", "sign", "value"))
        if not match[0] or not (field or value):
            continue
        if field and not value:
            raise QueryError(f"{plain(match[0], 60)!r} in the filter has no value.")
        term = Term(_bare(field).casefold() if _bare(field).casefold() in _WORDS else _bare(field), sign, _bare(value),
                    bool(match["not"]))  # fmt: skip
        _check(term)
        terms.append(term)
    return Query(tuple(terms))


_WORDS = (*WORD_FIELDS, *NUMBER_FIELDS, "is")


def _bare(word: str) -> str:
    return word.replace('"', "")


def _check(term: Term) -> None:
    if term.field == "is" and term.value.casefold() not in STATES:
        raise QueryError(f"is:{plain(term.value, 40)} means nothing: there are is:{', is:'.join(STATES)}.")
    if term.field in WORD_FIELDS and term.sign in ("<", ">", "<=", ">="):
        raise QueryError(f"{term.field!r} is a word, not a number: use {term.field}:… or {term.field}~….")
    if term.sign == "~" and term.field not in WORD_FIELDS:
        raise QueryError(f"~ looks for a part of a word: use it with {', '.join(WORD_FIELDS)}.")
    if term.field in NUMBER_FIELDS and not _is_last(term) and not _is_none(term):
        _range(term)


def _is_last(term: Term) -> bool:
    return term.field == "step" and term.sign in (":", "=") and term.value.casefold() == "last"


def _is_none(term: Term) -> bool:
    return term.sign in (":", "=", "!=") and term.value.casefold() == NONE


def _range(term: Term) -> tuple[float, float]:
    """The two ends of `0.1..0.3`; one number is both."""
    ends = term.value.split("..", 1)
    try:
        low, high = float(ends[0] or "-inf"), float(ends[-1] or "inf")
    except ValueError:
        raise QueryError(f"{plain(term.value, 40)!r} after {plain(term.field, 40)}{term.sign} is no number.") from None
    return low, high


def _mask(term: Term, columns: SampleColumns, notes: NoteColumns | None) -> Mask:
    if not term.field:
        return _anywhere(term.value.casefold(), columns, notes)
    if term.field == "is":
        return _state(term.value.casefold(), columns, notes)
    if term.field in WORD_FIELDS:
        found = _words(term, columns, notes)
        return ~found if term.sign == "!=" else found
    if _is_last(term):
        return columns.newest()
    names = [name for name in columns.metrics if name.casefold() == term.field.casefold()]
    metric = term.field if term.field in names else names[0] if names and term.field not in NUMBER_FIELDS else None
    nan = None if metric is None else columns.is_nan(metric)
    return _compare(number_column(columns, term.field, notes), term, nan)


def number_column(columns: SampleColumns, name: str, notes: NoteColumns | None = None) -> Floats:
    """A metric, `step`, `epoch`, `seconds`, `channels`, `rate`, `rating`, `t`, or a parameter's `error/NAME`,
    `target/NAME`, `predicted/NAME`, as float64 (N,), NaN where there is none.

    Raises
    ------
    QueryError: there is no such column; the sentence names near ones.
    """
    if name in columns.metrics:
        return columns.metrics[name]
    if name == "step":
        return np.where(columns.steps == NO_STEP, np.nan, columns.steps.astype(np.float64))
    plain_columns = {
        "epoch": columns.epochs, "seconds": columns.seconds, "t": columns.t,
        "channels": columns.channels, "rate": columns.rates,
    }  # fmt: skip
    if name in plain_columns:
        return plain_columns[name]
    if name == "rating":
        return np.full(len(columns), np.nan) if notes is None else notes.ratings
    for known, values in columns.metrics.items():
        if known.casefold() == name.casefold():
            return values
    side, _, parameter = name.partition("/")
    if parameter and side in PARAMETER_SIDES:
        found = columns.parameter(side, parameter)
        if not np.isnan(found).all():
            return found
    known_names = [*columns.metrics, *NUMBER_FIELDS, *WORD_FIELDS]
    metrics = [plain(known, 40) for known in list(columns.metrics)[:6]]
    hint = suggestion(name, known_names) or f" There are {', '.join([*metrics, *WORD_FIELDS, *NUMBER_FIELDS])}."
    raise QueryError(f"The samples have no field or metric {plain(name, 60)!r}.{plain(hint, 300)}")


def _compare(values: Floats, term: Term, nan: Mask | None) -> Mask:
    """`nan`: where a metric is NaN itself; None for what is no metric, where NaN only means that there is none."""
    if _is_none(term):
        absent = np.isnan(values) if nan is None else np.isnan(values) & ~nan
        return ~absent if term.sign == "!=" else absent
    low, high = _range(term)
    if ".." in term.value:
        inside = (values >= low) & (values <= high)
        return ~inside if term.sign == "!=" else inside
    if np.isnan(low):
        found = np.isnan(values) if nan is None else nan
        return ~np.isnan(values) if term.sign == "!=" else found
    compare: dict[str, Callable[[Floats, float], Mask]] = {
        ">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal, "!=": np.not_equal,
    }  # fmt: skip
    return np.asarray(compare.get(term.sign, np.equal)(values, low), np.bool_)


def _matcher(term: Term) -> Callable[[str], bool]:
    """How one word is compared, casefolded."""
    wanted = term.value.casefold()
    if term.sign == "~" or term.field in ("text", "note"):
        return lambda word: wanted in word.casefold()
    if term.sign == ":" and any(sign in wanted for sign in "*?["):
        pattern = re.compile(fnmatch.translate(wanted))
        return lambda word: pattern.match(word.casefold()) is not None
    if term.field == "id" and term.sign == ":":
        return lambda word: word.casefold().startswith(wanted)
    return lambda word: word.casefold() == wanted


def _words(term: Term, columns: SampleColumns, notes: NoteColumns | None) -> Mask:
    matches = _matcher(term)
    if term.field == "label":
        return coded(columns.label_codes, columns.classes, matches)
    if term.field == "predicted":
        return coded(columns.predicted_codes, columns.classes, matches)
    if term.field == "tag":
        return coded(columns.tag_codes, columns.tag_sets, lambda tags: any(matches(tag) for tag in tags))
    if term.field == "track":
        return coded(columns.track_codes, columns.track_sets, lambda tracks: any(matches(track) for track in tracks))
    if term.field in ("id", "key"):
        words = columns.ids if term.field == "id" else columns.keys
        return np.fromiter(map(matches, words), np.bool_, len(columns))
    wanted = term.value.casefold()
    if term.field == "text":
        return _holding(columns.texts, wanted)
    return np.zeros(len(columns), np.bool_) if notes is None else _holding(notes.texts, wanted)


def coded(codes: Codes, words: Sequence[Word], matches: Callable[[Word], bool]) -> Mask:
    """Which codes stand for words that match. Each different word is compared once; -1 (none) finds the last False."""
    return np.asarray([*map(matches, words), False], np.bool_)[codes]


def _holding(texts: Sequence[str], wanted: str) -> Mask:
    return np.asarray([wanted in text for text in texts], np.bool_)


def _anywhere(wanted: str, columns: SampleColumns, notes: NoteColumns | None) -> Mask:
    def matches(word: str) -> bool:
        return wanted in word.casefold()

    found = _holding(columns.texts, wanted)
    found |= np.asarray([id.startswith(wanted) for id in columns.ids], np.bool_)
    found |= np.asarray([wanted in key.casefold() for key in columns.keys], np.bool_)
    found |= coded(columns.label_codes, columns.classes, matches)
    found |= coded(columns.predicted_codes, columns.classes, matches)
    found |= coded(columns.tag_codes, columns.tag_sets, lambda tags: any(map(matches, tags)))
    return found if notes is None else found | _holding(notes.texts, wanted)


def _state(state: str, columns: SampleColumns, notes: NoteColumns | None) -> Mask:
    if state == "broken":
        return columns.broken
    if state in ("rated", "noted"):
        if notes is None:
            return np.zeros(len(columns), np.bool_)
        if state == "rated":
            return ~np.isnan(notes.ratings)
        return np.asarray([bool(text) for text in notes.texts], np.bool_)
    known = (columns.label_codes >= 0) & (columns.predicted_codes >= 0)
    same = columns.label_codes == columns.predicted_codes
    return known & (same if state == "right" else ~same)
