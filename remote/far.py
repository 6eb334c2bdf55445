"""What this process knows about runs of other hosts: from its own links, or from what another process wrote down."""

from __future__ import annotations

from ..engine.catalog import Far
from ..engine.hosts import LOCAL, LinkState
from ..engine.manifest import SupervisorRecord
from ..engine.rundir import Home, RunDir
from .fleet import Fleet, host_of
from .link_news import is_fresh, link_record
from .liveness import alive

TELLING = (LinkState.CONNECTED, LinkState.SLOW)
"""Only these states of a link tell anything about the processes there."""


def far_sign(home: Home, fleet: Fleet | None = None) -> Far:
    """Asks this process's own links first, then what the process that mirrors a host last wrote down."""

    def sign(host: str, run_id: str, attempt: int) -> tuple[bool | None, float | None]:
        link = fleet.links.get(host) if fleet is not None else None
        if link is not None and link.mirroring:
            known = link.mirror.sign(run_id) if link.state in TELLING else None
            return _lives(known, attempt), link.picture.heard
        record = link_record(home, host)
        if record is None:
            return None, link.picture.heard if link is not None else None
        known = record.signs.get(run_id) if record.link in TELLING and is_fresh(record) else None
        return _lives(known, attempt), record.heard

    return sign


def _lives(known: tuple[int, bool] | None, attempt: int) -> bool | None:
    """Whether an attempt lives, by the last word about the run.

    A word about an attempt before tells nothing about this one, whose supervisor is just starting: it is given the time
    that every start has.
    """
    if known is None:
        return None
    spoken_of, lives = known
    return True if spoken_of < attempt else lives


class Probing:
    """`operations.wait_ended`'s probe for runs of any host."""

    def __init__(self, home: Home, fleet: Fleet | None = None) -> None:
        self._home = home
        self._sign = far_sign(home, fleet)

    def __call__(self, run_id: str, record: SupervisorRecord) -> bool | None:
        """Whether the run's supervisor lives; None while its host does not answer."""
        host = host_of(RunDir(self._home.runs / run_id))
        return alive(run_id, record) if host == LOCAL else self._sign(host, run_id, record.attempt)[0]
