"""5 steps + kill -9 + resume + 5 steps are 10 steps, to the bit; and a stop that is asked for loses nothing either."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.checkpoints import read_checkpoints

torch = pytest.importorskip("torch")
SCRIPT = Path(__file__).with_name("tiny_training.py")


class Trainings:
    """The server of `tiny_training.py`: every training is a real process of its own, with a real SIGKILL."""

    def __init__(self) -> None:
        environ = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(SCRIPT)]
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)
        assert self.server.stdin and self.server.stdout
        self.orders, self.answers = self.server.stdin, self.server.stdout
        assert self.answers.readline() == "ready\n"

    def start(self, run: Path, **options: Any) -> int:
        """Begin a training in `run`; returns its pid."""
        self.out, self.err = run.parent / "out", run.parent / "err"
        order = {"run": str(run), "options": options, "out": str(self.out), "err": str(self.err)}
        print(json.dumps(order), file=self.orders, flush=True)
        return int(self.answers.readline())

    def end(self) -> tuple[int, str, str]:
        """Wait for it: exit code (negative: the signal), stdout, stderr."""
        code = int(self.answers.readline())
        texts = self.out.read_text(), self.err.read_text()
        self.out.unlink()
        self.err.unlink()
        return code, *texts

    def __call__(self, run: Path, **options: Any) -> tuple[int, str, str]:
        self.start(run, **options)
        return self.end()


@pytest.fixture(scope="module")
def train() -> Iterator[Trainings]:
    trainings = Trainings()
    yield trainings
    trainings.orders.close()
    trainings.server.wait(20)


def rows(run: Path) -> dict[tuple[int, str], Any]:
    """The metric rows a reader keeps: rows past a later `start` event's step are dropped."""
    kept: dict[tuple[int, str], Any] = {}
    for raw in (run / "events.jsonl").read_text().splitlines():
        event = json.loads(raw)
        if event["k"] == "start":
            kept = {key: value for key, value in kept.items() if key[0] <= event["step"]}
        if event["k"] == "metrics":
            kept |= {(event["step"], name): value for name, value in event["v"].items()}
    return kept


def weights(run: Path) -> dict[str, Any]:
    return torch.load(run / "weights.pt", weights_only=True)


def assert_same(one: Path, other: Path) -> None:
    assert rows(one) == rows(other)
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, train: Trainings) -> Path:
    """Ten steps without interruption: 22 items in batches of 4, so an epoch ends inside a batch, at step 5.5."""
    run = tmp_path_factory.mktemp("straight") / "run"
    code, out, err = train(run, steps=10)
    assert code == 0, err
    assert "finished at 10" in out
    return run


def test_nothing_is_written_outside_the_run_directory(straight: Path) -> None:
    assert [path.name for path in straight.parent.iterdir()] == ["run"]
    assert sorted(path.name for path in straight.iterdir()) == ["checkpoints", "events.jsonl", "weights.pt"]


def test_five_kill_resume_five_equals_ten(tmp_path: Path, straight: Path, train: Trainings) -> None:
    run = tmp_path / "run"
    code, _, _ = train(run, steps=10, die_at=6)
    assert code == -signal.SIGKILL
    assert [line.step for line in read_checkpoints(run / "checkpoints/manifest.jsonl")] == [1, 2, 3, 4, 5]
    code, out, err = train(run, steps=10, resume=True, attempt=2)
    assert code == 0, err
    assert "step-00000005.ckpt: step 5 of 10" in out
    assert_same(run, straight)


def test_steps_after_the_last_checkpoint_are_done_again_the_same(
    tmp_path: Path, straight: Path, train: Trainings
) -> None:
    """Killed in step 9, newest checkpoint at 6, in the middle of the second epoch: 7 and 8 are trained twice."""
    run = tmp_path / "run"
    assert train(run, steps=10, save_every=3, val_every=4, die_at=9)[0] == -signal.SIGKILL
    assert (8, "train/loss") in rows(run)
    manifest = run / "checkpoints/manifest.jsonl"
    kept = [line for line in manifest.read_text().splitlines() if json.loads(line)["step"] <= 6]
    manifest.write_text("\n".join(kept) + '\n{"name":"torn')
    code, out, err = train(run, steps=10, save_every=3, val_every=4, resume=True, attempt=2)
    assert code == 0, err
    assert "step 6 of 10" in out
    assert_same(run, straight)


