"""Reading what is still being written: torn tails, cuts at every byte, truncation, replacement, garbage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedeck.engine.events import decode_lines
from wavedeck.engine.journal import WHOLE, Budget, JournalReader

LINES = [
    json.dumps({"t": 1.5 * n, "k": "metrics", "step": n, "v": {"loss": "NaN" if n % 5 == 0 else n / 3, "ü": 1}})
    for n in range(40)
]
JOURNAL = ("\n".join(LINES) + "\n").encode()


def steps(path: Path) -> list[int | None]:
    return [event.step for event in JournalReader(path).poll(WHOLE).events]


def test_cut_at_every_byte_and_resumed_gives_the_same_rows(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for cut in range(len(JOURNAL) + 1):
        path.write_bytes(JOURNAL[:cut])
        reader = JournalReader(path)
        first = reader.poll(WHOLE)
        with open(path, "ab") as handle:
            handle.write(JOURNAL[cut:])
        second = reader.poll(WHOLE)
        assert not second.rewound
        assert [event.step for event in (*first.events, *second.events)] == list(range(40)), cut
        assert first.bad_lines == second.bad_lines == 0


@given(st.lists(st.integers(0, len(JOURNAL)), max_size=12), st.integers(1, 50))
@settings(deadline=None, max_examples=60)
def test_any_chunking_and_any_budget_give_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], records: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "events.jsonl"
    path.touch()
    reader, found = JournalReader(path), []
    edges = [0, *sorted(cuts), len(JOURNAL)]
    for start, end in zip(edges, edges[1:], strict=False):
        with open(path, "ab") as handle:
            handle.write(JOURNAL[start:end])
        found += reader.poll(Budget(records, 1.0)).events
    while reader.offset < len(JOURNAL):
        found += reader.poll(Budget(records, 1.0)).events
    assert [event.step for event in found] == list(range(40))


@given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([line.encode() for line in LINES])), max_size=30))
@settings(deadline=None)
def test_garbage_lines_are_counted_and_cost_no_good_line(blocks: list[bytes]) -> None:
    lines = [block.replace(b"\n", b" ") for block in blocks]
    good = sum(line in {text.encode() for text in LINES} for line in lines)
    events, _ = decode_lines(b"".join(line + b"\n" for line in lines))
    assert sum(event.k == "metrics" for event in events) >= good


def test_truncation_and_replacement_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(JOURNAL)
    reader = JournalReader(path)
    reader.poll(WHOLE)
    path.write_bytes((LINES[7] + "\n").encode())
    batch = reader.poll(WHOLE)
    assert batch.rewound and [event.step for event in batch.events] == [7]
    other = tmp_path / "other"
    other.write_bytes(JOURNAL + JOURNAL)
    other.replace(path)
    batch = reader.poll(WHOLE)
    assert batch.rewound and len(batch.events) == 80


def test_a_poll_is_bounded_and_says_that_there_is_more(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(JOURNAL * 2000)
    reader = JournalReader(path)
    batch = reader.poll(Budget(records=1000, seconds=10))
    assert batch.more and 1000 <= len(batch.events) < 10_000
    assert reader.poll(Budget(records=1, seconds=0.0)).events


def test_a_line_without_end_is_skipped_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"x" * (6 * 1024 * 1024))
    reader = JournalReader(path)
    assert reader.poll(WHOLE).events == []
    with open(path, "ab") as handle:
        handle.write(b"y" * 100 + b"\n" + (LINES[3] + "\n").encode())
    batch = reader.poll(WHOLE)
    assert [event.step for event in batch.events] == [3]


def test_a_missing_journal_is_empty(tmp_path: Path) -> None:
    assert JournalReader(tmp_path / "none").poll().events == []
