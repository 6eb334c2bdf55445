"""`TerminalLog`: raw terminal bytes become lines of styled text, as a terminal would have left them.

Followed: carriage return, backspace, line feed, tab, erase in line and display, cursor movement, SGR. Everything else
(titles, mouse modes, private modes, the alternate screen, device strings) is swallowed, so that nothing of it ever
reaches the user's terminal. A line feed also returns the carriage: behind a pty it always does.

A terminal emulator for full screens (pyte) was rejected: it wraps at a fixed width, keeps no history of long logs, and
is 100 times slower. Here the last `rows` lines are cells that the cursor can reach; older ones are frozen values.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Sequence

from .lines import MAX_COLUMNS, PLAIN, Cells, ConsolePicture, Line, TextStyle, plain, plain_line
from .sgr import styled

NOTE = TextStyle(dim=True, italic=True)
_TAB = 8
_CONTROL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb]"
)
"""C0 and C1 controls but the line feed, and invisible characters that reorder or hide text."""
_NOT_SIMPLE = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u1dff\u20d0-\u20ff\u231a-\u23f3\u25fd\u25fe\u2614-\u27bf\u2b1b-\u2b55\u2cef-\ud7ff\uf900-\uffe6\U00010000-\U0010ffff]"
)
"""Characters that may take no cell or two; those that take one all the same only lose some speed."""
_CSI = re.compile(r"\x1b\[([0-?]{0,256})([ -/]{0,8})([@-~])")
_SHORT = re.compile(r"\x1b[ -/]{0,8}[0-OQ-WYZ\\`-~]")
_TORN = re.compile(r"\x1b(?:\[[0-?]{0,256}[ -/]{0,8}|[ -/]{0,8})\Z")
_TITLE_END = re.compile("\x07|\x9c|\x1b\\\\|(?=\n)|(?=\x1b[^\\\\])")
_DEVICE_END = re.compile("\x9c|\x1b\\\\|(?=\x1b[^\\\\])")
_STRING_LIMIT = 1 << 20


def _weight(line: Line) -> int:
    """Characters of a line."""
    return len(line[0][0]) if len(line) == 1 else sum([len(text) for text, _ in line])


class TerminalLog:
    """The interpreter and the lines it has kept.

    Parameters
    ----------
    max_lines, max_chars: bounds of what is kept; the oldest lines go first.
    rows: height of the program's terminal: how far up its cursor can reach.
    """

    def __init__(self, max_lines: int = 20_000, rows: int = 40, max_chars: int = 8_000_000) -> None:
        self._max_lines, self._max_chars, self._rows = max_lines, max_chars, max(2, rows)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._done: deque[Line] = deque()
        self._chars = 0
        self._dropped = 0
        self._page = [Cells()]
        self._row = self._column = 0
        self._style = PLAIN
        self._highest_jump = 0
        self._torn = ""
        self._string: re.Pattern[str] | None = None
        self._string_length = 0

    # --- what is there

    @property
    def end(self) -> int:
        """Number of the line after the last one; an empty line that the cursor waits on does not count yet."""
        return self._dropped + len(self._done) + len(self._page) - (len(self._page[-1]) == 0)

    @property
    def height_in_motion(self) -> int:
        """How many of the last lines may still change: from the cursor, or as far up as it has been seen to jump."""
        base = self._dropped + len(self._done)
        settled = base + min(self._row, len(self._page) - 1 - self._highest_jump)
        return max(0, self.end - max(base, settled))

    def picture(self) -> ConsolePicture:
        """Everything kept, as a frozen value."""
        page = [cells.freeze() for cells in self._page]
        lines = (*self._done, *(page if len(self._page[-1]) else page[:-1]))
        return ConsolePicture(lines, self._dropped, self.end - self.height_in_motion)

    def plain_lines(self, start: int = 0) -> tuple[int, list[str]]:
        """(number of the first line returned, texts) from line `start` on, or from the oldest line kept."""
        picture = self.picture()
        first = min(max(start, picture.first), picture.end)
        return first, [plain(line) for line in picture.lines[first - picture.first :]]

    # --- what comes in

    def feed(self, data: bytes) -> None:
        """Interpret the next bytes; they may end anywhere, within a character or an escape sequence too."""
        text = self._torn + self._decoder.decode(data)
        self._torn = ""
        if "\r\n" in text:
            text = text.replace("\r\n", "\n")
        at = 0
        while at < len(text):
            if self._string is not None:
                at = self._skip_string(text, at)
                continue
            control = _CONTROL.search(text, at)
            stop = control.start() if control else len(text)
            if stop > at:
                self._write(text[at:stop])
            at = self._control(text, stop) if control else stop

    def note(self, text: str) -> None:
        """Add a line of our own, in a style that no program's line begins with by chance."""
        self._row = len(self._page) - 1
        if len(self._page[-1]):
            self._line_feed()
        self._page[-1].write(0, text, NOTE, False)
        self._line_feed()

    # --- text

    def _write(self, text: str) -> None:
        """Text whose only control characters are line feeds."""
        if "\n" not in text:
            self._put(text)
            return
        parts = text.split("\n")
        self._put(parts[0])
        rest = parts[1:]
        if len(rest) > 2 * self._rows and self._row == len(self._page) - 1 and self._style == PLAIN:
            self._scroll_whole(rest[: -self._rows])
            rest = rest[-self._rows :]
        for part in rest:
            self._line_feed()
            if part:
                self._put(part)

    def _put(self, text: str) -> None:
        if text:
            simple = text.isascii() or _NOT_SIMPLE.search(text) is None
            self._column = self._page[self._row].write(self._column, text, self._style, simple)

    def _line_feed(self) -> None:
        self._column = 0
        self._row += 1
        if self._row < len(self._page):
            return
        self._page.append(Cells())
        if len(self._page) > self._rows:
            self._keep([self._page.pop(0).freeze()])
            self._row -= 1

    def _scroll_whole(self, texts: Sequence[str]) -> None:
        """Many plain lines at once: the page and all of them but the last go straight into the history."""
        self._keep([cells.freeze() for cells in self._page])
        *texts, last = texts
        if len(texts) > self._max_lines:
            self._dropped += len(texts) - self._max_lines
            texts = texts[-self._max_lines :]
        self._keep(
            [((text, PLAIN),) if "" < text[-1:] != " " and len(text) < 256 else plain_line(text) for text in texts]
        )
        self._page, self._row, self._column = [Cells()], 0, 0
        self._put(last)

    def _keep(self, lines: Sequence[Line]) -> None:
        self._done.extend(lines)
        self._chars += sum([_weight(line) for line in lines])
        while len(self._done) > self._max_lines or self._chars > self._max_chars:
            self._chars -= _weight(self._done.popleft())
            self._dropped += 1

    # --- control characters

    def _control(self, text: str, at: int) -> int:
        """Obey or swallow the control at `at`; returns where to go on."""
        char = text[at]
        if char == "\x1b":
            return self._escape(text, at)
        if char == "\r":
            self._column = 0
        elif char == "\b":
            self._column = max(0, self._column - 1)
        elif char == "\t":
            self._column = min(MAX_COLUMNS, (self._column // _TAB + 1) * _TAB)
        elif char in "\x0b\x0c":
            self._line_feed()
        return at + 1

    def _escape(self, text: str, at: int) -> int:
        match = _CSI.match(text, at)
        if match is not None:
            if not match[2] and match[1][:1] not in ("<", "=", ">", "?"):
                self._sequence(match[3], match[1])
            return match.end()
        kind = text[at + 1 : at + 2]
        if kind and kind in "]PX^_":
            self._string = _TITLE_END if kind == "]" else _DEVICE_END
            self._string_length = 0
            return at + 2
        short = _SHORT.match(text, at)
        if short is not None and kind != "[":
            if kind == "c":
                self._fresh_page()
            return short.end()
        if _TORN.match(text, at):
            self._torn = text[at:]
            return len(text)
        return at + (2 if kind == "[" else 1)

    def _skip_string(self, text: str, at: int) -> int:
        """Swallow a title or device string up to its end, which may come with later bytes."""
        assert self._string is not None
        match = self._string.search(text, at)
        if match is not None:
            self._string = None
            return match.end()
        self._string_length += len(text) - at
        if self._string_length > _STRING_LIMIT:
            self._string = None
        elif text.endswith("\x1b"):
            self._torn = "\x1b"
        return len(text)

    # --- control sequences

    def _sequence(self, final: str, parameters: str) -> None:
        if final == "m":
            self._style = styled(self._style, parameters)
            return
        numbers = [int(field) if field.isdigit() and len(field) < 6 else 0 for field in parameters.split(";")]
        count = max(1, numbers[0])
        if final in "AF":
            self._up(count)
        elif final in "BE":
            self._row = min(self._row + count, len(self._page) - 1)
        elif final == "C":
            self._column = min(self._column + count, MAX_COLUMNS)
        elif final == "D":
            self._column = max(0, self._column - count)
        elif final in "G`":
            self._column = min(count - 1, MAX_COLUMNS)
        elif final in "Hf":
            self._go(count - 1, max(1, numbers[1] if len(numbers) > 1 else 1) - 1)
        elif final == "K":
            self._erase_line(numbers[0])
        elif final == "J":
            self._erase_display(numbers[0])
        if final in "EF":
            self._column = 0

    def _up(self, count: int) -> None:
        self._row = max(0, self._row - count)
        self._highest_jump = max(self._highest_jump, len(self._page) - 1 - self._row)

    def _go(self, row: int, column: int) -> None:
        row = min(row, self._rows - 1)
        while len(self._page) <= row:
            self._page.append(Cells())
        self._row, self._column = row, min(column, MAX_COLUMNS)
        self._highest_jump = max(self._highest_jump, len(self._page) - 1 - row)

    def _erase_line(self, which: int) -> None:
        cells = self._page[self._row]
        if which == 0:
            cells.erase(self._column, max(self._column, len(cells)))
        elif which == 1:
            cells.erase(0, self._column + 1)
        elif which == 2:
            cells.erase(0, len(cells))

    def _erase_display(self, which: int) -> None:
        if which in (2, 3):
            self._fresh_page()
        elif which == 0:
            self._erase_line(0)
            del self._page[self._row + 1 :]

    def _fresh_page(self) -> None:
        """A cleared screen: what was on it stays above, as history."""
        page = [cells.freeze() for cells in self._page]
        while page and not page[-1]:
            page.pop()
        self._keep(page)
        self._page, self._row, self._column, self._highest_jump = [Cells()], 0, 0, 0
