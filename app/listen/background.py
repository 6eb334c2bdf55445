"""The threads of the Listen screen: they read sound and other runs, and write exports. None fails without a word.

They are daemons: Textual's own (`thread=True`) are an executor's, which Python waits for when it ends, so that quitting
would last as long as an export or a link that hangs. What must not be cut off half way is written under another name.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from textual import work
from textual.worker import get_current_worker

from ...engine.names import tail
from ...engine.rundir import RunDir
from ...engine.samples import OpenFile
from ...remote.daemon import in_daemon_thread
from ...widgets.time_axis import TimeWindow
from ...widgets.track_stack import TrackStack
from ...widgets.track_view import TrackView
from ..deck import deck_of
from .export_ask import ExportWish
from .reading import ViewCache
from .voices import Difference, Voice
from .work import Showing, export, open_other, read_closer, read_showing

if TYPE_CHECKING:
    from textual.screen import Screen

    from .session import Other, Session

    Base = Screen[None]
else:
    Base = object


T = TypeVar("T")
PROGRESS_S = 3.0


async def in_thread(work: Callable[[], T]) -> T:
    """What `work()` gives, done in a daemon thread that knows the app; its failures are raised here."""
    context = contextvars.copy_context()
    return await in_daemon_thread(lambda: context.run(work), "wavedeck-listen")


class ListenBackground(Base):
    """A mixin: what takes time, and what is done with it once it is there."""

    run_id: str
    _cache = ViewCache()

    if TYPE_CHECKING:

        @property
        def session(self) -> Session: ...
        def tell(self, text: str, severity: str = "information") -> None: ...
        def _compare(self, other: Other) -> None: ...

    def opener(self, run_id: str) -> OpenFile:
        """How the sound of a run is opened: where it lives on another host, what is not here is fetched by ranges."""
        deck = deck_of(self)

        def opened(path: Path) -> BinaryIO | Path:
            fetches = None if path.exists() else deck.fleet.sample_opener(RunDir(deck.home.runs / run_id))
            return path if fetches is None else fetches(path)

        return opened

    @work(exclusive=True, group="other", name="opening the other run", exit_on_error=False)
    async def _open_other(self, run_id: str) -> None:
        path, set_name, opener = deck_of(self).home.runs / run_id, self.session.samples.name, self.opener(run_id)
        self._compare(await in_thread(lambda: open_other(path, set_name, tail(run_id), opener)))

    @work(group="export", name="the export", exit_on_error=False)
    async def _export(
        self, wish: ExportWish, voice: Voice | Difference | None, loop: tuple[float, float] | None, rows: list[int]
    ) -> None:
        session, worker, told = self.session, get_current_worker(), time.monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal told
            if done < total and time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                self.call_later(self.tell, f"export: {done:,} of {total:,} items")

        self.tell(
            await in_thread(
                lambda: export(
                    wish, session.samples, voice, loop, rows, session.notes, progress, lambda: worker.is_cancelled
                )
            )
        )

    def read_tracks(self) -> None:
        """Read what is loaded, for the picture."""
        session = self.session
        difference = session.difference if session.nulling else None
        stack = self.query_one(TrackStack)
        columns = stack.size.width * stack.fineness
        self._read(
            Showing(session.generation, session.item, session.voices, session.heard, difference, columns), self._cache
        )

    @work(exclusive=True, group="tracks", name="reading the sound", exit_on_error=False)
    async def _read(self, showing: Showing, cache: ViewCache) -> None:
        worker = get_current_worker()
        await in_thread(lambda: read_showing(showing, cache, lambda: worker.is_cancelled, self.post_message))

    def read_closer(self) -> None:
        """Read the visible part in detail."""
        stack = self.query_one(TrackStack)
        self._closer(self.session.generation, stack.view, stack.columns * stack.fineness)

    @work(exclusive=True, group="closer", name="reading the detail", exit_on_error=False)
    async def _closer(self, generation: int, window: TimeWindow, columns: int) -> None:
        session = self.session
        reads = [voice.read for voice in session.voices]
        views = list(session.views)
        if session.nulling and session.difference is not None and session.difference_view is not None:
            reads.append(session.difference.read)
            views.append(session.difference_view)
        self._closer_read(generation, await in_thread(lambda: read_closer(views, reads, window, columns)))

    def _closer_read(self, generation: int, views: list[TrackView]) -> None:
        if self.session.saw_closer(generation, views):
            self.query_one(TrackStack).tracks = self.session.shown
