"""Shared fixtures: a private WAVEDECK_HOME and tmux socket for every test, and snapshots of what is on screen."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

os.environ.setdefault("OMP_NUM_THREADS", "1")
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / f"wavedeck-hypothesis-{os.getuid()}")
# The gate tries the same cases each time; `WAVEDECK_EXPLORE=1` looks for new ones.
settings.register_profile("gate", derandomize=not os.environ.get("WAVEDECK_EXPLORE"))
settings.load_profile("gate")
os.environ["TZ"] = "UTC"
time.tzset()

T = TypeVar("T")
UPDATE = bool(os.environ.get("WAVEDECK_UPDATE_SNAPSHOTS"))
SNAPSHOTS = Path(__file__).parent / "snapshots"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A WAVEDECK_HOME of this test's own; nothing is ever written to the user's."""
    path = tmp_path / "home"
    monkeypatch.setenv("WAVEDECK_HOME", str(path))
    for name in ("WAVEDECK_RUN_DIR", "WAVEDECK_ATTEMPT", "RANK", "NO_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    return path


@pytest.fixture
def tmux_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A private tmux server; killed at the end, and so is every run that a test left alive in its home."""
    name = f"wd-test-{uuid.uuid4().hex[:10]}"
    monkeypatch.setenv("WAVEDECK_TMUX_SOCKET", name)
    monkeypatch.delenv("TMUX", raising=False)
    yield name
    subprocess.run(["tmux", "-L", name, "kill-server"], capture_output=True, timeout=10)
    reap(str(tmp_path))


def reap(place: str) -> None:
    """Kill every process that names `place` on its command line, and what it started: runs outlive tmux by design."""
    for process in psutil.process_iter(["cmdline"]):
        if any(place in word for word in process.info["cmdline"] or ()):
            with contextlib.suppress(psutil.Error):
                for child in (*process.children(recursive=True), process):
                    child.kill()


def wait_for(condition: Callable[[], T], timeout: float = 20.0, what: str = "") -> T:
    """Poll `condition` until it is truthy and return it; fail with `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout:.0f} s in vain for {what or condition}")
        time.sleep(0.02)


@pytest.fixture(name="wait_for")
def wait_for_fixture() -> Callable[..., object]:
    """`wait_for(condition, timeout, what)`: tests wait for conditions, never for a time."""
    return wait_for


class Snapshot:
    """Compares a Textual app's screen with its golden text and SVG; WAVEDECK_UPDATE_SNAPSHOTS=1 rewrites both.

    The text is compared first because its difference is readable; the SVG holds the colours.
    """

    def __init__(self, name: str) -> None:
        self._name = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")

    def check(self, app: object, label: str = "") -> None:
        stem = f"{self._name}{'-' + label if label else ''}"
        svg = re.sub(r"terminal-\d+", "terminal-X", app.export_screenshot(simplify=True))  # type: ignore[attr-defined]
        svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
        text = screen_text(app)
        golden_svg, golden_txt = SNAPSHOTS / f"{stem}.svg", SNAPSHOTS / f"{stem}.txt"
        if UPDATE:
            SNAPSHOTS.mkdir(exist_ok=True)
            golden_svg.write_text(svg)
            golden_txt.write_text(text)
            return
        assert golden_txt.exists(), f"no snapshot {golden_txt.name}: run WAVEDECK_UPDATE_SNAPSHOTS=1 pytest"
        assert text == golden_txt.read_text(), f"{stem}: the text on screen changed"
        assert svg == golden_svg.read_text(), f"{stem}: the colours on screen changed"


def screen_text(app: object) -> str:
    """The screen as plain lines, trailing blanks cut."""
    height = app.size.height  # type: ignore[attr-defined]
    strips = app.screen._compositor.render_strips()  # type: ignore[attr-defined]
    lines = ["".join(segment.text for segment in strip).rstrip() for strip in strips[:height]]
    return "\n".join(lines) + "\n"


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> Snapshot:
    """`snapshot.check(app, "label")` against the golden files of this test."""
    module = request.module.__name__.rsplit(".", 1)[-1].removeprefix("test_")
    return Snapshot(f"{module}.{request.node.name.removeprefix('test_')}")
