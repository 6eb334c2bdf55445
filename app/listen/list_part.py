"""The list of the Listen screen: what stands in it, what is said above it and in place of it. A mixin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.widgets import Static

from ...engine import format as fmt
from ...engine.errors import WavedeckError
from ...engine.names import tail
from ...widgets.palette import Palette
from ...widgets.sample_table import SampleTable
from .details import Details, confusion_of, has_classes
from .item_line import list_line, sample_list
from .listing import Listing, Wanted, arrange
from .sound_actions import SoundActions

if TYPE_CHECKING:
    from .messages import SamplesSeen

NO_SAMPLES = "no samples yet"
HOW = "log_sample({'target': (target, rate), 'prediction': (made, rate)}, step=step): docs/samples.md"


class ListPart(SoundActions):
    """Arranging, and what is said of it."""

    sets: tuple[str, ...]
    listing: Listing
    wanted: Wanted
    _seen: SamplesSeen | None
    _preferred: str | None
    _item_wanted: str | None
    _has_recipe: bool = False
    _was_empty: bool = False
    class_order: Sequence[str] = ()
    """Classes in the order of the run's evaluation, by family; those that it does not know follow by name."""

    if TYPE_CHECKING:

        def _show_item_line(self) -> None: ...
        def show_item(self, row: int | None, *, keep: bool = False) -> None: ...

    @property
    def empty(self) -> bool:
        """Whether it is known that there is not one item, whatever the filter."""
        return self._seen is not None and not self._seen.more and not self.listing.total

    @property
    def no_item_words(self) -> str:
        """What to do where there is nothing to listen to; nothing where there is."""
        if not self.empty:
            return ""
        name = fmt.plain(tail(self.run_id), 40)
        when = f"when it evaluates (`wavedeck eval {name}` does that now), or " if self._has_recipe else ""
        return f"{name} has no samples: they appear {when}with wavedeck.log_sample in your script. {HOW}"

    def show_list(self) -> None:
        """Arrange the list as it is wanted; the cursor stays on its item."""
        seen = self._seen
        if seen is None:
            return
        self.listing = listing = arrange(seen.columns, self.wanted, seen.notes, self._preferred)
        columns = listing.columns
        shown = sample_list(listing, self._text_of, self.wanted.group)
        self.query_one(SampleTable).show_samples(shown, self._empty_words())
        self._show_list_line()
        self.query_one(Details).show_confusion(
            confusion_of(columns, self.class_order) if has_classes(columns) else None
        )
        self._show_item_line()
        if self.empty != self._was_empty:
            self._was_empty = self.empty
            if self.session.item is None:
                self.show_item(None)
            self.refresh_bindings()

    def _empty_words(self) -> str:
        if self._seen is None or self._seen.more:
            return "reading the samples…"
        return "no item fits: esc shows all of them" if self.listing.total else NO_SAMPLES

    def _show_list_line(self) -> None:
        line = self.query_one("#list-line", Static)
        width = line.content_size.width or 10_000
        palette, name = Palette.of(self.app), self.session.samples.name
        line.update(list_line(name, self.sets, self.listing, self.wanted, self._seen, palette, width))

    def _text_of(self, row: int) -> str:
        """The beginning of a row's text as it was written."""
        try:
            return next(iter(self.session.samples.item(row).text.values()), "")
        except (WavedeckError, OSError):
            return ""

    def find_wanted(self) -> None:
        """Put the cursor on the item the screen was opened for, once it is there."""
        if self._item_wanted is None or self._seen is None:
            return
        try:
            found = self.session.samples.find(self._item_wanted)
        except WavedeckError as error:
            self.tell(str(error), "warning")
            found = None
        if found is not None:
            self.query_one(SampleTable).select_row(found.row)
        elif not self._seen.more:
            self.tell(f"There is no item {fmt.plain(self._item_wanted, 40)} in the set {self.session.samples.name}.")
        if found is not None or not self._seen.more:
            self._item_wanted = None
