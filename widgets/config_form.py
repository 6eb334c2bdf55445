"""A form generated from config fields: one line of documentation, unit and bounds each, checked while typing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.widgets import Input, Select, Static

from ..engine.config import FieldInfo, write_override

Check = Callable[[str, str], str | None]
"""(dotted name, text) -> what is wrong with it, or None."""


class FieldRow(Vertical):
    """Label, input and help of one field; the error takes the help's place."""

    DEFAULT_CSS = """
    FieldRow { height: auto; padding: 0 1; }
    FieldRow Horizontal { height: 1; }
    FieldRow .label { width: 30; max-width: 55%; text-style: bold; }
    FieldRow Input { width: 1fr; max-width: 30; height: 1; border: none; padding: 0 1; background: $panel; }
    FieldRow Input:focus { background: $primary 30%; }
    FieldRow Input.-invalid { background: $error 30%; }
    FieldRow Select { width: 24; height: 1; }
    FieldRow SelectCurrent { border: none; height: 1; padding: 0 1; background: $panel; }
    FieldRow Select:focus > SelectCurrent { border: none; background: $primary 30%; }
    FieldRow Select > SelectOverlay { width: 36; }
    FieldRow .help { color: $text-muted; height: auto; padding-left: 2; }
    FieldRow.wrong .help { color: $error; }
    FieldRow.changed .label { color: $accent; }
    """

    class Edited(Message):
        """The field's text changed by hand."""

        def __init__(self, row: FieldRow) -> None:
            super().__init__()
            self.row = row

    def __init__(self, info: FieldInfo, check: Check) -> None:
        super().__init__()
        self.info = info
        self._check = check
        self.base: str | None = None
        """Text of the value without any edit (from preset and groups); None until it is known."""
        self.error: str | None = None

    @property
    def text(self) -> str:
        """What stands in the input."""
        select = self.query(Select)
        if select:
            return str(select.first(Select).value)
        return self.query_one(Input).value

    @property
    def changed(self) -> bool:
        """Whether it differs from what preset and groups give."""
        return self.base is not None and self.text != self.base

    def compose(self) -> ComposeResult:
        """One line of input, one of help."""
        info = self.info
        with Horizontal():
            yield Static(Text(info.name), classes="label")
            options = _options(info)
            if options:
                yield Select([(option, option) for option in options], allow_blank=False, compact=True)
            else:
                yield Input(compact=True)
        yield Static(Text(_help_words(info)), classes="help")

    def set_base(self, text: str) -> None:
        """Another preset or group: an untouched field follows, an edited one stays."""
        follows = not self.changed
        self.base = text
        if follows:
            self._put(text)
        self._judge()

    def reset(self) -> None:
        """Back to the preset's value."""
        if self.base is not None:
            self._put(self.base)

    def _put(self, text: str) -> None:
        select = self.query(Select)
        if select:
            select.first(Select).value = text
        else:
            self.query_one(Input).value = text

    @on(Input.Changed)
    @on(Select.Changed)
    def _typed(self, event: Message) -> None:
        event.stop()
        self._judge()
        self.post_message(self.Edited(self))

    def _judge(self) -> None:
        self.error = self._check(self.info.name, self.text) if self.changed else None
        self.set_class(self.error is not None, "wrong")
        self.set_class(self.changed, "changed")
        self.query_one(".help", Static).update(Text(f"✗ {self.error}" if self.error else _help_words(self.info)))
        for field in self.query(Input):
            field.set_class(self.error is not None, "-invalid")


class ConfigForm(VerticalScroll, can_focus=False):
    """All fields of a config, by section. Knows values as text only; the meaning stays with `check`."""

    DEFAULT_CSS = """
    ConfigForm .section { height: 1; margin-top: 1; padding: 0 1; color: $accent; text-style: bold; }
    """

    class Changed(Message):
        """Some field was edited."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)

    async def show(self, fields: Sequence[FieldInfo], values: Mapping[str, Any], check: Check) -> None:
        """Draw the form of another recipe."""
        await self.remove_children()
        section = None
        widgets: list[Static | FieldRow] = []
        sections = list(dict.fromkeys(info.group for info in fields))
        for info in sorted(fields, key=lambda field: sections.index(field.group)):
            if info.group != section:
                section = info.group
                widgets.append(Static(Text(section or "general"), classes="section"))
            widgets.append(FieldRow(info, check))
        await self.mount_all(widgets)
        self.set_values(values)

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Values from preset and groups, by dotted name; edited fields keep their edit."""
        for row in self.query(FieldRow):
            row.set_base(value_text(values[row.info.name]))

    def reset(self) -> None:
        """Forget every edit."""
        for row in self.query(FieldRow):
            row.reset()

    @property
    def overrides(self) -> list[str]:
        """`name=text` of every edited field."""
        return [f"{row.info.name}={row.text}" for row in self.query(FieldRow) if row.changed]

    @property
    def errors(self) -> list[str]:
        """What is wrong, a sentence each."""
        return [row.error for row in self.query(FieldRow) if row.error]

    @on(FieldRow.Edited)
    def _edited(self, event: FieldRow.Edited) -> None:
        event.stop()
        self.post_message(self.Changed())

    def focus_first(self) -> None:
        """Give the keys to the first field shown, its text selected."""
        for row in self.query(FieldRow):
            if row.display:
                for field in row.query("Input, Select"):
                    field.focus()
                    break
                break

    def find(self, needle: str) -> bool:
        """Show only the fields whose name or help contains `needle`; False when none does."""
        words, any_shown = needle.lower().split(), False
        for row in self.query(FieldRow):
            haystack = f"{row.info.name} {row.info.help}".lower()
            row.display = all(word in haystack for word in words)
            any_shown = any_shown or bool(row.display)
        for title in self.query(".section"):
            title.display = not words
        return any_shown


def value_text(value: Any) -> str:
    """A value as one would type it after `name=`."""
    return write_override("x", value)[2:]


def _options(info: FieldInfo) -> list[str]:
    if info.kind.word in ("list", "tuple"):
        return []
    if info.choices:
        return [value_text(choice) for choice in info.choices]
    return ["true", "false"] if isinstance(info.default, bool) else []


def _help_words(info: FieldInfo) -> str:
    """`longest time mask (ms, ≥ 0 and < 25)`."""
    limits = ", ".join(part for part in (info.unit or "", info.bounds) if part)
    return f"{info.help} ({limits})" if limits else info.help
