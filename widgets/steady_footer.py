"""`SteadyFooter`: Textual's line of keys, made anew only when it would say something else.

Textual makes every key's widget again whenever bindings may have changed: at each change of focus, several times while
a screen opens. On a screen of twenty keys that is a tenth of a second of CPU each time, most of it for style sheets.
"""

from __future__ import annotations

from textual.screen import Screen
from textual.widgets import Footer

Said = tuple[object, ...]


class SteadyFooter(Footer):
    """A `Footer` that compares before it changes."""

    def __init__(self) -> None:
        super().__init__()
        self._composed: Said | None = None
        self._asked = False

    def bindings_changed(self, screen: Screen[object]) -> None:
        """Look again soon, once for however many changes there are until then."""
        self._bindings_ready = True
        if self._asked or not screen.app.app_focus or not (self.is_attached and screen is self.screen):
            return
        self._asked = True
        self.call_after_refresh(self._look_again)

    async def _look_again(self) -> None:
        self._asked = False
        if not self.is_attached:
            return
        said = self._said()
        if said != self._composed:
            self._composed = said
            await self.recompose()

    def _said(self) -> Said:
        """All that is shown of the keys."""
        keys = [
            (binding.key, self.app.get_key_display(binding), binding.description, binding.action, enabled, tooltip)
            for _, binding, enabled, tooltip in self.screen.active_bindings.values()
            if binding.show
        ]
        return (self.show_command_palette, *keys)
