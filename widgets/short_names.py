"""Names in few cells, each still another one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from rich.cells import cell_len, set_cell_size

WORDS = re.compile(r"[^\W_]+")


@lru_cache(maxsize=64)
def short_names(names: tuple[str, ...], cells: int) -> tuple[str, ...]:
    """The names in at most `cells` each, no two alike while there are letters enough.

    A name that fits, or whose beginning tells it, keeps its beginning. Of names that begin alike come the first letters
    of their words (`flam tap`, `flam accent` in three cells: `fta`, `fac`), then beginning and end, then a number.
    """
    cut = [_cut(name, cells) for name in names]
    count = Counter(cut)
    taken = {words for words in cut if count[words] == 1}
    found = []
    for place, (name, begun) in enumerate(zip(names, cut, strict=True)):
        if count[begun] > 1:
            begun = next((words for words in _others(name, place, cells) if words not in taken), begun)
            taken.add(begun)
        found.append(begun)
    return tuple(found)


def _others(name: str, place: int, cells: int) -> Iterator[str]:
    words = WORDS.findall(name) or [name]
    if len(words) > 1:
        for last in (len(words) - 1, 1):
            yield set_cell_size("".join(word[0] for word in words[:last]) + words[last], cells).rstrip()
    for end in range(1, cells):
        yield set_cell_size(name, cells - end).rstrip() + name[-end:]
    if cells == 1:
        yield from WORDS.sub(lambda found: found.group(), name)
    number = str(place + 1)
    if len(number) <= cells:
        yield set_cell_size(name, cells - len(number)).rstrip() + number


def _cut(name: str, cells: int) -> str:
    """The name in so many cells; that it was cut is seen where there is room to say so."""
    if cell_len(name) <= cells:
        return name
    if cells < 5:
        return set_cell_size(name, cells).rstrip()
    return set_cell_size(name, cells - 1).rstrip() + "…"
