"""Screens whose tabs each hold one instrument: bringing a tab to the front gives its instrument the keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import TabbedContent, Tabs


class InstrumentTabs(Screen[None]):
    """A screen with one `TabbedContent`, whose panes are named in `instruments`."""

    instruments: ClassVar[Mapping[str, type[Widget]]] = {}

    def action_tab(self, name: str) -> None:
        """Bring a tab to the front and give its instrument the keys."""
        tabs = self.query_one(TabbedContent)
        tabs.active = name
        self.set_focus(tabs.query_one(Tabs))
        self.call_after_refresh(self._focus_instrument, name)

    def _focus_instrument(self, name: str) -> None:
        """Once the tab is laid out: charts exist only where they have room."""
        tabs = self.query_one(TabbedContent)
        if tabs.active == name:
            for instrument in tabs.get_pane(name).query(self.instruments[name]):
                if instrument.display:
                    self.set_focus(instrument)
                    break
