"""The supervisor as a real process on real ptys: endings, stops, floods, hang-ups, full disks."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from wavedeck.engine.files import create_exclusive
from wavedeck.engine.manifest import Attempt, StopRequest, encode, write_record
from wavedeck.engine.rundir import RunDir
from wavedeck.remote import local
from wavedeck.remote.payload.records import claim_attempt

Supervise = Callable[..., "Supervised"]  # type: ignore[name-defined]  # noqa: F821
PYTHON = [sys.executable, "-IS", "-c"]
PAYLOAD = local.SUPERVISOR.parent
# One after the other: the kernel counts out-of-memory kills for the whole machine, and one test has it do one.
pytestmark = pytest.mark.xdist_group("supervisor")

STUBBORN = """
import signal, time
for name in ("SIGINT", "SIGTERM"):
    signal.signal(getattr(signal, name), lambda *_, name=name: print("got", name, flush=True))
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""
SAVING = """
import time
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("saved", flush=True)
"""


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


# --- how it ended


def test_an_exit_code_is_recorded_with_output_and_last_lines(supervise: Supervise) -> None:
    run = supervise(sh("echo out; echo err >&2; exit 7"))
    ended = run.ended()
    assert (ended.exit_code, ended.signal, ended.stop_requested, ended.error) == (7, None, False, None)
    assert run.console() == b"out\r\nerr\r\n"
    assert ended.tail == ["out", "err"]
    assert ended.started is not None and ended.started <= ended.ended
    record = run.record()
    assert record.pid == run.process.pid and record.child == ended.pid and record.boot_id


def test_what_the_trainer_is_given(supervise: Supervise, run_dir: RunDir) -> None:
    script = "tty; stty size; pwd; env"
    environ = {"PATH": os.environ["PATH"], "FROM_LAUNCHER": "yes", "TMUX": "/x", "COLUMNS": "9"}
    run = supervise(sh(script), environ=environ, cwd="/usr", env={"OWN": "1"}, columns=91, rows=33, resume=True)
    run.ended()
    lines = run.console().decode().splitlines()
    assert lines[0].startswith("/dev/") and lines[1:3] == ["33 91", "/usr"]
    assert {
        "FROM_LAUNCHER=yes",
        "OWN=1",
        f"WAVEDECK_RUN_DIR={run_dir.path}",
        f"WAVEDECK_RUN_ID={run_dir.id}",
        "WAVEDECK_ATTEMPT=1",
        "WAVEDECK_RESUME=1",
        "PYTHONUNBUFFERED=1",
        "TERM=xterm-256color",
        "OMP_NUM_THREADS=1",
    } <= set(lines)
    assert not any(line.startswith(("TMUX=", "COLUMNS=")) for line in lines)


def test_threads_chosen_by_the_user_are_kept(supervise: Supervise) -> None:
    run = supervise(sh("echo threads $OMP_NUM_THREADS"), environ={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "6"})
    assert run.ended().tail == ["threads 6"]


