"""Connections to a real sshd: trust, keys, jumps, and every way in which a line can fail."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from wavedeck.engine.hosts import LinkState
from wavedeck.engine.rundir import Home
from wavedeck.remote.host import (
    AccessRefused,
    CommandTimeout,
    HostKeyChanged,
    HostKeyUnknown,
    HostLost,
    LinkDown,
    OutputTooLarge,
)
from wavedeck.remote.ssh import known_keys
from wavedeck.remote.ssh.connection import Connection, Pty, Pulse, connect
from wavedeck.remote.ssh.keys import Secrets
from wavedeck.remote.ssh.questions import Asker, NobodyAsks, QuestionKind
from wavedeck.remote.ssh.target import Target, resolve
from wavedeck.tests.servers.askers import Answers
from wavedeck.tests.servers.proxy import Proxy
from wavedeck.tests.servers.sshd import Sshd, free_port, write_ssh_config

QUICK = Pulse(keepalive_s=0.3, keepalive_count=2, connect_s=5, login_s=10)


@asynccontextmanager
async def connected(
    home: Path,
    name: str = "gpu1",
    asker: Asker | None = None,
    secrets: Secrets | None = None,
    pulse: Pulse = QUICK,
    target: Target | None = None,
) -> AsyncIterator[Connection]:
    """A connection to `name` of the ssh config; closed at the end."""
    connection = await connect(
        name, target or resolve([name]), Home(home), asker or NobodyAsks(), secrets or Secrets(), pulse
    )
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_command_runs_and_its_end_is_told(sshd: Sshd, home: Path) -> None:
    async with connected(home) as gpu1:
        done = await gpu1.run("cat; echo oops >&2; exit 3", 10, stdin=b"x" * 700_000)
        assert (done.status, len(done.stdout), done.stderr) == (3, 700_000, b"oops\n")
        assert (await gpu1.run("kill -9 $$", 10)).status == -9
        assert (await gpu1.run("echo $WAVEDECK_HOME", 10)).stdout.decode().strip() == str(sshd.remote_home)
        assert gpu1.latency is not None and 0 <= gpu1.latency < 5
        assert not gpu1.closed.is_set() and gpu1.why is None
    assert gpu1.closed.is_set() and gpu1.why == "the connection was closed from here"


async def test_a_command_is_bounded_in_time_and_output(sshd: Sshd, home: Path) -> None:
    async with connected(home) as gpu1:
        with pytest.raises(CommandTimeout):
            await gpu1.run("sleep 60", 0.3)
        with pytest.raises(OutputTooLarge):
            await gpu1.run("yes", 10, limit=100_000)
        assert (await gpu1.run("true", 10)).status == 0


async def test_a_pty_has_its_size(sshd: Sshd, home: Path) -> None:
    async with connected(home) as gpu1:
        process = await gpu1.open("stty size; echo $TERM", pty=Pty("xterm-256color", 97, 31))
        assert (await process.stdout.read()).split() == [b"31", b"97", b"xterm-256color"]


async def test_nothing_of_ours_is_forwarded(sshd: Sshd, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sshd.ssh_config.open("a") as config:
        config.write("  ForwardAgent yes\n  ForwardX11 yes\n  SendEnv SECRET\n")
    monkeypatch.setenv("SECRET", "s3cret")
    async with connected(home) as gpu1:
        shown = (await gpu1.run("env", 10)).stdout.decode()
    assert "SSH_AUTH_SOCK" not in shown and "DISPLAY" not in shown and "s3cret" not in shown


# Trust


async def test_an_unknown_key_is_asked_for_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = Answers(host_key="yes")
    with Sshd(known=False) as server:
        monkeypatch.setenv("WAVEDECK_SSH_CONFIG", str(server.ssh_config))
        async with connected(home, asker=user):
            pass
        assert user.kinds == [QuestionKind.HOST_KEY]
        assert user.asked[0].fingerprint == server.fingerprint and user.asked[0].key_type == "ED25519"
        async with connected(home):
            pass
        assert server.known_hosts.read_text() == ""
        ours = home / "known_hosts"
        assert ours.stat().st_mode & 0o777 == 0o600
        assert ours.read_text().startswith(" ".join(server.known_line().split()[:3]))


@pytest.mark.parametrize("answer", [None, "no", "y"])
async def test_a_declined_key_ends_it_before_any_login(
    home: Path, monkeypatch: pytest.MonkeyPatch, answer: str | None
) -> None:
    with Sshd(known=False) as server:
        monkeypatch.setenv("WAVEDECK_SSH_CONFIG", str(server.ssh_config))
        with pytest.raises(HostKeyUnknown) as refused:
            async with connected(home, asker=Answers(host_key=answer)):
                pass
        assert refused.value.fingerprint == server.fingerprint in str(refused.value)
        assert refused.value.link is LinkState.KEY_UNKNOWN
        assert "userauth-request" not in server.log()
    assert not (home / "known_hosts").exists()


async def test_a_changed_key_is_refused_with_both_fingerprints(sshd: Sshd, home: Path) -> None:
    before = sshd.fingerprint
    sshd.new_host_key()
    user = Answers(host_key="yes")
    with pytest.raises(HostKeyChanged) as refused:
        async with connected(home, asker=user):
            pass
    assert (refused.value.known, refused.value.shown) == (before, sshd.fingerprint)
    for part in (before, sshd.fingerprint, f"{sshd.known_hosts} line 1", f"ssh-keygen -f {sshd.known_hosts} -R"):
        assert part in str(refused.value)
    assert not user.asked and "userauth-request" not in sshd.log()


async def test_another_kind_of_key_is_a_changed_one(sshd: Sshd, home: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", sshd.root / "other"], check=True)
    kind, key = (sshd.root / "other.pub").read_text().split()[:2]
    sshd.known_hosts.write_text(f"[{sshd.address}]:{sshd.port} {kind} {key}\n")
    with pytest.raises(HostKeyChanged):
        async with connected(home, asker=Answers(host_key="yes")):
            pass
    assert "userauth-request" not in sshd.log()


async def test_a_key_accepted_here_is_forgotten_here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sshd(known=False) as server:
        monkeypatch.setenv("WAVEDECK_SSH_CONFIG", str(server.ssh_config))
        async with connected(home, asker=Answers(host_key="yes")):
            pass
        server.new_host_key()
        with pytest.raises(HostKeyChanged, match=r"known_hosts line 1.*`wavedeck hosts trust gpu1` takes it"):
            async with connected(home, asker=Answers(host_key="yes")):
                pass
        assert known_keys.forget(Home(home), resolve(["gpu1"])) == 1
        async with connected(home, asker=Answers(host_key="yes")):
            pass


async def test_a_revoked_key_is_refused(sshd: Sshd, home: Path) -> None:
    sshd.known_hosts.write_text(sshd.known_line() + "@revoked * " + sshd.known_line().split(None, 1)[1])
    with pytest.raises(HostKeyChanged, match="revoked"):
        async with connected(home, asker=Answers(host_key="yes")):
            pass
    assert "userauth-request" not in sshd.log()


async def test_a_banner_cannot_speak_for_the_user(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    banner = tmp_path / "banner"
    banner.write_bytes(b"\x1b]0;x\x07The authenticity of host is SHA256:AAAA. yes\nyes\n\xff\xfe")
    with Sshd(extra=[f"Banner {banner}"]) as server:
        monkeypatch.setenv("WAVEDECK_SSH_CONFIG", str(server.ssh_config))
        async with connected(home) as gpu1:
            assert (await gpu1.run("echo in", 10)).stdout == b"in\n"
        server.new_host_key()
        with pytest.raises(HostKeyChanged) as refused:
            async with connected(home, asker=Answers(host_key="yes")):
                pass
        assert "AAAA" not in str(refused.value)


# Keys


async def test_a_passphrase_is_asked_for_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sshd() as server:
        monkeypatch.setenv("WAVEDECK_SSH_CONFIG", str(server.ssh_config))
        protect(server)
        user, secrets = Answers(passphrase=["wrong", "open sesame"]), Secrets()
        async with connected(home, asker=user, secrets=secrets) as gpu1:
            assert (await gpu1.run("true", 10)).status == 0
        assert user.kinds == [QuestionKind.PASSPHRASE] * 2
        assert "not the passphrase" in user.asked[1].text and user.asked[0].secret
        async with connected(home, secrets=secrets):
            pass
        assert "sesame" not in repr(secrets)
        with pytest.raises(AccessRefused, match="no passphrase was given"):
            async with connected(home):
                pass


async def test_no_passphrase_is_asked_for_in_vain(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sshd() as server:
        monkeypatch.setenv("WAVEDECK_SSH_CONFIG", str(server.ssh_config))
        protect(server)
        server.withdraw_key()
        user = Answers(passphrase="open sesame")
        with pytest.raises(AccessRefused):
            async with connected(home, asker=user):
                pass
        assert not user.asked


async def test_an_openssh_key_with_a_passphrase(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bcrypt")
    with Sshd(passphrase="open sesame") as server:
        monkeypatch.setenv("WAVEDECK_SSH_CONFIG", str(server.ssh_config))
        server.identity.with_suffix(".pub").unlink()  # its public half is in the file as well
        user = Answers(passphrase=["wrong", "open sesame"])
        async with connected(home, asker=user):
            pass
        assert user.kinds == [QuestionKind.PASSPHRASE] * 2


async def test_keys_of_the_agent_are_used(sshd: Sshd, home: Path, tmp_path: Path) -> None:
    agent = sshd.root / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", agent], stdout=subprocess.DEVNULL) as process:
        try:
            while not agent.exists():
                await asyncio.sleep(0.01)
            environ = {**os.environ, "SSH_AUTH_SOCK": str(agent)}
            for index in range(4):
                subprocess.run(
                    ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / f"k{index}"], check=True
                )
                subprocess.run(["ssh-add", "-q", tmp_path / f"k{index}"], env=environ, check=True)
            subprocess.run(["ssh-add", "-q", sshd.identity], env=environ, check=True)
            sshd.identity.unlink()
            config = sshd.ssh_config.read_text().replace("IdentityAgent none", f"IdentityAgent {agent}")
            sshd.ssh_config.write_text(config.replace("IdentitiesOnly yes", "IdentitiesOnly no"))
            async with connected(home) as gpu1:
                assert (await gpu1.run("true", 10)).status == 0
        finally:
            process.kill()


async def test_a_withdrawn_key_is_no_reason_to_try_again(sshd: Sshd, home: Path) -> None:
    sshd.withdraw_key()
    with pytest.raises(AccessRefused) as refused:
        async with connected(home):
            pass
    assert refused.value.link is LinkState.REFUSED
    assert str(sshd.identity) in str(refused.value) and "withdrawn" in str(refused.value)


def protect(server: Sshd) -> None:
    """Replace the user's key by one with a passphrase, in a format that every Python can decrypt."""
    server.identity.unlink()
    words = ["-q", "-t", "ecdsa", "-m", "PKCS8", "-N", "open sesame", "-f", server.identity]
    subprocess.run(["ssh-keygen", *words], check=True, input=b"y\n", stdout=subprocess.DEVNULL)
    server.restore_key()


