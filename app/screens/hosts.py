"""All machines, and everything about the one under the cursor: GPUs, processes, sessions, history, facts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable
from typing import ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Footer, TabbedContent, TabPane

from ...engine import format as fmt
from ...engine.hosts import LOCAL, HostView, LinkState
from ...engine.machine import MachineReading
from ...engine.run_view import RunView
from ...widgets.gpu_panel import GpuPanel
from ...widgets.gpu_processes import GpuProcesses
from ...widgets.gpu_table import GpuTable
from ...widgets.gpu_words import FOREIGN, owners
from ...widgets.host_facts import HostFactsPage
from ...widgets.host_header import HostHeader
from ...widgets.host_table import HostTable
from ...widgets.host_words import coarse, is_stale
from ...widgets.line_chart import LineChart
from ...widgets.live_table import LiveTable
from ...widgets.machine_charts import MachineCharts
from ...widgets.safety_page import SafetyPage
from ...widgets.session_table import SessionTable
from ...widgets.title_bar import TitleBar
from ..deck import deck_of
from ..host_commands import HostCommands
from .instrument_tabs import InstrumentTabs
from .safety_asked import SafetyAsked

INSTRUMENTS: dict[str, type[Widget]] = {
    "gpus": GpuTable,
    "processes": GpuProcesses,
    "sessions": SessionTable,
    "history": LineChart,
    "facts": HostFactsPage,
    "safe": SafetyPage,
}
"""The tabs in order, and what has the keys in each."""
TITLES = {"gpus": "GPUs"}
TICK_S = 1.0


class HostsScreen(InstrumentTabs):
    """The table of hosts above, the selected host's instruments below."""

    instruments = INSTRUMENTS
    HELP_TITLE = "Hosts"
    AUTO_FOCUS = "HostTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "add_host", "Add", id="hosts.add", tooltip="Add a machine by its ssh line"),
        Binding("r", "retry_host", "Connect now", id="hosts.retry", tooltip="Do not wait for the next try"),
        Binding("T", "trust_host", "Trust new key", id="hosts.trust", tooltip="Compare both keys, take the new one"),
        Binding("d", "remove_host", "Remove", id="hosts.remove", tooltip="Take this host off the list"),
        Binding("escape", "back", "Back", id="hosts.back", tooltip="To the hosts, then to where we were"),
        *[
            Binding(
                str(n),
                f"tab('{name}')",
                TITLES.get(name, name.capitalize()),
                show=False,
                id=f"hosts.tab.{name}",
                tooltip=f"The {TITLES.get(name, name)} tab",
            )
            for n, name in enumerate(INSTRUMENTS, 1)
        ],
    ]
    DEFAULT_CSS = """
    HostsScreen HostTable { height: auto; min-height: 2; max-height: 35%; }
    HostsScreen TabbedContent { height: 1fr; }
    HostsScreen ContentSwitcher { height: 1fr; }
    HostsScreen TabPane { height: 1fr; padding: 0; }
    """

    host: reactive[str | None] = reactive[str | None](None, init=False)
    """Name of the host under the cursor."""

    def __init__(self, host: str | None = None, tab: str = "gpus") -> None:
        super().__init__()
        self._first_tab = tab
        self._views: dict[str, HostView] = {}
        self._reading: MachineReading | None = None
        self._wanted = host
        self._offered: object = None
        self._safety = SafetyAsked()

    def compose(self) -> ComposeResult:
        """Title, hosts, header, tabs, keys."""
        yield TitleBar("Hosts")
        yield HostTable()
        yield HostHeader()
        with TabbedContent(initial="gpus"):
            with TabPane("1 GPUs", id="gpus"):
                yield GpuPanel()
            with TabPane("2 Processes", id="processes"):
                yield GpuProcesses()
            with TabPane("3 Sessions", id="sessions"):
                yield SessionTable()
            with TabPane("4 History", id="history"):
                yield MachineCharts(id="host-history")
            with TabPane("5 Facts", id="facts"):
                yield HostFactsPage()
            with TabPane("6 Safe", id="safe"):
                yield SafetyPage()
        yield Footer()

    def on_mount(self) -> None:
        """Countdowns count."""
        self._commands = HostCommands(cast("object", self.app), deck_of(self))  # type: ignore[arg-type]
        self.watch(self.query_one(TitleBar), "reading", self._own_reading, init=False)
        self.set_interval(TICK_S, self._tick)
        self.show_hosts(deck_of(self).hosts)
        if self._first_tab != "gpus":
            self.call_after_refresh(self.action_tab, self._first_tab)

    # --- what comes in

    def show_hosts(self, views: tuple[HostView, ...]) -> None:
        """Draw everything; called by the app on every change and when the screen appears."""
        here = [view for view in views if view.is_local] or [local_view(self._reading)]
        others = [view for view in views if not view.is_local]
        self._views = {view.name: view for view in (*here, *others)}
        table = self.query_one(HostTable)
        table.show(list(self._views.values()), active_runs(deck_of(self).views), self._safety.fresh)
        if self._wanted in self._views:
            table.select(self._wanted)
            self._wanted = None
        bar = self.query_one(TitleBar)
        bar.hosts = views
        bar.note = summarise(others)
        self._show_selected()

    def select(self, name: str) -> None:
        """Put the cursor on a host, now or as soon as it is there."""
        self._wanted = name
        self.show_hosts(deck_of(self).hosts)

    def show_runs(self, views: tuple[RunView, ...]) -> None:
        """The runs changed: their numbers per host may have."""
        self.query_one(HostTable).show(list(self._views.values()), active_runs(views), self._safety.fresh)

    def _own_reading(self, reading: MachineReading | None) -> None:
        """This machine was read: the title bar gets it, and so do we."""
        self._reading = reading
        if not any(view.is_local for view in deck_of(self).hosts):
            self.show_hosts(deck_of(self).hosts)

    def _tick(self) -> None:
        """Ages and countdowns; and the question what would be lost, while somebody looks at the answer."""
        if self._seen and self.query_one(TabbedContent).active == "safe":
            self._ask_safety()
        if len(self._views) > 1 and self._seen:
            self.query_one(HostTable).tick()
            self.query_one(HostHeader).tick()

    @on(LiveTable.Highlighted, "HostTable")
    def _selection_moved(self) -> None:
        self._show_selected()

    def on_screen_resume(self) -> None:
        """Back in front; behind a dialog the deck's keys were not offered."""
        self.refresh_bindings()
        self.show_hosts(deck_of(self).hosts)

    @property
    def _seen(self) -> bool:
        """In front, or behind nothing but dialogs."""
        stack = self.app.screen_stack
        return self in stack and all(isinstance(screen, ModalScreen) for screen in stack[stack.index(self) + 1 :])

    # --- the selected host

    @property
    def selected(self) -> HostView | None:
        """The host under the cursor."""
        return self._views.get(cast(str, self.query_one(HostTable).key))

    def _show_selected(self) -> None:
        """The header, and the instrument of the tab in front; the others are drawn when they get there."""
        view = self.selected
        self.query_one(HostHeader).show(view, alone=len(self._views) == 1)
        tab = self.query_one(TabbedContent).active
        if tab == "gpus":
            self.query_one(GpuPanel).show(view, deck_of(self).host_history(view.name) if view else {})
        elif tab == "processes":
            self.query_one(GpuProcesses).show(view)
        elif tab == "sessions":
            self.query_one(SessionTable).show(view)
        elif tab == "history":
            self._show_history(view)
        elif tab == "facts":
            self.query_one(HostFactsPage).show(view)
        elif tab == "safe":
            self._show_safety(view)
        offered = (view.name, view.link, self.query_one(SessionTable).row_count) if view else None
        if offered != self._offered:
            self._offered = offered
            self.refresh_bindings()

    def _show_history(self, view: HostView | None) -> None:
        charts = self.query_one(MachineCharts)
        charts.empty = "no readings yet: a host is read every 2 s while it is connected"
        stale = f"no news for {coarse(time.time() - view.heard)}" if view and is_stale(view) and view.heard else False
        charts.show_machine(deck_of(self).host_history(view.name) if view else {}, stale=stale)

    def _show_safety(self, view: HostView | None) -> None:
        if view is not None:
            self._ask_safety()
            page = self.query_one(SafetyPage)
            page.show(view.name, self._safety.fresh.get(view.name), asking=self._safety.asking)

    def _ask_safety(self, *, now: bool = False) -> None:
        """All machines that are on the list, and this one only while the cursor is on it."""
        view = self.selected
        names = [name for name, one in self._views.items() if not one.is_local or one is view]
        if names and self._safety.begin(names, now=now):
            work = self._safety.ask(lambda: deck_of(self).fleet.safety(names, deck_of(self).views))
            self.run_worker(self._asked(work), name="asking what would be lost", exit_on_error=False)

    async def _asked(self, work: Awaitable[None]) -> None:
        await work
        if self.is_mounted:
            self.show_hosts(deck_of(self).hosts)

    @on(SafetyPage.Wanted)
    def _safety_wanted(self) -> None:
        self._ask_safety(now=True)

    # --- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what makes no sense for the selected host."""
        if action not in ("retry_host", "trust_host", "remove_host"):
            return True
        view = self.selected
        if view is None or view.is_local:
            return False
        if action == "retry_host":
            return not view.link.up and view.link is not LinkState.CONNECTING
        return action == "remove_host" or view.link is LinkState.KEY_CHANGED

    @on(TabbedContent.TabActivated)
    def _tab_changed(self) -> None:
        self._show_selected()

    def action_back(self) -> None:
        """From an instrument to the hosts, from there to where we were."""
        table = self.query_one(HostTable)
        if self.focused is table or self.focused is None:
            self.app.pop_screen()
        else:
            self.set_focus(table)

    @on(LiveTable.Chosen, "HostTable")
    def _host_chosen(self) -> None:
        """Enter on a host goes into its tab."""
        self.action_tab(self.query_one(TabbedContent).active)

    @on(LiveTable.Chosen, "GpuTable")
    def _gpu_chosen(self, message: LiveTable.Chosen) -> None:
        """Enter on a GPU opens the run that is on it."""
        view = self.selected
        names = owners(cast(int, message.key), view.processes) if view else ()
        self._open_run(next((name for name in names if name != FOREIGN), None))

    @on(LiveTable.Chosen, "GpuProcesses")
    def _process_chosen(self, message: LiveTable.Chosen) -> None:
        """Enter on a process opens its run."""
        processes = self.selected.processes if self.selected else ()
        self._open_run(next((p.run for p in processes if (p.gpu, p.pid) == message.key), None))

    def _open_run(self, run_id: str | None) -> None:
        if run_id is None:
            self.app.notify("no run of yours is on it", markup=False)
        elif any(view.id == run_id for view in deck_of(self).views):
            deck_of(self).open_run(run_id)
        else:
            self.app.notify(f"{fmt.plain(run_id, 80)} is not mirrored here yet", severity="warning", markup=False)

    @on(LiveTable.Chosen, "SessionTable")
    def _session_chosen(self) -> None:
        view, session = self.selected, self.query_one(SessionTable).session
        if view is not None and session is not None:
            self._commands.attach(view, session)

    @on(SessionTable.Wanted)
    def _session_wanted(self, message: SessionTable.Wanted) -> None:
        view = self.selected
        if view is None:
            return
        if message.session is None:
            self._commands.new(view)
        elif message.verb == "kill":
            self._commands.kill(view, message.session)
        else:
            self._commands.rename(view, message.session)

    def action_add_host(self) -> None:
        """A modal asks for the ssh line."""
        self._commands.add(self.select)

    def action_retry_host(self) -> None:
        """Connect now."""
        if self.selected is not None:
            self._commands.retry(self.selected)

    def action_trust_host(self) -> None:
        """Look at the new key beside the old one, and ask."""
        if self.selected is not None:
            self._commands.trust(self.selected)

    def action_remove_host(self) -> None:
        """Ask, then remove."""
        view = self.selected
        if view is not None:
            self._commands.remove(view, active_runs(deck_of(self).views).get(view.name, 0))


def local_view(reading: MachineReading | None) -> HostView:
    """This machine, of which only a reading is known."""
    return HostView(LOCAL, link=LinkState.CONNECTED, reading=reading)


def active_runs(views: tuple[RunView, ...]) -> dict[str, int]:
    """Active runs by host."""
    return Counter(view.host for view in views if view.state.active)


def summarise(views: list[HostView]) -> str:
    """`3 hosts · 2 connected · 1 needs you · $4.40/h`."""
    if not views:
        return "this machine only"
    parts = ["1 host" if len(views) == 1 else f"{len(views)} hosts", f"{sum(v.link.up for v in views)} connected"]
    asking = sum(view.link.needs_user for view in views)
    if asking:
        parts.append(f"{asking} {'needs' if asking == 1 else 'need'} you")
    price = sum(view.price_per_hour or 0 for view in views)
    if price:
        parts.append(f"{fmt.money(price)}/h")
    return " · ".join(parts)
