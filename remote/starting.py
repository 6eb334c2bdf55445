"""Starting a supervisor in tmux, for every kind of host."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from . import tmux
from .host import Completed, HostError, last_line

OLD_SESSION_S = 3.0
SERVER_NEEDS = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TMUX_TMPDIR", "LANG", "LC_ALL", "LC_CTYPE")

Run = Callable[..., Coroutine[Any, Any, Completed]]


def small_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What tmux and the supervisor themselves need of an environment: nothing secret.

    Nor, when a run launches another, that run's own identity: its leftovers are found by it.
    """
    return {key: environ[key] for key in SERVER_NEEDS if key in environ}


async def start_in_tmux(run: Run, argv: Sequence[str], env: Mapping[str, str]) -> str | None:
    """Start a session by `argv`; None when it worked, else why it did not, as a sentence.

    The session of the attempt before ends shortly after its exit record; it is waited for.
    """
    deadline = time.monotonic() + OLD_SESSION_S
    try:
        while True:
            done = await run(argv, env=env)
            if done.status == 0:
                return None
            if not tmux.may_pass(done.stderr.decode("utf-8", "replace")) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.05)
    except HostError as error:
        return f"{error} The run was started without it and cannot be attached to."
    return f"tmux refused ({last_line(done.stderr)}): the run was started without it and cannot be attached to."
