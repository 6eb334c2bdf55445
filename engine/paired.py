"""Two runs' answers to the same clips: does one of them really hear better?

Standard library and numpy, because the comparison of runs stands on it as well as the recipes' evaluations.

Two questions, for neither answers the other. McNemar's test looks at the clips that only one of the two got right; it
takes clips to be independent. Clips of one player are not, so the difference also gets an interval in which players are
drawn anew instead of clips.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .errors import WavedeckError
from .files import write_atomic
from .format import plain

ANSWERS_NAME = "answers.csv"
"""The file in a run's directory."""
ANSWER_COLUMNS = ("sample_id", "player", "truth", "answer", "probability")
_MAX_ANSWERS = 1_000_000
_MAX_BYTES = 256 << 20
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model took one clip for. `probability` is what it gave its own answer, 0…1."""

    sample_id: str
    player: str
    truth: str
    answer: str
    probability: float

    @property
    def right(self) -> bool:
        """Whether the answer is the truth."""
        return self.answer == self.truth


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a number lies in `level` of the resamples."""

    low: float
    high: float
    level: float = 0.95
    method: str = ""


@dataclass(frozen=True, slots=True)
class Paired:
    """The clips that two models both judged, counted by who was right."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p: float
    """Exact two-sided McNemar test: how often two equally good models would differ so much, were clips independent."""
    difference: float
    """Accuracy of the first less that of the second."""
    interval: Interval | None
    """Of the difference, players drawn anew; None with fewer than two players."""
    same: int | None = None
    """On how many clips both gave the same answer, right or wrong; None where only that is known."""

    @property
    def clips(self) -> int:
        """How many clips both judged."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def words(self) -> str:
        """One sentence for a table's foot."""
        if not self.only_first + self.only_second:
            if self.same == self.clips:
                return f"they answer alike on all {self.clips:,} clips"
            return f"they are right on the same {self.both:,} of {self.clips:,} clips"
        amount = f"{abs(self.difference) * 100:.1f} points"
        verdict = "equally often right" if not self.difference else (
            f"the {'first' if self.difference > 0 else 'second'} is right {amount} more often"
        )  # fmt: skip
        within = ""
        if self.interval is not None:
            low, high = self.interval.low * 100, self.interval.high * 100
            within = f", {low:+.1f} to {high:+.1f} points with players drawn anew"
        return (
            f"of {self.clips} clips {self.only_first} only by the first, {self.only_second} only by the second: "
            f"{verdict}{within}; McNemar p = {self.p:.2g}"
        )


def write_answers(path: Path, answers: Iterable[Answer]) -> None:
    """`answers.csv`, one line a clip; whole or not at all, for a mirror may be reading."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(ANSWER_COLUMNS)
    for one in answers:
        writer.writerow((one.sample_id, one.player, one.truth, one.answer, f"{one.probability:.6f}"))
    write_atomic(path, text.getvalue().encode())


def read_answers(path: Path) -> list[Answer]:
    """The answers of a run; text without control characters, for it may come from another host.

    Raises
    ------
    WavedeckError: there is no such file, or it is damaged; the sentence says what to do.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise WavedeckError(f"{path} is too large to be a run's answers.")
        with open(path, newline="", encoding="utf-8") as handle:
            rows = csv.DictReader(handle)
            missing = [name for name in ANSWER_COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise WavedeckError(f"{path} has no column {missing[0]}: evaluate the run again.")
            return [_answer(row) for row, _ in zip(rows, range(_MAX_ANSWERS), strict=False)]
    except FileNotFoundError:
        raise WavedeckError(f"{path.parent.name} has no {ANSWERS_NAME}: run its evaluate stage first.") from None
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise WavedeckError(f"{path} cannot be read ({error}): evaluate the run again.") from error


def _answer(row: dict[str, str | None]) -> Answer:
    texts = [row.get(name) for name in ANSWER_COLUMNS]
    if any(text is None for text in texts):
        raise ValueError("a line is cut off")
    sample_id, player, truth, answer, probability = (plain(text or "", 300) for text in texts)
    return Answer(sample_id, player, truth, answer, float(probability))


def compare_answers(first: Sequence[Answer], second: Sequence[Answer]) -> Paired:
    """Compare two models on the clips that both judged, matched by sample id.

    Raises
    ------
    WavedeckError: they have no clip in common, or disagree about what was played.
    """
    others = {one.sample_id: one for one in second}
    pairs = [(one, others[one.sample_id]) for one in first if one.sample_id in others]
    if not pairs:
        raise WavedeckError("the two runs were judged on different clips: nothing to compare pair by pair.")
    wrong = next((one.sample_id for one, other in pairs if one.truth != other.truth), None)
    if wrong is not None:
        raise WavedeckError(f"the two runs disagree about what is played in {wrong}: they belong to different sets.")
    first_N = np.array([one.right for one, _ in pairs])
    second_N = np.array([other.right for _, other in pairs])
    found = paired(first_N, second_N, [one.player for one, _ in pairs])
    return replace(found, same=sum(one.answer == other.answer for one, other in pairs))


def paired(first_N: np.ndarray, second_N: np.ndarray, players: Sequence[str], seed: int = 0) -> Paired:
    """Compare two models by whether each of N answers is right (bool), clip by clip."""
    only_first = int((first_N & ~second_N).sum())
    only_second = int((~first_N & second_N).sum())
    both = int((first_N & second_N).sum())
    difference_N = first_N.astype(np.float64) - second_N.astype(np.float64)
    return Paired(
        both=both,
        only_first=only_first,
        only_second=only_second,
        neither=len(first_N) - both - only_first - only_second,
        p=mcnemar(only_first, only_second),
        difference=float(difference_N.mean()),
        interval=_interval_of_mean(difference_N, players, seed),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """p of the exact two-sided test of McNemar (1947): a fair coin for each clip that only one got right."""
    tosses, fewer = only_first + only_second, min(only_first, only_second)
    ways, term = 0, 1
    for heads in range(fewer + 1):
        ways += term
        term = term * (tosses - heads) // (heads + 1)
    return min(1.0, 2 * ways / (1 << tosses))


def resampled(players: int, resamples: int, seed: int) -> np.ndarray:
    """How often each player is drawn, (resamples, players) float64: `players` draws with replacement, a row each."""
    rng = np.random.default_rng([seed, players])
    return rng.multinomial(players, np.full(players, 1 / players), size=resamples).astype(np.float64)


def percentiles(values_R: np.ndarray, players: int, level: float = 0.95) -> Interval:
    """The middle `level` of the resampled values; NaNs are left out."""
    edge = 50 * (1 - level)
    low, high = np.nanpercentile(values_R, [edge, 100 - edge])
    return Interval(float(low), float(high), level, f"bootstrap over {players} players, {len(values_R)} resamples")


def _interval_of_mean(value_N: np.ndarray, players: Sequence[str], seed: int) -> Interval | None:
    names, player_N = np.unique(np.asarray(players), return_inverse=True)
    if len(names) < 2:
        return None
    weights_RP = resampled(len(names), RESAMPLES, seed)
    sums_P = np.bincount(player_N, value_N, len(names))
    clips_P = np.bincount(player_N, minlength=len(names))
    return percentiles((weights_RP @ sums_P) / (weights_RP @ clips_P), len(names))
