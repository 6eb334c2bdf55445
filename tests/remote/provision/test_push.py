"""Code on its way to a host, by a real rsync: whole or not at all, and never changed once it is there."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedeck.engine.errors import WavedeckError
from wavedeck.engine.hosts import HostFacts
from wavedeck.remote.host import LinkDown
from wavedeck.remote.provision import push as module
from wavedeck.remote.provision.project import Project, files, find_project
from wavedeck.remote.provision.push import push, rsync_failure
from wavedeck.remote.rsync import ProgressParser

from .conftest import There, Told
from .test_project import ODD

ONE, TWO, THREE = (f"20261120-1759-mine-brisk-{name}" for name in ("heron", "otter", "puma"))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Odd names, a link, a program, an empty file and a big one."""
    root = tmp_path / "it's my project"
    (root / "sub dir").mkdir(parents=True)
    for name in ODD:
        Path(os.fsdecode(os.path.join(os.fsencode(root), name))).write_bytes(name)
    (root / "sub dir" / "empty").touch()
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "locked").write_text("x")
    (root / "locked").chmod(0o444)
    (root / "link").symlink_to("sub dir/empty")
    (root / "broken").symlink_to("sub dir/absent")
    (root / "big").write_bytes(os.urandom(3 << 20))
    return find_project(root / "sub dir") if (root / ".git").exists() else find_project(root)


def same(one: str, two: Path) -> bool:
    here, there = os.fsencode(two), os.fsencode(one)
    left, right = tree(here), tree(there)
    assert left == right
    return True


def tree(root: bytes) -> dict[bytes, tuple[object, ...]]:
    """Relative path -> mode and content or target, of everything but directories."""
    found: dict[bytes, tuple[object, ...]] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(os.fsdecode(os.path.join(folder, name)))
            content: object = path.readlink() if path.is_symlink() else path.read_bytes()
            found[os.path.relpath(os.fsencode(path), root)] = (path.lstat().st_mode, content)
    return found


async def send(there: There, project: Project, run: str, told: Told | None = None) -> str:
    return (await push(there, project, files(project), run, Told() if told is None else told)).root


async def test_everything_arrives_as_it_is(there: There, project: Project, told: Told) -> None:
    root = await send(there, project, ONE, told)
    assert root == f"{there.home}/code/{ONE}" and same(root, project.root)
    assert os.stat(f"{root}/run.sh").st_mtime == os.stat(project.root / "run.sh").st_mtime
    last = told[-1]
    assert last.phase == "push" and last.done == last.total and last.total and last.total > 3 << 20
    assert any("/s" in item.text for item in told)
    assert not list(Path(there.home, "code").glob(".*"))


async def test_the_directory_of_the_user_is_where_it_runs(there: There, project: Project) -> None:
    inner = Project(project.root, "sub dir", False)
    pushed = await push(there, inner, files(inner), ONE, Told())
    assert pushed.cwd == f"{pushed.root}/sub dir" and Path(pushed.cwd).is_dir()


