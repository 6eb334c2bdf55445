"""The deck's view of nvidia-smi: values from its output, sentences from its failures.

The parsing itself lives in the payload, because the run's host needs it too.
"""

from __future__ import annotations

import msgspec

from ..engine.machine import GpuReading
from .host import Completed, Host, ProgramMissing
from .payload.nvidia_rows import FIELDS, GpuTable, explain, query_argv, without_refused

QUERY_TIMEOUT_S = 30.0
"""Without persistence mode a driver may take seconds per GPU to wake up."""


def parse_gpus(text: str, fields: tuple[str, ...] = FIELDS) -> tuple[GpuReading, ...]:
    """The GPUs in the output of one query for `fields` (noheader, nounits or not), by index."""
    table = GpuTable(fields)
    table.feed(text.encode(), 0.0)
    table.close(0.0)
    return tuple(msgspec.convert(row, GpuReading) for row in table.rows())


async def query_gpus(host: Host) -> tuple[tuple[GpuReading, ...], str | None]:
    """The GPUs of a host now, and why there are none as a sentence (None when all is well).

    A field that the host's driver refuses is dropped and the question asked again.
    """
    fields = list(FIELDS)
    while True:
        try:
            done = await host.run(query_argv(fields), timeout_s=QUERY_TIMEOUT_S)
        except ProgramMissing:
            return (), explain("", 127)
        text = done.stdout.decode("utf-8", "replace")
        fewer = without_refused(fields, text) if done.status else None
        if fewer is None:
            return parse_gpus(text, tuple(fields)), _failure(done, text)
        fields = fewer


def _failure(done: Completed, text: str) -> str | None:
    said = "\n".join(line for line in text.splitlines() if line.count(",") < 2)
    return explain(said or done.stderr.decode("utf-8", "replace"), done.status)
