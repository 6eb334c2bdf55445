"""Where a text stands in the lines of a console. Pure; incremental, so that a growing log is not searched twice."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from ..engine.console import ConsolePicture, plain

MOST_PLACES = 10_000


class Place(NamedTuple):
    """A match: line number as in `ConsolePicture`, first character and the one behind the last."""

    line: int
    start: int
    end: int


class Search:
    """All places of one query, oldest first. Letters match in either case unless the query holds a capital.

    Of more than `MOST_PLACES` the newest are kept, and `more` is set.
    """

    def __init__(self, query: str) -> None:
        self.query = query
        self.places: list[Place] = []
        self.more = False
        flags = re.NOFLAG if any(char.isupper() for char in query) else re.IGNORECASE
        self._expression = re.compile(re.escape(query), flags)
        self._scanned = 0

    def update(self, picture: ConsolePicture) -> None:
        """Search what is new or may have changed."""
        start = max(picture.first, min(self._scanned, picture.settled))
        kept = self.places[bisect_left(self.places, (picture.first, 0, 0)) : bisect_left(self.places, (start, 0, 0))]
        found = [
            Place(number, match.start(), match.end())
            for number, line in enumerate(picture.lines[start - picture.first :], start)
            for match in self._expression.finditer(plain(line))
        ]
        places = kept + found
        self.more = self.more or len(places) > MOST_PLACES
        self.places = places[-MOST_PLACES:]
        self._scanned = picture.settled

    def on_line(self, line: int) -> list[Place]:
        """The places on one line."""
        return self.places[bisect_left(self.places, (line, 0, 0)) : bisect_left(self.places, (line + 1, 0, 0))]

    def step(self, current: Place | None, forward: bool, line: int) -> Place | None:
        """The place after or before `current`, or after or before the start of `line` without one; around the ends."""
        if not self.places:
            return None
        at = current or Place(line, -1 if forward else 0, 0)
        index = bisect_right(self.places, at) if forward else bisect_left(self.places, at) - 1
        return self.places[index % len(self.places)]

    def rank(self, place: Place | None) -> int:
        """Which of the places this is, counted from 1; 0 when it is none."""
        if place is None:
            return 0
        index = bisect_left(self.places, place)
        return index + 1 if index < len(self.places) and self.places[index] == place else 0