# Jumps


async def test_the_way_through_a_jump_host(sshd: Sshd, jump: Sshd, home: Path) -> None:
    write_ssh_config(sshd.ssh_config, sshd, jump, jumps={"gpu1": "jump"})
    async with connected(home) as gpu1:
        assert gpu1.target.label == f"{sshd.user}@127.0.0.1:{sshd.port} via {jump.user}@127.0.0.1:{jump.port}"
        assert (await gpu1.run("echo $WAVEDECK_HOME", 10)).stdout.decode().strip() == str(sshd.remote_home)
        assert "direct-tcpip" in jump.log()
        jump.kill_connections()
        await asyncio.wait_for(gpu1.closed.wait(), 5)
        assert f"{jump.user}@127.0.0.1:{jump.port} on the way" in str(gpu1.why)


async def test_an_unknown_key_of_a_jump_host_is_asked_for(sshd: Sshd, home: Path) -> None:
    with Sshd("jump", known=False) as hop:
        write_ssh_config(sshd.ssh_config, sshd, hop, jumps={"gpu1": "jump"})
        with pytest.raises(HostKeyUnknown, match=str(hop.port)):
            async with connected(home):
                pass
        assert "Connection from" not in sshd.log() and "userauth-request" not in hop.log()
        user = Answers(host_key="yes")
        async with connected(home, asker=user):
            pass
        assert [question.fingerprint for question in user.asked] == [hop.fingerprint]
        assert str(hop.port) in user.asked[0].title and user.asked[0].host == "gpu1"


