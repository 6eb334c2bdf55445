"""The power goes after every single operation: what a restart finds is never wrong and vouched for, and it finishes.

The operations of a pull are recorded together with what the disk held. Then the world is made anew as it would be after
a crash behind each of them, with un-synced data lost or not and un-synced names lost or not, and the pull is run again.
"""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from wavedeck.engine.backup.copies import HERE, REMOVED, VERIFIED, read_copies
from wavedeck.engine.backup.policy import BackupPolicy
from wavedeck.engine.checkpoints import CheckpointLine, read_checkpoints
from wavedeck.engine.manifest import Headline
from wavedeck.engine.rundir import RunDir
from wavedeck.remote.backup import pull as pulling
from wavedeck.remote.backup import retention, stream
from wavedeck.remote.backup.disk import RealDisk
from wavedeck.tests.remote.backup.conftest import POLICY, Lab, accepted, noise, sha

Tree = dict[str, bytes]


def tree_of(root: Path) -> Tree:
    """Every file below a folder with what it holds; the record of copies of this process included."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@dataclass
class Moment:
    """After one operation: what the files hold, what of it is durable, and which names are."""

    what: str
    now: Tree
    synced: Tree
    """What of the data under present names is durable."""
    durable: Tree
    """What every durable name held when its name became durable."""


@dataclass
class Recorder:
    """A disk that notes after each operation what a crash there could leave."""

    root: Path
    moments: list[Moment] = field(default_factory=list)
    real: RealDisk = field(default_factory=RealDisk)

    def __post_init__(self) -> None:
        first = tree_of(self.root)
        self.synced = dict(first)
        """Data that is durable, by present name."""
        self.durable = dict(first)
        """What stands under each name after a crash that loses all that is un-synced."""
        self._note("begin")

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.root))

    def _note(self, what: str) -> None:
        now = tree_of(self.root)
        self.moments.append(Moment(what, now, dict(self.synced), dict(self.durable)))

    def sync_file(self, path: Path) -> None:
        self.real.sync_file(path)
        name = self._name(path)
        self.synced[name] = path.read_bytes()
        if name in self.durable:
            self.durable[name] = path.read_bytes()
        self._note(f"sync {name}")

    def rename(self, source: Path, target: Path) -> None:
        self.real.rename(source, target)
        before, after = self._name(source), self._name(target)
        held = self.synced.pop(before, None)
        self.synced.pop(after, None)
        if held is not None:
            self.synced[after] = held
        self._note(f"rename {after}")

    def sync_folder(self, path: Path) -> None:
        self.real.sync_folder(path)
        for entry in list(self.durable):
            if (self.root / entry).parent == path and not (self.root / entry).exists():
                del self.durable[entry]
        for entry in path.iterdir():
            if entry.is_file():
                name = self._name(entry)
                self.durable[name] = self.synced.get(name, b"")  # a durable name of data that is not: zeros or nothing
        self._note(f"sync folder {self._name(path)}")

    def append(self, path: Path, data: bytes) -> None:
        before = path.read_bytes() if path.exists() else b""
        self.real.append(path, data)
        whole = path.read_bytes()
        path.write_bytes(before + data[: len(data) // 2])
        self._note(f"half of {self._name(path)}")
        path.write_bytes(whole)
        self._note(f"append {self._name(path)}")

    def unlink(self, path: Path) -> None:
        self.real.unlink(path)
        self._note(f"unlink {self._name(path)}")


def left_by(moment: Moment, data_lost: bool, names_lost: bool) -> Tree:
    """What a crash leaves: in the worst case only what was synced under names that were."""
    if names_lost:
        return {
            name: held if data_lost or name not in moment.now else moment.now[name]
            for name, held in moment.durable.items()
        }
    return {
        name: held if not data_lost else moment.synced.get(name, held[: len(held) // 3])
        for name, held in moment.now.items()
    }


def make(root: Path, tree: Tree) -> RunDir:
    """A run directory as a crash has left it."""
    shutil.rmtree(root, ignore_errors=True)
    for name, data in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "checkpoints").mkdir(parents=True, exist_ok=True)
    return RunDir(root)


CRASHES = list(itertools.product((False, True), (False, True)))


async def replay(lab: Lab, recorder: Recorder, line: CheckpointLine, tmp: Path) -> int:
    """Crash after each operation, in each way; restart; the number of worlds that were lived through."""
    worlds = 0
    seen: set[tuple[tuple[str, bytes], ...]] = set()
    for number, moment in enumerate(recorder.moments):
        for data_lost, names_lost in CRASHES:
            tree = left_by(moment, data_lost, names_lost)
            key = tuple(sorted((name, sha(data).encode()) for name, data in tree.items()))
            if key in seen:
                continue
            seen.add(key)
            run = make(tmp / f"{number}-{data_lost}-{names_lost}" / lab.run_id, tree)
            worlds += 1
            check(run, f"{moment.what} {data_lost} {names_lost}")
            if read_copies(run).holds(line) is None:
                told = await pulling.pull(lab.host, run, line, POLICY, lab.said.append, RealDisk())
                assert told.event == VERIFIED, (moment.what, told)
            assert line.name in accepted(run)
            shutil.rmtree(run.path.parent)
    return worlds


def check(run: RunDir, where: str) -> None:
    """No file under a final name that is vouched for is a wrong one."""
    for name, copy in read_copies(run).verified(HERE).items():
        path = run.checkpoints / name
        assert path.exists() and sha(path.read_bytes()) == copy.sha256, f"{name} after {where}"


@pytest.mark.parametrize("streamed_from", [1, 1 << 50])
async def test_a_crash_anywhere_in_a_pull(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streamed_from: int
) -> None:
    monkeypatch.setattr(stream, "STREAM_FROM", streamed_from)
    line = lab.save("step-00000002.ckpt", noise(60_000, 2))
    recorder = Recorder(lab.run.path)
    told = await pulling.pull(lab.host, lab.run, line, POLICY, lab.said.append, recorder)
    assert told.event == VERIFIED
    staged = f"checkpoints/.incoming/{line.sha256[:12]}/{line.name}"
    assert [moment.what for moment in recorder.moments] == [
        "begin", f"sync {staged}", f"rename checkpoints/{line.name}", "sync folder checkpoints",
        "half of backup.jsonl", "append backup.jsonl", "sync backup.jsonl", "sync folder .",
    ]  # fmt: skip
    assert await replay(lab, recorder, line, tmp_path / "worlds") >= 6


async def test_a_crash_while_a_name_gets_other_content(lab: Lab, tmp_path: Path) -> None:
    """The old line must not speak for the new bytes, whichever of the two a crash leaves."""
    await lab.pull(lab.save("same.ckpt", noise(50_000, 1)))
    line = lab.save("same.ckpt", noise(50_000, 2))
    recorder = Recorder(lab.run.path)
    assert (await pulling.pull(lab.host, lab.run, line, POLICY, lab.said.append, recorder)).event == VERIFIED
    assert await replay(lab, recorder, line, tmp_path / "worlds") >= 8


async def test_the_replay_finds_a_wrong_order(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line before the rename, or no fsync: the replay must see it, else it proves nothing."""

    def careless(disk: Recorder, run: RunDir, staged: list[tuple[CheckpointLine, Path]]) -> list[object]:
        for line, path in staged:
            disk.rename(path, run.checkpoints / line.name)
        told = [pulling.copy_line(line, VERIFIED) for line, _ in staged]
        pulling.record(disk, run, told)
        return list(told)

    line = lab.save("step-00000002.ckpt", noise(60_000, 2))
    recorder = Recorder(lab.run.path)
    monkeypatch.setattr(pulling, "commit", careless)
    await pulling.pull(lab.host, lab.run, line, POLICY, lab.said.append, recorder)
    monkeypatch.undo()
    with pytest.raises(AssertionError):
        await replay(lab, recorder, line, tmp_path / "worlds")


