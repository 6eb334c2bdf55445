"""Listen on a run of another host, over a real sshd: the index is mirrored, sound is fetched by ranges, heard here."""

from __future__ import annotations

import asyncio
import csv
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from textual.pilot import Pilot

from wavedeck.app.screens import listen
from wavedeck.app.screens.listen import ListenScreen
from wavedeck.engine.playback import FakePlayer
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.samples.writer import SampleWriter
from wavedeck.remote.far_file import BLOCK
from wavedeck.remote.ssh_host import SshHost
from wavedeck.tests.app.conftest import deck, until
from wavedeck.tests.app.test_cli import cli, js
from wavedeck.tests.conftest import screen_text
from wavedeck.tests.fakes import samples as fakes
from wavedeck.tests.fakes.runs import make_home, make_run
from wavedeck.tests.servers.fixtures import sshd  # noqa: F401  fixture
from wavedeck.tests.servers.sshd import Sshd

pytestmark = [pytest.mark.usefixtures("tmux_socket"), pytest.mark.timeout(90)]
RUN_ID = "20261120-1759-drums-brisk-heron"
LONG_S, RATE = 24, 48_000
OPEN_UNTIL = 4 * BLOCK
"""What the host gives before the gate in `Gated` opens."""


class Gated:
    """`SshHost.read_range`, which notes what is asked for and holds back what lies far behind in a file."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int]] = []
        self.opened = threading.Event()
        self._real = SshHost.read_range

    async def __call__(
        self, host: SshHost, run_id: str, name: str, offset: int, count: int
    ) -> tuple[bytes, int, float]:
        while offset >= OPEN_UNTIL and not self.opened.is_set():
            await asyncio.sleep(0.01)
        self.asked.append((name, offset, count))
        return await self._real(host, run_id, name, offset, count)

    @property
    def bytes(self) -> int:
        return sum(count for _, _, count in self.asked)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gated:
    gated = Gated()

    async def read_range(self: SshHost, run_id: str, name: str, offset: int, count: int) -> tuple[bytes, int, float]:
        return await gated(self, run_id, name, offset, count)

    monkeypatch.setattr(SshHost, "read_range", read_range)
    return gated


@pytest.fixture
def player(monkeypatch: pytest.MonkeyPatch) -> FakePlayer:
    made = FakePlayer()
    monkeypatch.setattr(listen, "make_player", lambda *_: made)
    return made


@pytest.fixture
def there(sshd: Sshd) -> RunDir:  # noqa: F811
    """A finished run on gpu1."""
    return make_run(make_home(sshd.remote_home), RUN_ID, headline=None)


@pytest.fixture
def here(home: Path, there: RunDir) -> Home:
    """A home that knows gpu1 and nothing of its runs."""
    at = make_home(home)
    (home / "hosts.toml").write_text("[gpu1]\n")
    return at


def screen(pilot: Pilot[None]) -> ListenScreen:
    found = pilot.app.screen
    assert isinstance(found, ListenScreen)
    return found


async def shown(pilot: Pilot[None]) -> None:
    def drawn() -> bool:
        views = screen(pilot).session.shown
        return bool(views) and all(view.spectrogram is not None for view in views)

    await until(pilot, drawn, "the pictures", 30)


async def test_a_mirrored_set_is_seen_heard_and_exported(
    there: RunDir,
    here: Home,
    player: FakePlayer,
    gate: Gated,
    tmp_path: Path,
) -> None:
    gate.opened.set()
    original = fakes.speech_set(there.path, steps=(100,))
    copy = RunDir(here.runs / RUN_ID)
    async with deck(here, (160, 45), open_run=RUN_ID) as pilot:
        await until(pilot, lambda: (copy.path / "samples/val/index.jsonl").exists(), "the mirrored index", 30)
        pilot.app.open_listen(RUN_ID)  # type: ignore[attr-defined]
        await until(pilot, lambda: isinstance(pilot.app.screen, ListenScreen) and len(screen(pilot).listing) == 6)
        await shown(pilot)
        assert "▀" in screen_text(pilot.app) and "LUFS" in screen_text(pilot.app)
        item, source = screen(pilot).session.item, player.sources[0]
        assert item is not None
        heard = await asyncio.to_thread(source.read, 0, source.frames)
        twin = original.find(item.id)
        assert twin is not None
        assert np.array_equal(heard, original.audio(twin, "target", 0, twin.tracks["target"].frames))
        assert not list(copy.path.glob("samples/**/*.h5"))  # nothing but the index travelled by itself
    assert {name for name, _, _ in gate.asked} == {"samples/val/step-000100.h5"}

    rows = js("samples", RUN_ID)
    assert len(rows) == 6 and rows[0]["id"] == item.id
    out = tmp_path / "out"
    report = js("listen", RUN_ID, item.id, "--export", str(out))
    (target,) = [file["path"] for file in report["files"] if "target" in Path(file["path"]).name]
    exported, rate = soundfile.read(target, dtype="float32", always_2d=True)
    assert rate == 16_000 and np.array_equal(exported, heard)
    with open(report["table"], newline="") as handle:
        assert [row["id"] for row in csv.DictReader(handle)] == [item.id]
    assert json.loads(cli("listen", RUN_ID, item.id, "--json").stdout)["problem"] is None


async def test_playing_starts_before_all_of_a_clip_is_here(
    there: RunDir, here: Home, player: FakePlayer, gate: Gated
) -> None:
    sound = fakes.stereo(LONG_S, RATE)
    with SampleWriter(there.path, "val") as writer:
        writer.log({"target": (sound, RATE)}, step=1, key="long")
    (file,) = there.path.glob("samples/val/*.h5")
    assert file.stat().st_size > 2 * OPEN_UNTIL
    async with deck(here, (120, 36), listen=(RUN_ID, None, None)) as pilot:
        await until(pilot, lambda: player.sources, "the item, mirrored while the screen waits for it", 30)
        await pilot.press("space")
        await until(pilot, lambda: player.state().playing, "the sound")
        assert not gate.opened.is_set()
        source = player.sources[0]
        start = await asyncio.wait_for(asyncio.to_thread(source.read, 0, RATE), 20)
        assert np.array_equal(start, sound[:RATE])
        assert gate.bytes <= OPEN_UNTIL < file.stat().st_size
        player.advance(2.0)
        await until(pilot, lambda: "0:02.00" in screen_text(pilot.app), "a playhead over what is still read")
        gate.opened.set()
        await shown(pilot)
        end = await asyncio.to_thread(source.read, len(sound) - RATE, RATE)
        assert np.array_equal(end, sound[-RATE:])
