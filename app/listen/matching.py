"""Which gains make the tracks of an item equally loud, and why there may be none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...engine.samples.loudness import matching_gains
from ...widgets.track_view import TrackView


def gains_to(reference: int, views: Sequence[TrackView], title: str) -> tuple[list[float], str] | None:
    """Gains in dB that make everything as loud as the reference; None while that is still being read.

    When the reference is silent or cannot be measured there are no gains, and the second value says why: what is
    compared with it would otherwise be turned down to whatever else the item holds, and a failure could not be heard.
    """
    meant = views[reference]
    if meant.measures is None and meant.problem is None:
        return None
    if meant.measures is None or not math.isfinite(meant.measures.heard_lufs):
        why = "is silent" if meant.measures is not None else "cannot be measured"
        return [0.0] * len(views), f"{title} {why}"
    order = [reference, *(place for place in range(len(views)) if place != reference)]
    measures = [views[place].measures for place in order]
    loudness = [-math.inf if measure is None else measure.heard_lufs for measure in measures]
    peaks = [-math.inf if measure is None else measure.true_peak_db for measure in measures]
    gains = dict(zip(order, matching_gains(loudness, peaks), strict=True))
    return [gains[place] for place in range(len(views))], ""
