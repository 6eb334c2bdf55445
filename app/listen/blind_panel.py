"""What stands in place of the tracks during a blind test: nothing that could tell what X is. Then what came out."""

from __future__ import annotations

from rich.text import Text
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from ...engine.format import plain
from ...widgets.palette import BOLD, Palette
from .blind import BlindResult, BlindTest


class BlindPanel(Widget, can_focus=True):
    """The trial, what is heard, the keys and the tally; after the test the result, until a key is pressed.

    Reactives
    ---------
    test: the blind test, replaced as a whole.
    result: what came out of one that has ended; while it is shown every key goes here and means "seen".
    names: what A and B are, untrusted; that is no secret, X is.
    """

    DEFAULT_CSS = """
    BlindPanel { height: 1fr; background: $surface; padding: 0 2; content-align: center middle; text-align: center; }
    """

    test: reactive[BlindTest | None] = reactive[BlindTest | None](None)
    result: reactive[BlindResult | None] = reactive[BlindResult | None](None)
    names: reactive[tuple[str, str]] = reactive(("", ""))

    class Seen(Message):
        """The result was read."""

    def notify_style_update(self) -> None:
        """Colours changed with the theme."""
        super().notify_style_update()
        self.refresh()

    def on_key(self, event: events.Key) -> None:
        """Any key; it does nothing else."""
        if self.result is not None:
            event.stop()
            event.prevent_default()
            self.post_message(self.Seen())

    def on_click(self) -> None:
        """As a key."""
        if self.result is not None:
            self.post_message(self.Seen())

    def render(self) -> Text:
        """As few lines as hold everything."""
        test, palette = self.test, Palette.of(self.app)
        if test is None:
            return Text("") if self.result is None else result_text(self.result, palette)
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
        if all(self.names):
            first, second = (plain(name, 30) for name in self.names)
            text.append(f"\nA is {first}, B is {second}", palette.muted)
        text.append("\na b x hear A, B or X at the same playhead", palette.muted)
        text.append("\nA: X is A   B: X is B   esc: end", palette.text + BOLD)
        return text


def result_text(result: BlindResult, palette: Palette) -> Text:
    """Which two were compared, how many answers were right, and what guessing would have got."""
    first, second = (plain(name, 30) for name in result.pair)
    text = Text(justify="center")
    text.append("blind test ended\n", palette.muted)
    text.append(f"{first} against {second}\n", palette.text + BOLD)
    text.append(f"{result.tally}\n", palette.accent + BOLD)
    return text.append("kept in the notes of the item (Facts); any key goes on", palette.muted)
