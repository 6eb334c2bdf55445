"""`Transport`: one line that says what is heard, where the playhead is, and why there may be no sound.

Value in (`TransportState`), messages out. Where it is narrow the least important parts are left out, none is cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from rich.style import Style
from rich.text import Text
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from ..engine import format as fmt
from ..engine.playback import PlayerState
from .cell_grid import one_cell
from .palette import BOLD, Palette
from .time_axis import time_label
from .track_view import decibels

NAME_CELLS = 26
LEAST_BAR = 8
GAP = 2
SHORTEST = 12
OPTIONAL = 3
"""Parts from this rank on are left out before a sentence is cut."""
Control = Literal["play", "loop", "match"]


@dataclass(frozen=True, slots=True)
class TrackButton:
    """A track that can be heard: the key that does it, and its name (untrusted), and a shorter one if there is one."""

    letter: str
    name: str
    short: str = ""


@dataclass(frozen=True, slots=True)
class TransportState:
    """Everything on the line. `matched`: tracks are played equally loud. `blind`: names would give the answer away.

    `unmatched`: why they are not, although that is wanted. `player` None: nothing is loaded yet.
    """

    player: PlayerState | None = None
    tracks: tuple[TrackButton, ...] = ()
    matched: bool = False
    blind: str = ""
    words: str = ""
    unmatched: str = ""


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of the line; a larger rank goes first where it is narrow. `does` is what a click asks for.

    `least`: cells that it can be cut to, 0 where it is whole or not there. `shorter`: what is said instead, ever
    shorter, before any part of this rank is left out.
    """

    text: Text
    rank: int
    does: str = ""
    least: int = 0
    shorter: tuple[Text, ...] = ()

    @property
    def cells(self) -> int:
        """What it needs at least, with the gap after it."""
        return (min(self.least, self.text.cell_len) if self.least else self.text.cell_len) + GAP


class Transport(Widget):
    """The player's line.

    Reactives
    ---------
    state: what to show, replaced as a whole.
    """

    ALLOW_SELECT = False
    DEFAULT_CSS = "Transport { height: 1; width: 1fr; background: $panel; padding: 0 1; }"
    CONTROLS: ClassVar[tuple[str, ...]] = ("play", "loop", "match")

    state: reactive[TransportState] = reactive(TransportState(), layout=False)

    class Pressed(Message):
        """A click on play/pause, on the loop or on level matching."""

        def __init__(self, transport: Transport, control: Control) -> None:
            super().__init__()
            self.transport, self.action = transport, control

        @property
        def control(self) -> Transport:
            return self.transport

    class TrackWanted(Message):
        """A click on a track's letter or name."""

        def __init__(self, transport: Transport, index: int) -> None:
            super().__init__()
            self.transport, self.index = transport, index

        @property
        def control(self) -> Transport:
            return self.transport

    class SeekWanted(Message):
        """A click on the bar."""

        def __init__(self, transport: Transport, seconds: float) -> None:
            super().__init__()
            self.transport, self.seconds = transport, seconds

        @property
        def control(self) -> Transport:
            return self.transport

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._places: list[tuple[int, int, str]] = []

    def notify_style_update(self) -> None:
        """Colours changed with the theme."""
        super().notify_style_update()
        self.refresh()

    def render(self) -> Text:
        """The parts that fit, two blanks between, and a bar in what is left."""
        width = max(1, self.content_size.width)
        parts = _parts(self.state, Palette.of(self.app))
        _shrink(parts, width)
        spare = width - sum(part.text.cell_len + GAP for part in parts) + GAP
        spare -= GAP
        if spare >= LEAST_BAR and self.state.player is not None and len(parts) > 1 and parts[1].rank == 1:
            parts.insert(2, _bar(self.state.player, min(spare, 40), Palette.of(self.app)))
        line, self._places, x = Text(no_wrap=True), [], 0
        for part in parts:
            if x:
                line.append(" " * GAP)
                x += GAP
            line.append_text(part.text)
            self._places.append((x, x + part.text.cell_len, part.does))
            x += part.text.cell_len
        line.truncate(width, overflow="ellipsis")
        return line

    def on_click(self, event: events.Click) -> None:
        """Ask for what was clicked on."""
        x = event.x - self.gutter.left
        for start, end, does in self._places:
            if not (start <= x < end and does):
                continue
            if does in self.CONTROLS:
                self.post_message(self.Pressed(self, does))  # type: ignore[arg-type]
            elif does == "seek" and self.state.player is not None:
                part = (x - start + 0.5) / (end - start)
                self.post_message(self.SeekWanted(self, part * self.state.player.duration_s))
            elif does.startswith("track "):
                self.post_message(self.TrackWanted(self, int(does.split()[1])))


