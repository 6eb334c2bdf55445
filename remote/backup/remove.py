"""Deleting one checkpoint at one place, with the consequences said beforehand; what was deleted so stays deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ...engine.backup.copies import ASKED, HERE, NOTE, REMOVED, SECOND, read_copies
from ...engine.backup.places import Located, locate
from ...engine.backup.plan import RESUMABLE
from ...engine.backup.policy import BackupPolicy, read_policy
from ...engine.checkpoints import CheckpointLine, best
from ...engine.errors import UsageError
from ...engine.format import plain
from ...engine.hosts import LOCAL, read_mirror
from ...engine.manifest import Headline, read_manifest
from ...engine.rundir import Home, RunDir
from ..host import Host
from ..payload import backup_files
from ..ssh_host import SshHost
from .disk import Disk, RealDisk
from .pull import copy_line, record
from .second import place_for
from .there import WORDS, place_of, unlink_request, unlink_there

HOST = "host"
"""Where its trainer wrote it."""


def consequences(home: Home, run: RunDir, name: str, place: str) -> list[str]:
    """What its user should know before a checkpoint is deleted at a place; each a sentence.

    Raises
    ------
    UsageError: it is not there.
    """
    located, policy, headline = _known(home, run)
    found = _find(located, name, place)
    others = [at for at in (HOST, HERE, SECOND) if at != place and _is_at(found, at)]
    said = []
    if not others:
        said.append("This is its only copy: it cannot be brought back.")
    same = [one for one in located if one is not found and one.line.kind in RESUMABLE and _is_at(one, place)]
    if found.line.kind in RESUMABLE and not any(one.line.step >= found.line.step for one in same):
        older = max((one.line.step for one in same), default=None)
        rest = "nothing is left there to go on from" if older is None else f"training would go on from step {older:,}"
        said.append(f"It is the newest there: {rest}.")
    leader = best([one.line for one in located], headline) if headline is not None else None
    if leader is found.line and headline is not None:
        said.append(f"It is the best by {plain(headline.metric, 60)}.")
    if place != HOST and policy.enabled:
        said.append("The policy would keep it; it is not fetched again.")
    return said


async def remove(
    home: Home, run: RunDir, name: str, place: str, hosts: Callable[[str], Host], disk: Disk | None = None
) -> CheckpointLine:
    """Delete one checkpoint `here`, at the `second` place, or on its `host`.

    Raises
    ------
    UsageError: it is not there. WavedeckError, OSError, HostUnreachable: it cannot be deleted.
    """
    located, policy, _ = await asyncio.to_thread(_known, home, run)
    found, disk = _find(located, name, place), disk or RealDisk()
    line = found.line
    mirror = await asyncio.to_thread(read_mirror, run.path)
    if place == SECOND:
        await place_for(home, run, policy, hosts).remove(run, [f"checkpoints/{line.name}"])
        await asyncio.to_thread(record, disk, run, [copy_line(line, REMOVED, ASKED, SECOND)])
        return line
    if place == HERE and mirror is not None:
        await asyncio.to_thread(record, disk, run, [copy_line(line, REMOVED, ASKED, HERE)])
        await asyncio.to_thread((run.checkpoints / line.name).unlink, missing_ok=True)
        return line
    host = hosts(LOCAL if mirror is None else mirror.host)
    why = await _unlink(host, run, line)
    if why:
        what = "is another file by now" if why in ("wrong", "changed") else WORDS.get(why, WORDS["unreadable"])
        raise UsageError(f"{plain(line.name, 120)} on {host.name}: it {what}: nothing was deleted.")
    if mirror is not None:  # else its list says for ever that a trainer's file is there
        await asyncio.to_thread(record, disk, run, [copy_line(line, NOTE, f"{line.name} was deleted there: {ASKED}")])
    return line


async def _unlink(host: Host, run: RunDir, line: CheckpointLine) -> str:
    """Delete a file where its trainer wrote it, if it holds what its line says; the word why not, else an empty one."""
    if isinstance(host, SshHost):
        await host.ready()
        place = await asyncio.to_thread(place_of, run, line, f"{host.home}/runs/{run.id}")
        return await unlink_there(host, place, line)
    place = await asyncio.to_thread(place_of, run, line, str(run.path))
    done = await asyncio.to_thread(backup_files.unlink, unlink_request(place, line))
    return str(done.get("why") or "")


def _known(home: Home, run: RunDir) -> tuple[list[Located], BackupPolicy, Headline | None]:
    manifest, policy = read_manifest(run.manifest), read_policy(home, run)
    located = locate(run, manifest, read_mirror(run.path), read_copies(run), policy)
    return located, policy, manifest.headline


def _find(located: list[Located], name: str, place: str) -> Located:
    found = next((one for one in reversed(located) if one.line.name == name), None)
    if found is None:
        raise UsageError(f"there is no checkpoint {plain(name, 120)!r}: `wavedeck ckpt RUN ls` lists them.")
    if not _is_at(found, place):
        raise UsageError(f"{plain(name, 120)} is not at that place: `wavedeck ckpt RUN ls` tells where it is.")
    return found


def _is_at(one: Located, place: str) -> bool:
    return {HOST: one.origin, HERE: one.here is not None, SECOND: one.second is not None}[place]
