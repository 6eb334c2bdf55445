"""The servers themselves: what every other test stands on."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import psutil
import pytest

from wavedeck.tests.servers.proxy import Proxy
from wavedeck.tests.servers.sshd import Sshd, write_ssh_config


def ssh(server: Sshd, command: str, *options: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
    """Run a command there with OpenSSH's own client."""
    words = ["ssh", "-F", str(server.ssh_config), "-o", "BatchMode=yes", *options, server.name, command]
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)


def test_a_machine_has_a_home_and_a_tmux_of_its_own(sshd: Sshd) -> None:
    shown = ssh(sshd, 'echo "$HOME $WAVEDECK_HOME $WAVEDECK_TMUX_SOCKET"; tmux new-session -d -s x sleep 600; tmux ls')
    assert shown.stdout.splitlines()[0] == f"{sshd.account} {sshd.remote_home} {sshd.tmux_socket}"
    assert shown.stdout.splitlines()[1].startswith("x: ")
    assert any(process.name().startswith("tmux") for process in sshd.processes())


def test_nothing_is_left_when_it_ends(wait_for: Callable[..., object]) -> None:
    with Sshd() as server:
        ssh(server, "setsid sleep 600 </dev/null >/dev/null 2>&1 & tmux new-session -d sleep 600")
        left = server.processes()
        assert len(left) >= 3
        assert psutil.pid_exists(left[0].pid)
    wait_for(lambda: not any(process.is_running() for process in left))
    assert not server.root.exists()


def test_it_stops_and_starts_on_the_same_port(sshd: Sshd) -> None:
    assert ssh(sshd, "true").returncode == 0
    sshd.stop()
    assert "refused" in ssh(sshd, "true").stderr
    sshd.start()
    assert ssh(sshd, "true").returncode == 0


def test_connections_are_killed_and_the_listener_lives(sshd: Sshd, wait_for: Callable[..., object]) -> None:
    with subprocess.Popen(
        ["ssh", "-F", sshd.ssh_config, "gpu1", "sleep 600"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as client:
        wait_for(lambda: sshd.connections() and "Starting session" in sshd.log())
        assert sshd.kill_connections() >= 1
        assert client.wait(10) == 255
    assert ssh(sshd, "true").returncode == 0


def test_host_key_and_user_key_can_change(sshd: Sshd) -> None:
    before = sshd.fingerprint
    sshd.new_host_key()
    assert sshd.fingerprint != before
    assert "IDENTIFICATION HAS CHANGED" in ssh(sshd, "true").stderr
    sshd.known_hosts.write_text(sshd.known_line())
    sshd.withdraw_key()
    assert "Permission denied" in ssh(sshd, "true").stderr
    sshd.restore_key()
    assert ssh(sshd, "true").returncode == 0


def test_a_jump_leads_to_the_machine_behind(sshd: Sshd, jump: Sshd) -> None:
    write_ssh_config(sshd.ssh_config, sshd, jump, jumps={"gpu1": "jump"})
    assert ssh(sshd, "echo there").stdout == "there\n"
    assert "direct-tcpip" in jump.log()


def test_the_proxy_delays_stalls_and_cuts(sshd: Sshd, proxy: Proxy, wait_for: Callable[..., object]) -> None:
    proxy.delay_ms = 100
    began = time.monotonic()
    assert ssh(sshd, "true").returncode == 0
    assert time.monotonic() - began > 0.6  # six crossings at the very least
    proxy.delay_ms = 0
    with subprocess.Popen(
        ["ssh", "-F", sshd.ssh_config, "gpu1", "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as client:
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write(b"before\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"before\n"
        proxy.stall()
        client.stdin.write(b"swallowed\n")
        client.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            client.wait(0.3)
        proxy.resume()
        proxy.cut()
        assert client.wait(10) == 255
        wait_for(lambda: proxy.connections == 0)
    proxy.refuse()
    assert "refused" in ssh(sshd, "true").stderr
    proxy.accept()
    assert ssh(sshd, "true").returncode == 0


def test_the_proxy_bounds_the_rate(sshd: Sshd, proxy: Proxy) -> None:
    proxy.rate = 200_000
    began = time.monotonic()
    assert len(ssh(sshd, "head -c 200000 /dev/zero | tr '\\0' x").stdout) == 200_000
    assert time.monotonic() - began > 0.8
