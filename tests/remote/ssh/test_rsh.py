"""rsync over a connection that is up: real files, both ways, through a jump host."""

from __future__ import annotations

import asyncio
import os
import shlex
import stat
from pathlib import Path

import pytest

from wavedeck.remote.ssh.rsh import rsh
from wavedeck.tests.servers.proxy import Proxy
from wavedeck.tests.servers.sshd import Sshd, write_ssh_config

from .test_connection import connected, until


async def rsync(words: tuple[str, ...], *arguments: str | Path) -> tuple[int, str]:
    """Run the local rsync; its status and what it said on standard error."""
    process = await asyncio.create_subprocess_exec(
        *("rsync", "-a", "-e", shlex.join(words)), *map(str, arguments), stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        _, said = await process.communicate()
    return process.returncode or 0, said.decode()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with a large file, a small one and a difficult name."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "large.bin").write_bytes(os.urandom(6_000_000))
    (tree / "it's $HOME; touch x").write_text("difficult")
    (tree / "empty").touch()
    return tree


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


async def test_both_ways_through_a_jump_host(sshd: Sshd, jump: Sshd, home: Path, tmp_path: Path, tree: Path) -> None:
    write_ssh_config(sshd.ssh_config, sshd, jump, jumps={"gpu1": "jump"})
    there, back = sshd.root / "there dir", tmp_path / "back"
    async with connected(home) as gpu1:
        async with rsh(gpu1) as words:
            socket = Path(words[-1])
            assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
            assert await rsync(words, f"{tree}/", f"gpu1:{there}/") == (0, "")
            results = await asyncio.gather(
                rsync(words, f"gpu1:{there}/", f"{back}/"), rsync(words, f"gpu1:{there}/", f"{tmp_path}/twice/")
            )
            assert results == [(0, ""), (0, "")]
        assert not socket.parent.exists()
        assert (await gpu1.run("true", 10)).status == 0
    assert contents(there) == contents(back) == contents(tmp_path / "twice") == contents(tree)
    assert sshd.log().count("Accepted publickey") == 1


async def test_its_exit_codes_arrive(sshd: Sshd, home: Path, tmp_path: Path) -> None:
    async with connected(home) as gpu1, rsh(gpu1) as words:
        status, said = await rsync(words, "gpu1:/no/such/file", tmp_path)
        assert status == 23 and '"/no/such" failed' in said
        status, said = await rsync(words, "--rsync-path=/no/such/rsync", "gpu1:/etc/hostname", tmp_path)
        assert status == 127 or status == 12
        assert "/no/such/rsync" in said


async def test_a_broken_line_is_no_success(sshd: Sshd, proxy: Proxy, home: Path, tmp_path: Path, tree: Path) -> None:
    proxy.rate = 500_000
    async with connected(home) as gpu1, rsh(gpu1) as words:
        copy = asyncio.create_task(rsync(words, f"gpu1:{tree}/", tmp_path / "back"))
        before = proxy.forwarded
        await until(lambda: proxy.forwarded > before + 100_000)
        proxy.cut()
        status, said = await copy
        assert status != 0 and "wavedeck: gpu1 is out of reach" in said
        status, said = await rsync(words, f"gpu1:{tree}/", tmp_path / "back")
        assert status != 0 and "out of reach" in said


async def test_an_rsync_that_is_killed_leaves_nothing_there(
    sshd: Sshd, proxy: Proxy, home: Path, tmp_path: Path, tree: Path
) -> None:
    proxy.rate = 300_000
    async with connected(home) as gpu1, rsh(gpu1) as words:
        process = await asyncio.create_subprocess_exec(
            *("rsync", "-a", "-e", shlex.join(words), f"gpu1:{tree}/", str(tmp_path / "back"))
        )
        await until(lambda: sshd.runs("rsync --server"))
        process.kill()
        await process.wait()
        proxy.rate = None
        await until(lambda: not sshd.runs("rsync --server"))
        assert (await gpu1.run("true", 10)).status == 0


async def test_the_end_of_the_context_ends_its_copies(
    sshd: Sshd, proxy: Proxy, home: Path, tmp_path: Path, tree: Path
) -> None:
    proxy.rate = 300_000
    async with connected(home) as gpu1:
        async with rsh(gpu1) as words:
            copy = asyncio.create_task(rsync(words, f"gpu1:{tree}/", tmp_path / "back"))
            before = proxy.forwarded
            await until(lambda: proxy.forwarded > before + 50_000)
        status, _ = await copy
        assert status != 0
