"""The `platform=` presets: what a kind of machine changes about a training, and nothing about what is learned.

Every preset keeps the effective batch (batch × accumulate) at 32, so that runs of different machines stay comparable;
only the memory taken at once differs. A preset must fit the largest network, because a group's option cannot know
which model was chosen beside it; a smaller one may take a larger batch by hand.
"""

from __future__ import annotations

from typing import Any

EFFECTIVE_BATCH = 32

MOUNTED_SET = "/mnt/sousa"
"""Where a job finds the recorded set. Not below /data: Hugging Face Jobs mounts the script's own files there."""


def _platform(batch: int, workers: int, precision: str = "auto", **other: Any) -> dict[str, Any]:
    return {
        "training.batch_size": batch,
        "training.accumulate": EFFECTIVE_BATCH // batch,
        "training.workers": workers,
        "training.precision": precision,
        **other,
    }


def _job(batch: int, workers: int, cache_gib: float, precision: str = "auto", **other: Any) -> dict[str, Any]:
    memory = {"data.cache_gib": cache_gib}
    return _platform(batch, workers, precision, **{"data.path": MOUNTED_SET, **memory, **other})


PLATFORMS: dict[str, dict[str, Any]] = {
    "local": {},
    "cpu": _platform(16, 0, "32-true", **{"data.cache_gib": 2.0}),
    "m4_max": _platform(8, 4, "16-mixed", **{"data.cache_gib": 4.0}),
    "hf_jobs_t4": _job(8, 3, 2.0, "16-mixed", **{"training.checkpointing": True}),
    "hf_jobs_l4": _job(16, 6, 6.0),
    "hf_jobs_a10g": _job(16, 3, 2.0),
    "hf_jobs_l40s": _job(32, 6, 12.0),
    "hf_jobs_a100": _job(32, 8, 24.0),
    "hf_jobs_h200": _job(32, 16, 32.0),
}
"""What each option sets; the clips of a job are the recorded set, `data.path=null` has it make its own."""


def training_items(config: Any) -> int:
    """Clips of the training split as the configuration plans them, without those of held out players."""
    data = config.data
    return max(1, round(data.clips * (1.0 - data.val_share - data.test_share)))
