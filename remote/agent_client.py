"""One agent on one connection: started over its standard input, asked questions, listened to.

Everything it says without being asked goes to `sink`, in order, in the event loop. When the channel ends, every open
question fails with `HostLost`: no answer is ever taken for a good one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..engine.format import plain
from ..engine.hosts import HostFacts, LinkState
from .bundle import TOO_OLD, agent_command, agent_input
from .frames import PAYLOAD_BYTES, FrameReader, ProtocolError, frame
from .host import (
    OUTPUT_BYTES,
    CommandTimeout,
    Completed,
    HostLost,
    LinkDown,
    OutputTooLarge,
    ProgramMissing,
)

if TYPE_CHECKING:
    from .ssh.connection import Connection

HELLO_S = 20.0
"""How long a login shell and a Python may take to start on a busy machine."""
NOISE_BYTES = 256 << 10
"""What a login shell may print before the agent speaks."""
READ_BYTES = 256 << 10
ASK_S = 30.0

Sink = Callable[[dict[str, Any], bytes], None]
Piece = Callable[[int, bytes], None]


class NoPython(LinkDown):
    """There is no Python on the host that could run the agent."""


class Failed(Exception):
    """The agent answered that it could not: `why` is its word for it, `text` a sentence."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why
        self.text = text


class AgentClient:
    """This side of one agent. Made by `start`."""

    def __init__(self, name: str, process: Any, sink: Sink) -> None:
        self.name = name
        self.facts = HostFacts()
        self.closed = asyncio.Event()
        self.why = ""
        self._process = process
        self._sink = sink
        self._reader = FrameReader()
        self._ids = itertools.count(1)
        self._open: dict[int, tuple[asyncio.Future[tuple[dict[str, Any], bytes]], Piece | None]] = {}
        self._pump: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, connection: Connection, sink: Sink, options: Mapping[str, Any] | None = None, python: str = "python3"
    ) -> AgentClient:
        """Start an agent and wait for its first word.

        Raises
        ------
        NoPython: there is no interpreter. LinkDown: something else came than an agent.
        """
        nonce = secrets.token_hex(16)
        process = await connection.open(agent_command(python))
        client = cls(connection.name, process, sink)
        try:
            process.stdin.write(agent_input(nonce, dict(options or {})))
            async with asyncio.timeout(HELLO_S):
                await client._until_hello(f"WAVEDECK-AGENT {nonce}\n".encode())
        except TimeoutError:
            client._abort()
            raise LinkDown(connection.name, _no_agent(connection.name, b"it said nothing")) from None
        except BaseException:
            client._abort()
            raise
        client._pump = asyncio.get_running_loop().create_task(client._listen(), name=f"agent of {connection.name}")
        return client

    async def _until_hello(self, mark: bytes) -> None:
        """Skip what the login shell prints, then take the facts."""
        noise = bytearray()
        while True:
            at = noise.find(mark)
            if at >= 0:
                break
            data = await self._process.stdout.read(READ_BYTES)
            if not data:
                await self._explain_silence(bytes(noise))
            noise += data
            if len(noise) > NOISE_BYTES:
                raise LinkDown(self.name, _no_agent(self.name, b"its login shell prints without end"))
        frames = self._reader_feed(bytes(noise[at + len(mark) :]))
        while not frames:
            data = await self._process.stdout.read(READ_BYTES)
            if not data:
                raise HostLost(self.name, reason="the agent ended as it started")
            frames = self._reader_feed(data)
        header, _ = frames[0]
        self.facts = facts_of(header)
        for header, payload in frames[1:]:
            self._take(header, payload)

    def _reader_feed(self, data: bytes) -> list[tuple[dict[str, Any], bytes]]:
        try:
            return self._reader.feed(data)
        except ProtocolError as error:
            raise LinkDown(self.name, f"{self.name} does not speak Wavedeck's protocol: {error}.") from error

    async def _explain_silence(self, noise: bytes) -> None:
        """The channel ended before the agent spoke: say why. Always raises."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self._process.wait_closed()
        status = getattr(self._process, "exit_status", None)
        said = noise
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1):
                said = noise + await self._process.stderr.read(4096)
        if status is None:
            raise HostLost(self.name, reason="the connection was lost as the agent started")
        if status in (126, 127):
            sentence = f"there is no python3 on {self.name}: install it (`apt-get install -y python3`)."
            raise NoPython(self.name, sentence, LinkState.CONNECTED)
        if status == TOO_OLD:
            sentence = f"the python3 on {self.name} is older than 3.8: name a newer one with python= in hosts.toml."
            raise NoPython(self.name, sentence, LinkState.CONNECTED)
        raise LinkDown(self.name, _no_agent(self.name, said))

    async def _listen(self) -> None:
        why = "the agent ended"
        try:
            while data := await self._process.stdout.read(READ_BYTES):
                for header, payload in self._reader.feed(data):
                    self._take(header, payload)
        except ProtocolError as error:
            why = f"it sent {error}"
        except (OSError, EOFError) as error:
            why = str(error) or type(error).__name__
        except asyncio.CancelledError:
            why = "the link was closed"
            raise
        except Exception as error:  # asyncssh's own errors; nothing that arrives may kill the link silently
            why = plain(str(error), 200) or type(error).__name__
        finally:
            self._end(why)

    def _take(self, header: dict[str, Any], payload: bytes) -> None:
        op, number = header["op"], header.get("id")
        waiting = self._open.get(number) if type(number) is int else None
        if op == "piece":
            if waiting is not None and waiting[1] is not None:
                waiting[1](2 if header.get("fd") == 2 else 1, payload)
        elif op in ("done", "failed", "pong"):
            if waiting is not None:
                del self._open[number]  # type: ignore[arg-type]
                if not waiting[0].done():
                    waiting[0].set_result((header, payload))
        else:
            self._sink(header, payload)

    # --- speaking

    def send(self, op: str, data: bytes = b"", **fields: Any) -> None:
        """Say something that has no answer.

        Raises
        ------
        HostLost: the agent is gone.
        """
        if self.closed.is_set():
            raise HostLost(self.name, reason=self.why)
        try:
            self._process.stdin.write(frame(op, data, **fields))
        except (OSError, EOFError) as error:
            raise HostLost(self.name, reason=str(error) or type(error).__name__) from error

    async def ask(
        self, op: str, data: bytes = b"", *, timeout_s: float = ASK_S, on_piece: Piece | None = None, **fields: Any
    ) -> tuple[dict[str, Any], bytes]:
        """The answer to a question. `data` that is longer than a frame may be goes ahead of it in pieces.

        Raises
        ------
        Failed: the agent could not. HostLost: the link broke. CommandTimeout: no answer in time.
        """
        number = next(self._ids)
        future: asyncio.Future[tuple[dict[str, Any], bytes]] = asyncio.get_running_loop().create_future()
        self._open[number] = (future, on_piece)
        try:
            while len(data) > PAYLOAD_BYTES:
                self.send("input", data[:PAYLOAD_BYTES], id=number)
                data = data[PAYLOAD_BYTES:]
            self.send(op, data, id=number, **fields)
            async with asyncio.timeout(timeout_s):
                header, payload = await future
        except TimeoutError:
            self._cancel(number)
            raise CommandTimeout(self.name, (op,), timeout_s) from None
        except asyncio.CancelledError:
            self._cancel(number)
            raise
        finally:
            self._open.pop(number, None)
        if header["op"] == "failed":
            raise Failed(plain(str(header.get("why")), 40), plain(str(header.get("text") or ""), 300))
        return header, payload

    def _cancel(self, number: int) -> None:
        with contextlib.suppress(HostLost):
            self.send("cancel", id=number)

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        limit: int = OUTPUT_BYTES,
        on_output: Callable[[bytes], None] | None = None,
    ) -> Completed:
        """`Host.run` through this agent."""
        out, err = bytearray(), bytearray()

        def piece(fd: int, data: bytes) -> None:
            if len(out) + len(err) <= 2 * limit:  # the agent keeps to the limit; one that does not costs no memory
                (err if fd == 2 else out).extend(data)
            if on_output is not None:
                on_output(data)

        try:
            header, _ = await self.ask(
                "run",
                stdin,
                timeout_s=timeout_s + ASK_S,
                on_piece=piece,
                argv=list(argv),
                timeout=timeout_s,
                limit=limit,
                env=None if env is None else dict(env),
            )
        except Failed as failure:
            if failure.why == "timeout":
                raise CommandTimeout(self.name, argv, timeout_s) from None
            if failure.why == "too_large":
                raise OutputTooLarge(self.name, argv, limit) from None
            raise ProgramMissing(self.name, argv, failure.text.rstrip(".") or failure.why) from None
        status = header.get("status")
        if type(status) is not int:
            raise HostLost(self.name, argv, "it did not say how the command ended")
        if len(out) > limit or len(err) > limit:
            raise OutputTooLarge(self.name, argv, limit)
        return Completed(self.name, tuple(argv), status, bytes(out), bytes(err))

    # --- the end

    def end(self) -> None:
        """End the agent: the end of its input tells it to go."""
        if self._pump is not None:
            self._pump.cancel()
        self._end("the link was closed")
        with contextlib.suppress(Exception):
            self._process.stdin.write_eof()
        self._abort()

    def _abort(self) -> None:
        with contextlib.suppress(Exception):
            self._process.close()

    def _end(self, why: str) -> None:
        if self.closed.is_set():
            return
        self.why = why
        self.closed.set()
        for future, _ in list(self._open.values()):
            if not future.done():
                future.set_exception(HostLost(self.name, reason=why))
        self._open.clear()


def facts_of(hello: dict[str, Any]) -> HostFacts:
    """What an agent says about its machine, every text bounded and made safe to show."""
    programs = hello.get("programs")
    known = programs.items() if isinstance(programs, dict) else ()
    return HostFacts(
        hostname=_text(hello, "hostname", 80),
        user=_text(hello, "user", 40),
        home=_path(hello.get("home")),
        python=_text(hello, "python", 20) or None,
        system=_text(hello, "system", 120),
        cores=hello["cores"] if type(hello.get("cores")) is int else None,
        programs={
            plain(str(name), 20): plain(value, 60) if isinstance(value, str) else None
            for name, value in list(known)[:20]
        },
        tmux_socket=_text(hello, "tmux_socket", 80) or "wavedeck",
        boot_id=_text(hello, "boot", 60) or None,
    )


def _text(hello: dict[str, Any], key: str, limit: int) -> str:
    value = hello.get(key)
    return plain(value, limit) if isinstance(value, str) else ""


def _path(value: object) -> str:
    """An absolute path that is one: a host that names something else has no home."""
    if (
        isinstance(value, str)
        and value.startswith("/")
        and len(value) < 1024
        and "\0" not in value
        and "\n" not in value
    ):
        return value
    return ""


def _no_agent(name: str, said: bytes) -> str:
    lines = [line.strip() for line in said[-2048:].decode("utf-8", "replace").splitlines() if line.strip()]
    last = f" ({plain(lines[-1], 200).rstrip('.')})" if lines else ""
    advice = f"its login shell must run `python3 -c …`; see `wavedeck hosts check {name}`"
    return f"no agent could be started on {name}{last}: {advice}."
