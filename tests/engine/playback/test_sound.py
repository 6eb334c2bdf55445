"""The player with sound against a device that records: what comes out, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from wavedeck.engine.playback import Source
from wavedeck.engine.samples.loudness import matching_gains
from wavedeck.engine.samples.measures import measure

RATE, FADE = 48_000, 240
Wait = Callable[..., Any]
Make = Callable[..., Source]


def noise(seconds: float, channels: int = 2, rate: int = RATE, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), channels))).astype(np.float32)


def played(player: Any, wait_for: Wait) -> None:
    """Play to the end."""
    player.play()
    wait_for(lambda: not player.state().playing, what="the end of the clip")


def test_a_clip_comes_out_as_it_is(recorder: Any, array_source: Make, wait_for: Wait) -> None:
    audio = noise(0.6)
    player = recorder.player(array_source(audio))
    played(player, wait_for)
    state = player.state()
    assert (state.position_s, state.underruns, state.error, state.clipped) == (0.6, 0, None, 0)
    assert (state.device, state.rate) == ("default", RATE)
    wait_for(lambda: recorder.quiet())
    assert np.array_equal(recorder.heard(), audio)


def test_pause_and_play_lose_nothing(recorder: Any, counter: Make, wait_for: Wait) -> None:
    player = recorder.player(counter(1.5))
    player.play()
    wait_for(lambda: player.state().position_s > 0.2)
    player.pause()
    wait_for(lambda: recorder.quiet())
    first = recorder.runs()[0]
    assert (first.position, player.state().playing) == (0, False)
    wait_for(lambda: round(player.state().position_s * RATE) == first.length + FADE, what="the fade to be heard")
    played(player, wait_for)
    wait_for(lambda: len(recorder.runs()) == 2 and recorder.quiet())
    second = recorder.runs()[1]
    # Faded out over 240 samples and in over the next, of which the last is whole already.
    assert second.position == first.length + FADE + FADE - 1
    assert second.position + second.length == 1.5 * RATE


def test_seek_goes_to_the_sample(recorder: Any, counter: Make, wait_for: Wait) -> None:
    player = recorder.player(counter(2.0))
    player.play()
    wait_for(lambda: player.state().position_s > 0.1)
    player.seek(1.25)
    assert player.state().position_s == 1.25
    assert player.state().playing
    wait_for(lambda: player.state().position_s > 1.4)
    player.seek(0.5)
    player.pause()
    player.seek(1.75)
    assert player.state().position_s == 1.75
    played(player, wait_for)
    wait_for(lambda: recorder.quiet())
    runs = recorder.runs()
    assert runs[0].position == 0
    assert runs[1].position == 1.25 * RATE + FADE
    assert runs[1].at == runs[0].at + runs[0].length + FADE  # a crossfade, no gap
    # Faded in where the pause was over before the seek, else a crossfade.
    assert runs[-1].position in (1.75 * RATE + FADE - 1, 1.75 * RATE + FADE)
    assert runs[-1].position + runs[-1].length == 2.0 * RATE


def test_seeking_a_paused_player_is_silent(recorder: Any, counter: Make, wait_for: Wait) -> None:
    player = recorder.player(counter(1.0))
    wait_for(lambda: player.state().device)
    for target in (0.5, 2.0, -3.0, math.nan, 0.25):
        player.seek(target)
    assert player.state().position_s == 0.25
    assert not player.state().playing
    played(player, wait_for)
    wait_for(lambda: recorder.quiet())
    (run,) = recorder.runs()
    assert run.position == 0.25 * RATE + FADE - 1  # the last step of the fade-in is whole already


def test_a_loop_repeats_to_the_sample(recorder: Any, counter: Make, wait_for: Wait) -> None:
    player = recorder.player(counter(1.0))
    player.loop(0.25, 0.5)
    player.play()  # the playhead was before the region: it goes to its start
    wait_for(lambda: len(recorder.samples()) > 1.6 * RATE)
    state = player.state()
    assert state.loop == (0.25, 0.5)
    assert 0.25 <= state.position_s <= 0.5
    player.loop(None)
    wait_for(lambda: not player.state().playing, what="the end")
    wait_for(lambda: recorder.quiet())
    runs = [run for run in recorder.runs() if run.length > 1000]
    assert len(runs) >= 5
    for before, after in zip(runs, runs[1:], strict=False):
        if after.position == 0.25 * RATE:  # a wrap: the last sample of the region, then its first
            assert before.position + before.length == 0.5 * RATE
            assert after.at == before.at + before.length
    assert runs[-1].position + runs[-1].length == RATE


def test_a_loop_set_around_the_playhead_interrupts_nothing(recorder: Any, counter: Make, wait_for: Wait) -> None:
    player = recorder.player(counter(3.0))
    player.play()
    wait_for(lambda: player.state().position_s > 0.2)
    player.loop(0.0, 2.0)
    wait_for(lambda: player.state().position_s > 0.6)
    player.pause()
    wait_for(lambda: recorder.quiet())
    (run,) = recorder.runs()  # the same samples crossfade into themselves: not even the fade can be found
    assert run.position == 0


def test_short_loops(recorder: Any, counter: Make, wait_for: Wait) -> None:
    player = recorder.player(counter(1.0))
    player.loop(0.5, 0.5)
    assert player.state().loop == (0.5, 0.51)
    player.play()
    wait_for(lambda: len(recorder.runs()) > 30)
    player.pause()
    for run in recorder.runs()[1:-2]:
        assert (run.position, run.length) == (0.5 * RATE, 480)


def test_a_switch_goes_on_at_the_same_playhead(recorder: Any, counter: Make, wait_for: Wait) -> None:
    player = recorder.player(counter(4.0, 0), counter(4.0, 1))
    player.play()
    for index in (1, 0, 1, 0):
        there = player.state().position_s
        wait_for(lambda there=there: player.state().position_s > there + 0.15)
        player.switch(index)
        assert player.state().source == index
    wait_for(lambda: recorder.runs() and recorder.runs()[-1].length > 5000 and len(recorder.runs()) == 5)
    player.close()
    runs = recorder.runs()
    assert [run.source for run in runs] == [0, 1, 0, 1, 0]
    offsets = {run.at - run.position for run in runs}
    assert len(offsets) == 1  # one line through all of them: no gap, no repeat
    for before, after in zip(runs, runs[1:], strict=False):
        assert after.at - (before.at + before.length) <= FADE


def test_a_switch_is_no_click(recorder: Any, array_source: Make, wait_for: Wait) -> None:
    at = np.arange(3 * RATE)[:, None] / RATE
    left, right = (0.6 * np.sin(2 * np.pi * f * at + phase).astype(np.float32) for f, phase in ((440, 0), (443, 2)))
    player = recorder.player(array_source(left), array_source(right))
    player.play()
    for index in (1, 0, 1, 0, 1):
        there = player.state().position_s
        wait_for(lambda there=there: player.state().position_s > there + 0.1)
        player.switch(index)
    wait_for(lambda: player.state().position_s > 1.2)
    player.close()
    own = max(np.abs(np.diff(left, axis=0)).max(), np.abs(np.diff(right, axis=0)).max())
    inside = recorder.heard()[: RATE // 2]
    # The fade adds the difference of the two, at most 1.2, in 240 steps.
    assert np.abs(np.diff(inside, axis=0)).max() < own + 1.2 / FADE


def test_a_switch_between_equal_signals_cannot_be_found(recorder: Any, array_source: Make, wait_for: Wait) -> None:
    """What a blind test relies on: the crossfade itself changes nothing."""
    audio = noise(1.2)
    player = recorder.player(array_source(audio), array_source(audio.copy()))
    player.play()
    for index in (1, 0, 1):
        there = player.state().position_s
        wait_for(lambda there=there: player.state().position_s > there + 0.15)
        player.switch(index)
    wait_for(lambda: not player.state().playing)
    wait_for(lambda: recorder.quiet())
    assert np.array_equal(recorder.heard(), audio)


def test_volume(recorder: Any, array_source: Make, wait_for: Wait) -> None:
    audio = noise(0.5)
    player = recorder.player(array_source(audio, gain_db=6.0))
    player.gain_db = -12.0
    assert player.state().gain_db == -12.0
    played(player, wait_for)
    wait_for(lambda: recorder.quiet())
    assert recorder.heard() == pytest.approx(audio * 10 ** (-6 / 20), abs=1e-6)
    player.gain_db = math.nan
    assert player.gain_db == 0


def test_matched_levels_are_matched(recorder: Any, array_source: Make, wait_for: Wait) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    rng = np.random.default_rng(5)
    quiet = (rng.standard_normal((2 * RATE, 1)) * 0.02).astype(np.float32)
    loud = np.cumsum(rng.standard_normal((2 * RATE, 2)) * 0.02, axis=0)
    loud = (0.3 * np.sin(loud * 3)).astype(np.float32)
    facts = [measure(quiet, RATE), measure(loud, RATE)]
    gains = matching_gains([f.heard_lufs for f in facts], [f.true_peak_db for f in facts])
    levels = []
    for index in (0, 1):
        recorder.place.unlink(missing_ok=True)
        player = recorder.player(array_source(quiet), array_source(loud))
        player.switch(index)
        player.match(gains)
        played(player, wait_for)
        wait_for(lambda: recorder.quiet())
        levels.append(pyloudnorm.Meter(RATE).integrated_loudness(recorder.heard().astype(np.float64)))
        player.close()
    assert abs(facts[0].heard_lufs - facts[1].heard_lufs) > 6
    assert abs(levels[0] - levels[1]) < 0.5


def test_gains_change_while_playing(recorder: Any, counter: Make, wait_for: Wait) -> None:
    player = recorder.player(counter(2.0))
    player.play()
    wait_for(lambda: player.state().position_s > 0.2)
    player.match([-6.0206])
    wait_for(lambda: player.state().position_s > 0.6)
    player.match([0.0])
    wait_for(lambda: not player.state().playing)
    wait_for(lambda: recorder.quiet())
    runs = [run for run in recorder.runs() if run.length > 2000]
    assert len({run.at - run.position for run in runs}) == 1


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_any_channels_become_stereo(recorder: Any, array_source: Make, wait_for: Wait, channels: int) -> None:
    audio = noise(0.4, channels)
    player = recorder.player(array_source(audio))
    played(player, wait_for)
    wait_for(lambda: recorder.quiet())
    left, right = audio[:, 0::2].mean(axis=1), audio[:, (1 if channels > 1 else 0) :: 2].mean(axis=1)
    assert recorder.heard() == pytest.approx(np.stack([left, right], axis=1), abs=1e-7)


@pytest.mark.parametrize("channels", [1, 6])
def test_any_device(recorder: Any, array_source: Make, wait_for: Wait, channels: int) -> None:
    audio = noise(0.3, 2)
    player = recorder.player(array_source(audio), channels=channels)
    played(player, wait_for)
    recorder.finish()
    out = recorder.samples(channels=channels)
    begin = int(np.flatnonzero(np.abs(out).max(axis=1))[0])
    out = out[begin : begin + len(audio)]
    if channels == 1:
        assert out[:, 0] == pytest.approx(audio.mean(axis=1), abs=1e-7)
    else:
        assert np.array_equal(out[:, :2], audio)
        assert not out[:, 2:].any()


@pytest.mark.parametrize("rate", [4000, 16000, 44100, 44099, 96000, 192000])
def test_any_rate_becomes_the_device_s(recorder: Any, array_source: Make, wait_for: Wait, rate: int) -> None:
    import soxr

    audio = noise(0.7, 1, rate)
    player = recorder.player(array_source(audio, rate))
    player.seek(0.3)
    played(player, wait_for)
    assert player.state().position_s == pytest.approx(0.7, abs=1e-4)
    wait_for(lambda: recorder.quiet())
    whole = soxr.resample(audio[:, 0], rate, RATE, quality="HQ")
    start = round(0.3 * RATE)
    out = recorder.heard()[:, 0]
    count = min(len(out), len(whole) - start)
    assert count > 0.38 * RATE
    assert out[FADE:count] == pytest.approx(whole[start + FADE : start + count], abs=2e-5)


def test_a_device_with_its_own_rate(recorder: Any, array_source: Make, wait_for: Wait) -> None:
    audio = noise(0.4, 2, 44100)
    player = recorder.player(array_source(audio, 44100), rate=44100)
    played(player, wait_for)
    assert player.state().rate == 44100
    wait_for(lambda: recorder.quiet())
    assert np.array_equal(recorder.heard(), audio)


def test_sources_of_unlike_rate_and_length_share_one_time_axis(
    recorder: Any, counter: Make, array_source: Make, wait_for: Wait
) -> None:
    short = array_source(noise(0.5, 1, 16000), 16000)
    player = recorder.player(short, counter(1.0))
    assert player.state().duration_s == 1.0
    player.play()
    wait_for(lambda: player.state().position_s > 0.6)  # the short one is silent there
    player.switch(1)
    wait_for(lambda: not player.state().playing)
    wait_for(lambda: recorder.quiet())
    run = recorder.runs()[-1]
    assert run.position + run.length == RATE
    begin = int(np.flatnonzero(recorder.samples()[:, 0])[0])
    assert run.at - run.position == pytest.approx(begin, abs=2)


@pytest.mark.parametrize(("sample_format", "scale"), [("int16", 2**15), ("int24", 2**23), ("int32", 2**31)])
def test_devices_of_whole_numbers(
    recorder: Any, array_source: Make, wait_for: Wait, sample_format: str, scale: int
) -> None:
    audio = noise(0.4)
    audio[100:102] = [[1.0, -1.0], [1.5, -3.0]]
    player = recorder.player(array_source(audio), sample_format=sample_format)
    played(player, wait_for)
    clipped = player.state().clipped
    recorder.finish()
    size = {"int16": 2, "int24": 3, "int32": 4}[sample_format]
    data = recorder.samples(dtype="u1", channels=2 * size).reshape(-1, 2, size)
    wide = np.zeros((*data.shape[:2], 4), np.uint8)
    wide[..., 4 - size :] = data
    out = wide.view("<i4")[..., 0] >> (8 * (4 - size))
    begin = int(np.flatnonzero(np.abs(out).max(axis=1))[0])
    expected = np.clip(np.rint(audio.astype(np.float64) * scale), -scale, scale - 1).astype(np.int64)
    assert np.array_equal(out[begin : begin + len(audio)], expected)
    assert clipped == 2


def test_play_at_the_end_begins_again(recorder: Any, counter: Make, wait_for: Wait) -> None:
    player = recorder.player(counter(0.3))
    played(player, wait_for)
    assert player.state().position_s == 0.3
    player.pause()
    player.switch(0)
    assert player.state().position_s == 0.3
    played(player, wait_for)
    wait_for(lambda: len(recorder.runs()) == 2 and recorder.quiet())
    assert [(run.position, run.length) for run in recorder.runs()] == [(0, 0.3 * RATE)] * 2


def test_seek_after_the_end_stays_silent(recorder: Any, counter: Make, wait_for: Wait) -> None:
    player = recorder.player(counter(0.3))
    played(player, wait_for)
    player.seek(0.1)
    assert not player.state().playing
    assert player.state().position_s == 0.1


def test_loading_something_else_stops(recorder: Any, counter: Make, wait_for: Wait) -> None:
    player = recorder.player(counter(5.0))
    player.play()
    wait_for(lambda: player.state().position_s > 0.1)
    player.load([counter(0.4, 1)])
    state = player.state()
    assert (state.playing, state.position_s, state.duration_s) == (False, 0.0, 0.4)
    wait_for(lambda: recorder.quiet())
    played(player, wait_for)
    wait_for(lambda: recorder.runs()[-1].source == 1 and recorder.quiet())
    assert (recorder.runs()[-1].position, recorder.runs()[-1].length) == (0, 0.4 * RATE)
    player.load([])
    assert player.state().duration_s == 0
    player.play()
    assert not player.state().playing


def test_the_position_is_that_of_the_clock(recorder: Any, counter: Make, wait_for: Wait) -> None:
    import time

    player = recorder.player(counter(3.0))
    player.play()
    wait_for(lambda: player.state().position_s > 0.3)
    pairs = []
    wait_for(lambda: pairs.append((time.monotonic(), player.state().position_s)) or pairs[-1][1] > 1.3)
    elapsed, position = pairs[-1][0] - pairs[0][0], pairs[-1][1] - pairs[0][1]
    assert position == pytest.approx(elapsed, abs=0.05)
    assert (np.diff([position for _, position in pairs]) >= 0).all()
