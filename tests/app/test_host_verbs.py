"""`hosts`, `gpu` and `tmux` as scripts and as people at a terminal use them: a real sshd, tmux, pseudo terminals."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wavedeck.app.cli.gpu_rows import rows_of
from wavedeck.app.cli.sessions import understand
from wavedeck.engine.errors import UsageError
from wavedeck.engine.hosts import GpuProcess, LinkRecord, LinkState, MirrorRecord, write_mirror
from wavedeck.engine.machine import GpuReading
from wavedeck.tests.fakes.runs import make_home, make_run
from wavedeck.tests.servers.fixtures import sshd  # noqa: F401  fixture
from wavedeck.tests.servers.sshd import Sshd

RECORDINGS = Path(__file__).parents[1] / "recordings" / "nvidia_smi"


@pytest.fixture(autouse=True)
def own_tmux(tmux_socket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's tmux servers of this test: ours by its socket, the user's by its directory."""
    place = tempfile.mkdtemp(prefix="wd-tmux-")
    monkeypatch.setenv("TMUX_TMPDIR", place)
    monkeypatch.setenv("SHELL", "/bin/sh")
    yield
    for name in (tmux_socket, "default"):
        subprocess.run(["tmux", "-L", name, "kill-server"], capture_output=True, timeout=10)
    shutil.rmtree(place, ignore_errors=True)


def cli(*words: str, code: int | None = 0, timeout: float = 90) -> subprocess.CompletedProcess[str]:
    """A verb without any terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "wavedeck", *words],
        capture_output=True, text=True, errors="replace", timeout=timeout, stdin=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    if code is not None:
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def js(*words: str, code: int | None = 0) -> Any:
    return json.loads(cli(*words, "--json", code=code).stdout)


class Terminal:
    """A verb with a controlling terminal: what it shows, and what is typed."""

    def __init__(self, *words: str, program: tuple[str, ...] = ("-m", "wavedeck")) -> None:
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(sys.executable, [sys.executable, *program, *words])
        termios.tcsetwinsize(self.fd, (24, 100))

    def until(self, text: str, timeout: float = 40) -> None:
        deadline = time.monotonic() + timeout
        while text.encode() not in self.seen:
            if time.monotonic() > deadline or not self._read(0.05):
                pytest.fail(f"{text!r} never came; on the terminal:\n{self.seen.decode(errors='replace')}")

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def end(self, timeout: float = 40) -> int:
        """Its exit code."""
        deadline = time.monotonic() + timeout
        while self._read(0.05):
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                pytest.fail(f"it does not end; on the terminal:\n{self.seen.decode(errors='replace')}")
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        assert b"Traceback" not in self.seen, self.seen.decode(errors="replace")
        return os.waitstatus_to_exitcode(status)

    def _read(self, wait: float) -> bool:
        if not select.select([self.fd], [], [], wait)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.seen += data
        return bool(data)


def line(server: Sshd, *, known: bool = True) -> str:
    """The ssh line a provider would show; without `known` no file vouches for the host's key."""
    if not known:
        config = server.ssh_config.read_text()
        server.ssh_config.write_text(config.replace(str(server.known_hosts), "/dev/null"))
    return server.name


def test_a_host_from_first_sight_to_removal(sshd: Sshd, home: Path) -> None:  # noqa: F811
    assert js("hosts", "ls") == [] and "hosts add" in cli("hosts").stderr
    added = cli("hosts", "add", "box", sshd.name, "--price", "0.40", "--home", str(sshd.remote_home))
    assert "connected" in added.stdout and str(sshd.remote_home) in added.stdout and "saved box" in added.stderr
    (row,) = js("hosts", "ls")
    assert {"name", "target", "link", "latency_ms", "since"} <= set(row)
    assert (row["name"], row["link"], row["price_per_hour"]) == ("box", "connected", 0.4)
    assert row["latency_ms"] > 0 and row["since"] > 0 and f":{sshd.port}" in row["target"]
    assert "connected" in cli("hosts", "ls").stdout
    assert js("hosts", "ls", "--offline")[0]["link"] == "off"
    assert "already" in cli("hosts", "add", "box", sshd.name, code=2).stderr
    assert cli("hosts", "add", "box", sshd.name, "--replace").returncode == 0
    assert js("hosts", "rm", "box") == {"removed": "box"}
    assert js("hosts", "ls") == [] and "no host" in cli("hosts", "rm", "box", code=2).stderr