def test_a_killed_trainer_has_signal_9(supervise: Supervise) -> None:
    run = supervise(sh("echo ready; exec sleep 60"))
    run.printed(b"ready")
    os.kill(run.record().child, signal.SIGKILL)
    ended = run.ended()
    assert (ended.exit_code, ended.signal, ended.oom_killed, ended.stop_requested) == (None, 9, False, False)


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda p: (["no-such-program-here"], "/"), 127, "command not found"),
        (lambda p: ([str(p / "missing")], "/"), 127, "command not found"),
        (lambda p: (["true"], str(p / "gone")), 127, "working directory"),
        (lambda p: ([_file(p, "plain.py", "print(1)", 0o644)], "/"), 126, "permission denied"),
        (lambda p: ([_file(p, "bare", "print(1)", 0o755)], "/"), 126, "must name an interpreter"),
        (lambda p: ([_file(p, "lost", "#!/no/such/python\n", 0o755)], "/"), 127, "interpreter its first line"),
        (lambda p: ([_file(p, "run.sh", "#!/bin/sh\n", 0o755) and "run.sh"], str(p)), 127, "write ./run.sh"),
        (lambda p: ([], "/"), 127, "no command"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_start_says_why(
    supervise: Supervise, tmp_path: Path, make: Callable[[Path], tuple[list[str], str]], code: int, words: str
) -> None:
    argv, cwd = make(tmp_path)
    run = supervise(argv, cwd=cwd)
    ended = run.ended()
    assert ended.exit_code == code and words in (ended.error or "")
    assert not run.run.supervisor.exists()


def _file(folder: Path, name: str, text: str, mode: int) -> str:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("counter_name", "ending", "blamed"),
    [
        ("memory.events", "echo oom_kill 4 > {f}; kill -9 $$", True),
        ("memory.events", "kill -9 $$", False),
        ("memory.events", "echo oom_kill 4 > {f}; exit 1", True),  # torchrun, when it lost a worker
        ("memory.events", "echo oom_kill 4 > {f}; exit 0", False),
        ("vmstat", "echo oom_kill 4 > {f}; sh -c 'kill -9 $$'; exit $?", True),  # a wrapper says 137
        ("vmstat", "echo oom_kill 4 > {f}; exit 1", False),
        ("vmstat", "echo oom_kill 4 > {f}; kill -15 $$", False),
    ],
)
def test_an_out_of_memory_kill_is_recognised(
    supervise: Supervise, tmp_path: Path, counter_name: str, ending: str, blamed: bool
) -> None:
    counter = tmp_path / counter_name
    counter.write_text("low 0\noom 3\noom_kill 3\n")
    driver = (
        f"import sys; sys.path.insert(0, {str(PAYLOAD.parent)!r}); from payload.supervisor import Supervisor;"
        f"sys.exit(Supervisor(sys.argv[1], int(sys.argv[2]), oom_files=[{str(counter)!r}]).run())"
    )
    run = supervise(sh(ending.format(f=counter)), script=[*PYTHON, driver])
    ended = run.ended()
    assert ended.oom_killed is blamed


def test_a_real_out_of_memory_kill(supervise: Supervise, memory_group: Path) -> None:
    eater = "x = [bytearray(1 << 20) for _ in range(400)]"
    run = supervise(sh(f"echo $$ > {memory_group}/cgroup.procs && exec {sys.executable} -IS -c '{eater}'"))
    ended = run.ended()
    assert ended.signal == 9 and ended.oom_killed


@pytest.fixture
def memory_group(tmp_path: Path) -> Iterator[Path]:
    """A control group that allows 64 MiB; skipped where this user may not make one."""
    root = next(
        (p for p in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")) if (p / "cgroup.procs").exists()), None
    )
    if root is None:
        pytest.skip("no control groups here")
    group = root / f"wd-test-{os.getpid()}-{time.monotonic_ns()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error}")
    try:
        limit = next((group / n for n in ("memory.limit_in_bytes", "memory.max") if (group / n).exists()), None)
        if limit is None:
            pytest.skip("the memory controller is not available here")
        limit.write_text(str(64 << 20))
        yield group
    except OSError as error:
        pytest.skip(f"the limit cannot be set here: {error}")
    finally:
        group.rmdir()


# --- stops


def test_a_trainer_that_saves_on_sigint_ends_by_itself(supervise: Supervise) -> None:
    run = supervise([*PYTHON, SAVING])
    run.printed(b"ready")
    write_record(run.run.stop, StopRequest(1, time.time()))
    ended = run.ended()
    assert (ended.exit_code, ended.signal, ended.stop_requested) == (0, None, True)
    assert "saved" in ended.tail


def test_a_stubborn_trainer_is_killed_in_the_end(supervise: Supervise) -> None:
    run = supervise([*PYTHON, STUBBORN], grace_s=[0.2, 0.2])
    run.printed(b"ready")
    write_record(run.run.stop, StopRequest(1, time.time()))
    ended = run.ended()
    assert (ended.signal, ended.stop_requested, ended.oom_killed) == (9, True, False)
    assert ended.tail == ["ready", "got SIGINT", "got SIGTERM"]


def test_sigterm_to_the_supervisor_is_a_stop_request(supervise: Supervise) -> None:
    run = supervise([*PYTHON, SAVING])
    run.printed(b"ready")
    run.process.terminate()
    ended = run.ended()
    assert (ended.exit_code, ended.stop_requested) == (0, True)