async def test_the_next_push_sends_what_changed_and_leaves_the_first_alone(there: There, project: Project) -> None:
    first = await send(there, project, ONE)
    before = tree(os.fsencode(first))
    stat = (project.root / "run.sh").stat()
    (project.root / "run.sh").write_text("#!/bin/bh\n")  # same size, same time: only its content tells
    os.utime(project.root / "run.sh", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (project.root / "locked").unlink()
    told = Told()
    second = await send(there, project, TWO, told)
    assert same(second, project.root) and tree(os.fsencode(first)) == before
    assert os.stat(f"{first}/big").st_ino != os.stat(f"{second}/big").st_ino, (
        "a copy: the first run may write to its own"
    )
    Path(first, "big").write_bytes(b"changed by its run")
    Path(second, "big").write_bytes(b"changed by its run too")
    assert same(await send(there, project, THREE), project.root)


async def test_the_second_push_copies_there(there: There, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    await send(there, project, ONE)
    sent: list[int] = []
    real = ProgressParser.feed

    def feed(self: ProgressParser, data: bytes) -> object:
        records = real(self, data)
        sent.extend(record.bytes for record in records)
        return records

    monkeypatch.setattr(ProgressParser, "feed", feed)
    await send(there, project, TWO)
    assert max(sent, default=0) < 1 << 20


async def test_a_cut_push_leaves_nothing(there: There, project: Project, tmp_path: Path) -> None:
    shell = there._shell
    text = shell.read_text()
    shell.write_text(f"#!/bin/sh\ntouch '{tmp_path}/began'\nexec sleep 600\n")
    task = asyncio.create_task(send(there, project, ONE))
    async with asyncio.timeout(20):
        while not (tmp_path / "began").exists():
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not list(Path(there.home, "code").iterdir())
    shell.write_text(text)
    assert same(await send(there, project, ONE), project.root)


async def test_failures_are_sentences(there: There, project: Project) -> None:
    shell = there._shell
    for script, words in (
        ("echo Welcome to gpu1; exec sleep 1", "login shell of gpu1 prints something"),
        ("echo 'bash: rsync: command not found' >&2; exit 127", "rsync is not installed on gpu1: run `apt-get install"),
        ("echo 'closed' >&2; exit 255", "the connection to gpu1 broke"),
        ("echo 'rsync: write failed: No space left on device (28)' >&2; exit 11", "disk of gpu1 is full"),
    ):
        shell.write_text(f"#!/bin/sh\n{script}\n")
        with pytest.raises(WavedeckError, match=words) as caught:
            await send(there, project, ONE)
        assert "\n" not in str(caught.value)
    assert not list(Path(there.home, "code").iterdir()) or isinstance(caught.value, LinkDown)


async def test_a_file_that_vanishes_fails_the_push(there: There, project: Project) -> None:
    listing = files(project)
    (project.root / "run.sh").unlink()
    with pytest.raises(WavedeckError, match=r"not every file .* could be pushed .*run.sh"):
        await push(there, project, listing, ONE, Told())
    assert not Path(there.home, "code", ONE).exists()


async def test_no_rsync_there(there: There, project: Project) -> None:
    there.facts = HostFacts(python="3.11", programs={"rsync": None})
    with pytest.raises(WavedeckError, match="apt-get install -y rsync"):
        await send(there, project, ONE)


async def test_an_empty_project(there: There, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    root = await send(there, find_project(tmp_path / "none"), ONE)
    assert Path(root).is_dir() and not list(Path(root).iterdir())


async def test_code_of_runs_that_are_gone_is_cleared(there: There, project: Project) -> None:
    await send(there, project, ONE)
    home = Path(there.home)
    (home / "runs" / TWO).mkdir(parents=True)
    for name in (TWO, THREE, f".{THREE}.new"):
        (home / "code" / name).mkdir()
    helper = module.ask  # a day passes: the helper is told so
    script = (module.ask.__globals__["PAYLOAD"] / "place_code.py").read_text()

    async def later(host: object, name: str, request: object, *more: object, **options: object) -> object:
        folder = home.parent / "payload"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(script.replace("KEPT_S = 86400.0", "KEPT_S = -60.0"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(helper.__globals__, "PAYLOAD", folder)
            return await helper(host, name, request, *more, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ask", later)
        fresh = "20261120-1800-mine-calm-crane"
        (home / "runs" / ONE).mkdir()
        await push(there, project, files(project), fresh, Told())
    assert {path.name for path in (home / "code").iterdir()} == {ONE, TWO, fresh}


async def test_code_that_is_there_is_not_replaced(there: There, project: Project) -> None:
    await send(there, project, ONE)
    with pytest.raises(WavedeckError, match="there is code of"):
        await send(there, project, ONE)


def test_exit_codes(project: Project) -> None:
    for status, words in (
        (23, "could be pushed"),
        (24, "could be"),
        (30, "nothing arrived"),
        (20, "interrupted"),
        (-15, "inter"),
    ):
        assert words in str(rsync_failure("gpu1", project, status, b""))
    assert "exit status 5" in str(rsync_failure("gpu1", project, 5, b""))
    said = str(rsync_failure("gpu1", project, 1, b"\x1b[2Jbad\nrsync error: syntax (code 1)\n"))
    assert "\x1b" not in said and "bad" in said


RECORD = st.builds(
    lambda sent, percent, rate, unit: (sent, percent, f"   {sent:>12} {percent:>3}% {rate:8.2f}{unit}B/s    0:00:01"),
    st.integers(0, 2**50), st.integers(0, 100), st.floats(0, 999), st.sampled_from(["", "k", "M", "G"]),
)  # fmt: skip
TAIL = st.sampled_from(["", " (xfr#3, to-chk=1/5)", " (xfr#12, ir-chk=1000/5000)"])


@given(
    st.lists(st.tuples(RECORD, TAIL, st.sampled_from(["\r", "\n", "\r\n"]))),
    st.lists(st.integers(1, 40)),
    st.sampled_from(["", "sending incremental file list\n", "\x00\xff noise 50% x\n"]),
)
def test_progress_is_read_however_it_is_cut(
    records: list[tuple[tuple[int, int, str], str, str]], cuts: list[int], noise: str
) -> None:
    data = (noise + "".join(record[2] + tail + end for record, tail, end in records)).encode("latin-1")
    parser, found = ProgressParser(77), []
    for cut in cuts:
        found += parser.feed(data[:cut])
        data = data[cut:]
    found += parser.feed(data)
    assert [(item.bytes, item.percent) for item in found] == [(record[0], record[1]) for record, _, _ in records]
    assert all(item.total == 77 and item.rate >= 0 for item in found)


@given(st.lists(st.binary(max_size=200)))
def test_no_bytes_break_the_parser(pieces: list[bytes]) -> None:
    parser = ProgressParser(1)
    for piece in pieces:
        for item in parser.feed(piece):
            assert 0 <= item.percent <= 100
