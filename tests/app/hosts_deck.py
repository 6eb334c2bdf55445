"""A deck around the screens of hosts whose hosts are values: no fleet, no threads, no network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

from textual import on
from textual.app import App
from textual.pilot import Pilot
from textual.worker import Worker, WorkerState

from wavedeck.app.screens.hosts import HostsScreen
from wavedeck.app.themes import THEMES
from wavedeck.engine.hosts import HostView
from wavedeck.engine.run_view import RunView
from wavedeck.engine.rundir import Home
from wavedeck.engine.series_view import SeriesView
from wavedeck.tests.fakes.hosts import HERE, FleetFake, history
from wavedeck.widgets.title_bar import TitleBar


class HostsDeck(App[None]):
    """The deck, as far as the screens of hosts need one."""

    CSS = (files("wavedeck.assets") / "deck.tcss").read_text()

    def __init__(self, hosts: tuple[HostView, ...], views: tuple[RunView, ...] = ()) -> None:
        super().__init__()
        self.hosts, self.views = hosts, views
        self.home = Home(Path("/nowhere"))
        self.fleet = FleetFake()
        self.opened: list[str] = []
        self.failures: list[str] = []
        self.paused = 0
        self.animation_level = "none"
        self._histories: dict[str, Mapping[str, SeriesView]] = {}

    def on_mount(self) -> None:
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = THEMES[0].name
        self.push_screen(HostsScreen())

    def host_history(self, name: str) -> Mapping[str, SeriesView]:
        if name not in self._histories:
            view = next((view for view in self.hosts if view.name == name), None)
            self._histories[name] = history(view) if view else {}
        return self._histories[name]

    def see(self, *hosts: HostView) -> None:
        """Other hosts."""
        self.hosts = hosts
        self.screen.show_hosts(hosts)  # type: ignore[attr-defined]

    def open_run(self, run_id: str) -> None:
        self.opened.append(run_id)

    def pause(self) -> None:
        self.paused += 1

    def go_on(self) -> None:
        self.paused -= 1

    def look_again(self) -> None: ...

    @on(Worker.StateChanged)
    def _worker_changed(self, event: Worker.StateChanged) -> None:
        if event.state is WorkerState.ERROR:
            self.failures.append(str(event.worker.error))


@asynccontextmanager
async def hosts_deck(
    *hosts: HostView, size: tuple[int, int] = (120, 36), views: tuple[RunView, ...] = ()
) -> AsyncIterator[Pilot[None]]:
    """The running deck with its hosts screen in front and this machine read."""
    app = HostsDeck(hosts, views)
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause()
        app.screen.query_one(TitleBar).reading = HERE
        await pilot.pause()
        yield pilot
