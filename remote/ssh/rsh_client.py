"""What rsync runs instead of `ssh`: hands its command and its pipes to a Wavedeck that has a connection already.

`python -I rsh_client.py SOCKET HOST COMMAND…`. Standard library only. See `rsh`.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import threading

FAILED = 255
"""As `ssh` says that the connection failed."""
HEAD = struct.Struct(">BI")
OUT, ERR, EXIT = 1, 2, 3
_PIECE = 256 << 10


def main(words: list[str]) -> int:
    """Relay until the command has ended; its exit status."""
    if len(words) < 3:
        sys.stderr.write("usage: rsh_client.py SOCKET HOST COMMAND...\n")
        return FAILED
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        line.connect(words[0])
        line.sendall(json.dumps({"command": words[2:]}).encode() + b"\n")
    except OSError as error:
        sys.stderr.write(f"wavedeck: the connection is gone ({error.strerror})\n")
        return FAILED
    threading.Thread(target=_send, args=(line,), daemon=True).start()
    try:
        return _receive(line)
    except BrokenPipeError:  # rsync has ended
        return FAILED
    except OSError as error:
        sys.stderr.write(f"wavedeck: the connection was lost ({error.strerror})\n")
        return FAILED


def _send(line: socket.socket) -> None:
    try:
        while data := _read():
            line.sendall(data)
        line.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def _receive(line: socket.socket) -> int:
    stream = line.makefile("rb", buffering=_PIECE)
    while True:
        head = stream.read(HEAD.size)
        if len(head) < HEAD.size:
            sys.stderr.write("wavedeck: the connection was lost\n")
            return FAILED
        kind, length = HEAD.unpack(head)
        if kind == EXIT:
            return length & 0xFF
        data = stream.read(length)
        if len(data) < length:
            return FAILED
        _write(1 if kind == OUT else 2, data)


# rsync hands over pipes that do not block; they are left so, because others may hold them as well.


def _read() -> bytes:
    while True:
        try:
            return os.read(0, _PIECE)
        except BlockingIOError:
            select.select([0], [], [])


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)  # the thread that reads standard input may wait for ever