def test_a_key_that_was_never_seen_needs_a_yes(sshd: Sshd, home: Path) -> None:  # noqa: F811
    name = line(sshd, known=False)
    refused = cli("hosts", "add", "box", name, code=3)  # nobody is there to ask
    assert sshd.fingerprint in refused.stderr and "is saved" in refused.stderr
    assert js("hosts", "ls")[0]["link"] == "unknown host key"
    wrong = cli("gpu", "box", code=3)
    assert sshd.fingerprint in wrong.stderr
    other = "SHA256:" + "A" * 43
    assert cli("hosts", "check", "box", "--accept-fingerprint", other, code=3).stdout == ""
    assert cli("hosts", "add", "box", name, "--replace", "--accept-fingerprint", sshd.fingerprint).returncode == 0
    assert js("hosts", "ls")[0]["link"] == "connected"  # from now on it is known


def test_a_person_says_yes_to_a_fingerprint(sshd: Sshd, home: Path) -> None:  # noqa: F811
    name = line(sshd, known=False)
    declining = Terminal("hosts", "add", "box", name)
    declining.until("(yes/no or the fingerprint)")
    assert sshd.fingerprint.encode() in declining.seen
    declining.type("perhaps\n")
    declining.until("Please type yes or no")
    declining.type("no\n")
    assert declining.end() == 3
    accepting = Terminal("hosts", "add", "box", name, "--replace")
    accepting.until("(yes/no or the fingerprint)")
    accepting.type("yes\n")
    assert accepting.end() == 0
    assert js("hosts", "ls")[0]["link"] == "connected"


def test_a_question_can_be_broken_off(sshd: Sshd) -> None:  # noqa: F811
    asked = Terminal("hosts", "add", "box", line(sshd, known=False))
    asked.until("(yes/no or the fingerprint)")
    asked.type("\x03")
    assert asked.end() == 130


ASKS = """
import asyncio, sys
from wavedeck.app.cli.questions import TerminalAsker
from wavedeck.remote.ssh.questions import Question, QuestionKind
question = Question(QuestionKind(sys.argv[1]), "box", "The title", "The text", secret=True, echo=len(sys.argv) > 2)
answer = asyncio.run(TerminalAsker().ask(question))
print("length", -1 if answer is None else len(answer))
"""


@pytest.mark.parametrize(
    ("kind", "typed", "length"),
    [
        ("passphrase", "correct horse\n", 13),
        ("password", "\n", -1),
        ("answer", "\n", 0),
        ("password", "\x04", -1),
        ("passphrase", "gr\u00fc\u00dfe\n", 5),
    ],
)
def test_a_secret_is_not_shown(kind: str, typed: str, length: int) -> None:
    asked = Terminal(kind, program=("-c", ASKS))
    asked.until("(not shown)")
    asked.type(typed)
    assert asked.end() == 0 and f"length {length}\r" in asked.seen.decode()
    assert len(typed) < 3 or typed.strip().encode() not in asked.seen


def test_an_answer_that_may_be_seen_is_shown() -> None:
    asked = Terminal("answer", "echo", program=("-c", ASKS))
    asked.until("> ")
    asked.type("123456\n")
    assert asked.end() == 0 and b"123456" in asked.seen and b"length 6" in asked.seen


def test_a_locked_key_is_unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bcrypt", reason="asyncssh reads OpenSSH's locked keys with bcrypt")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with Sshd("locked", passphrase="correct horse") as server:
        monkeypatch.setenv("WAVEDECK_SSH_CONFIG", str(server.ssh_config))
        terminal = Terminal("hosts", "add", "locked")
        terminal.until("(not shown)")
        terminal.type("correct horse\n")
        assert terminal.end() == 0, terminal.seen.decode(errors="replace")
        assert b"correct horse" not in terminal.seen
        assert "passphrase" in cli("gpu", "locked", code=3).stderr


