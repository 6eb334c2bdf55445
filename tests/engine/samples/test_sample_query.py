"""The filter line, sorting worst first, groups and the cells of a confusion matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.samples import append_line, drum_set, large_index
from wavedeck.engine.samples import SampleColumns, SampleSet
from wavedeck.engine.samples.order import (
    confusion_rows,
    default_sort,
    group_rows,
    is_descending,
    sort_rows,
)
from wavedeck.engine.samples.query import NoteColumns, QueryError, parse


@pytest.fixture
def columns(tmp_path: Path) -> SampleColumns:
    lines = [
        {"id": "aa11", "key": "clip07", "step": 1, "metrics": {"wer": 0.5, "val loss": 2}, "label": "flam",
         "predicted": "flam", "tags": ["hard", "Long Clip"], "text": {"target": "The Sea"}},
        {"id": "aa22", "step": 2, "metrics": {"wer": 0.1}, "label": "flam tap", "predicted": "drag", "epoch": 2,
         "key": "clip08", "parameters": {"cutoff": {"target": 0.5, "predicted": 0.1}}},
        {"id": "bb33", "step": 2, "metrics": {"wer": "NaN"}, "label": "drag", "text": {"target": "flamenco"},
         "parameters": {"gain": {"predicted": 0}, "cutoff": {"target": 0.1, "predicted": 0.1}}},
        {"id": "aa11", "step": 2, "metrics": {"acc/top-1": 1}, "tags": ["easy"],
         "tracks": {"x": {"rate": 100, "channels": 2, "start": 0, "frames": 300}}},
        {"id": "cc44", "metrics": {"wer": "Infinity"}, "label": "a*b", "tracks": 7},
    ]  # fmt: skip
    for line in lines:
        append_line(tmp_path, "val", line)
    return SampleSet(tmp_path, "val").load().items


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("   ", [0, 1, 2, 3, 4]),
        ("wer>0.3", [0, 4]),
        ("wer>=0.1 wer<0.5", [1]),
        ("WER<=0.5", [0, 1]),
        ("wer:0.1..0.5", [0, 1]),
        ("wer:..0.2", [1]),
        ("wer:0.2..", [0, 4]),
        ("wer=nan", [2]),
        ("wer!=nan", [0, 1, 4]),
        ("wer=none", [3]),
        ("wer!=none", [0, 1, 2, 4]),
        ("epoch=none", [0, 2, 3, 4]),
        ("key:clip*", [0, 1]),
        ("key~07", [0]),
        ("key=CLIP08", [1]),
        ("clip07", [0]),
        ("track:x", [3]),
        ("track~X -step:1", [3]),
        ("channels>=2", [3]),
        ("rate:100", [3]),
        ("rate=none", [0, 1, 2, 4]),
        ("error/cutoff>0.1", [1]),
        ("target/cutoff=0.5", [1]),
        ("predicted/gain=0", [2]),
        ("wer=inf", [4]),
        ("wer=0.5", [0]),
        ("wer:0.5", [0]),
        ("-wer>0.3", [1, 2, 3]),
        ('"val loss">1', [0]),
        ("acc/top-1=1", [3]),
        ("label:flam*", [0, 1]),
        ("label:flam", [0]),
        ("LABEL:FLAM", [0]),
        ('label:"flam tap"', [1]),
        ("label~am", [0, 1]),
        ("label=a*b", [4]),
        ("label!=flam", [1, 2, 3, 4]),
        ("-label:*", [3]),
        ("predicted:drag", [1]),
        ("tag:hard", [0]),
        ('tag:"long clip"', [0]),
        ("-tag:hard tag:*", [3]),
        ("tag~ong", [0]),
        ("id:aa", [0, 1, 3]),
        ("id=aa11", [0, 3]),
        ("id:*33", [2]),
        ("text~sea", [0]),
        ("text:SEA", [0]),
        ("flam", [0, 1, 2]),
        ("drag", [1, 2]),
        ("hard", [0]),
        ("bb", [2]),
        ("-flam", [3, 4]),
        ("step:2", [1, 2, 3]),
        ("step>1", [1, 2, 3]),
        ("step:last", [1, 2, 3, 4]),
        ("epoch=2", [1]),
        ("seconds>2", [3]),
        ("is:wrong", [1]),
        ("is:right", [0]),
        ("is:broken", [4]),
        ("is:rated", [1, 3]),
        ("is:noted", [3]),
        ("rating>=4", [3]),
        ("note~great", [3]),
        ("wer>0.3 label:flam* -tag:easy text~sea id:aa", [0]),
    ],
)
def test_a_filter_keeps_what_fulfils_all_of_it(columns: SampleColumns, line: str, rows: list[int]) -> None:
    notes = NoteColumns(np.array([np.nan, 2, np.nan, 5, np.nan]), ["", "", "", "a great take", ""])
    assert np.flatnonzero(parse(line).mask(columns, notes)).tolist() == rows


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("wre>0.3", "no field or metric 'wre'. Did you mean wer"),
        ("nothing>1", "no field or metric 'nothing'"),
        ("foo:bar", "no field or metric 'foo'. There are wer, val loss"),
        ("error/none>1", "no field or metric 'error/none'"),
        ("wer>abc", "is no number"),
        ("wer>", "has no value"),
        ('label:"flam', "does not end"),
        ("is:bad", "means nothing"),
        ("label>3", "is a word"),
        ("wer~3", "looks for a part"),
        ("\x1b[31m>3", "no field or metric"),
    ],
)
def test_a_filter_that_means_nothing_says_which_part(columns: SampleColumns, line: str, words: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(line).mask(columns)
    assert words in str(caught.value) and str(caught.value).isprintable()


@given(st.text(max_size=40) | st.text('wer:<>=!~-" .*[0', max_size=30))
@settings(deadline=None)
def test_any_line_is_a_filter_or_an_error(line: str) -> None:
    try:
        assert len(parse(line).mask(SampleColumns())) == 0
    except QueryError as error:
        assert len(str(error)) < 500


def test_worst_comes_first_and_what_has_no_value_last(columns: SampleColumns) -> None:
    rows = np.arange(5)
    assert default_sort(columns) == "wer" and default_sort(columns, "val/wer") == "wer"
    assert default_sort(columns, "acc/top-1") == "acc/top-1" and default_sort(SampleColumns()) is None
    assert sort_rows(columns, rows, "wer").tolist() == [2, 4, 0, 1, 3], "NaN is worst, no value is last"
    assert sort_rows(columns, rows, "wer", descending=False).tolist() == [1, 0, 4, 2, 3]
    assert sort_rows(columns, rows, "id").tolist() == [0, 3, 1, 2, 4]
    assert sort_rows(columns, rows, "label").tolist() == [4, 2, 0, 1, 3]
    assert sort_rows(columns, rows, "step").tolist() == [1, 2, 3, 0, 4]
    assert sort_rows(columns, rows[2:4], "seconds").tolist() == [3, 2]
    assert not is_descending("acc") and is_descending("loss") and not is_descending("rating")
    with pytest.raises(QueryError, match="no field or metric 'wre'"):
        sort_rows(columns, rows, "wre")


def test_a_metric_of_the_run_is_found_among_those_of_the_items(columns: SampleColumns) -> None:
    assert default_sort(columns, ["train/f1", "val/acc/top-1", "loss"]) == "acc/top-1"
    assert default_sort(columns, ["val/other", "val_wer"]) == "wer" and default_sort(columns, ["nothing"]) == "wer"


def test_groups_and_the_cells_of_a_confusion_matrix(tmp_path: Path, columns: SampleColumns) -> None:
    rows = np.array([4, 3, 2, 1, 0])
    groups = [(group.name, group.rows.tolist()) for group in group_rows(columns, rows)]
    assert groups == [("a*b", [4]), ("drag", [2]), ("flam", [0]), ("flam tap", [1]), (None, [3])]
    tags = [(group.name, group.rows.tolist()) for group in group_rows(columns, rows, "tag")]
    assert tags == [("easy", [3]), ("hard", [0]), ("Long Clip", [0]), (None, [4, 2, 1])]
    with pytest.raises(QueryError):
        group_rows(columns, rows, "wer")
    drums = drum_set(tmp_path).items
    everything = np.arange(len(drums))
    wrong = confusion_rows(drums, everything, "flam", "drag")
    assert wrong.tolist() == [0, 20] and parse("label:flam predicted:drag").mask(drums)[wrong].all()
    assert not len(confusion_rows(drums, everything, "flam", "no such class"))


def test_a_hundred_thousand_items_filter_and_sort_alike(tmp_path: Path) -> None:
    columns = large_index(tmp_path, items=100_000).load().items
    rows = np.flatnonzero(parse("wer>0.3 label:flam* tag:hard text~sea").mask(columns))
    order = sort_rows(columns, rows, "loss")
    expected = [
        row
        for row in range(100_000)
        if columns.metrics["wer"][row] > 0.3 and row % 7 == 0 and "sea" in columns.texts[row]
        and columns.classes[columns.label_codes[row]] == "flam"
    ]  # fmt: skip
    assert rows.tolist() == expected and len(rows) > 500
    assert np.all(np.diff(columns.metrics["loss"][order]) <= 0)


@pytest.mark.parametrize("last", ["ü", "f" * 16, "x" * 40])
def test_ids_sort_like_their_characters(tmp_path: Path, last: str) -> None:
    ids = ["b" * 16, "b" * 16 + "-2", "b" * 16 + "-10", "a", "", "B", "a\u00e9", "a z", last, "a"]
    for number, id in enumerate(ids):
        append_line(tmp_path, "val", {"id": id, "step": number})
    columns = SampleSet(tmp_path, "val").load().items
    rows = np.arange(len(columns))[::2].copy()
    for some in (np.arange(len(columns)), rows):
        for descending in (False, True):
            expected = sorted(some.tolist(), key=lambda row: columns.ids[row], reverse=descending)
            assert sort_rows(columns, some, "id", descending).tolist() == expected
