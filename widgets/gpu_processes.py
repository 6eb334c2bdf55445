"""Every process that holds memory on a GPU, and the run it belongs to."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text

from ..engine import format as fmt
from ..engine.hosts import HostView
from ..engine.names import tail
from .gpu_words import FOREIGN
from .host_words import is_stale
from .live_table import Column, LiveTable, Row
from .palette import Palette

EMPTY = "no process on a GPU; inside a container the driver may hide them"


class GpuProcesses(LiveTable):
    """Ours are named by their run, the others are `foreign`. The key of a row is (gpu, pid)."""

    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("GPU", 3, right=True),
        Column("PID", 8, right=True),
        Column("MEMORY", 9, rank=1, right=True),
        Column("RUN", 22),
        Column("USER", 12, rank=2),
        Column("COMMAND", 0, rank=1, least=16),
    )

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(self.COLUMNS, id=id, empty=EMPTY)

    def show(self, view: HostView | None) -> None:
        """The selected host as it is now; the biggest first within a GPU."""
        palette = Palette.of(self.app)
        self.empty = EMPTY if view is None or view.link.up or view.processes else "nothing known: the host is not here"
        processes = view.processes if view else ()
        stale = view is not None and is_stale(view)
        rows = []
        for process in sorted(processes, key=lambda p: (p.gpu is None, p.gpu or 0, -(p.memory_mib or 0), p.pid)):
            run = Text(fmt.plain(tail(process.run), 40), style=palette.accent) if process.run else None
            memory = None if process.memory_mib is None else process.memory_mib * 1024**2
            quiet = palette.muted if stale else palette.text
            rows.append(
                Row(
                    (process.gpu, process.pid),
                    (
                        "?" if process.gpu is None else str(process.gpu),
                        str(process.pid),
                        Text(fmt.size(memory), style=quiet),
                        run or Text(FOREIGN, style=palette.warn),
                        Text(fmt.plain(process.user or "", 32), style=quiet),
                        Text(fmt.plain(process.name or "", 200), style=quiet),
                    ),
                )
            )
        self.show_rows(rows)
        self.refresh()
