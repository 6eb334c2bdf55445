"""Before a run leaves a host that answers: its newest checkpoint and its code are brought here, and nothing is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from ...engine.backup.copies import VERIFIED, read_copies
from ...engine.backup.policy import read_policy
from ...engine.catalog import Catalog, newest_attempt
from ...engine.checkpoints import CheckpointLine, read_checkpoints
from ...engine.errors import UsageError, WavedeckError
from ...engine.hosts import LOCAL, read_mirror
from ...engine.manifest import ExitRecord, read_record
from ...engine.rundir import Home, RunDir
from .. import operations
from ..backup.disk import RealDisk
from ..backup.pull import Moving, pull
from ..backup.samples import keep_project, may_have_code
from ..backup.transfer import DiskFull
from ..host import Host, LinkDown
from ..provision.there import Progress, Report
from .choose import choose, groups
from .lease import until_gone

PHASE = "backup"
DEEPEST = 5
"""So many steps back a file is looked for that its trainer has not let go of yet."""
WAIT_S = 600.0
"""How long the backup, which may be at it already, is waited for."""
ARRIVE_S = 20.0
"""How long the records of an end may take to arrive here once nothing lives there any more."""
LOOK_S = 0.2


async def bring_newest(home: Home, host: Host, run: RunDir, report: Report, wait_s: float = WAIT_S) -> list[str]:
    """Have the newest checkpoint of a copy here, verified; the one before where it is gone. Returns what to tell.

    A run of this machine has its files here as they are.

    Raises
    ------
    DiskFull, HostUnreachable, WavedeckError: it cannot be brought now.
    """
    if host.name == LOCAL or read_mirror(run.path) is None:
        return []
    told: list[str] = []
    lines = await asyncio.to_thread(read_checkpoints, run.checkpoint_manifest)
    for number, group in enumerate(groups(lines)):
        if number >= DEEPEST:
            break
        done = [await _one(home, host, run, line, report, told, wait_s) for line in group]
        if all(done):
            break
    await _project(home, host, run, report, told)
    return told


async def _project(home: Home, host: Host, run: RunDir, report: Report, told: list[str]) -> None:
    """The code that was pushed for it, if nobody kept it here yet. Without it a run may go on all the same."""
    from ..ssh_host import SshHost

    assert isinstance(host, SshHost)
    if run.project.exists() or not may_have_code(run):
        return
    report(Progress(PHASE, f"bringing the code of {run.id} here"))
    try:
        await keep_project(host, run, read_policy(home, run), lambda moving: None, RealDisk())
    except (LinkDown, DiskFull):
        raise
    except WavedeckError as error:
        told.append(str(error))


async def _one(
    home: Home, host: Host, run: RunDir, line: CheckpointLine, report: Report, told: list[str], wait_s: float
) -> bool:
    """Whether a file is here, verified, after it was looked for."""
    from ..ssh_host import SshHost

    assert isinstance(host, SshHost)

    def tell(now: Moving) -> None:
        report(Progress(PHASE, f"{now.name} from {host.name}", now.bytes, now.total))

    deadline = time.monotonic() + wait_s
    while read_copies(run).holds(line) is None:
        report(Progress(PHASE, f"bringing {line.name} here", 0, line.bytes))
        try:
            done = await pull(host, run, line, read_policy(home, run), tell, RealDisk())
        except (LinkDown, DiskFull):
            raise
        except WavedeckError:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(1.0)  # the backup is at it; it may bring this very file
            continue
        if done.event != VERIFIED:
            told.append(f"{done.text or line.name}: the one before it is taken.")
            return False
    return True


@dataclass(frozen=True, slots=True)
class CleanStop:
    """What a clean stop came to. `safe`: the run has ended, and all that it saved is here, hashed just now."""

    run: RunDir
    ended: ExitRecord | None
    newest_step: int | None
    """The last step in its journal."""
    verified_step: int | None
    """The step of the newest good checkpoint here."""
    safe: bool
    notices: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What happened, and what is safe."""
        if not self.safe:
            kept = "nothing of it" if self.verified_step is None else f"its checkpoint of step {self.verified_step}"
            return f"{self.run.id} was stopped, but only {kept} is verified here: do not give its host back yet."
        return f"{self.run.id} was stopped, and its checkpoint of step {self.verified_step} is verified here."


async def stop_cleanly(
    home: Home,
    host: Host,
    run: RunDir,
    report: Report = lambda progress: None,
    *,
    timeout_s: float = 300.0,
    stopped: Callable[[], None] = lambda: None,
) -> CleanStop:
    """Stop a run so that nothing is lost: it saves, ends, and what it saved is brought here and verified.

    Parameters
    ----------
    timeout_s: how long it may take to save and end. stopped: called once it was asked to end.

    Raises
    ------
    WavedeckError: it does not end, or its checkpoint cannot be brought here. HostUnreachable.
    """
    report(Progress("stop", f"asking {run.id} to save and end"))
    try:
        await operations.request_stop(host, run)
    except UsageError:
        if (await host.living(run.id)).supervisors:
            raise
    stopped()
    await until_gone(host, run, timeout_s)
    ended = await _end_arrived(run)
    notices = await bring_newest(home, host, run, report)
    report(Progress("checkpoint", "hashing it here"))
    chosen = await asyncio.to_thread(choose, home, run, notices)
    view = await asyncio.to_thread(Catalog(home, lambda run_id, record: None).view, run)
    newest = next(iter(groups(read_checkpoints(run.checkpoint_manifest))), [])
    own = chosen is not None and chosen.run == run and list(chosen.lines) == newest
    if ended is None:
        notices.append(f"the record of its end has not arrived from {host.name} yet.")
    verified = chosen.step if chosen is not None else None
    return CleanStop(run, ended, view.step, verified, own and ended is not None, tuple(notices))


async def _end_arrived(run: RunDir) -> ExitRecord | None:
    """The exit record of the newest attempt; it comes here after everything that the run has written."""
    deadline = time.monotonic() + ARRIVE_S
    while True:
        attempt, ended = newest_attempt(run), read_record(run.exit, ExitRecord)
        if attempt is not None and ended is not None and ended.attempt >= attempt.attempt:
            return ended
        if time.monotonic() >= deadline:
            return None
        await asyncio.sleep(LOOK_S)
