"""One small made set for all tests of the data, and contexts to hold it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from wavedeck.engine.context import Context
from wavedeck.engine.rundir import RunDir


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """A context in this test's own folder."""
    (tmp_path / "run").mkdir(exist_ok=True)
    return Context(RunDir(tmp_path / "run"), tmp_path / "data", device="cpu")


@pytest.fixture(scope="session")
def made_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `data_config()`'s set. Never written to: tests copy what they change."""
    from wavedeck.recipes.sousa.generate import generate
    from wavedeck.recipes.sousa.tables import set_directory
    from wavedeck.tests.fakes.sousa_data import data_config

    base = tmp_path_factory.mktemp("sousa")
    (base / "run").mkdir()
    generate(data_config(), Context(RunDir(base / "run"), base / "data"))
    return set_directory(data_config(), base / "data")


@pytest.fixture
def said() -> list[str]:
    """What was said, one line a sentence: `level: text`."""
    return []


@pytest.fixture
def say(said: list[str]) -> Callable[[str, str], None]:
    """Writes to `said`."""
    return lambda text, level="info": said.append(f"{level}: {text}")
