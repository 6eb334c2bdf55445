"""The colours of the current theme as rich styles. Every widget asks here; a colour never carries a meaning alone."""

from __future__ import annotations

from dataclasses import dataclass

from rich.style import Style
from textual.app import App
from textual.color import Color, ColorParseError

from ..engine.state import RunState


@dataclass(frozen=True, slots=True)
class Palette:
    """Styles by role."""

    text: Style
    muted: Style
    good: Style
    warn: Style
    bad: Style
    accent: Style
    primary: Style

    @classmethod
    def of(cls, app: App[object]) -> Palette:
        """The palette of the theme in use."""
        variables = app.theme_variables
        return cls(
            text=_style(variables, "foreground"),
            muted=_style(variables, "foreground", MUTED_ALPHA),
            good=_style(variables, "success"),
            warn=_style(variables, "warning"),
            bad=_style(variables, "error"),
            accent=_style(variables, "accent"),
            primary=_style(variables, "primary"),
        )

    def state(self, state: RunState) -> Style:
        """How a run's state looks."""
        return {
            RunState.RUNNING: self.good + BOLD,
            RunState.STARTING: self.good,
            RunState.STALLED: self.warn + BOLD,
            RunState.UNREACHABLE: self.warn,
            RunState.QUEUED: self.muted,
            RunState.FINISHED: self.primary,
            RunState.STOPPED: self.text,
            RunState.FAILED: self.bad + BOLD,
            RunState.KILLED: self.bad + BOLD,
            RunState.VANISHED: self.bad,
            RunState.UNREADABLE: self.bad,
        }[state]


BOLD = Style(bold=True)


MUTED_ALPHA = 0.6


def _style(variables: dict[str, str], name: str, alpha: float = 1.0) -> Style:
    """A theme variable as a colour; `alpha` lets that much of it through over the background."""
    try:
        colour = Color.parse(variables[name])
        background = Color.parse(variables["background"])
    except (KeyError, ColorParseError):
        return Style()
    return Style(color=background.blend(colour, alpha * colour.a, 1.0).rich_color)