def test_a_changed_key_is_refused_until_both_were_compared(sshd: Sshd, home: Path) -> None:  # noqa: F811
    name = line(sshd, known=False)
    first = sshd.fingerprint
    cli("hosts", "add", "box", name, "--accept-fingerprint", first)
    assert "trusted one" in cli("hosts", "trust", "box").stderr
    sshd.new_host_key()
    now = sshd.fingerprint
    changed = cli("gpu", "box", code=3)
    assert first in changed.stderr and now in changed.stderr
    assert js("hosts", "ls")[0]["link"] == "host key changed"
    assert cli("hosts", "trust", "box", code=3).stderr.count(now) >= 1  # nobody is there to ask
    assert cli("hosts", "trust", "box", "--accept-fingerprint", first, code=3)
    person = Terminal("hosts", "trust", "box")
    person.until("Is that its fingerprint? (yes/no")
    person.type("yes\n")
    assert person.end() == 0
    assert first.encode() in person.seen and now.encode() in person.seen
    assert js("hosts", "ls")[0]["link"] == "connected"
    assert first not in (home / "known_hosts").read_text()


def test_a_host_that_is_away(sshd: Sshd, home: Path) -> None:  # noqa: F811
    cli("hosts", "add", "box", sshd.name)
    sshd.stop()
    rows = js("gpu")
    assert [(row["host"], row["index"]) for row in rows] == [("box", None)] and "refuses" in rows[0]["error"]
    gone = cli("gpu", "box", code=3)
    assert gone.stdout == "" and "refuses the connection" in gone.stderr
    assert js("hosts", "ls")[0]["link"] == "reconnecting"
    assert cli("hosts", "check", "box", code=3) and cli("tmux", "box", code=3)
    listed = js("tmux")
    assert listed[-1]["host"] == "box" and "refuses" in listed[-1]["error"]
    assert "is saved" in cli("hosts", "add", "other", sshd.name, code=3).stderr


def test_a_host_with_active_runs_is_not_forgotten_by_the_way(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAVEDECK_SSH_CONFIG", "/dev/null")
    run = make_run(make_home(home), state="running")
    write_mirror(run.path, MirrorRecord("box"))
    (home / "hosts.toml").write_text('# mine\n[box]\nssh = ["root@h"]\n\n[other]\n')
    record = LinkRecord(os.getpid(), time.time(), LinkState.CONNECTED, signs={run.id: (1, True)})
    path = home / "hosts" / "box" / "link.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(msgspec.json.encode(record))
    refused = cli("hosts", "rm", "box", code=2)
    assert run.id in refused.stderr and "--yes" in refused.stderr
    asked = Terminal("hosts", "rm", "box")
    asked.until("Forget box?")
    asked.type("n\n")
    assert asked.end() == 1
    cli("hosts", "rm", "box", "--yes")
    assert "# mine" in (home / "hosts.toml").read_text() and "box" not in (home / "hosts.toml").read_text()
    assert run.path.exists()
    assert "alias" not in cli("hosts", "rm", "box", code=2).stderr


def test_what_is_no_host_is_not_saved(home: Path) -> None:
    for words in (
        ["bad name", "root@h"],
        ["local", "root@h"],
        ["box", "ssh -p 99999 root@h"],
        ["box", "root@h reboot"],
    ):
        cli("hosts", "add", *words, code=2)
    assert cli("hosts", "add", "box", "root@h", "--ends", "soon", code=2)
    assert js("hosts", "ls") == []
    assert "no host" in cli("gpu", "nowhere", code=2).stderr and cli("tmux", "nowhere", "ls", code=2)


def test_a_living_record_is_believed_and_an_old_one_is_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = home.parent / "config"
    config.write_text("Host box\n  HostName 127.0.0.1\n  Port 1\n  UserKnownHostsFile /dev/null\n")
    monkeypatch.setenv("WAVEDECK_SSH_CONFIG", str(config))
    cli("hosts", "add", "box", code=3)
    record = LinkRecord(1, time.time(), LinkState.SLOW, reason="no answer for 4 s", latency_ms=12.5, since=5.0)
    path = home / "hosts" / "box" / "link.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(record))
    (row,) = js("hosts", "ls")
    assert (row["link"], row["latency_ms"], row["since"], row["reason"]) == ("slow", 12.5, 5.0, "no answer for 4 s")
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, written=time.time() - 60)))
    assert js("hosts", "ls")[0]["link"] == "reconnecting"


def test_check_names_what_is_missing_and_how_it_is_mended(sshd: Sshd, tmp_path: Path) -> None:  # noqa: F811
    cli("hosts", "add", "box", sshd.name)
    found = {finding["what"]: finding for finding in js("hosts", "check", "box", code=None)}
    assert found["login shell"]["state"] == "ok" and found["python3"]["state"] == "ok"
    assert found["tmux"]["state"] == "ok" and set(found["tmux"]) == {"what", "state", "found", "fix"}
    (sshd.account / ".bashrc").write_text("echo Welcome to your instance\n")
    loud = cli("hosts", "check", "box", code=1)
    assert "✗ bad" in loud.stdout and "Welcome to your instance" in loud.stdout and "→" in loud.stdout
    assert "python3" in loud.stdout and "tmux 3" in loud.stdout  # the noise spoils no other answer


