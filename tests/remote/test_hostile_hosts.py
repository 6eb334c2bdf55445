"""Hosts that are broken, strange or hostile: what works goes on working, and nothing gets out of its place."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.hosts import LinkState
from wavedeck.engine.manifest import Attempt, Manifest
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.remote import operations
from wavedeck.remote.fleet import Fleet
from wavedeck.remote.link import Link, Rhythm
from wavedeck.tests.servers.sshd import CONFIG_VARIABLE, Sshd

RUN_ID = "20261120-1759-drums-brisk-heron"
QUICK = Rhythm(ping_s=0.1, slow_s=0.5, lost_s=3.0, first_retry_s=0.1, longest_retry_s=0.5, lock_s=0.05)
FAKE_AGENT = """#!{python}
import json, sys, time
out = sys.stdout.buffer
data = sys.stdin.buffer.read(int({length}))
header = json.loads(sys.stdin.buffer.readline())
def frame(op, payload=b"", **fields):
    out.write(json.dumps(dict(fields, op=op, n=len(payload))).encode() + b"\\n" + payload); out.flush()
out.write(b"WAVEDECK-AGENT " + header["nonce"].encode() + b"\\n")
frame("hello", version=1, hostname="\\x1b]0;owned\\x07", user="[red]x[/]", home="../../etc",
      python="3\\n1", programs={{"tmux": "\\x1b[2J"}})
{rest}
time.sleep(60)
"""


@asynccontextmanager
async def fleet_at(home: Path, rhythm: Rhythm = QUICK) -> AsyncIterator[Fleet]:
    fleet = Fleet(Home(home), rhythm=rhythm)
    try:
        yield fleet
    finally:
        await fleet.close()


async def until(condition: Callable[[], Any], what: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.01)


async def works(fleet: Fleet, sshd: Sshd) -> None:
    """A run from launch to its end, its output here byte by byte."""
    link = fleet.watch("gpu1")
    await until(lambda: link.state is LinkState.CONNECTED, f"connected, but {link.reason}")
    attempt = Attempt(attempt=1, requested=time.time(), argv=["sh", "-c", "pwd; echo fine"], cwd="/")
    manifest = Manifest(id=RUN_ID, name="drums", created=time.time())
    result = await operations.launch(fleet.home, fleet.host("gpu1"), manifest, attempt, {})
    ended = await operations.wait_ended(result.run, 20, lambda *_: None)
    assert ended is not None and ended.exit_code == 0, ended
    there = RunDir(Path(fleet.host("gpu1").home) / "runs" / RUN_ID)  # type: ignore[attr-defined]
    await until(lambda: result.run.console.read_bytes() == there.console.read_bytes() == b"/\r\nfine\r\n", "the output")


@pytest.mark.parametrize("shell", ["fish", "tcsh", "dash", "bash"])
async def test_login_shells(home: Path, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    with Sshd(extra=[f'ForceCommand {program} -c "$SSH_ORIGINAL_COMMAND"']) as sshd:
        monkeypatch.setenv(CONFIG_VARIABLE, str(sshd.ssh_config))
        async with fleet_at(home) as fleet:
            await works(fleet, sshd)


async def test_a_login_shell_that_talks(home: Path, sshd: Sshd) -> None:
    noise = (
        'WELCOME to gpu.example\\nWAVEDECK-AGENT 00000000000000000000000000000000\\n{\\"op\\": \\"hello\\"}\\n\\033[2J'
    )
    (sshd.account / ".bashrc").write_text(f'printf "{noise}"\nseq 1 2000\n')
    async with fleet_at(home) as fleet:
        await works(fleet, sshd)


async def test_a_login_shell_that_never_stops_talking(home: Path, sshd: Sshd) -> None:
    (sshd.account / ".bashrc").write_text("yes\n")
    async with fleet_at(home) as fleet:
        link = fleet.watch("gpu1")
        await until(lambda: "prints without end" in (link.reason or ""), f"the reason, not {link.reason}")
        assert "hosts check" in (link.reason or "")


@pytest.mark.parametrize("name", ["a home", "it's", 'say "hi"', "$HOME", "ü;x", "-n"])
async def test_homes_with_odd_names(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with Sshd() as sshd:
        place = sshd.root / name
        place.mkdir()
        (sshd.account / ".bashrc").write_text("")
        entry = f"[gpu1]\nhome = {json.dumps(str(place / 'wave deck'))}\n"
        home.mkdir(exist_ok=True)
        (home / "hosts.toml").write_text(entry)
        monkeypatch.setenv(CONFIG_VARIABLE, str(sshd.ssh_config))
        async with fleet_at(home) as fleet:
            await works(fleet, sshd)
        assert (place / "wave deck" / "runs" / RUN_ID / "exit.json").exists()


def pretend(sshd: Sshd, rest: str) -> None:
    """Put a program in place of the agent's python that says what a hostile host would."""
    from wavedeck.remote.bundle import agent_command

    length = agent_command().rpartition("read(")[2].partition(")")[0]
    tools = sshd.root / "tools"
    tools.mkdir()
    program = tools / "python3"
    program.write_text(FAKE_AGENT.format(python="/usr/bin/python3", length=length, rest=rest))
    program.chmod(0o755)
    (sshd.account / ".bashrc").write_text(f"PATH={tools}:$PATH\n")


