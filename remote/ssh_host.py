"""A machine reached by SSH, as a host: everything goes through its link's one agent."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.errors import UsageError, WavedeckError
from ..engine.hosts import GpuProcess, HostFacts, TmuxSession
from ..engine.machine import MachineReading
from ..engine.manifest import Attempt
from . import tmux
from .agent_client import AgentClient, Failed
from .host import (
    DEFAULT_TIMEOUT_S,
    OUTPUT_BYTES,
    CommandTimeout,
    Completed,
    HostError,
    HostLost,
    LinkDown,
    Living,
    StartCut,
    Started,
)
from .payload.agent_frames import Refused
from .run_files import RunFiles
from .starting import small_environment, start_in_tmux

if TYPE_CHECKING:
    import asyncssh

    from .hosts_file import HostEntry
    from .link import Link
    from .ssh.connection import ClientSession

PAYLOAD = Path(__file__).parent / "payload"
READY_S = 20.0
INPUT_BYTES = 16 << 20
"""What one command may be sent as its input: the agent keeps it in memory until the command takes it."""
"""How long an operation waits for a link that is still coming up."""
TAKE_S = 20.0
FIRST_READING_S = 8.0
CLEAR_S = 120.0
PASSED = frozenset(
    {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_MODE"}
)
"""What travels to a training on another host without being asked for; `pass_env` in hosts.toml names more."""


class SshHost(RunFiles):
    """Operations on one host. Cheap to make; holds nothing but its link."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def name(self) -> str:
        return self._link.name

    @property
    def entry(self) -> HostEntry:
        """What hosts.toml says about it."""
        return self._link.entry

    @property
    def facts(self) -> HostFacts:
        """What it said about itself when it was last connected to."""
        return self._link.view().facts or HostFacts()

    @property
    def home(self) -> str:
        """Wavedeck's home there, an absolute path.

        Raises
        ------
        LinkDown: it was never connected to, or has no place for one.
        """
        home = self.facts.home
        if not home:
            raise LinkDown(self.name, f"{self.name} has not said where Wavedeck's home is: is it connected?")
        return home

    @property
    def latency_ms(self) -> float | None:
        """Median round trip."""
        return self._link.picture.latency_ms

    @property
    def python(self) -> str:
        """The interpreter that is there: `python3`, or the one that hosts.toml names."""
        return self._link.python

    def run_dir(self, run_id: str) -> str:
        """A run's directory there."""
        return f"{self.home}/runs/{run_id}"

    async def ready(self) -> None:
        """Wait until it can be asked something.

        Raises
        ------
        LinkDown: it does not answer.
        """
        await self._agent()

    async def _agent(self) -> AgentClient:
        return await self._link.ready(READY_S)

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        limit: int = OUTPUT_BYTES,
        on_output: Callable[[bytes], None] | None = None,
    ) -> Completed:
        if len(stdin) > INPUT_BYTES:
            raise UsageError(f"{argv[0]} on {self.name}: at most {INPUT_BYTES} bytes of input are sent to a command.")
        agent = await self._agent()
        return await agent.run(argv, timeout_s=timeout_s, stdin=stdin, env=env, limit=limit, on_output=on_output)

    async def reading(self) -> MachineReading | None:
        """Its newest reading; waits a moment for the first."""
        await self._agent()
        deadline = time.monotonic() + FIRST_READING_S
        while self._link.picture.reading is None and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        return self._link.picture.reading

    async def processes(self) -> tuple[GpuProcess, ...]:
        """What runs on its GPUs, as last told."""
        await self._agent()
        return self._link.view().processes

    # --- runs

    async def read_range(self, run_id: str, name: str, offset: int, count: int) -> tuple[bytes, int, float]:
        """At most `count` bytes (1 MiB) of a file of a run there, with the file's size and modification time now.

        Raises
        ------
        FileNotFoundError: there is no such file. WavedeckError: it cannot be read. LinkDown: the host does not answer.
        """
        agent = await self._agent()
        try:
            header, data = await agent.ask("read", run=run_id, name=name, offset=offset, count=count)
        except Failed as failure:
            if failure.why == "missing":
                raise FileNotFoundError(2, "there is no such file there any more", name) from None
            raise WavedeckError(f"{name} of {run_id} cannot be read on {self.name}: {failure.text}") from None
        size, changed = header.get("size"), header.get("mtime")
        if type(size) is not int or not isinstance(changed, int | float) or len(data) > count:
            raise WavedeckError(f"{name} of {run_id} cannot be read on {self.name}: the answer makes no sense.")
        return data, size, float(changed)

    async def create_run(self, run_id: str, files: Mapping[str, bytes]) -> None:
        agent = await self._agent()
        listed = [[name, len(data)] for name, data in files.items()]
        try:
            await agent.ask("create_run", b"".join(files.values()), run=run_id, files=listed)
        except Failed as failure:
            if failure.why == "exists":
                raise UsageError(f"there is a run {run_id} on {self.name} already.") from None
            raise WavedeckError(f"{run_id} cannot be created on {self.name}: {failure.text}") from None
        self._link.mirror.adopt(run_id)

    async def place(self, run_id: str, name: str, data: bytes, *, exclusive: bool = False) -> bool:
        agent = await self._agent()
        try:
            await agent.ask("place", data, run=run_id, name=name, exclusive=exclusive)
        except Failed as failure:
            if failure.why == "exists":
                return False
            raise WavedeckError(f"{name} of {run_id} cannot be written on {self.name}: {failure.text}") from None
        return True

    async def living(self, run_id: str) -> Living:
        agent = await self._agent()
        try:
            header, _ = await agent.ask("living", run=run_id)
        except Failed as failure:
            raise WavedeckError(f"{self.name} cannot tell what lives of {run_id}: {failure.text}") from None
        found = header.get("supervisors")
        pairs = [
            (item[0], item[1] if type(item[1]) is int else None)
            for item in (found if isinstance(found, list) else [])
            if isinstance(item, list) and len(item) == 2 and type(item[0]) is int
        ]
        orphan = header.get("orphan")
        return Living(tuple(pairs), orphan if type(orphan) is int else None)

    async def discard(self, run_id: str) -> None:
        agent = await self._agent()
        try:
            await agent.ask("discard", run=run_id)
        except Failed as failure:
            if failure.why == "missing":
                raise UsageError(f"there is no run {run_id} on {self.name} any more.") from None
            raise WavedeckError(f"{run_id} cannot be deleted on {self.name}: {failure.text}") from None
        tmux.session_name(run_id)  # an id, and nothing that leads elsewhere
        await self.run(["rm", "-rf", "--", f"{self.home}/code/{run_id}"], timeout_s=CLEAR_S)

    async def _ask_of_files(self, op: str, run_id: str, fields: Mapping[str, Any], timeout_s: float) -> object:
        agent = await self._agent()
        named = {key: value for key, value in fields.items() if value is not None}
        try:
            header, data = await agent.ask(op, run=run_id, timeout_s=timeout_s, **named)
        except Failed as failure:
            raise Refused(failure.why, failure.text) from None
        try:
            return json.loads(data) if op == "uncovered" else header
        except (ValueError, RecursionError):
            return None

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        wanted = PASSED | set(self.entry.pass_env or ())
        return {key: value for key, value in environ.items() if key in wanted}

    # --- starting

    async def start_supervisor(self, run_dir: Path, attempt: Attempt, environ: Mapping[str, str]) -> Started:
        agent = await self._agent()
        run_id, number = run_dir.name, attempt.attempt
        there = await self._own_environment(agent)
        script = await self._supervisor(agent)
        session = tmux.session_name(run_id)
        command = [self._link.python, "-IS", script, self.run_dir(run_id), str(number), "--env"]
        secret = f"attempts/.env-{number:04d}"
        whole = {**there, **environ, "WAVEDECK_HOME": self.home}
        note = None
        await self.place(run_id, secret, json.dumps(whole, ensure_ascii=False).encode("utf-8", "surrogateescape"))
        try:
            note = await self._start_in_tmux(session, attempt, [*command, session], there)
            if note is not None:
                (await self.run([*command, "--detach"], env=small_environment(there))).check()
            await self._until_taken(agent, run_id, secret, command)
        except BaseException as error:
            if await self._withdraw(run_id, secret):
                if isinstance(error, asyncio.CancelledError):
                    raise StartCut from error
                raise
            if not isinstance(error, HostError):
                raise  # a late answer of tmux or a slow start is no failure once the supervisor is there
        return Started(session if note is None else None, note)

    async def _own_environment(self, agent: AgentClient) -> dict[str, str]:
        """What a login there has in its environment."""
        done = (await agent.run(["env", "-0"], timeout_s=DEFAULT_TIMEOUT_S)).check()
        pairs = (line.partition("=") for line in done.stdout.decode("utf-8", "surrogateescape").split("\0") if line)
        return {key: value for key, _, value in pairs if key}

    async def _supervisor(self, agent: AgentClient) -> str:
        """The supervisor's script there; its files are sent once for each version of them."""
        files = {path.name: path.read_bytes() for path in sorted(PAYLOAD.glob("*.py"))}
        parts = b"\0".join(name.encode() + b"\0" + data for name, data in files.items())
        digest = hashlib.sha256(parts).hexdigest()[:16]
        folder = f"{self.home}/payload/{digest}"
        try:
            for name, data in files.items():
                if name != "supervisor.py":
                    await agent.ask("payload", data or b"\n", digest=digest, name=name)
            await agent.ask("payload", files["supervisor.py"], digest=digest, name="supervisor.py")
        except Failed as failure:
            raise WavedeckError(f"Wavedeck's supervisor cannot be written to {self.name}: {failure.text}") from None
        return f"{folder}/supervisor.py"

    async def _start_in_tmux(
        self, session: str, attempt: Attempt, command: list[str], there: Mapping[str, str]
    ) -> str | None:
        if not self.facts.programs.get("tmux"):
            return f"tmux is not installed on {self.name}: the run is safe without it, but cannot be attached to."
        argv = tmux.new_session_argv(
            session, attempt.columns, attempt.rows, command, server=self.facts.tmux_socket or None
        )
        return await start_in_tmux(self.run, argv, small_environment(there))

    async def _until_taken(self, agent: AgentClient, run_id: str, name: str, command: list[str]) -> None:
        deadline = time.monotonic() + TAKE_S
        while True:
            header, _ = await agent.ask("exists", run=run_id, name=name)
            if not header.get("existed"):
                return
            if time.monotonic() > deadline:
                raise CommandTimeout(self.name, command, TAKE_S)
            await asyncio.sleep(0.02)

    async def _withdraw(self, run_id: str, name: str) -> bool:
        """Take a handed-over environment back. When the link is gone, the next agent there does (`agent_sweep`)."""
        try:
            async with asyncio.timeout(5):
                agent = await self._agent()
                header, _ = await agent.ask("withdraw", run=run_id, name=name)
        except (LinkDown, HostError, Failed, TimeoutError):
            return True
        return header.get("existed") is True

    # --- through the connection itself

    @asynccontextmanager
    async def rsync_words(self) -> AsyncIterator[list[str]]:
        """The words for `rsync -e`: rsync speaks through the connection that is open already.

        Raises
        ------
        HostLost: it is not open any more.
        """
        from .ssh.rsh import rsh

        await self._agent()
        connection = self._link.connection
        if connection is None:
            raise HostLost(self.name)
        async with rsh(connection) as words:
            yield list(words)

    async def channel(
        self, argv: Sequence[str], session: Callable[[], ClientSession], *, window: int, packet: int
    ) -> tuple[asyncssh.SSHClientChannel[bytes], ClientSession]:
        """Start a command on a channel of its own, beside the agent: what is large need not pass through it.

        Raises
        ------
        HostLost, LinkDown: the connection is not open any more, or the host opens no channel.
        """
        await self._agent()
        connection = self._link.connection
        if connection is None:
            raise HostLost(self.name)
        return await connection.open_session(far_shell_line(argv), session, window=window, packet=packet)

    async def attach(self, argv: Sequence[str]) -> int:
        """Show a command of the host on this terminal until it ends; its exit status."""
        from .ssh.terminal import attach

        await self._agent()
        connection = self._link.connection
        if connection is None:
            raise HostLost(self.name)
        return await attach(connection, far_shell_line(argv))

    async def sessions(self) -> tuple[TmuxSession, ...]:
        """Its tmux sessions, as last told."""
        await self._agent()
        return self._link.view().sessions


def far_shell_line(argv: Sequence[str]) -> str:
    """Words as one line for whatever login shell is there: every word in single quotes (zsh expands a bare `=word`)."""
    for word in argv:
        if "\0" in word or "\n" in word:
            raise UsageError(f"{word!r} cannot be said to a shell.")
    return "exec " + " ".join("'" + word.replace("'", "'\\''") + "'" if word else "''" for word in argv)
