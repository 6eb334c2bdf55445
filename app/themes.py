"""Three themes: dark, light, and one whose colours people with any colour vision can tell apart."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="wavedeck-dark",
    primary="#5aa9e6",
    secondary="#9d8df1",
    accent="#f2b35d",
    foreground="#d7dde5",
    background="#0f1318",
    surface="#141a21",
    panel="#1d252f",
    success="#6cc995",
    warning="#e5c15c",
    error="#f0716b",
    dark=True,
    variables={"footer-key-foreground": "#f2b35d", "input-selection-background": "#5aa9e6 35%"},
)
LIGHT = Theme(
    name="wavedeck-light",
    primary="#1f6fb2",
    secondary="#6a4fb3",
    accent="#a85b00",
    foreground="#1c2530",
    background="#f4f5f7",
    surface="#ffffff",
    panel="#e6e9ee",
    success="#1b7f4b",
    warning="#8f6a00",
    error="#c02f2a",
    dark=False,
    variables={"footer-key-foreground": "#a85b00", "input-selection-background": "#1f6fb2 30%"},
)
# The palette of Okabe and Ito (2008), "Color Universal Design": blue for good, vermillion for bad, never red and green.
COLOUR_BLIND_SAFE = Theme(
    name="wavedeck-okabe-ito",
    primary="#56b4e9",
    secondary="#cc79a7",
    accent="#e69f00",
    foreground="#e4e4e4",
    background="#101214",
    surface="#15181b",
    panel="#22272c",
    success="#3aa0dc",
    warning="#f0e442",
    error="#e8743b",
    dark=True,
    variables={"footer-key-foreground": "#e69f00", "input-selection-background": "#56b4e9 35%"},
)
THEMES = (DARK, LIGHT, COLOUR_BLIND_SAFE)
