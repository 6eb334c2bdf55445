"""Asks which run's version of an item is to be heard beside ours: each says what it made of it, or that it has none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from ...engine.errors import WavedeckError
from ...engine.format import number, plain
from ...engine.names import tail
from ...engine.run_view import RunView
from ...engine.samples import SampleItem, SampleSet, sample_sets
from ...widgets.palette import BOLD, Palette
from .background import in_thread
from .item_line import called
from .voices import step_words

MOST_METRICS = 3


@dataclass(frozen=True, slots=True)
class Found:
    """What a run has of the item: its newest evaluation, or None and why not."""

    run_id: str
    item: SampleItem | None
    words: str = ""


def look_up(views: Sequence[RunView], set_name: str, wanted: SampleItem) -> Iterator[Found]:
    """Each run's version of an item, in the set of that name or in its first one. Reads indexes: this takes time."""
    for view in views:
        try:
            sets = sample_sets(Path(view.dir))
            name = set_name if set_name in sets else sets[0]
            samples = SampleSet(Path(view.dir), name).load()
            item = samples.find(wanted.id, wanted.step) or samples.find(wanted.id)
            samples.close()
        except (WavedeckError, OSError, IndexError) as error:
            yield Found(view.id, None, plain(str(error), 80) or "its samples are gone")
            continue
        yield Found(view.id, item, "" if item is not None else f"has no such item in its set {plain(name, 30)}")


class CompareAsk(ModalScreen[str | None]):
    """Dismisses with the id of the chosen run, or None.

    Parameters
    ----------
    views: the other runs that have samples. set_name, item: what is to be compared.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="compare.cancel", tooltip="Compare with no run"),
    ]
    DEFAULT_CSS = """
    CompareAsk { align: center middle; background: $background 60%; }
    CompareAsk > Vertical { width: 90%; max-width: 110; height: auto; max-height: 90%; padding: 0 1;
        background: $panel; border: round $primary; }
    CompareAsk Static { width: 1fr; height: auto; max-height: 2; }
    CompareAsk OptionList { height: auto; max-height: 16; background: $panel; border: none; padding: 0; }
    CompareAsk OptionList:focus { border: none; }
    CompareAsk OptionList > .option-list--option-highlighted { background: $primary 45%; }
    """

    def __init__(self, views: Sequence[RunView], set_name: str, item: SampleItem) -> None:
        super().__init__()
        self._views, self._set, self._item = views, set_name, item
        self._ids: list[str] = []

    def compose(self) -> ComposeResult:
        """What is compared, above the runs that have it."""
        with Vertical() as box:
            box.border_title = Content(f"compare {called(self._item)} with another run")
            yield Static("looking for this item in the other runs…", id="said", markup=False)
            yield OptionList(id="runs")

    def on_mount(self) -> None:
        """Look in a thread."""
        self._look()

    @work(name="looking for the item in other runs", exit_on_error=False)
    async def _look(self) -> None:
        worker = get_current_worker()
        lacking: list[Found] = []
        found = look_up(self._views, self._set, self._item)
        while not worker.is_cancelled:
            one = await in_thread(lambda: next(found, None))
            if one is None:
                break
            if one.item is None:
                lacking.append(one)
            else:
                self._add(one)
        self._show_rest(lacking)

    def _add(self, found: Found) -> None:
        """A run that has it: one can choose while others are still read."""
        options = self.query_one(OptionList)
        self._ids.append(found.run_id)
        options.add_option(_option(found, Palette.of(self.app)))
        if options.highlighted is None:
            options.highlighted = 0
            options.focus()

    def _show_rest(self, lacking: Sequence[Found]) -> None:
        """Those without it, last and not to be chosen."""
        options, palette = self.query_one(OptionList), Palette.of(self.app)
        for found in lacking:
            line = Text(f"{tail(found.run_id)}  {found.words}", palette.muted, no_wrap=True, overflow="ellipsis")
            options.add_option(Option(line, disabled=True))
        ours = _facts(self._item) or "no metrics"
        words = f"ours: {ours}   enter hears the chosen one beside it" if self._ids else "no other run has this item"
        self.query_one("#said", Static).update(Text(words, palette.muted))

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._ids[event.option_index])


def _option(found: Found, palette: Palette) -> Option:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(plain(tail(found.run_id), 30), palette.accent + BOLD)
    if found.item is not None:
        line.append(f"  {step_words(found.item.step)}", palette.text)
        line.append(f" · {_facts(found.item)}" if _facts(found.item) else "", palette.text)
        said = next((text for name, text in found.item.text.items() if name not in ("target", "reference")), "")
        line.append(f" · “{plain(said, 60)}”" if said else "", palette.muted)
    return Option(line)


def _facts(item: SampleItem) -> str:
    """`wer 0.14 · snr 17.2`."""
    metrics = list(item.metrics.items())[:MOST_METRICS]
    classes = [f"→ {plain(item.predicted, 20)}"] if item.predicted is not None else []
    return " · ".join([*classes, *(f"{plain(name, 20)} {number(value)}" for name, value in metrics)])
