"""The threads of the Listen screen are daemons: quitting waits for no export and no link that hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from textual.app import App
from textual.screen import Screen

from wavedeck.app.listen import background

QUIT = """
import threading
from textual import work
from textual.app import App
from wavedeck.app.listen.background import in_thread

class Deck(App):
    def on_mount(self):
        self.read()

    @work(exit_on_error=False)
    async def read(self):
        self.call_later(self.exit)
        await in_thread(threading.Event().wait)  # a link that never answers

Deck().run(headless=True)
print("over", flush=True)
"""


def test_quitting_does_not_wait_for_a_thread_that_hangs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", QUIT], capture_output=True, text=True, timeout=40, env=os.environ | {"TERM": "dumb"}
    )
    assert done.returncode == 0 and "over" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["_open_other", "_export", "_read", "_closer"])
def test_every_worker_of_the_screen_is_one_of_ours(name: str) -> None:
    import inspect

    assert inspect.iscoroutinefunction(inspect.unwrap(getattr(background.ListenBackground, name)))


async def test_a_failure_in_a_thread_is_raised_and_it_knows_the_app(tmp_path: Path) -> None:
    class Deck(App[None]):
        pass

    async with Deck().run_test() as pilot:
        seen: list[object] = []

        def work() -> None:
            seen.append(Screen().app)
            seen.append(threading.current_thread().daemon)
            raise OSError("no")

        with pytest.raises(OSError, match="no"):
            await background.in_thread(work)
        assert seen == [pilot.app, True]
