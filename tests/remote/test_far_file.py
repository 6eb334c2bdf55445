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
    with pytest.raises(OSError, match="shorter"):
        far.read(1000)


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
    finally:
        thread.close()
