"""tmux on a private socket: names that would be commands, targets that would match by prefix."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedeck.engine.errors import UsageError
from wavedeck.remote import tmux


def run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize(
    "name", ["#(touch pwned)", "a.b", "a:b", "a b", "x;", "-t", "", "=a", "größe", "a\n", "a" * 81, "$HOME", "%1", "@2"]
)
def test_names_that_tmux_would_read_more_into_are_refused(name: str) -> None:
    for build in (tmux.valid_name, tmux.kill_session_argv, tmux.has_session_argv, tmux.attach_argv):
        with pytest.raises(UsageError):
            build(name)
    with pytest.raises(UsageError):
        tmux.new_session_argv(name, 80, 24, ["true"])


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


def test_rubbish_in_a_list_is_left_out() -> None:
    text = "no server running on /tmp/x\n1 2 0 1 my session\n\nx y z 1 odd\n"
    first, second = tmux.parse_sessions(text)[-2:]
    assert first == TmuxSession("my session", 1, 2, 0, 1) and first.run_id is None
    assert second == TmuxSession("odd", None, None, None, 1)
