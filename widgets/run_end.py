"""Why a run came to grief, whole and with its last console lines, where there are no curves to look at."""

from __future__ import annotations

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from ..engine import format as fmt
from ..engine.run_view import RunView
from ..engine.state import RunState, describe_end
from .palette import Palette

MOST_WORDS = 2000
MOST_LINES = 12


class RunEnd(Widget):
    """The sentence wrapped over as many lines as it needs; takes no room while there is nothing to say.

    Parameters
    ----------
    lines: how many lines of the console are shown at most.
    """

    DEFAULT_CSS = """
    RunEnd { height: auto; max-height: 80%; padding: 0 1; display: none; }
    """

    told: reactive[Text] = reactive(Text, layout=True)

    def __init__(self, *, lines: int = MOST_LINES, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines = lines

    def show(self, view: RunView | None, *, charts: bool) -> None:
        """News of the run; `charts` is whether curves are shown, which leave no room for this."""
        told = end_words(view, Palette.of(self.app), self._lines) if view is not None and not charts else Text()
        self.display = bool(told)
        self.told = told

    def render(self) -> Text:
        """The words, as they are."""
        return self.told


def end_words(view: RunView, palette: Palette, lines: int = MOST_LINES) -> Text:
    """How a run failed or was killed, in a whole sentence, then the last lines of its console; else nothing."""
    exit_ = view.exit
    if exit_ is None or view.state not in (RunState.FAILED, RunState.KILLED):
        return Text()
    tail = [fmt.plain(line, MOST_WORDS) for line in exit_.tail if line.strip()]
    said = ": ".join(words for words in (describe_end(exit_), tail[-1] if tail else "") if words)
    text = Text(said, style=palette.bad)
    if len(tail) > 1:
        text.append("\n\nlast lines\n", style=palette.muted)
        text.append("\n".join(tail[-lines:]), style=palette.text)
    return text
