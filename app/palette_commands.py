"""What `ctrl+p` finds besides Textual's own: every run, and what can be done to the selected one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

from ..engine.names import tail
from .deck import deck_of

Entry = tuple[str, str, Callable[[], object]]


class RunProvider(Provider):
    """Launch, open a run, and the active keys of the screen by name."""

    def _entries(self) -> Iterator[Entry]:
        deck = deck_of(self)
        yield "Launch a training", "configure and start", deck.action_launch
        yield "Alerts", "what was told, what is open", deck.action_alerts
        yield "Safe to destroy?", "what would be lost with each machine", deck.action_safety
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if active.enabled and binding.show and binding.tooltip and not binding.system:
                run = partial(deck.run_action, binding.action, active.node)
                yield binding.description, binding.tooltip or f"key {binding.key}", run
        for view in reversed(deck.views):
            yield f"Open {tail(view.id)}", f"{view.state} · {view.what} · {view.id}", partial(deck.open_run, view.id)

    async def discover(self) -> Hits:
        """What is shown before anything is typed."""
        for title, help_text, run in self._entries():
            yield DiscoveryHit(title, run, help=help_text)

    async def search(self, query: str) -> Hits:
        """What fits the words typed, in title or help."""
        matcher = self.matcher(query)
        for title, help_text, run in self._entries():
            text = f"{title} ({help_text})"
            if (score := matcher.match(text)) > 0:
                yield Hit(score, matcher.highlight(title) if matcher.match(title) else title, run, help=help_text)
