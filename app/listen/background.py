"""The threads of the Listen screen: they read sound and other runs, and write exports. None fails without a word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from textual import work
from textual.worker import get_current_worker

from ...engine.names import tail
from ...engine.samples import OpenFile
from ...widgets.time_axis import TimeWindow
from ...widgets.track_stack import TrackStack
from ...widgets.track_view import TrackView
from ..deck import deck_of
from .export_ask import ExportWish
from .reading import ViewCache
from .voices import Voice
from .work import Showing, export, open_other, read_closer, read_showing

if TYPE_CHECKING:
    from textual.screen import Screen

    from .session import Other, Session

    Base = Screen[None]
else:
    Base = object


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
            view = next((view for view in deck.views if view.id == run_id), None)
            fetches = deck.fleet.sample_opener(view) if view is not None and not path.exists() else None
            return path if fetches is None else fetches(path)

        return opened

    @work(thread=True, exclusive=True, group="other", name="opening the other run", exit_on_error=False)
    def _open_other(self, run_id: str) -> None:
        path = deck_of(self).home.runs / run_id
        other = open_other(path, self.session.samples.name, tail(run_id), self.opener(run_id))
        self.app.call_from_thread(self._compare, other)

    @work(thread=True, group="export", name="the export", exit_on_error=False)
    def _export(self, wish: ExportWish, voice: Voice | None, loop: tuple[float, float] | None, rows: list[int]) -> None:
        said = export(wish, self.session.samples, voice, loop, rows, self.session.notes)
        self.app.call_from_thread(self.tell, said)

    def read_tracks(self) -> None:
        """Read what is loaded, for the picture."""
        session = self.session
        difference = session.difference if session.nulling else None
        columns = self.query_one(TrackStack).size.width
        self._read(
            Showing(session.generation, session.item, session.voices, session.heard, difference, columns), self._cache
        )

    @work(thread=True, exclusive=True, group="tracks", name="reading the sound", exit_on_error=False)
    def _read(self, showing: Showing, cache: ViewCache) -> None:
        worker = get_current_worker()
        read_showing(showing, cache, lambda: worker.is_cancelled, self.post_message)

    def read_closer(self) -> None:
        """Read the visible part in detail."""
        stack = self.query_one(TrackStack)
        self._closer(self.session.generation, stack.view, stack.columns)

    @work(thread=True, exclusive=True, group="closer", name="reading the detail", exit_on_error=False)
    def _closer(self, generation: int, window: TimeWindow, columns: int) -> None:
        session, worker = self.session, get_current_worker()
        reads = [voice.read for voice in session.voices]
        views = list(session.views)
        if session.nulling and session.difference is not None and session.difference_view is not None:
            reads.append(session.difference.read)
            views.append(session.difference_view)
        closer = read_closer(views, reads, window, columns)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._closer_read, generation, closer)

    def _closer_read(self, generation: int, views: list[TrackView]) -> None:
        if self.session.saw(generation, views):
            self.query_one(TrackStack).tracks = self.session.shown
