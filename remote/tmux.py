"""tmux command lines and their answers, as pure functions.

tmux reads more into its arguments than a shell does: names are format-expanded (`#(command)` runs the command), targets
match by prefix, and an argument ending in `;` separates commands. So names that we give come from an allowlist, targets
are `=name` or, for sessions that somebody else named, tmux's own id (`$3`), and trailing semicolons are escaped.

There are two servers on a host: Wavedeck's, on a socket and a configuration of its own, and the user's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ..engine.errors import UsageError
from ..engine.hosts import TmuxSession

SOCKET_VARIABLE = "WAVEDECK_TMUX_SOCKET"
DEFAULT_SOCKET = "wavedeck"
USERS = "the user's own"
"""As `server`: the one that plain `tmux` talks to. No socket can have this name, see NAME."""
USERS_SOCKET = "default"
"""What tmux calls it. Named, because plain `tmux` inside a tmux talks to the server that it runs in."""
HISTORY_LINES = 20000
MAX_SESSIONS = 500
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
SESSION_ID = re.compile(r"\$[0-9]{1,9}")
_LIST_FORMAT = (
    "#{session_id} #{session_created} #{session_activity} #{session_attached} #{session_windows} #{session_name}"
)
_ROW = re.compile(r"(?:(\$[0-9]{1,9}) )?(\S*) (\S*) (\S*) (\S*) (.+)")
_VERSION = re.compile(r"tmux (?:next-)?([0-9]{1,3})\.([0-9]{1,3})[a-z]?\b")


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


def base_argv(server: str | None = None) -> list[str]:
    """tmux on a server: ours on this machine (None), the one of a socket of ours elsewhere, or USERS.

    Ours runs without anybody's configuration, the user's with their own.
    """
    if server == USERS:
        return ["tmux", "-L", USERS_SOCKET]
    return ["tmux", "-L", socket() if server is None else valid_name(server), "-f", "/dev/null"]


def target(name: str, id: str | None = None) -> str:
    """What means exactly one session: its id when that is known, else its name without prefix matching.

    Raises
    ------
    UsageError: neither can be handed to tmux.
    """
    if id is None:
        return f"={valid_name(name)}"
    if SESSION_ID.fullmatch(id) is None:
        raise UsageError(f"{id!r} is no id of a tmux session.")
    return id


def new_session_argv(
    name: str, columns: int, rows: int, command: Sequence[str], *, server: str | None = None
) -> list[str]:
    """Start `command` (executed as it is, by no shell) in a new detached session of the given size.

    Without a command it is the login shell. The user's own server keeps its own settings.
    """
    settings = ("start-server", ";", "set-option", "-g", "history-limit", str(HISTORY_LINES), ";")
    return [
        *base_argv(server),
        *(() if server == USERS else settings),
        *("new-session", "-d", "-s", valid_name(name), "-x", str(columns), "-y", str(rows), "--"),
        *(literal(word) for word in command),
    ]


def literal(word: str) -> str:
    """A word that tmux passes on as it is, even when it ends in a semicolon."""
    return f"{word[:-1]}\\;" if word.endswith(";") else word


def has_session_argv(name: str, *, server: str | None = None, id: str | None = None) -> list[str]:
    """Status 0 when exactly this session exists."""
    return [*base_argv(server), "has-session", "-t", target(name, id)]


def kill_session_argv(name: str, *, server: str | None = None, id: str | None = None) -> list[str]:
    """End exactly this session; a supervisor in it goes on without its view."""
    return [*base_argv(server), "kill-session", "-t", target(name, id)]


def rename_session_argv(name: str, new: str, *, server: str | None = None, id: str | None = None) -> list[str]:
    """Give exactly this session another name."""
    return [*base_argv(server), "rename-session", "-t", target(name, id), valid_name(new)]


def list_sessions_argv(*, server: str | None = None) -> list[str]:
    """One line a session, read by `parse_sessions`; `-u` keeps names that are not ASCII in any locale."""
    return [*base_argv(server), "-u", "list-sessions", "-F", _LIST_FORMAT]


def attach_argv(name: str, *, server: str | None = None, id: str | None = None) -> list[str]:
    """Take over this terminal until the user detaches. Works inside another tmux as well."""
    return ["env", "-u", "TMUX", *base_argv(server), "-u", "attach-session", "-t", target(name, id)]


def version_argv() -> list[str]:
    """Asks for the version; needs no server."""
    return ["tmux", "-V"]


def tmux_version(text: str) -> tuple[int, int] | None:
    """`(3, 3)` of `tmux 3.3a`; None for `tmux master` and whatever else."""
    match = _VERSION.match(text)
    return (int(match[1]), int(match[2])) if match else None


def parse_sessions(text: str, *, ours: bool = True) -> tuple[TmuxSession, ...]:
    """Sessions from `list_sessions_argv`, as listed; lines that are something else are left out."""
    found = []
    for line in text.split("\n")[:MAX_SESSIONS]:
        match = _ROW.fullmatch(line)
        if match is not None:
            created, activity, attached, windows = (_number(word) for word in match.group(2, 3, 4, 5))
            found.append(TmuxSession(match[6], created, activity, attached, windows, ours, match[1]))
    return tuple(found)


def no_server(stderr: str) -> bool:
    """Whether tmux failed only because no session is there at all."""
    return "no server running" in stderr or "error connecting to" in stderr or "no sessions" in stderr


def no_session(stderr: str) -> bool:
    """Whether tmux failed because the session has gone, or its server with it."""
    return "can't find session" in stderr or "session not found" in stderr or no_server(stderr)


def may_pass(stderr: str) -> bool:
    """Whether a new session was refused for a reason that is over in a moment.

    The session of the attempt before ends shortly after its exit record, and the server with its last session.
    """
    return "duplicate session" in stderr or "server exited" in stderr or "lost server" in stderr or no_server(stderr)


def _number(word: str) -> int | None:
    return int(word) if word.isdecimal() and word.isascii() and len(word) <= 15 else None
