"""Very many small files: they travel together, and each of them is verified, made durable and recorded."""

from __future__ import annotations

import msgspec
import pytest

from wavedeck.engine.checkpoints import CheckpointLine
from wavedeck.remote.backup.keeper import once
from wavedeck.tests.remote.backup.conftest import Lab, leftovers, sha


@pytest.mark.slow
async def test_ten_thousand_small_files(lab: Lab) -> None:
    (lab.home.root / "backup.toml").write_text("[default]\nkeep_last = 20000\n")
    lines = []
    for number in range(10_000):
        data = b"shard %d" % number
        (lab.there.checkpoints / f"s{number}.pt").write_bytes(data)
        lines.append(CheckpointLine(f"s{number}.pt", number, len(data), sha(data), float(number)))
    data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    for run in (lab.there, lab.run):
        run.checkpoint_manifest.write_bytes(data)
    done = await once(lab.home, None, fleet=lab.fleet)
    assert not done.failed and len(lab.accepted()) == 10_000 and leftovers(lab.run) == []
