"""The GPUs of one host: the table of all, and the card of the one under the cursor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical

from ..engine import format as fmt
from ..engine.hosts import HostView, LinkState
from ..engine.series_view import SeriesView
from .gpu_card import GpuCard, Picture
from .gpu_table import GpuTable
from .host_words import is_stale
from .live_table import LiveTable


class GpuPanel(Vertical):
    """Table over card; both follow the host."""

    DEFAULT_CSS = """
    GpuPanel { height: 1fr; background: $surface; }
    GpuPanel GpuTable { height: auto; min-height: 3; max-height: 65%; }
    GpuPanel.-empty GpuTable { height: 1fr; max-height: 100%; }
    GpuPanel.-empty GpuCard { display: none; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._view: HostView | None = None
        self._history: Mapping[str, SeriesView] = {}

    def compose(self) -> ComposeResult:
        """Table and card."""
        yield GpuTable()
        yield GpuCard()

    def show(self, view: HostView | None, history: Mapping[str, SeriesView]) -> None:
        """The selected host as it is now."""
        self._view, self._history = view, history
        table = self.query_one(GpuTable)
        table.empty = why_no_gpus(view)
        gpus = view.gpus if view else ()
        self.set_class(not gpus, "-empty")
        table.show(gpus, view.processes if view else (), stale=view is not None and is_stale(view))
        table.refresh()
        self._show_card()

    @on(LiveTable.Highlighted)
    def _moved(self) -> None:
        self._show_card()

    def _show_card(self) -> None:
        view, index = self._view, cast("int | None", self.query_one(GpuTable).key)
        gpu = next((gpu for gpu in view.gpus if gpu.index == index), None) if view else None
        if view is None or gpu is None:
            self.query_one(GpuCard).show(None)
            return
        own = {name: series for name, series in self._history.items() if name.startswith(f"gpu{gpu.index} ")}
        self.query_one(GpuCard).show(Picture(gpu, view.processes, own, is_stale(view)))


def why_no_gpus(view: HostView | None) -> str:
    """What stands in an empty table."""
    if view is None:
        return "no host selected"
    if view.reading is None:
        if view.link is LinkState.CONNECTING:
            return "connecting …"
        return "waiting for the first reading …" if view.link.up else "never seen: nothing is known of its GPUs yet"
    if view.reading.gpu_error:
        return fmt.plain(view.reading.gpu_error, 200)
    return "no GPU on this machine"
