"""Appends JSON lines and survives a full disk: what does not fit is dropped, never waited for."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Optional, Sequence


class JsonLines:
    """One file of JSON lines, opened when first written to; a torn last line is closed with a newline first."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: Optional[int] = None
        self._torn = False
        self.lost_lines = 0

    def append(self, records: Sequence[Dict[str, Any]]) -> None:
        """Append all records in one write. Records that do not fit, or are not strict JSON, are counted as lost."""
        lines = []
        for record in records:
            try:
                lines.append(json.dumps(record, separators=(",", ":"), allow_nan=False))
            except (TypeError, ValueError):
                self.lost_lines += 1
        if not lines:
            return
        data = ("\n".join(lines) + "\n").encode("utf-8", "replace")
        try:
            descriptor = self._open()
            if self._torn:
                os.write(descriptor, b"\n")
                self._torn = False
            written = os.write(descriptor, data)
        except OSError:
            self.lost_lines += len(lines)
            return
        if written < len(data):
            self._torn = True
            self.lost_lines += len(lines) - data[:written].count(b"\n")

    def close(self) -> None:
        """Close the file; a later `append` opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o644)
            size = os.fstat(self._descriptor).st_size
            self._torn = bool(size) and os.pread(self._descriptor, 1, size - 1) != b"\n"
        return self._descriptor
