"""tmux sessions of both servers through a host, against the real tmux; names that other people gave may be anything."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wavedeck.engine.errors import UsageError, WavedeckError
from wavedeck.engine.hosts import TmuxSession
from wavedeck.remote import sessions, tmux
from wavedeck.remote.host import CommandTimeout
from wavedeck.remote.local import LocalHost

HOST = LocalHost()
HOSTILE = [
    "#(touch PWNED)", "a b", "x;", ";", "größe", "=a", "$HOME", "@2", "%1", "{last}", "!", "'q'", '"', "*", "~",
    "train-1;kill-server", "#{pane_pid}", "\\;", "a\\", "-",
]  # fmt: skip


@pytest.fixture
def servers(tmux_socket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A private socket for our server and a private directory with the user's."""
    place = tempfile.mkdtemp(prefix="wd-tmux-")  # a socket's path is at most 107 bytes long
    monkeypatch.setenv("TMUX_TMPDIR", place)
    monkeypatch.setenv("HOME", place)
    monkeypatch.setenv("SHELL", "/bin/sh")
    yield tmux_socket
    for argv in (tmux.base_argv(), tmux.base_argv(tmux.USERS)):
        subprocess.run([*argv, "kill-server"], capture_output=True, timeout=10)
    shutil.rmtree(place, ignore_errors=True)


def users_session(name: str) -> str:
    """A session that the user made by hand, with whatever tmux makes of the name; its id."""
    argv = [*tmux.base_argv(tmux.USERS), "new-session", "-d", "-P", "-F", "#{session_id}", "-s", "first", "sleep", "60"]
    id = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    escaped = tmux.literal(name.replace("#", "##"))
    argv = [*tmux.base_argv(tmux.USERS), "-u", "rename-session", "-t", id, "--", escaped]
    subprocess.run(argv, capture_output=True, timeout=20, check=True)
    return id


def ours(name: str) -> None:
    subprocess.run(tmux.new_session_argv(name, 80, 24, ["sleep", "60"]), timeout=20, check=True)


async def test_both_servers_are_listed_ours_first(servers: str) -> None:
    assert await sessions.list_sessions(HOST) == ()
    id = users_session("größe 1")
    ours("wd-20261120-1759-x-brisk-heron")
    mine, users = await sessions.list_sessions(HOST)
    assert mine.ours and mine.run_id == "20261120-1759-x-brisk-heron" and mine.windows == 1 and mine.attached == 0
    assert (users.ours, users.name, users.id, users.run_id) == (False, "größe 1", id, None)


@pytest.mark.parametrize("name", HOSTILE)
async def test_sessions_with_any_name_are_ended_and_renamed_by_id(name: str, servers: str, tmp_path: Path) -> None:
    users_session("train-10")
    users_session(name)
    found = {session.name: session for session in await sessions.list_sessions(HOST)}
    bystander = found.pop("train-10")
    (session,) = found.values()
    assert subprocess.run([*tmux.base_argv(tmux.USERS), "has-session", "-t", str(session.id)]).returncode == 0
    await sessions.rename(HOST, session, "renamed-1")
    assert {one.name for one in await sessions.list_sessions(HOST)} == {"train-10", "renamed-1"}
    await sessions.kill(HOST, session)
    assert await sessions.list_sessions(HOST) == (bystander,)
    with pytest.raises(UsageError, match="has gone already"):
        await sessions.kill(HOST, session)
    with pytest.raises(UsageError, match="has gone already"):
        await sessions.rename(HOST, session, "other")
    assert not list(Path(os.environ["HOME"]).rglob("PWNED")) and not Path("/PWNED").exists()


@pytest.mark.parametrize("name", [*HOSTILE, "a.b", "a:b", "-t", "", "a" * 81, "a\n"])
async def test_hostile_names_are_refused_for_what_we_name(name: str, servers: str) -> None:
    users_session("plain")
    (session,) = await sessions.list_sessions(HOST)
    for act in (sessions.create(HOST, name), sessions.rename(HOST, session, name)):
        with pytest.raises(UsageError, match="cannot be a tmux name"):
            await act
    nameless = TmuxSession(name, ours=False)  # without an id only a name of ours can be a target
    for act in (sessions.kill(HOST, nameless), sessions.rename(HOST, nameless, "good")):
        with pytest.raises(UsageError):
            await act
    assert [one.name for one in await sessions.list_sessions(HOST)] == ["plain"]


