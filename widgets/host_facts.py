"""What a host said about itself: system, programs with what to do where one is missing, clock, notices."""

from __future__ import annotations

import time

from rich.style import Style
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from ..engine import format as fmt
from ..engine.hosts import HostFacts, HostView
from .palette import Palette

SKEW_S = 2.0
"""A clock that is wrong by more is said: ages would be."""
PROGRAMS = {
    "tmux": "runs start without it, but cannot be attached to: `apt-get install tmux`",
    "rsync": "checkpoints cannot be copied from here: `apt-get install rsync`",
    "git": "only needed to install packages from git: `apt-get install git`",
    "uv": "optional: environments are prepared faster with it: `pip install uv`",
    "nvidia-smi": "no GPU readings; on a machine with a GPU it comes with the driver",
}
"""Program -> what its absence means and how to end it."""
MOST_NOTICES = 12


class HostFactsPage(VerticalScroll, can_focus=True):
    """A page of facts; scrolls where it is longer than the screen."""

    DEFAULT_CSS = """
    HostFactsPage { height: 1fr; padding: 0 1; background: $surface; }
    HostFactsPage > Static { height: auto; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._view: HostView | None = None
        self._shown: object = None

    def compose(self) -> ComposeResult:
        """One table."""
        yield Static("")

    def show(self, view: HostView | None) -> None:
        """The selected host as it is now; drawn anew only when what the page tells has changed."""
        self._view = view
        shown = view and (view.name, view.target, view.facts, view.link.up, round(view.skew_s or 0, 1), view.notices)
        if shown != self._shown:
            self._shown = shown
            self._draw()

    def notify_style_update(self) -> None:
        """The colours follow the theme."""
        super().notify_style_update()
        if self._view is not None:
            self._draw()

    def _draw(self) -> None:
        palette = Palette.of(self.app)
        view = self._view
        if view is None or (view.facts is None and not view.notices):
            self.query_one(Static).update(Text(_why_nothing(view), style=palette.muted))
            return
        self.query_one(Static).update(facts_table(view, palette))


def _why_nothing(view: HostView | None) -> str:
    if view is None:
        return "no host selected"
    if view.is_local:
        return "this machine: its programs are looked at when a run needs them"
    return "a host tells its facts when it is connected to"


def facts_table(view: HostView, palette: Palette) -> Table:
    """Label, value."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style=palette.muted)
    table.add_column(overflow="fold")
    for number, notice in enumerate(reversed(view.notices[-MOST_NOTICES:])):
        text = Text(f"⚠ {fmt.plain(notice, 300)}", style=palette.warn)
        table.add_row("" if number else "notices", text)
    if view.notices:
        table.add_row("", "")
    if view.facts is not None:
        for label, value in _facts(view, view.facts, palette):
            table.add_row(Text(label), value)
    return table


def _facts(view: HostView, facts: HostFacts, palette: Palette) -> list[tuple[str, Text]]:
    who = f"{facts.user}@{facts.hostname}" if facts.user and facts.hostname else facts.hostname or facts.user
    rows = [
        ("reached as", _plain(view.target or "this machine")),
        ("says it is", _plain(who)),
        ("system", _plain(facts.system + (f", {facts.cores} cores" if facts.cores else ""))),
        ("home there", _plain(facts.home)),
        ("tmux socket", _plain(facts.tmux_socket)),
        ("clock", _clock(view, palette)),
        ("", Text("")),
        ("python3", _python(facts, palette)),
    ]
    for name in sorted(PROGRAMS.keys() | facts.programs.keys(), key=lambda n: (n not in PROGRAMS, n)):
        if name in facts.programs:
            rows.append((fmt.plain(name, 20), _program(name, facts.programs[name], palette)))
    return [(label, value) for label, value in rows if value.plain or not label]


def _plain(text: str) -> Text:
    return Text(fmt.plain(text, 300))


def _clock(view: HostView, palette: Palette) -> Text:
    if view.skew_s is None:
        return Text("")
    there = fmt.clock(time.time() + view.skew_s)
    if abs(view.skew_s) < SKEW_S:
        return Text("agrees with ours")
    way = "ahead" if view.skew_s > 0 else "behind"
    words = f"⚠ {fmt.duration(abs(view.skew_s))} {way} of ours ({there} there); ages are corrected for it"
    return Text(words, style=palette.warn)


def _python(facts: HostFacts, palette: Palette) -> Text:
    if facts.python:
        return _found(facts.python, palette)
    words = "✗ missing: nothing is watched or launched there until it is installed: `apt-get install python3`"
    return Text(words, style=palette.bad)


def _program(name: str, version: str | None, palette: Palette) -> Text:
    if version is not None:
        return _found(version, palette)
    text = Text("✗ missing", style=palette.warn + Style(bold=True))
    return text.append(f": {PROGRAMS[name]}" if name in PROGRAMS else "", style=palette.text)


def _found(version: str, palette: Palette) -> Text:
    return Text("✓ ", style=palette.good).append(fmt.plain(version, 120), style=palette.text)
