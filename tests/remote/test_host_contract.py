"""One contract, two kinds of host: what is promised by `Host` holds here and through SSH alike."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from wavedeck.engine.errors import UsageError
from wavedeck.engine.hosts import LOCAL, read_mirror
from wavedeck.engine.manifest import Attempt, ExitRecord, Manifest, SupervisorRecord, encode, read_record
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.remote import operations
from wavedeck.remote.fleet import Fleet
from wavedeck.remote.host import CommandFailed, CommandTimeout, Host, OutputTooLarge, ProgramMissing
from wavedeck.remote.link import Rhythm
from wavedeck.remote.local import LocalHost

RUN_ID = "20261120-1759-drums-brisk-heron"
SECRET = "s3cr3t-value-of-a-key"
QUICK = Rhythm(ping_s=0.2, lock_s=0.05)


@pytest.fixture(params=["local", "ssh"])
async def host(request: pytest.FixtureRequest, home: Path, tmux_socket: str) -> AsyncIterator[Host]:
    """This machine, and one behind a real sshd."""
    place = Home(home)
    if request.param == "local":
        yield LocalHost(home=place)
        return
    request.getfixturevalue("sshd")
    fleet = Fleet(place, rhythm=QUICK)
    yield fleet.host("gpu1")
    await fleet.close()


def original(host: Host, home: Path) -> RunDir:
    """The run's directory on its host."""
    root = home if host.name == LOCAL else Path(host.home)  # type: ignore[attr-defined]
    return RunDir(root / "runs" / RUN_ID)


def manifest() -> Manifest:
    return Manifest(id=RUN_ID, name="drums", created=time.time())


def attempt(script: str, **fields: object) -> Attempt:
    return Attempt(**({"attempt": 1, "requested": time.time(), "argv": ["sh", "-c", script], "cwd": "/"} | fields))  # type: ignore[arg-type]


# --- commands


async def test_a_command_runs_to_its_end(host: Host) -> None:
    large = bytes(range(256)) * 12_000 + b"end"  # more than a frame holds
    done = await host.run(["sha256sum"], stdin=large)
    assert done.stdout.split()[0].decode() == hashlib.sha256(large).hexdigest()
    done = await host.run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin=b"in \x00\xff")
    assert (done.host, done.status, done.stdout, done.stderr) == (host.name, 3, b"in \x00\xff", b"err\n")
    with pytest.raises(CommandFailed, match=r"sh failed on \S+ \(exit status 3\): err"):
        done.check()


async def test_words_arrive_as_they_are(host: Host) -> None:
    words = ["a b", "$HOME", "`id`", "'", '"', "\\", "#(touch x)", "!!", "*", "~", "-n", "", "ü", "\n", ";", "=x"]
    script = "import json, sys; print(json.dumps(sys.argv[1:]))"
    done = await host.run(["python3", "-c", script, *words])
    assert json.loads(done.stdout) == words


async def test_a_signal_is_no_success(host: Host) -> None:
    done = await host.run(["sh", "-c", "kill -9 $$"])
    assert done.status == -9
    with pytest.raises(CommandFailed, match="signal 9"):
        done.check()


async def test_it_stands_in_the_root_with_the_environment_it_was_given(host: Host) -> None:
    done = await host.run(["/bin/sh", "-c", 'echo "$PWD|$A|${HOME-none}"'], env={"A": "b c"})
    assert done.stdout == b"/|b c|none\n"
    assert (await host.run(["sh", "-c", 'test -n "$HOME" && test -n "$PATH"'])).status == 0


async def test_a_program_that_is_missing_is_named(host: Host) -> None:
    with pytest.raises(ProgramMissing, match="no-such-program cannot be started on"):
        await host.run(["no-such-program", "x"])
    with pytest.raises(ProgramMissing):
        await host.run(["/etc/passwd"])


async def test_what_takes_too_long_is_ended_with_its_children(host: Host, tmp_path: Path) -> None:
    mark = f"{3000 + os.getpid() % 500}.25"
    with pytest.raises(CommandTimeout, match=r"did not answer within 0\.3 s"):
        await host.run(["sh", "-c", f"sleep {mark} & sleep {mark}"], timeout_s=0.3)
    await gone(lambda: processes_with(mark) == [])


async def test_what_prints_too_much_is_ended(host: Host) -> None:
    with pytest.raises(OutputTooLarge, match="more than 100000 bytes"):
        await host.run(["sh", "-c", "yes; sleep 60"], limit=100_000, timeout_s=30)


async def test_cancelling_ends_the_command(host: Host) -> None:
    mark = f"{2000 + os.getpid() % 500}.75"
    task = asyncio.create_task(host.run(["sleep", mark]))
    await gone(lambda: processes_with(mark) != [])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(lambda: processes_with(mark) == [])


async def test_output_is_seen_as_it_comes(host: Host) -> None:
    seen: list[bytes] = []
    script = "echo one; until test -e /nonexistent || read x; do :; done; echo $x"
    done = await host.run(["sh", "-c", script], stdin=b"two\n", on_output=seen.append)
    assert b"".join(seen) == done.stdout == b"one\ntwo\n"


