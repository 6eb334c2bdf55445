"""`from wavedeck import log_sample`: one item of an evaluation from anyone's training script.

Like `log`: a no-op outside a run and on all ranks but the first, and nothing it meets ends a training, not even an
argument that it does not have. What was wrong stands in the journal as a warning that names the item; of the same
mistake at every item not every one is told, but all are counted.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec

from ..errors import WavedeckError
from ..logger import EVENTS_FILE, RUN_DIR_VARIABLE, EventWriter, is_main_process

if TYPE_CHECKING:
    from .writer import SampleWriter

Parameters = ParamSpec("Parameters")
TOLD_OF_A_KIND = 3
MOST_TOLD = 100
_writers: dict[tuple[str, str], SampleWriter] = {}


class Tally:
    """Counts what went wrong with samples, and tells enough of it in the journal: the first of each kind and, of very
    many, each time there are twice as many; `close` tells the sum.

    Parameters
    ----------
    fate: what became of the item, such as `was not kept`.
    """

    def __init__(self, fate: str) -> None:
        self._fate = fate
        self._kinds: dict[str, int] = {}
        self._last = ("", "")
        self.count = self._told = 0

    def add(self, directory: str, item: str, reason: str) -> None:
        """One more item, and what was wrong with it, as a sentence's end."""
        self.count += 1
        self._last = (directory, f"{item} {self._fate}: {reason}")
        kind = "".join(char for char in reason if not char.isdigit())
        if kind in self._kinds or len(self._kinds) < MOST_TOLD:
            self._kinds[kind] = self._kinds.get(kind, 0) + 1
        few = self._kinds.get(kind, MOST_TOLD) <= TOLD_OF_A_KIND and self.count <= MOST_TOLD
        if few or not self.count & (self.count - 1):
            self._tell(self._last[1] + (f" {self._sum()} so far." if self.count > 1 else ""))

    def close(self) -> None:
        """At the end of the training."""
        if self.count > self._told:
            self._tell(f"{self._sum()} in all. The last one: {self._last[1]}")

    def _sum(self) -> str:
        return f"{self.count:,} samples {self._fate.replace('was', 'were', 1)}"

    def _tell(self, text: str) -> None:
        self._told = self.count
        journal = EventWriter(os.path.join(self._last[0], EVENTS_FILE))
        journal.write("log", level="warning", text=text)
        journal.close()


_refused = Tally("was not kept")
_stripped = Tally("was kept in part")


def never_raising(function: Callable[Parameters, str | None]) -> Callable[Parameters, str | None]:
    """What `function` cannot take is a warning: unknown arguments are left out, any other mistake costs the item."""
    known = tuple(inspect.signature(function).parameters)

    @functools.wraps(function)
    def forgiving(*args: Any, **given: Any) -> str | None:
        directory = os.environ.get(RUN_DIR_VARIABLE)
        if not directory or not is_main_process():
            return None
        named = {name: value for name, value in given.items() if name in known}
        item = "a sample"
        try:
            item = _called(named)
            for name in given.keys() - named.keys():
                _stripped.add(directory, item, f"log_sample has no argument {name!r}.{_near(name, known)}")
            if len(args) > 1:
                _stripped.add(directory, item, "all arguments but the tracks need their names, such as step=….")
            if args:
                return function(args[0], **named)  # type: ignore[arg-type, call-arg]
            return function(**{"tracks": None, **named})  # type: ignore[arg-type, call-arg]
        except ImportError as error:
            name = error.name or str(error)
            _refused.add(directory, item, f"{name} is not installed where this program runs (pip install {name}).")
        except WavedeckError as error:
            _refused.add(directory, item, str(error))
        except Exception as error:
            _refused.add(directory, item, f"its arguments could not be used ({type(error).__name__}: {error}).")
        return None

    return forgiving


def _called(given: Mapping[str, Any]) -> str:
    """The item in words, from arguments that nobody has checked."""
    from ..format import plain

    key, step = given.get("key"), given.get("step")
    name = "a sample without a key" if key is None else f"sample {plain(str(key), 60)!r}"
    at_step = "" if step is None else f" at step {plain(str(step), 20)}"
    return f"{name} of {plain(str(given.get('set', 'val')), 40)}{at_step}"


def _near(name: str, known: tuple[str, ...]) -> str:
    from ..errors import suggestion

    return suggestion(name, known)


@never_raising
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
    directory = os.environ[RUN_DIR_VARIABLE]
    remarks: list[str] = []
    writer = _writer(directory, set)
    id = writer.log(
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
        remark=remarks.append,
    )
    for remark in remarks:
        _stripped.add(directory, _called({"key": key, "step": step, "set": set}), remark)
    return id


def _writer(directory: str, set: str) -> SampleWriter:
    from .writer import SampleWriter

    writer = _writers.get((directory, set))
    if writer is None:
        writer = _writers[directory, set] = SampleWriter(directory, set)
    return writer


def _close() -> None:
    """End the files, so that other programs can open them without the mode for live files, and sum up."""
    for writer in _writers.values():
        writer.close()
    for tally in (_refused, _stripped):
        tally.close()


atexit.register(_close)
