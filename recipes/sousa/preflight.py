"""What can be refused before a run is launched, so that no data are made for a training that cannot work. No torch."""

from __future__ import annotations

from collections.abc import Iterable

from ...engine.errors import UsageError
from .config import SousaConfig
from .errors import DataError
from .layouts import names
from .pretrained import wanted

SOUND = frozenset({"audio", "audio_path"})
"""The only columns of a table that may lead into a network."""


def check(config: SousaConfig, stage: str | None, here: bool) -> None:
    """The recipe's own check of a configuration, made with every key that is typed into its form.

    Parameters
    ----------
    stage: the only one that is to run, or None for all.
    here: whether it is to run on this machine, so that its paths can be looked at.

    Raises
    ------
    UsageError: the weights cannot be had, or something else than the sound is to go into the network.
    """
    try:
        refuse_label_inputs(config.data.inputs)
    except DataError as error:
        raise UsageError(str(error)) from None
    if stage != "generate":
        wanted(config, here)


def refuse_label_inputs(columns: Iterable[str]) -> None:
    """Let nothing but the sound into a network.

    The tables tell which hand played what: a model that reads `stroke_type` or `flam_spacing_ms` is right every time,
    and has heard nothing.

    Raises
    ------
    DataError: any column is not the sound, or there is none.
    """
    columns = list(columns)
    strange = [column for column in columns if column not in SOUND]
    if strange:
        raise DataError(
            f"{names(strange)} cannot be the input of a model: the tables' columns are annotations, which give the "
            "rudiment away. Only the sound (audio_path) goes in."
        )
    if not columns:
        raise DataError("data.inputs is empty, and a model has to hear something: leave it at audio_path.")
