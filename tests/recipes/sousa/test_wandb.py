"""`logger=wandb` without a network: a real offline run, in a process of its own, read back from its file."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from wavedeck.engine.context import Context
from wavedeck.engine.pictures.png import encode
from wavedeck.engine.rundir import RunDir
from wavedeck.engine.training.wandb_logger import grouped, histogram, wandb_callback
from wavedeck.engine.training.wandb_run import TellingWriter, WandbRun, choose_mode, has_key
from wavedeck.recipes.sousa.config import SousaConfig
from wavedeck.recipes.sousa.wandb_report import confusion_picture, report_to_wandb
from wavedeck.tests.fakes.wandb_file import Told, read_offline

RUN = "20261120-1759-sousa-brisk-heron"

TRAINING = """
import json, sys
from pathlib import Path
import lightning as L, numpy as np, torch
from wavedeck.engine.context import Context
from wavedeck.engine.rundir import RunDir
from wavedeck.engine.samples.writer import SampleWriter
from wavedeck.engine.training.settings import TrainerSettings
from wavedeck.engine.training.trainer import TrainingJob, fit
from wavedeck.engine.training.wandb_logger import wandb_callback
from wavedeck.engine.manifest import Headline
from wavedeck.recipes.sousa.config import SousaConfig
from wavedeck.recipes.sousa.wandb_report import report_to_wandb

class Points(torch.utils.data.Dataset):
    def __len__(self): return 16
    def __getitem__(self, key):
        x = torch.arange(4.0) + getattr(key, "item", key)
        return x / 8, x.sum()[None] / 40

class Line(L.LightningModule):
    def __init__(self, dies_at):
        super().__init__()
        self.dies_at = dies_at
        self.body, self.head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
    def training_step(self, batch, index):
        if self.global_step >= self.dies_at: raise RuntimeError("out of luck")
        return self.loss(batch)
    def loss(self, batch): return ((self.head(self.body(batch[0])) - batch[1]) ** 2).mean()
    def validation_step(self, batch, index): self.log("val/loss", self.loss(batch))
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), lr=0.01)

def attempt(run, number):
    config = SousaConfig(logger="wandb")
    context = Context(run, run.path.parent, resume=number > 1, device="cpu", attempt=number)
    told = wandb_callback(config, context)
    settings = TrainerSettings(max_steps=8, batch_size=4, log_every=1)
    points = Points()
    try:
        fit(TrainingJob(Line(5 if number == 1 else 99), points, len(points), points, settings, 1, context,
                        Headline("val/loss"), callbacks=(told,), facts={"architecture": "two lines"},
                        numbers={"parameters": 25}))
    except RuntimeError:
        print("crashed")
    evaluate(run)
    report_to_wandb(config, context)

def evaluate(run):
    scores = {"clips": 2, "recall": 0.5, "precision": None, "f1": 0.5}
    report = {
        "step": 4, "split": "test", "clips": 3, "metrics": {"balanced_accuracy": 0.75},
        "intervals": {"balanced_accuracy": {"low": 0.5, "high": 0.9}},
        "ceilings": {"balanced_accuracy": {"value": 0.85, "words": "hands"}},
        "breakdowns": {"skill": {"beginner": {"clips": 3, "accuracy": 0.6, "balanced_accuracy": 0.75}}},
        "classes": {name: {"family": name, **scores} for name in ("flam", "drag")},
        "confusions": [["flam", "drag", 1]], "order": ["flam", "drag"], "confusion": [[1, 1], [0, 1]],
    }
    (run.path / "evaluation.json").write_text(json.dumps(report))
    with SampleWriter(run.path, "test") as writer:
        for index, (loss, answer) in enumerate([(0.1, "flam"), (3.0, "drag")]):
            wave = np.sin(np.arange(800) / 9).astype(np.float32)
            writer.log({"target": (wave, 16000.0)}, step=4, key=f"clip{index}", label="flam", predicted=answer,
                       metrics={"loss": loss, "confidence": 0.9}, text={"player": "beg_1"}, tags=["beginner", "wrong"])