def test_a_stop_of_an_earlier_attempt_does_not_stop_this_one(supervise: Supervise, run_dir: RunDir) -> None:
    write_record(run_dir.stop, StopRequest(1, time.time()))
    run = supervise(sh("echo ready; read line; exit 5"), number=2, popen={"stdin": subprocess.DEVNULL})
    run.printed(b"ready")
    seen_by = time.monotonic() + 0.6
    while time.monotonic() < seen_by and not run.run.exit.exists():
        os.sched_yield()
    assert not run.run.exit.exists()
    write_record(run_dir.stop, StopRequest(2, time.time()))
    assert run.ended().stop_requested


def test_a_suspended_trainer_can_be_stopped(supervise: Supervise) -> None:
    run = supervise([*PYTHON, SAVING])
    run.printed(b"ready")
    os.kill(run.record().child, signal.SIGSTOP)
    write_record(run.run.stop, StopRequest(1, time.time()))
    assert run.ended().exit_code == 0


# --- what outlives what


def test_leftovers_of_the_group_are_killed(supervise: Supervise, wait_for: Callable[..., object]) -> None:
    run = supervise(sh("sleep 1000 & echo pid $!; exit 0"))
    ended = run.ended()
    pid = int(ended.tail[0].split()[1])
    assert ended.exit_code == 0
    wait_for(lambda: not _lives(pid), what="the leftover's end")


def test_workers_in_sessions_of_their_own_die_with_a_killed_launcher(
    supervise: Supervise, wait_for: Callable[..., object]
) -> None:
    worker = "import os,time; os.setsid(); print('worker', os.getpid(), flush=True); time.sleep(1000)"
    run = supervise(sh(f'{sys.executable} -IS -c "{worker}" & wait'))
    run.printed(b"worker")
    os.kill(run.record().child, signal.SIGKILL)
    assert run.ended().signal == 9
    pid = int(run.console().split()[1])
    wait_for(lambda: not _lives(pid), what="the worker's end")


def test_killing_the_supervisor_hangs_up_on_the_trainer(supervise: Supervise, wait_for: Callable[..., object]) -> None:
    run = supervise(sh("echo ready; exec sleep 1000"))
    run.printed(b"ready")
    child = run.record().child
    helpers = [p.pid for p in psutil.Process(run.process.pid).children() if p.pid != child]
    run.process.kill()
    wait_for(lambda: not _lives(child), what="the trainer's end")
    wait_for(lambda: not any(_lives(pid) for pid in helpers), what="the companion's end")
    assert helpers and not run.run.exit.exists()


def test_the_death_of_the_companion_harms_nothing(supervise: Supervise, tmp_path: Path) -> None:
    go = tmp_path / "go"
    run = supervise(sh(f"echo ready; while [ ! -e {go} ]; do sleep 0.05; done; exit 4"))
    run.printed(b"ready")
    child = run.record().child
    (companion,) = [p for p in psutil.Process(run.process.pid).children() if p.pid != child]
    companion.kill()
    go.touch()
    assert run.ended().exit_code == 4


def test_the_same_attempt_never_runs_twice(supervise: Supervise) -> None:
    run = supervise(sh("echo ready; exec sleep 60"))
    run.printed(b"ready")
    again = [sys.executable, "-IS", str(local.SUPERVISOR), str(run.run.path), "1"]
    assert subprocess.run(again, capture_output=True, timeout=20).returncode == 3
    os.kill(run.record().child, signal.SIGKILL)
    run.ended()
    assert subprocess.run(again, capture_output=True, timeout=20).returncode == 3


def test_a_supervisor_without_the_environment_it_was_promised_starts_nothing(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "hand_over", lambda *_: None)
    run = supervise(sh("echo ran"))
    ended = run.ended()
    assert ended.error == "the launch was cut short before its environment arrived: launch it again."
    assert ended.exit_code == 127 and run.console() == b"" and not run.run.supervisor.exists()


def test_a_supervisor_that_comes_after_a_resume_writes_nothing(supervise: Supervise, run_dir: RunDir) -> None:
    """Its launcher was killed and it took so long to start that the next attempt was asked for."""
    late = Attempt(attempt=2, requested=time.time(), argv=["true"], cwd="/")
    assert create_exclusive(run_dir.attempt(2), encode(late))
    run = supervise(sh("echo ran"))
    assert run.process.wait(20) == 3
    left = sorted(path.name for path in run_dir.path.rglob("*") if path.is_file())
    assert left == [".env-0001", ".lock", "0001.json", "0002.json"]


