"""Checkpoint files and their manifest: what counts as newest and best, and what a crash may leave behind."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedeck.engine.checkpoints import (
    MANIFEST_NAME,
    CheckpointLine,
    best,
    commit,
    fault,
    foreign_name,
    is_safe_name,
    is_safe_path,
    latest,
    newest_whole,
    prune,
    ranked,
    read_checkpoints,
    surplus,
    sweep_temporary,
    temporary_path,
    unused_name,
)
from wavedeck.engine.manifest import Headline

LOSS = Headline("val/loss")
ACCURACY = Headline("val/acc", "max")


def write(directory: Path, step: int, loss: float | None = None, data: bytes | None = None) -> CheckpointLine:
    name = unused_name(directory, step)
    temporary = temporary_path(directory, name)
    temporary.write_bytes(data or f"weights of {step}".encode())
    return commit(temporary, name, step, step / 10, {} if loss is None else {"val/loss": loss}, LOSS)


def line(name: str, step: int = 0, **metrics: float | str | None) -> CheckpointLine:
    values = {key.replace("_", "/"): value for key, value in metrics.items()}
    return CheckpointLine(name, step, 1, "00", 0.0, metrics=values)


def test_commit_leaves_the_file_its_line_and_nothing_else(tmp_path: Path) -> None:
    written = write(tmp_path, 40, 0.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST_NAME, "step-00000040.ckpt"]
    assert read_checkpoints(tmp_path / MANIFEST_NAME) == [written]
    assert (written.bytes, written.step, written.epoch, written.best, written.kind) == (13, 40, 4.0, True, "full")
    assert fault(tmp_path, written) is None
    keys = {"name", "step", "epoch", "bytes", "sha256", "metrics", "t", "best", "kind", "path"}
    assert json.loads((tmp_path / MANIFEST_NAME).read_text()).keys() == keys


def test_best_marks_only_what_was_better_when_written(tmp_path: Path) -> None:
    assert [write(tmp_path, step, loss).best for step, loss in ((1, 0.5), (2, 0.7), (3, 0.4), (4, 0.4))] == [
        True, False, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("cut", range(2, 60, 7))
def test_a_torn_line_is_not_yet_and_spoils_no_later_one(tmp_path: Path, cut: int) -> None:
    first = write(tmp_path, 1)
    write(tmp_path, 2)
    manifest = tmp_path / MANIFEST_NAME
    manifest.write_bytes(manifest.read_bytes()[:-cut])
    assert read_checkpoints(manifest) == [first]
    third = write(tmp_path, 3)
    assert read_checkpoints(manifest) == [first, third]


def test_a_name_is_never_written_twice(tmp_path: Path) -> None:
    one, two = write(tmp_path, 5, data=b"old"), write(tmp_path, 5, data=b"new")
    assert (one.name, two.name) == ("step-00000005.ckpt", "step-00000005-2.ckpt")
    assert fault(tmp_path, one) is None
    assert latest(read_checkpoints(tmp_path / MANIFEST_NAME)) == two


@pytest.mark.parametrize("name", ["../x.ckpt", "a/b", "/etc/passwd", "", ".hidden", "a\\nb", "a..b", "x" * 300, "-rf"])
def test_unsafe_names_are_refused_and_not_read(tmp_path: Path, name: str) -> None:
    assert not is_safe_name(name)
    (tmp_path / MANIFEST_NAME).write_text(
        json.dumps({"name": name, "step": 1, "bytes": 1, "sha256": "0", "t": 1.0}) + "\nnot json\n[]\n"
    )
    assert read_checkpoints(tmp_path / MANIFEST_NAME) == []
    with pytest.raises(ValueError, match="no file name"):
        commit(tmp_path / "t", name, 1)


def test_a_missing_manifest_is_no_checkpoints(tmp_path: Path) -> None:
    assert read_checkpoints(tmp_path / MANIFEST_NAME) == []
    assert latest([]) is None
    assert best([], LOSS) is None


def test_the_newest_whole_one_is_found_past_damaged_ones(tmp_path: Path) -> None:
    good = write(tmp_path, 1)
    for step in (2, 3, 4, 5):
        write(tmp_path, step)
    (tmp_path / "step-00000005.ckpt").write_bytes(b"short")
    (tmp_path / "step-00000004.ckpt").write_bytes(b"weights of 5")
    (tmp_path / "step-00000003.ckpt").unlink()
    (tmp_path / "step-00000002.ckpt").unlink()
    (tmp_path / "step-00000002.ckpt").symlink_to(tmp_path / "step-00000001.ckpt")
    said: list[str] = []
    assert newest_whole(tmp_path, read_checkpoints(tmp_path / MANIFEST_NAME), said.append) == good
    assert len(said) == 3
    assert "step-00000005.ckpt has 5 bytes instead of 12" in said[0]
    assert "does not match its sha256" in said[1]
    assert "is a link" in said[2]


def test_best_ignores_missing_nan_and_prefers_the_earlier_of_equals() -> None:
    values = (None, "NaN", 0.9, 0.9, 0.1)
    lines = [line(name, val_acc=value) for name, value in zip("abcde", values, strict=True)]
    assert [item.name for item in ranked(lines, ACCURACY)] == ["c", "d", "e"]
    assert best(lines, Headline("val/acc", "min")) is lines[4]
    assert best(lines, LOSS) is None


@given(
    st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=False), min_size=1, max_size=12),
    st.integers(0, 5), st.integers(0, 5), st.sampled_from(["min", "max"]),
)  # fmt: skip
def test_retention_never_lets_the_newest_or_the_best_go(
    losses: list[float | None], keep_last: int, keep_best: int, direction: str
) -> None:
    headline = Headline("val/loss", direction)
    lines = [
        line(f"c{index}", index, val_loss="NaN" if loss is not None and math.isnan(loss) else loss)
        for index, loss in enumerate(losses)
    ]
    gone = surplus(lines, headline, keep_last, keep_best)
    assert lines[-1] not in gone
    top = best(lines, headline)
    assert top is None or top not in gone
    assert len(lines) - len(gone) <= max(1, keep_last) + max(1, keep_best)


def test_prune_counts_only_files_that_are_there(tmp_path: Path) -> None:
    for step, loss in ((1, 0.1), (2, 0.5), (3, 0.6), (4, 0.7), (5, 0.8)):
        write(tmp_path, step, loss)
    (tmp_path / "step-00000004.ckpt").unlink()
    assert prune(tmp_path, LOSS, keep_last=2, keep_best=1) == ["step-00000002.ckpt"]
    assert sorted(path.stem for path in tmp_path.glob("*.ckpt")) == ["step-00000001", "step-00000003", "step-00000005"]
    assert len(read_checkpoints(tmp_path / MANIFEST_NAME)) == 5


def test_half_written_files_are_swept_and_never_listed(tmp_path: Path) -> None:
    kept = write(tmp_path, 1)
    temporary_path(tmp_path, "step-00000002.ckpt").write_bytes(b"half")
    assert read_checkpoints(tmp_path / MANIFEST_NAME) == [kept]
    assert sweep_temporary(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST_NAME, kept.name]


@pytest.mark.parametrize(
    "name",
    ["step-1.ckpt\n", "manifest.jsonl", "Manifest.JSONL.old-1", "manifest.jsonl.0123456789ab.pt", "a\0b", "é.pt"],
)
def test_a_name_that_ends_a_line_or_is_the_lists_own_is_unsafe(name: str) -> None:
    assert not is_safe_name(name)


SHA = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("out/latest.pt", "latest.0123456789ab.pt"),
        ("checkpoint-500/model.safetensors", "model.0123456789ab.safetensors"),
        ('a b/it\'s "new"\n.ckpt', "it_s__new.0123456789ab.ckpt"),
        ("-rf", "rf.0123456789ab"),
        (".hidden", "hidden.0123456789ab"),
        ("épreuve..v2.pth", "preuve.v2.0123456789ab.pth"),
        ("日本.pt", "file.0123456789ab.pt"),
        ("manifest.jsonl", "file-manifest.0123456789ab.jsonl"),
        ("x.odd suffix", "x.0123456789ab"),
        ("y" * 300 + ".pt", "y" * 120 + ".0123456789ab.pt"),
    ],
)
def test_a_foreign_file_gets_a_safe_name_with_its_content_in_it(path: str, name: str) -> None:
    assert foreign_name(path, SHA) == name and is_safe_name(name)


@given(st.text(max_size=300), st.sampled_from([SHA, "F" * 64]))
def test_any_foreign_path_gets_a_safe_name(path: str, sha256: str) -> None:
    assert is_safe_name(foreign_name(path, sha256))


def test_a_hash_that_is_none_makes_no_name() -> None:
    with pytest.raises(ValueError, match="sha256"):
        foreign_name("a.pt", "../../etc/passwd")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "~/x", "a\0", "x" * 2000, "a/"])
def test_a_path_that_leaves_its_directory_is_no_checkpoint(tmp_path: Path, path: str) -> None:
    assert not is_safe_path(path)
    good = {"name": "x.0123456789ab.pt", "step": 1, "bytes": 1, "sha256": SHA, "t": 0.0, "kind": "foreign"}
    lines = [json.dumps({**good, "path": path}), json.dumps({**good, "name": "y.pt", "path": "-o/a b\n'.pt"})]
    (tmp_path / MANIFEST_NAME).write_text("".join(one + "\n" for one in lines))
    assert [one.path for one in read_checkpoints(tmp_path / MANIFEST_NAME)] == ["-o/a b\n'.pt"]


def test_foreign_files_with_one_content_share_a_name_and_nothing_else_does(tmp_path: Path) -> None:
    def told(*lines: tuple[str, str | None]) -> list[tuple[str, str | None]]:
        rows = [CheckpointLine("same.pt", 1, 1, sha, 0.0, kind="foreign", path=path) for sha, path in lines]
        (tmp_path / MANIFEST_NAME).write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
        return [(row.sha256, row.path) for row in read_checkpoints(tmp_path / MANIFEST_NAME)]

    assert told((SHA, "a.pt"), (SHA, "b.pt"), (SHA, "a.pt")) == [(SHA, "b.pt"), (SHA, "a.pt")]
    assert told((SHA, "a.pt"), ("f" * 64, "b.pt")) == [("f" * 64, "b.pt")], "one name, one content"
    assert told((SHA, None), (SHA, "b.pt")) == [(SHA, "b.pt")]
    assert told((SHA, "b.pt"), (SHA, None)) == [(SHA, None)]
    assert len(told(*((SHA, f"{n}.pt") for n in range(20_000)))) == 20_000
