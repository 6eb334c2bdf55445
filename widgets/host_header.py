"""The lines above everything that belongs to one host: how it is reached, what is wrong, what can be done."""

from __future__ import annotations

import time

from rich.style import Style
from rich.text import Text
from textual.widgets import Static

from ..engine import format as fmt
from ..engine.hosts import HostView, LinkState
from .host_words import ADVICE, LOST_AFTER_S, age_words, is_stale, left_text, link_text
from .palette import Palette

NO_HOSTS = (
    "No other machine yet: press a and paste the ssh line your provider shows, or run\n"
    "  wavedeck hosts add gpu1 'ssh -p 10648 root@203.0.113.20'"
)


class HostHeader(Static):
    """One line of facts, then sentences; as high as they need."""

    DEFAULT_CSS = """
    HostHeader { height: auto; max-height: 65%; min-height: 2; padding: 0 1; background: $surface;
        border-top: solid $panel; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("", id=id, markup=False)
        self._view: HostView | None = None
        self._alone = False
        self._shown: Text | None = None

    def show(self, view: HostView | None, *, alone: bool) -> None:
        """The selected host; `alone` when this machine is the only one."""
        self._view, self._alone = view, alone
        self.tick()

    def tick(self) -> None:
        """Time went on."""
        text = describe(self._view, self._alone, Palette.of(self.app), time.time(), self.size.width - 2)
        if text != self._shown:
            self._shown = text
            self.update(text)

    def notify_style_update(self) -> None:
        """The colours follow the theme."""
        super().notify_style_update()
        if self._view is not None:
            self.tick()

    def on_resize(self) -> None:
        """The first line is cut to the width."""
        self.tick()


def describe(view: HostView | None, alone: bool, palette: Palette, now: float, width: int) -> Text:
    """Everything that has to be said of a host."""
    if view is None:
        return Text("looking at this machine …", style=palette.muted)
    lines = [_facts(view, palette, now, width), *_sentences(view, palette, now)]
    if alone and view.is_local:
        lines.append(Text(NO_HOSTS, style=palette.accent))
    return Text("\n").join(lines)


def _facts(view: HostView, palette: Palette, now: float, width: int) -> Text:
    text = Text()
    text.append_text(Text(f"{fmt.plain(view.name, 40)}", style=Style(bold=True)))
    text.append("  ")
    text.append_text(link_text(view, palette, now))
    if view.since is not None and view.link in (LinkState.CONNECTED, LinkState.SLOW, LinkState.PAUSED):
        text.append(f" for {fmt.duration(_steady(now - view.since))}", style=palette.muted)
    for part in _numbers(view, palette, now):
        if text.cell_len + part.cell_len + 3 <= width:
            text.append(" · ", style=palette.muted)
            text.append_text(part)
    text.truncate(max(1, width), overflow="ellipsis")
    return text


def _steady(seconds: float) -> float:
    """Whole minutes past the first: a line that changes every second is a line that is drawn every second."""
    return seconds if seconds < 60 else seconds - seconds % 60


def _numbers(view: HostView, palette: Palette, now: float) -> list[Text]:
    parts = []
    if view.target:
        parts.append(Text(fmt.plain(view.target, 80), style=palette.muted))
    if view.heard is not None and not view.is_local and (is_stale(view) or now - view.heard > LOST_AFTER_S):
        parts.append(Text(f"heard {age_words(view, now)}", style=palette.warn))
    if view.latency_ms is not None and view.link.up:
        parts.append(Text(f"{view.latency_ms:.1f} ms"))
    if view.ends is not None:
        parts.append(left_text(view, palette, now).append(" ago" if view.ends <= now else " left"))
    if view.price_per_hour is not None:
        parts.append(Text(f"{fmt.money(view.price_per_hour)}/h"))
    if view.mirrored_runs:
        parts.append(_mirror(view, palette))
    return parts


def _mirror(view: HostView, palette: Palette) -> Text:
    runs = "1 run" if view.mirrored_runs == 1 else f"{view.mirrored_runs} runs"
    if view.mirror_behind is None:
        return Text(f"{runs} mirrored", style=palette.muted)
    if view.mirror_behind == 0:
        return Text(f"{runs} mirrored, all of it here", style=palette.muted)
    return Text(f"{runs} mirrored, {fmt.size(view.mirror_behind)} to come", style=palette.warn)


def _sentences(view: HostView, palette: Palette, now: float) -> list[Text]:
    lines = []
    bad = palette.bad if view.link.needs_user else palette.warn
    if view.reason and view.link is not LinkState.CONNECTED:
        lines.append(Text(fmt.plain(view.reason, 800), style=bad))
    advice = Text("" if view.is_local else ADVICE.get(view.link, ""))
    if is_stale(view) and view.reading is not None and view.heard is not None:
        words = f" What is shown is the last known picture, from {age_words(view, now)}."
        advice.append(words if advice else words.strip(), style=palette.muted)
    if advice:
        lines.append(advice)
    if view.notices:
        lines.append(Text(f"⚠ {fmt.plain(view.notices[-1], 300)}", style=palette.warn))
    return lines