def test_the_next_attempt_waits_for_the_supervisor_before(
    supervise: Supervise, run_dir: RunDir, wait_for: Callable[..., object]
) -> None:
    first = supervise(sh("echo ready; exec sleep 60"))
    first.printed(b"ready")
    child = first.record().child
    second = supervise(sh(f"kill -0 {child} && echo both || echo alone"), number=2)
    lock = str(run_dir.attempts / ".lock")
    wait_for(
        lambda: (
            second.process.poll() is not None
            or lock in [f.path for f in psutil.Process(second.process.pid).open_files()]
        ),
        what="the second supervisor at the lock",
    )
    os.kill(child, signal.SIGKILL)
    assert second.ended().tail[-1] == "alone" and first.process.wait(10) == 0


def test_a_run_whose_supervisor_lives_is_not_claimed_again(run_dir: RunDir) -> None:
    for number in (1, 2):
        run_dir.attempt(number).write_text("{}")
    held = claim_attempt(str(run_dir.path), 2)
    assert held is not None
    run_dir.attempt(3).write_text("{}")
    assert claim_attempt(str(run_dir.path), 3, wait_s=0.1) is None
    for descriptor in held:
        os.close(descriptor)
    last = claim_attempt(str(run_dir.path), 3, wait_s=0.1)
    assert last is not None
    for descriptor in last:
        os.close(descriptor)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# --- output


def test_bytes_arrive_as_they_were_printed(supervise: Supervise) -> None:
    data = bytes(range(256)) * 20 + b"\xff\xfe\xc3(\n" + "größe ✓\n".encode()
    code = f"import os, tty; tty.setraw(1); d = bytes.fromhex('{data.hex()}')\nwhile d: d = d[os.write(1, d):]"
    run = supervise([*PYTHON, code])
    ended = run.ended()
    assert run.console() == data
    assert ended.tail[-1] == "größe ✓" and all(line.isprintable() for line in ended.tail)


def test_a_flood_is_kept_whole_and_does_not_hold_the_end_up(supervise: Supervise) -> None:
    """30 MB as fast as the pty takes it, which is far above 100 MB a minute, with the console parsed meanwhile."""
    code = "import os\nline = b'step 1 loss=0.5 ' + b'x' * 84\nfor _ in range(3000): os.write(1, (line + b'\\n') * 100)"
    run = supervise([*PYTHON, code + "\nprint('the end')"], parse_console=True)
    began = time.monotonic()
    ended = run.ended()
    assert ended.exit_code == 0 and ended.tail[-1] == "the end"
    assert len(run.console()) == 3000 * 100 * 102 + len(b"the end\r\n")
    assert time.monotonic() - began < 18  # the 100 MB/min that must be kept up with are 30 MB in 18 s


def test_a_progress_bar_leaves_its_last_state_in_the_tail(supervise: Supervise) -> None:
    run = supervise(sh(r"printf 'epoch 1:  10%%\r\033[Kepoch 1:  90%%\r\n\033[31mTraceback\033[0m\nboom'; exit 1"))
    assert run.ended().tail == ["epoch 1:  90%", "Traceback", "boom"]


def test_output_of_a_resume_is_appended(supervise: Supervise) -> None:
    supervise(sh("echo first")).ended()
    second = supervise(sh("echo second"), number=2)
    assert second.ended().tail == ["second"]
    assert second.console() == b"first\r\nsecond\r\n"


# --- the terminal


def _terminal() -> tuple[int, int]:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    os.set_blocking(master, False)
    return master, slave


def _shown(master: int, seen: bytearray) -> bytes:
    with contextlib.suppress(OSError):
        seen += os.read(master, 65536)
    return bytes(seen)


def test_keys_output_and_size_pass_through_the_terminal(supervise: Supervise, wait_for: Callable[..., object]) -> None:
    master, slave = _terminal()

    def take() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    script = "trap 'stty size' WINCH; echo ready; read line; echo got $line; while :; do sleep 0.05; done"
    run = supervise(sh(script), popen={"stdin": slave, "stdout": slave, "preexec_fn": take})
    os.close(slave)
    seen = bytearray()
    wait_for(lambda: b"ready" in _shown(master, seen), what="output on the terminal")
    os.write(master, b"hello\r")
    wait_for(lambda: b"got hello" in _shown(master, seen), what="typed text")
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 133, 0, 0))
    wait_for(lambda: b"44 133" in _shown(master, seen), what="the new size")
    os.write(master, b"\x03")
    ended = run.ended()
    os.close(master)
    assert ended.signal == signal.SIGINT and not ended.stop_requested