async def test_one_never_means_ten(servers: str) -> None:
    for server in (None, tmux.USERS):
        await sessions.create(HOST, "train-10", server=server)
    listed = await sessions.list_sessions(HOST)
    for is_ours in (True, False):
        one = TmuxSession("train-1", ours=is_ours)
        for act in (sessions.kill(HOST, one), sessions.rename(HOST, one, "other")):
            with pytest.raises(UsageError, match="has gone already"):
                await act
        server = sessions.server_of(HOST, one)
        assert subprocess.run(tmux.has_session_argv("train-1", server=server), capture_output=True).returncode != 0
        done = subprocess.run(sessions.attach_words(one, server), capture_output=True, stdin=subprocess.DEVNULL)
        assert done.returncode != 0
    with pytest.raises(UsageError, match="there is no tmux session 'train-1'"):
        sessions.pick(listed, "train-1", "local")
    assert [one.name for one in await sessions.list_sessions(HOST)] == ["train-10", "train-10"]
    with pytest.raises(UsageError, match="both"):
        sessions.pick(listed, "train-10", "local")


async def test_names_are_taken_once_and_runs_keep_theirs(servers: str) -> None:
    session = await sessions.create(HOST, "work")
    assert session.name == "work" and not session.ours and session.id
    with pytest.raises(UsageError, match="already"):
        await sessions.create(HOST, "work")
    await sessions.create(HOST, "other")
    with pytest.raises(UsageError, match="already"):
        await sessions.rename(HOST, session, "other")
    with pytest.raises(UsageError, match="keeps its name"):
        await sessions.rename(HOST, TmuxSession("wd-20261120-1759-x-brisk-heron"), "other")


def test_a_run_is_meant_by_its_id_or_its_tail() -> None:
    run = TmuxSession("wd-20261120-1759-x-brisk-heron", id="$1")
    users = TmuxSession("odd $1", ours=False, id="$4")
    for word in ("wd-20261120-1759-x-brisk-heron", "20261120-1759-x-brisk-heron", "brisk-heron", "$1"):
        assert sessions.pick((run, users), word, "gpu1") is run
    assert sessions.pick((run, users), "$4", "gpu1") is users


async def test_attaching_works_in_a_terminal_nobody_knows(
    servers: str, wait_for: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-from-the-future")
    session = await sessions.create(HOST, "work")
    words = sessions.attach_words(session, tmux.USERS)
    process = subprocess.Popen(["script", "-qec", shlex.join(words), "/dev/null"], stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL)  # fmt: skip
    list_argv = tmux.list_sessions_argv(server=tmux.USERS)
    try:
        wait_for(
            lambda: [one.attached for one in tmux.parse_sessions(subprocess.check_output(list_argv, text=True))] == [1],
            what="the attached client",
        )
    finally:
        subprocess.run([*tmux.base_argv(tmux.USERS), "kill-server"], capture_output=True, timeout=10)
        process.communicate(timeout=20)


async def test_without_tmux_a_sentence_says_so(servers: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as without:
        without.setenv("PATH", str(tmp_path))
        for act in (sessions.list_sessions(HOST), sessions.create(HOST, "a"), sessions.tmux_version(HOST)):
            with pytest.raises(WavedeckError, match="tmux is not installed on local"):
                await act


async def test_the_version_is_known(servers: str) -> None:
    version = await sessions.tmux_version(HOST)
    assert version is not None and version >= (1, 8)


async def test_a_server_that_hangs_hides_nothing_of_the_other(
    servers: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours("wd-20261120-1759-x-brisk-heron")
    real = shutil.which("tmux")
    fake = tmp_path / "tmux"
    fake.write_text(f'#!/bin/sh\n[ "$2" = default ] && exec sleep 1000\nexec {real} "$@"\n')
    fake.chmod(0o755)
    with monkeypatch.context() as slow:
        slow.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        slow.setattr(sessions, "TIMEOUT_S", 1.0)
        listing = await sessions.look(HOST)
        assert [one.run_id for one in listing.sessions] == ["20261120-1759-x-brisk-heron"]
        assert len(listing.problems) == 1 and "did not answer within 1 s" in listing.problems[0]
        fake.write_text("#!/bin/sh\nexec sleep 1000\n")
        slow.setattr(sessions, "TIMEOUT_S", 0.2)
        with pytest.raises(CommandTimeout):
            await sessions.look(HOST)


async def test_a_stale_socket_is_no_server(servers: str) -> None:
    ours("a")
    subprocess.run([*tmux.base_argv(), "kill-server"], timeout=10)
    assert await sessions.list_sessions(HOST) == ()
