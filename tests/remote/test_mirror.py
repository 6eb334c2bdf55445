"""The mirror against an agent that is written here: exactly once, nothing outside, nothing of other runs."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wavedeck.engine.catalog import Catalog
from wavedeck.engine.hosts import MirrorRecord, read_mirror, write_mirror
from wavedeck.engine.lineage import fenced, first_lease, read_lease, write_lease
from wavedeck.engine.manifest import Manifest, encode
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.remote import copy_bytes
from wavedeck.remote.mirror import Mirror, MirrorFull
from wavedeck.remote.mirror_files import forget_run

RUN = "20261120-1759-drums-brisk-heron"
NOW = 4e9  # later than any clock of these tests: every run is recent


class Agent:
    """The other side: remembers what it was told, and speaks for a pretended directory."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.files: dict[str, bytes] = {}

    def send(self, op: str, data: bytes = b"", **fields: Any) -> None:
        self.sent.append((op, fields))

    async def connect(self, *runs: str) -> None:
        await self.mirror.attach(self.send)
        self.mirror.take({"op": "runs", "runs": [[run, NOW] for run in runs]}, b"")

    def say(self, op: str, payload: bytes = b"", run: str = RUN, **fields: Any) -> None:
        self.mirror.take({"op": op, "run": run, **fields}, payload)

    def followed(self, run: str = RUN) -> dict[str, Any]:
        return [fields for op, fields in self.sent if op == "follow" and fields["run"] == run][-1]

    def manifest(self, run: str = RUN, **fields: Any) -> None:
        record = Manifest(id=run, name="drums", created=1.0, **fields)
        self.say("record", encode(record), run, file="manifest.json")

    def stream(self, name: str, piece: int = 7) -> None:
        """What the real one does: compares what is here, then sends the rest."""
        whole = self.files[name]
        size, tail = self.followed()["have"].get(name, [0, hashlib.sha256(b"").hexdigest()])
        count = min(size, 4096)
        if size > len(whole) or hashlib.sha256(whole[size - count : size]).hexdigest() != tail:
            self.say("reset", file=name)
            size = 0
        for start in range(size, len(whole), piece):
            self.say("data", whole[start : start + piece], file=name, offset=start)


@pytest.fixture
def agent(home: Path) -> Agent:
    home.mkdir()
    return Agent(Mirror(Home(home), "gpu1"))


async def test_a_run_appears_when_its_manifest_is_there(agent: Agent, home: Path) -> None:
    await agent.connect(RUN)
    agent.say("data", b'{"t": 1}\n', file="events.jsonl", offset=0)
    assert Catalog(Home(home), lambda *_: False).ids() == []
    agent.manifest()
    assert Catalog(Home(home), lambda *_: False).ids() == [RUN]
    agent.say("data", b'{"t": 2}\n', file="events.jsonl", offset=9)
    place = home / "runs" / RUN
    assert (place / "events.jsonl").read_bytes() == b'{"t": 1}\n{"t": 2}\n'
    mirror = read_mirror(place)
    assert mirror is not None and mirror.host == "gpu1"
    agent.mirror.acknowledge()
    assert agent.sent[-1] == ("ack", {"bytes": 18})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.binary(min_size=1, max_size=60)),
            st.tuples(st.just("truncate"), st.integers(0, 80)),
            st.tuples(st.just("replace"), st.binary(max_size=60)),
            st.tuples(st.just("reconnect"), st.none()),
            st.tuples(st.just("restart"), st.none()),
        ),
        max_size=14,
    )
)
async def test_whatever_happens_the_copy_is_equal_in_the_end(tmp_path: Path, steps: list[tuple[str, Any]]) -> None:
    folder = tmp_path / os.urandom(4).hex()
    folder.mkdir()
    agent = Agent(Mirror(Home(folder), "gpu1"))
    agent.files["events.jsonl"] = b""
    await agent.connect(RUN)
    agent.manifest()
    for what, value in steps:
        whole = agent.files["events.jsonl"]
        if what == "append":
            agent.files["events.jsonl"] = whole + value
        elif what == "truncate":
            agent.files["events.jsonl"] = whole[:value]
        elif what == "replace":
            agent.files["events.jsonl"] = value
        else:
            if what == "restart":
                files = agent.files
                agent.mirror.close()
                agent = Agent(Mirror(Home(folder), "gpu1"))
                agent.files = files
            await agent.connect(RUN)
            agent.manifest()
            agent.stream("events.jsonl")
    await agent.connect(RUN)
    agent.stream("events.jsonl")
    place = folder / "runs" / RUN / "events.jsonl"
    assert (place.read_bytes() if place.exists() else b"") == agent.files["events.jsonl"]
    agent.mirror.close()


