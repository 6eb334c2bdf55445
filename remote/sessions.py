"""tmux sessions on a host: Wavedeck's own and the user's. Seen, made, renamed and ended through any `Host`.

Sessions of the user's own server have whatever names people gave them, so a session is always meant by tmux's own id.
An id is only good as long as its server lives: list, act, list again.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.errors import UsageError, WavedeckError
from ..engine.format import plain
from ..engine.hosts import TmuxSession
from . import tmux
from .host import CommandFailed, CommandTimeout, Completed, Host, ProgramMissing, last_line

TIMEOUT_S = 10.0
LIST_BYTES = 1 << 20
COLUMNS, ROWS = 200, 50
"""Size of a new session until somebody attaches to it."""
_KNOWN_TERMINAL = 'infocmp "$TERM" >/dev/null 2>&1 || TERM=xterm-256color; export TERM; exec "$@"'
"""Newer terminals (kitty, Ghostty) are unknown to most hosts, and tmux refuses to start in an unknown one."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The sessions of a host, ours first, and what could not be asked, as sentences."""

    sessions: tuple[TmuxSession, ...] = ()
    problems: tuple[str, ...] = ()


def own_server(host: Host) -> str | None:
    """The socket of Wavedeck's tmux server on a host, as `server` of the functions in `tmux`."""
    return getattr(getattr(host, "facts", None), "tmux_socket", None)


def server_of(host: Host, session: TmuxSession) -> str | None:
    """The tmux server that a session of this host lives on."""
    return own_server(host) if session.ours else tmux.USERS


async def look(host: Host) -> Listing:
    """The sessions of both servers. A server that hangs is a problem in the answer, not the end of it.

    Raises
    ------
    WavedeckError: there is no tmux, or neither server answers. HostUnreachable.
    """
    found: list[TmuxSession] = []
    problems: list[WavedeckError] = []
    servers = [own_server(host)]
    if (servers[0] or tmux.socket()) != tmux.USERS_SOCKET:
        servers.append(tmux.USERS)
    for server in servers:
        try:
            found += await _list(host, server)
        except (CommandTimeout, CommandFailed) as error:
            problems.append(error)
    if len(problems) == len(servers):
        raise problems[0]
    return Listing(tuple(found), tuple(str(problem) for problem in problems))


async def list_sessions(host: Host) -> tuple[TmuxSession, ...]:
    """The sessions of a host, as `look` has them."""
    return (await look(host)).sessions


async def tmux_version(host: Host) -> tuple[int, int] | None:
    """Major and minor version of the host's tmux; None when it has one that does not tell.

    Raises
    ------
    WavedeckError: there is none. HostUnreachable.
    """
    done = await _ask(host, tmux.version_argv())
    return tmux.tmux_version(done.check().stdout.decode("utf-8", "replace"))


async def create(host: Host, name: str, *, server: str | None = tmux.USERS) -> TmuxSession:
    """A new session with a login shell, on the user's own server: there they find it without Wavedeck as well.

    Raises
    ------
    UsageError: the name is taken, or tmux would read more into it. WavedeckError: tmux refused.
    """
    done = await _ask(host, tmux.new_session_argv(name, COLUMNS, ROWS, (), server=server))
    if done.status and b"duplicate session" in done.stderr:
        raise UsageError(f"there is a session {name} on {host.name} already.")
    done.check()
    for session in await _list(host, server):
        if session.name == name:
            return session
    raise WavedeckError(f"the new session {name} on {host.name} ended at once: does the login shell there work?")


async def kill(host: Host, session: TmuxSession) -> None:
    """End a session and the programs in it. A run that is supervised in it goes on without its view.

    Raises
    ------
    UsageError: it has gone already. WavedeckError: tmux refused.
    """
    argv = tmux.kill_session_argv(session.name, server=server_of(host, session), id=session.id)
    _there(await _ask(host, argv), host, session).check()


async def rename(host: Host, session: TmuxSession, new: str) -> None:
    """Give a session another name. Sessions of runs keep theirs: it is how a run finds its terminal.

    Raises
    ------
    UsageError: the name is taken or not allowed, the session belongs to a run or has gone.
    """
    if session.run_id is not None:
        raise UsageError(f"{session.name} is the terminal of a run and keeps its name.")
    argv = tmux.rename_session_argv(session.name, new, server=server_of(host, session), id=session.id)
    done = await _ask(host, argv)
    if done.status and b"duplicate session" in done.stderr:
        raise UsageError(f"there is a session {new} on {host.name} already.")
    _there(done, host, session).check()


def attach_words(session: TmuxSession, server: str | None) -> list[str]:
    """The command that hands a terminal to a session, for the host's own terminal or one over its link."""
    argv = tmux.attach_argv(session.name, server=server, id=session.id)
    return ["sh", "-c", _KNOWN_TERMINAL, "sh", *argv]


def pick(sessions: tuple[TmuxSession, ...], word: str, host: str) -> TmuxSession:
    """The session a user means: by its id, its name, or the id or two-word tail of the run it belongs to.

    Nothing is taken for its beginning: `train-1` never means `train-10`.

    Raises
    ------
    UsageError: none or several.
    """
    from ..engine.names import tail

    found = [one for one in sessions if one.name == word]
    found = found or [one for one in sessions if one.run_id and word in (one.run_id, tail(one.run_id))]
    found = found or [one for one in sessions if one.id is not None and one.id == word]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"there is no tmux session {plain(word, 80)!r} on {host}: see `wavedeck tmux {host}`.")
    raise UsageError(f"{plain(word, 80)!r} is on both tmux servers of {host}: rename one of them first.")


async def _list(host: Host, server: str | None) -> tuple[TmuxSession, ...]:
    done = await _ask(host, tmux.list_sessions_argv(server=server))
    if done.status:
        if tmux.no_server(done.stderr.decode("utf-8", "replace")):
            return ()
        done.check()
    return tmux.parse_sessions(done.stdout.decode("utf-8", "replace"), ours=server != tmux.USERS)


async def _ask(host: Host, argv: list[str]) -> Completed:
    try:
        return await host.run(argv, timeout_s=TIMEOUT_S, limit=LIST_BYTES)
    except ProgramMissing as error:
        raise WavedeckError(
            f"tmux is not installed on {host.name}: `wavedeck hosts check {host.name}` says how."
        ) from error


def _there(done: Completed, host: Host, session: TmuxSession) -> Completed:
    """The answer, unless it is that the session has gone."""
    if done.status and tmux.no_session(done.stderr.decode("utf-8", "replace")):
        said = last_line(done.stderr)
        raise UsageError(f"the session {plain(session.name, 80)} on {host.name} has gone already ({said}).")
    return done
