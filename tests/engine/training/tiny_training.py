"""A training of a few kilobytes in a process of its own, for the resume tests.

`python tiny_training.py` reads one JSON order a line, forks a training for each (importing torch once instead of
twenty times), answers with its pid, and with its exit code once it ended.

Options of an order: steps, save_every, val_every, accumulate, items, batch, patience, resume, attempt; file_limit in
bytes; nan_at; die_at (SIGKILL itself in that step, before anything of the step is recorded); hang_at and
hang_in_validation_of (write the file `flag` there and wait for a signal).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

import lightning as L
import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from wavedeck.engine.context import Context
from wavedeck.engine.errors import WavedeckError
from wavedeck.engine.manifest import Headline
from wavedeck.engine.rundir import RunDir
from wavedeck.engine.training.settings import TrainerSettings
from wavedeck.engine.training.stream import ItemKey, item_rng
from wavedeck.engine.training.trainer import TrainingJob, fit, seed_everything


class Noisy(Dataset):
    """Fixed points with per-item, per-epoch noise; validation asks with a plain index and gets none."""

    def __init__(self, items: int) -> None:
        self.points = torch.from_numpy(np.random.default_rng(0).standard_normal((items, 6)).astype(np.float32))

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, key: ItemKey | int) -> tuple[torch.Tensor, torch.Tensor]:
        index = key.item if isinstance(key, ItemKey) else key
        x = self.points[index]
        if isinstance(key, ItemKey):
            x = x + torch.from_numpy(item_rng(7, key).standard_normal(6).astype(np.float32)) * 0.1
        return x, (self.points[index].sum() > 0).float()


class Tiny(L.LightningModule):
    """Dropout and momentum, so that generators and optimizer state matter."""

    def __init__(self, options: dict) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.3), nn.BatchNorm1d(16), nn.Linear(16, 1))
        self.options = options

    def training_step(self, batch, batch_idx):
        self._obey()
        x, y = batch
        loss = nn.functional.binary_cross_entropy_with_logits(self.net(x).squeeze(1), y)
        return loss * float("nan") if self.global_step + 1 == self.options.get("nan_at") else loss

    def _obey(self) -> None:
        step = self.global_step + 1
        if step == self.options.get("die_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        if step == self.options.get("hang_at"):
            self.hang()

    def hang(self) -> None:
        Path(self.options["flag"]).touch()
        deadline = time.monotonic() + 60
        while not self.trainer.callbacks[0].session.stop.asked and time.monotonic() < deadline:
            time.sleep(0.01)

    def validation_step(self, batch, batch_idx):
        if self.global_step == self.options.get("hang_in_validation_of") and batch_idx == 0:
            self.hang()
        x, y = batch
        self.log("val/loss", nn.functional.binary_cross_entropy_with_logits(self.net(x).squeeze(1), y))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=self.options["total"])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def train(path: Path, options: dict) -> int:
    path.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if "file_limit" in options:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options["file_limit"], resource.RLIM_INFINITY))
    seed_everything(3)
    attempt, resume = options.get("attempt", 1), options.get("resume", False)
    context = Context(RunDir(path), path, resume=resume, attempt=attempt, device="cpu")
    settings = TrainerSettings(
        max_steps=options["steps"],
        batch_size=options.get("batch", 4),
        accumulate=options.get("accumulate", 1),
        save_every=options.get("save_every", 1),
        val_every=options.get("val_every", 4),
        log_every=1,
        patience=options.get("patience", 0),
        keep_last=50,
    )
    items = options.get("items", 22)
    options.setdefault("total", 10)
    job = TrainingJob(
        Tiny(options),
        Noisy(items),
        items,
        Noisy(9),
        settings,
        5,
        context,
        Headline("val/loss"),
        ("train/loss", "val/loss", "lr"),
    )
    try:
        result = fit(job)
    except WavedeckError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{result.reason} at {result.step}")
    torch.save(job.module.state_dict(), path / "weights.pt")
    return 0


def child(order: dict) -> None:
    """Become one training: own output files, own exit code, no way back into the server."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    code = 70
    try:
        code = train(Path(order["run"]), order["options"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    print("ready", flush=True)
    for raw in sys.stdin:
        pid = os.fork()
        if pid == 0:
            child(json.loads(raw))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
