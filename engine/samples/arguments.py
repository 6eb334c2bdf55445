"""The arguments of `log_sample` as an index line holds them, or a sentence that names the argument that is wrong.

What makes the item meaningless (a sound that is none) is a `SampleError`; a number that is none costs itself and is
noted among the `remarks`. None stands for nothing everywhere and is no mistake.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..events import json_number
from ..format import plain
from .faults import SampleError
from .ids import MOST_NAME, audio_id, identifying_track, item_id
from .items import MOST_KEY
from .shelf import Sound
from .sounds import as_float32, audio_of, rate_of

MOST_TEXT = 20_000
Content = bytes | str | os.PathLike[str]


def sounds_of(tracks: object) -> dict[str, Sound]:
    """The tracks, checked."""
    sounds = {}
    for name, value in _mapping("tracks", tracks, '{"target": (samples, 16000)}').items():
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise SampleError(f"track {plain(str(name), 40)!r} is not (samples, rate), such as (audio, 16000).")
        sounds[name_of(name)] = Sound(audio_of(str(name), value[0]), rate_of(str(name), value[1]))
    return sounds


def attached_of(attachments: object) -> dict[str, Content]:
    """The attachments: bytes, or paths of files that are there."""
    files: dict[str, Content] = {}
    for name, content in _mapping("attachments", attachments, '{"preset": b"…"}').items():
        said = f"attachment {plain(str(name), 40)!r}"
        if isinstance(content, (bytearray, memoryview)):
            content = bytes(content)
        if not isinstance(content, (bytes, str, os.PathLike)):
            raise SampleError(f"{said} is {kind_of(content)}: give bytes, or the path of a file.")
        if not isinstance(content, bytes) and not Path(os.fsdecode(content)).is_file():
            raise SampleError(f"{said}: there is no file {plain(os.fspath(content), 200)}.")
        files[str(name)] = content
    return files


def id_of(key: object, sounds: Mapping[str, Sound]) -> str:
    """The item's id, of its key or of its samples."""
    if key is not None:
        return item_id(key)
    track = identifying_track(sounds)
    if track is None:
        raise SampleError("an item without a track needs key=…, such as its file name, to be known again.")
    return audio_id(as_float32(sounds[track].samples), sounds[track].rate)


def key_of(key: object) -> str:
    """A key as it is shown and found."""
    return str(key)[:MOST_KEY].encode("utf-8", "replace").decode()


def step_of(step: Any) -> int | None:
    """A whole step."""
    if step is None:
        return None
    number = number_of(step)
    if number is None or not -(2**62) < number < 2**62:
        raise SampleError(f"the step {plain(str(step), 40)!r} is no number.")
    return int(step) if isinstance(step, int) else int(number)


def epoch_of(epoch: Any, remarks: list[str]) -> float | None:
    """An epoch, which may be a fraction."""
    number = number_of(epoch)
    if epoch is not None and number is None:
        remarks.append(f"the epoch {_shown(epoch)} is no number.")
    return number


def numbers_of(what: str, values: object, remarks: list[str]) -> dict[str, float | str | None]:
    """Numbers for strict JSON."""
    plural = "metrics" if what == "metric" else "probabilities"
    numbers = {}
    for name, value in _mapping(plural, values, '{"wer": 0.2}').items():
        number = number_of(value)
        if number is not None:
            numbers[name_of(name)] = json_number(number)
        elif value is not None:
            remarks.append(f"{what} {plain(str(name), 40)!r} is {_shown(value)}, no number.")
    return numbers


def texts_of(text: object) -> dict[str, str]:
    """The texts, those that are too long cut."""
    pairs = _mapping("text", text, '{"target": "…"}').items()
    return {name_of(name): _text(value) for name, value in pairs if value is not None}


def tags_of(tags: object) -> list[str]:
    """The tags; a single word is one tag."""
    if tags is None:
        return []
    if not isinstance(tags, Iterable):
        raise SampleError(f'tags is {kind_of(tags)}: give words, such as ["hard"].')
    return [name_of(tag) for tag in ([tags] if isinstance(tags, (str, bytes)) else tags)]


def parameters_of(parameters: object, remarks: list[str]) -> dict[str, dict[str, float | str | None]]:
    """Each parameter's two sides, of `(target, predicted)`, a mapping with those names, or the predicted one alone."""
    found = {}
    for name, value in _mapping("parameters", parameters, '{"cutoff": (target, predicted)}').items():
        if isinstance(value, Mapping):
            sides = (value.get("target"), value.get("predicted"))
        elif isinstance(value, (tuple, list)) and len(value) == 2:
            sides = (value[0], value[1])
        else:
            sides = (None, value)
        numbers = [number_of(side) for side in sides]
        for side, number in zip(sides, numbers, strict=True):
            if number is None and side is not None:
                remarks.append(f"parameter {plain(str(name), 40)!r} is {_shown(side)}, no number.")
        found[name_of(name)] = {
            side: json_number(number) for side, number in zip(("target", "predicted"), numbers, strict=True)
        }
    return found


def name_of(value: object) -> str:
    """A name as text that UTF-8 can hold, at most `MOST_NAME` characters."""
    return str(value)[:MOST_NAME].encode("utf-8", "replace").decode()


def number_of(value: Any) -> float | None:
    """One float from a number or a one-element tensor; None for anything else."""
    try:
        item = getattr(value, "item", None)
        return float(item()) if item is not None else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def kind_of(value: object) -> str:
    """What a value is, in words: `a str`, `an int`."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {plain(name, 40)}"


def _mapping(field: str, value: object, example: str) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise SampleError(f"{field} is {kind_of(value)}: give names and values, such as {example}.")
    return value


def _shown(value: object) -> str:
    """A value that is short enough to show, else what it is."""
    return repr(value) if isinstance(value, str) and len(value) <= 40 and value.isprintable() else kind_of(value)


def _text(value: object) -> str:
    text = str(value)
    if len(text) > MOST_TEXT:
        text = text[: MOST_TEXT - 1] + "…"
    return text.encode("utf-8", "replace").decode()
