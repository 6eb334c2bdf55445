"""The files attached to an item: a page that shows what is text in them. They are read in a thread, once it is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from ...engine import format as fmt
from ...engine.errors import WavedeckError
from ...engine.samples import SampleItem, SampleSet
from ...widgets.palette import BOLD, Palette
from .background import in_thread

MOST_TEXT = 64 * 1024
"""Larger files are saved, not shown."""
MOST_LINES, MOST_LINE = 2000, 400


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """One file. `size` and `text` are None where it is too long, `text` also where it is none.

    `problem`: why it cannot be read, a sentence.
    """

    name: str
    size: int | None = 0
    text: str | None = None
    problem: str = ""


def read_attached(samples: SampleSet, item: SampleItem) -> list[AttachedFile]:
    """What is attached to an item; a file that cannot be read says so and costs only itself."""
    found = []
    for name in item.attachments:
        try:
            content = samples.read_attachment(item, name, MOST_TEXT + 1)
        except (WavedeckError, OSError) as error:
            found.append(AttachedFile(name, problem=fmt.plain(str(error), 200)))
            continue
        short = len(content) <= MOST_TEXT
        found.append(AttachedFile(name, len(content) if short else None, _as_text(content) if short else None))
    return found


def _as_text(content: bytes) -> str | None:
    try:
        return None if b"\0" in content else content.decode("utf-8")
    except UnicodeDecodeError:
        return None


class AttachedPage(VerticalScroll):
    """Names, sizes and texts of what is attached."""

    DEFAULT_CSS = """
    AttachedPage { height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; background: $surface; }
    AttachedPage > Static { height: auto; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._wanted: tuple[SampleSet, SampleItem] | None = None
        self._known: SampleItem | None = None
        self._on_screen = False

    def compose(self) -> ComposeResult:
        """One tall text."""
        yield Static("", markup=False)

    def show(self, samples: SampleSet | None, item: SampleItem | None) -> None:
        """Take another item; nothing is read before this is on screen."""
        if samples is not None and item is not None and item.attachments:
            self._wanted = samples, item
        else:
            self._wanted = None
        self._begin()

    def on_show(self) -> None:
        """Read what came while this was hidden."""
        self._on_screen = True
        self._begin()

    def on_hide(self) -> None:
        """What comes now can wait."""
        self._on_screen = False

    def _begin(self) -> None:
        if self._wanted is not None and self._on_screen and self._known is not self._wanted[1]:
            self._known = self._wanted[1]
            self.query_one(Static).update("reading the files…")
            self._read(*self._wanted)

    @work(exclusive=True, group="attached", name="reading the attached files", exit_on_error=False)
    async def _read(self, samples: SampleSet, item: SampleItem) -> None:
        files = await in_thread(lambda: read_attached(samples, item))
        if item is self._known:
            self.query_one(Static).update(attached_text(files, Palette.of(self.app)))
            self.scroll_home(animate=False)


def attached_text(files: Sequence[AttachedFile], palette: Palette) -> Text:
    """Each file under its name; control characters of a foreign file are shown, not obeyed."""
    text = Text()
    for place, file in enumerate(files):
        text.append("\n\n" if place else "")
        text.append(fmt.plain(file.name, 60), palette.accent + BOLD)
        if file.problem:
            text.append(f"  ! {file.problem}", palette.bad)
            continue
        if file.text is None:
            what = f"more than {fmt.size(MOST_TEXT)}" if file.size is None else f"{fmt.size(file.size)}, no text"
            text.append(f"  {what}: e saves it", palette.muted)
            continue
        text.append(f"  {fmt.size(file.size)}", palette.muted)
        lines = file.text.splitlines()
        for line in lines[:MOST_LINES]:
            text.append(f"\n{fmt.plain(line.expandtabs(4), MOST_LINE)}", palette.text)
        if len(lines) > MOST_LINES:
            text.append(f"\n… {fmt.count(len(lines) - MOST_LINES)} more lines: e saves the file", palette.muted)
    return text
