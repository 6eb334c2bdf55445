"""Console bytes as a terminal would show them (pyte is the oracle), and files of any size."""

from __future__ import annotations

import os
import time
import unicodedata
from pathlib import Path

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyte import modes

from wavedeck.engine.console import PLAIN, ConsolePicture, ConsoleReader, TerminalLog, TextStyle, plain
from wavedeck.engine.console.lines import MAX_COLUMNS, char_width
from wavedeck.engine.console.sgr import styled
from wavedeck.engine.console.terminal import _CONTROL, _NOT_SIMPLE

RECORDINGS = Path(__file__).parents[1] / "recordings" / "console"


def shown(data: bytes | str, **options: int) -> list[str]:
    log = TerminalLog(**options)
    log.feed(data.encode() if isinstance(data, str) else data)
    return log.plain_lines()[1]


def texts(picture: ConsolePicture) -> list[str]:
    return [plain(line) for line in picture.lines]


# --- the oracle

PIECES = st.one_of(
    st.text(alphabet="abcXYZ 019=.█é", min_size=1, max_size=9),
    st.sampled_from(["\r", "\n", "\r\n", "\b", "\x1b[K", "\x1b[1K", "\x1b[2K", "\x1b[A", "\x1b[2A", "\t"]),
    st.sampled_from(
        ["\x1b[31m", "\x1b[1;44m", "\x1b[0m", "\x1b[38;5;208m", "\x1b[7m", "\x1b[27m", "\x1b[m", "\x1b[22;39m"]
    ),
)
ROWS, COLUMNS = 12, 400


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=40), st.integers(1, 9))
def test_a_stream_looks_as_a_terminal_shows_it(pieces: list[str], size: int) -> None:
    text = "".join(pieces)
    screen = pyte.Screen(COLUMNS, ROWS)
    screen.set_mode(modes.LNM)
    pyte.Stream(screen).feed(text)
    oracle = [line.rstrip() for line in screen.display]
    while oracle and not oracle[-1]:
        oracle.pop()
    log = TerminalLog(rows=ROWS)
    data = text.encode()
    for at in range(0, len(data), size):
        log.feed(data[at : at + size])
    ours = [line.rstrip() for line in log.plain_lines()[1]]
    while ours and not ours[-1]:
        ours.pop()
    count = len(log._page)
    assert ours[max(0, len(log._done)) :] == oracle[:count]
    for y, line in enumerate(log.picture().lines[len(log._done) :]):
        column = 0
        for part, style in line:
            for char in part:
                cell = screen.buffer[y][column]
                if char != " ":
                    assert (cell.data, cell.bold, cell.reverse) == (char, style.bold, style.reverse)
                    assert (cell.fg == "default") == (style.fg is None) and (cell.bg == "default") == (style.bg is None)
                column += 1


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(st.binary(max_size=300), st.lists(PIECES, max_size=30).map(lambda p: "".join(p).encode())),
    st.integers(1, 9),
)
def test_any_chunking_gives_the_same_lines_and_nothing_raises(data: bytes, size: int) -> None:
    whole, pieces = TerminalLog(rows=5), TerminalLog(rows=5)
    whole.feed(data)
    for at in range(0, len(data), size):
        pieces.feed(data[at : at + size])
    assert whole.picture() == pieces.picture()
    for line in whole.picture().lines:
        assert not any(unicodedata.category(char) in ("Cc", "Cf") for char in plain(line))


def test_format_characters_are_left_out() -> None:
    assert shown(" \u070f a\u202eb\u200d\n".encode()) == ["  ab"]


# --- what a terminal does


def test_a_progress_bar_is_its_last_state() -> None:
    assert shown("start\r\n\r 1%|   | 1/100\r 50%|#  | 50/100\rdone\x1b[K\r\n") == ["start", "done"]


def test_nested_bars_stay_on_their_lines() -> None:
    lines = shown((RECORDINGS / "tqdm_nested.txt").read_bytes())
    assert lines[0].startswith("Epochs:  50%") and lines[1].startswith("batches: 100%") and len(lines) == 2


def test_colours_are_kept_as_values() -> None:
    log = TerminalLog()
    log.feed(b"\x1b[31mred\x1b[0m \x1b[1;38;5;208morange\x1b[22m \x1b[38;2;1;2;3;48:2::4:5:6mtrue\x1b[m end\r\n")
    (line,) = log.picture().lines
    assert line == (
        ("red", TextStyle(fg=1)),
        (" ", PLAIN),
        ("orange", TextStyle(fg=208, bold=True)),
        (" ", TextStyle(fg=208)),
        ("true", TextStyle(fg=(1, 2, 3), bg=(4, 5, 6))),
        (" end", PLAIN),
    )


