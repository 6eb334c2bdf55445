"""`wavedeck backup`: verified copies of checkpoints and samples, once or for as long as it runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...engine import format as fmt
from ...engine.errors import ExitCode, UsageError
from ...engine.rundir import Home, RunDir
from .common import JsonOption, catalog, complete_run, find, print_json, say

if TYPE_CHECKING:
    from ...engine.backup.policy import BackupPolicy
    from ...engine.run_view import RunView
    from ...remote.backup.keeper import Done
    from ...remote.backup.pull import Moving

FOLLOW_S = 0.5

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change the run's policy first: keep_last=5, second=/mnt/nas …"),
]


def register(app: typer.Typer) -> None:
    """Add this verb to the command."""
    app.command()(backup)


def backup(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]", help="One run; without it, how the backup of all stands.", autocompletion=complete_run
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All runs.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C, as new checkpoints are written.")] = False,
    change: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring checkpoints and samples here (and on to a second place), each verified by its sha256 before it counts."""
    from ...engine.backup.policy import host_policy
    from ...engine.hosts import LOCAL
    from ...remote.backup.worker import holder
    from ...remote.hosts_file import load_hosts

    if run is not None and every:
        raise UsageError("name a run, or --all; not both.")
    if run is None and change:
        raise UsageError("--set needs a RUN; what holds for all runs stands in backup.toml, see docs/backup.md.")
    home = Home.default()
    for name in (LOCAL, *load_hosts(home)):
        host_policy(home, name)  # a backup.toml that is wrong is told before anything is believed of it
    if run is None and not every and not watch:
        _status(home, as_json)
        return
    ids = None
    if run is not None:
        directory = find(run)[1]
        ids = [directory.id]
        if change:
            change_policy(home, directory, change)
            if not watch and not as_json:
                _say_policy(home, directory)
    if watch:
        _watch(home, ids)
        return
    done = _once(home, ids) if holder(home) is None else _follow(home, ids)
    _tell(home, ids, done, as_json)
    if done.failed or done.second:
        raise typer.Exit(ExitCode.FAILED)


def _once(home: Home, ids: list[str] | None) -> Done:
    from ...remote.backup.keeper import once
    from ...remote.backup.worker import BackupLock
    from ...remote.fleet import Fleet
    from .questions import TerminalAsker

    async def whole() -> Done:
        fleet = Fleet(home, TerminalAsker())
        try:
            with _line() as moving:
                return await once(home, ids, moving, fleet=fleet)
        finally:
            await fleet.close()

    home.ensure_writable()
    with BackupLock(home):
        return asyncio.run(whole())


def _follow(home: Home, ids: list[str] | None) -> Done:
    """Another process backs up: show what it does until nothing is outstanding, or it does not go on."""
    from ...remote.backup.keeper import Done
    from ...remote.backup.pull import Moving
    from ...remote.backup.state import read_state
    from ...remote.backup.worker import holder

    say(f"process {holder(home)} backs up already: this is what it does.")
    began = time.time()
    with _line() as moving:
        while holder(home) is not None:
            state = read_state(home)
            runs = state.runs if state is not None and state.fresh else {}
            wanted = {name: run for name, run in runs.items() if ids is None or name in ids}
            failed = {name: run.error for name, run in wanted.items() if run.error and not run.doing}
            second = {name: run.second_error for name, run in wanted.items() if run.second_error and not run.doing}
            views = [view for view in catalog().views() if ids is None or view.id in ids]
            left = any(view.backup.outstanding for view in views if view.backup is not None)
            if failed or (not left and state is not None and state.written > began):
                return Done(failed=failed, second=second)
            for name, run in wanted.items():
                if run.doing:
                    moving(name, Moving(run.doing, run.bytes, run.total, run.rate))
            time.sleep(FOLLOW_S)
    return _once(home, ids)  # it ended in the middle of it


