"""console.log on a disk that refuses, and the last lines as people would have seen them."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from wavedeck.remote.payload.console_log import LINE_LENGTH, TAIL_LINES, ConsoleLog, Tail
from wavedeck.remote.payload.json_lines import JsonLines
from wavedeck.remote.payload.records import ReservedRecord, read_json, take_environment


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def only_1000_bytes() -> Iterator[None]:
    """Files of this process may not grow past 1000 bytes: a full disk without being root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def allow(count: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_lost_bytes_are_counted_and_named_where_they_are_missing(tmp_path: Path, only_1000_bytes: None) -> None:
    clock = Clock()
    log = ConsoleLog(str(tmp_path / "console.log"), clock)
    log.write(b"a" * 900)
    log.write(b"b" * 300)
    log.write(b"c" * 50)
    assert log.lost_bytes == 250
    allow(100_000)
    log.write(b"d")  # too soon after the failure: the disk is left alone
    clock.now = 1.0
    log.write(b"e" * 10)
    log.close()
    expected = b"a" * 900 + b"b" * 100 + b"\r\n[wavedeck: 251 bytes of output are missing here: File too large]\r\n"
    assert (tmp_path / "console.log").read_bytes() == expected + b"e" * 10


def test_closing_still_says_what_is_missing(tmp_path: Path, only_1000_bytes: None) -> None:
    log = ConsoleLog(str(tmp_path / "console.log"))
    log.write(b"a" * 1500)
    allow(100_000)
    log.close()
    assert b"500 bytes of output are missing" in (tmp_path / "console.log").read_bytes()


def test_a_log_that_cannot_be_opened_is_opened_later(tmp_path: Path) -> None:
    clock = Clock()
    log = ConsoleLog(str(tmp_path / "later" / "console.log"), clock)
    log.write(b"lost")
    (tmp_path / "later").mkdir()
    clock.now = 1.0
    log.write(b"kept")
    log.close()
    assert (tmp_path / "later" / "console.log").read_bytes().endswith(b"]\r\nkept")


def test_the_tail_is_bounded_in_memory_lines_and_length() -> None:
    tail = Tail()
    for number in range(5000):
        tail.feed(b"line %d\n" % number)
    tail.feed(b"x" * 10_000)
    lines = tail.lines()
    assert len(lines) == TAIL_LINES and lines[-2] == "line 4999"
    assert len(lines[-1]) == LINE_LENGTH and lines[-1].endswith("…")


def test_the_tail_has_no_control_characters() -> None:
    tail = Tail()
    tail.feed(b"\x1b[1;31mred\x1b[0m\x07 \x1b]0;title\x07plain\xff\x00\n10%\r50%\r100%\n\n\n\x1b[2K\n\ttab")
    assert tail.lines() == ["red plain�", "100%", "    tab"]


def test_a_reserved_record_can_be_written_when_nothing_else_can(tmp_path: Path) -> None:
    record = ReservedRecord(str(tmp_path / "exit.json"), "0001")
    assert [path.name for path in tmp_path.iterdir()] == [".exit.json.0001.reserved"]
    record.write({"exit_code": 3, "tail": ["ü" * 100]})
    assert [path.name for path in tmp_path.iterdir()] == ["exit.json"]
    assert read_json(str(tmp_path / "exit.json")) == {"exit_code": 3, "tail": ["ü" * 100]}
    record.write({"exit_code": 4})
    assert read_json(str(tmp_path / "exit.json")) == {"exit_code": 4}


def test_an_environment_is_taken_once_and_gone(tmp_path: Path) -> None:
    path = tmp_path / ".env-0001"
    path.write_text('{"KEY": "value"}')
    assert take_environment(str(path)) == {"KEY": "value"}
    assert not path.exists() and take_environment(str(path)) is None
    path.write_text("no json")
    assert take_environment(str(path)) is None and not path.exists()


def test_json_lines_close_a_torn_line_and_count_what_is_lost(tmp_path: Path, only_1000_bytes: None) -> None:
    path = tmp_path / "machine.jsonl"
    path.write_bytes(b'{"t":1}\n{"t":')
    lines = JsonLines(str(path))
    lines.append([{"t": 2.0}, {"bad": float("nan")}])
    assert path.read_bytes() == b'{"t":1}\n{"t":\n{"t":2.0}\n' and lines.lost_lines == 1
    lines.append([{"fill": "x" * 2000}])
    allow(100_000)
    lines.append([{"t": 3.0}])
    assert path.read_bytes().endswith(b'x\n{"t":3.0}\n') and lines.lost_lines == 2
