"""The players without sound, and the values that all players share."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from wavedeck.engine.errors import UsageError
from wavedeck.engine.playback import FakePlayer, Player, PlayerState, SilentPlayer, Source
from wavedeck.engine.playback.model import amplitude, loop_region

Make = Callable[..., Source]


def test_the_fake_plays_by_hand(counter: Make) -> None:
    fake = FakePlayer()
    player: Player = fake
    player.load([counter(2.0), counter(1.0, 1)])
    player.play()
    fake.advance(0.5)
    assert player.state() == PlayerState(
        position_s=0.5, playing=True, device="fake", duration_s=2.0, rate=48_000, warning=None
    )
    player.switch(1)
    player.gain_db = -6
    player.match([0.0, -3.0])
    player.pause()
    fake.advance(1)
    state = player.state()
    assert (state.position_s, state.playing, state.source, state.gain_db) == (0.5, False, 1, -6)
    assert [source.gain_db for source in fake.sources] == [0.0, -3.0]
    names = [call[0] for call in fake.calls]
    assert names == ["load", "play", "switch", "gain_db", "match", "pause"]
    fake.show(underruns=2, error="gone")
    assert (player.state().underruns, player.state().error) == (2, "gone")
    player.close()


def test_end_loop_and_play_again(counter: Make) -> None:
    player = FakePlayer()
    player.load([counter(1.0)])
    player.play()
    player.advance(5)
    assert (player.state().position_s, player.state().playing) == (1.0, False)
    player.play()
    assert player.state().position_s == 0
    player.loop(0.25, 0.5)
    assert player.state().position_s == 0.25
    player.advance(0.6)
    assert player.state().position_s == pytest.approx(0.35)
    player.loop(None)
    player.advance(0.1)
    assert player.state().position_s == pytest.approx(0.45)
    player.seek(99)
    assert player.state().position_s == 1.0


def test_silence_says_why_and_keeps_time(counter: Make) -> None:
    now = [0.0]
    player = SilentPlayer("No sound, because.", clock=lambda: now[0])
    player.play()
    assert not player.state().playing
    player.load([counter(3.0)])
    player.play()
    now[0] = 1.25
    state = player.state()
    assert (state.position_s, state.error, state.device) == (1.25, "No sound, because.", "")
    player.close()
    now[0] = 2
    assert player.state().position_s == 1.25


def test_a_source_that_is_not_there(counter: Make) -> None:
    player = SilentPlayer()
    player.load([counter(1.0)])
    with pytest.raises(UsageError, match="no source 3; 1 are loaded"):
        player.switch(2)


@pytest.mark.parametrize(
    ("start", "end", "region"),
    [
        (None, None, None),
        (1.0, 2.0, (1.0, 2.0)),
        (2.0, 1.0, (1.0, 2.0)),
        (-5.0, 99.0, (0.0, 10.0)),
        (3.0, None, (3.0, 10.0)),
        (10.0, 10.0, (9.99, 10.0)),
        (math.nan, 4.0, (0.0, 4.0)),
        (2.0, 2.001, (2.0, 2.01)),
    ],
)
def test_loops_are_regions_of_the_clip(start: float | None, end: float | None, region: object) -> None:
    assert loop_region(start, end, 10.0) == (region and pytest.approx(region))
    assert loop_region(start, end, 0.0) is None


def test_gains_hurt_nobody() -> None:
    assert amplitude(-math.inf) == 0
    assert amplitude(math.nan) == 1
    assert amplitude(math.inf) == 1000
    assert amplitude(-20) == pytest.approx(0.1)
