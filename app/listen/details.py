"""The pages below the tracks: text, classes, confusion matrix, parameters, facts. Each shows what the sample holds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Static

from ...engine import format as fmt
from ...engine.errors import WavedeckError
from ...engine.evaluation import read_evaluation
from ...engine.rundir import RunDir
from ...engine.samples import SampleColumns, SampleItem, SampleSet
from ...engine.samples.notes import BlindNote, Note
from ...widgets.class_bars import ClassBars, ClassScores
from ...widgets.confusion_matrix import Confusion, ConfusionMatrix
from ...widgets.palette import BOLD, Palette
from ...widgets.parameter_table import ParameterTable
from ...widgets.text_diff import TextDiff, TextPair
from .attached import AttachedPage
from .blind import tally_words

PAGES = {
    "text": "Text",
    "classes": "Classes",
    "confusion": "Confusion",
    "parameters": "Parameters",
    "attached": "Files",
    "facts": "Facts",
}
SAID = ("prediction", "predicted", "hypothesis", "output", "transcript")
MEANT = ("target", "reference", "label", "truth", "text")
MOST_CLASSES = 500
WRONG_FACTS = 400


class PageTabs(Static):
    """One line: the pages there are, the one shown in brackets."""

    DEFAULT_CSS = "PageTabs { height: 1; width: 1fr; background: $panel; padding: 0 1; }"

    class Wanted(Message):
        """A click on a page's name."""

        def __init__(self, page: str) -> None:
            super().__init__()
            self.page = page

    def show(self, pages: tuple[str, ...], current: str) -> None:
        """Draw the names."""
        palette = Palette.of(self.app)
        line, self._places = Text(no_wrap=True, overflow="ellipsis"), []
        for page in pages:
            start = line.cell_len
            name = f"[{PAGES[page]}]" if page == current else f" {PAGES[page]} "
            line.append(name, palette.accent + BOLD if page == current else palette.muted)
            self._places.append((start, line.cell_len, page))
            line.append(" ")
        if len(pages) > 1:
            line.append(" tab", palette.muted)
        self.update(line)

    _places: list[tuple[int, int, str]]

    def on_click(self, event: object) -> None:
        """Ask for the page under the pointer."""
        x = getattr(event, "x", 0) - self.gutter.left
        for start, end, page in getattr(self, "_places", []):
            if start <= x < end:
                self.post_message(self.Wanted(page))


class Details(Vertical):
    """Shows the pages that an item and its set have something for.

    Reactives
    ---------
    page: which one is in front.
    """

    DEFAULT_CSS = """
    Details { height: 1fr; background: $surface; }
    Details ContentSwitcher { height: 1fr; }
    Details #page-facts { height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; }
    Details #page-facts > Static { height: auto; }
    """
    CAPTURED: ClassVar[tuple[type[Widget], ...]] = (ConfusionMatrix,)

    page: reactive[str] = reactive("facts", init=False)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.pages: tuple[str, ...] = ("facts",)
        self._chosen: str | None = None

    def compose(self) -> ComposeResult:
        """Names of the pages above the one that is shown."""
        yield PageTabs("", markup=False)
        with ContentSwitcher(initial="page-facts"):
            yield TextDiff(id="page-text")
            yield ClassBars(id="page-classes")
            yield ConfusionMatrix(id="page-confusion")
            yield ParameterTable(id="page-parameters")
            yield AttachedPage(id="page-attached")
            with VerticalScroll(id="page-facts"):
                yield Static("", markup=False)

    def show(
        self,
        item: SampleItem | None,
        note: Note,
        wrong: str,
        has_classes: bool,
        samples: SampleSet | None = None,
        tests: Sequence[BlindNote] = (),
        other: tuple[str, SampleItem] | None = None,
        words: str = "",
    ) -> None:
        """Take another item.

        Parameters
        ----------
        samples: where the item's attached files are.
        wrong: what is wrong with the item, in sentences, or nothing.
        has_classes: the set has labels and predictions.
        tests: blind tests of the item.
        other: the same item of the run that is compared with, and that run's name.
        words: in place of facts where there is no item.
        """
        facts = facts_text(item, note, wrong, Palette.of(self.app), tests, other, words)
        self.query_one("#page-facts > Static", Static).update(facts)
        pages = []
        pair = pair_of(item.text, other) if item is not None else None
        self.query_one(TextDiff).pair = pair
        if pair is not None:
            pages.append("text")
        scores = item is not None and (item.probabilities or item.predicted is not None)
        self.query_one(ClassBars).scores = (
            ClassScores(item.probabilities, item.label, item.predicted) if item is not None and scores else None
        )
        if scores:
            pages.append("classes")
        if has_classes:
            pages.append("confusion")
        self.query_one(ParameterTable).show_parameters(item.parameters if item is not None else {})
        if item is not None and item.parameters:
            pages.append("parameters")
        self.query_one(AttachedPage).show(samples, item)
        if item is not None and item.attachments and samples is not None:
            pages.append("attached")
        self.pages = (*pages, "facts")
        wanted = self._chosen if self._chosen in self.pages else self.pages[0]
        self.page = "facts" if wrong and self._chosen is None else wanted
        self._draw()

    def show_confusion(self, confusion: Confusion | None) -> None:
        """The set's matrix anew."""
        self.query_one(ConfusionMatrix).confusion = confusion

    def turn(self, pages: int) -> None:
        """To the next page, or the one before."""
        at = self.pages.index(self.page) if self.page in self.pages else 0
        self._chosen = self.page = self.pages[(at + pages) % len(self.pages)]

    def turn_to(self, page: str) -> bool:
        """To a page, and to it again for other items; False when there is nothing on it."""
        if page in self.pages:
            self._chosen = self.page = page
        return page in self.pages

    @property
    def front(self) -> Widget:
        """The widget of the page that is shown."""
        return self.query_one(f"#page-{self.page}")

    def watch_page(self) -> None:
        """Bring it to the front."""
        self.query_one(ContentSwitcher).current = f"page-{self.page}"
        self._draw()

    def _draw(self) -> None:
        self.query_one(PageTabs).show(self.pages, self.page)

    @on(PageTabs.Wanted)
    def _tab_clicked(self, message: PageTabs.Wanted) -> None:
        self._chosen = self.page = message.page


