"""`WholeFooter`: a line of keys of which none is cut: those that do not fit are left out, and are in the help."""

from __future__ import annotations

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.widgets._footer import FooterKey

from .steady_footer import Said, SteadyFooter

AROUND = 3
"""Blanks around a key and its words."""
PALETTE_CELLS = 13
"""The key of the command palette, which stands at the right."""


class WholeFooter(SteadyFooter):
    """A `SteadyFooter` for screens with more keys than a narrow terminal has cells."""

    def compose(self) -> ComposeResult:
        """The first keys, as many as fit."""
        room = self.app.size.width - (PALETTE_CELLS if self.show_command_palette else 0)
        for key in super().compose():
            if isinstance(key, FooterKey) and not key.has_class("-command-palette"):
                room -= cell_len(key.key_display) + cell_len(key.description) + AROUND
                if room < 0:
                    continue
            yield key

    def _said(self) -> Said:
        return (self.app.size.width, *super()._said())

    def on_resize(self) -> None:
        """Others fit now."""
        self.bindings_changed(self.screen)
