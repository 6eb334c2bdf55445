"""What is drawn from recorded console output, and above all what is not."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wavedeck.remote.payload
from wavedeck.remote.payload.console_metrics import ConsoleParser, PatternError, compile_patterns
from wavedeck.remote.payload.console_text import parse_value

RECORDINGS = Path(__file__).parents[2] / "recordings" / "console"
NAMES = sorted(path.stem for path in RECORDINGS.glob("*.txt"))


def recorded(name: str) -> bytes:
    return (RECORDINGS / f"{name}.txt").read_bytes()


def parse(data: bytes, **options: Any) -> list[dict[str, Any]]:
    parser = ConsoleParser(**{"bar_interval_s": 0.0, **options})
    return parser.feed(data, 1.0) + parser.close(1.0)


def rows(data: bytes, **options: Any) -> list[tuple[Any, Any, dict[str, Any]]]:
    """(step, epoch, values) of every metrics event."""
    return [(e["step"], e["epoch"], e["v"]) for e in parse(data, **options) if e["k"] == "metrics"]


def bars(data: bytes) -> list[tuple[Any, Any, str, str]]:
    return [(e["done"], e["total"], e["unit"], e["description"]) for e in parse(data) if e["k"] == "progress"]


FORMS: dict[str, list[tuple[Any, Any, dict[str, Any]]]] = {
    "tqdm": [
        (20, None, {"loss": 2.31, "lr": 0.0001}),
        (100, None, {"loss": 1.05, "lr": 9e-5}),
        (200, None, {"loss": "NaN", "lr": 1e-5}),
    ],
    "tqdm_slow_and_open": [(2, None, {"loss": 0.53})],
    "tqdm_nested": [(5, 0, {"loss": 0.9}), (10, 0, {"loss": 0.8})],
    "tqdm_description": [(140, 2, {"loss": 0.531})],
    "lightning": [
        (45, 0, {"train_loss": 0.712}),
        (100, 0, {"train_loss": 0.612}),
        (145, 1, {"train_loss": 0.5, "val_loss": 0.55}),
    ],
    "lightning_rich": [(45, 0, {"train_loss": 0.712}), (200, 1, {"train_loss": 0.5})],
    "trainer": [
        (50, 0.5, {"loss": 0.53, "grad_norm": 1.2, "learning_rate": 1e-5}),
        (100, 1.0, {"loss": "NaN", "grad_norm": "Infinity", "learning_rate": 9e-6}),
        (
            100,
            1,
            {
                "eval_loss": 0.61,
                "eval_wer": 0.213,
                "eval_runtime": 1.2,
                "eval_samples_per_second": 81.1,
                "eval_steps_per_second": 3.3,
            },
        ),
        (100, 1.0, {"train_runtime": 20.5, "train_samples_per_second": 390.2, "train_loss": 0.57}),
    ],
    "step_lines": [
        (120, None, {"loss": 0.53, "lr": 1e-4}),
        (130, None, {"loss": 0.52, "lr": 1e-4, "time": pytest.approx(0.0125)}),
        (140, None, {"loss": 0.51}),
        (1500, None, {"loss": 0.5, "acc": 87.2}),
    ],
    "epoch_step": [(100, 1, {"loss": 0.99}), (800, 1, {"loss": 0.95}), (1884, 3, {"loss": 0.91})],
    "tutorials": [
        (640, 1, {"loss": 2.278034}),
        (640, 1, {"test/average_loss": 0.0512}),
        (5015, 2, {"time": 0.536, "data": 0.0, "loss": 6.9, "acc@1": 0.39}),
    ],
    "nanogpt": [
        (0, None, {"train_loss": 10.9212, "val_loss": 10.9301}),
        (0, None, {"loss": 10.9215, "time": pytest.approx(12.34567), "mfu": -100.0}),
        (100, None, {"loss": 3.21, "time": pytest.approx(0.0123), "mfu": 17.05}),
    ],
    "keras": [
        (1, 1, {"accuracy": 0.1, "loss": 2.3}),
        (45, 1, {"accuracy": 0.8, "loss": 0.5}),
        (100, 1, {"accuracy": 0.81, "loss": 0.49, "val_accuracy": 0.79, "val_loss": 0.52}),
        (200, 2, {"loss": 0.41, "accuracy": 0.85}),
    ],
    "nemo": [
        (100, None, {"reduced_train_loss": 0.71}),
        (9, 0, {"reduced_train_loss": 9.31, "consumed_samples": 160.0, "train_step_timing_in_s": 0.113}),
        (
            100,
            0,
            {
                "consumed_samples": 25600,
                "elapsed_time_per_iteration_ms": 1234.5,
                "learning_rate": 1e-4,
                "global_batch_size": 256,
                "lm_loss": 9.1,
                "loss_scale": 1.0,
                "grad_norm": 2.1,
                "number_of_skipped_iterations": 0,
            },
        ),
    ],
    "fairseq": [
        (100, 1, {"loss": 5.3, "nll_loss": 4.1, "ppl": 39.4, "wps": 12000.5, "lr": 1e-5, "gnorm": 1.2}),
    ],
    "json_lines": [
        (1, None, {"loss": 0.5, "lr": 1e-4}),
        (1, 1, {"train/loss": 0.4, "val/loss": 0.45}),
        (3, 1, {"loss": "NaN"}),
    ],
    "markdown_table": [
        (None, 1, {"train_loss": 0.5321, "val_loss": 0.61, "WER": 34}),
        (None, 2, {"train_loss": "NaN", "val_loss": 0.58}),
    ],
    "csv_table": [(100, None, {"train_loss": 0.53, "val_loss": 0.61}), (200, None, {"train_loss": 0.43})],
    "aligned_table": [
        (None, 0, {"train_loss": 0.5321, "val_acc": 81.2}),
        (None, 1, {"train_loss": 0.4321, "val_acc": 84.2}),
    ],
    "fastai_table": [
        (None, 0, {"train_loss": 0.168934, "valid_loss": 0.021022, "accuracy": 0.993234}),
        (None, 1, {"train_loss": 0.061298, "valid_loss": 0.028471, "accuracy": 0.990528}),
    ],
    "box_table": [(None, 1, {"train_loss": 0.53}), (None, 2, {"train_loss": 0.51})],
    "splits": [
        (None, 3, {"train_loss": 0.53, "acc": 0.81, "val/loss": 0.61, "val/acc": 0.78}),
        (None, 3, {"val/loss": 0.6}),
        (None, 4, {"train_loss": 0.5}),
        (None, 4, {"val_loss": 0.55}),
    ],
    "none": [],
}


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_gives_its_metrics(name: str) -> None:
    assert rows(recorded(name)) == FORMS[name]


ONLY_THEIR_NEIGHBOURS_TELL = (b"loss: 0.5", b"step 12 loss=0.5", b"loss: 0.3")


@pytest.mark.parametrize(
    "line", [line for line in recorded("none").splitlines() if line.strip() not in ONLY_THEIR_NEIGHBOURS_TELL]
)
def test_no_line_of_prose_code_or_configuration_is_a_metric_on_its_own(line: bytes) -> None:
    assert parse(line + b"\r\n") == []


def test_bars_are_progress() -> None:
    assert bars(recorded("tqdm_slow_and_open")) == [
        (2, 4, "it", "train"),
        (1532, None, "it", "indexing"),
        (12500, None, "ex", "Generating"),
        (1_200_000_000, 2_660_000_000, "B", "model.safetensors"),
    ]
    assert bars(recorded("tqdm_nested"))[::3] == [(0, 2, "epoch", "Epochs"), (1, 2, "epoch", "Epochs")]
    assert (45, 100, "it", "Epoch 0/19") in bars(recorded("lightning_rich"))
    assert (5, 10, "it", "Validation DataLoader 0") in bars(recorded("lightning"))
    assert bars(recorded("keras"))[-1] == (100, 100, "step", "Epoch 2")
    assert bars(recorded("tqdm_description")) == [(40, 100, "it", "Epoch 2/5")]


def test_a_real_tqdm_bar_is_understood() -> None:
    script = (
        "import sys, tqdm\n"
        "with tqdm.tqdm(range(30), desc='train', mininterval=0, miniters=1, ascii=False, ncols=100) as bar:\n"
        "    for i in bar: bar.set_postfix(loss=1 / (i + 1), lr=1e-4)\n"
    )
    pytest.importorskip("tqdm")
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60).stderr
    found = rows(out)
    assert found[-1] == (30, None, {"loss": 0.0333, "lr": 0.0001})
    assert bars(out)[-1] == (30, 30, "it", "train")


# --- steps


def test_steps_that_start_again_every_epoch_go_on_growing() -> None:
    text = b"".join(
        b"epoch %d step %d loss %.2f\n" % (epoch, step, 1 / (epoch + step)) for epoch in (1, 2) for step in (10, 20)
    )
    assert [row[0] for row in rows(text)] == [10, 20, 30, 40]


def test_run_wide_steps_are_left_alone_once_seen() -> None:
    text = b"".join(b"Epoch [%d/3] Step [%d/300] loss: 0.%d\n" % (1 + s // 100, s, s) for s in range(50, 300, 50))
    assert [row[0] for row in rows(text)][-2:] == [200, 250]


def test_rows_without_a_step_get_the_last_one() -> None:
    assert rows(b"step 7 loss=0.5\nval_loss: 0.4\n")[-1] == (7, None, {"val_loss": 0.4})
    assert rows(b"val_loss: 0.4\n") == [(None, None, {"val_loss": 0.4})]


# --- values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.53", 0.53),
        ("-1e-4", -1e-4),
        ("1,234,567", 1_234_567),
        ("1,234.5", 1234.5),
        ("87.2%", 87.2),
        ("12.3ms", 0.0123),
        ("2 min", 120),
        ("1.5k", 1500),
        ("2.0GiB", 2 * 2**30),
        (".5", 0.5),
        ("inf", math.inf),
        ("12", 12),
    ],
)
def test_values_with_units(text: str, value: float) -> None:
    assert parse_value(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["1.2.3", "0,53", "0x7f", "12:30", "3-step", "1e", "v2", "", "-", "nano", "2026-11-20"]
)
def test_what_only_looks_like_a_number(text: str) -> None:
    assert parse_value(text) is None


def test_nan_is_read_from_every_spelling() -> None:
    assert math.isnan(parse_value("nan") or 0) and math.isnan(parse_value("NaN") or 0)
    assert rows(b"step 1 loss=NaN\nstep 2 loss: -inf\n") == [
        (1, None, {"loss": "NaN"}),
        (2, None, {"loss": "-Infinity"}),
    ]


def test_tensors_and_numpy_scalars_are_their_numbers() -> None:
    assert rows(b"step 3 loss=tensor(0.5312, device='cuda:0', grad_fn=<NllLossBackward0>)\n") == [
        (3, None, {"loss": 0.5312})
    ]
    assert rows(b"{'loss': np.float64(0.25), 'step': 4}\n") == [(4, None, {"loss": 0.25})]


def test_every_event_is_strict_json() -> None:
    for name in NAMES:
        for event in parse(recorded(name)):
            assert json.loads(json.dumps(event, allow_nan=False)) == event


# --- the user's own patterns


def test_own_patterns_win_and_name_steps() -> None:
    pattern = r"<<(?P<step>\d+)\|(?P<epoch>\d+)>> (?P<train__mcd>[\d.]+) dB"
    assert rows(b"<<12|3>> 5.25 dB\nstep 13 loss=0.5\n", patterns=[pattern]) == [
        (12, 3, {"train/mcd": 5.25}),
        (13, 3, {"loss": 0.5}),
    ]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(?P<loss>[0-9", "is not a regular expression"),
        (r"loss (\d+)", "no named group"),
        (r"(?P<step>\d+)", "no named"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_named(pattern: str, said: str) -> None:
    with pytest.raises(PatternError, match=said) as error:
        compile_patterns([r"(?P<ok>\d+)", pattern])
    assert "pattern 2" in str(error.value)


# --- streams


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(NAMES), cuts=st.lists(st.integers(0, 4000), max_size=30), live=st.booleans())
def test_any_chunking_gives_the_same_events(name: str, cuts: list[int], live: bool) -> None:
    data, interval = recorded(name), 0.25 if live else 0.0
    whole = parse(data, bar_interval_s=interval)
    parser = ConsoleParser(bar_interval_s=interval)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [event for a, b in zip(edges, edges[1:], strict=False) for event in parser.feed(data[a:b], 1.0)]
    assert pieces + parser.close(1.0) == whole


@settings(max_examples=100, deadline=None)
@given(
    parts=st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"step 1 loss=0.5", b"\x1b[1m", b"ab" * 9000]), max_size=12),
    size=st.integers(1, 7000),
)
def test_any_chunking_of_line_ends_and_long_lines(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    parser = ConsoleParser()
    pieces = [event for at in range(0, len(data), size) for event in parser.feed(data[at : at + size], 1.0)]
    assert pieces + parser.close(1.0) == parse(data, bar_interval_s=0.25)


FRAGMENTS = [
    *(
        b"loss",
        b"=",
        b": ",
        b"0.5",
        b"step ",
        b"epoch",
        b"[3/20]",
        b"%|",
        b"| 4/9 [00:01<00:02, 3it/s, a=1]",
        b"{'",
        b"'}",
    ),
    *(b"{", b"}", b"\r", b"\n", b"nan", b"|", b",", b"\xff\xfe", b"\x1b[", "━━━━━".encode(), b"1e999", b"epoch|loss\n"),
    b"9" * 30,
]


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.lists(st.sampled_from(FRAGMENTS), max_size=25).map(b"".join)))
def test_no_bytes_raise(data: bytes) -> None:
    for event in parse(data):
        json.dumps(event, allow_nan=False)


def test_a_bar_that_redraws_all_the_time_gives_few_events_and_its_last() -> None:
    parser = ConsoleParser()
    events = []
    for i in range(1, 1001):
        bar = f"\r{i // 10:3d}%|#   | {i}/1000 [00:01<00:09, 19.8it/s, loss={1 / i:.5f}]"
        events += parser.feed(bar.encode(), i / 100)
    events += parser.close(10.0)
    progress = [e["done"] for e in events if e["k"] == "progress"]
    assert 30 <= len(progress) <= 45 and progress[-1] == 1000
    assert events[-1]["v"] == {"loss": 0.001}


def test_repeats_are_said_once() -> None:
    assert len(rows(b"step 5 loss=0.5\n" * 50)) == 1


def test_a_flood_is_shed_but_its_last_line_is_seen() -> None:
    flood = b"".join(b"step %d loss=0.%05d\n" % (i, i) for i in range(5000))
    found = rows(flood, lines_per_s=50.0)
    assert len(found) < 1100 and found[-1][0] == 4999


@pytest.mark.parametrize(
    "line",
    [
        b"a " * 8000 + b"step",
        b"step " * 3000,
        b"loss" + b" " * 16000 + b"x",
        b"loss: " + b"1" * 16000,
        b"(" * 5000 + b"loss=",
        b"a.b" * 5000 + b"=loss",
        b"100%|" + b"|1/2 [" * 2500 + b"it/s",
        b"epoch" + b"[" * 9000 + b"1",
        b"{'loss': " + b"'" * 9000 + b"}",
        "━".encode() * 5000 + b" 1/",
        b"[2026" * 3000 + b"loss",
        b"tensor(" * 2000 + b"loss",
        b"\x1b]" * 5000 + b"loss",
        b"|loss" * 3000,
        b"epoch,loss," * 1000,
    ],
)
def test_no_line_makes_the_own_patterns_backtrack(line: bytes) -> None:
    began = time.process_time()
    parse((line + b"\n") * 4)
    assert time.process_time() - began < 1.0  # quadratic work on 16 KiB would take minutes


def test_the_script_runs_on_the_oldest_python_of_a_host(tmp_path: Path) -> None:
    folder = Path(wavedeck.remote.payload.__file__).parent
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from payload.console_metrics import ConsoleParser\n"
        "p = ConsoleParser(); print(p.feed(b'step 1 loss=0.5\\n', 0.0))\n"
        "print(sorted(m for m in sys.modules if m.partition('.')[0] in ('numpy', 'msgspec', 'textual')))\n"
    )
    command = [sys.executable, "-IS", "-c", code, str(folder.parent)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert "'loss': 0.5" in lines[0] and lines[1] == "[]"
