"""A real `sshd` on a loopback port with throw-away keys: the "other machine" of most tests.

It has a home, a tmux directory and an environment of its own; whatever a test started there is gone when it ends. Its
files lie in a short directory of their own, because the paths of unix sockets (tmux) may be 107 characters long.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

SSHD = shutil.which("sshd") or next(
    (path for path in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if Path(path).exists()), None
)
CONFIG_VARIABLE = "WAVEDECK_SSH_CONFIG"


class Sshd:
    """One machine to log in to. A context manager: entering starts it, leaving ends it and everything it ran.

    `name` is its alias in `ssh_config`; `known` puts its host key into the known_hosts file that `ssh_config` names;
    `env` are more variables of every session (`PATH` to put a fake program first); `extra` are more lines of its
    configuration; `home_variable=False` leaves `HOME` as the account has it; `passphrase` encrypts the user's key;
    `within` is a command that starts it somewhere else (`ip netns exec …`), with `address` to listen on.
    """

    def __init__(
        self,
        name: str = "gpu1",
        *,
        known: bool = True,
        env: Mapping[str, str] | None = None,
        extra: Iterable[str] = (),
        home_variable: bool = True,
        passphrase: str = "",
        address: str = "127.0.0.1",
        within: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.address = address
        self.port = free_port()
        self.user = getpass.getuser()
        self.root = Path(tempfile.mkdtemp(prefix="wd-sshd-"))
        self.account = self.root / "account"
        self.remote_home = self.root / "wavedeck"
        self.tmux_socket = f"wd-test-{uuid.uuid4().hex[:10]}"
        self.host_key = self.root / "host_key"
        self.identity = self.root / "id_ed25519"
        self.authorized = self.root / "authorized_keys"
        self.known_hosts = self.root / "known_hosts"
        self.ssh_config = self.root / "ssh_config"
        self.log_file = self.root / "sshd.log"
        self.environ = {
            "WAVEDECK_HOME": str(self.remote_home),
            "WAVEDECK_TMUX_SOCKET": self.tmux_socket,
            "TMUX_TMPDIR": str(self.root),
            **({"HOME": str(self.account)} if home_variable else {}),
            **(env or {}),
        }
        self._extra = tuple(extra)
        self._within = tuple(within)
        self._known = known
        self._process: subprocess.Popen[bytes] | None = None
        self.account.mkdir()
        _make_key(self.host_key)
        _make_key(self.identity, passphrase)
        self.restore_key()

    def __enter__(self) -> Sshd:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        (self.root / "sshd_config").write_text("\n".join(self._server_config()) + "\n")
        self.known_hosts.write_text(self.known_line() if self._known else "")
        write_ssh_config(self.ssh_config, self)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for server in (self.tmux_socket, "default"):
            subprocess.run(
                ["tmux", "-L", server, "kill-server"],
                env={**os.environ, "TMUX_TMPDIR": str(self.root)},
                capture_output=True,
                timeout=10,
            )
        self.reap()
        shutil.rmtree(self.root, ignore_errors=True)

    def start(self) -> None:
        """Listen, on the same port as before."""
        before = len(self.log())
        # Not `-e`: with it the server's debugging lines would mix with what commands print.
        words = ["-D", "-E", str(self.log_file), "-f", str(self.root / "sshd_config")]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._within, SSHD or "/usr/sbin/sshd", *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while "Server listening on" not in self.log()[before:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd does not start:\n{self.log()[-2000:]}")
            time.sleep(0.005)

    def stop(self) -> None:
        """No more listener and no more connections; what runs there goes on."""
        process, self._process = self._process, None
        if process is None:
            return
        connections = self._connections(process)
        _kill(connections)
        with contextlib.suppress(psutil.Error):
            _kill(psutil.Process(process.pid).children())  # the sshd behind `within`
        process.kill()
        process.wait(10)

    def kill_connections(self) -> int:
        """Kill the server's side of every connection, not the listener; say how many processes that were."""
        return _kill(self._connections(self._process))

    def connections(self) -> int:
        """How many server processes serve connections now."""
        return len(self._connections(self._process))

    def new_host_key(self) -> None:
        """The machine was rented to somebody else, or somebody sits in between: another key from now on."""
        listening = self._process is not None
        self.stop()
        _make_key(self.host_key)
        if listening:
            self.start()

    def withdraw_key(self) -> None:
        """The user's key is not let in any more (living connections go on)."""
        self.authorized.write_text("")

    def restore_key(self) -> None:
        """The user's key is let in again."""
        self.authorized.write_bytes(self.identity.with_suffix(".pub").read_bytes())

    def log(self) -> str:
        """What the server said so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def fingerprint(self) -> str:
        """`SHA256:…` of the host key, by OpenSSH itself."""
        shown = subprocess.run(["ssh-keygen", "-lf", self.host_key], capture_output=True, text=True, check=True)
        return shown.stdout.split()[1]

    def known_line(self) -> str:
        """The line of a known_hosts file that trusts this server."""
        kind, key = self.host_key.with_suffix(".pub").read_text().split()[:2]
        return f"[{self.address}]:{self.port} {kind} {key}\n"

    def client_config(self, jump: str | None = None, *, port: int | None = None) -> list[str]:
        """The lines of an ssh_config that reach this server; `port` is that of a proxy in front of it."""
        return [
            f"Host {self.name}",
            f"  HostName {self.address}",
            f"  Port {port or self.port}",
            f"  User {self.user}",
            f"  IdentityFile {self.identity}",
            "  IdentitiesOnly yes",
            "  IdentityAgent none",
            f"  UserKnownHostsFile {self.known_hosts}",
            "  GlobalKnownHostsFile /dev/null",
            *([f"  HostKeyAlias [{self.address}]:{self.port}"] if port else []),
            *([f"  ProxyJump {jump}"] if jump else []),
        ]

    def processes(self) -> list[psutil.Process]:
        """What runs on this machine: its directory stands in their command line or their environment."""
        mark, found = str(self.root), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                environ = process.environ()
                if any(mark in word for word in process.cmdline()) or mark in environ.get("TMUX_TMPDIR", ""):
                    found.append(process)
        return found

    def runs(self, text: str) -> bool:
        """Whether a process runs there whose command line holds `text`."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if text in " ".join(process.cmdline()):
                    return True
        return False

    def reap(self) -> None:
        """Kill everything that runs on this machine."""
        _kill(self.processes())

    def _server_config(self) -> list[str]:
        variables = " ".join(f'{name}="{value}"' for name, value in self.environ.items())
        return [
            *self._extra,  # the first value of an option is the one that holds
            f"Port {self.port}",
            f"ListenAddress {self.address}",
            f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {self.authorized}",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "UseDNS no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "MaxStartups 200",
            "LogLevel DEBUG1",
            f"SetEnv {variables}",
            "Subsystem sftp internal-sftp",
        ]

    @staticmethod
    def _connections(listener: subprocess.Popen[bytes] | None) -> list[psutil.Process]:
        if listener is None:
            return []
        found: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(listener.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    title = " ".join(process.cmdline())
                    if process.name().startswith("sshd") and "[listener]" not in title and " -D -E " not in title:
                        found.append(process)
        return found


def write_ssh_config(path: Path, *servers: Sshd, jumps: Mapping[str, str] | None = None, more: str = "") -> Path:
    """An ssh_config that knows `servers`; `jumps` names for a server the one to go through."""
    lines = [line for server in servers for line in server.client_config((jumps or {}).get(server.name))]
    path.write_text("\n".join(lines) + "\n" + more)
    return path


def free_port() -> int:
    """A port nobody listens on, below those that outgoing connections take: it stays free while a server is down."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _make_key(path: Path, passphrase: str = "") -> None:
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "test", "-f", path], check=True)


def _kill(processes: list[psutil.Process]) -> int:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=5)
    return len(processes)
