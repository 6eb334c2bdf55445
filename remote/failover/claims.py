"""Who moves a run, said on the host it is to go on on, so that two machines never start it twice.

`moved.json` decides between processes of one home; this record decides between homes: a deck on a laptop and a
babysitter elsewhere that watch the same hosts both reach the target. It is named after the run that is moved, and a run
moves once. Two homes whose policies name different targets for one run still cannot see each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import socket
from typing import Any

import msgspec

from ...engine.errors import RunDirError, UsageError, WavedeckError
from ...engine.files import create_exclusive
from ...engine.format import plain
from ...engine.lineage import Moved
from ...engine.names import RUN_ID
from ...engine.rundir import Home, RunDir
from ..host import Host
from ..payload import place_claim
from ..provision.there import ask

SCRIPT = "place_claim.py"
HOME_ID = "home.id"
_ID = re.compile(r"[0-9a-f]{16}")


class Claim(msgspec.Struct, frozen=True):
    """`claims/<run>.json` in the home of the host that a run goes on on."""

    child: str
    home: str
    """The random id of the home that moves it."""
    machine: str
    """The name of that home's machine, for people."""
    t: float


class ClaimedElsewhere(UsageError):
    """Another machine moves the run. `child` is what it goes on as, `machine` who it is."""

    def __init__(self, run: str, host: str, claim: Claim) -> None:
        self.child = claim.child
        self.machine = plain(claim.machine, 80)
        super().__init__(
            f"{run} was claimed on {host} by another machine ({self.machine}) and goes on as {claim.child}: it is not "
            f"moved twice. If that machine is gone for good, delete claims/{run}.json in Wavedeck's home on {host}."
        )


def home_id(home: Home) -> str:
    """The random id of a home, made when it is asked for first.

    Raises
    ------
    RunDirError: it is damaged. OSError: it cannot be written.
    """
    path = home.root / HOME_ID
    if not path.exists():
        create_exclusive(path, f"{secrets.token_hex(8)}\n".encode())
    text = path.read_text(errors="replace").strip()
    if _ID.fullmatch(text) is None:
        raise RunDirError(f"{path} is damaged: delete it, and a new one is made.")
    return text


async def claim_there(home: Home, host: Host, run: RunDir, moved: Moved) -> None:
    """Say on the target that `moved.child` goes on with `run`. Finds its own claim when it is called again.

    Raises
    ------
    ClaimedElsewhere: another home has said so before. WavedeckError, HostUnreachable: it cannot be said there.
    """
    mine = await asyncio.to_thread(_mine, home, moved)
    standing = await _ask(host, "claim", run, mine)
    try:
        claim = msgspec.convert(standing, Claim)
    except msgspec.ValidationError:
        claim = None
    if claim is None or RUN_ID.fullmatch(claim.child) is None:
        raise WavedeckError(
            f"the claim of {run.id} on {host.name} cannot be understood: look who moves that run, and delete "
            f"claims/{run.id}.json in Wavedeck's home on {host.name}."
        )
    if (claim.home, claim.child) != (mine.home, mine.child):
        raise ClaimedElsewhere(run.id, host.name, claim)


async def release_there(home: Home, host: Host, run: RunDir, moved: Moved) -> None:
    """Take our claim back, as far as the host answers; one that stays there binds others only."""
    with contextlib.suppress(WavedeckError, OSError):
        await _ask(host, "release", run, await asyncio.to_thread(_mine, home, moved))


def _mine(home: Home, moved: Moved) -> Claim:
    return Claim(moved.child, home_id(home), socket.gethostname()[:80], moved.t)


async def _ask(host: Host, op: str, run: RunDir, mine: Claim) -> Any:
    """What stands there. A host is asked with a helper, this machine directly."""
    from ..local import LocalHost
    from ..ssh_host import SshHost

    record = msgspec.to_builtins(mine)
    if isinstance(host, LocalHost):
        doing = {"claim": place_claim.claim, "release": place_claim.release}[op]
        try:
            return await asyncio.to_thread(doing, str(host.home.root), run.id, record)
        except OSError as error:
            raise WavedeckError(f"{host.home.root} cannot be written: {error.strerror or error}.") from error
    assert isinstance(host, SshHost)
    answer = await ask(host, SCRIPT, {"op": op, "run": run.id, "claim": record})
    return answer.get("claim")
