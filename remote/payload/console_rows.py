"""Recognises one printed line of numbers: `step 120 loss=0.53 lr=1e-4`, a Trainer's dict, a JSON object.

Conservative on purpose: a number drawn as a metric that is none misleads, a missed line can be had with the user's own
regex. A line must show evidence (a step or epoch counter, or a metric's name), hold few other words, and not look like
code or a configuration. Steps that count within an epoch are told apart by `Found.step_total`; `StepClock` in
`console_steps` makes run-wide steps of them.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from .console_text import EPOCH_NAMES, NEUTRAL, STEP_NAMES, VALUE, Number, judge, key_name, number, parse_value

MAX_PAIRS = 128


class Found(NamedTuple):
    """What one line says. `step_total` is set when the step was printed as a part of a total (`100/892`)."""

    values: Dict[str, Number]
    step: Optional[int] = None
    step_total: Optional[int] = None
    epoch: Optional[Number] = None
    epoch_total: Optional[int] = None
    lone_setting: bool = False
    """The line is one `name: value` that belongs to a configuration, so its neighbours may as well."""


_WORD = r"[A-Za-z_][\w./@%+-]{0,63}"
_COUNTER = re.compile(
    r"(?:train(?:ing)?\s)?(?P<what>global[ _]step|num_updates|step|epoch|iteration|iter|batch|update|ep)"
    r"\s{0,4}[:#=]?\s{0,8}[\[(]?\s{0,8}(?P<at>\d{1,3}(?:,\d{3})+|\d{1,12}(?:\.\d{1,6})?)"
    r"(?:\s{0,8}(?:/|of)\s{0,8}(?P<of>\d{1,12}))?\s{0,4}[\])]?(?=$|[\s,;|)\[]|:(?!\d)|\.(?:\s|$))",
    re.IGNORECASE,
)
_FRACTION = re.compile(
    r":?\s{0,8}[\[(]?\s{0,8}(?P<at>\d{1,12})\s{0,4}/\s{0,4}(?P<of>\d{1,12})\s{0,4}(?:\(\s{0,4}\d{1,3}(?:\.\d+)?%\))?\s?[\])]?"
    r"(?=$|[\s,;|:])"
)
_LABEL = re.compile(
    r"[\[(]?(?P<split>train(?:ing)?|val(?:id(?:ation)?)?|eval(?:uation)?|test|dev)(?:\sset)?"
    r"(?:[\])]\s{0,2}[:|-]?|\s{0,2}[:|]|\s-(?=\s))\s{1,8}(?=[A-Za-z])",
    re.IGNORECASE,
)
_EQUALS = re.compile(rf"(?P<key>{_WORD}(?:\s?\([^()=]{{1,12}}\))?)\s{{0,8}}=\s{{0,8}}{VALUE}")
_COLON = re.compile(rf"(?P<key>{_WORD}(?:\s{_WORD}){{0,2}}(?:\s?\([^()=]{{1,12}}\))?)\s{{0,8}}:\s{{0,16}}{VALUE}")
_LONG = re.compile(
    rf"(?P<key>{_WORD}(?:\s{_WORD}){{0,5}}(?:\s?\([^()=]{{1,12}}\))?)\s{{0,8}}:\s{{0,16}}{VALUE}(?=\s*\|)"
)
_SPACED = re.compile(rf"(?P<key>{_WORD}(?:\s{_WORD})?)\s{{1,8}}{VALUE}")
_AVERAGE = re.compile(r"\s{0,4}\(\s{0,8}[-+]?[\d.]{1,20}(?:[eE][-+]?\d{1,4})?\s{0,4}\)")
_SKIP = re.compile(r"(?:[\s,;|•·*>]|-(?=\s)|--(?=\s))+")
_TOKEN = re.compile(r"\S+")
_LETTER = re.compile(r"[A-Za-z]")

_PREFIX = re.compile(
    r"\s{0,8}(?:"
    r"[\[(]?\d{4}[-/]\d\d[-/]\d\d[T ,]{1,2}\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?[\])]?"
    r"|[\[(]?\d{1,2}/\d\d(?:/\d{2,4})?[ ,]{1,2}\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: [AP]M)?[\])]?"
    r"|[\[(]?\d{1,2}:\d\d:\d\d(?:[.,]\d{1,9})?[\])]?(?=\s)"
    r"|[IWED]\d{4} \d\d:\d\d:\d\d\.\d{1,9}\s{1,4}\d{1,9} [\w./-]{1,80}:\d{1,6}\]"
    r"|\[NeMo [IWED] [^\]]{1,100}\]"
    r"|\[(?:rank|Rank|GPU|gpu|Node|node|default)?[ _:]?\d{1,4}(?:/\d{1,4})?\]:?|\((?:\w{1,40} )?pid=\d{1,9}\)"
    r"|[\[(<]?(?:INFO|DEBUG|WARNING|NOTICE)[\])>]?(?::[\w.]{1,80}(?=:))?:?(?=\s|[A-Za-z])"
    r"|\[[A-Za-z][\w.]{0,40}\](?=\s{0,4}[\[-])|[\w./<>-]{1,80}\.py:\d{1,6}[\]:]?"
    r"|(?:__main__|root|train|trainer|train_inner|lightning|[a-z_]{1,30}\.[a-z_.]{1,60})(?=\s{1,4}[-|]\s)"
    r")\s{0,8}(?:[-|:]\s{1,8})?"
)
_CALL = re.compile(r"\w\([^()]{0,200}\w\s?=")
_CODE_STARTS = (">>>", "$", "+ ", "#", "//", "def ", "class ", "return ", "if ", "for ", 'File "')
_SENTENCE = re.compile(r"(?:[A-Za-z]{1,20}[,.]? ){5}[a-z]")
_FAILURE = re.compile(r"\s*[\w.]*(?:Error|Exception|Warning|Interrupt|Exit)\b")


class _Scan:
    """One pass over the line's text, left to right; gives up as soon as there are too many other words."""

    def __init__(self, text: str) -> None:
        self.values: Dict[str, Number] = {}
        self.counters: Dict[str, Tuple[Number, Optional[int]]] = {}
        self.words = 0
        self.pairs = self.metrics = self.settings = self.neutral = self.spaced = 0
        self.dotted = False
        self._split = ""
        self._after_epoch = False
        self.whole = self._run(text)

    def _run(self, text: str) -> bool:
        at = 0
        piped = "|" in text
        while at < len(text):
            skip = _SKIP.match(text, at)
            at = skip.end() if skip else at
            if at >= len(text):
                break
            began = at
            if self._after_epoch:
                at = self._fraction(text, at) or at
            if at == began and (text[at].isalpha() or text[at] in "[(_"):
                at = self._word(text, at) or self._pair(text, at, piped) or at
            at = self._other(text, at) if at == began else at
            if self.words > 4 or self.pairs > MAX_PAIRS:
                return False
        return True

    def _fraction(self, text: str, at: int) -> int:
        self._after_epoch = False
        match = _FRACTION.match(text, at)
        if match is None or "step" in self.counters:
            return 0
        self.counters["step"] = (int(match["at"]), int(match["of"]))
        return match.end()

    def _word(self, text: str, at: int) -> int:
        """A counter, or a label such as `val:` that names the split of what follows."""
        match = _COUNTER.match(text, at)
        if match is not None and self._may_count(text, at, match):
            what = "epoch" if match["what"].lower() in ("epoch", "ep") else "step"
            value = number(match["at"])
            if value is not None and (what == "epoch" or isinstance(value, int)):
                self.counters.setdefault(what, (value, int(match["of"]) if match["of"] else None))
                self._after_epoch = what == "epoch" and (not match["of"] or text[match.end() : match.end() + 1] == "[")
                return match.end()
        label = _LABEL.match(text, at)
        if label is None:
            return 0
        self._split = label["split"].lower()
        return label.end()

    def _may_count(self, text: str, at: int, match: "re.Match[str]") -> bool:
        """`step 5` counts where a line or a cell begins; behind other words (`best at epoch 5`) only as `epoch=5`."""
        started = self.words > 0 or self.pairs > 0
        return not started or text[:at].rstrip()[-1:] in ("|", ",", ";") or bool(re.search("[:=]", match[0]))

    def _pair(self, text: str, at: int, piped: bool) -> int:
        match = _EQUALS.match(text, at) or (piped and _LONG.match(text, at)) or _COLON.match(text, at)
        if not match:
            match = _SPACED.match(text, at)
            if match is None or not self._wanted_spaced(match["key"]):
                return 0
            self.spaced += 1
        value = number(match["number"], match["unit"])
        if value is None:
            return 0
        self._take(key_name(match["key"]), value)
        average = _AVERAGE.match(text, match.end())
        return average.end() if average else match.end()

    def _wanted_spaced(self, key: str) -> bool:
        name = key_name(key)
        return judge(name)[0] or (bool(self.counters) and name.lower() in NEUTRAL)

    def _take(self, name: str, value: Number) -> None:
        metric, setting, identity = judge(name)
        self.pairs += 1
        if name.lower() in STEP_NAMES and float(value).is_integer():
            self.counters["step"] = (int(value), None)
            return
        if identity:
            return
        self.metrics += metric
        self.settings += setting
        self.neutral += name.lower() in NEUTRAL
        self.dotted = self.dotted or "." in name
        self.values.setdefault(f"{self._split}/{name}" if self._split else name, value)

    def _other(self, text: str, at: int) -> int:
        self._after_epoch = False
        match = _TOKEN.match(text, at)
        end = match.end() if match else at + 1
        if _LETTER.search(text, at, end):
            self.words += 1
        return end


