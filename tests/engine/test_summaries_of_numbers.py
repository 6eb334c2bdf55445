"""Formatting and loss tables: what people read."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wavedeck.engine import format as fmt
from wavedeck.engine.headline import direction_of, guess_headline
from wavedeck.engine.loss_table import build
from wavedeck.engine.manifest import Headline
from wavedeck.engine.series import SeriesTable


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "NaN"),
        (-math.inf, "-Inf"),
        (0.0, "0"),
        (12.0, "12"),
        (0.123456, "0.1235"),
        (1e-4, "0.0001000"),
        (3.2e-7, "3.20e-7"),
        (12345.678, "12346"),
        (6.02e23, "6.02e23"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert fmt.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.4, "0s"), (59.6, "1m 00s"), (3599, "59m 59s"), (7500, "2h 05m"), (400_000, "4d 15h")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert fmt.duration(seconds) == text


def test_sizes_and_rates() -> None:
    assert [fmt.size(n) for n in (0, 1023, 1536, 1.6 * 2**30)] == ["0 B", "1023 B", "1.5 KiB", "1.6 GiB"]
    assert [fmt.rate(r) for r in (None, 0.05, 3.21, 250.0)] == ["–", "20.0s/step", "3.2 step/s", "250 step/s"]


def test_text_from_a_run_cannot_steer_the_terminal() -> None:
    assert fmt.plain("\x1b]0;title\x07 [red]x[/red]\r\n") == "·]0;title· [red]x[/red]··"
    assert len(fmt.plain("x" * 1000, 20)) == 20


@pytest.mark.parametrize(("key", "direction"), [
    ("val/loss", "min"), ("val/balanced_accuracy", "max"), ("wer", "min"), ("si_sdr", "max"), ("map_loss", "min"),
])  # fmt: skip
def test_directions(key: str, direction: str) -> None:
    assert direction_of(key) == direction


def test_a_headline_is_guessed_from_what_there_is() -> None:
    assert guess_headline(["lr", "train/loss", "val/loss"]) == Headline("val/loss", "min")
    assert guess_headline(["lr", "eval_accuracy"]) == Headline("eval_accuracy", "max")
    assert guess_headline(["lr"]) is None


def table() -> SeriesTable:
    rows = SeriesTable()
    for step in range(1, 31):
        rows.append_rows([(step, float(step), step / 10, {"train/loss": 3.0 / step})])
        if step % 10 == 0:
            rows.append_rows([(step, float(step), step / 10, {"val/loss": [0.9, math.nan, 0.4][step // 10 - 1]})])
    return rows


def test_a_loss_table_has_a_row_per_validation() -> None:
    losses = build(table().views(), ["train/loss", "val/loss"], Headline("val/loss", "min"))
    assert losses.columns == ("train/loss", "val/loss")
    assert losses.step.tolist() == [10, 20, 30]
    assert losses.values["train/loss"].tolist() == pytest.approx([0.3, 0.15, 0.1], rel=1e-6)
    assert np.isnan(losses.values["val/loss"][1])
    assert losses.record["val/loss"].tolist() == [True, False, True]
    assert losses.best == {"train/loss": 2, "val/loss": 2}
    assert losses.before("val/loss", 0) is None and losses.before("train/loss", 1) == pytest.approx(0.3)


def test_without_a_headline_the_rarest_repeated_metric_makes_the_rows() -> None:
    rows = table()
    rows.append_rows([(31, 31.0, None, {"test/accuracy": 0.9})])
    losses = build(rows.views())
    assert losses.step.tolist() == [10, 20, 30, 31], "the newest row is shown too"
    assert losses.known["test/accuracy"][-1] and not losses.known["val/loss"][-1]


def test_nothing_logged_is_an_empty_table() -> None:
    assert len(build({})) == 0
