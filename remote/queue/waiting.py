"""What is done to runs that wait: they are put into the queue whole, and taken out so that it shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec

from ...engine.backup.policy import BackupPolicy, host_policy
from ...engine.catalog import newest_attempt
from ...engine.errors import RunDirError, WavedeckError
from ...engine.hosts import MIRROR_FILE
from ...engine.manifest import Attempt, ExitRecord, Manifest, encode, read_manifest
from ...engine.names import RUN_ID
from ...engine.planning import Plan
from ...engine.queue import QUEUED_FILE, Queued, planned_attempt, queue_runs, was_queued
from ...engine.rundir import Home, RunDir
from .. import run_folders, tmux
from ..host import Host
from ..liveness import alive
from ..run_evidence import end_of, is_gone


async def enqueue(home: Home, host: Host, plans: Sequence[Plan], policy: BackupPolicy | None = None) -> list[RunDir]:
    """Create the directory of every run, to be started one after another by the queue. All of them, or none.

    None is in the queue before all are there, so that a runner at work starts none of a batch that fails halfway. What
    was started all the same, while the last of them were put into the queue, is left to run.

    Parameters
    ----------
    policy: how they are backed up; what `backup.toml` says when None.

    Raises
    ------
    UsageError: there is a run of that id. WavedeckError: the home is not writable; the sentence names what runs.
    """
    t, policy = time.time(), policy or host_policy(home, host.name)
    made: list[RunDir] = []

    async def create(plan: Plan) -> None:
        run = home.run(plan.run_id)
        files = {run.manifest.name: encode(plan.manifest)}
        if policy != BackupPolicy():
            files[run.policy.name] = encode(policy)
        await host.create_run(run.id, files)
        made.append(run)

    try:
        for plan in plans:
            tmux.session_name(plan.run_id)
            await _whole(create(plan))
        for place, plan in enumerate(plans):
            await _whole(host.place(plan.run_id, QUEUED_FILE, encode(Queued(t, place, plan.attempt))))
    except BaseException as error:
        stays = await _take_back(home, host, made)
        words = _failed(error, stays)
        if words is None:
            raise
        raise WavedeckError(words) from error
    return made


async def _whole(step: Coroutine[Any, Any, object]) -> None:
    """Do a step to its end even where this is cancelled meanwhile: what it did is then known, and can be undone."""
    task = asyncio.ensure_future(step)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


async def _take_back(home: Home, host: Host, made: Sequence[RunDir]) -> list[RunDir]:
    """Delete the runs of a batch that failed; those that stay, because they were started or cannot be taken out.

    What is not in the queue yet goes first: on a full disk that makes room for the records of what is.
    """
    queued = [run for run in made if was_queued(run)]
    stays = []
    for run in [*(run for run in made if run not in queued), *reversed(queued)]:
        try:
            if was_queued(run) and not await take_out(host, run):
                stays.append(run)
                continue
            await asyncio.to_thread(run_folders.discard, home, run)
        except (WavedeckError, OSError):
            stays.append(run)
    return stays[::-1]


def _failed(error: BaseException, stays: Sequence[RunDir]) -> str | None:
    """What is said of a batch that failed; None where the error says it all."""
    if not isinstance(error, (WavedeckError, OSError)):
        return None
    left = f" {', '.join(run.id for run in stays)} had begun and goes on: `wavedeck stop` ends it." if stays else ""
    if isinstance(error, WavedeckError):
        return f"{error}{left}" if left else None
    return f"the batch cannot be queued: {error.strerror}.{left}"


async def take_out(host: Host, run: RunDir) -> bool:
    """Take a waiting run out of the queue: it then is stopped before it began. False when it has just been started.

    Raises
    ------
    WavedeckError: its records cannot be written.
    """
    now = time.time()
    attempt = msgspec.structs.replace(planned_attempt(run), requested=now)
    try:
        if not await host.place(run.id, f"attempts/{attempt.attempt:04d}.json", encode(attempt), exclusive=True):
            return False
        record = ExitRecord(attempt.attempt, now, stop_requested=True)
        await host.place(run.id, run.exit.name, encode(record))
    except OSError as error:
        raise WavedeckError(f"{run.id} cannot be taken out of the queue: {error.strerror}.") from error
    return True


def is_active(run: RunDir) -> bool:
    """Whether a run is under way on this machine; one whose records cannot be read is not waited for."""
    try:
        attempt = newest_attempt(run)
        return attempt is not None and end_of(run, attempt) is None and not is_gone(run, attempt, alive)
    except (RunDirError, OSError):
        return False


def in_the_way(home: Home, run: RunDir) -> RunDir | None:
    """What must end before `run`, whose turn it is, may begin; None when it may.

    That is any other run of the queue, whoever started it, and a recipe's training outside of it on the same GPUs. A
    foreign program is waited for only where it was given GPUs by number: another may want none, and may never end.
    """
    busy = next((other for other in queue_runs(home) if is_active(other)), None)
    return busy if busy is not None else next((one for one in _others(home) if _meet(run, one)), None)


def _others(home: Home) -> list[RunDir]:
    """The runs of this machine that did not come through the queue and are under way."""
    try:
        names = [path.name for path in home.runs.iterdir() if RUN_ID.match(path.name)]
    except OSError:
        return []
    runs = [run for run in map(home.run, names) if not was_queued(run) and not (run.path / MIRROR_FILE).exists()]
    return [run for run in runs if is_active(run)]


def _meet(run: RunDir, other: RunDir) -> bool:
    """Whether two runs want the same GPU; of records that cannot be read nothing is believed."""
    try:
        manifest, attempt = read_manifest(other.manifest), newest_attempt(other)
        if attempt is None or (manifest.recipe is None and not manifest.gpus):
            return False
        theirs, mine = _gpus(manifest, attempt), _gpus(read_manifest(run.manifest), planned_attempt(run))
    except (RunDirError, OSError):
        return False
    if theirs is None or mine is None:
        return theirs != frozenset() and mine != frozenset()
    return bool(theirs & mine)


def _gpus(manifest: Manifest, attempt: Attempt) -> frozenset[int] | None:
    """The GPUs a run may use; None when that is all of them."""
    if manifest.gpus:
        return frozenset(manifest.gpus)
    return frozenset() if attempt.env.get("CUDA_VISIBLE_DEVICES") == "" else None