def pair_of(text: Mapping[str, str], other: tuple[str, SampleItem] | None = None) -> TextPair | None:
    """What was meant and what was said, by their names, and what another run said; None where they do not tell: two
    texts need not be a pair."""
    meant = next((name for name in MEANT if name in text), None)
    said = next((name for name in SAID if name in text), None)
    if meant is None or said is None:
        return None
    beside = None
    if other is not None:
        theirs = next((other[1].text[name] for name in SAID if name in other[1].text), None)
        beside = None if theirs is None else (other[0], theirs)
    return TextPair(text[meant], text[said], (meant, said), beside)


def confusion_of(columns: SampleColumns, first: Sequence[str] = ()) -> Confusion | None:
    """Counts over the newest evaluation of each item; None where the set has no labels and predictions.

    The classes of `first` come first, in that order, the others by name.
    """
    ranks = {name: rank for rank, name in enumerate(first)}
    kept = columns.newest() & (columns.label_codes >= 0) & (columns.predicted_codes >= 0)
    if not kept.any():
        return None
    rows, guesses = columns.label_codes[kept], columns.predicted_codes[kept]
    used = np.unique(np.concatenate((rows, guesses)))
    names = {code: columns.classes[code] for code in used.tolist()}
    order = sorted(names, key=lambda code: (ranks.get(names[code], len(ranks)), names[code].casefold()))[:MOST_CLASSES]
    place = np.full(len(columns.classes), -1, np.int64)
    place[order] = np.arange(len(order))
    labels, predicted = place[rows], place[guesses]
    both = (labels >= 0) & (predicted >= 0)
    cells = labels[both] * len(order) + predicted[both]
    counts = np.bincount(cells, minlength=len(order) ** 2).reshape(len(order), len(order))
    return Confusion(tuple(columns.classes[code] for code in order), counts.astype(np.int64), labels, predicted)


def class_order(run: RunDir) -> tuple[str, ...]:
    """Classes by family, as the run's evaluation has them; none where it says nothing."""
    try:
        evaluation = read_evaluation(run.path)
    except WavedeckError:
        return ()
    return evaluation.class_order if evaluation is not None else ()


def has_classes(columns: SampleColumns) -> bool:
    """Whether there is a confusion matrix to show."""
    return bool(len(columns)) and bool(((columns.label_codes >= 0) & (columns.predicted_codes >= 0)).any())


def facts_text(
    item: SampleItem | None,
    note: Note,
    wrong: str,
    palette: Palette,
    tests: Sequence[BlindNote] = (),
    other: tuple[str, SampleItem] | None = None,
    words: str = "",
) -> Text:
    """Everything that has no page of its own: what is wrong, note, blind tests, metrics, texts, tags, attachments."""
    text = Text()
    if item is None:
        return text.append(words or "no item is chosen", palette.muted)

    def line(name: str, value: str, style: object = palette.text) -> None:
        text.append(f"{fmt.plain(name, 24):<14} ", palette.muted)
        text.append(f"{value}\n", style)  # type: ignore[arg-type]

    if wrong:
        line("! wrong", fmt.plain(wrong, WRONG_FACTS), palette.bad + BOLD)
    if note.rating is not None:
        line("rating", "★" * note.rating + f" {note.rating} of 5")
    if note.text:
        line("note", fmt.plain(note.text, 1000))
    for test in tests:
        line("blind test", _test_words(test))
    line("id", fmt.plain(item.id, 80))
    line("when", f"{_step(item)}{f' · epoch {fmt.number(item.epoch)}' if item.epoch is not None else ''}")
    if item.label is not None or item.predicted is not None:
        line("class", f"{_word(item.label)} → {_word(item.predicted)}")
    their_name, theirs = (fmt.plain(other[0], 24), other[1]) if other is not None else ("", None)
    for name, value in item.metrics.items():
        beside = theirs.metrics.get(name) if theirs is not None else None
        line(name, fmt.number(value) + (f"   {their_name} {fmt.number(beside)}" if beside is not None else ""))
    if item.tags:
        line("tags", ", ".join(fmt.plain(tag, 40) for tag in item.tags))
    for name, said in item.text.items():
        line(name, fmt.plain(said, 1000))
        beside_text = theirs.text.get(name) if theirs is not None else None
        if beside_text is not None and beside_text != said:
            line(their_name, fmt.plain(beside_text, 1000))
    for name, path in item.attachments.items():
        line("attached", f"{fmt.plain(name, 40)}: {fmt.plain(path, 120)}")
    return text


def _test_words(test: BlindNote) -> str:
    """`target against prediction: 7 of 10 right, p = 0.172 by guessing · step 300 · 2026-09-21 14:27`."""
    first, second = (fmt.plain(name, 40) for name in test.pair)
    when = "" if test.step is None else f" · step {test.step:,}"
    clock = time.strftime(" · %Y-%m-%d %H:%M", time.localtime(test.t)) if 0 < test.t < 4e9 else ""
    return f"{first} against {second}: {tally_words(test.right, test.trials, test.p)}{when}{clock}"


def _step(item: SampleItem) -> str:
    return "no step" if item.step is None else f"step {item.step:,}"


def _word(name: str | None) -> str:
    return fmt.MISSING if name is None else fmt.plain(name, 40)
