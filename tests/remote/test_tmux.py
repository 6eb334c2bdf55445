"""tmux on a private socket: names that would be commands, targets that would match by prefix."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedeck.engine.errors import UsageError
from wavedeck.engine.hosts import TmuxSession
from wavedeck.remote import tmux


def run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize(
    "name", ["#(touch pwned)", "a.b", "a:b", "a b", "x;", "-t", "", "=a", "größe", "a\n", "a" * 81, "$HOME", "%1", "@2"]
)
def test_names_that_tmux_would_read_more_into_are_refused(name: str) -> None:
    for build in (tmux.valid_name, tmux.kill_session_argv, tmux.has_session_argv, tmux.attach_argv, tmux.target):
        with pytest.raises(UsageError):
            build(name)
    for server in (None, tmux.USERS, "other"):
        with pytest.raises(UsageError):
            tmux.new_session_argv(name, 80, 24, ["true"], server=server)
        with pytest.raises(UsageError):
            tmux.rename_session_argv("good", name, server=server)
        with pytest.raises(UsageError):
            tmux.rename_session_argv("good", name, server=server, id="$1")
    with pytest.raises(UsageError):
        tmux.base_argv(name or "a b")


@given(st.text(max_size=90))
def test_a_valid_name_is_made_of_plain_characters(name: str) -> None:
    try:
        tmux.valid_name(name)
    except UsageError:
        return
    assert (
        0 < len(name) <= 80
        and name[0].isalnum()
        and set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    )


def test_a_bad_socket_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAVEDECK_TMUX_SOCKET", "../elsewhere")
    with pytest.raises(UsageError):
        tmux.base_argv()


@pytest.mark.parametrize("id", ["", "3", "$", "$x", "$1;", "=a", "$1 ", "$1\n", "#(touch pwned)", "$" + "9" * 10])
def test_only_an_id_of_tmux_is_taken_for_one(id: str) -> None:
    for build in (tmux.kill_session_argv, tmux.has_session_argv, tmux.attach_argv):
        with pytest.raises(UsageError):
            build("any: name", id=id)
    assert tmux.kill_session_argv("any: name", id="$12")[-1] == "$12"


def test_servers_have_their_own_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAVEDECK_TMUX_SOCKET", "mine")
    assert tmux.base_argv() == ["tmux", "-L", "mine", "-f", "/dev/null"]
    assert tmux.base_argv("theirs") == ["tmux", "-L", "theirs", "-f", "/dev/null"]
    assert tmux.base_argv(tmux.USERS) == ["tmux", "-L", "default"]


def test_targets_do_not_match_by_prefix(tmux_socket: str) -> None:
    assert run(tmux.new_session_argv("wd-train-10", 80, 24, ["sleep", "60"])).returncode == 0
    assert run(tmux.has_session_argv("wd-train-1")).returncode != 0
    assert run(tmux.kill_session_argv("wd-train-1")).returncode != 0
    assert run(tmux.has_session_argv("wd-train-10")).returncode == 0
    assert run(tmux.rename_session_argv("wd-train-10", "other")).returncode == 0
    assert [session.name for session in tmux.parse_sessions(run(tmux.list_sessions_argv()).stdout)] == ["other"]


def test_words_reach_the_command_as_they_are(tmux_socket: str, tmp_path: Path, wait_for: Callable[..., object]) -> None:
    words = ["a b", "x;", ";", "#(touch pwned)", "$HOME", "'q'", "#{session_name}", "-n", ""]
    out = tmp_path / "out"
    script = "import os, sys; new = sys.argv[1] + '.new'; open(new, 'w').write(repr(sys.argv[2:]));"
    script += "os.rename(new, sys.argv[1])"
    done = run(tmux.new_session_argv("words", 80, 24, ["python3", "-c", script, str(out), *words]))
    assert done.returncode == 0, done.stderr
    wait_for(out.exists, what="the command's answer")
    assert out.read_text() == repr(words)


def test_sessions_are_listed_with_numbers(tmux_socket: str) -> None:
    nothing = run(tmux.list_sessions_argv())
    assert nothing.returncode != 0 and tmux.no_server(nothing.stderr)
    run(tmux.new_session_argv("wd-20261120-1759-x-brisk-heron", 80, 24, ["sleep", "60"]))
    (session,) = tmux.parse_sessions(run(tmux.list_sessions_argv()).stdout)
    assert session.run_id == "20261120-1759-x-brisk-heron"
    assert (session.attached, session.windows) == (0, 1) and session.created and session.activity


@pytest.mark.parametrize(
    ("text", "version"),
    [("tmux 3.3a\n", (3, 3)), ("tmux 3.5", (3, 5)), ("tmux next-3.6\n", (3, 6)), ("tmux 1.8", (1, 8)),
     ("tmux master", None), ("", None), ("bash: tmux: not found", None)],
)  # fmt: skip
def test_versions(text: str, version: tuple[int, int] | None) -> None:
    assert tmux.tmux_version(text) == version


@given(st.text(max_size=200))
def test_no_list_raises(text: str) -> None:
    for session in tmux.parse_sessions(text):
        assert session.name and "\n" not in session.name


def test_a_list_is_bounded() -> None:
    assert len(tmux.parse_sessions("$1 1 1 0 1 a\n" * 5000)) == tmux.MAX_SESSIONS


def test_rubbish_in_a_list_is_left_out() -> None:
    text = "no server running on /tmp/x\n1 2 0 1 my session\n\nx y z 1 odd\n"
    first, second = tmux.parse_sessions(text)[-2:]
    assert first == TmuxSession("my session", 1, 2, 0, 1) and first.run_id is None
    assert second == TmuxSession("odd", None, None, None, 1)
