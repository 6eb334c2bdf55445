"""`EvaluationPage`: what the test said of a checkpoint, and the way from a number to the sounds behind it.

Headline numbers stand on top. Below are four parts (classes, confusion matrix, mistakes, breakdowns): side by side
where there is room, otherwise one at a time; the same key goes on to the next. Whatever names a class or a pair of them
opens its clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Static

from ..engine.evaluation import Evaluation, Part
from ..engine.samples.alignment import Confusion
from .confusion_matrix import ConfusionMatrix
from .evaluation_words import (
    CLASS_COLUMNS,
    MISTAKE_COLUMNS,
    SORTS,
    breakdown_text,
    class_rows,
    head_text,
    mistake_rows,
)
from .live_table import LiveTable, VirtualTable
from .palette import BOLD, Palette

WIDE, TALL = 110, 24
"""Cells of the page from which all parts are shown at once."""
PARTS = {"classes": "classes", "matrix": "confusion matrix", "mistakes": "commonest mistakes", "parts": "breakdowns"}
NO_NUMBERS = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class EvaluationPicture:
    """What is known of a run's evaluation.

    Parameters
    ----------
    evaluation: None where there is none that can be read.
    words: why there is none, and what to do; or that the one shown is not the newest.
    """

    evaluation: Evaluation | None = None
    words: str = ""


class ClassTable(LiveTable):
    """Precision, recall and F1 of each class."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("z", "sort", "Sort", id="classes.sort", tooltip="By family, recall, F1, clips, name"),
        Binding("Z", "turn", "Turn", show=False, id="classes.turn", tooltip="The other way round"),
    ]

    sort: reactive[str] = reactive("family")
    """What the rows are sorted by, one of `SORTS`."""
    falling: reactive[bool] = reactive(False)
    """Whether the largest come first; by default the worst do."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(CLASS_COLUMNS, empty="the evaluation says nothing of single classes", id=id)
        self._evaluation = Evaluation()

    def show(self, evaluation: Evaluation) -> None:
        """Replace the rows."""
        self._evaluation = evaluation
        self._fill()

    def watch_sort(self) -> None:
        """Another order; the cursor stays on its class."""
        self._fill()

    watch_falling = watch_sort

    def notify_style_update(self) -> None:
        """Cells carry colours of the theme."""
        super().notify_style_update()
        self._fill()

    def _fill(self) -> None:
        if self.is_mounted:
            palette = Palette.of(self.app)
            self.show_rows(class_rows(self._evaluation.classes, self.sort, falling=self.falling, palette=palette))

    def action_sort(self) -> None:
        """The next order."""
        self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]

    def action_turn(self) -> None:
        """The other way round."""
        self.falling = not self.falling


class BreakdownBars(Widget):
    """A bar for each part of the test, by what its clips are grouped by."""

    DEFAULT_CSS = "BreakdownBars { height: auto; padding: 0 1; }"

    breakdowns: reactive[Mapping[str, Sequence[Part]]] = reactive(dict, layout=True)
    """Parts by property, names safe for a terminal."""

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """One line a part and a property, and one between properties."""
        return max(1, sum(len(parts) + 2 for parts in self.breakdowns.values()) - 1)

    def notify_style_update(self) -> None:
        """Colours follow the theme."""
        super().notify_style_update()
        self.refresh()

    def render(self) -> Text:
        """The bars in the width there is."""
        palette = Palette.of(self.app)
        if not self.breakdowns:
            return Text("the evaluation has no breakdown", style=palette.muted)
        return breakdown_text(self.breakdowns, palette, self.content_size.width)


class EvaluationPage(Vertical):
    """Headline numbers over four parts. `show` gives it a complete picture.

    Messages
    --------
    Wanted: clips of a class, or those of one that were taken for another.
    """

    DEFAULT_CSS = """
    EvaluationPage { height: 1fr; }
    EvaluationPage #evaluation-head { height: auto; max-height: 8; padding: 0 1; }
    EvaluationPage #evaluation-words { height: auto; max-height: 3; padding: 0 1; color: $text-warning; }
    EvaluationPage #evaluation-words.-alone { height: 1fr; max-height: 100%; color: $text-muted; padding: 1 2; }
    EvaluationPage #evaluation-switch { height: 1; padding: 0 1; background: $panel; color: $text-muted; }
    EvaluationPage #evaluation-body { height: 1fr; }
    EvaluationPage .part { height: 1fr; display: none; }
    EvaluationPage .part.-front { display: block; }
    EvaluationPage .part > * { height: 1fr; }
    EvaluationPage.-wide #evaluation-switch { display: none; }
    EvaluationPage.-wide #evaluation-body {
        layout: grid; grid-size: 3 2; grid-columns: 4fr 3fr 3fr; grid-rows: 3fr 2fr; grid-gutter: 0 1;
    }
    EvaluationPage.-wide .part { display: block; border-top: solid $panel; border-title-color: $text-muted; }
    EvaluationPage.-wide .part:focus-within { border-top: solid $accent; border-title-color: $text; }
    EvaluationPage.-wide #part-classes { row-span: 2; }
    EvaluationPage.-wide #part-matrix { column-span: 2; }
    EvaluationPage.-empty #evaluation-head, EvaluationPage.-empty #evaluation-body,
    EvaluationPage.-empty #evaluation-switch { display: none; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "part(1)", "Next part", id="evaluation.next", tooltip="Classes, matrix, mistakes, breakdowns"),
        Binding("shift+tab", "part(-1)", "Part before", show=False, id="evaluation.previous", tooltip="The one before"),
    ]

    front: reactive[str] = reactive("classes")
    """The part that has the keys, and is the only one shown where there is little room."""

    class Wanted(Message):
        """The clips of `truth`, or only those that were taken for `answer`."""

        def __init__(self, page: EvaluationPage, truth: str, answer: str | None) -> None:
            super().__init__()
            self.page, self.truth, self.answer = page, truth, answer

        @property
        def control(self) -> EvaluationPage:
            """The page."""
            return self.page

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._picture = EvaluationPicture(words="looking for an evaluation…")

    def compose(self) -> ComposeResult:
        """Numbers, words, the line that names the parts, the parts."""
        yield Static("", id="evaluation-head", markup=False)
        yield Static("", id="evaluation-words", markup=False)
        yield Static("", id="evaluation-switch", markup=False)
        with Container(id="evaluation-body"):
            with Vertical(id="part-classes", classes="part"):
                yield ClassTable(id="evaluation-classes")
            with Vertical(id="part-matrix", classes="part"):
                yield ConfusionMatrix(id="evaluation-matrix")
            with Vertical(id="part-mistakes", classes="part"):
                yield LiveTable(MISTAKE_COLUMNS, empty="no mistakes", id="evaluation-mistakes")
            with Vertical(id="part-parts", classes="part"), VerticalScroll(id="evaluation-parts"):
                yield BreakdownBars()

    # --- what comes in

    @property
    def picture(self) -> EvaluationPicture:
        """What is shown."""
        return self._picture

    def show(self, picture: EvaluationPicture) -> None:
        """Replace what is shown; the same costs nothing."""
        if picture != self._picture:
            self._picture = picture
            self._draw()

    def on_mount(self) -> None:
        """Titles, and what is known by now."""
        for name, title in PARTS.items():
            self.query_one(f"#part-{name}").border_title = title
        matrix = self.query_one(ConfusionMatrix)
        matrix.words = "the evaluation holds no confusion matrix"
        self._draw()
        self._show_front()

    def on_resize(self, event: events.Resize) -> None:
        """All parts at once, or one."""
        self.set_class(event.size.width >= WIDE and event.size.height >= TALL, "-wide")
        self._draw_head()

    def notify_style_update(self) -> None:
        """Colours follow the theme."""
        super().notify_style_update()
        if self.is_mounted:
            self._draw()

    def watch_front(self) -> None:
        """Another part in front."""
        if self.is_mounted:
            self._show_front()

    def _show_front(self) -> None:
        palette, line = Palette.of(self.app), Text()
        for name, title in PARTS.items():
            self.query_one(f"#part-{name}").set_class(name == self.front, "-front")
            here = name == self.front
            line.append(f" {title} ", style=palette.accent + BOLD if here else palette.muted)
            line.append(" ")
        self.query_one("#evaluation-switch", Static).update(line)

    def _draw(self) -> None:
        """Everything from the picture."""
        evaluation, words = self._picture.evaluation, self._picture.words
        self.set_class(evaluation is None, "-empty")
        line = self.query_one("#evaluation-words", Static)
        line.set_class(evaluation is None, "-alone")
        line.display = bool(words)
        line.update(words)
        if evaluation is None:
            return
        palette = Palette.of(self.app)
        self._draw_head()
        self.query_one(ClassTable).show(evaluation)
        self.query_one("#evaluation-mistakes", LiveTable).show_rows(mistake_rows(evaluation, palette))
        self.query_one(ConfusionMatrix).confusion = confusion_of(evaluation)
        self.query_one(BreakdownBars).breakdowns = evaluation.breakdowns

    def _draw_head(self) -> None:
        evaluation = self._picture.evaluation
        if evaluation is not None:
            text = head_text(evaluation, Palette.of(self.app), self.size.width - 2, whole=self.size.height >= TALL)
            self.query_one("#evaluation-head", Static).update(text)

    # --- keys

    def action_part(self, parts: int) -> None:
        """On to another part."""
        names = list(PARTS)
        self.front = names[(names.index(self.front) + parts) % len(names)]
        self._instrument(self.front).focus()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """A click brings its part to the front too."""
        for name in PARTS:
            if self.query_one(f"#part-{name}") in event.widget.ancestors:
                self.front = name

    def focus_front(self) -> None:
        """Give the keys to the part in front."""
        self._instrument(self.front).focus()

    def _instrument(self, part: str) -> Widget:
        return self.query_one(f"#part-{part}").children[0]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There are parts only while there is an evaluation."""
        return action != "part" or self._picture.evaluation is not None

    @on(VirtualTable.Chosen, "#evaluation-classes")
    def _class_chosen(self, message: VirtualTable.Chosen) -> None:
        message.stop()
        self.post_message(self.Wanted(self, str(message.key), None))

    @on(VirtualTable.Chosen, "#evaluation-mistakes")
    def _mistake_chosen(self, message: VirtualTable.Chosen) -> None:
        message.stop()
        if isinstance(message.key, tuple):
            self.post_message(self.Wanted(self, *message.key))

    @on(ConfusionMatrix.CellChosen)
    def _cell_chosen(self, message: ConfusionMatrix.CellChosen) -> None:
        message.stop()
        self.post_message(self.Wanted(self, message.target, message.predicted))


def confusion_of(evaluation: Evaluation) -> Confusion | None:
    """The counts for the picture; None where the file has none."""
    if not evaluation.confusion:
        return None
    return Confusion(evaluation.order, np.array(evaluation.confusion, np.int64), NO_NUMBERS, NO_NUMBERS)
