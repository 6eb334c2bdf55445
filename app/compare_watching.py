"""Reads the runs of a comparison while they grow, and posts the comparison when anything in it changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from textual.message import Message

from ..engine.comparing import Comparison, Judged, Place, compare
from ..engine.comparing.runs import read_judged
from ..engine.evaluation import EVALUATION_FILE
from ..engine.feed import RunFeed
from ..engine.journal import LIVE
from ..engine.run_view import RunView
from ..engine.rundir import RunDir
from ..engine.series_view import SeriesView
from ..engine.state import RunState
from .watchers import FRAME_S, Watcher

if TYPE_CHECKING:
    from textual.message_pump import MessagePump

NEWS_EVERY_S = 0.5
"""A table is compared, not watched: this is often enough."""
FIRST_S = 0.3
"""While the runs are read for the first time, what is there is shown so often."""


class ComparisonSeen(Message):
    """The runs as they are now; `loaded` is the part of their journals read so far, 0 to 1."""

    def __init__(self, comparison: Comparison, loaded: float) -> None:
        super().__init__()
        self.comparison = comparison
        self.loaded = loaded

    def can_replace(self, message: Message) -> bool:
        """A newer comparison replaces an older one."""
        return isinstance(message, ComparisonSeen)


class CompareWatcher(Watcher):
    """Follows the journals and evaluations of several runs.

    Parameters
    ----------
    views: the runs to compare as they are now; asked in this watcher's thread at every look.
    """

    def __init__(self, views: Callable[[], Sequence[RunView]], target: MessagePump, place: Place | None = None) -> None:
        super().__init__("comparison", target)
        self._views = views
        self._place = place or Place()
        self._feeds: dict[str, RunFeed] = {}
        self._rested: dict[str, RunView] = {}
        self._judged: dict[str, tuple[tuple[int, ...], Judged]] = {}
        self._posted = 0.0
        self._seen: object = None

    def at(self, place: Place) -> None:
        """Compare at another place from now on."""
        self._place = place
        self.nudge()

    def look(self) -> float:
        """Read one budget's worth of each run that may have grown; post what is new."""
        views = tuple(self._views())
        changed, more = False, False
        for view in views:
            feed = self._feed(view)
            if feed is None or (self._rested.get(view.id) is view and not feed.more):
                continue
            changed = feed.poll(LIVE) or changed
            more = more or feed.more
            if not feed.more and not view.state.active:
                self._rested[view.id] = view  # nothing more will come, until the catalog has another view of it
        judged = {view.id: self._evaluation(view) for view in views}
        known = (self._place, views, tuple(judged.values()))
        now = time.monotonic()
        due = now - self._posted >= (FIRST_S if more else NEWS_EVERY_S)
        if (changed or known != self._seen) and (due or self._seen is None or self._seen[0] != self._place):  # type: ignore[index]
            self._seen, self._posted = known, now
            series = {run_id: feed.views() for run_id, feed in self._feeds.items()}
            self._post(views, series, judged)
        elif changed:
            self._seen = (None, *known[1:])  # not told yet
        return 0.002 if more else FRAME_S if self._seen != known else NEWS_EVERY_S

    def _post(
        self,
        views: Sequence[RunView],
        series: Mapping[str, Mapping[str, SeriesView]],
        judged: Mapping[str, Judged],
    ) -> None:
        parts = [self._feeds[view.id].loading.fraction for view in views if view.id in self._feeds]
        loaded = sum(parts) / len(parts) if parts else 1.0
        self.target.post_message(ComparisonSeen(compare(views, series, judged, self._place), loaded))

    def _feed(self, view: RunView) -> RunFeed | None:
        if view.state is RunState.UNREADABLE:
            return None
        if view.id not in self._feeds:
            self._feeds[view.id] = RunFeed(RunDir(view.dir))
        return self._feeds[view.id]

    def _evaluation(self, view: RunView) -> Judged:
        """Read again only when the file was replaced."""
        try:
            status = (view.dir / EVALUATION_FILE).stat()
        except OSError:
            return Judged()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        known = self._judged.get(view.id)
        if known is None or known[0] != stamp:
            known = self._judged[view.id] = (stamp, read_judged(view.dir))
        return known[1]
