"""What is done with a block, without a device: fades, conversion, late and missing tapes, what is heard when."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from wavedeck.engine.playback.board import RECORDS, Board, Control, create_memory, heard
from wavedeck.engine.playback.mixing import Mixer, converted, crossfade

RATE, FADE = 48_000, 240


@pytest.fixture
def board() -> Iterator[Board]:
    import os

    descriptor = create_memory()
    yield Board(descriptor)
    os.close(descriptor)


def tape(board: Board, slot: int, generation: int, audio: np.ndarray, axis: int = 1, origin: int = 0) -> None:
    board.begin(slot, generation, axis, origin, 96_000, sharp=origin == 0)
    board.write(slot, origin, audio)
    board.finish(slot, origin + len(audio))


def ramp(frames: int, sign: int = 1) -> np.ndarray:
    return (sign * (np.arange(frames) + 1) / 2**17).astype(np.float32)[:, None].repeat(2, axis=1)


def rendered(mixer: Mixer, blocks: int, frames: int = 100) -> np.ndarray:
    return np.concatenate([mixer.render(frames) for _ in range(blocks)])


def test_constant_power_for_unrelated_and_no_change_for_equal_signals() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 100_000, 2)).astype(np.float32)
    mixed = crossfade(a, b)
    powers = (mixed.reshape(10, -1) ** 2).mean(axis=1)
    assert powers == pytest.approx(np.ones(10), abs=0.05)
    near = a + 1e-4 * b
    assert np.abs(crossfade(a, near) - a).max() < 1e-3
    assert crossfade(a, a) is a
    assert np.isfinite(crossfade(np.zeros_like(a), a)).all()
    assert np.isfinite(crossfade(a, -a)).all()


@pytest.mark.parametrize("blocks", [(2000, 1), (1, 2000), (100, 20), (7, 285), (240, 9)])
def test_a_switch_at_any_block_size(board: Board, blocks: tuple[int, int]) -> None:
    frames, count = blocks
    tape(board, 0, 1, ramp(9000))
    board.ask(Control(1, 0, playing=True))
    mixer = Mixer(board, RATE, 2)
    before = rendered(mixer, count, frames)
    assert np.array_equal(before, ramp(9000)[: count * frames])
    here = mixer.frame
    tape(board, 1, 2, ramp(9000, -1)[here:], origin=here)
    board.ask(Control(2, 1, playing=True))
    after = rendered(mixer, count, frames)
    assert np.array_equal(after[FADE:], ramp(9000, -1)[here + FADE : here + count * frames])
    assert np.abs(np.diff(np.concatenate((before, after)), axis=0)).max() < 2 * before.max() / FADE * 1.6
    assert mixer.underruns == 0


def test_a_tape_that_is_not_there_yet_interrupts_nothing(board: Board) -> None:
    tape(board, 0, 1, ramp(5000))
    board.ask(Control(1, 0, playing=True))
    mixer = Mixer(board, RATE, 2)
    rendered(mixer, 5)
    board.begin(1, 2, 1, mixer.frame, 96_000, sharp=False)
    board.ask(Control(2, 1, playing=True))
    out = rendered(mixer, 5)
    assert np.array_equal(out, ramp(5000)[500:1000])
    assert mixer.generation == 1
    board.write(1, 500, ramp(5000, -1)[500:4000])
    assert (rendered(mixer, 5)[FADE:] < 0).all()


def test_a_gap_is_counted_once_and_faded_in(board: Board) -> None:
    board.begin(0, 1, 1, 0, 96_000, sharp=True)
    board.ask(Control(1, 0, playing=True))
    mixer = Mixer(board, RATE, 2)
    assert not rendered(mixer, 3).any()
    assert (mixer.underruns, int(board.status["starving"])) == (0, 1)  # waiting for the first samples is none
    audio = ramp(4000)
    board.write(0, 0, audio[:1000])
    rendered(mixer, 15)
    assert (mixer.underruns, mixer.frame) == (1, 1000)
    board.write(0, 1000, audio[1000:])
    out = rendered(mixer, 10)
    assert np.array_equal(out[FADE:], audio[1000 + FADE : 2000])
    assert mixer.underruns == 1


def test_the_end_and_what_is_beyond_full_scale(board: Board) -> None:
    audio = ramp(1000)
    audio[500:503] = 3.0
    tape(board, 0, 1, audio)
    board.ask(Control(1, 0, playing=True))
    mixer = Mixer(board, RATE, 2)
    out = rendered(mixer, 12)
    assert np.array_equal(out[:1000], np.clip(audio, -1, 1))
    assert not out[1000:].any()
    assert (mixer.clipped, mixer.underruns, int(board.status["ended"])) == (6, 0, 1)


def test_the_start_of_a_clip_is_not_faded_and_other_places_are(board: Board) -> None:
    mixer = Mixer(board, RATE, 2)
    ones = np.full((2000, 2), 0.5, np.float32)
    tape(board, 0, 1, ones)
    board.ask(Control(1, 0, playing=True))
    assert (mixer.render(100) == 0.5).all()
    board.ask(Control(1, 0, playing=False))
    out = rendered(mixer, 4)[:, 0]
    assert (np.diff(out)[: FADE - 1] < 0).all()
    assert not out[FADE:].any()
    assert mixer.frame == 100 + FADE
    board.ask(Control(1, 0, playing=True))
    out = rendered(mixer, 4)[:, 0]
    assert (np.diff(out)[: FADE - 1] > 0).all()
    assert (out[FADE:] == 0.5).all()


def test_whole_numbers() -> None:
    block = np.array([[0.0, 1.0, -1.0, 0.5, 1 / 32768, 2**-24]], np.float32)
    assert converted(block, "float32") is block
    assert converted(block, "int16").tolist() == [[0, 32767, -32768, 16384, 1, 0]]
    assert converted(block, "int32").tolist() == [[0, 2**31 - 1, -(2**31), 2**30, 2**16, 2**7]]
    packed = converted(block, "int24").tobytes()
    numbers = [int.from_bytes(packed[at : at + 3], "little", signed=True) for at in range(0, len(packed), 3)]
    assert numbers == [0, 2**23 - 1, -(2**23), 2**22, 2**8, 0]
    every = np.arange(-32768, 32768, dtype=np.int16)
    assert np.array_equal(converted((every / 32768).astype(np.float32), "int16"), every)


def test_the_playhead_is_what_is_heard(board: Board) -> None:
    """Blocks are rendered 0.2 s before they are heard; between them the playhead goes on by the clock."""
    assert heard(board.records(), 100.0, RATE) is None
    for number in range(3 * RECORDS):
        board.note(number, 100.0 + number * 0.01 + 0.2, generation=7, frame=number * 480, advance=480)
    last = 100.0 + 3 * RECORDS * 0.01
    for now in (last - 0.5, last - 0.123, last, last + 0.1):
        assert heard(board.records(), now, RATE) == (7, pytest.approx((now - 100.2) * RATE, abs=1.01))
    assert heard(board.records(), last + 50, RATE) == (7, 3 * RECORDS * 480)  # nothing was rendered since
    board.note(3 * RECORDS, last + 0.2, generation=8, frame=0, advance=0)  # paused
    assert heard(board.records(), last + 5, RATE) == (8, 0)


def test_wishes_that_are_just_being_written_are_left_for_the_next_block(board: Board) -> None:
    board.ask(Control(1, 2, True, 0.5))
    assert board.asked() == Control(1, 2, True, 0.5)
    board._control["sequence"] += 1
    board._control["slot"] = 5
    assert board.asked() == Control(1, 2, True, 0.5)