async def test_what_was_here_before_a_reset_is_kept(agent: Agent, home: Path) -> None:
    await agent.connect(RUN)
    agent.manifest()
    for number in range(6):
        agent.say("data", b"generation %d\n" % number, file="console.log", offset=0)
        agent.say("reset", file="console.log")
    place = home / "runs" / RUN
    kept = sorted(path.name for path in place.iterdir() if "console" in path.name)
    assert kept == ["console.log.old-1", "console.log.old-2", "console.log.old-3"]
    assert (place / "console.log.old-1").read_bytes() == b"generation 5\n"


async def test_a_gap_or_an_overlap_is_asked_for_again(agent: Agent, home: Path) -> None:
    await agent.connect(RUN)
    agent.manifest()
    agent.say("data", b"abc", file="events.jsonl", offset=0)
    agent.say("data", b"xyz", file="events.jsonl", offset=7)
    assert (home / "runs" / RUN / "events.jsonl").read_bytes() == b"abc"
    assert agent.sent[-2][0] == "unfollow" and agent.followed()["have"]["events.jsonl"][0] == 3


@pytest.mark.parametrize(
    "name",
    [
        "../../../.ssh/authorized_keys",
        "/etc/cron.d/x",
        "checkpoints/../../x",
        "samples/../index.jsonl",
        "samples/a/b/index.jsonl",
        "samples/.hidden/index.jsonl",
        "attempts/0001.json/../../x",
        "mirror.json",
        "checkpoints/epoch=1.ckpt",
        "attempts/.env-0001",
        "",
        "\0",
        ".",
    ],
)
async def test_only_the_files_of_a_run_are_written(agent: Agent, home: Path, name: str) -> None:
    await agent.connect(RUN)
    agent.manifest()
    before = sorted(home.parent.rglob("*"))
    for op in ("data", "record", "reset"):
        agent.say(op, b"hostile", file=name, offset=0)
    assert sorted(home.parent.rglob("*")) == before
    mirror = read_mirror(home / "runs" / RUN)
    assert mirror is not None and mirror.host == "gpu1"


@pytest.mark.parametrize("run", ["../x", "..", "", "a/b", ".ssh", "20261120-1759-a/../../b", "x" * 300, "\x1b[31m"])
async def test_only_names_of_runs_are_runs(agent: Agent, home: Path, run: str) -> None:
    await agent.connect(run)
    agent.say("data", b"x", run, file="events.jsonl", offset=0)
    assert not (home / "runs").exists() or list((home / "runs").iterdir()) == []
    assert [op for op, _ in agent.sent] == ["watch"]


async def test_nonsense_in_place_of_values_is_ignored(agent: Agent) -> None:
    await agent.connect(RUN)
    agent.mirror.take({"op": "runs", "runs": [7, [RUN], [1, 2], [RUN, "x"], None]}, b"")
    agent.mirror.take({"op": "runs", "runs": {"a": 1}}, b"")
    agent.mirror.take({"op": "what is this", "run": RUN}, b"")
    for offset in (None, -1, 1.5, "0", True, 1 << 70):
        agent.say("data", b"x", file="events.jsonl", offset=offset)
    for names in (None, 3, [None, 4, "../x", "a/b", "fine.ckpt", "\0"]):
        agent.say("present", names=names)
    agent.say("alive", alive="yes", orphan="1")
    assert agent.mirror.sign(RUN) is None
    agent.say("caught_up")
    assert agent.mirror.sign(RUN) == (0, False)


