"""The one-line logger: what it writes, what it never does to a training."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

import wavedeck
from wavedeck.engine import logger
from wavedeck.engine.events import as_float, decode_line
from wavedeck.engine.logger import EventWriter, is_main_process


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    monkeypatch.setenv("WAVEDECK_RUN_DIR", str(path))
    monkeypatch.setattr(logger, "_writers", {})
    return path


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]


def test_a_row_holds_step_epoch_and_values(run_dir: Path) -> None:
    wavedeck.log({"train/loss": 0.5, "lr": 1e-4}, step=12, epoch=0.5)
    (row,) = rows(run_dir)
    assert (row["k"], row["step"], row["epoch"]) == ("metrics", 12, 0.5)
    assert row["v"] == {"train/loss": 0.5, "lr": 1e-4}


def test_not_a_number_is_strict_json_and_comes_back(run_dir: Path) -> None:
    wavedeck.log({"a": math.nan, "b": math.inf, "c": -math.inf}, step=1)
    text = (run_dir / "events.jsonl").read_text()
    assert '"NaN"' in text and ":NaN" not in text
    event = decode_line(text.strip().encode())
    assert event is not None and event.v is not None
    assert math.isnan(as_float(event.v["a"]) or 0) and as_float(event.v["c"]) == -math.inf


def test_tensors_and_numpy_scalars_are_numbers(run_dir: Path) -> None:
    class Tensor:
        def item(self) -> float:
            return 0.25

    wavedeck.log({"t": Tensor(), "flag": True}, step=1)  # type: ignore[dict-item]
    assert rows(run_dir)[0]["v"] == {"t": 0.25, "flag": 1.0}


def test_a_value_that_is_no_number_costs_its_key_only(run_dir: Path) -> None:
    for step in (1, 2):
        wavedeck.log({"loss": 0.1, "name": "hello"}, step=step)
    written = rows(run_dir)
    assert [row["v"] for row in written if row["k"] == "metrics"] == [{"loss": 0.1}] * 2
    warnings = [row for row in written if row["k"] == "log"]
    assert len(warnings) == 1 and "'name'" in str(warnings[0]["text"])


def test_outside_a_run_it_does_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WAVEDECK_RUN_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    wavedeck.log({"loss": 1.0})
    wavedeck.progress(1, 2)
    assert list(tmp_path.iterdir()) == [tmp_path / "home"] or list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"])
def test_only_rank_zero_writes(run_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    wavedeck.log({"loss": 1.0})
    assert not (run_dir / "events.jsonl").exists()
    assert not is_main_process()
    monkeypatch.setenv(name, "0")
    wavedeck.log({"loss": 1.0})
    assert len(rows(run_dir)) == 1


def test_a_torn_tail_of_a_killed_writer_spoils_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"t":1,"k":"metr')
    writer = EventWriter(path)
    writer.metrics({"a": 1.0}, step=3)
    torn, whole = path.read_bytes().splitlines()
    assert decode_line(torn) is None
    event = decode_line(whole)
    assert event is not None and event.step == 3


def test_a_full_disk_costs_lines_not_the_training(tmp_path: Path) -> None:
    """A file size limit stands in for the full disk: real ENOSPC-like failures from the kernel."""
    path = tmp_path / "events.jsonl"
    code = f"""
import resource, signal, json
from wavedeck.engine.logger import EventWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
w = EventWriter({str(path)!r})
for step in range(200):
    w.metrics({{"loss": 0.5}}, step=step)
assert w.lost_lines > 100, w.lost_lines
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
w.metrics({{"loss": 0.25}}, step=999)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    events = [decode_line(line) for line in path.read_bytes().splitlines()]
    good = [event for event in events if event is not None]
    alert = next(event for event in good if event.k == "alert")
    assert alert.text is not None and "journal lines were lost" in alert.text
    assert good[-1].step == 999


def test_importing_it_costs_the_standard_library_only() -> None:
    code = "import sys, wavedeck; print([m for m in sys.modules if m.split('.')[0] in " \
           "('numpy','msgspec','rich','typer','textual','torch','psutil','platformdirs')])"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_forked_child_opens_its_own_descriptor(run_dir: Path) -> None:
    wavedeck.log({"a": 1.0}, step=1)
    child = os.fork()
    if child == 0:
        wavedeck.log({"a": 2.0}, step=2)
        os._exit(0)
    os.waitpid(child, 0)
    wavedeck.log({"a": 3.0}, step=3)
    assert [row["step"] for row in rows(run_dir)] == [1, 2, 3]