def _shrink(parts: list[_Part], width: int) -> None:
    """Leave out parts from the least important on, then cut those that may be cut, the last one first."""
    while len(parts) > 1:
        # Sentences are cut only once nothing is left but what one always wants to know: playing, where, what is heard.
        whole = [part for part in parts[1:] if not part.least]
        if not whole:
            break
        rank = max(part.rank for part in whole)
        needed = sum((part.cells if rank < OPTIONAL else part.text.cell_len + GAP) for part in parts) - GAP
        if needed <= width:
            break
        last = [part for part in whole if part.rank == rank]
        long = next((part for part in reversed(last) if part.shorter), None)
        if long is None:
            parts.remove(last[-1])
        else:
            parts[parts.index(long)] = replace(long, text=long.shorter[0], shorter=long.shorter[1:])
    for part in reversed(parts):
        over = sum(part.text.cell_len + GAP for part in parts) - GAP - width
        if over > 0 and part.least:
            part.text.truncate(max(SHORTEST, part.text.cell_len - over), overflow="ellipsis")


def _parts(state: TransportState, palette: Palette) -> list[_Part]:
    """The line's parts from left to right."""
    player = state.player
    if player is None:
        return [_Part(Text(fmt.plain(state.words, 200) or "nothing to play", palette.muted), 0)]
    parts = [_Part(_play_words(player, palette), 0, "play"), _Part(_time_words(player, palette), 1)]
    parts += _track_parts(state, palette)
    if player.error:
        parts.append(_Part(Text(f"! no sound: {fmt.plain(player.error, 240)}", palette.bad), 2, least=30))
    if player.warning:
        parts.append(_Part(Text(f"! {fmt.plain(player.warning, 200)}", palette.warn), 5, least=24))
    if player.underruns:
        gaps = "gap" if player.underruns == 1 else "gaps"
        parts.append(_Part(Text(f"! {fmt.count(player.underruns)} {gaps}", palette.warn), 3))
    if player.clipped:
        parts.append(_Part(Text(f"! output clips, {fmt.count(player.clipped)} samples", palette.warn), 6))
    if player.loop is not None:
        start, end = player.loop
        words = f"loop {time_label(start, 0.01)}–{time_label(end, 0.01)}"
        parts.append(_Part(Text(words, palette.accent), 7, "loop"))
    gain = "muted" if player.gain_db == -math.inf else f"{decibels(player.gain_db)} dB"
    parts.append(_Part(Text(gain, palette.text), 8))
    if state.matched and state.unmatched:
        parts.append(_Part(Text("! levels as they are", palette.warn), 2, "match"))
        parts.append(_Part(Text(fmt.plain(state.unmatched, 60), palette.warn), 5, "match"))
    else:
        words = "level-matched" if state.matched else "levels as they are"
        parts.append(_Part(Text(words, palette.text), 9, "match"))
    if player.device and not player.error:
        rate = f" {player.rate / 1000:g} kHz" if player.rate else ""
        parts.append(_Part(Text(f"{one_cell(fmt.plain(player.device), 24)}{rate}", palette.muted), 10))
    if state.words:
        parts.append(_Part(Text(fmt.plain(state.words, 120), palette.muted), 11))
    return parts


def _play_words(player: PlayerState, palette: Palette) -> Text:
    if player.playing and player.buffering:
        return Text("… waiting", palette.warn + BOLD)
    return Text("▶ playing", palette.good + BOLD) if player.playing else Text("┃┃ paused", palette.text + BOLD)


def _time_words(player: PlayerState, palette: Palette) -> Text:
    text = Text(time_label(player.position_s, 0.01), palette.text + BOLD)
    return text.append(f" / {time_label(player.duration_s, 0.01)}", palette.muted)


def _track_parts(state: TransportState, palette: Palette) -> list[_Part]:
    """Each track with its letter; the audible one in brackets as well as bold."""
    if state.blind:
        return [_Part(Text(fmt.plain(state.blind, 60), palette.accent + BOLD), 2)]
    parts = []
    heard = state.player.source if state.player is not None else -1
    for index, track in enumerate(state.tracks):
        names = [track.name, track.short or track.name] if index == heard else [track.name, track.short, ""]
        style = palette.accent + BOLD if index == heard else palette.muted
        versions = [Text(_track_words(track.letter, name, index == heard), style) for name in dict.fromkeys(names)]
        shorter = tuple(versions[1:])
        rank = 2 if index == heard else 3 if track.letter in ("a", "b") else 4
        parts.append(_Part(versions[0], rank, f"track {index}", shorter=shorter))
    return parts


def _track_words(letter: str, name: str, heard: bool) -> str:
    """` b prediction `, `[b prediction]`, and the key alone."""
    words = f"{one_cell(letter, 1)} {one_cell(fmt.plain(name), NAME_CELLS)}".strip()
    return f"[{words}]" if heard else f" {words} "


def _bar(player: PlayerState, cells: int, palette: Palette) -> _Part:
    """Where the playhead is in the clip."""
    part = player.position_s / player.duration_s if player.duration_s > 0 else 0.0
    at = min(cells - 1, max(0, int(part * cells)))
    text = Text("━" * at, palette.accent)
    text.append("●", palette.accent + BOLD)
    text.append("─" * (cells - 1 - at), palette.muted + Style(dim=False))
    return _Part(text, 12, "seek")
