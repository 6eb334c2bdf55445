"""What stands in place of the tracks during a blind test: nothing that could tell what X is."""

from __future__ import annotations

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from ...widgets.palette import BOLD, Palette
from .blind import BlindTest


class BlindPanel(Widget):
    """The trial, what is heard, the keys and the tally.

    Reactives
    ---------
    test: the blind test, replaced as a whole.
    """

    DEFAULT_CSS = """
    BlindPanel { height: 1fr; background: $surface; padding: 1 2; content-align: center middle; text-align: center; }
    """

    test: reactive[BlindTest | None] = reactive[BlindTest | None](None)

    def notify_style_update(self) -> None:
        """Colours changed with the theme."""
        super().notify_style_update()
        self.refresh()

    def render(self) -> Text:
        """As few lines as hold everything."""
        test, palette = self.test, Palette.of(self.app)
        if test is None:
            return Text("")
        text = Text(justify="center")
        text.append(f"blind A/B/X, trial {test.trials + 1}\n", palette.text + BOLD)
        for letter in "abx":
            heard = letter == test.heard
            name = f"[♪ {letter.upper()}]" if heard else f"  {letter.upper()}  "
            text.append(f" {name} ", palette.accent + BOLD if heard else palette.muted)
        text.append("\n")
        if test.last_right is not None:
            words, style = ("✓ right", palette.good) if test.last_right else ("✗ wrong", palette.bad)
            text.append(f"{words}   ", style + BOLD)
        text.append(test.tally, palette.text)
        text.append("\na b x hear A, B or X at the same playhead", palette.muted)
        text.append("\nA: X is A   B: X is B   esc: end", palette.text + BOLD)
        return text
