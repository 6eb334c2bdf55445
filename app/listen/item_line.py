"""What the Listen screen shows as values and lines: the list, its heading, the item's heading, the player's line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rich.text import Text

from ...engine import format as fmt
from ...engine.playback import PlayerState
from ...engine.samples import SampleItem
from ...widgets.palette import BOLD, Palette
from ...widgets.sample_list import SampleList
from ...widgets.transport import TrackButton, TransportState
from .listing import Listing, Wanted
from .messages import SamplesSeen
from .session import Session
from .voices import step_words

MOST_METRICS = 8
NOTE_CELLS, SHORT_NOTE = 60, 16
KEY_CELLS = 24
MORE_CELLS = len(" · +88")


def list_line(
    set_name: str,
    sets: tuple[str, ...],
    listing: Listing,
    wanted: Wanted,
    seen: SamplesSeen | None,
    palette: Palette,
    width: int,
) -> Text:
    """`val 6 of 24 items · wer ▼ worst first · label:flam*`, as much of it as fits whole."""
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(fmt.plain(set_name, 30), palette.accent + BOLD)
    shown, total = len(listing), listing.total
    count = fmt.count(shown) if shown == total else f"{fmt.count(shown)} of {fmt.count(total)}"
    line.append(f" {count} items" if total != 1 else f" {count} item", palette.text)
    if seen is not None and seen.bad_lines:
        line.append(f" · ! {fmt.count(seen.bad_lines)} bad {'line' if seen.bad_lines == 1 else 'lines'}", palette.bad)
    if seen is not None and seen.more:
        line.append(" · reading…", palette.warn)
    if wanted.cell is not None:
        target, predicted = (fmt.plain(name, 24) for name in wanted.cell)
        line.append(f" · {target} heard as {predicted}", palette.warn)
    if wanted.filter:
        line.append(f" · {fmt.plain(wanted.filter, 60)}", palette.warn)
    if listing.problem:
        line.append(f" · ✗ {fmt.plain(listing.problem, 200)}", palette.bad)
    for words in _rest_of_list_line(sets, listing, wanted):
        if line.cell_len + len(words) <= width:
            line.append(words, palette.muted)
    return line


def _rest_of_list_line(sets: tuple[str, ...], listing: Listing, wanted: Wanted) -> list[str]:
    """What is said where there is room for all of its words."""
    found = []
    if listing.sort is not None:
        found.append(f" · {fmt.plain(listing.sort, 30)} {'▼' if listing.descending else '▲'}")
        if wanted.descending is None and listing.sort in listing.columns.metrics:
            found.append(" worst first")
    if wanted.group is not None:
        found.append(f" · by {wanted.group}")
    if len(sets) > 1:
        found.append(f" · w: {fmt.count(len(sets))} sets")
    return found


def item_line(session: Session, listing: Listing, palette: Palette, width: int, words: str = "") -> Text:
    """`6b7cdad9 · step 300 (3 of 3) · flam → drag ✗ · ★★★ · “note” · wer 0.43 · +2`: no number is cut.

    `words` are said where there is no item.
    """
    line, item = Text(no_wrap=True, overflow="ellipsis"), session.item
    if item is None:
        return line.append(words or "choose an item", palette.muted)
    line.append(called(item), palette.accent + BOLD)
    if session.across is not None:
        line.append(f" · {fmt.plain(session.across, 20)} at {len(session.voices)} steps", palette.warn)
    else:
        line.append(f" · {step_words(item.step)}", palette.text)
        if len(session.steps) > 1 and item.row in session.steps:
            line.append(f" ({session.steps.index(item.row) + 1} of {len(session.steps)})", palette.muted)
        _newer(line, session, listing, palette)
    if session.other is not None:
        line.append(f" · with {fmt.plain(session.other.name, 24)}", palette.warn)
    if item.predicted is not None or item.label is not None:
        right = item.predicted == item.label
        style = palette.text if item.label is None or item.predicted is None else palette.good if right else palette.bad
        sign = "" if item.label is None or item.predicted is None else " ✓" if right else " ✗"
        classes = [fmt.plain(name, 20) for name in (item.label, item.predicted) if name is not None]
        line.append(f" · {' → '.join(classes)}{sign}", style)
    note = session.note()
    if note.rating is not None:
        line.append(f" · {'★' * note.rating}", palette.accent)
    numbers = _numbers(session, item, listing, palette)
    if note.text:
        spare = width - line.cell_len - (numbers[0].cell_len if numbers else 0) - MORE_CELLS - 5
        line.append(f" · “{fmt.plain(note.text, min(NOTE_CELLS, max(SHORT_NOTE, spare)))}”", palette.muted)
    for place, number in enumerate(numbers):
        rest = len(numbers) - place - 1
        if line.cell_len + number.cell_len + (MORE_CELLS if rest else 0) > width:
            return line.append(f" · +{rest + 1}", palette.muted)
        line.append_text(number)
    return line


def _numbers(session: Session, item: SampleItem, listing: Listing, palette: Palette) -> list[Text]:
    """The metrics, the one that is sorted by first; those of the run that is compared with beside ours."""
    theirs = session.theirs()
    found: list[Text] = []
    for name in sorted(item.metrics, key=lambda name: name != listing.sort)[:MOST_METRICS]:
        number = Text(f" · {fmt.plain(name, 20)} ", palette.muted)
        number.append(fmt.number(item.metrics[name]), palette.text)
        if theirs is not None and name in theirs.metrics:
            number.append(f" ({fmt.number(theirs.metrics[name])})", palette.warn)
        found.append(number)
    return found


def called(item: SampleItem) -> str:
    """What its user calls it, else the beginning of its id."""
    return fmt.plain(item.key, KEY_CELLS) if item.key else fmt.plain(item.id, 10)


def _newer(line: Text, session: Session, listing: Listing, palette: Palette) -> None:
    """The run has evaluated the item again since it was loaded."""
    item, columns = session.item, listing.columns
    if item is None or not 0 <= item.row < len(columns) or columns.ids[item.row] != item.id:
        return
    same = columns.id_codes == columns.id_codes[item.row]
    newest = int(columns.steps[same & columns.current].max(initial=columns.steps[item.row]))
    known = max((int(columns.steps[row]) for row in session.steps), default=newest)
    if newest > known:
        line.append(f" · now also {step_words(newest)}: s", palette.good)


def sample_list(listing: Listing, text_of: Callable[[int], str], grouped: str | None) -> SampleList:
    """The list for its table: the metric that it is sorted by comes first, ratings only where there are any."""
    columns, notes = listing.columns, listing.notes
    sort = listing.sort or ""
    metrics = tuple(sorted(columns.metrics, key=lambda name: name != sort))
    ratings = notes.ratings if notes is not None and (notes.ratings > 0).any() else None
    return SampleList(
        columns, listing.rows, listing.groups, metrics, sort, listing.descending, ratings,
        text_of=text_of, steps=listing.every_step, grouped=grouped or "label",
        noted=notes.texts if notes is not None else (),
    )  # fmt: skip


def transport_state(session: Session, state: PlayerState, words: str = "") -> TransportState:
    """The player's line; in a blind test nothing on it names a track. `words` are said where there is no item."""
    if session.item is None:
        return TransportState(words=words or "no item is chosen")
    if not session.voices:
        return TransportState(words="no sound in this item")
    shown = replace(state, error=None)  # it has a line of its own, where it fits
    names = zip(session.shown, session.names, session.short_names, strict=True)
    buttons = tuple(TrackButton(view.letter, name, short) for view, name, short in names)
    if session.blind is None:
        return TransportState(shown, buttons, session.matched, unmatched=session.unmatched)
    words = f"blind: {session.blind.heard.upper()} · {session.blind.tally}"
    unmatched = "one of them is silent" if session.unmatched else ""
    return TransportState(replace(shown, warning=None), buttons, session.matched, words, unmatched=unmatched)