def test_check_without_python_or_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "bash", "date", "df", "id", "true", "test", "apt-get"):
        real = shutil.which(name)
        if real:
            (tools / name).symlink_to(real)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with Sshd("bare", env={"PATH": str(tools)}) as server:
        monkeypatch.setenv("WAVEDECK_SSH_CONFIG", str(server.ssh_config))
        found = {finding["what"]: finding for finding in js("hosts", "check", "bare", code=1)}
    assert found["python3"]["state"] == found["tmux"]["state"] == found["rsync"]["state"] == "missing"
    assert found["tmux"]["fix"].endswith("install -y tmux rsync") and found["disk"]["state"]


SMI = """#!/bin/sh
case "$*" in
*query-compute-apps*) cat {apps} ;;
*) sleep {wakes}; cat {rows}; case "$*" in *-l*) exec sleep 1000 ;; esac ;;
esac
"""


def fake_smi(place: Path, rows: str, apps: str, wakes: float = 0) -> None:
    """An nvidia-smi of a driver that takes `wakes` seconds to wake up."""
    place.mkdir(parents=True, exist_ok=True)
    script = place / "nvidia-smi"
    files = {"rows": RECORDINGS / f"{rows}.txt", "apps": RECORDINGS / f"{apps}.txt"}
    script.write_text(SMI.format(wakes=wakes, **files))
    script.chmod(0o755)


def test_gpus_of_this_machine_and_of_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path / "here", "geforce_units_and_na", "apps_desktop_with_units")
    fake_smi(tmp_path / "there", "one_lost_status0", "apps_2xh100", wakes=3)  # as without persistence mode
    path = os.environ["PATH"]
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with Sshd("gpu1", env={"PATH": f"{tmp_path / 'there'}:{path}"}) as server:
        monkeypatch.setenv("WAVEDECK_SSH_CONFIG", str(server.ssh_config))
        added = cli("hosts", "add", "gpu1")
        assert "NVIDIA H100" in added.stdout and "first reading after" in added.stdout
        monkeypatch.setenv("PATH", f"{tmp_path / 'here'}:{path}")
        rows = js("gpu")
        keys = ["host", "index", "name", "utilization_pct", "memory_used_mib", "memory_total_mib", "temperature_c",
                "power_w", "power_limit_w", "run"]  # fmt: skip
        assert all(list(row)[:10] == keys for row in rows)
        assert [(row["host"], row["index"], row["error"]) for row in rows] == [
            ("local", 0, None), ("gpu1", 0, None), ("gpu1", 1, "fell off the bus"),
        ]  # fmt: skip
        assert (rows[1]["utilization_pct"], rows[1]["power_limit_w"]) == (98, 700)
        table = cli("gpu", "gpu1").stdout
        assert "NVIDIA H100" in table and "fell off the bus" in table
        following = Terminal("gpu", "-f")
        following.until("NVIDIA H100")
        following.until("98%")
        following.type("\x03")
        assert following.end() == 130


