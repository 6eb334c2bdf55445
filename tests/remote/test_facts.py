"""Eighteen facts about ssh, tmux, rsync and drivers that break a design which does not know them.

Each was seen to happen. The table below the imports says which tests would fail if our code fell for it.

 1. asyncssh ends a command normally, without a status, when the line breaks.
 2. Without keepalive a dead line hangs for ever.
 3. tmux expands formats in names: `#(command)` runs it.
 4. tmux targets match by prefix.
 5. What `tmux new-session -e` was given stays readable in `ps`; sshd drops variables it was not told to accept.
 6. Signals over an ssh channel do not reach what root runs.
 7. What was started over ssh without a terminal outlives the connection.
 8. Each exec channel starts a login shell, whose `.bashrc` may be slow and may speak.
 9. rsync takes a half-written file for a good one; changed in place it arrives torn.
10. `--append`, `--append-verify`, `--inplace`, `--delay-updates` each make a wrong file look right.
11. An rsync that is killed leaves its temporary file for ever.
12. A copy is good only when it was compared with what its producer says.
13. The size of the copy is the offset to go on from: then nothing is lost or repeated.
14. One unknown field fails the whole query of nvidia-smi.
15. nvidia-smi goes on streaming when a GPU is gone, even without its index, and says errors on stdout.
16. Inside a container the driver cannot say which process uses a GPU: that says nothing about who lives.
17. torchrun's workers outlive it, and hold their GPUs.
18. `pkill -f` over ssh matches the shell that runs it.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

import wavedeck
from wavedeck.engine.hosts import LinkState
from wavedeck.engine.manifest import Attempt, Manifest
from wavedeck.engine.rundir import Home
from wavedeck.remote import operations
from wavedeck.remote.fleet import Fleet
from wavedeck.remote.link import Link, Rhythm
from wavedeck.remote.provision import push
from wavedeck.remote.ssh.connection import Pulse
from wavedeck.tests.servers.sshd import CONFIG_VARIABLE, Sshd

ROOT = Path(wavedeck.__file__).parent
ROOMS = ("app", "engine", "remote", "widgets", "recipes")
RECORDINGS = ROOT / "tests" / "recordings" / "nvidia_smi"
RUN_ID = "20261120-1759-drums-brisk-heron"
SECRET = "s3cr3t-value-of-a-key"
QUICK = Rhythm(ping_s=0.2, lock_s=0.05)

SHOWN_BY: dict[int, tuple[str, ...]] = {
    1: (
        "ssh.test_connection.test_a_command_on_a_killed_connection_is_lost",
        "ssh.test_rsh.test_a_broken_line_is_no_success",
        "test_link.test_a_lost_link_is_never_a_success",
    ),
    2: (
        "ssh.test_connection.test_a_dead_line_is_noticed",
        "test_link.test_half_open_is_noticed_and_heals",
        "test_facts.test_a_dead_line_is_noticed_within_fifteen_seconds_by_default",
    ),
    3: (
        "test_tmux.test_names_that_tmux_would_read_more_into_are_refused",
        "test_sessions.test_hostile_names_are_refused_for_what_we_name",
    ),
    4: ("test_tmux.test_targets_do_not_match_by_prefix", "test_sessions.test_one_never_means_ten"),
    5: ("test_operations.test_no_secret_stays_anywhere", "test_facts.test_a_secret_travels_and_nobody_sees_it"),
    6: (
        "test_host_contract.test_cancelling_ends_the_command",
        "test_host_contract.test_what_takes_too_long_is_ended_with_its_children",
        "test_facts.test_every_signal_goes_to_a_process_known_to_be_ours",
    ),
    7: ("test_link.test_nothing_of_ours_is_left_there", "payload.test_agent.test_it_leaves_no_process"),
    8: (
        "payload.test_agent_command.test_noise_of_the_login_shell_and_files_beside_it_do_no_harm",
        "test_preflight.test_a_login_shell_that_speaks_is_bad_news",
        "test_facts.test_a_slow_and_loud_login_shell_is_paid_for_once",
    ),
    9: (
        "provision.test_push.test_a_file_that_vanishes_fails_the_push",
        "test_facts.test_code_is_sent_with_these_words_and_no_others",
    ),
    10: ("test_facts.test_code_is_sent_with_these_words_and_no_others", "test_facts.test_no_word_that_spoils_copies"),
    11: (
        "provision.test_push.test_a_cut_push_leaves_nothing",
        "ssh.test_rsh.test_an_rsync_that_is_killed_leaves_nothing_there",
    ),
    12: (
        "test_mirror.test_whatever_happens_the_copy_is_equal_in_the_end",
        "payload.test_agent_follow.test_a_copy_of_something_else_begins_anew",
    ),
    13: (
        "test_link.test_two_hundred_cuts_while_a_run_logs",
        "test_mirror.test_a_gap_or_an_overlap_is_asked_for_again",
        "payload.test_agent_follow.test_what_is_here_already_is_not_sent_again",
    ),
    14: ("payload.test_nvidia_rows.test_a_refused_field_is_asked_for_by_its_older_name_and_then_left_out",),
    15: (
        "payload.test_nvidia_rows.test_a_stream_in_which_a_gpu_loses_even_its_index",
        "test_nvidia_smi_recordings.test_a_stream_in_which_a_gpu_is_lost_may_be_cut_anywhere",
        "test_nvidia_smi_recordings.test_every_recorded_error_is_no_gpu_but_a_sentence",
    ),
    16: ("test_facts.test_a_driver_that_names_no_process_says_nothing_about_a_run",),
    17: ("payload.test_supervisor.test_workers_in_sessions_of_their_own_die_with_a_killed_launcher",),
    18: (
        "test_facts.test_no_word_that_kills_by_name_or_trusts_every_key",
        "test_facts.test_every_signal_goes_to_a_process_known_to_be_ours",
    ),
}


@pytest.mark.parametrize("number", range(1, 19))
def test_each_fact_is_shown_by_tests_that_exist(number: int) -> None:
    assert SHOWN_BY[number]
    for name in SHOWN_BY[number]:
        module, _, function = name.rpartition(".")
        found = importlib.import_module(f"wavedeck.tests.remote.{module}")
        assert callable(getattr(found, function, None)), f"{name} is not there (any more)"


# --- on a real host


@pytest.fixture
async def link(home: Path, sshd: Sshd) -> AsyncIterator[Link]:
    """A link that is up."""
    fleet = Fleet(Home(home), rhythm=QUICK)
    yield await up(fleet)
    await fleet.close()


async def up(fleet: Fleet) -> Link:
    link = fleet.watch("gpu1")
    await until(lambda: link.state is LinkState.CONNECTED and link.mirroring, "the link")
    return link


async def until(condition: Callable[[], object], what: str) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < 20, f"waited in vain for {what}"
        await asyncio.sleep(0.01)


def attempt(script: str) -> Attempt:
    return Attempt(attempt=1, requested=time.time(), argv=["sh", "-c", script], cwd="/")


def test_a_dead_line_is_noticed_within_fifteen_seconds_by_default() -> None:
    pulse, rhythm = Pulse(), Rhythm()
    assert 0 < pulse.keepalive_s * (pulse.keepalive_count + 1) <= 15
    assert rhythm.ping_s < rhythm.slow_s < rhythm.lost_s <= 12


async def test_a_secret_travels_and_nobody_sees_it(link: Link, sshd: Sshd, home: Path) -> None:
    """sshd accepts no variables here, and `ps` shows command lines to everybody there."""
    assert "AcceptEnv" not in (sshd.root / "sshd_config").read_text()
    from wavedeck.remote.ssh_host import SshHost

    script = "echo ${#WANDB_API_KEY}; exec sleep 60"
    manifest = Manifest(id=RUN_ID, name="drums", created=time.time())
    result = await operations.launch(link.home, SshHost(link), manifest, attempt(script), {"WANDB_API_KEY": SECRET})
    assert result.supervisor is not None, result.notice
    await until(lambda: result.run.console.exists() and result.run.console.read_bytes(), "the trainer's word")
    assert result.run.console.read_bytes().split()[0] == str(len(SECRET)).encode(), "the trainer itself has it"
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert any(RUN_ID in line for line in lines) and not any(SECRET in line for line in lines)
    for place in (sshd.root, home):
        for path in place.rglob("*"):
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


async def test_a_slow_and_loud_login_shell_is_paid_for_once(home: Path, sshd: Sshd) -> None:
    """Twenty questions start no further shell there: they share the agent's channel."""
    (sshd.account / ".bashrc").write_text("echo Welcome to your instance; sleep 0.3\n")
    fleet = Fleet(Home(home), rhythm=QUICK)
    try:
        await up(fleet)
        before = sshd.log().count("Starting session: command")
        assert before >= 1
        for number in range(20):
            done = await fleet.host("gpu1").run(["echo", str(number)])
            assert done.stdout == f"{number}\n".encode() and not done.stderr
        assert sshd.log().count("Starting session: command") == before
    finally:
        await fleet.close()


