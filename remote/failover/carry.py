"""The child of a moved run, from its directory to its first attempt. Every step can be done again after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ...engine.backup.copies import HERE, VERIFIED, append_copy, copy_line, read_copies
from ...engine.backup.policy import own_policy
from ...engine.checkpoints import MANIFEST_NAME
from ...engine.errors import RunDirError, UsageError, WavedeckError
from ...engine.hosts import LOCAL, MIRROR_FILE, MirrorRecord
from ...engine.lineage import Lease, Moved, next_lease, read_lease
from ...engine.manifest import Attempt, encode
from ...engine.planning import RESUME_FROM
from ...engine.rundir import Home, RunDir
from .. import operations, run_folders
from ..host import Host, HostLost
from ..operations import LaunchResult
from ..provision.there import Progress, Report
from .choose import Chosen
from .deliver import deliver, parcels
from .lease import read_there
from .prepare import Ancestor, Ready, copy_project

MANIFEST = f"checkpoints/{MANIFEST_NAME}"
_encoder = msgspec.json.Encoder()


@dataclass(slots=True)
class Carrying:
    """What is carried over, once it is claimed.

    `chosen` is None for a run that begins anew. `environ` is this process's environment, or what stands for it.
    """

    home: Home
    target: Host
    old: Ancestor
    moved: Moved
    chosen: Chosen | None
    ready: Ready
    report: Report
    environ: Mapping[str, str] | None = None
    notices: list[str] = field(default_factory=list)

    @property
    def child(self) -> RunDir:
        """The new run."""
        return self.home.run(self.moved.child)

    async def record(self) -> None:
        """Put the child on record here, whole, before anything of it exists elsewhere.

        Without an attempt it is shown as queued until it is started.
        """
        self._tell("create", f"creating {self.child.id}")
        if self.child.path.exists():
            return
        files = self._files()
        if self.target.name != LOCAL:
            files[MIRROR_FILE] = msgspec.json.encode(MirrorRecord(host=self.target.name))
        await asyncio.to_thread(run_folders.create, self.home, self.child, files)

    async def create(self) -> None:
        """Its directory on its host, and its code where that is not there yet."""
        if self.target.name == LOCAL:
            await asyncio.to_thread(copy_project, self.ready, self.child)
            return
        self._tell("create", f"creating {self.child.id} on {self.target.name}")
        here = [self.child.path / name for name in ("manifest.json", "lease.json", "policy.json")]
        files = {path.name: await asyncio.to_thread(path.read_bytes) for path in here if path.exists()}
        try:
            await self.target.create_run(self.child.id, files)
        except UsageError:  # a try before has made it
            if await read_there(self.target, self.child, "manifest.json") is None:
                raise

    async def deliver(self) -> None:
        """The checkpoint's files, and then the lines that vouch for them: nobody reads a file without its line."""
        if self.chosen is None:
            return
        self._tell("deliver", "sending the checkpoint")
        foreign = self.chosen.lines[0].path is not None
        base = self.ready.cwd if foreign else f"{dir_there(self.target, self.child)}/checkpoints"
        scratch = self.home.cache / "moving" / self.child.id
        await deliver(self.target, base, parcels(self.chosen), scratch, self.report, aside=foreign)
        self._tell("deliver", "the checkpoint is there")
        lines = b"".join(_encoder.encode(line) + b"\n" for line in self.chosen.lines)
        await self.target.place(self.child.id, MANIFEST, lines, exclusive=True)
        if self.target.name != LOCAL:
            await asyncio.to_thread(_keep_here, self.child, self.chosen)

    async def start(self) -> LaunchResult | None:
        """Its first attempt; None when somebody started that already."""
        self._tell("start", f"starting it on {self.target.name}")
        attempt = self._attempt()
        name, data = "attempts/0001.json", encode(attempt)
        if self.target.name != LOCAL:  # here first: without it nothing of the child can ever have been started
            await asyncio.to_thread(run_folders.place, self.child, name, data, True)
            data = await asyncio.to_thread(self.child.attempt(1).read_bytes)
        await self.target.place(self.child.id, name, data, exclusive=True)
        self._tell("start", f"{self.child.id} can start")
        if await has_started(self.target, self.child):
            return None
        try:
            return await operations.start(self.target, self.child, attempt, self.environ)
        except HostLost:
            raise
        except WavedeckError:
            if (await self.target.living(self.child.id)).supervisors:  # a try before this one had got as far
                return None
            raise

    def _files(self) -> dict[str, bytes]:
        """What the child's directory begins with."""
        old, ready, chosen = self.old, self.ready, self.chosen
        manifest = msgspec.structs.replace(
            old.manifest,
            id=self.child.id,
            created=self.moved.t,
            command=list(ready.argv) if old.manifest.recipe is not None else old.manifest.command,
            host=self.target.name,
            cwd=ready.cwd,
            parent=old.run.id,
            parent_step=chosen.step if chosen else 0,
            price_per_hour=ready.price_per_hour,
            gpus=list(ready.gpus or ()),
        )
        lease = _child_lease(old.run, self.child.id)
        return {"manifest.json": encode(manifest), "lease.json": encode(lease), **self._policy()}

    def _policy(self) -> dict[str, bytes]:
        """The run's own policy; the host that has taken over is nobody's reserve any more."""
        try:
            policy = own_policy(self.old.run)
        except (RunDirError, UsageError):
            return {}
        if policy is None:
            return {}
        if policy.failover == self.target.name:
            policy = msgspec.structs.replace(policy, failover=None)
            words = f"Nobody takes over from {self.target.name}: `wavedeck backup {self.child.id} --set failover=HOST` "
            if f"{words}names the next." not in self.notices:
                self.notices.append(f"{words}names the next.")
        return {"policy.json": encode(policy)}

    def _attempt(self) -> Attempt:
        last, env = self.old.last, dict(self.ready.env)
        newest = self.chosen.lines[-1].path if self.chosen is not None else None
        if newest is not None:
            env[RESUME_FROM] = f"{self.ready.cwd}/{newest}"
        return Attempt(
            attempt=1,
            requested=time.time(),
            argv=list(self.ready.argv),
            cwd=self.ready.cwd,
            env=env,
            grace_s=last.grace_s,
            parse_console=last.parse_console,
            patterns=last.patterns,
            resume=self.chosen is not None,
            restarts=last.restarts,
            backoff_s=last.backoff_s,
            columns=last.columns,
            rows=last.rows,
        )

    def _tell(self, phase: str, text: str) -> None:
        self.report(Progress(phase, text))


