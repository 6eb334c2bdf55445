"""The chosen sound device: kept in the home, below what the environment says."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavedeck.engine.errors import WavedeckError
from wavedeck.engine.playback.preference import DEVICE_VARIABLE, SETTINGS_FILE, keep_device, wanted_device


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DEVICE_VARIABLE, raising=False)


def test_kept_and_taken_back(tmp_path: Path) -> None:
    assert wanted_device(tmp_path) is None
    keep_device(tmp_path, "Köpfhörer")
    assert wanted_device(tmp_path) == "Köpfhörer"
    keep_device(tmp_path, None)
    assert wanted_device(tmp_path) is None


def test_the_environment_stands_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_device(tmp_path, "a")
    monkeypatch.setenv(DEVICE_VARIABLE, " b ")
    assert wanted_device(tmp_path) == "b"
    monkeypatch.setenv(DEVICE_VARIABLE, " ")
    assert wanted_device(tmp_path) == "a"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"device": 3}', b'{"device": ""}', b"\xff", b"[" * 60000])
def test_a_broken_file_costs_the_choice_only(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SETTINGS_FILE).write_bytes(content)
    assert wanted_device(tmp_path) is None


def test_a_home_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WavedeckError, match="could not be kept"):
        keep_device(tmp_path / "file" / "home", "a")
