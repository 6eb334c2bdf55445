"""What a training script calls a sound, made into float32 of shape (frames, channels)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..format import plain
from .arrays import Audio
from .faults import SampleError
from .items import MOST_CHANNELS, MOST_RATE

FEW_CHANNELS = 8
"""An array (few, many) is torch's (channels, frames); with more than eight rows it is (frames, channels)."""
FRAMES_AT_ONCE = 1 << 18
_INTEGER_FULL_SCALE = {"int16": 2**15, "int32": 2**31, "int8": 2**7}


def rate_of(track: str, rate: Any) -> int:
    """A sampling rate in whole Hz."""
    said = f"track {plain(track, 40)!r} has the sampling rate {plain(repr(rate), 40)}"
    try:
        number = float(rate)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise SampleError(f"{said}, which is no number: give Hz, such as 16000.") from None
    if number > MOST_RATE:
        raise SampleError(f"{said}: more than {MOST_RATE:,} Hz is no sound. Give Hz, such as 16000.")
    if not number >= 1:
        raise SampleError(f"{said}: give a positive rate in Hz, such as 16000.")
    if number != int(number):
        raise SampleError(f"{said}: give whole Hz, such as {round(number)}.")
    return int(number)


def audio_of(track: str, value: Any) -> npt.NDArray[Any]:
    """`value` as (frames, channels), not yet float32: a long clip is converted part by part (`as_float32`).

    Takes numpy and anything with `__array__`, torch tensors on any device included; shapes (frames,),
    (frames, channels), (channels, frames) with at most 8 channels, and those with leading ones.
    """
    name = plain(track, 40)
    array = _array(value, name)
    if array.dtype.kind != "f" and str(array.dtype) not in _INTEGER_FULL_SCALE:
        raise SampleError(f"track {name!r} is of type {array.dtype}: give floats in -1…1, or int16.")
    shape = array.shape
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise SampleError(
            f"track {name!r} has the shape {shape}: give (frames,) or (frames, channels), one clip a call."
        )
    if array.shape[0] <= FEW_CHANNELS < array.shape[1]:
        array = array.T
    if not 1 <= array.shape[1] <= MOST_CHANNELS:
        turned = array.shape[0] <= MOST_CHANNELS
        advice = "give (frames, channels), such as array.T" if turned else f"1 to {MOST_CHANNELS} will do"
        raise SampleError(f"track {name!r} has {array.shape[1]:,} channels (shape {shape}): {advice}.")
    return array


def as_float32(part: npt.NDArray[Any]) -> Audio:
    """A part of a sound as float32; integers become -1…1."""
    full_scale = _INTEGER_FULL_SCALE.get(str(part.dtype))
    if full_scale is not None:
        return (part / np.float64(full_scale)).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(part, np.float32)


def _array(value: Any, name: str) -> npt.NDArray[Any]:
    for verb in ("detach", "cpu"):  # a tensor, without importing torch
        method = getattr(value, verb, None)
        if callable(method):
            value = method()
    try:
        return np.asarray(value)
    except TypeError:  # bfloat16 has no numpy type
        if callable(getattr(value, "float", None)):
            return np.asarray(value.float())
        raise SampleError(f"track {name!r} is no array of numbers.") from None
    except ValueError:
        raise SampleError(f"track {name!r} is no array of numbers: its rows differ in length.") from None
