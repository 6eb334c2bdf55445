"""Colours of a chart, all from the theme: series slots, faint variants, warning and error.

A theme may name its series colours itself (`chart-1` to `chart-8` in its variables). Otherwise they are the theme's own
named colours, near-duplicates left out, filled up by turning the primary's hue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from rich.style import Style
from textual.color import Color

T = TypeVar("T")
MARKERS = "●◆■▲○◇□△"
"""The second signal beside colour: one shape per slot, each one cell wide."""
SLOTS = len(MARKERS)
FAINT = 0.68
"""How far an envelope's colour is blended into the background."""
MIN_DISTANCE = 60.0
NAMED = ("primary", "accent", "success", "secondary", "warning")


@dataclass(frozen=True, slots=True)
class ChartStyles:
    """Rich styles for everything a chart draws, background included."""

    base: Style
    muted: Style
    grid: Style
    strong: Style
    warning: Style
    error: Style
    cursor: Style
    bright: tuple[Style, ...]
    faint: tuple[Style, ...]

    def table(self) -> list[Style]:
        """The styles by the numbers that a canvas uses."""
        roles = [self.base, self.muted, self.grid, self.strong, self.warning, self.error, self.cursor]
        return [*roles, *self.bright, *self.faint]


PLAIN, MUTED, GRID, STRONG, WARNING, ERROR, CURSOR = range(7)
"""Style numbers on a canvas; then come the bright and the faint series colours."""


def bright(slot: int) -> int:
    """Style number of a series' line."""
    return CURSOR + 1 + slot % SLOTS


def faint(slot: int) -> int:
    """Style number of a series' envelope."""
    return CURSOR + 1 + SLOTS + slot % SLOTS


def build_styles(variables: Mapping[str, str], foreground: Color, background: Color) -> ChartStyles:
    """Styles for a chart on `background`, from the theme's CSS variables."""
    error = _parse(variables.get("error"), Color(200, 60, 80))
    colours = series_colours(variables, foreground, background)

    def style(colour: Color, *, bold: bool = False) -> Style:
        return Style(color=colour.rich_color, bgcolor=background.rich_color, bold=bold or None)

    return ChartStyles(
        base=style(foreground),
        muted=style(foreground.blend(background, 0.45)),
        grid=style(foreground.blend(background, 0.82)),
        strong=style(foreground, bold=True),
        warning=style(_parse(variables.get("warning"), foreground), bold=True),
        error=style(_readable(error, foreground, background), bold=True),
        cursor=style(foreground.blend(background, 0.3)),
        bright=tuple(style(colour) for colour in colours),
        faint=tuple(style(colour.blend(background, FAINT)) for colour in colours),
    )


def series_colours(variables: Mapping[str, str], foreground: Color, background: Color) -> list[Color]:
    """`SLOTS` colours that differ from each other, from the background and from the error colour."""
    own = [_parse(variables.get(f"chart-{n}"), None) for n in range(1, SLOTS + 1)]
    chosen = [colour for colour in own if colour is not None]
    taken = [background, _parse(variables.get("error"), Color(200, 60, 80)), *chosen]
    primary = _parse(variables.get("primary"), Color(80, 140, 220))
    candidates = [_parse(variables.get(name), primary) for name in NAMED]
    candidates += [_turn(primary, degrees) for degrees in (150, 60, 210, 300, 105, 255, 30, 180, 330, 90, 0, 240, 120)]
    for least in (MIN_DISTANCE, MIN_DISTANCE / 2, 0.0):
        for candidate in candidates:
            colour = _readable(candidate, foreground, background)
            if len(chosen) < SLOTS and min(_distance(colour, other) for other in taken) > least:
                chosen.append(colour)
                taken.append(colour)
    return (chosen or [foreground]) * SLOTS if len(chosen) < SLOTS else chosen


def _parse(text: str | None, default: T) -> Color | T:
    """A CSS colour, or `default` for a missing one and for names only a terminal can resolve (`ansi_blue`)."""
    if not text or text.startswith(("ansi_", "auto")):
        return default
    try:
        return Color.parse(text)
    except ValueError:
        return default


def _turn(colour: Color, degrees: float) -> Color:
    hue, saturation, lightness = colour.hsl
    return Color.from_hsl((hue + degrees / 360) % 1.0, max(saturation, 0.55), min(max(lightness, 0.5), 0.7))


def _readable(colour: Color, foreground: Color, background: Color) -> Color:
    """Move `colour` towards the foreground until it stands out from the background."""
    for _ in range(6):
        if abs(colour.brightness - background.brightness) >= 0.28:
            break
        colour = colour.blend(foreground, 0.2)
    return Color(colour.r, colour.g, colour.b)


def _distance(a: Color, b: Color) -> float:
    """Weighted RGB distance, 0 to about 765 ("redmean", a cheap stand-in for perceptual distance)."""
    red = (a.r + b.r) / 2
    return float(
        ((2 + red / 256) * (a.r - b.r) ** 2 + 4 * (a.g - b.g) ** 2 + (2 + (255 - red) / 256) * (a.b - b.b) ** 2) ** 0.5
    )