def test_accumulated_batches_resume_at_a_step_border(tmp_path: Path, train: Trainings) -> None:
    shape = {"steps": 6, "accumulate": 3, "val_every": 2, "batch": 3}
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert train(whole, **shape)[0] == 0
    assert train(run, **shape, die_at=4)[0] == -signal.SIGKILL
    code, _, err = train(run, **shape, resume=True, attempt=2)
    assert code == 0, err
    assert_same(run, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_saves_at_the_step_border_and_ends_cleanly(
    tmp_path: Path, straight: Path, train: Trainings, wait_for: Any, number: signal.Signals
) -> None:
    """Checkpoints come only every 100 steps here: the one at step 6 is there because of the signal."""
    run, flag = tmp_path / "run", tmp_path / "flag"
    pid = train.start(run, steps=10, save_every=100, hang_at=6, flag=str(flag))
    wait_for(flag.exists, 60, "step 6")
    os.kill(pid, number)
    code, out, err = train.end()
    assert code == 0, err
    assert f"stopped by {number.name} after step 6 of 10; its state is saved." in out
    assert read_checkpoints(run / "checkpoints/manifest.jsonl")[-1].step == 6
    code, _, err = train(run, steps=10, save_every=100, resume=True, attempt=2)
    assert code == 0, err
    assert_same(run, straight)


def test_a_stop_during_validation_does_it_again_after_resume(
    tmp_path: Path, straight: Path, train: Trainings, wait_for: Any
) -> None:
    run, flag = tmp_path / "run", tmp_path / "flag"
    pid = train.start(run, steps=10, save_every=100, hang_in_validation_of=8, flag=str(flag))
    wait_for(flag.exists, 60, "the validation of step 8")
    os.kill(pid, signal.SIGTERM)
    assert train.end()[0] == 0
    assert (8, "val/loss") not in rows(run)
    code, _, err = train(run, steps=10, save_every=100, resume=True, attempt=2)
    assert code == 0, err
    assert_same(run, straight)


def test_a_damaged_newest_checkpoint_is_passed_over_and_said(tmp_path: Path, straight: Path, train: Trainings) -> None:
    run = tmp_path / "run"
    assert train(run, steps=10, die_at=6)[0] == -signal.SIGKILL
    newest = run / "checkpoints/step-00000005.ckpt"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    code, out, err = train(run, steps=10, resume=True, attempt=2)
    assert code == 0, err
    assert "step-00000005.ckpt does not match its sha256" in err
    assert "step 4 of 10" in out
    assert_same(run, straight)
    lines = read_checkpoints(run / "checkpoints/manifest.jsonl")
    assert [line.name for line in lines if line.step == 5] == ["step-00000005.ckpt", "step-00000005-2.ckpt"]


def test_a_loss_that_is_no_number_ends_with_a_sentence(tmp_path: Path, train: Trainings) -> None:
    run = tmp_path / "run"
    code, _, err = train(run, steps=10, nan_at=3)
    assert code == 1
    assert "became NaN at step 3" in err
    assert "Traceback" not in err
    events = [json.loads(raw) for raw in (run / "events.jsonl").read_text().splitlines()]
    assert [event["rule"] for event in events if event["k"] == "alert"] == ["nan-loss"]
    assert events[-2]["v"]["train/loss"] == "NaN" or any(
        event["k"] == "metrics" and event["v"].get("train/loss") == "NaN" for event in events
    )
    assert [line.step for line in read_checkpoints(run / "checkpoints/manifest.jsonl")] == [1, 2]


def test_patience_ends_early_and_a_resume_leaves_it_ended(tmp_path: Path, train: Trainings) -> None:
    run = tmp_path / "run"
    code, out, err = train(run, steps=400, val_every=2, patience=2, total=400, save_every=50)
    assert code == 0, err
    assert "early at" in out
    code, out, _ = train(run, steps=400, val_every=2, patience=2, total=400, save_every=50, resume=True, attempt=2)
    assert code == 0
    assert "had already ended (early)" in out


def test_other_data_refuses_to_resume(tmp_path: Path, train: Trainings) -> None:
    run = tmp_path / "run"
    assert train(run, steps=10, die_at=3)[0] == -signal.SIGKILL
    code, _, err = train(run, steps=10, items=30, resume=True, attempt=2)
    assert code == 1
    assert "cannot be resumed exactly" in err
    assert "Traceback" not in err


def test_a_full_disk_costs_the_checkpoint_not_the_training(tmp_path: Path, train: Trainings) -> None:
    """A limit on file size stands in for the full disk: checkpoints of 25 kB do not fit, journal lines do."""
    run = tmp_path / "run"
    code, out, err = train(run, steps=4, file_limit=15_000)
    assert code == 0, err
    assert "finished at 4" in out
    assert "the checkpoint of step 1 was not written" in err
    events = [json.loads(raw) for raw in (run / "events.jsonl").read_text().splitlines()]
    assert "checkpoint-failed" in {event.get("rule") for event in events}
    assert read_checkpoints(run / "checkpoints/manifest.jsonl") == []
    assert list((run / "checkpoints").iterdir()) == []
