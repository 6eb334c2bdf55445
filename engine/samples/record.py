"""`from wavedeck import log_sample`: one item of an evaluation from anyone's training script.

Like `log`: a no-op outside a run and on all ranks but the first, and nothing it meets ends a training; what was wrong
stands in the journal as a warning, once for each kind.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..logger import EVENTS_FILE, RUN_DIR_VARIABLE, EventWriter, is_main_process

if TYPE_CHECKING:
    from .writer import SampleWriter

_writers: dict[tuple[str, str], SampleWriter] = {}
_warned: set[str] = set()


def log_sample(
    tracks: Mapping[str, tuple[Any, float]],
    *,
    set: str = "val",
    step: int | None = None,
    epoch: float | None = None,
    key: object = None,
    metrics: Mapping[str, Any] | None = None,
    text: Mapping[str, Any] | None = None,
    tags: Iterable[str] = (),
    label: object = None,
    predicted: object = None,
    probabilities: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    attachments: Mapping[str, bytes | str | os.PathLike[str]] | None = None,
) -> str | None:
    """Keep one item with its sounds, to be listened to on the deck; returns its id, None when nothing was kept.

    `log_sample({"target": (y, 16000), "prediction": (p, 16000)}, step=1000, metrics={"wer": 0.2})`

    Parameters
    ----------
    tracks: name to (samples, rate in Hz). Samples are numpy arrays or tensors of floats in -1…1 (or int16), of shape
        (frames,), (frames, channels) or, with at most 8 channels, (channels, frames). `target`, `input` and
        `prediction` are shown in that order, other names after them.
    set: which evaluation this is; a run may have several.
    key: what makes this item the same one at other steps and in other runs, such as its file name. Without it the
        samples of the target (or input, or first track) do.
    metrics: numbers of this item. text: such as `{"target": "…", "prediction": "…"}`.
    label, predicted, probabilities: a class, the class chosen, and class to probability.
    parameters: name to (target, predicted).
    attachments: name to bytes, or to the path of a file that is copied.
    """
    directory = os.environ.get(RUN_DIR_VARIABLE)
    if not directory or not is_main_process():
        return None
    try:
        return _writer(directory, set).log(
            tracks,
            step=step,
            epoch=epoch,
            key=key,
            metrics=metrics,
            text=text,
            tags=tags,
            label=label,
            predicted=predicted,
            probabilities=probabilities,
            parameters=parameters,
            attachments=attachments,
        )
    except ImportError as error:
        _warn(directory, f"Samples are not kept: {error.name} is not installed (pip install {error.name}).")
    except Exception as error:
        _warn(directory, f"A sample was not kept: {error}")
    return None


def _writer(directory: str, set: str) -> SampleWriter:
    from .writer import SampleWriter

    writer = _writers.get((directory, set))
    if writer is None:
        writer = _writers[directory, set] = SampleWriter(directory, set)
    return writer


def _warn(directory: str, text: str) -> None:
    """Once for each sentence, whatever numbers it holds."""
    kind = "".join(char for char in text if not char.isdigit())
    if kind not in _warned:
        _warned.add(kind)
        journal = EventWriter(os.path.join(directory, EVENTS_FILE))
        journal.write("log", level="warning", text=text)
        journal.close()


def _close() -> None:
    """End the files, so that other programs can open them without the mode for live files."""
    for writer in _writers.values():
        writer.close()


atexit.register(_close)