def test_a_follower_writes_one_list_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, "one_shot_2xh100", "apps_2xh100")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert "--json" in cli("gpu", "-f", code=2).stderr
    process = subprocess.Popen([sys.executable, "-m", "wavedeck", "gpu", "local", "-f", "--json"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    assert process.stdout is not None
    for _ in range(2):
        assert [row["index"] for row in json.loads(process.stdout.readline())] == [0, 1]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_a_gpu_belongs_to_the_run_that_holds_most_of_it() -> None:
    gpus = (GpuReading(index=0, name="A"), GpuReading(index=1, name="A", lost=True))
    processes = (
        GpuProcess(0, 10, 500.0, run="20261120-1759-a-calm-fox"),
        GpuProcess(0, 11, 9000.0, run="20261120-1759-b-brisk-heron"),
        GpuProcess(0, 12, 90000.0),
    )
    first, second = rows_of("gpu1", gpus, processes, None)
    assert first.run == "20261120-1759-b-brisk-heron" and second.run is None and second.error == "fell off the bus"
    (none,) = rows_of("gpu1", (), (), None)
    assert none.index is None and none.error == "no GPU"


def test_sessions_here_and_there(sshd: Sshd) -> None:  # noqa: F811
    cli("hosts", "add", "box", sshd.name)
    assert js("tmux") == []
    made = js("tmux", "box", "new", "work")
    assert (made["host"], made["name"], made["ours"]) == ("box", "work", False)
    js("tmux", "new", "train-10")
    assert {(row["host"], row["name"]) for row in js("tmux", "ls")} == {("box", "work"), ("local", "train-10")}
    assert "work" in cli("tmux", "box").stdout and "yours" in cli("tmux", "box").stdout
    assert "there is no tmux session" in cli("tmux", "kill", "train-1", "--yes", code=2).stderr
    assert "cannot be a tmux name" in cli("tmux", "box", "rename", "work", "#(touch x)", code=2).stderr
    assert js("tmux", "box", "rename", "work", "other")["name"] == "other"
    assert "needs a yes" in cli("tmux", "box", "kill", "other", code=2).stderr
    asked = Terminal("tmux", "box", "kill", "other")
    asked.until("End other on box?")
    asked.type("n\n")
    assert asked.end() == 1
    assert js("tmux", "box", "kill", "other", "--yes") == {"host": "box", "killed": "other"}
    assert js("tmux", "box", "ls") == []
    assert "needs a terminal" in cli("tmux", "attach", "train-10", code=1).stderr


@pytest.mark.parametrize("where", ["local", "box"])
def test_attaching_and_coming_back(where: str, sshd: Sshd) -> None:  # noqa: F811
    cli("hosts", "add", "box", sshd.name)
    js("tmux", where, "new", "work")
    terminal = Terminal("tmux", where, "attach")
    terminal.until("[work]")
    terminal.type("echo $((40 + 2))-here\n")
    terminal.until("42-here")
    environ = dict(os.environ) if where == "local" else {**os.environ, "TMUX_TMPDIR": str(sshd.root)}
    subprocess.run(["tmux", "-L", "default", "detach-client", "-s", "=work"], env=environ, timeout=10, check=True)
    assert terminal.end() == 0
    assert [row["name"] for row in js("tmux", where, "ls")] == ["work"]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("", (None, "ls", [])),
        ("ls", (None, "ls", [])),
        ("gpu1", ("gpu1", "ls", [])),
        ("gpu1 ls", ("gpu1", "ls", [])),
        ("attach", (None, "attach", [])),
        ("gpu1 attach work", ("gpu1", "attach", ["work"])),
        ("rename a b", (None, "rename", ["a", "b"])),
        ("gpu1 kill", None),
        ("gpu1 kil work", None),
        ("gpu1 ls work", None),
        ("rename a", None),
    ],
)
def test_words_of_tmux(words: str, meant: tuple[str | None, str, list[str]] | None) -> None:
    if meant is None:
        with pytest.raises(UsageError):
            understand(words.split())
    else:
        assert understand(words.split()) == meant


def test_help_and_completion_stay_light(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; from wavedeck.app.cli.main import app; print([m for m in sys.modules if m in HEAVY])"
    heavy = "{'asyncssh', 'textual', 'numpy', 'torch', 'rich.table', 'tomlkit', 'asyncio'}"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("HEAVY", heavy)], capture_output=True, text=True, timeout=60
    )
    loaded = json.loads(done.stdout.replace("'", '"'))
    assert "asyncssh" not in loaded and "textual" not in loaded and "torch" not in loaded and "tomlkit" not in loaded
    home.mkdir(parents=True)
    (home / "hosts.toml").write_text('[gpu1]\nssh = ["root@h"]\n[gpu2]\n[lab]\n')
    monkeypatch.setenv("WAVEDECK_SSH_CONFIG", "/dev/null")
    from wavedeck.app.cli.hosts import complete_host

    assert complete_host("gpu") == ["gpu1", "gpu2"] and complete_host("lo") == ["local"]
    (home / "hosts.toml").write_text("[gpu1")
    assert complete_host("") == ["local"]


def test_every_page_of_help_is_there() -> None:
    for words in (["hosts"], ["hosts", "add"], ["hosts", "check"], ["hosts", "trust"], ["gpu"], ["tmux"]):
        assert f"wavedeck {' '.join(words)} [" in cli(*words, "--help").stdout
