"""Reads a W&B offline file back, independently of W&B's own writer.

The file is LevelDB's log format (blocks of 32 KiB, records of crc, length and type) with a header of seven bytes; each
record is a protobuf message of the wandb package.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK = 32 * 1024
_HEADER = 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass
class Told:
    """What a W&B run was told: its id, configuration, rows of history and the folder of its files."""

    id: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    files: Path = Path()

    def column(self, name: str) -> list[Any]:
        """The values of one key, in order."""
        return [row[name] for row in self.rows if name in row]


def read_offline(folder: Path) -> Told:
    """The one offline run in a directory `offline-run-…`."""
    from wandb.proto import wandb_internal_pb2

    told = Told(files=folder / "files")
    for data in _records(next(folder.glob("*.wandb")).read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "run":
            told.id = record.run.run_id
            told.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif record.WhichOneof("record_type") == "config":
            for item in record.config.update:
                told.config[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        elif record.WhichOneof("record_type") == "history":
            told.rows.append(_row(record.history.item))
    return told


def _row(items: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for item in items:
        *outer, last = item.nested_key or [item.key]
        place = row
        for name in outer:
            place = place.setdefault(name, {})
        place[last] = json.loads(item.value_json)
    return row


def _records(data: bytes) -> Iterator[bytes]:
    assert data[:4] == b":W&B"
    place, parts = _HEADER, b""
    while place + _HEADER <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + _HEADER])
        if kind == 0:
            place += left
            continue
        part = data[place + _HEADER : place + _HEADER + length]
        place += _HEADER + length
        parts = part if kind in (_FULL, _FIRST) else parts + part
        if kind in (_FULL, _LAST):
            yield parts