async def test_runs_of_others_are_never_touched(agent: Agent, home: Path) -> None:
    for run, record in (("20261120-1800-mine-calm-otter", None), ("20261120-1801-theirs-wise-owl", "gpu2")):
        place = home / "runs" / run
        place.mkdir(parents=True)
        (place / "events.jsonl").write_bytes(b"precious\n")
        if record:
            write_mirror(place, MirrorRecord(host=record))
        await agent.connect(run)
        agent.manifest(run)
        agent.say("reset", run=run, file="events.jsonl")
        agent.say("data", b"forged\n", run, file="events.jsonl", offset=0)
        assert (place / "events.jsonl").read_bytes() == b"precious\n" and not (place / "manifest.json").exists()
    assert [op for op, _ in agent.sent] == ["watch", "watch"]
    assert "is a run of this machine" in agent.mirror.notices[0] and "copy of gpu2" in agent.mirror.notices[1]


async def test_a_link_in_a_copy_is_not_followed(agent: Agent, home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "target").write_bytes(b"")
    await agent.connect(RUN)
    agent.manifest()
    place = home / "runs" / RUN
    (place / "events.jsonl").symlink_to(outside / "target")
    (place / "checkpoints").symlink_to(outside)
    agent.say("data", b"x", file="events.jsonl", offset=0)
    agent.say("data", b"x", file="checkpoints/manifest.jsonl", offset=0)
    assert (outside / "target").read_bytes() == b"" and not (outside / "manifest.jsonl").exists()


async def test_a_deleted_run_stays_deleted(agent: Agent, home: Path) -> None:
    forget_run(Home(home), "gpu1", RUN)
    await agent.connect(RUN)
    assert [op for op, _ in agent.sent] == ["watch"]


async def test_old_runs_nobody_asked_for_stay_there(agent: Agent) -> None:
    await agent.mirror.attach(agent.send)
    agent.mirror.take({"op": "runs", "runs": [[RUN, 1e9]]}, b"")
    assert [op for op, _ in agent.sent] == ["watch"]


async def test_a_full_disk_here_loses_nothing(home: Path) -> None:
    home.mkdir()
    free = [1 << 40]
    agent = Agent(Mirror(Home(home), "gpu1", free=lambda _: free[0]))
    await agent.connect(RUN)
    agent.manifest()
    free[0] = 0
    agent.mirror._bytes._looked = -1e9
    for start in range(0, 30, 3):
        agent.say("data", b"abc", file="events.jsonl", offset=start)
    agent.say("record", b"{}", file="exit.json")
    assert agent.mirror.full is not None and "disk here is full" in agent.mirror.full
    agent.mirror.acknowledge()
    assert "ack" not in [op for op, _ in agent.sent]  # so the agent sends no more than its credit
    agent.mirror.try_again()
    assert agent.mirror.full is not None
    free[0] = 1 << 40
    agent.mirror.try_again()
    place = home / "runs" / RUN
    assert (place / "events.jsonl").read_bytes() == b"abc" * 10 and (place / "exit.json").exists()
    assert agent.mirror.full is None and agent.sent[-1] == ("ack", {"bytes": 30})