async def test_a_crash_anywhere_in_retention(lab: Lab, tmp_path: Path) -> None:
    """What is let go may be there or not; what is kept is there, and nothing is vouched for that is wrong."""
    for step in (1, 2, 3):
        await lab.pull(lab.save(f"s{step}.ckpt", noise(20_000, step), step, metrics={"loss": float(step)}))
    policy, headline = BackupPolicy(keep_last=1, keep_best=1), Headline("loss")
    lines = read_checkpoints(lab.run.checkpoint_manifest)
    recorder = Recorder(lab.run.path)
    assert retention.let_go(lab.run, lines, policy, headline, recorder, mirrored=True) == ["s2.ckpt"]
    assert lab.accepted() == {"s1.ckpt", "s3.ckpt"} and REMOVED.encode() in lab.run.backup.read_bytes()
    for number, moment in enumerate(recorder.moments):
        for data_lost, names_lost in CRASHES:
            run = make(tmp_path / "worlds" / f"{number}{data_lost}{names_lost}" / lab.run_id,
                       left_by(moment, data_lost, names_lost))  # fmt: skip
            retention.reconcile(run, RealDisk())
            check(run, moment.what)
            retention.let_go(run, lines, policy, headline, RealDisk(), mirrored=True)
            assert accepted(run) == {"s1.ckpt", "s3.ckpt"}, moment.what


def test_a_torn_line_spoils_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "backup.jsonl"
    path.write_bytes(b'{"whole": 1}\n{"to')
    RealDisk().append(path, b'{"next": 2}\n')
    assert path.read_bytes().split(b"\n") == [b'{"whole": 1}', b'{"to', b'{"next": 2}', b""]
