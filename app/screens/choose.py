"""One of a few things is wanted: a host, a place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from ...engine import format as fmt
from ...engine.hosts import LOCAL, HostView
from ...widgets.gpu_words import short_name
from ...widgets.palette import Palette


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing: what is dismissed with, its name, and what should be known of it."""

    value: str
    name: str
    words: str = ""
    good: bool = True


class Choose(ModalScreen[str | None]):
    """Dismisses with the value of a choice, or None. Arrow keys and enter, or a click."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="choose.cancel", tooltip="Leave everything as it is"),
    ]
    DEFAULT_CSS = """
    Choose { align: center middle; background: $background 60%; }
    Choose > Vertical { width: 70; max-width: 96%; height: auto; max-height: 90%; padding: 1 2; background: $panel;
        border: round $primary; }
    Choose Static { width: 1fr; height: auto; }
    Choose #detail { color: $text-muted; }
    Choose OptionList { height: auto; max-height: 16; margin-top: 1; border: none; background: $panel; padding: 0; }
    """

    def __init__(self, question: str, choices: Sequence[Choice], detail: str = "") -> None:
        super().__init__()
        self._question = question
        self._detail = detail
        self._choices = tuple(choices)

    def compose(self) -> ComposeResult:
        """Question and list."""
        with Vertical():
            yield Static(Text(self._question, style="bold"), id="question")
            if self._detail:
                yield Static(Text(self._detail), id="detail")
            yield OptionList()

    def on_mount(self) -> None:
        """Fill the list; the first one that works is under the cursor."""
        palette = Palette.of(self.app)
        width = max((len(choice.name) for choice in self._choices), default=0)
        options = []
        for choice in self._choices:
            text = Text().append(f" {choice.name:{width}}  ", style="bold")
            text.append(choice.words, style=palette.muted if choice.good else palette.warn)
            options.append(Option(text))
        listed = self.query_one(OptionList)
        listed.add_options(options)
        listed.highlighted = next((n for n, choice in enumerate(self._choices) if choice.good), 0)
        listed.focus()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._choices[event.option_index].value)


def host_choices(views: Sequence[HostView], without: str | None = None, *, local: bool = True) -> list[Choice]:
    """The machines something can be brought to, those that answer first."""
    others = [view for view in views if not view.is_local and view.name != without]
    choices = [Choice(view.name, fmt.plain(view.name, 40), _words(view), view.link.up) for view in others]
    choices.sort(key=lambda choice: not choice.good)
    if local and without != LOCAL:
        choices.append(Choice(LOCAL, LOCAL, "this machine"))
    return choices


def _words(view: HostView) -> str:
    parts = [f"{view.link.mark} {view.link}"]
    if view.gpus:
        parts.append(f"{len(view.gpus)} × {fmt.plain(short_name(view.gpus[0]), 30)}")
    if view.price_per_hour is not None:
        parts.append(f"{fmt.money(view.price_per_hour)}/h")
    if view.reading is not None and view.reading.disk_free is not None:
        parts.append(f"{fmt.size(view.reading.disk_free)} free")
    return " · ".join(parts)
