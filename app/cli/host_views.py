"""What `hosts ls` knows: records of processes that watch a host now, else a short visit of its own."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ...engine.errors import WavedeckError
from ...engine.hosts import HostView, LinkRecord, LinkState
from ...engine.rundir import Home

if TYPE_CHECKING:
    from ...remote.hosts_file import HostEntry
    from ...remote.link import Link

VISIT_S = 5.0
TICK_S = 0.02


def host_views(home: Home, *, offline: bool) -> list[HostView]:
    """Every host of hosts.toml, in its order. Nobody is asked for a passphrase or about a key."""
    from ...remote.hosts_file import load_hosts

    entries = load_hosts(home)
    return asyncio.run(_views(home, list(entries.values()), offline)) if entries else []


async def _views(home: Home, entries: list[HostEntry], offline: bool) -> list[HostView]:
    from ...remote.link_news import is_fresh, link_record

    views = {}
    strangers = []
    targets = await asyncio.gather(*(asyncio.to_thread(target_words, entry) for entry in entries))
    for entry, target in zip(entries, targets, strict=True):
        record = link_record(home, entry.name)
        if record is not None and is_fresh(record):
            views[entry.name] = _recorded(entry, target, record)
        elif offline:
            views[entry.name] = HostView(entry.name, target, price_per_hour=entry.price_per_hour, ends=entry.ends)
        else:
            strangers.append(entry.name)
    if strangers:
        views |= await _visit(home, strangers)
    return [views[entry.name] for entry in entries]


def target_words(entry: HostEntry) -> str:
    """`root@203.0.113.20:10648 via gate`; the words themselves when ssh does not understand them."""
    from ...remote.ssh.target import resolve

    try:
        return resolve(entry.ssh).label
    except WavedeckError:
        return " ".join(entry.ssh)


def _recorded(entry: HostEntry, target: str, record: LinkRecord) -> HostView:
    return HostView(
        entry.name,
        target,
        record.link,
        reason=record.reason,
        since=record.since,
        retry_at=record.retry_at,
        latency_ms=record.latency_ms,
        skew_s=record.skew_s,
        heard=record.heard,
        price_per_hour=entry.price_per_hour,
        ends=entry.ends,
    )


async def _visit(home: Home, names: list[str]) -> dict[str, HostView]:
    """Connect to hosts that nobody watches, all at once, for as long as it takes to say whether they answer."""
    from ...remote.fleet import Fleet

    fleet = Fleet(home, mirrors=False)
    try:
        links = [fleet.watch(name) for name in names]
        await asyncio.gather(*(_settled(link) for link in links))
        return {view.name: view for view in fleet.views()}
    finally:
        await fleet.close()


async def _settled(link: Link) -> None:
    deadline = time.monotonic() + VISIT_S
    while time.monotonic() < deadline:
        if link.picture.latency_ms is not None or (link.failure is not None and link.state is not LinkState.CONNECTING):
            return
        await asyncio.sleep(TICK_S)
