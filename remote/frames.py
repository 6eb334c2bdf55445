"""The agent's frames as this side reads and writes them: a line of JSON, then as many raw bytes as it says.

Everything read here comes from a machine that may be broken or hostile, so a header and a payload are bounded before
they are believed.
"""

from __future__ import annotations

from typing import Any

import msgspec

HEADER_BYTES = 64 << 10
PAYLOAD_BYTES = 1 << 20


class ProtocolError(Exception):
    """The other side said something that is no frame; the sentence says what."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def frame(op: str, data: bytes = b"", **fields: Any) -> bytes:
    """One frame, ready to be written.

    Raises
    ------
    ValueError: header or payload are larger than the protocol allows.
    """
    header = {"op": op, **fields}
    if data:
        header["n"] = len(data)
    line = _encode(header) + b"\n"
    if len(line) > HEADER_BYTES or len(data) > PAYLOAD_BYTES:
        raise ValueError(f"frame {op} is too large: {len(line)} + {len(data)} bytes")
    return line + data


class FrameReader:
    """Cuts a stream of bytes, given in pieces of any size, into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._header: dict[str, Any] | None = None
        self._wanted = 0

    def feed(self, data: bytes) -> list[tuple[dict[str, Any], bytes]]:
        """The frames that are whole now, in order.

        Raises
        ------
        ProtocolError: a header that is no JSON object or is too long, or a payload that is too large.
        """
        self._buffer += data
        found: list[tuple[dict[str, Any], bytes]] = []
        start = 0
        while True:
            if self._header is None:
                end = self._buffer.find(b"\n", max(start, self._searched))
                if end < 0:
                    self._searched = len(self._buffer)
                    if len(self._buffer) - start > HEADER_BYTES:
                        raise ProtocolError("a line without an end")
                    break
                if end - start > HEADER_BYTES:
                    raise ProtocolError("a header that is too long")
                self._header, self._wanted = _header(bytes(self._buffer[start:end]))
                start = self._searched = end + 1
            if len(self._buffer) - start < self._wanted:
                break
            payload = bytes(self._buffer[start : start + self._wanted])
            start += self._wanted
            found.append((self._header, payload))
            self._header, self._searched = None, start
        if start:
            del self._buffer[:start]
            self._searched = max(0, self._searched - start)
        return found


def _header(line: bytes) -> tuple[dict[str, Any], int]:
    try:
        header = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"a header that is no JSON object ({error})") from None
    count = header.get("n", 0)
    if type(count) is not int or not 0 <= count <= PAYLOAD_BYTES or type(header.get("op")) is not str:
        raise ProtocolError("a header without an operation, or with an impossible length")
    return header, count
