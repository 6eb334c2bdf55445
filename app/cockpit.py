"""The deck: a Textual app over the same functions as the headless verbs. This file only wires.

Nothing here blocks: reading happens in watcher threads, operations in workers, and both end in a message or a
sentence on screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import App
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.screen import ModalScreen
from textual.worker import Worker, WorkerState

from ..engine import format as fmt
from ..engine.catalog import Catalog
from ..engine.errors import WavedeckError
from ..engine.hosts import HostView
from ..engine.machine import MachineReading
from ..engine.pictures.terminal import CELLS, Pictures
from ..engine.run_view import RunView
from ..engine.rundir import Home
from ..engine.series_view import SeriesView
from ..engine.state import RunState
from ..remote.host import Host
from ..remote.liveness import alive
from ..remote.local import LocalHost
from ..widgets.run_header import RunHeader
from ..widgets.title_bar import TitleBar
from .alerts_on_deck import AlertsOnDeck
from .commands import RunCommands
from .copy_commands import CopyCommands
from .deck_fleet import DeckFleet
from .messages import (
    HostsSeen,
    LaunchProgress,
    MachineSeen,
    QuestionAsked,
    RunsSeen,
    Told,
    WatchFailed,
    WorkProgress,
    while_running,
)
from .palette_commands import RunProvider
from .screens.ask import Ask
from .screens.compare import CompareScreen
from .screens.help import Help
from .screens.hosts import HostsScreen
from .screens.launch import LaunchScreen
from .screens.run import RunScreen
from .screens.runs import RunsScreen
from .screens.working import Working
from .themes import THEMES
from .watchers import CallWatcher, RunsWatcher, Watcher

if TYPE_CHECKING:
    from .listen.listing import Wanted
    from .listen.pixels import PixelLayer

MACHINE_EVERY_S = 2.0
HOSTS_EVERY_S = 0.25
DISK_LOW_BYTES = 512 * 1024**2


class Wavedeck(AlertsOnDeck, App[None]):
    """The flight deck over one home. With `babysits` it watches all runs while it is open, unless others do."""

    TITLE = "Wavedeck"
    CSS = (files("wavedeck.assets") / "deck.tcss").read_text()
    COMMANDS = App.COMMANDS | {RunProvider}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("h", "hosts", "Hosts", id="deck.hosts", tooltip="Machines: links, GPUs, tmux sessions"),
        Binding("n", "launch", "Launch", id="deck.launch", tooltip="Configure and start a training"),
        Binding(
            "exclamation_mark", "alerts", "Alerts", show=False, id="deck.alerts", tooltip="What was told, what is open"
        ),
        Binding("t", "next_theme", "Theme", show=False, id="deck.theme", tooltip="Dark, light, colour-blind-safe"),
        Binding("question_mark", "help", "Help", id="deck.help", tooltip="Every key of this screen"),
        Binding("q", "quit", "Quit", id="deck.quit", tooltip="Leave the deck; runs go on"),
    ]
    HELP_TITLE = "Deck"

    def __init__(
        self,
        home: Home,
        *,
        open_run: str | None = None,
        listen: tuple[str, str | None, str | None] | None = None,
        tour: bool = False,
        pictures: Pictures = CELLS,
        babysits: bool = False,
    ) -> None:
        super().__init__()
        self.home = home
        self._here = LocalHost()
        self.host: Host = self._here
        self.fleet = DeckFleet(self, home, self._here)
        self.hosts: tuple[HostView, ...] = ()
        self.catalog = Catalog(home, alive, far=self.fleet.far)
        self.commands = RunCommands(self, self)
        self.copies = CopyCommands(self, self)
        self.views: tuple[RunView, ...] = ()
        self.babysitter = self.make_babysitter(home) if babysits else None
        self._open_first = open_run
        self._listen_first = listen
        self._tour_of = open_run if tour else None
        self._disk_told = False
        self._watchers: list[Watcher] = [
            RunsWatcher(self.catalog, self),
            CallWatcher("machine", self, self._look_at_machine),
            CallWatcher("hosts", self, self._look_at_hosts),
            CallWatcher("alerts", self, self.alerts_look(home).look),
        ]
        self._reading: MachineReading | None = None
        self._pixels = self._pixel_layer(pictures)

    def _pixel_layer(self, pictures: Pictures) -> PixelLayer | None:
        """What draws pixels, on terminals that can."""
        if pictures.kind == "cells":
            return None
        from .listen.pixels import PixelLayer

        return PixelLayer(pictures, lambda text: self._driver is not None and self._driver.write(text))

    def post_display_hook(self) -> None:
        """Textual has drawn; pixels go over it."""
        if self._pixels is not None and self.screen_stack and not self._batch_count:
            self._pixels.after_display(self.screen)

    def on_mount(self) -> None:
        """Themes, home screen, watchers."""
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = THEMES[0].name
        self.push_screen(RunsScreen())
        if self._open_first is not None:
            self.open_run(self._open_first)
        if self._listen_first is not None:
            self.open_listen(*self._listen_first)
        for watcher in self._watchers:
            watcher.start()
        self.fleet.start()
        if self.babysitter is not None:
            self.fleet.babysit(self.babysitter)

    def on_unmount(self) -> None:
        """Threads end with the app; runs do not."""
        for watcher in self._watchers:
            watcher.stop()
        self.fleet.close()
        self._here.close()
        if self._pixels is not None:
            self._pixels.clear()

    # --- what comes in

    @on(RunsSeen)
    @while_running
    def _runs_changed(self, message: RunsSeen) -> None:
        self.views = message.views
        self._hand_to_screen()
        self._end_the_tour()

    def _end_the_tour(self) -> None:
        """The tour's run has finished: the last thing to see is the first thing to hear."""
        view = self.view_of(self._tour_of) if self._tour_of is not None else None
        if view is not None and view.state is RunState.FINISHED:
            self._tour_of = None
            self.open_listen(view.id)

    def _hand_to_screen(self) -> None:
        for screen in self.screen_stack:  # one still being composed asks for its runs when it appears
            if not isinstance(screen, RunsScreen | RunScreen | HostsScreen | CompareScreen):
                continue
            if screen.is_active and screen.is_mounted:
                screen.show_runs(self.views)

    @on(HostsSeen)
    @while_running
    def _hosts_changed(self, message: HostsSeen) -> None:
        self.hosts = message.views
        for screen in reversed(self.screen_stack):  # what shines through behind dialogs is kept up to date
            if isinstance(screen, HostsScreen) and screen.is_mounted:
                screen.show_hosts(self.hosts)
            for bar in screen.query(TitleBar):
                bar.hosts = self.hosts
            for header in screen.query(RunHeader):
                header.know(self.hosts)
            if not isinstance(screen, ModalScreen):
                break

    @on(QuestionAsked)
    @while_running
    def _question_asked(self, message: QuestionAsked) -> None:
        """Whatever is in front, a connection's question comes before it; leaving it is an answer too."""
        self.push_screen(Ask(message.question), message.answer)

    def host_history(self, name: str) -> Mapping[str, SeriesView]:
        """The newest two hours of a host's readings."""
        return self.fleet.history(name)

    @on(Told)
    @while_running
    def _told(self, message: Told) -> None:
        self.notify(message.text, severity=message.severity, markup=False)  # type: ignore[arg-type]

    @on(LaunchProgress)
    @while_running
    def _launch_goes_on(self, message: LaunchProgress) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, LaunchScreen):
                screen.show_progress(message)

    @on(WorkProgress)
    @while_running
    def _work_goes_on(self, message: WorkProgress) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, Working) and screen.key == message.key:
                screen.show(message)

    @on(MachineSeen)
    @while_running
    def _machine_changed(self, message: MachineSeen) -> None:
        for bar in self.screen.query(TitleBar):
            bar.reading = message.reading
            bar.problems = self.problems
        free = message.reading.disk_free
        low = free is not None and free < DISK_LOW_BYTES
        if low and not self._disk_told:
            text = f"{fmt.size(free)} left under {self.home.root}: runs go on, journals and checkpoints may be lost."
            self.notify(text, title="disk almost full", severity="error", timeout=30, markup=False)
        self._disk_told = low

    @on(WatchFailed)
    @while_running
    def _watch_failed(self, message: WatchFailed) -> None:
        self.notify(message.error, title=f"cannot read {message.what}", severity="error", markup=False)

    @on(Worker.StateChanged)
    def _worker_changed(self, event: Worker.StateChanged) -> None:
        """No worker fails silently."""
        if event.state is WorkerState.ERROR:
            error = event.worker.error
            title = f"{event.worker.name} failed"
            text = str(error) if isinstance(error, WavedeckError) else f"{type(error).__name__}: {error}"
            self.notify(text, title=title, severity="error", timeout=12, markup=False)

    def _look_at_machine(self) -> float:
        self._reading = self._here.reading(self.home.root)
        self.post_message(MachineSeen(self._reading))
        return MACHINE_EVERY_S

    def _look_at_hosts(self) -> float:
        """Post the machines when anything in them changed."""
        if isinstance(self.screen, HostsScreen):
            self.fleet.look_at_sessions()
        views = self.fleet.views(self._reading)
        if views != self.hosts:
            self.post_message(HostsSeen(views))
        return HOSTS_EVERY_S

    def pause(self) -> None:
        """The deck is about to be suspended: nobody reads its messages, so nobody posts any."""
        for watcher in self._all_watchers():
            watcher.pause()

    def go_on(self) -> None:
        """The deck is back."""
        for watcher in self._all_watchers():
            watcher.go_on()

    def _all_watchers(self) -> list[Watcher]:
        of_screens: list[list[Watcher]] = [getattr(screen, "watchers", []) for screen in self.screen_stack]
        return [*self._watchers, *(watcher for some in of_screens for watcher in some)]

    def look_again(self) -> None:
        """Something was just done: do not wait for the next turn."""
        self._watchers[0].nudge()

    # --- where to go

    def open_run(self, run_id: str) -> None:
        """Show one run; an open run screen is replaced, so that escape always leads home."""
        if isinstance(self.screen, RunScreen):
            self.switch_screen(RunScreen(run_id))
        else:
            self.push_screen(RunScreen(run_id))

    def open_listen(
        self, run_id: str, set_name: str | None = None, item: str | None = None, wanted: Wanted | None = None
    ) -> None:
        """Hear the samples of a run; sound and spectrograms are loaded by the first such screen only."""
        from .screens.listen import ListenScreen

        self.push_screen(ListenScreen(run_id, set_name, item, wanted))

    def open_compare(self, run_ids: Sequence[str] = (), batch: str | None = None) -> None:
        """Show runs beside each other: these, and all of a batch."""
        self.push_screen(CompareScreen(run_ids, batch))

    def view_of(self, run_id: str) -> RunView | None:
        """The newest view of a run."""
        return next((view for view in self.views if view.id == run_id), None)

    def action_hosts(self) -> None:
        """Open the machines."""
        self.push_screen(HostsScreen())

    def action_safety(self) -> None:
        """Could a machine be destroyed now?"""
        if isinstance(self.screen, HostsScreen):
            self.screen.action_tab("safe")
        else:
            self.push_screen(HostsScreen(tab="safe"))

    def action_launch(self) -> None:
        """Open the launch form."""
        self.push_screen(LaunchScreen())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Neither the launch form nor the hosts can be opened from themselves; nothing, from behind a dialog."""
        dialog = isinstance(self.screen, ModalScreen) and not isinstance(self.screen, CommandPalette)
        if dialog and action in ("hosts", "launch", "help", "next_theme", "alerts"):
            return False  # not `quit`: ctrl+q always leaves; the letter q is no binding of a dialog
        if action == "hosts":
            return not isinstance(self.screen, HostsScreen | LaunchScreen)
        return action != "launch" or not isinstance(self.screen, LaunchScreen)

    def action_help(self) -> None:
        """The keys of this screen."""
        self.push_screen(Help(self.screen))

    def action_next_theme(self) -> None:
        """Cycle through Wavedeck's themes."""
        names = [theme.name for theme in THEMES]
        place = names.index(self.theme) if self.theme in names else -1
        self.theme = names[(place + 1) % len(names)]
