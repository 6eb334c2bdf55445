"""`backup.jsonl`: what its lines come to, and what a torn one costs."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedeck.engine.backup.copies import (
    BAD,
    HERE,
    NOTE,
    REMOVED,
    SECOND,
    VERIFIED,
    CopyLine,
    Folding,
    append_copy,
    copy_line,
    read_copies,
)
from wavedeck.engine.rundir import RunDir
from wavedeck.tests.engine.backup.made import ckpt, copies_of, sha


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def put(run: RunDir, step: int, event: str = VERIFIED, place: str = HERE) -> CopyLine:
    line = copy_line(ckpt(step), place, event, 1.0 + step)
    append_copy(run, line)
    return line


def test_no_file_is_no_copy(run: RunDir) -> None:
    copies = read_copies(run)
    assert not copies.verified() and not copies.bad() and copies.holds(ckpt(1)) is None and copies.notes == ()


def test_the_last_event_of_each_place_counts(run: RunDir) -> None:
    first, second = put(run, 1), put(run, 2)
    put(run, 1, place=SECOND)
    assert dict(read_copies(run).verified()) == {first.name: first, second.name: second}
    put(run, 1, REMOVED)
    copies = read_copies(run)
    assert list(copies.verified()) == [second.name] and list(copies.verified(SECOND)) == [first.name]
    put(run, 2, BAD)
    copies = read_copies(run)
    assert not copies.verified() and list(copies.bad()) == [second.name] and copies.tries(ckpt(2)) == 1
    put(run, 2, BAD)
    assert read_copies(run).tries(ckpt(2)) == 2
    put(run, 2)
    copies = read_copies(run)
    assert list(copies.verified()) == [second.name] and not copies.bad() and copies.tries(ckpt(2)) == 0


def test_another_content_of_a_name_is_another_checkpoint(run: RunDir) -> None:
    put(run, 1)
    other = msgspec.structs.replace(ckpt(1), sha256=sha("other"))
    assert read_copies(run).holds(ckpt(1)) is not None and read_copies(run).holds(other) is None
    assert read_copies(run).holds(msgspec.structs.replace(ckpt(1), bytes=11)) is None
    append_copy(run, copy_line(other, HERE, BAD, 9.0))  # the new content came torn: the old file is still what it was
    assert read_copies(run).holds(ckpt(1)) is not None


def test_notes_and_unknown_events_change_nothing(run: RunDir) -> None:
    put(run, 1)
    put(run, 1, NOTE)
    put(run, 1, "blessed")
    copies = read_copies(run)
    assert copies.holds(ckpt(1)) is not None and [line.event for line in copies.notes] == [NOTE, "blessed"]


def test_a_name_that_leaves_its_directory_is_no_copy(run: RunDir) -> None:
    for name in ("../x", "a/b", "manifest.jsonl", "", "-rf"):
        append_copy(run, msgspec.structs.replace(copy_line(ckpt(1), HERE, VERIFIED, 1.0), name=name))
    assert not read_copies(run).verified()


def test_a_tail_torn_at_any_byte_is_not_yet_and_costs_no_other_line(run: RunDir) -> None:
    first = put(run, 1)
    whole = run.backup.read_bytes()
    put(run, 2)
    both = run.backup.read_bytes()
    for cut in range(len(whole), len(both)):
        run.backup.write_bytes(both[:cut])
        assert list(read_copies(run).verified()) == [first.name], cut
        third = put(run, 3)
        expected = [first.name, ckpt(2).name] if cut == len(both) - 1 else [first.name]
        assert list(read_copies(run).verified()) == [*expected, third.name], cut


def test_garbage_between_lines_is_left_out(run: RunDir) -> None:
    put(run, 1)
    with open(run.backup, "ab") as file:
        file.write(b'{"t":1}\n\xff\xfe\n[]\n\n')
    put(run, 2)
    assert len(read_copies(run).verified()) == 2


def test_a_full_disk_is_an_error_and_the_next_line_is_whole(run: RunDir) -> None:
    put(run, 1)
    room = run.backup.stat().st_size + 20
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        with pytest.raises(OSError):
            put(run, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert run.backup.stat().st_size == room, "the write was cut short"
    assert list(read_copies(run).verified()) == [ckpt(1).name]
    put(run, 3)
    assert list(read_copies(run).verified()) == [ckpt(1).name, ckpt(3).name]


def test_each_line_is_synced_before_append_returns(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(os.fstat(descriptor).st_ino), real(descriptor)))
    put(run, 1)
    assert run.backup.stat().st_ino in synced and run.path.stat().st_ino in synced


events = st.tuples(
    st.sampled_from([1, 2, 3]), st.sampled_from([HERE, SECOND]), st.sampled_from([VERIFIED, BAD, REMOVED, NOTE])
)


@given(st.lists(events, max_size=30))
@settings(max_examples=150)
def test_what_holds_is_what_was_verified_after_all_that_took_it_back(told: list[tuple[int, str, str]]) -> None:
    folding = Folding()
    for step, place, event in told:
        folding.take(copy_line(ckpt(step), place, event, 1.0))
    copies = folding.copies()
    for step in (1, 2, 3):
        for place in (HERE, SECOND):
            of_it = [event for at, where, event in told if (at, where) == (step, place) and event != NOTE]
            assert (copies.holds(ckpt(step), place) is not None) == (of_it[-1:] == [VERIFIED])
            assert (ckpt(step).name in copies.bad(place)) == (of_it[-1:] == [BAD])


def test_folding_many_lines_needs_no_second_look() -> None:
    assert len(copies_of([ckpt(step) for step in range(10_000)]).verified()) == 10_000
