"""`wavedeck listen` on a run of another host: what is attached there is no fault here, and comes with the export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from wavedeck.engine.hosts import MirrorRecord, write_mirror
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.engine.samples.writer import SampleWriter
from wavedeck.tests.app.test_cli import cli, js
from wavedeck.tests.fakes.runs import make_home, make_run
from wavedeck.tests.servers.fixtures import sshd  # noqa: F401  fixture
from wavedeck.tests.servers.sshd import Sshd

pytestmark = [pytest.mark.usefixtures("tmux_socket"), pytest.mark.timeout(90)]
RUN_ID = "20261120-1759-drums-brisk-heron"


@pytest.fixture
def there(sshd: Sshd, home: Path) -> RunDir:  # noqa: F811
    """A run on gpu1 whose item has a preset; its set has a name with a dot."""
    run = make_run(make_home(sshd.remote_home), RUN_ID, headline=None)
    with SampleWriter(run.path, "val.clean") as writer:
        sound = np.ones((4000, 1), np.float32) / 3
        writer.log({"target": (sound, 16_000)}, step=1, key="k", attachments={"preset": b"abc" * 100_000})
    make_home(home)
    (home / "hosts.toml").write_text("[gpu1]\n")
    copy = Home(home).runs / RUN_ID
    shutil.copytree(run.path, copy, ignore=shutil.ignore_patterns("*.h5", "attachments"))  # what the mirror brings
    write_mirror(copy, MirrorRecord("gpu1"))
    return run


def test_attachments_of_another_host_are_there_and_come_along(there: RunDir, home: Path, tmp_path: Path) -> None:
    (row,) = js("samples", RUN_ID)
    assert row["set"] == "val.clean"
    one = js("listen", RUN_ID, row["id"])
    assert one["problem"] is None and one["attachment_places"] == {"preset": "on gpu1"}
    out = tmp_path / "out"
    report = js("listen", RUN_ID, row["id"], "--export", str(out))
    (path,) = report["attachments"]
    assert Path(path).read_bytes() == b"abc" * 100_000 and report["problems"] == []
    unasked = js("listen", RUN_ID, row["id"], "--offline")
    assert "gpu1 was not asked" in unasked["problem"] and "not there" not in unasked["problem"]
    copy = Home(home).runs / RUN_ID
    assert not [path for path in copy.rglob("samples/**/*") if path.is_file() and path.name != "index.jsonl"]
    none = cli("listen", RUN_ID, "k", "--export", str(tmp_path / "none"), "--offline", "--json", code=1)
    left = json.loads(none.stdout)
    assert left["files"] == left["attachments"] == [] and len(left["problems"]) == 2 and left["empty"] == ["k"]
    assert "of 1 of 1 items nothing could be exported: k." in none.stderr
