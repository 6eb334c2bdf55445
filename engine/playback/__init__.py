"""Playing clips: what a player is, the players without sound, and `open_player` for the one with sound.

The deck talks to the `Player` protocol only. A small child process holds PortAudio, so that a stuck sound system never
blocks the deck and a crash of it never ends the deck; `sound.py` says how the two work together. Importing this package
loads numpy and the standard library, no sound library.
"""

from __future__ import annotations

from .difference import difference
from .model import FADE_S, MIN_LOOP_S, Output, Player, PlayerState, Source
from .silent import FakePlayer, SilentPlayer

__all__ = [
    "FADE_S",
    "FakePlayer",
    "MIN_LOOP_S",
    "Output",
    "Player",
    "PlayerState",
    "SilentPlayer",
    "Source",
    "difference",
    "open_player",
]


def open_player(output: Output | None = None) -> Player:
    """The player with sound; returns at once, and says in `state().error` why there is no sound where there is none.

    Without a PortAudio library or a device its playhead moves all the same, and each `play()` looks for a device again.
    """
    from .sound import SoundPlayer

    return SoundPlayer(output or Output())
