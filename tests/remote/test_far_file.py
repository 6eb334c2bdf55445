"""A file elsewhere, read by ranges: only what is asked for, once, and still there when the host is gone."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedeck.engine.errors import WavedeckError
from wavedeck.engine.rundir import Home
from wavedeck.engine.samples.superblock import Changed, Missing
from wavedeck.remote.far_file import BLOCK, FarFile
from wavedeck.remote.fleet import Fleet, FleetThread
from wavedeck.tests.servers.sshd import Sshd

RUN_ID = "20261120-1759-drums-brisk-heron"


class Elsewhere:
    """A pretended host with one file."""

    def __init__(self, data: bytes) -> None:
        self.data, self.changed, self.gone = data, 1.0, False
        self.asked: list[tuple[int, int]] = []

    def fetch(self, offset: int, count: int) -> tuple[bytes, int, float]:
        if self.gone:
            raise WavedeckError("gpu1 is out of reach.")
        if count:
            self.asked.append((offset, count))
        return self.data[offset : offset + count], len(self.data), self.changed


@given(st.binary(max_size=3000), st.lists(st.tuples(st.integers(0, 3500), st.integers(0, 900)), max_size=12))
def test_it_reads_like_a_file(data: bytes, reads: list[tuple[int, int]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        near, far = io.BytesIO(data), FarFile(Elsewhere(data).fetch, Path(folder) / "x.h5")
        for offset, count in reads:
            assert far.seek(offset) == near.seek(offset)
            assert far.read(count) == near.read(count) and far.tell() == near.tell()
        assert far.seek(0, 2) == len(data)
        far.close()


def test_every_block_is_fetched_once_and_kept(tmp_path: Path) -> None:
    there = Elsewhere(os.urandom(3 * BLOCK + 100))
    first = FarFile(there.fetch, tmp_path / "x.h5")
    first.seek(BLOCK - 10)
    assert first.read(20) == there.data[BLOCK - 10 : BLOCK + 10]
    assert there.asked == [(0, BLOCK), (BLOCK, BLOCK)]
    first.close()
    there.gone = True
    again = FarFile(there.fetch, tmp_path / "x.h5")
    assert again.read(2 * BLOCK) == there.data[: 2 * BLOCK]
    with pytest.raises(OSError, match="out of reach"):
        again.read(10)
    again.close()
    there.gone, there.data, there.changed = False, b"new" * BLOCK, 2.0
    newer = FarFile(there.fetch, tmp_path / "x.h5")
    assert newer.read(6) == b"newnew"
    newer.close()


def test_a_file_that_shrinks_is_an_error_and_not_silence(tmp_path: Path) -> None:
    there = Elsewhere(b"x" * 1000)
    far = FarFile(there.fetch, tmp_path / "x.h5")
    there.data = b"x" * 10
    with pytest.raises(OSError, match="written to"):
        far.read(1000)


def test_two_readers_of_a_file_that_grows_never_read_zeros(tmp_path: Path) -> None:
    there = Elsewhere(os.urandom(2 * BLOCK))
    old = there.data
    first = FarFile(there.fetch, tmp_path / "x.h5")
    assert first.read(100) == old[:100]
    there.data, there.changed = os.urandom(3 * BLOCK), 2.0
    second = FarFile(there.fetch, tmp_path / "x.h5")
    assert second.read(100) == there.data[:100]
    first.seek(0)
    assert first.read(BLOCK) == old[:BLOCK]  # its own version, not the zeros of another's
    with pytest.raises(Changed):
        first.read(10)
    assert second.read(BLOCK) == there.data[100 : BLOCK + 100]
    first.close()
    second.close()
    there.gone = True
    again = FarFile(there.fetch, tmp_path / "x.h5")
    assert again.read(2 * BLOCK) == there.data[: 2 * BLOCK]
    assert len(list((tmp_path / "x.h5").iterdir())) == 2  # the older version has gone, with its map


def test_two_readers_of_one_version_share_what_they_fetched(tmp_path: Path) -> None:
    there = Elsewhere(os.urandom(4 * BLOCK))
    first, second = (FarFile(there.fetch, tmp_path / "x.h5") for _ in range(2))
    second.seek(2 * BLOCK)
    assert first.read(BLOCK) == there.data[:BLOCK] and second.read(BLOCK) == there.data[2 * BLOCK : 3 * BLOCK]
    there.gone = True
    third = FarFile(there.fetch, tmp_path / "x.h5")
    assert third.read(BLOCK) == there.data[:BLOCK]
    third.seek(2 * BLOCK)
    assert third.read(BLOCK) == there.data[2 * BLOCK : 3 * BLOCK]


def test_blocks_that_a_power_cut_took_are_fetched_again(tmp_path: Path) -> None:
    there = Elsewhere(os.urandom(2 * BLOCK))
    FarFile(there.fetch, tmp_path / "x.h5").read()
    (kept,) = (path for path in (tmp_path / "x.h5").iterdir() if not path.name.endswith(".map"))
    kept.write_bytes(b"")
    again = FarFile(there.fetch, tmp_path / "x.h5")
    assert again.read() == there.data


def test_who_must_not_wait_is_told_what_is_missing(tmp_path: Path) -> None:
    there = Elsewhere(os.urandom(2 * BLOCK))
    far = FarFile(there.fetch, tmp_path / "x.h5")
    far.waits = False
    far.seek(5)
    with pytest.raises(Missing) as missing:
        far.read(BLOCK)
    assert not there.asked
    far.bring(missing.value.offset, missing.value.count)
    assert far.read(BLOCK) == there.data[5 : BLOCK + 5]


def test_a_file_that_never_rests_is_read_as_it_is(tmp_path: Path) -> None:
    there = Elsewhere(os.urandom(3 * BLOCK))

    def fetch(offset: int, count: int) -> tuple[bytes, int, float]:
        there.changed += 1
        return there.fetch(offset, count)

    far = FarFile(fetch, tmp_path / "x.h5")
    with pytest.raises(Changed):
        far.read(1)
    far.take_any_version()
    assert far.read() == there.data
    far.close()
    assert not list((tmp_path / "x.h5").glob("*.map"))  # nobody takes it for a version


def test_through_ssh(home: Path, sshd: Sshd, tmp_path: Path) -> None:
    place = sshd.remote_home / "runs" / RUN_ID / "samples" / "val"
    place.mkdir(parents=True)
    data = os.urandom(2 * BLOCK + 7)
    (place / "step-000100.h5").write_bytes(data)
    (place / "link.h5").symlink_to("/etc/passwd")
    thread = FleetThread(lambda: Fleet(Home(home))).start()
    try:

        def fetching(name: str):  # type: ignore[no-untyped-def]
            return lambda offset, count: thread.call(
                lambda: thread.fleet.host("gpu1").read_range(RUN_ID, name, offset, count),  # type: ignore[attr-defined]
                30,
            )

        far = FarFile(fetching("samples/val/step-000100.h5"), tmp_path / "cache" / "x.h5")
        assert far.read() == data
        with pytest.raises(OSError):
            FarFile(fetching("samples/val/missing.h5"), tmp_path / "cache" / "y.h5")
        with pytest.raises(OSError):
            FarFile(fetching("samples/val/link.h5"), tmp_path / "cache" / "z.h5")
        with pytest.raises(OSError):
            FarFile(fetching("../../../../etc/passwd"), tmp_path / "cache" / "w.h5")
        with pytest.raises(OSError):
            FarFile(fetching("samples/val/a/b/c.h5"), tmp_path / "cache" / "v.h5")
    finally:
        thread.close()
