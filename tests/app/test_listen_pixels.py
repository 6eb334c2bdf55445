"""Spectrograms in pixels over the Listen screen: what is written to the terminal, when, and that it is taken away."""

from __future__ import annotations

import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path

import numpy as np
import pytest
from textual.drivers.headless_driver import HeadlessDriver
from textual.pilot import Pilot

from wavedeck.app.screens import listen
from wavedeck.app.screens.listen import ListenScreen
from wavedeck.engine.pictures.terminal import ATTRIBUTES_QUERY, Pictures
from wavedeck.engine.playback import FakePlayer
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.tests.app.conftest import deck, until
from wavedeck.tests.engine.pictures.test_encoders import draw_sixel, show_kitty
from wavedeck.tests.fakes import samples as fakes
from wavedeck.tests.fakes.runs import make_run
from wavedeck.widgets.pixel_picture import FINENESS, PixelStack

PLACED = re.compile(r"\x1b7\x1b\[(\d+);(\d+)H(.*?)\x1b8", re.S)
KITTY, SIXEL = Pictures("kitty", 10, 20), Pictures("sixel", 6, 12)


class Written:
    """What went to the terminal, and the kitty pictures that are on it."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    @property
    def all(self) -> str:
        return "".join(text for text in self.texts if "\x1b_G" in text or "\x1bP" in text)

    @property
    def numbers(self) -> set[str]:
        """Kitty pictures that were sent and not deleted since."""
        there: set[str] = set()
        for keys in re.findall(r"\x1b_G([^;\x1b]*)", self.all):
            said = dict(pair.split("=") for pair in keys.split(","))
            if said.get("a") == "T":
                there.add(said["i"])
            elif said.get("a") == "d":
                there.remove(said["i"])
        return there


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    kept = Written()
    monkeypatch.setattr(HeadlessDriver, "write", lambda self, text: kept.texts.append(text))
    return kept


@pytest.fixture
def player(monkeypatch: pytest.MonkeyPatch) -> FakePlayer:
    made = FakePlayer()
    monkeypatch.setattr(listen, "make_player", lambda *_: made)
    return made


@pytest.fixture
def run(at: Home) -> RunDir:
    one = make_run(at, headline=None)
    fakes.speech_set(one.path, steps=(100,))
    return one


def stack(pilot: Pilot[None]) -> PixelStack:
    return pilot.app.screen.query_one(PixelStack)


async def settled(pilot: Pilot[None], written: Written) -> str:
    """Wait until both tracks are drawn and nothing more is written; everything that was."""
    await until(pilot, lambda: len([view for view in stack(pilot).tracks if view.spectrogram]) == 2, "the tracks")
    seen = [-1, 0, 0, 0]
    await until(pilot, lambda: seen.append(len(written.all)) or len(set(seen[-4:])) == 1, "quiet")
    return written.all


def expected(pilot: Pilot[None], cell: tuple[int, int]) -> list[tuple[tuple[int, int], np.ndarray]]:
    """Where each picture belongs (row and column from 1), and its colours."""
    shown = stack(pilot)
    return [((one.region.y + 1, one.region.x + 1), shown.palette()[one.numbers]) for one in shown.pixel_pictures(*cell)]


@pytest.mark.usefixtures("still")
async def test_kitty_gets_each_picture_once_and_a_playhead_that_moves(
    at: Home, run: RunDir, player: FakePlayer, written: Written
) -> None:
    async with deck(at, (120, 36), listen=(run.id, None, None), pictures=KITTY) as pilot:
        said = await settled(pilot, written)
        placed = {(int(y), int(x)): text for y, x, text in PLACED.findall(said) if "f=24" in text}
        for place, colours in expected(pilot, (FINENESS, 8)):
            keys, shown = show_kitty(placed[place])
            assert np.array_equal(shown, colours)
            assert (int(keys["c"]) * FINENESS, int(keys["r"]) * 8) == (shown.shape[1], shown.shape[0])
        assert len(written.numbers) == 3  # two pictures and the playhead

        written.texts.append("")
        before = len(written.all)
        await pilot.press("space")
        await until(pilot, lambda: player.state().playing, "the sound")
        player.advance(0.5)
        await until(pilot, lambda: "a=p" in written.all[before:], "the playhead to move")
        assert len(written.all) - before < 400 and "a=T" not in written.all[before:]

        await pilot.press("question_mark")  # nothing shines through a dialog
        await until(pilot, lambda: not written.numbers, "no pictures behind the help")
        await pilot.press("escape")
        await until(pilot, lambda: len(written.numbers) == 3, "the pictures again")
        pilot.app.notify("a note\n" * 12)
        await until(pilot, lambda: len(written.numbers) < 3, "no picture over a notification")
        pilot.app.clear_notifications()
        await until(pilot, lambda: len(written.numbers) == 3, "the pictures again")
        await pilot.press("v")  # waveforms only
        await until(pilot, lambda: not written.numbers, "no pictures where there is none to see")
        await pilot.press("v", "escape", "escape")
    assert not written.numbers


@pytest.mark.usefixtures("still")
async def test_sixel_mends_the_column_that_the_playhead_leaves(
    at: Home, run: RunDir, player: FakePlayer, written: Written
) -> None:
    async with deck(at, (120, 36), listen=(run.id, None, None), pictures=SIXEL) as pilot:
        said = await settled(pilot, written)
        placed = {(int(y), int(x)): text for y, x, text in PLACED.findall(said)}
        pictures = expected(pilot, (6, 12))
        for place, colours in pictures:
            assert np.array_equal(draw_sixel(placed[place]), np.rint(colours.astype(float) * 100 / 255))
        player.seek(0.3)
        await until(pilot, lambda: stack(pilot).position_s == 0.3, "the playhead")
        await settled(pilot, written)
        left, before = stack(pilot).playhead, len(written.all)
        player.seek(0.6)
        await until(pilot, lambda: stack(pilot).position_s == 0.6, "the playhead")
        await settled(pilot, written)
        mended = PLACED.findall(written.all[before:])
        x = stack(pilot).region.x + (left or 0) + 1
        assert [(int(row), int(column)) for row, column, _ in mended] == [(place[0], x) for place, _ in pictures]
        for (_, _, text), ((_, first), colours) in zip(mended, pictures, strict=True):
            start = (x - first) * 6
            part = colours[:, start : start + 6].astype(float)
            assert np.array_equal(draw_sixel(text), np.rint(part * 100 / 255))


@pytest.mark.usefixtures("still")
async def test_without_the_setting_nothing_but_cells_is_written(
    at: Home, run: RunDir, player: FakePlayer, written: Written
) -> None:
    async with deck(at, (120, 36), listen=(run.id, None, None)) as pilot:
        assert not await settled(pilot, written)
        assert stack(pilot).fineness == 1 and isinstance(pilot.app.screen, ListenScreen)


@pytest.mark.parametrize("wish", ["auto", ""])
def test_the_command_asks_the_terminal_first_and_only_when_told(run: RunDir, tmp_path: Path, wish: str) -> None:
    """`wavedeck listen` on a real pseudo terminal that answers as kitty does."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 1200, 720))
    env = {**os.environ, "WAVEDECK_PICTURES": wish, "TERM": "xterm-kitty", "COLORTERM": "truecolor"}
    for name in ("TMUX", "STY"):
        env.pop(name, None)
    command = [sys.executable, "-m", "wavedeck", "listen", run.id]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True)
    said, answered, quitting = b"", False, False
    deadline = time.monotonic() + 60
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([master], [], [], 0.1)[0]:
                said += os.read(master, 65536)
            if wish and not answered and ATTRIBUTES_QUERY.encode() in said:
                os.write(master, b"\x1b_Gi=31;OK\x1b\\\x1b[6;20;10t\x1b[?62;c")
                answered = True
            drawn = said.count(b"a=T") >= 3 if wish else said.count(b"LUFS") >= 2
            if drawn and not quitting:
                os.write(master, b"q")
                quitting = True
        assert process.wait(10) == 0, said[-2000:]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(slave)
        while select.select([master], [], [], 0.1)[0]:
            try:
                said += os.read(master, 65536)
            except OSError:
                break
        os.close(master)
    assert answered == bool(wish)
    assert (b"\x1b_G" in said) == bool(wish)
    assert said.count(b"a=d") == said.count(b"a=T") or not wish
