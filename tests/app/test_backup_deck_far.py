"""The open deck over a real sshd host: a checkpoint appears there, the deck's own backup brings it here."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from typing import cast

import msgspec

from wavedeck.app.cockpit import Wavedeck
from wavedeck.app.screens.run import RunScreen
from wavedeck.engine.backup.copies import HERE, read_copies
from wavedeck.engine.checkpoints import CheckpointLine
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.remote.backup.worker import holder
from wavedeck.tests.app.conftest import deck, until
from wavedeck.tests.conftest import screen_text
from wavedeck.tests.fakes.runs import make_run
from wavedeck.tests.servers.fixtures import sshd  # noqa: F401  fixture
from wavedeck.tests.servers.sshd import Sshd
from wavedeck.widgets.checkpoint_table import CheckpointTable

ID = "20260921-1426-sousa-brisk-heron"


def save(there: RunDir, step: int) -> str:
    """A checkpoint of the run on its host."""
    name = f"step-{step:08d}.ckpt"
    data = hashlib.shake_128(step.to_bytes(4, "big")).digest(200_000)
    there.checkpoints.mkdir(exist_ok=True)
    (there.checkpoints / name).write_bytes(data)
    line = CheckpointLine(name, step, len(data), hashlib.sha256(data).hexdigest(), time.time())
    with open(there.checkpoint_manifest, "ab") as handle:
        handle.write(msgspec.json.encode(line) + b"\n")
    return name


async def test_a_checkpoint_comes_here_and_can_be_pulled_and_deleted(at: Home, sshd: Sshd) -> None:  # noqa: F811
    (at.root / "hosts.toml").write_text(f"[gpu1]\npython = {json.dumps(sys.executable)}\nprice_per_hour = 2.5\n")
    there = make_run(Home(sshd.remote_home), ID, state="stopped", created=time.time() - 60)
    first = save(there, 100)
    run = at.run(ID)
    async with deck(at, (200, 50), babysits=True) as pilot:
        app = cast(Wavedeck, pilot.app)
        await until(pilot, lambda: app.view_of(ID) is not None, "the copy of the run", 40)
        app.open_run(ID)
        await until(pilot, lambda: isinstance(app.screen, RunScreen) and app.screen.is_mounted)
        await pilot.press("5")
        await until(pilot, lambda: first in read_copies(run).verified(HERE), "the deck's own backup", 40)
        assert app.babysitter is not None and holder(at) is not None
        table = app.screen.query_one(CheckpointTable)
        await until(pilot, lambda: table.row_count == 1 and "gpu1 · here" in screen_text(app), "both places")
        await until(pilot, lambda: "✓ all that the policy wants is verified" in screen_text(app), "the line")
        assert (run.checkpoints / first).read_bytes() == (there.checkpoints / first).read_bytes()

        # what was deleted here stays deleted, until it is pulled: the deck's own backup makes room for that
        await pilot.press("x")
        await until(pilot, lambda: "at which place" in screen_text(app), "the places")
        await pilot.press("down", "enter")
        await until(pilot, lambda: "It is the newest there" in screen_text(app), "what follows")
        await pilot.press("y")
        await until(pilot, lambda: not (run.checkpoints / first).exists(), "the deletion")
        await until(pilot, lambda: table.checkpoint is not None and table.checkpoint["where"] == ["gpu1"], "the tab")
        await pilot.press("p")
        await until(pilot, lambda: (run.checkpoints / first).exists(), "the pull", 40)
        await until(pilot, lambda: table.checkpoint is not None and table.checkpoint["where"] == ["gpu1", "here"])

        # and the backup goes on by itself
        second = save(there, 200)
        await until(pilot, lambda: second in read_copies(run).verified(HERE), "the next one", 60)
        await until(pilot, lambda: isinstance(app.screen, RunScreen), "nothing in front")
        await pilot.press("h")
        await until(pilot, lambda: "6 Safe" in screen_text(app))
        await pilot.press("6")
        await until(pilot, lambda: "✓ safe to destroy" in screen_text(app), "the verdict", 40)
    assert holder(at) is None
