"""Draws metrics from what a training program prints: raw console bytes in, journal events out.

Understood: tqdm, Lightning and Keras bars, Hugging Face Trainer dicts, JSON objects, `step 120 loss=0.53`,
`Epoch [3/20] Step [100/892] Loss: 0.91`, nanoGPT, fairseq, Megatron and NeMo lines, Markdown, CSV and aligned tables,
and the user's own regexes. Prose, configurations, paths, versions, timestamps and tracebacks are not.

A trainer may print a hundred megabytes a minute of something else. Lines are therefore not looked at one by one: a
block is searched for the few words that every known form contains, and only lines that hold one are parsed, at most
`lines_per_s` of them. Bytes are handled line by line whatever the chunks they come in, so that any chunking gives
the same events. Standard library only, Python 3.8.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Sequence, Tuple

from .console_bar_events import BarEvents
from .console_bars import parse_bar
from .console_rows import Found, from_mapping, from_text, without_prefix
from .console_steps import StepClock
from .console_tables import Table
from .console_text import PatternError, clean, compile_patterns, match_pattern, strict

__all__ = ["ConsoleParser", "PatternError", "compile_patterns"]

MAX_LINE = 16384
"""Bytes of a line that are looked at; what is beyond is dropped."""
_EVIDENCE = tuple(
    (
        "loss step epoch iter it/s s/it %| [00: /s] /s, batch acc wer cer ppl perplex bleu snr sdr f1 auc mse "
        "mae eer norm nll reward score precis recall iou pesq stoi fad fid bpb ssim entropy rouge r2 "
        "traceback "
    )
    .encode()
    .split()
)
_REPEATS = 16
_DEFER_S = 1.0
_BURST_S = 20.0
_BAR_SIGNS = re.compile(r"\[\d+:\d\d|/s\b|s/it|━━━|\[[=>]|\[\?")
_HEADER_SIGNS = re.compile(r"\b(?:epoch|ep|step|iter|iteration|global_step|update)s?\b", re.IGNORECASE)
_VALUE_SIGNS = re.compile(r"\d|nan|inf", re.IGNORECASE)


class _Evidence:
    """Where in a block the next line with evidence is. Positions are searched word by word: far faster than a regex."""

    def __init__(self, block: bytes) -> None:
        self._block = block.lower()
        self._next = {word: place for word in _EVIDENCE for place in (self._block.find(word),) if place >= 0}

    def line_from(self, start: int) -> int:
        """Start of the first line at or after `start` (the start of a line) that holds evidence, or -1."""
        if not self._next:
            return -1
        for word, place in list(self._next.items()):
            if place < start:
                place = self._block.find(word, start)
                if place < 0:
                    del self._next[word]
                else:
                    self._next[word] = place
        return self._block.rfind(b"\n", 0, min(self._next.values())) + 1 if self._next else -1


class ConsoleParser:
    """Events from the console of one attempt.

    Parameters
    ----------
    patterns: the user's own regexes, tried first on every line; raises PatternError when one cannot be used.
    bar_interval_s: least time between two events of one progress bar.
    lines_per_s: lines parsed per second of `t` in the long run; twenty seconds' worth may come at once. Of
        more than that the last line is kept, so that a flood's end (a bar at 100 %) is seen.
    """

    def __init__(self, patterns: Sequence[str] = (), bar_interval_s: float = 0.25, lines_per_s: float = 1000.0) -> None:
        self._patterns = compile_patterns(list(patterns))
        self._clock = StepClock()
        self._bars = BarEvents(self._clock, bar_interval_s)
        self._events: List[Dict[str, Any]] = []
        self._partial = b""
        self._place = 0
        self._table: Optional[Table] = None
        self._traceback = False
        self._settings_end = -5
        self._deferred: Optional[Tuple[float, Found]] = None
        self._recent: Deque[Tuple[Any, ...]] = deque(maxlen=_REPEATS)
        self._lines_per_s = lines_per_s
        self._credit = _BURST_S * lines_per_s
        self._credit_t: Optional[float] = None
        self._shed = b""

    def feed(self, data: bytes, t: float) -> List[Dict[str, Any]]:
        """Events of the lines that `data` completes (bytes as the pty gave them, at time `t` in seconds)."""
        self._refill(t)
        self._events = self._bars.due(t)
        if self._deferred is not None and t - self._deferred[0] > _DEFER_S:
            self._resolve(None)
        block = self._whole_lines(data)
        if block:
            self._parse_shed(t)
            self._parse_block(block, t)
        return self._events

    def close(self, t: float) -> List[Dict[str, Any]]:
        """Events of a last line without an end, and everything that was held back."""
        block, self._partial = self._partial.replace(b"\r", b""), b""
        self._events = []
        self._credit = max(2.0, self._credit)
        self._parse_shed(t)
        if block:
            self._parse_block(block + b"\n", t)
        self._resolve(None)
        self._events += self._bars.due(t, everything=True)
        return self._events

    # --- lines

    def _whole_lines(self, data: bytes) -> bytes:
        """The complete lines, with newlines for ends (a carriage return ends one too); the rest is kept, capped."""
        if self._partial:
            data = self._partial + data
        held = data.endswith(b"\r")  # may become a \r\n
        end = len(data) - held
        cut = max(data.rfind(b"\n", 0, end), data.rfind(b"\r", 0, end)) + 1
        self._partial = data[cut:]
        if len(self._partial) > MAX_LINE + 1:
            self._partial = self._partial[:MAX_LINE] + (b"\r" if held else b"")
        block = data[:cut]
        return block.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in block else block

    def _parse_block(self, block: bytes, t: float) -> None:
        """Parse the lines that may matter: all while a table or a traceback is open, else those with evidence."""
        evidence = _Evidence(block)
        evident = evidence.line_from(0)
        at = 0
        while at < len(block):
            everything = self._table is not None or self._traceback
            if not everything and not self._patterns:
                if evident < 0:
                    break
                at = max(at, evident)
            end = block.find(b"\n", at)
            looked_at = everything or at == evident
            if end > at and (looked_at or self._patterns):
                if not self._spend():
                    self._shed = block[block.rfind(b"\n", 0, -1) + 1 : -1][:MAX_LINE]
                    break
                self._line(block[at : min(end, at + MAX_LINE)], t, looked_at, self._place + at, self._place + end)
            at = end + 1
            if 0 <= evident < at:
                evident = evidence.line_from(at)
        self._place += len(block)

    def _parse_shed(self, t: float) -> None:
        """The last line of what was left out, once there is time again."""
        if self._shed and self._spend():
            raw, self._shed = self._shed, b""
            self._line(raw, t, True, -2, -2)

    def _line(self, raw: bytes, t: float, looked_at: bool, start: int, end: int) -> None:
        """One line; the numbers are its place in the stream, by which neighbours are known."""
        text = clean(raw)
        if self._patterns and self._own_pattern(text, t):
            return
        if not looked_at or self._in_traceback(text):
            return
        if _VALUE_SIGNS.search(text) and self._bar(text, t):
            return
        self._resolve(None)
        stripped = text.strip()
        if stripped[:1] == "{":
            self._mapping(stripped, t)
        elif stripped and not self._row(text, t) and _VALUE_SIGNS.search(text):
            self._text(text, t, start, end)
        elif stripped and _HEADER_SIGNS.search(text):
            self._header(text)

    # --- the forms

    def _own_pattern(self, text: str, t: float) -> bool:
        """Whether one of the user's patterns took the line (its first 4096 characters)."""
        for pattern in self._patterns:
            values = match_pattern(pattern, text[:4096])
            if values is not None:
                step, epoch = values.pop("step", None), values.pop("epoch", None)
                whole = step is not None and float(step).is_integer()
                self._row_event(Found(values, step=int(step) if step is not None and whole else None, epoch=epoch), t)
                return True
        return False

    def _in_traceback(self, text: str) -> bool:
        """A traceback lasts until its first line that is not indented: the exception."""
        if "Traceback (most recent call last" in text:
            self._traceback = True
            return True
        if not self._traceback:
            return False
        self._traceback = text[:1] in (" ", "\t", "") or text.startswith(("|", "+"))
        return True

    def _bar(self, text: str, t: float) -> bool:
        bar = parse_bar(without_prefix(text)) if _BAR_SIGNS.search(text) else None
        if bar is None:
            return False
        self._resolve(bar.done if self._bars.counts_steps(bar) and bar.epoch is None and bar.total else None)
        self._events += self._bars.see(bar, t)
        return True

    def _mapping(self, text: str, t: float) -> None:
        found = from_mapping(text)
        if found is None:
            return
        if found.step is None and self._bars.counting:
            self._deferred = (t, found)  # tqdm redraws the bar behind what is printed: its counter is the exact step
        else:
            self._row_event(found, t)

    def _row(self, text: str, t: float) -> bool:
        if self._table is None:
            return False
        found = self._table.row(without_prefix(text))
        if found is not None:
            self._row_event(found, t)
        elif self._table.over:
            self._table = None
        return found is not None

    def _text(self, text: str, t: float, start: int, end: int) -> None:
        found = from_text(text)
        if found is None:
            return
        if found.step is None and found.epoch is None and len(found.values) <= 1 and self._settings_end == start - 1:
            self._settings_end = end  # among the lines of a printed configuration
        elif found.lone_setting:
            self._settings_end = end
        else:
            self._row_event(found, t)

    def _header(self, text: str) -> None:
        self._table = Table.from_header(without_prefix(text)) or self._table

    # --- what goes out

    def _resolve(self, step: Optional[int]) -> None:
        """Let go of a row that waited for the bar behind it."""
        if self._deferred is None:
            return
        (t, found), self._deferred = self._deferred, None
        usable = step is not None and (self._clock.step is None or step >= self._clock.step)
        self._row_event(found._replace(step=step) if usable else found, t)

    def _row_event(self, found: Found, t: float) -> None:
        self._clock.see_epoch(found.epoch, found.epoch_total is not None)
        step = self._clock.step if found.step is None else self._clock.see_step(found.step, found.step_total)
        epoch = self._clock.epoch
        values = {name: strict(value) for name, value in found.values.items()}
        identity = (step, epoch, tuple(values.items()))
        if values and identity not in self._recent:
            self._recent.append(identity)
            self._events.append({"t": t, "k": "metrics", "step": step, "epoch": epoch, "v": values})

    # --- the budget

    def _refill(self, t: float) -> None:
        passed = 0.0 if self._credit_t is None else max(0.0, t - self._credit_t)
        self._credit_t = t
        self._credit = min(_BURST_S * self._lines_per_s, self._credit + passed * self._lines_per_s)

    def _spend(self) -> bool:
        if self._credit < 1:
            return False
        self._credit -= 1
        return True
