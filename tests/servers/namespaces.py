"""Hosts with a network of their own: namespaces joined by virtual cables, so that a cable can be pulled.

Needs to be root with the right to make namespaces; `network` is skipped with a reason elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from .sshd import SSHD, Sshd


class Network:
    """This machine and hosts on cables to it. A context manager; leaving removes everything.

    `host(name)` is an `Sshd` at the other end of a cable. `host(name, behind=other)` hangs on a cable to `other`
    instead: there is no way to it from here but through `other`.
    """

    def __init__(self) -> None:
        self._mark = secrets.token_hex(3)
        self._number = secrets.randbelow(200) + 20
        self._subnets = 0
        self._namespaces: dict[str, str] = {}
        self._cables: dict[str, tuple[str | None, str]] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        for namespace in self._namespaces.values():
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, timeout=10)
        for where, cable in self._cables.values():
            if where is None:
                subprocess.run(["ip", "link", "delete", cable], capture_output=True, timeout=10)

    def host(self, name: str, behind: str | None = None, **options: object) -> Sshd:
        """A new host whose sshd listens at its end of the cable; `options` are those of `Sshd`."""
        namespace = f"wd{self._mark}-{name}"
        near_namespace = self._namespaces[behind] if behind else None
        ip("netns", "add", namespace)
        self._namespaces[name] = namespace
        self._subnets += 1
        subnet = f"10.{self._number}.{self._subnets}"
        near, far = f"w{self._mark}{self._subnets}n", f"w{self._mark}{self._subnets}f"
        inside = ("-n", near_namespace) if near_namespace else ()
        ip(*inside, "link", "add", "name", near, "type", "veth", "peer", "name", far)
        ip(*inside, "link", "set", far, "netns", namespace)
        ip(*inside, "addr", "add", f"{subnet}.1/24", "dev", near)
        ip(*inside, "link", "set", near, "up")
        ip("-n", namespace, "link", "set", "lo", "up")
        ip("-n", namespace, "addr", "add", f"{subnet}.2/24", "dev", far)
        ip("-n", namespace, "link", "set", far, "up")
        self._cables[name] = (near_namespace, near)
        server = Sshd(name, address=f"{subnet}.2", within=("ip", "netns", "exec", namespace), **options)  # type: ignore[arg-type]
        return self._stack.enter_context(server)

    def cut(self, name: str) -> None:
        """Pull the cable: packets are lost, nothing is told to either end."""
        self._cable(name, "down")

    def heal(self, name: str) -> None:
        """Plug it in again."""
        self._cable(name, "up")

    def drop(self, name: str) -> None:
        """Let the host swallow every packet that comes in, as a firewall does; the cable itself stays up."""
        rules = "table inet wd {\nchain in {\ntype filter hook input priority 0; policy drop;\n}\n}\n"
        subprocess.run(
            ["ip", "netns", "exec", self._namespaces[name], "nft", "-f", "-"],
            input=rules.encode(),
            check=True,
            timeout=10,
        )

    def undrop(self, name: str) -> None:
        """Take that back."""
        words = ["ip", "netns", "exec", self._namespaces[name], "nft", "delete", "table", "inet", "wd"]
        subprocess.run(words, check=True, timeout=10)

    def vanish(self, name: str, server: Sshd) -> None:
        """The provider takes the host away: its cable first, then everything that ran on it."""
        self.cut(name)
        server.stop()
        server.reap()

    def _cable(self, name: str, state: str) -> None:
        namespace, cable = self._cables[name]
        ip(*(("-n", namespace) if namespace else ()), "link", "set", cable, state)


@pytest.fixture
def network() -> Iterator[Network]:
    """A `Network`, where this machine allows it."""
    if reason := why_not():
        pytest.skip(reason)
    with Network() as net:
        yield net


def why_not() -> str | None:
    """Why there can be no namespaces here; None when there can."""
    if SSHD is None:
        return "no sshd here: install openssh-server"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or shutil.which("nft") is None:
        return "no ip or nft here: install iproute2 and nftables"
    probe = f"wdprobe-{secrets.token_hex(3)}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True, timeout=10).returncode != 0:
        return "this machine allows no network namespaces"
    try:
        cable = ["ip", "-n", probe, "link", "add", "name", "wdp0", "type", "veth", "peer", "name", "wdp1"]
        made = subprocess.run(cable, capture_output=True, timeout=10).returncode == 0
    finally:
        subprocess.run(["ip", "netns", "delete", probe], capture_output=True, timeout=10)
    return None if made else "this machine allows no virtual cables"


def ip(*words: str) -> None:
    """Run `ip`; what it says against it is the exception's text."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=10)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
