"""Another machine to measure with: a real sshd on the loopback interface, behind a line that can be slow or dead.

It is the server of the tests. Its files, its tmux server and everything that ran on it are gone when it is left.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from wavedeck.engine.manifest import Attempt, ExitRecord, Manifest, SupervisorRecord, write_record
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.tests.servers.proxy import Proxy
from wavedeck.tests.servers.sshd import CONFIG_VARIABLE, SSHD, Sshd

from .deck import Bench
from .generate import writer
from .measure import NotSeen, wait_for

HOST = "gpu1"
AGENT = "import sys;exec"
QUIET = subprocess.DEVNULL


class FarBench(Bench):
    """A home here that knows one host there; `line` is what lies between. Made by `far_bench`."""

    def __init__(self, bench: Bench, name: str, server: Sshd, line: Proxy) -> None:
        super().__init__(bench.sandbox, bench.data, name)
        self.server, self.line = server, line
        (self.home.root / "hosts.toml").write_text(f'[{HOST}]\nssh = ["{HOST}"]\n')

    @property
    def env(self) -> dict[str, str]:
        """As for a bench here, and the ssh configuration that leads to the host."""
        return {**super().env, CONFIG_VARIABLE: str(self.server.ssh_config)}

    @property
    def environ(self) -> dict[str, str]:
        """The whole environment of a process of ours."""
        return {**os.environ, **self.env}

    @property
    def there(self) -> Home:
        """Wavedeck's home on the host."""
        return Home(self.server.remote_home)

    def live(self, seconds: float, history: int = 1000) -> tuple[str, Path]:
        """A writer of ten rows a second, launched there by `wavedeck exec --host`."""
        notes = self.server.root / f"live-{time.monotonic_ns()}"
        command = [*writer("wavedeck"), str(notes), "--steps", str(history), "--seconds", str(seconds)]
        where = ("--host", HOST, "--no-push", "--env", "none", "--cwd", "/")
        answer = self.json("exec", "--name", "bench", *where, "--detach", "--json", "--", *command)
        written = notes / "written.txt"
        wait_for(lambda: written.exists() and written.read_text(), 60, "the first row there")
        return answer["id"], written

    def finished_there(self, run_id: str, journal: bytes) -> RunDir:
        """A run that ended well and appears there all at once."""
        hidden = self._new_run(run_id)
        hidden.events.write_bytes(journal)
        write_record(hidden.exit, ExitRecord(attempt=1, started=time.time(), ended=time.time(), exit_code=0))
        return self._appear(hidden, run_id)

    def living_there(self, run_id: str, pid: int) -> RunDir:
        """A run whose supervisor is the process `pid`."""
        hidden = self._new_run(run_id)
        write_record(hidden.supervisor, SupervisorRecord(attempt=1, pid=pid, started=time.time(), child=pid))
        return self._appear(hidden, run_id)

    def _new_run(self, run_id: str) -> RunDir:
        hidden = RunDir(self.there.runs / f".{run_id}.new")
        hidden.attempts.mkdir(parents=True)
        write_record(hidden.manifest, Manifest(run_id, "bench", time.time(), command=["python", "train.py"]))
        write_record(hidden.attempt(1), Attempt(attempt=1, requested=time.time(), argv=["true"], cwd="/"))
        return hidden

    def _appear(self, hidden: RunDir, run_id: str) -> RunDir:
        return RunDir(hidden.path.rename(self.there.runs / run_id))

    def copy_of(self, run: RunDir) -> RunDir:
        """Where its copy lies here."""
        return RunDir(self.home.runs / run.path.name)

    # --- what it costs

    def agent(self) -> psutil.Process:
        """The agent there.

        Raises
        ------
        NotSeen: there is none, or more than one.
        """
        found = []
        for process in self.server.processes():
            with contextlib.suppress(psutil.Error):
                if AGENT in " ".join(process.cmdline()):
                    found.append(process)
        if len(found) != 1:
            raise NotSeen(f"{len(found)} agents run there where one was expected")
        return found[0]

    def cpu_there_s(self) -> float:
        """CPU seconds of sshd and of everything it has started, whether it still runs or not."""
        mark = str(self.server.root / "sshd_config")
        listener = next(child for child in psutil.Process().children() if mark in child.cmdline())
        return sum(cpu_s(process) for process in (listener, *listener.children(recursive=True)))

    # --- OpenSSH's own client, as a peer

    def ssh(self, *words: str) -> list[str]:
        """A command line of OpenSSH that runs `words` there."""
        return ["ssh", "-F", str(self.server.ssh_config), "-o", "BatchMode=yes", HOST, shlex.join(words)]


def cpu_s(process: psutil.Process) -> float:
    """User and system seconds of a process and of its children that have ended; 0 once it is gone."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system + times.children_user + times.children_system


@contextlib.contextmanager
def far_bench(
    bench: Bench, name: str, *, line: bool = False, known: bool = True, env: Mapping[str, str] | None = None
) -> Iterator[FarBench]:
    """A host for as long as the block lasts; with `line` reached through one that can be slow or dead, else directly.

    Raises
    ------
    NotSeen: there is no sshd here.
    """
    if SSHD is None:
        raise NotSeen("there is no sshd here: install openssh-server")
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # lines that are cut are what is measured
    with Sshd(HOST, known=known, env=env) as server, Proxy((server.address, server.port)) as between:
        if line:
            server.ssh_config.write_text("\n".join(server.client_config(port=between.port)) + "\n")
        far = FarBench(bench, f"{name}-{time.monotonic_ns()}", server, between)
        far.there.runs.mkdir(parents=True)
        try:
            yield far
        finally:
            far.close()


class Mirroring:
    """A process that copies the host's runs. A context manager: inside it is connected."""

    def __init__(self, far: FarBench) -> None:
        self._far = far
        self._told = far.sandbox / f"mirrorer-{time.monotonic_ns()}.txt"
        self.process: psutil.Process

    def __enter__(self) -> Mirroring:
        argv = [sys.executable, "-m", "wavedeck.benchmarks.mirrorer", HOST, str(self._told)]
        self._popen = subprocess.Popen(argv, env=self._far.environ, stdout=QUIET, start_new_session=True)
        self.process = psutil.Process(self._popen.pid)
        try:
            wait_for(lambda: self.states and self.states[-1][1] == "connected", 60, "the link to the host")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.kill()
        self._popen.wait()

    @property
    def states(self) -> list[tuple[float, str]]:
        """(unix seconds, state) of every change so far."""
        lines = self._told.read_text().splitlines() if self._told.exists() else []
        return [(float(t), state) for t, _, state in (line.partition(" ") for line in lines) if state]


def answer_of(far: FarBench, *words: str) -> tuple[float, float, Any]:
    """Seconds until a verb has printed its JSON, CPU seconds of the whole verb, and the JSON.

    Raises
    ------
    NotSeen: it failed.
    """
    began = time.monotonic()
    process = subprocess.Popen(far.wavedeck(*words), env=far.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    data = b""
    while piece := os.read(process.stdout.fileno(), 65536):
        data += piece
        with contextlib.suppress(ValueError):
            answer = json.loads(data)
            break
    took = time.monotonic() - began
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise NotSeen(f"{' '.join(words)} failed: {said.decode(errors='replace').strip()}")
    return took, usage.ru_utime + usage.ru_stime, answer