def without_prefix(text: str) -> str:
    """The text behind timestamps, levels, ranks and logger names."""
    for _ in range(6):
        match = _PREFIX.match(text)
        if match is None or match.end() == 0:
            break
        text = text[match.end() :]
    return text


def _is_code_or_prose(text: str) -> bool:
    """Cheap reasons not to look closer: brackets of code and markup, calls with keywords, six words in a row."""
    if any(sign in text for sign in ("{", "}", "<", ">", "==", "://")) or text.lstrip().startswith(_CODE_STARTS):
        return True
    if "(" in text and "=" in text and _CALL.search(text):
        return True
    return "|" not in text and _SENTENCE.search(text) is not None


def from_text(text: str) -> Optional[Found]:
    """A line of counters and `key value` pairs; None when it is something else."""
    if len(text) > 4096 or _FAILURE.match(text):
        return None
    text = without_prefix(text)
    if _is_code_or_prose(text) or _FAILURE.match(text):
        return None
    scan = _Scan(text)
    if not scan.whole:
        return None
    counted = bool(scan.counters)
    step, epoch = scan.counters.get("step", (None, None)), scan.counters.get("epoch", (None, None))
    counters = (int(step[0]) if step[0] is not None else None, step[1], epoch[0], epoch[1])
    if not scan.values:
        return Found({}, *counters) if counted and scan.words == 0 else None
    if counted:
        plenty = scan.metrics or scan.neutral or (len(scan.values) > scan.settings and scan.spaced == 0)
        return Found(scan.values, *counters) if plenty and scan.words <= 3 else None
    if scan.metrics and not scan.settings and not scan.dotted and scan.words <= 1:
        return Found(scan.values)
    lone = len(scan.values) == 1 and scan.words == 0 and not scan.metrics and not scan.neutral
    return Found({}, lone_setting=True) if lone else None


