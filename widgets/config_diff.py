"""`ConfigDiff`: every setting that differs, with the runs behind each of its values and the best of them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from ..engine import format as fmt
from ..engine.comparing import ComparedRun, Comparison
from ..engine.comparing.differences import value_words
from ..engine.comparing.parallel import result_column
from ..engine.comparing.table import sorted_runs
from .palette import Palette

MOST_RUNS_NAMED = 6
ABSENT = "(not there)"


class ConfigDiff(VerticalScroll, can_focus=True):
    """A page of text; nothing in it is markup."""

    DEFAULT_CSS = "ConfigDiff { padding: 0 1; } ConfigDiff Static { width: 1fr; height: auto; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._comparison: Comparison | None = None
        self._said = Text()

    def compose(self) -> ComposeResult:
        """One static text."""
        yield Static("", id="page", markup=False)

    def show(self, comparison: Comparison) -> None:
        """Draw another comparison; one that says the same costs nothing."""
        self._comparison = comparison
        self._draw()

    def notify_style_update(self) -> None:
        """Colours follow the theme."""
        super().notify_style_update()
        if self.is_mounted:
            self._draw()

    def _draw(self) -> None:
        if self._comparison is None:
            return
        said = page(self._comparison, Palette.of(self.app))
        if said != self._said:
            self._said = said
            self.query_one("#page", Static).update(said)


def page(comparison: Comparison, palette: Palette) -> Text:
    """What differs, then what does not."""
    text = Text()
    names = comparison.differences.names
    if len(comparison.runs) < 2:
        return text.append("one run alone: mark others with space in the list of runs, then c", style=palette.muted)
    if not names:
        text.append("nothing was set differently\n", style=palette.muted)
    else:
        text.append(f"beside each value the {result_column(comparison).title} of its best run\n", style=palette.muted)
    found = {name: values_of(comparison, name) for name in names}
    width = min(32, max((len(words) for groups in found.values() for words, _ in groups), default=0))
    for name in names:
        partial = "  only in some" if name in comparison.differences.partial else ""
        text.append(name, style=palette.accent + Style(bold=True)).append(f"{partial}\n", style=palette.muted)
        for words, runs in found[name]:
            text.append(f"  {fmt.plain(words, 32):{width}}  ", style=palette.primary)
            text.append(f"{_result(comparison, runs):>9}  ", style=palette.text)
            named = ", ".join(run.label for run in runs[:MOST_RUNS_NAMED])
            more = f", and {len(runs) - MOST_RUNS_NAMED} more" if len(runs) > MOST_RUNS_NAMED else ""
            text.append(f"{named}{more}\n", style=palette.muted)
    if comparison.differences.common:
        text.append("\nthe same in all\n", style=palette.accent + Style(bold=True))
        for name, value in comparison.differences.common.items():
            text.append(f"  {name}: ", style=palette.muted).append(f"{value_words(value, 80)}\n")
    return text


def values_of(comparison: Comparison, name: str) -> list[tuple[str, Sequence[ComparedRun]]]:
    """The values of a setting with their runs, best first; the value of the best run first."""
    groups: dict[str, list[ComparedRun]] = {}
    for run in sorted_runs(comparison, result_column(comparison)):
        words = value_words(run.settings[name]) if name in run.settings else ABSENT
        groups.setdefault(words, []).append(run)
    return list(groups.items())


def _result(comparison: Comparison, runs: Sequence[ComparedRun]) -> str:
    """The best of some runs that are sorted best first."""
    value = result_column(comparison).value(runs[0])
    return fmt.MISSING if value is None else fmt.number(value)
