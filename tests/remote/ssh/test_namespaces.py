"""Hosts behind cables: a pulled one tells nobody anything, and a jump host is the only way to what is behind it."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

import pytest

from wavedeck.remote.host import HostLost, LinkDown
from wavedeck.remote.ssh.connection import Pulse
from wavedeck.tests.servers.namespaces import Network
from wavedeck.tests.servers.sshd import CONFIG_VARIABLE, Sshd, write_ssh_config

from .test_connection import QUICK, connected


@pytest.fixture
def hosts(network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Sshd, Sshd]:
    """`jump`, on a cable to this machine, and `gpu1`, on a cable to `jump` only."""
    jump, gpu1 = network.host("jump"), network.host("gpu1", behind="jump")
    config = write_ssh_config(tmp_path / "ssh_config", jump, gpu1, jumps={"gpu1": "jump"})
    monkeypatch.setenv(CONFIG_VARIABLE, str(config))
    return jump, gpu1


async def test_the_jump_host_is_the_only_way(hosts: tuple[Sshd, Sshd], home: Path) -> None:
    _, server = hosts
    ping = subprocess.run(["ping", "-c1", "-W1", server.address], capture_output=True) if _has_ping() else None
    assert ping is None or ping.returncode != 0
    async with connected(home) as gpu1:
        shown = await gpu1.run("echo $WAVEDECK_HOME; ip -o addr", 10)
        assert str(server.remote_home) in shown.stdout.decode() and server.address in shown.stdout.decode()


@pytest.mark.parametrize("cable", ["jump", "gpu1"])
async def test_a_pulled_cable_is_noticed(hosts: tuple[Sshd, Sshd], network: Network, home: Path, cable: str) -> None:
    async with connected(home) as gpu1:
        running = asyncio.create_task(gpu1.run("sleep 60", 30))
        process = await gpu1.open("cat")
        process.stdin.write(b"there\n")
        assert await process.stdout.readline() == b"there\n"
        network.cut(cable)
        began = time.monotonic()
        with pytest.raises(HostLost):
            await running
        assert time.monotonic() - began < QUICK.silence_s + QUICK.keepalive_s + 1
    with pytest.raises(LinkDown):
        async with connected(home, pulse=Pulse(connect_s=0.5)):
            pass
    network.heal(cable)
    async with connected(home) as gpu1:
        assert (await gpu1.run("true", 10)).status == 0


async def test_a_host_that_vanishes(hosts: tuple[Sshd, Sshd], network: Network, home: Path) -> None:
    async with connected(home) as gpu1:
        await gpu1.run("setsid sleep 600 </dev/null >/dev/null 2>&1 &", 10)
        assert hosts[1].runs("sleep 600")
        network.vanish("gpu1", hosts[1])
        await asyncio.wait_for(gpu1.closed.wait(), 10)
        assert not hosts[1].processes()


async def test_a_firewall_that_swallows(hosts: tuple[Sshd, Sshd], network: Network, home: Path) -> None:
    network.drop("jump")
    with pytest.raises(LinkDown, match=r"does not answer within 0\.5 s"):
        async with connected(home, pulse=Pulse(connect_s=0.5)):
            pass
    network.undrop("jump")
    async with connected(home):
        pass


def _has_ping() -> bool:
    return subprocess.run(["which", "ping"], capture_output=True).returncode == 0