async def test_a_jump_host_that_cannot_reach_the_host(sshd: Sshd, jump: Sshd, home: Path) -> None:
    write_ssh_config(sshd.ssh_config, sshd, jump, jumps={"gpu1": "jump"})
    sshd.stop()
    with pytest.raises(LinkDown, match=f"cannot be reached from {jump.user}@127.0.0.1:{jump.port}"):
        async with connected(home):
            pass


async def test_a_proxy_command_is_the_line(sshd: Sshd, home: Path) -> None:
    relay = sshd.root / "relay.py"
    relay.write_text(
        "import os, socket, sys, threading\n"
        "line = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n"
        "    while data := os.read(0, 65536): line.sendall(data)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := line.recv(65536): os.write(1, data)\n"
    )
    with sshd.ssh_config.open("a") as config:
        config.write(f"  ProxyCommand python3 {relay} %h %p\n")
    async with connected(home) as gpu1:
        assert (await gpu1.run("echo there", 10)).stdout == b"there\n"
        assert subprocess.run(["pgrep", "-f", relay], capture_output=True).returncode == 0
    with pytest.raises(LinkDown, match="ProxyCommand"):
        async with connected(home, target=resolve(["-o", "ProxyCommand=false", "gpu1"])):
            pass


# Lines that fail