async def hostile(home: Path, sshd: Sshd, rest: str) -> tuple[Fleet, Link]:
    pretend(sshd, rest)
    fleet = Fleet(Home(home), rhythm=QUICK)
    return fleet, fleet.watch("gpu1")


async def test_ten_gigabytes_on_one_line(home: Path, sshd: Sshd) -> None:
    rest = "block = b'x' * (1 << 20)\nfor n in range(10 << 10): out.write(block)\nout.flush()"
    fleet, link = await hostile(home, sshd, rest)
    try:
        await until(lambda: "a line without an end" in (link.reason or ""), f"the reason, not {link.reason}")
        assert link.state in (LinkState.RECONNECTING, LinkState.CONNECTING)
    finally:
        await fleet.close()


async def test_names_and_texts_of_a_hostile_host(home: Path, sshd: Sshd, tmp_path: Path) -> None:
    rest = "\n".join(
        [
            "frame('runs', runs=[['../../.ssh', 4e9], ['/etc', 4e9], ['20261120-1759-fine-calm-otter', 4e9]])",
            "time.sleep(0.5)",
            "run = '20261120-1759-fine-calm-otter'",
            "frame('record', b'{}', run=run, file='../../.ssh/authorized_keys')",
            "frame('data', b'x', run=run, file='../../../x', offset=0)",
            "frame('data', b'x', run='../../.ssh', file='events.jsonl', offset=0)",
            "frame('reading', t=1, gpus=[{'index': 0, 'name': '\\x1b]0;owned\\x07[red]'}], gpu_error='\\x1b[2J')",
            "frame('processes', gpus=[{'gpu': 0, 'pid': 1, 'name': '\\x1b[2J', 'user': '\\n'}])",
            "frame('sessions', sessions=[{'name': '\\x1b[2Jx'}])",
            "frame('notice', text='\\x1b[31mSHA256:fake fingerprint')",
            "frame('reading', t='now', gpus=7)",
            "frame('processes', gpus={'a': 1})",
            "frame('behind', bytes=-5)",
            "frame('what', x=[1]*50)",
        ]
    )
    fleet, link = await hostile(home, sshd, rest)
    try:
        await until(lambda: link.view().sessions and link.view().notices, f"what it says, not {link.reason}")
        view = link.view()
        everything = repr(view) + json.dumps(view.to_json())
        assert "\x1b" not in everything and "\\x1b" not in everything and "\\u001b" not in everything
        assert view.facts is not None and view.facts.home == ""  # a relative home is none
        outside = [path for path in tmp_path.rglob("*") if home not in path.parents and path != home]
        assert outside == [] and not list(home.rglob("authorized_keys"))
        visible = [path.name for path in (home / "runs").iterdir() if not path.name.startswith(".")]
        assert visible == []  # a run without a manifest is not shown
    finally:
        await fleet.close()


async def test_an_agent_that_says_nothing(home: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    from wavedeck.remote import agent_client

    monkeypatch.setattr(agent_client, "HELLO_S", 1.0)
    (sshd.account / ".bashrc").write_text("sleep 60\n")
    async with fleet_at(home) as fleet:
        link = fleet.watch("gpu1")
        await until(lambda: "it said nothing" in (link.reason or ""), f"the reason, not {link.reason}")