async def test_a_host_that_floods_a_full_disk_is_cut(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    agent = Agent(Mirror(Home(home), "gpu1", free=lambda _: 0))
    await agent.connect(RUN)
    with pytest.raises(MirrorFull):
        for start in range(0, 1 << 40, 1 << 20):
            agent.say("data", b"x" * (1 << 20), file="console.log", offset=start)


async def test_a_short_write_is_completed(agent: Agent, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await agent.connect(RUN)
    agent.manifest()
    real, calls = os.write, []

    def short(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:2])

    with monkeypatch.context() as patch:
        patch.setattr(copy_bytes.os, "write", short)
        agent.say("data", b"abcdef", file="events.jsonl", offset=0)
    agent.mirror.try_again()
    assert (home / "runs" / RUN / "events.jsonl").read_bytes() == b"abcdef"


async def test_one_run_cannot_fill_the_disk(agent: Agent, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_bytes, "RUN_LIMIT", 10)
    await agent.connect(RUN)
    agent.manifest()
    agent.say("data", b"12345678", file="console.log", offset=0)
    agent.say("data", b"12345678", file="console.log", offset=8)
    assert (home / "runs" / RUN / "console.log").stat().st_size == 8
    agent.say("record", b"{}", file="exit.json")
    assert (home / "runs" / RUN / "exit.json").exists()  # its end is seen all the same
    mirror = read_mirror(home / "runs" / RUN)
    assert mirror is not None and "more" in mirror.notices[0]


async def test_an_end_that_was_only_believed_is_taken_back(agent: Agent, home: Path) -> None:
    """A launch whose link broke writes no end; one that was recorded here and not there goes again."""
    await agent.connect(RUN)
    agent.manifest()
    (home / "runs" / RUN / "exit.json").write_bytes(b"{}")
    await agent.connect(RUN)
    assert "exit.json" in agent.followed()["records"]
    agent.say("record", file="exit.json", gone=True)
    assert not (home / "runs" / RUN / "exit.json").exists()


async def test_what_is_dropped_is_acknowledged_too(agent: Agent) -> None:
    """Otherwise a host that sends something unknown would run out of credit and fall silent."""
    await agent.connect(RUN)
    agent.manifest()
    for name, run in (("no-such-file", RUN), ("events.jsonl", "20261120-1800-other-calm-otter")):
        agent.say("data", b"abc", run, file=name, offset=0)
    agent.say("data", b"abc", file="events.jsonl", offset=0)
    agent.say("data", b"abc", file="events.jsonl", offset=0)
    agent.mirror.acknowledge()
    assert agent.sent[-1] == ("ack", {"bytes": 12})


async def test_the_records_of_a_backup_are_copied(agent: Agent, home: Path) -> None:
    await agent.connect(RUN)
    agent.manifest()
    agent.say("record", b'{"keep_last": 5}', file="policy.json")
    agent.say("record", encode(first_lease(RUN)), file="lease.json")
    place = home / "runs" / RUN
    assert (place / "policy.json").read_bytes() == b'{"keep_last": 5}'
    assert read_lease(RunDir(place)) == first_lease(RUN)
    await agent.connect(RUN)
    assert {"policy.json", "lease.json"} <= set(agent.followed()["records"])
    agent.say("record", file="policy.json", gone=True)
    agent.say("record", file="lease.json", gone=True)
    assert not (place / "policy.json").exists() and not (place / "lease.json").exists()
    agent.say("record", b"x", file="backup.jsonl")
    agent.say("record", b"x", file="moved.json")
    assert not (place / "backup.jsonl").exists() and not (place / "moved.json").exists(), "these are written here only"


async def test_a_host_that_comes_back_does_not_lift_its_fence(agent: Agent, home: Path) -> None:
    await agent.connect(RUN)
    agent.manifest()
    run = RunDir(home / "runs" / RUN)
    fence = fenced(first_lease(RUN), RUN, "20261121-0100-drums-calm-otter")
    write_lease(run, fence)
    await agent.connect(RUN)
    for old in (encode(first_lease(RUN)), b"", b"{", b'{"generation": "x"}'):
        agent.say("record", old, file="lease.json")
        assert read_lease(run) == fence
    agent.say("record", file="lease.json", gone=True)
    assert read_lease(run) == fence
    agent.say("record", encode(fence), file="lease.json")
    assert read_lease(run) == fence
    later = msgspec.structs.replace(fence, generation=9, fenced_by="20261122-0100-drums-calm-lynx")
    agent.say("record", encode(later), file="lease.json")
    assert read_lease(run) == later
