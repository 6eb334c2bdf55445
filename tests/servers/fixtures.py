"""Fixtures of the servers; `tests/remote/conftest.py` imports them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .namespaces import network
from .proxy import Proxy
from .sshd import CONFIG_VARIABLE, SSHD, Sshd

__all__ = ["jump", "network", "proxy", "sshd"]


@pytest.fixture
def sshd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """A machine called `gpu1` whose host key is known; `WAVEDECK_SSH_CONFIG` names what reaches it."""
    _need_sshd()
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with Sshd() as server:
        monkeypatch.setenv(CONFIG_VARIABLE, str(server.ssh_config))
        yield server


@pytest.fixture
def jump() -> Iterator[Sshd]:
    """A second machine, called `jump`, to go through; see `write_ssh_config`."""
    _need_sshd()
    with Sshd("jump") as server:
        yield server


@pytest.fixture
def proxy(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A breakable line to `sshd`; the configuration leads through it from now on."""
    with Proxy((sshd.address, sshd.port)) as line:
        sshd.ssh_config.write_text("\n".join(sshd.client_config(port=line.port)) + "\n")
        yield line


def _need_sshd() -> None:
    if SSHD is None:
        pytest.skip("no sshd here: install openssh-server")