async def test_a_driver_that_names_no_process_says_nothing_about_a_run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    tools = tmp_path / "bin"
    tools.mkdir()
    smi = tools / "nvidia-smi"
    rows = RECORDINGS / "one_shot_2xh100.txt"
    asked = tmp_path / "asked"
    smi.write_text(
        f'#!/bin/sh\ncase "$*" in *query-compute-apps*) echo >> {asked} ;; *) cat {rows}; '
        'case "$*" in *-l*) exec sleep 1000 ;; esac ;; esac\n'
    )
    smi.chmod(0o755)
    with Sshd(env={"PATH": f"{tools}:/usr/local/bin:/usr/bin:/bin"}) as server:
        monkeypatch.setenv(CONFIG_VARIABLE, str(server.ssh_config))
        fleet = Fleet(Home(home), rhythm=QUICK)
        try:
            link = await up(fleet)
            manifest = Manifest(id=RUN_ID, name="drums", created=time.time())
            result = await operations.launch(link.home, fleet.host("gpu1"), manifest, attempt("exec sleep 60"), {})
            assert result.supervisor is not None, result.notice
            await until(lambda: link.mirror.sign(RUN_ID) == (1, True), "the run")
            await until(lambda: asked.exists() and bool(link.view().gpus), "an empty answer")
            assert link.view().processes == () and link.mirror.sign(RUN_ID) == (1, True)
        finally:
            await fleet.close()