def from_mapping(text: str) -> Optional[Found]:
    """A line that is one dict (Hugging Face's Trainer prints its repr) or one JSON object."""
    text = text.strip()
    if text.startswith("{'"):
        return _from_items(_repr_items(text))
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _from_items(_flat(record)) if isinstance(record, dict) else None


def _repr_items(text: str) -> Iterable[Tuple[str, Any]]:
    for item in text[1:-1].split(", '")[: MAX_PAIRS * 2]:
        key, separator, value = item.partition("': ")
        if separator:
            yield key.strip("' "), parse_value(value.strip().strip("'"))


def _flat(record: Dict[str, Any]) -> List[Tuple[str, Any]]:
    items: List[Tuple[str, Any]] = []
    for key, value in list(record.items())[: MAX_PAIRS * 2]:
        if isinstance(value, dict):
            items += [(f"{key}/{inner}", deeper) for inner, deeper in list(value.items())[:MAX_PAIRS]]
        else:
            items.append((key, value))
    return items


def _json_number(value: Any) -> Optional[Number]:
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return float(value.replace("Infinity", "inf"))
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _from_items(items: Iterable[Tuple[str, Any]]) -> Optional[Found]:
    """Numbers by name, if they report training: a metric among them, or a step and no setting."""
    values: Dict[str, Number] = {}
    step: Optional[int] = None
    epoch: Optional[Number] = None
    metrics = settings = 0
    for key, raw in items:
        value = _json_number(raw)
        if value is None or (abs(value) > 1e300 and value == value and abs(value) != float("inf")):
            continue
        lower = key.lower()
        if lower in STEP_NAMES:
            step = int(value) if float(value).is_integer() else step
        elif lower in EPOCH_NAMES:
            epoch = value if value == value and abs(value) != float("inf") else epoch
        elif not judge(key)[2] and len(key) <= 128:
            metric, setting, _ = judge(key)
            metrics, settings = metrics + metric, settings + setting
            values[key] = value
    counted = step is not None or epoch is not None
    if not values or len(values) > MAX_PAIRS:
        return None
    if (metrics and (counted or not settings)) or (step is not None and len(values) > settings):
        return Found(values, step=step, epoch=epoch)
    return None
