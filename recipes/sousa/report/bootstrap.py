"""How sure a score is: the players drawn anew.

The clips of one player are alike in touch and timing, so drawing clips would promise an interval several times too
narrow. Whole players are drawn with replacement instead (Efron 1979, of clusters), and everything that is needed of a
player is a few sums per class, so a thousand resamples are one matrix product.

Shapes: N clips, P players, K classes, R resamples.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from ....engine.paired import RESAMPLES, Interval, percentiles, resampled


def intervals(
    label_N: np.ndarray,
    answer_N: np.ndarray,
    players: Sequence[str],
    kinds: int,
    parts: dict[str, np.ndarray],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """95 % intervals of balanced accuracy, accuracy, macro F1 and the accuracy within `parts`; {} with one player.

    Classes that a resample lacks are left out of its mean, as they are of the score itself. With fewer than some ten
    players such an interval is itself a rough one, and rather too narrow.

    Parameters
    ----------
    parts: metric name to a number per class; an answer counts as right when it has the truth's number.
    """
    names, player_N = np.unique(np.asarray(players), return_inverse=True)
    if len(names) < 2:
        return {}
    weights_RP = resampled(len(names), resamples, seed)
    right_N = label_N == answer_N
    values = resampled_scores(
        weights_RP,
        _sums(player_N, label_N, len(names), kinds),
        _sums(player_N[right_N], label_N[right_N], len(names), kinds),
        _sums(player_N, answer_N, len(names), kinds),
    )
    clips_P = np.bincount(player_N, minlength=len(names))
    for name, part_K in parts.items():
        found_P = np.bincount(player_N, part_K[label_N] == part_K[answer_N], len(names))
        values[name] = (weights_RP @ found_P) / (weights_RP @ clips_P)
    return {name: percentiles(value_R, len(names)) for name, value_R in values.items()}


def resampled_scores(
    weights_RP: np.ndarray, clips_PK: np.ndarray, right_PK: np.ndarray, answers_PK: np.ndarray
) -> dict[str, np.ndarray]:
    """Balanced accuracy, accuracy and macro F1, (R,) each, where player p counts `weights_RP[r, p]` times."""
    clips_RK, right_RK, answers_RK = (weights_RP @ sums_PK for sums_PK in (clips_PK, right_PK, answers_PK))
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        recall_RK = np.where(clips_RK > 0, right_RK / clips_RK, np.nan)
        f1_RK = np.where(clips_RK > 0, 2 * right_RK / (clips_RK + answers_RK), np.nan)
        return {
            "balanced_accuracy": np.nanmean(recall_RK, axis=1),
            "accuracy": right_RK.sum(axis=1) / clips_RK.sum(axis=1),
            "macro_f1": np.nanmean(f1_RK, axis=1),
        }


def _sums(player_N: np.ndarray, class_N: np.ndarray, players: int, kinds: int) -> np.ndarray:
    """Clips per player and class, (P, K) float64."""
    flat = np.bincount(player_N * kinds + class_N, minlength=players * kinds)
    return flat.reshape(players, kinds).astype(np.float64)
