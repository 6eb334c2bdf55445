"""What screens that read files have in common: watchers by name, resting while another screen is in front."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..watchers import Watcher

W = TypeVar("W", bound=Watcher)


class WatchingScreen:
    """A mixin for screens. Its handlers run beside the screen's own: Textual calls those of every class in turn."""

    _kept: dict[str, Watcher] | None = None

    @property
    def watchers(self) -> list[Watcher]:
        """Who reads for this screen."""
        return list((self._kept or {}).values())

    def watcher(self, name: str, kind: type[W]) -> W | None:
        """The watcher of that name, if it is one of that kind."""
        found = (self._kept or {}).get(name)
        return found if isinstance(found, kind) else None

    def keep_watching(self, name: str, wanted: bool, make: Callable[[], Watcher]) -> None:
        """Have a watcher of that name, made and started if there is none; or none."""
        kept = self._kept = self._kept or {}
        if wanted and name not in kept:
            kept[name] = make()
            kept[name].start()
        elif not wanted and name in kept:
            kept.pop(name).stop()

    def stop_watching(self) -> None:
        """End them all."""
        for watcher in self.watchers:
            watcher.stop()
        self._kept = None

    def on_screen_suspend(self) -> None:
        """Another screen is in front: read nothing, forget nothing."""
        for watcher in self.watchers:
            watcher.pause()

    def on_screen_resume(self) -> None:
        """Back in front, or new."""
        for watcher in self.watchers:
            watcher.go_on()

    def on_unmount(self) -> None:
        """No thread outlives the screen."""
        self.stop_watching()