@pytest.mark.parametrize(
    ("parameters", "style"),
    [
        ("", PLAIN),
        ("0", PLAIN),
        ("3;4;9", TextStyle(italic=True, underline=True, strike=True)),
        ("95;103", TextStyle(fg=13, bg=11)),
        ("38;5", PLAIN),
        ("38;5;999", PLAIN),
        ("38;2;1;2", PLAIN),
        ("99999999999999", PLAIN),
        ("38;5;7;1", TextStyle(fg=7, bold=True)),
        ("4:3", TextStyle(underline=True)),
    ],
)
def test_sgr_parameters(parameters: str, style: TextStyle) -> None:
    assert styled(PLAIN, parameters) == style


@pytest.mark.parametrize(
    "junk",
    [
        "\x1b]0;owned\x07",
        "\x1b]0;owned\x1b\\",
        "\x1b]8;;http://example.org\x1b\\",
        "\x1bPq#0;2;0\x1b\\",
        "\x1b[?1049h",
        "\x1b[?1000h\x1b[?25l",
        "\x1b[>c\x1b[6n\x1b[5i",
        "\x1b(0\x1b=\x1b7\x1b8",
        "\x07\x00\x7f\x0e\x0f",
        "\x9b\x84\x9d",
        "\x1b[12;40r\x1b[1;1;1q",
        "\u202e\u2066\u200b\ufeff\xad",
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_everything_else_is_swallowed_in_any_pieces(junk: str, size: int) -> None:
    data = f"before{junk}after\r\n".encode()
    log = TerminalLog()
    for at in range(0, len(data), size):
        log.feed(data[at : at + size])
    assert log.plain_lines()[1] == ["beforeafter"]
    assert all(style == PLAIN for line in log.picture().lines for _, style in line)


def test_an_unfinished_title_ends_with_its_line() -> None:
    assert shown("\x1b]0;title without an end\nnext\n") == ["", "next"]


def test_a_device_string_without_an_end_is_given_up() -> None:
    log = TerminalLog()
    log.feed(b"\x1bPq")
    for _ in range(20):
        log.feed(b"x" * 100_000)
    log.feed(b"\r\nback\r\n")
    assert log.plain_lines()[1][-1] == "back"


def test_a_cleared_screen_is_a_fresh_page_and_history_stays() -> None:
    assert shown("one\ntwo\n\x1b[2J\x1b[Hthree\n\x1b[H\x1b[JTHREE\n") == ["one", "two", "THREE"]
    assert shown("one\n\x1bctwo\n") == ["one", "two"]


def test_the_cursor_cannot_reach_history() -> None:
    lines = shown("".join(f"line {i}\n" for i in range(50)) + "\x1b[999Atop\r\n", rows=10)
    assert lines[:41] == [f"line {i}" for i in range(41)] and lines[41] == "tope 41"


def test_markup_is_text() -> None:
    assert shown("[red]not red[/red] [@click=app.quit]x[/]\n") == ["[red]not red[/red] [@click=app.quit]x[/]"]


def test_invalid_utf8_is_shown_as_such() -> None:
    assert shown(b"a\xff\xfeb\n") == ["a\ufffd\ufffdb"]


def test_wide_and_combining_characters_keep_their_columns() -> None:
    assert shown("日本語\rab\n") == ["ab本語"]
    assert shown("日本語\r\x1b[Cx\n") == [" x本語"]
    assert shown("e\u0301x\by\n") == ["e\u0301y"]
    assert len(shown("a" + "\u0301" * 500 + "\rb\u0301\n")[0]) <= 12


def test_every_character_that_is_not_one_cell_takes_the_careful_path() -> None:
    for code in range(0x20, 0x110000):
        char = chr(code)
        if unicodedata.category(char) not in ("Cn", "Cs", "Co") and char_width(char) != 1:
            assert _NOT_SIMPLE.match(char) or _CONTROL.match(char), hex(code)


# --- bounds


def test_history_is_bounded_and_lines_keep_their_numbers() -> None:
    log = TerminalLog(max_lines=100, rows=5)
    for i in range(1000):
        log.feed(b"line %d\r\n" % i)
    picture = log.picture()
    assert picture.end == 1000 and picture.first == 1000 - len(picture.lines) and 100 <= len(picture.lines) <= 105
    assert texts(picture)[0] == f"line {picture.first}"
    bulk = TerminalLog(max_lines=100, rows=5)
    bulk.feed(b"".join(b"line %d\r\n" % i for i in range(1000)))
    assert bulk.picture() == picture


def test_characters_are_bounded_too() -> None:
    log = TerminalLog(rows=5, max_chars=10_000)
    for i in range(500):
        log.feed(b"%05d" % i + b"x" * 1000 + b"\n")
    picture = log.picture()
    assert picture.end == 500 and sum(len(text) for text in texts(picture)) < 16_000


def test_a_line_without_an_end_is_cut_with_a_mark() -> None:
    log = TerminalLog()
    for _ in range(100):
        log.feed(b"x" * 10_000)
    log.feed(b"\r\nnext\r\n")
    first, second = log.plain_lines()[1]
    assert first == "x" * MAX_COLUMNS + " … line cut" and second == "next"
    assert shown("x" * 9000 + "\r\x1b[Kshort\n") == ["short"]


def test_what_may_still_change_is_known() -> None:
    log = TerminalLog()
    log.feed(b"one\r\ntwo\r\n")
    assert log.height_in_motion == 0
    log.feed(b"thr")
    assert log.height_in_motion == 1 and log.picture().settled == 2
    log.feed(b"ee\r\nfour\x1b[A\r\nfive\r\n")
    assert log.height_in_motion >= 1


# --- files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "console.log"


def test_a_missing_file_is_a_state(path: Path) -> None:
    reader = ConsoleReader(path)
    assert not reader.poll() and reader.picture().missing
    path.write_bytes(b"hello\r\n")
    assert reader.poll() and not reader.picture().missing and texts(reader.picture()) == ["hello"]
    path.unlink()
    assert reader.poll() and reader.picture().missing and not reader.poll()


def test_a_large_file_opens_by_its_end(path: Path) -> None:
    path.write_bytes(b"".join(b"line %07d %s\n" % (i, b"x" * 51) for i in range(200_000)))
    began = time.process_time()
    reader = ConsoleReader(path)
    while reader.poll() and reader.more:
        pass
    assert time.process_time() - began < 1.0
    picture = reader.picture()
    lines = texts(picture)
    assert lines[-1].startswith("line 0199999") and lines[0].startswith("line ")
    assert picture.earlier_bytes == path.stat().st_size - 65 * len(lines) > 12_000_000


def test_appended_bytes_are_followed_within_the_budget(path: Path) -> None:
    path.write_bytes(b"one\n")
    reader = ConsoleReader(path)
    assert reader.poll()
    assert not reader.poll()
    with path.open("ab") as handle:
        handle.write(b"x" * 500 + b"\n")
    assert reader.poll(budget=100) and reader.more
    assert len(texts(reader.picture())[-1]) == 100
    while reader.more:
        reader.poll(budget=100)
    assert texts(reader.picture()) == ["one", "x" * 500]


def test_a_flood_is_skipped_and_said(path: Path) -> None:
    path.write_bytes(b"start\n")
    reader = ConsoleReader(path)
    reader.poll()
    with path.open("ab") as handle:
        handle.write(b"".join(b"flood %08d\n" % i for i in range(1_000_000)))
    while reader.poll() and reader.more:
        pass
    lines = texts(reader.picture())
    assert lines[0] == "start" and lines[-1] == "flood 00999999"
    assert lines[1].startswith("… ") and lines[1].endswith(" skipped …") and "MiB" in lines[1]
    assert lines[2].startswith("flood ") and len(lines[2]) == 14


@pytest.mark.parametrize("how", ["truncate", "replace", "rewrite"])
def test_truncation_and_replacement_are_seen(path: Path, how: str) -> None:
    path.write_bytes(b"old line one\nold line two\n")
    reader = ConsoleReader(path)
    reader.poll()
    if how == "replace":
        other = path.with_name("other")
        other.write_bytes(b"old line one\nold line two\nnew\n")
        os.replace(other, path)
    else:
        path.write_bytes(b"new\n" if how == "truncate" else b"new lines that are longer than the old ones\nnew\n")
    assert reader.poll()
    lines = texts(reader.picture())
    assert "— the console was replaced; what follows is new —" in lines and lines[-1] == "new"


def test_searching_backwards_in_bounded_stretches(path: Path) -> None:
    path.write_bytes(
        b"Needle one\r\n" + b"hay\r\n" * 500_000 + b"\x1b[31mneedle two\x1b[0m here\r\n" + b"hay\r\n" * 1000
    )
    reader = ConsoleReader(path)
    found = reader.find("needle")
    assert found.offset is not None and found.line == "needle two here"
    stretch = reader.find("needle", found.offset, limit_bytes=1_000_000)
    assert stretch.offset is None and stretch.searched_to == found.offset - 1_000_000
    steps = 0
    while stretch.offset is None and stretch.searched_to:
        stretch = reader.find("needle", stretch.searched_to, limit_bytes=1_000_000)
        steps += 1
    assert stretch.offset == 0 and stretch.line == "Needle one" and steps <= 3
    assert reader.find("Needle", found.offset).offset == 0 and reader.find("nothing").offset is None
    assert texts(reader.window(found.offset))[-1] == "hay"
    assert "needle two here" in texts(reader.window(found.offset))


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(alphabet="ab\n", max_size=60),
    needle=st.text(alphabet="ab", min_size=1, max_size=3),
    limit=st.integers(1, 20),
)
def test_no_match_is_missed_at_the_edge_of_a_stretch(
    tmp_path_factory: pytest.TempPathFactory, text: str, needle: str, limit: int
) -> None:
    path = tmp_path_factory.mktemp("find") / "console.log"
    path.write_text(text)
    reader, place = ConsoleReader(path), len(text)
    found = []
    while place > 0:
        match = reader.find(needle, place, limit_bytes=limit)
        place = match.searched_to
        if match.offset is not None:
            found.append(match.offset)
    assert found == [i for i in reversed(range(len(text))) if text.startswith(needle, i)]
