"""Policies as users ask for them: at a launch and later. Both front doors check the same things in the same words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...engine.backup.policy import BackupPolicy, checked, host_policy, policy_from_words, read_policy, write_policy
from ...engine.errors import UsageError
from ...engine.hosts import LOCAL
from ...engine.manifest import encode
from ...engine.rundir import Home, RunDir
from ..host import Host
from ..hosts_file import host_entry
from .trusted import trust_second


def asked_policy(
    home: Home, host: str, failover: str | None = None, budget: float | None = None, words: Sequence[str] = ()
) -> BackupPolicy:
    """What was asked for at a launch on `host`, over what `backup.toml` says for it.

    Raises
    ------
    UsageError: a word makes no sense, or names a host that nobody knows.
    """
    said = list(words)
    if failover is not None:
        if host == LOCAL:
            raise UsageError("--failover is for runs on other hosts: this machine cannot take note of its own end.")
        if failover == host:
            raise UsageError(f"--failover {failover}: name another host than the one it runs on.")
        said.append(f"failover={failover}")
    if budget is not None:
        said.append(f"budget={budget!r}")
    policy = policy_from_words(said, host_policy(home, host))
    for name in (policy.failover, policy.second_host):
        if name is not None:
            host_entry(home, name)  # an unknown one is a sentence now, and not at night
    if any(word.strip().startswith("second=") for word in said):
        trust_second(home, policy)
    return policy


def refuse_unknown_places(home: Home, policy: BackupPolicy) -> None:
    """Refuse hosts that nobody knows, and a directory that is not there: it may be a disk that is not mounted.

    Raises
    ------
    UsageError: it names one.
    """
    for name in (policy.failover, policy.second_host):
        if name is not None:
            host_entry(home, name)
    directory = policy.second_directory
    if policy.second is not None and policy.second_host is None and directory and not Path(directory).is_dir():
        raise UsageError(f"there is no directory {directory} here: mount it or make it first.")


async def set_policy(home: Home, run: RunDir, policy: BackupPolicy, host: Host, *, said_second: bool = False) -> None:
    """Give a run another policy; `host` is where the run is, which gets it first.

    `said_second`: its user named the second place just now, be it the one that the run came with.

    Raises
    ------
    UsageError: it makes no sense, or names a place that is not there. HostUnreachable: nothing is changed then.
    """
    refuse_unknown_places(home, checked(policy))
    new = policy.second != read_policy(home, run).second
    if host.name != LOCAL:
        await host.place(run.id, run.policy.name, encode(policy))
    write_policy(run, policy)
    if said_second or new:
        trust_second(home, policy)
