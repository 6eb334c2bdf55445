"""The keys of the screen one came from, generated from the bindings themselves, so that help cannot drift."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static


class Help(ModalScreen[None]):
    """Every active key with what it does, grouped by who listens."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "dismiss(None)", "Close", id="help.close", tooltip="Close this page"),
    ]
    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help > VerticalScroll { width: 78; max-width: 96%; height: auto; max-height: 90%; padding: 1 2; background: $panel;
        border: round $primary; border-title-color: $accent; }
    Help Static { width: 1fr; height: auto; }
    """

    def __init__(self, screen: Screen[object]) -> None:
        super().__init__()
        self._groups = list(grouped_bindings(screen))

    def compose(self) -> ComposeResult:
        """One table."""
        with VerticalScroll() as page:
            page.border_title = "keys"
            yield Static(self._table())

    def _table(self) -> Table:
        accent = self.app.theme_variables.get("accent", "")
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for title, bindings in self._groups:
            table.add_row("", Text(title, style="dim italic"), "")
            for binding in bindings:
                key = self.app.get_key_display(binding)
                table.add_row(Text(key, style=f"bold {accent}".strip()), binding.description, binding.tooltip)
            table.add_row("", "", "")
        return table


def grouped_bindings(screen: Screen[object]) -> Iterable[tuple[str, list[Binding]]]:
    """(who, its bindings) of everything that listens while `screen` is in front, the focused widget first."""
    groups: dict[str, list[Binding]] = {}
    seen: set[tuple[str, str]] = set()
    for active in screen.active_bindings.values():
        binding = active.binding
        if binding.system or (binding.action, binding.description) in seen or not binding.tooltip:
            continue
        seen.add((binding.action, binding.description))
        groups.setdefault(_title(active.node), []).append(binding)
    return groups.items()


def _title(node: object) -> str:
    """Its own title, or its class in plain words: `LineChart` is `line chart`."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(node).__name__).lower()
    return getattr(node, "HELP_TITLE", None) or words