def test_a_terminal_that_hangs_up_costs_nothing(supervise: Supervise, tmp_path: Path) -> None:
    master, slave = _terminal()
    go = tmp_path / "go"

    def take() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    script = f"echo ready; while [ ! -e {go} ]; do sleep 0.05; done; echo after; exit 6"
    run = supervise(sh(script), popen={"stdin": slave, "stdout": slave, "preexec_fn": take})
    os.close(slave)
    run.printed(b"ready")
    os.close(master)
    go.touch()
    assert run.ended().exit_code == 6
    assert run.console().endswith(b"after\r\n")


def test_a_terminal_that_nobody_reads_does_not_stop_the_training(supervise: Supervise) -> None:
    master, slave = _terminal()
    code = "import os\nfor _ in range(2000): os.write(1, b'y' * 999 + b'\\n')"
    run = supervise([*PYTHON, code], popen={"stdin": slave, "stdout": slave})
    os.close(slave)
    assert run.ended().exit_code == 0
    os.close(master)
    assert len(run.console()) == 2000 * 1001


# --- full disks


def test_a_file_that_may_not_grow_drops_bytes_and_the_training_goes_on(supervise: Supervise) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    code = "import os\nfor _ in range(1000): os.write(1, b'y' * 999 + b'\\n')\nprint('done')"
    run = supervise([*PYTHON, code], popen={"preexec_fn": small_files})
    ended = run.ended()
    assert ended.exit_code == 0 and ended.tail[-1] == "done"
    assert len(run.console()) == 100_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB; only root may have one."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(mount)], capture_output=True)
    if done.returncode:
        pytest.skip("only root can mount a small disk")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_full_disk_costs_output_and_neither_the_training_nor_its_end(supervise: Supervise, small_disk: Path) -> None:
    run_dir = RunDir(small_disk / "20261120-1759-full-calm-otter")
    run_dir.attempts.mkdir(parents=True)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"b" * 40_000)
    code = f"""
import os, time
for _ in range(400): os.write(1, b'y' * 999 + b'\\n')
open({str(small_disk.parent / "filled")!r}, 'w').close()
while not os.path.exists({str(small_disk.parent / "go")!r}): time.sleep(0.02)
print('after', flush=True)
time.sleep(1)
print('again', flush=True)
while os.path.exists({str(small_disk.parent / "go")!r}): os.write(1, b'z' * 999 + b'\\n')
"""
    run = supervise([*PYTHON, code], run=run_dir)
    while not (small_disk.parent / "filled").exists():
        assert run.process.poll() is None
        time.sleep(0.01)
    ballast.unlink()
    (small_disk.parent / "go").touch()
    run.printed(b"bytes of output are missing here: No space left on device]\r\n")
    run.printed(b"again\r\n")
    deadline = time.monotonic() + 20
    while os.statvfs(small_disk).f_bavail and time.monotonic() < deadline:
        time.sleep(0.01)
    (small_disk.parent / "go").unlink()
    ended = run.ended()
    assert ended.exit_code == 0 and os.statvfs(small_disk).f_bavail * 4096 < 40_000


# --- the payload as such


@pytest.mark.parametrize("path", sorted(PAYLOAD.glob("*.py")), ids=lambda path: path.name)
def test_the_payload_is_python_3_8_and_standard_library(path: Path) -> None:
    module = ast.parse(path.read_text(), feature_version=(3, 8))
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        else:
            continue
        for name in names:
            top = name.partition(".")[0]
            assert top in sys.stdlib_module_names or (PAYLOAD / f"{top}.py").exists(), f"{path.name} imports {name}"


def test_records_are_strict_json_that_other_tools_read(supervise: Supervise) -> None:
    run = supervise(sh("exit 0"))
    run.ended()
    assert json.loads(run.run.exit.read_text())["exit_code"] == 0
    assert not list(run.run.attempts.glob(".env-*")) and not list(run.run.path.glob(".*"))
