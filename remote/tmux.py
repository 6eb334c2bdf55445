"""tmux command lines and their answers, as pure functions.

tmux reads more into its arguments than a shell does: names are format-expanded (`#(command)` runs the command), targets
match by prefix, and an argument ending in `;` separates commands. So names come from an allowlist, targets are `=name`,
and trailing semicolons are escaped. It always runs on a socket and a configuration of our own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ..engine.errors import UsageError
from ..engine.hosts import TmuxSession

SOCKET_VARIABLE = "WAVEDECK_TMUX_SOCKET"
DEFAULT_SOCKET = "wavedeck"
HISTORY_LINES = 20000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
_LIST_FORMAT = "#{session_created} #{session_activity} #{session_attached} #{session_windows} #{session_name}"


def socket() -> str:
    """Name of the tmux server's socket: `wavedeck`, or what `WAVEDECK_TMUX_SOCKET` says."""
    return valid_name(os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET)


def session_name(run_id: str) -> str:
    """The session of a run."""
    return valid_name(f"wd-{run_id}")


def valid_name(name: str) -> str:
    """`name`, if tmux takes it literally.

    Raises
    ------
    UsageError: anything else. There is no quoting that would make it safe.
    """
    if NAME.fullmatch(name) is None:
        raise UsageError(f"{name!r} cannot be a tmux name: use letters, digits, - and _, at most 80.")
    return name


def base_argv() -> list[str]:
    """tmux on our socket, without anybody's configuration."""
    return ["tmux", "-L", socket(), "-f", "/dev/null"]


def new_session_argv(name: str, columns: int, rows: int, command: Sequence[str]) -> list[str]:
    """Start `command` (executed as it is, by no shell) in a new detached session of the given size."""
    return [
        *base_argv(),
        *("start-server", ";", "set-option", "-g", "history-limit", str(HISTORY_LINES), ";"),
        *("new-session", "-d", "-s", valid_name(name), "-x", str(columns), "-y", str(rows), "--"),
        *(literal(word) for word in command),
    ]


def literal(word: str) -> str:
    """A word that tmux passes on as it is, even when it ends in a semicolon."""
    return f"{word[:-1]}\\;" if word.endswith(";") else word


def has_session_argv(name: str) -> list[str]:
    """Status 0 when exactly this session exists."""
    return [*base_argv(), "has-session", "-t", f"={valid_name(name)}"]


def kill_session_argv(name: str) -> list[str]:
    """End exactly this session; a supervisor in it goes on without its view."""
    return [*base_argv(), "kill-session", "-t", f"={valid_name(name)}"]


def rename_session_argv(name: str, new: str) -> list[str]:
    """Give exactly this session another name."""
    return [*base_argv(), "rename-session", "-t", f"={valid_name(name)}", valid_name(new)]


def list_sessions_argv() -> list[str]:
    """One line a session, read by `parse_sessions`."""
    return [*base_argv(), "list-sessions", "-F", _LIST_FORMAT]


def attach_argv(name: str) -> list[str]:
    """Take over this terminal until the user detaches. Works inside another tmux as well."""
    return ["env", "-u", "TMUX", *base_argv(), "-u", "attach-session", "-t", f"={valid_name(name)}"]


def parse_sessions(text: str) -> tuple[TmuxSession, ...]:
    """Sessions from `list_sessions_argv`, as listed; lines that are something else are left out."""
    found = []
    for line in text.splitlines():
        words = line.split(" ", 4)
        if len(words) == 5 and words[4]:
            created, activity, attached, windows = (_number(word) for word in words[:4])
            found.append(TmuxSession(words[4], created, activity, attached, windows))
    return tuple(found)


def no_server(stderr: str) -> bool:
    """Whether tmux failed only because no session is there at all."""
    return "no server running" in stderr or "error connecting to" in stderr or "no sessions" in stderr


def may_pass(stderr: str) -> bool:
    """Whether a new session was refused for a reason that is over in a moment.

    The session of the attempt before ends shortly after its exit record, and the server with its last session.
    """
    return "duplicate session" in stderr or "server exited" in stderr or "lost server" in stderr or no_server(stderr)


def _number(word: str) -> int | None:
    return int(word) if word.isdigit() else None