def _watch(home: Home, ids: list[str] | None) -> None:
    """In this process, which mirrors as well where nobody else does."""
    from ...remote.backup.keeper import Keeper
    from ...remote.backup.worker import BackupLock
    from ...remote.fleet import Fleet
    from .questions import TerminalAsker

    async def whole() -> None:
        fleet = Fleet(home, TerminalAsker())
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            with _line() as moving:
                await Keeper(home, fleet, ids, moving).forever()
        finally:
            await fleet.close()

    home.ensure_writable()
    with BackupLock(home):
        say(f"backing up {'all runs' if ids is None else ids[0]} until Ctrl-C.")
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(whole())


@contextlib.contextmanager
def _line() -> Iterator[Any]:
    """What is moving: one line rewritten on a terminal, a line for each file elsewhere."""
    from ...engine.names import tail
    from ...remote.provision.there import Progress
    from .live_line import Narration

    narration = Narration()

    def moving(run_id: str, now: Moving) -> None:
        rate = f" {fmt.size(now.rate)}/s" if now.rate else ""
        left = (
            f", {fmt.duration((now.total - now.bytes) / now.rate)} left" if now.rate and now.total > now.bytes else ""
        )
        live = f" {fmt.size(now.bytes)} of {fmt.size(now.total)}{rate}{left}" if narration.live else ""
        narration.show(Progress("backup", f"{tail(run_id)}: {now.name}{live}", now.bytes, now.total or None))

    try:
        yield moving
    finally:
        narration.close()


def _tell(home: Home, ids: list[str] | None, done: Done, as_json: bool) -> None:
    views = [view for view in catalog().views() if ids is None or view.id in ids]
    if as_json:
        errors = {name: {"error": done.failed.get(name), "second_error": done.second.get(name)} for name in _ids(views)}
        print_json([{**_row(view), **errors[view.id]} for view in views])
        return
    for run_id, sentence in sorted([*done.failed.items(), *done.second.items()]):
        say(f"{run_id}: {sentence}")
    if not done.failed and not done.second:
        say("everything that the policies ask for is here and verified.")


def _ids(views: list[RunView]) -> list[str]:
    return [view.id for view in views]


def _status(home: Home, as_json: bool) -> None:
    """Every run that has, or should have, a copy."""
    from ...remote.backup.state import read_state
    from ...remote.backup.worker import holder

    views = catalog().views()
    state = read_state(home)
    doing = state.runs if state is not None and state.fresh else {}
    rows = [_row(view) for view in views if view.backup is not None]
    if as_json:
        print_json(rows)
        return
    busy = holder(home)
    words = "nobody backs up at the moment: `wavedeck babysit`, an open deck or `wavedeck backup --all` does"
    say(f"{f'process {busy} backs up' if busy is not None else words}.")
    if not rows:
        say("no run of another host is here, and none has a second place.")
        return
    from .backup_tables import print_backups

    print_backups([view for view in views if view.backup is not None], doing)


def _row(view: RunView) -> dict[str, Any]:
    import msgspec

    return {
        "id": view.id,
        "host": view.host,
        "step": view.step,
        "backup": None if view.backup is None else msgspec.to_builtins(view.backup),
    }


# --- policies


def change_policy(home: Home, run: RunDir, words: list[str]) -> BackupPolicy:
    """Change a run's policy, on its host first.

    Raises
    ------
    UsageError: the words make no sense. HostUnreachable: its host does not answer; nothing is changed then.
    """
    from ...engine.backup.policy import host_of, policy_from_words, read_policy
    from ...remote.backup.policies import refuse_unknown_places, set_policy
    from .places import at

    policy = policy_from_words(words, read_policy(home, run))
    refuse_unknown_places(home, policy)  # before anybody waits for a host
    said = any(word.strip().startswith("second=") for word in words)
    with at(home, host_of(run)) as place:
        place.do(lambda host: set_policy(home, run, policy, host, said_second=said))
    return policy


def _say_policy(home: Home, run: RunDir) -> None:
    from ...engine.backup.policy import policy_words, read_policy

    words = policy_words(read_policy(home, run))
    say(f"{run.id}: {' '.join(words) if words else 'the default policy'}.")
