"""What may wait for a disk runs in threads, so that the loop never does: fsync, hashing, deleting.

One thread a lane keeps the order of its requests; nothing of the agent's state is touched there.
"""

from __future__ import annotations

import os
import queue
import threading
from typing import Any, Callable, Dict, List, Optional, Tuple

from .agent_frames import Frame, Refused

MAX_WAITING = 256

Work = Callable[[threading.Event], Frame]
"""Gets an event that is set when nobody wants the result any more; returns the keys of the `done` frame."""


class Workers:
    """Threads that are started when they are first needed and die with the process."""

    def __init__(self, wake: int) -> None:
        self._wake = wake
        self._lanes: Dict[str, "queue.Queue[Tuple[Any, Work, threading.Event]]"] = {}
        self._cancelled: Dict[Any, threading.Event] = {}
        self._results: "queue.SimpleQueue[Tuple[Any, Frame]]" = queue.SimpleQueue()

    def submit(self, lane: str, key: Optional[Any], work: Work) -> None:
        """Do `work` in the thread of `lane`; without a key nobody is told. Raises Refused."""
        if lane not in self._lanes:
            self._lanes[lane] = queue.Queue(MAX_WAITING)
            threading.Thread(target=self._serve, args=(self._lanes[lane],), daemon=True, name=lane).start()
        event = threading.Event()
        try:
            self._lanes[lane].put_nowait((key, work, event))
        except queue.Full:
            raise Refused("error", "too many requests at once") from None
        if key is not None:
            self._cancelled[key] = event

    def cancel(self, key: Any) -> bool:
        """Nobody wants this result any more; False when there is none of that id."""
        event = self._cancelled.pop(key, None)
        if event is not None:
            event.set()
        return event is not None

    def results(self) -> List[Frame]:
        """Answers that are ready."""
        found: List[Frame] = []
        while True:
            try:
                key, answer = self._results.get_nowait()
            except queue.Empty:
                return found
            if self._cancelled.pop(key, None) is not None:
                found.append(answer)

    def _serve(self, lane: "queue.Queue[Tuple[Any, Work, threading.Event]]") -> None:
        while True:
            key, work, event = lane.get()
            try:
                answer = {"op": "done", "id": key, **({} if event.is_set() else work(event))}
            except Refused as refused:
                answer = {"op": "failed", "id": key, "why": refused.why, "text": refused.text}
            except OSError as error:
                text = error.strerror or str(error)
                answer = {"op": "failed", "id": key, "why": "error", "text": text}
            except Exception as error:
                answer = {"op": "failed", "id": key, "why": "error", "text": repr(error)[:500]}
            self._results.put((key, answer))
            try:
                os.write(self._wake, b"\0")
            except OSError:
                continue  # the pipe is full: the loop is awake anyway
