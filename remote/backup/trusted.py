"""Which directories may be filled as second places.

A policy travels with its run, so the one of a copy is data of another host. A directory that it names, here or on a
third machine, is followed only if somebody said the same on this machine: in `backup.toml`, at a launch, or with
`backup RUN --set second=…`; the last two are remembered in `backup/places.json`. A host without a directory is always
followed, since it has a place of its own for copies.
"""

from __future__ import annotations

import msgspec

from ...engine.backup.policy import BackupPolicy, host_policy
from ...engine.files import write_atomic
from ...engine.format import plain
from ...engine.hosts import LOCAL, read_mirror
from ...engine.manifest import read_manifest
from ...engine.rundir import Home, RunDir

_MOST = 1000


def trust_second(home: Home, policy: BackupPolicy) -> None:
    """Remember that the second place of a policy was named on this machine.

    Raises
    ------
    OSError: the home cannot be written.
    """
    known = _known(home)
    if policy.second is not None and policy.second_directory is not None and policy.second not in known:
        path = home.root / "backup" / "places.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, msgspec.json.encode([*known, policy.second][-_MOST:]))


def distrusted(home: Home, run: RunDir, policy: BackupPolicy) -> str | None:
    """Why the second place of a run's policy is not followed; None when it is.

    Raises
    ------
    RunDirError: a record of the run is damaged. UsageError: `backup.toml` is.
    """
    if policy.second is None or policy.second_directory is None:
        return None
    mirror = read_mirror(run.path)
    if mirror is None and read_manifest(run.manifest).parent is None:
        return None  # launched here, and its policy has never been elsewhere; a failover's child has its parent's
    host = LOCAL if mirror is None else mirror.host
    if policy.second in (host_policy(home, host).second, *_known(home)):
        return None
    return (
        f"the second place {plain(policy.second, 200)} came along with this run and was never named on this machine: "
        f"`wavedeck backup {run.id} --set second={plain(policy.second, 200)}` does, and so does backup.toml."
    )


def _known(home: Home) -> list[str]:
    try:
        return msgspec.json.decode((home.root / "backup" / "places.json").read_bytes(), type=list[str])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return []
