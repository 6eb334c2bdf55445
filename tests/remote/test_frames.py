"""Frames from a machine that may be broken or hostile: whole ones are found wherever the stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedeck.remote.frames import HEADER_BYTES, PAYLOAD_BYTES, FrameReader, ProtocolError, frame

OPS = st.lists(st.tuples(st.sampled_from(["data", "record", "pong"]), st.binary(max_size=300)), max_size=12)


@given(OPS, st.data())
def test_frames_survive_any_cut(wanted: list[tuple[str, bytes]], data: st.DataObject) -> None:
    stream = b"".join(frame(op, payload, file="events.jsonl") for op, payload in wanted)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    reader, found = FrameReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert [(header["op"], payload) for header, payload in found] == wanted


@pytest.mark.parametrize(
    "line",
    [
        b"[1]\n",
        b"no json\n",
        b'{"n": 3}\n',
        b'{"op": "data", "n": -1}\n',
        b'{"op": "data", "n": true}\n',
        b'{"op": "data", "n": 1e3}\n',
        b'{"op": "data", "n": %d}\n' % (PAYLOAD_BYTES + 1),
        b'{"op": 7}\n',
        b'{"op": "x", "text": "' + b"a" * HEADER_BYTES + b'"}\n',
        b"[" * 5000 + b"\n",
        b"\xff\xfe\n",
    ],
)
def test_nonsense_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        FrameReader().feed(line)


def test_a_line_without_end_costs_no_memory() -> None:
    reader, sent = FrameReader(), 0
    with pytest.raises(ProtocolError, match="without an end"):
        while sent < 10 << 30:  # ten gigabytes, if anybody listened that long
            reader.feed(b"x" * 65536)
            sent += 65536
    assert sent <= 2 * 65536


@given(st.binary(max_size=2000))
def test_any_bytes_are_frames_or_an_error(data: bytes) -> None:
    reader = FrameReader()
    try:
        frames = reader.feed(data)
    except ProtocolError:
        return
    assert all(isinstance(header["op"], str) for header, _ in frames)


def test_what_is_too_large_is_never_sent() -> None:
    with pytest.raises(ValueError):
        frame("run", b"x" * (PAYLOAD_BYTES + 1))
    with pytest.raises(ValueError):
        frame("run", argv=["x" * HEADER_BYTES])