# --- in the source


def test_code_is_sent_with_these_words_and_no_others() -> None:
    """To an empty directory: whole files, compared by checksum, nothing changed in place and nothing deleted."""
    words = ["python", "rsh.py", "a socket"]
    argv = push.rsync_argv(b"/src", words, "gpu1:/home/.new/", "/home/before")
    assert argv == [
        "rsync", "--secluded-args", "--links", "--perms", "--times", "--checksum", "--compress", "--no-implied-dirs",
        "--from0", "--files-from=-", "--info=progress2", "--outbuf=L", "--no-human-readable",
        f"--timeout={push.STALL_S}",
        "--copy-dest=/home/before", "-e", "python rsh.py 'a socket'", "--", b"/src/", "gpu1:/home/.new/",
    ]  # fmt: skip
    assert not any("dest" in str(word) for word in push.rsync_argv(b"/src", words, "gpu1:/x/", None))


BAD_FOR_COPIES = re.compile(r"--(append(-verify)?|inplace|delete(-[a-z]+)?|delay-updates|size-only|partial)$")
BY_NAME = re.compile(r"\b(pkill|killall|pidof)\b")
TRUSTS_ALL = re.compile(r"StrictHostKeyChecking[ =]?no|UserKnownHostsFile[ =]?/dev/null|ForwardAgent[ =]?yes", re.I)


def test_no_word_that_spoils_copies() -> None:
    found = [(path.name, word) for path, word in words_in_source() if BAD_FOR_COPIES.match(word)]
    assert not found


def test_no_word_that_kills_by_name_or_trusts_every_key() -> None:
    found = [
        (str(path), word[:80]) for path, word in words_in_source() if BY_NAME.search(word) or TRUSTS_ALL.search(word)
    ]
    assert not found
    for path in (ROOT / "remote" / "payload").glob("*.sh"):
        assert not BY_NAME.search(path.read_text()), path


