"""Who babysits a home: one at a time, and a deck gives way to a babysitter that stays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from wavedeck.engine.errors import UsageError
from wavedeck.engine.rundir import Home
from wavedeck.remote.babysit_lock import BabysitLock, babysitter_of, is_wanted


async def test_a_deck_gives_way_and_a_babysitter_does_not(home: Path) -> None:
    at = Home(home)
    deck, sitter, third = BabysitLock(at), BabysitLock(at), BabysitLock(at)
    deck.take(gives_way=True)
    with pytest.raises(UsageError, match="Another babysitter"):
        third.take()
    taking = asyncio.create_task(sitter.take_over())
    async with asyncio.timeout(10):
        while not is_wanted(at):
            await asyncio.sleep(0.01)
    assert not taking.done()
    deck.release()
    async with asyncio.timeout(10):
        await taking
    holder = babysitter_of(at)
    assert holder is not None and not holder.gives_way and not is_wanted(at)
    with pytest.raises(UsageError, match="Another babysitter"):
        await third.take_over()
    sitter.release()


async def test_nobody_waits_for_ever_for_a_deck_that_hangs(home: Path) -> None:
    at = Home(home)
    deck = BabysitLock(at)
    deck.take(gives_way=True)
    with pytest.raises(UsageError, match="Another babysitter"):
        await BabysitLock(at).take_over(0.3)
    assert not is_wanted(at)
    deck.release()