async def test_many_at_once(host: Host) -> None:
    answers = await asyncio.gather(*(host.run(["echo", str(n)]) for n in range(20)))
    assert [int(done.stdout) for done in answers] == list(range(20))


# --- runs


async def test_a_run_is_created_whole_or_refused(host: Host, home: Path) -> None:
    files = {"manifest.json": encode(manifest()), "attempts/0001.json": b"{}"}
    await host.create_run(RUN_ID, files)
    run = original(host, home)
    assert run.manifest.read_bytes() == files["manifest.json"] and run.attempt(1).read_bytes() == b"{}"
    assert run.checkpoints.is_dir() and run.attempts.stat().st_mode & 0o777 == 0o700
    with pytest.raises(UsageError, match="there is a run"):
        await host.create_run(RUN_ID, files)
    assert [path.name for path in run.path.parent.iterdir()] == [RUN_ID]


async def test_records_are_placed_atomically_and_once(host: Host, home: Path) -> None:
    await host.create_run(RUN_ID, {"manifest.json": encode(manifest())})
    assert await host.place(RUN_ID, "stop.json", b"one")
    assert await host.place(RUN_ID, "stop.json", b"two")
    assert await host.place(RUN_ID, "attempts/0002.json", b"mine", exclusive=True)
    assert not await host.place(RUN_ID, "attempts/0002.json", b"theirs", exclusive=True)
    run = original(host, home)
    assert run.stop.read_bytes() == b"two" and run.attempt(2).read_bytes() == b"mine"
    winners = await asyncio.gather(*(host.place(RUN_ID, "attempts/0003.json", b"x", exclusive=True) for _ in range(8)))
    assert sorted(winners) == [False] * 7 + [True]


async def test_a_run_is_deleted_for_good(host: Host, home: Path) -> None:
    await host.create_run(RUN_ID, {"manifest.json": encode(manifest())})
    run = original(host, home)
    await host.discard(RUN_ID)
    await gone(lambda: not run.path.exists())
    with pytest.raises(UsageError, match="there is no run"):
        await host.discard(RUN_ID)


async def test_launch_stop_resume_and_remove(host: Host, home: Path) -> None:
    place = Home(home)
    script = 'echo "attempt $WAVEDECK_ATTEMPT in $WAVEDECK_RUN_DIR"; while :; do sleep 0.1; done'
    result = await operations.launch(
        place, host, manifest(), attempt(script), {"WANDB_API_KEY": SECRET, "PATH": os.environ["PATH"]}
    )
    assert result.notice is None and result.session == f"wd-{RUN_ID}" and result.supervisor is not None
    far = original(host, home)
    living = await host.living(RUN_ID)
    assert [number for _, number in living.supervisors] == [1] and living.orphan is None
    await gone(lambda: b"attempt 1" in (result.run.console.read_bytes() if result.run.console.exists() else b""))
    assert str(far.path).encode() in result.run.console.read_bytes()
    child = read_record(far.supervisor, SupervisorRecord)
    assert child is not None
    assert f"WANDB_API_KEY={SECRET}".encode() in Path(f"/proc/{child.child}/environ").read_bytes().split(b"\0")
    assert not any(SECRET in path.read_text(errors="replace") for path in far.path.rglob("*") if path.is_file())
    assert processes_with(SECRET) == []

    request = await operations.request_stop(host, result.run)
    assert request.attempt == 1
    ended = await operations.wait_ended(result.run, 20, lambda *_: None)
    assert ended is not None and ended.stop_requested and ended.attempt == 1
    with pytest.raises(UsageError, match="has ended already"):
        await operations.request_stop(host, result.run)

    again = await operations.resume(place, host, result.run)
    assert again.attempt == 2 and again.supervisor is not None
    with pytest.raises(UsageError, match="still running"):
        await operations.resume(place, host, result.run)
    with pytest.raises(UsageError, match="still running"):
        await operations.remove(place, host, result.run)
    await operations.request_stop(host, result.run)
    assert await operations.wait_ended(result.run, 20, lambda *_: None) is not None
    await gone(lambda: (read_record(result.run.exit, ExitRecord) or ended).attempt == 2)
    code = far.path.parent.parent / "code" / RUN_ID
    (code / "src").mkdir(parents=True)
    await operations.remove(place, host, result.run)
    await gone(lambda: not result.run.path.exists() and not far.path.exists())
    assert code.exists() == (host.name == LOCAL)  # what was pushed for the run goes with it


async def test_a_command_that_does_not_exist_is_a_failed_run(host: Host, home: Path) -> None:
    missing = Attempt(attempt=1, requested=time.time(), argv=["no-such-trainer"], cwd="/")
    result = await operations.launch(Home(home), host, manifest(), missing)
    assert result.exit is not None and result.exit.exit_code == 127
    assert "no-such-trainer" in (result.exit.error or "")


async def test_a_copy_says_whose_it_is(host: Host, home: Path) -> None:
    result = await operations.launch(Home(home), host, manifest(), attempt("exit 0"))
    mirror = read_mirror(result.run.path)
    assert (mirror.host if mirror else LOCAL) == host.name


def processes_with(text: str) -> list[int]:
    """Processes with `text` in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


async def gone(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait until something is so, and let the event loop work meanwhile."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)
