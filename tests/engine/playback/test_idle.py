"""A device that nothing plays on is let sleep, and woken without losing a sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wavedeck.engine.playback import Source

RATE, FADE = 48_000, 240


def test_a_paused_stream_stops_and_starts_again(
    recorder: Any, counter: Callable[..., Source], wait_for: Callable[..., Any]
) -> None:
    player = recorder.player(counter(1.0))
    player.play()
    wait_for(lambda: player.state().position_s > 0.3)
    player.pause()
    board = player._process.board
    seen = [-1, -1]

    def stopped() -> bool:
        """The sound process looks at the board four times a second, and no block was rendered between two looks."""
        beat, number = float(board.status["beat"]), int(board.records()["number"].max())
        if beat != seen[0]:
            same, seen[:] = number == seen[1], [beat, number]
            return same
        return False

    wait_for(stopped)
    there = player.state().position_s
    player.play()
    wait_for(lambda: not player.state().playing)
    recorder.finish()
    first, second = recorder.runs()
    assert round(there * RATE) == first.length + FADE
    assert second.position == first.length + 2 * FADE - 1
    assert second.position + second.length == RATE