async def has_started(host: Host, child: RunDir) -> bool:
    """Whether the first attempt of a child was begun, whatever became of it since."""
    if not child.path.exists():
        return False
    for name in ("supervisor.json", "exit.json"):
        if await read_there(host, child, name) is not None:
            return True
    return bool((await host.living(child.id)).supervisors)


def dir_there(host: Host, run: RunDir) -> str:
    """A run's directory on a host."""
    from ..ssh_host import SshHost

    return host.run_dir(run.id) if isinstance(host, SshHost) else str(run.path)


def _child_lease(run: RunDir, child: str) -> Lease:
    """The child's lease; the old run's own may say already that it was fenced."""
    lease = None
    with contextlib.suppress(RunDirError):
        lease = read_lease(run)
    if lease is not None and lease.holder == child:
        return Lease(lease.lineage, lease.generation, child)
    return next_lease(lease, run.id, child)


def _keep_here(child: RunDir, chosen: Chosen) -> None:
    """The child's copy has its first checkpoint from the beginning, and needs not fetch it back."""
    for line, path in zip(chosen.lines, chosen.files, strict=True):
        if read_copies(child).holds(line) is not None:
            continue
        target: Path = child.checkpoints / line.name
        try:
            target.unlink(missing_ok=True)
            os.link(path, target)
            append_copy(child, copy_line(line, HERE, VERIFIED, time.time(), "handed on by the run before"))
        except OSError:
            continue  # another file system, or a full disk: the backup brings it