def test_known_hosts_are_never_none_and_nothing_is_forwarded() -> None:
    seen = 0
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            pairs = [(word.arg, word.value) for word in node.keywords] if isinstance(node, ast.Call) else []
            if isinstance(node, ast.Dict):
                pairs = [(key.value, value) for key, value in zip(node.keys, node.values, strict=True)
                         if isinstance(key, ast.Constant)]  # fmt: skip
            for name, value in pairs:
                if name == "known_hosts":
                    seen += 1
                    assert not isinstance(value, ast.Constant), (
                        f"{path.name}:{value.lineno}: the host key is not checked"
                    )
                elif name in ("agent_forwarding", "x11_forwarding"):
                    assert isinstance(value, ast.Constant) and value.value is False, f"{path.name}:{value.lineno}"
    assert seen, "the login says which keys it trusts"


SIGNALS: dict[str, str] = {
    "remote/alerts/sinks.py _kill_group": "a child and its group",
    "remote/backup/state.py fresh": "signal 0, only a question",
    "remote/backup/worker.py stop": "a child",
    "remote/link_news.py is_fresh": "signal 0, only a question",
    "remote/local.py _end": "a child that was not waited for: its pid is nobody else's",
    "remote/payload/agent_host.py _versions": "a child",
    "remote/payload/agent_jobs.py _finish": "a child and its group",
    "remote/payload/agent_living.py _exists": "signal 0, only a question",
    "remote/payload/child.py signal_group": "the trainer, a child and the leader of its group",
    "remote/payload/child.py group_exists": "signal 0, only a question",
    "remote/payload/child.py kill_strays": "processes whose environment names this run and attempt",
    "remote/payload/end_orphan.py end": "a trainer whose environment names this run, and its group",
    "remote/payload/gpu_stream.py _kill": "a child and its group",
    "remote/payload/helper.py close": "a child",
    "remote/payload/preflight_facts.py _killed": "a child and its group",
    "remote/rsync.py _end": "a child and its group",
}
"""Every place in the source that signals a process, and why that process is ours."""


def test_every_signal_goes_to_a_process_known_to_be_ours() -> None:
    """No pid is found by a pattern or read from a file and then killed. A new place is thought about and listed."""
    found = set()
    for path in sources():
        if "playback" in path.parts:
            continue  # its child is its own, and has its own tests
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Call) and signals(node.func):
                        found.add(f"{path.relative_to(ROOT)} {function.name}")
    assert found == set(SIGNALS)


def signals(function: ast.expr) -> bool:
    """Whether a call ends or signals a process; `kill` of a tmux session is none."""
    if not isinstance(function, ast.Attribute) or function.attr not in ("kill", "killpg", "terminate", "send_signal"):
        return False
    return ast.unparse(function.value) not in ("sessions", "self._commands")


def test_a_channel_signal_is_never_relied_upon() -> None:
    """Nothing in the ssh room sends one: what is to end is ended by the agent, or by itself when its input ends."""
    for path in (ROOT / "remote" / "ssh").glob("*.py"):
        assert not re.search(r"\.(terminate|send_signal)\(", path.read_text()), path


def test_no_variable_is_handed_to_tmux_or_to_a_channel() -> None:
    """`new-session -e` and `env=` on a channel: neither occurs. Environments go in files that only their user reads."""
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.List | ast.Tuple):
                words = [item.value for item in node.elts if isinstance(item, ast.Constant)]
                assert not ("new-session" in words and "-e" in words), f"{path.name}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("create_process"):
                assert not {"env", "send_env"} & {word.arg for word in node.keywords}, f"{path.name}:{node.lineno}"


def sources() -> Iterator[Path]:
    """Every module that ships."""
    for room in ROOMS:
        yield from sorted((ROOT / room).rglob("*.py"))


def words_in_source() -> Iterator[tuple[Path, str]]:
    """Every text in the source that is not a docstring."""
    for path in sources():
        tree = ast.parse(path.read_text())
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                yield path.relative_to(ROOT), node.value
