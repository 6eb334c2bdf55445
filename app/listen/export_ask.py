"""Asks what to export, where to and how; the answer is a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

What = Literal["track", "region", "item", "files", "set"]
Kind = Literal["wav", "flac"]


@dataclass(frozen=True, slots=True)
class ExportWish:
    """What to write: the heard track or difference, the looped region of it, all tracks of the item, the files that are
    attached to it, or every listed item."""

    what: What
    kind: Kind
    folder: Path


class ExportAsk(ModalScreen[ExportWish | None]):
    """Dismisses with the wish, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="export.cancel", tooltip="Export nothing"),
        Binding("ctrl+f", "kind", "WAV/FLAC", id="export.kind", tooltip="Another kind of file", priority=True),
        Binding("down", "app.focus_next", show=False, id="export.down", tooltip="The next button"),
        Binding("up", "app.focus_previous", show=False, id="export.up", tooltip="The button before"),
    ]
    DEFAULT_CSS = """
    ExportAsk { align: center middle; background: $background 60%; }
    ExportAsk > Vertical { width: 72; max-width: 98%; height: auto; max-height: 98%; padding: 0 2;
        background: $panel; border: round $primary; }
    ExportAsk Static { width: 1fr; height: auto; }
    ExportAsk Horizontal { height: auto; }
    ExportAsk Button { margin: 0 1 0 0; min-width: 10; }
    """

    def __init__(self, folder: Path, track: str, region: str, item: str, listed: int, files: str = "") -> None:
        super().__init__()
        self._folder = folder
        self._choices: list[tuple[What, str]] = []
        if track:
            self._choices.append(("track", f"Track {track}"))
        if track and region:
            self._choices.append(("region", f"Region {region} of it"))
        if item:
            self._choices.append(("item", f"All tracks of {item}"))
        if files:
            self._choices.append(("files", f"Attached: {files}"))
        self._choices.append(("set", f"All {listed:,} listed items"))
        self._kind: Kind = "wav"

    def compose(self) -> ComposeResult:
        """Folder, kind, one button for each thing that can be exported."""
        with Vertical() as box:
            box.border_title = "export"
            yield Input(str(self._folder), id="folder")
            yield Static(self._kind_words(), id="kind")
            for what, words in self._choices:
                yield Button(Text(words), id=f"export-{what}", compact=True)
            with Horizontal():
                yield Button("Cancel (esc)", id="no", compact=True)

    def on_mount(self) -> None:
        """Enter exports the first thing."""
        self.query(Button).first().focus()

    def action_kind(self) -> None:
        """WAV or FLAC."""
        self._kind = "flac" if self._kind == "wav" else "wav"
        self.query_one("#kind", Static).update(self._kind_words())

    def _kind_words(self) -> Text:
        words = {"wav": "WAV, float32 as it is", "flac": "FLAC, 24 bits, cut at full scale"}[self._kind]
        return Text(f"{words}   (ctrl+f: the other kind)")

    @on(Input.Submitted)
    def _folder_given(self) -> None:
        self.query(Button).first().focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        pressed = event.button.id or ""
        folder = self.query_one(Input).value.strip()
        if pressed == "no" or not folder:
            self.dismiss(None)
            return
        what = next(what for what, _ in self._choices if pressed == f"export-{what}")
        self.dismiss(ExportWish(what, self._kind, Path(folder).expanduser()))