run = RunDir(Path(sys.argv[1]))
run.path.mkdir(parents=True)
attempt(run, 1)
attempt(run, 2)
"""


Trained = tuple[Path, list[Told], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of two attempts, and what W&B was told in each; the process's home and temporary folder are its own."""
    folder = tmp_path_factory.mktemp("wandb")
    for name in ("user", "tmp"):
        (folder / name).mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_") and name != "NETRC"}
    environ |= {"HOME": str(folder / "user"), "TMPDIR": str(folder / "tmp")}
    argv = [sys.executable, "-c", TRAINING, str(folder / RUN)]
    done = subprocess.run(argv, env=environ, cwd=folder, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, [read_offline(one) for one in sorted((folder / RUN / "wandb").glob("offline-run-*"))], done


def test_the_rows_of_the_journal_are_told(trained: Trained) -> None:
    folder, (told, *_), _ = trained
    rows = [json.loads(line) for line in (folder / RUN / "events.jsonl").read_text().splitlines()]
    losses = [row["v"]["train/loss"] for row in rows if row["k"] == "metrics" and "train/loss" in row["v"]]
    assert told.column("train/loss") == pytest.approx(losses[:5]) and len(told.column("val/loss")) == 1
    assert told.column("lr")[0] == 0.01 and told.column("train/grad_norm")
    assert told.column("parameters") == [25] and told.column("samples_per_s") and told.column("memory_gib")
    assert told.config["facts"] == {"architecture": "two lines"}
    assert told.config["model"]["name"] == "cnn" and told.config["logger"] == "wandb"


def test_gradients_are_told_as_histograms(trained: Trained) -> None:
    _, (told, *_), _ = trained
    found = told.column("gradients/body")[0]
    assert found["_type"] == "histogram" and sum(found["values"]) == 20 and told.column("gradients/head")


def test_the_evaluation_is_told_with_tables_picture_and_sound(trained: Trained) -> None:
    _, (told, *_), _ = trained
    assert told.column("test/balanced_accuracy") == [0.75] and told.column("test/balanced_accuracy/ceiling") == [0.85]
    table = json.loads((told.files / told.column("test/classes")[0]["path"]).read_text())
    assert table["columns"][0] == "rudiment" and [row[0] for row in table["data"]] == ["flam", "drag"]
    assert table["data"][0][3] is None, "a number that is missing is missing"
    picture = told.column("test/confusion")[0]
    assert picture["_type"] == "image-file" and (picture["width"], picture["height"]) == (28, 28)
    assert (told.files / picture["path"]).read_bytes().startswith(b"\x89PNG")
    assert told.column("test/worst")[0]["_type"] in ("table-file", "partitioned-table")
    sounds = told.column("test/worst_sounds")[0]
    assert sounds["_type"] == "audio" and sounds["count"] == 2 and sounds["captions"][0] == "flam taken for drag"
    assert all(path.stat().st_size > 800 for path in (told.files / "media" / "audio").rglob("*.wav"))


def test_attempts_continue_one_run_and_nothing_lies_elsewhere(trained: Trained) -> None:
    folder, told, done = trained
    assert [one.id for one in told] == [RUN, RUN]
    assert len(told[1].column("train/loss")) == 4 and "resuming" in done.stdout and "crashed" in done.stdout
    assert [path for name in ("user", "tmp") for path in (folder / name).rglob("*") if path.is_file()] == []
    assert {path.name for path in folder.iterdir()} == {RUN, "user", "tmp"}


def test_it_says_how_to_upload_and_nothing_else(trained: Trained) -> None:
    folder, _, first = trained
    told = [line for line in first.stderr.splitlines() if "no W&B API key" in line]
    assert len(told) == 2, "once in each attempt"
    assert all(f"wandb sync {folder / RUN}/wandb/offline-run-*" in line for line in told), "`show` keeps the warning"
    assert "wandb: " not in first.stdout + first.stderr


def test_a_key_without_a_network_is_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nowhere/netrc")
    assert choose_mode(said.append) == "offline" and "no W&B API key" in said[-1]
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert choose_mode(said.append) == "offline" and "127.0.0.1 is not reachable" in said[-1]
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert choose_mode(said.append) == "disabled" and len(said) == 2


def test_what_wandb_cannot_do_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(tmp_path / RUN)
    run.path.mkdir()
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "blocked").write_text("a file where a folder should be")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "blocked"))
    context = Context(run, tmp_path)
    assert wandb_callback(SousaConfig(logger="wandb"), context) is None
    report_to_wandb(SousaConfig(logger="wandb"), context)
    assert "W&B could not be started" in capsys.readouterr().err


def test_the_telling_ends_at_the_first_failure_and_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(tmp_path / RUN)
    run.path.mkdir()
    context = Context(run, tmp_path)
    told = WandbRun(None, object(), context)  # no W&B run: it cannot log
    context.journal = TellingWriter(run.events, told)
    for step in (1, 2):
        context.log({"train/loss": 0.5}, step)
    context.about(numbers={"parameters": 3})
    told.finish()
    assert not told.alive and capsys.readouterr().err.count("W&B takes no more records") == 1
    assert run.events.read_text().count("train/loss") == 2


def test_without_the_logger_nothing_happens(tmp_path: Path) -> None:
    context = Context(RunDir(tmp_path / RUN), tmp_path)
    assert wandb_callback(SousaConfig(), context) is None
    report_to_wandb(SousaConfig(), context)
    assert not (tmp_path / RUN).exists()


def test_a_key_is_found_in_the_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not has_key("api.wandb.ai")
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password abc\n")
    (tmp_path / "netrc").chmod(0o600)
    assert has_key("api.wandb.ai") and not has_key("wandb.example.org")


def test_gradients_are_grouped_by_the_parts_of_the_network() -> None:
    names = [f"net.blocks.{block}.{part}.weight" for block in range(30) for part in ("a", "b")] + ["net.head.weight"]
    groups = grouped([(name, torch.ones(2)) for name in names])
    assert set(groups) == {"net.blocks", "net.head"} and len(groups["net.blocks"]) == 60
    assert set(grouped([("weight", torch.ones(1))])) == {"all"}
    counts, edges = histogram([torch.tensor([-2.0, 0.0, 2.0, float("nan")])])
    assert counts.sum() == 3 and edges[0] == -2.0 and edges[-1] == 2.0
    assert histogram([torch.zeros(3)])[0].sum() == 3


def test_the_picture_of_a_matrix() -> None:
    pixels_HW3 = confusion_picture(np.array([[4, 0, 0], [1, 3, 0], [0, 0, 0]]), ["roll", "roll", "flam"], cell=4)
    assert pixels_HW3.shape == (12, 12, 3)
    assert tuple(pixels_HW3[1, 1]) == (94, 214, 158) and tuple(pixels_HW3[1, 9]) == (22, 24, 31)
    assert tuple(pixels_HW3[8, 3]) == (120, 124, 140), "a line between families"
    data = encode(pixels_HW3)
    length = struct.unpack(">I", data[33:37])[0]
    raw = np.frombuffer(zlib.decompress(data[41 : 41 + length]), np.uint8).reshape(12, 37)
    assert (raw[:, 1:].reshape(12, 12, 3) == pixels_HW3).all() and (raw[:, 0] == 0).all()
    with pytest.raises(ValueError, match="height, width, 3"):
        encode(np.zeros((3, 3), np.uint8))