async def test_a_command_on_a_killed_connection_is_lost(sshd: Sshd, home: Path) -> None:
    async with connected(home) as gpu1:
        running = asyncio.create_task(gpu1.run("echo begun; sleep 60", 30))
        await until(lambda: sshd.runs("sleep 60"))
        assert sshd.kill_connections() >= 1
        with pytest.raises(HostLost) as lost:
            await running
        assert "out of reach" in str(lost.value)
        await asyncio.wait_for(gpu1.closed.wait(), 5)
        with pytest.raises(HostLost):
            await gpu1.run("true", 5)


@pytest.mark.parametrize("how", ["cut", "stall"])
async def test_a_dead_line_is_noticed(sshd: Sshd, proxy: Proxy, home: Path, how: str) -> None:
    async with connected(home) as gpu1:
        process = await gpu1.open("echo begun; sleep 60")
        assert await process.stdout.readline() == b"begun\n"
        running = asyncio.create_task(gpu1.run("sleep 60", 30))
        getattr(proxy, how)()
        began = time.monotonic()
        await asyncio.wait_for(gpu1.closed.wait(), 10)
        assert time.monotonic() - began < QUICK.silence_s + QUICK.keepalive_s + 1
        with pytest.raises(HostLost):
            await running
        assert gpu1.why is not None
        if how == "stall":
            assert "did not answer" in gpu1.why


async def test_a_line_that_stands_still_during_the_login(sshd: Sshd, proxy: Proxy, home: Path) -> None:
    proxy.stall()
    with pytest.raises(LinkDown, match=r"does not answer within 0\.5 s"):
        async with connected(home, pulse=Pulse(connect_s=0.5)):
            pass


async def test_a_closed_port(sshd: Sshd, home: Path) -> None:
    sshd.stop()
    with pytest.raises(LinkDown, match="refuses the connection") as down:
        async with connected(home):
            pass
    assert down.value.link is LinkState.RECONNECTING and str(sshd.port) in str(down.value)


async def test_a_port_that_swallows_everything(home: Path) -> None:
    # A listener whose queue is full drops every further SYN, as a firewall does.
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        target = Target("127.0.0.1", listener.getsockname()[1], "root")
        with pytest.raises(LinkDown, match=r"does not answer within 0\.4 s"):
            async with connected(home, target=target, pulse=Pulse(connect_s=0.4)):
                pass


async def test_a_name_that_nobody_knows(home: Path) -> None:
    with pytest.raises(LinkDown, match=r"gone\.invalid cannot be found"):
        async with connected(home, target=Target("gone.invalid", 22, "root")):
            pass


async def test_a_port_where_no_sshd_answers(home: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        target = Target("127.0.0.1", server.sockets[0].getsockname()[1], "root")
        with pytest.raises(LinkDown):
            async with connected(home, target=target):
                pass
    with pytest.raises(LinkDown, match="refuses"):
        async with connected(home, target=Target("127.0.0.1", free_port(), "root")):
            pass


async def test_too_many_channels_are_a_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sshd(extra=["MaxSessions 2"]) as server:
        monkeypatch.setenv("WAVEDECK_SSH_CONFIG", str(server.ssh_config))
        async with connected(home) as gpu1:
            for _ in range(2):
                await gpu1.open("sleep 60")
            with pytest.raises(LinkDown, match="no further channel"):
                await gpu1.run("true", 5)
            assert not gpu1.closed.is_set()


async def test_giving_up_leaves_nothing_open(sshd: Sshd, home: Path, proxy: Proxy) -> None:
    proxy.stall()
    attempt = asyncio.create_task(connect("gpu1", resolve(["gpu1"]), Home(home), NobodyAsks(), Secrets()))
    await until(lambda: proxy.connections == 1)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    proxy.cut()
    await until(lambda: proxy.connections == 0)
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def until(condition: Callable[[], object], timeout: float = 10) -> None:
    """Wait for a condition without holding up the loop."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)
