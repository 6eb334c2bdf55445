"""Backup on screen: where each checkpoint is, what the backup does, what each key asks before it acts."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from wavedeck.app.screens.choose import Choose
from wavedeck.app.screens.confirm import Confirm
from wavedeck.app.screens.run import RunScreen
from wavedeck.app.screens.text_question import TextQuestion
from wavedeck.engine.backup.copies import HERE, read_copies
from wavedeck.engine.backup.policy import BackupPolicy, own_policy
from wavedeck.engine.rundir import Home
from wavedeck.tests.app.conftest import deck, until
from wavedeck.tests.conftest import Snapshot, screen_text
from wavedeck.tests.fakes.copies import HERON, backing_up, data_of, make_copy
from wavedeck.tests.fakes.runs import make_run
from wavedeck.widgets.checkpoint_table import CheckpointTable

SIZES = [(80, 24), (120, 36)]
IDS = [f"{width}x{height}" for width, height in SIZES]


def table(pilot: Pilot[None]) -> CheckpointTable:
    return pilot.app.screen.query_one(CheckpointTable)


async def in_front(pilot: Pilot[None], rows: int = 4) -> None:
    """The Checkpoints tab, with what is known."""
    await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
    await pilot.press("5")
    await until(pilot, lambda: table(pilot).row_count == rows and table(pilot).has_focus, f"{rows} checkpoints")


async def go_to(pilot: Pilot[None], step: int) -> None:
    """The cursor on the checkpoint of a step."""
    key = next(row.key for row in table(pilot).rows if f"{step:08d}" in str(row.key))
    table(pilot).select(key)
    await pilot.pause()


async def seen(pilot: Pilot[None], *words: str) -> None:
    for word in words:
        await until(pilot, lambda word=word: word in screen_text(pilot.app), word)  # type: ignore[misc]


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("size", SIZES, ids=IDS)
async def test_where_everything_is_and_what_moves(at: Home, snapshot: Snapshot, size: tuple[int, int]) -> None:
    make_copy(at)
    backing_up(at, doing="step-00000180.ckpt", bytes=500, total=1180, rate=88e6, eta_s=12.0)
    async with deck(at, size, open_run=HERON) as pilot:
        await in_front(pilot)
        await seen(pilot, "gpu1 · here", "42%", "12s left", "keep_last=5 second=/mnt/nas", "37%")
        snapshot.check(pilot.app)


@pytest.mark.usefixtures("still")
async def test_the_line_tells_what_is_wrong(at: Home) -> None:
    run = make_copy(at)
    async with deck(at, open_run=run.id) as pilot:
        await in_front(pilot)
        await seen(pilot, "1 checkpoint (1.2 KiB) still to come; nobody backs up", "backed up to step 160 (1m ago)")
        backing_up(at, error="there is no room left here.")
        await seen(pilot, "✗ there is no room left here.")


async def test_v_hashes_again_and_says_what_is_damaged(at: Home) -> None:
    run = make_copy(at, policy=BackupPolicy())
    path = run.checkpoints / "step-00000120.ckpt"
    async with deck(at, open_run=run.id) as pilot:
        await in_front(pilot)
        await pilot.press("v")
        await seen(pilot, "3 copies hashed: all are right.")
        assert isinstance(pilot.app.screen, RunScreen)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        await pilot.press("v")
        await seen(pilot, "2 right, 1 damaged")
        await until(pilot, lambda: path.name in read_copies(run).bad(HERE), "the record")
        await seen(pilot, "✗ bad here")


async def test_delete_asks_where_and_knows_what_follows(at: Home) -> None:
    run = make_copy(at)
    path = run.checkpoints / "step-00000160.ckpt"
    async with deck(at, open_run=run.id) as pilot:
        await in_front(pilot)
        await go_to(pilot, 160)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choose), "the places")
        assert [str(option.prompt).split()[0] for option in pilot.app.screen.query_one(OptionList).options] == [
            "gpu1",
            "here",
        ]
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm), "the question")
        await seen(pilot, "It is the best by", "The policy")
        await pilot.press("enter")  # no has the focus
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        assert path.exists()
        await pilot.press("x")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choose), "the places")
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, Confirm), "the question")
        await pilot.press("y")
        await until(pilot, lambda: not path.exists(), "the deletion")
        assert path.name not in read_copies(run).verified(HERE)


async def test_keys_that_make_no_sense_are_not_offered(at: Home) -> None:
    run = make_copy(at)
    own = make_run(at, "20260921-1500-sousa-calm-otter", state="stopped")
    async with deck(at, open_run=run.id) as pilot:
        await in_front(pilot)
        assert "Pull" in screen_text(pilot.app) and "Restore" not in screen_text(pilot.app)  # 180 is only there
        await go_to(pilot, 160)
        await until(pilot, lambda: "Restore" in screen_text(pilot.app) and "Pull" not in screen_text(pilot.app))
        await pilot.press("p")
        assert isinstance(pilot.app.screen, RunScreen)
        pilot.app.open_run(own.id)  # type: ignore[attr-defined]
        await until(pilot, lambda: own.id in screen_text(pilot.app))
        await in_front(pilot, 0)
        footer = screen_text(pilot.app).splitlines()[-1]
        assert "Policy" in footer and not any(word in footer for word in ("Verify", "Pull", "Restore", "Delete…"))


async def test_the_policy_is_edited_as_words_and_checked_while_typing(at: Home, tmp_path: Path) -> None:
    run = make_run(at, state="stopped")
    async with deck(at, open_run=run.id) as pilot:
        await in_front(pilot, 0)
        await pilot.press("P")
        await until(pilot, lambda: isinstance(pilot.app.screen, TextQuestion), "the question")
        field = pilot.app.screen.query_one(Input)
        field.value = "keep_lost=5"
        await seen(pilot, "Did you mean")
        await pilot.press("enter")
        assert isinstance(pilot.app.screen, TextQuestion)
        field.value = f"keep_last=5 second={tmp_path}/none"
        await pilot.press("enter")
        await seen(pilot, "mount it or make it first")
        assert own_policy(run) is None
        await pilot.press("P")
        await until(pilot, lambda: isinstance(pilot.app.screen, TextQuestion), "the question")
        pilot.app.screen.query_one(Input).value = f"keep_last=5 second={tmp_path}"
        await pilot.press("enter")
        await until(pilot, lambda: own_policy(run) == BackupPolicy(keep_last=5, second=str(tmp_path)), "policy.json")
        await seen(pilot, f"keep_last=5 second={tmp_path}")


async def test_a_pull_says_who_else_backs_up(at: Home) -> None:
    from wavedeck.remote.backup.worker import BackupLock

    run = make_copy(at)
    async with deck(at, open_run=run.id) as pilot:
        await in_front(pilot)
        with BackupLock(at):
            await pilot.press("p")
            await seen(pilot, "backs up already")


async def test_restore_asks_where_and_refuses_another_file(at: Home, tmp_path: Path) -> None:
    run = make_copy(at)
    async with deck(at, open_run=run.id) as pilot:
        await in_front(pilot)
        await go_to(pilot, 160)
        for _ in range(2):
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, Choose), "the machines")
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, TextQuestion), "the directory")
            await pilot.press("enter")
            await seen(pilot, "✗ an absolute directory")
            pilot.app.screen.query_one(Input).value = str(tmp_path / "models")
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen), "the end")
            there = tmp_path / "models" / "step-00000160.ckpt"
            await until(pilot, there.exists, "the file")
            if there.read_bytes() == data_of(160):
                await seen(pilot, "restored to")
                there.write_bytes(b"somebody else's")
        await seen(pilot, "there is another file")
        assert there.read_bytes() == b"somebody else's"
