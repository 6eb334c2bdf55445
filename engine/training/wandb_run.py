"""Weights & Biases beside the journal: one W&B run for all attempts of a run, never a reason for a training to fail.

The journal stays the record; W&B is told the same. Everything it writes lies in the run's `wandb/`. Without an API key
or a network it writes there only, and says with which command to upload. Whatever W&B raises ends the telling and is
said once.
"""

from __future__ import annotations

import importlib.util
import netrc
import os
import shlex
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..config import to_resolved
from ..context import Context
from ..format import plain
from ..logger import EventWriter, is_main_process

PROJECT = "wavedeck"
FOLDER = "wandb"
_API = "https://api.wandb.ai"
_NETWORK_S = 3.0
_INIT_S = 45.0
_PLACES = {
    "WANDB_CACHE_DIR": "cache",
    "WANDB_CONFIG_DIR": "config",
    "WANDB_DATA_DIR": "staging",
    "WANDB_ARTIFACT_DIR": "artifacts",
}
"""W&B's own folders, which would lie in the user's home otherwise."""


class WandbRun:
    """An open W&B run, guarded: after the first failure every call does nothing.

    `module` is the imported `wandb`, for its data types; use it inside `guarded` only.
    """

    def __init__(self, module: Any, run: Any, context: Context) -> None:
        self.module, self._run, self._context = module, run, context
        self.offline = bool(getattr(run, "offline", False))
        self._step = 0

    @property
    def alive(self) -> bool:
        """Whether it still takes records."""
        return self._run is not None

    @property
    def step(self) -> int:
        """The last step that was told."""
        return self._step

    @contextmanager
    def guarded(self) -> Iterator[Any]:
        """The W&B run for one piece of work, or None; what fails inside ends the telling, never the caller."""
        if self._run is None:
            yield None
            return
        try:
            yield self._run
        except Exception as error:
            self._run = None
            self._context.say(f"W&B takes no more records ({_words(error)}): the journal has everything.", "warning")

    def log(self, values: Mapping[str, Any], step: int | None = None, epoch: float | None = None) -> None:
        """Tell a row. `step` is the optimizer's and a column of its own, so that a resumed attempt may repeat one."""
        self._step = self._step if step is None else int(step)
        row: dict[str, Any] = {"step": self._step, **values}
        if epoch is not None:
            row["epoch"] = float(epoch)
        with self.guarded() as run:
            if run is not None:
                run.log(row)

    def about(self, fields: Mapping[str, Any]) -> None:
        """Facts become configuration, numbers a row and thereby the summary."""
        facts, numbers = fields.get("facts") or {}, fields.get("numbers") or {}
        with self.guarded() as run:
            if run is not None and facts:
                run.config.update({"facts": dict(facts)}, allow_val_change=True)
        known = {name: value for name, value in numbers.items() if value is not None}
        if known:
            self.log(known)

    def finish(self) -> None:
        """Write everything out and close it."""
        with self.guarded() as run:
            if run is not None:
                run.finish()
        self._run = None
        _open.pop(self._context.run.id, None)


_open: dict[str, WandbRun] = {}
"""The run that this process has open: `train` opens it, `evaluate` goes on in it."""


def wandb_run(config: Any, context: Context) -> WandbRun | None:
    """The W&B run of this run, opened unless it is open; None unless `config.logger` is `wandb`, and where it fails.

    From then on everything that goes to the journal is told to W&B as well. The id is the run's own, so a later attempt
    continues the same W&B run.
    """
    if getattr(config, "logger", "none") != "wandb" or not is_main_process():
        return None
    known = _open.get(context.run.id)
    if known is None:
        known = _begin(config, context)
        if known is None:
            return None
        _open[context.run.id] = known
    if not isinstance(context.journal, TellingWriter) or context.journal.told is not known:
        context.journal = TellingWriter(context.run.events, known)
    return known


class TellingWriter(EventWriter):
    """The journal, whose rows are told to W&B once they are written."""

    def __init__(self, path: Path, told: WandbRun) -> None:
        super().__init__(path)
        self.told = told

    def write(self, kind: str, **fields: Any) -> None:
        super().write(kind, **fields)
        if kind == "about":
            self.told.about(fields)

    def metrics(self, values: Mapping[str, Any], step: int | None = None, epoch: float | None = None) -> None:
        super().metrics(values, step, epoch)
        self.told.log({name: _number(value) for name, value in values.items()}, step, epoch)


def _begin(config: Any, context: Context) -> WandbRun | None:
    if importlib.util.find_spec("wandb") is None:
        context.say(
            "logger=wandb needs the wandb package: `pip install 'wavedeck[wandb]'`. Trained without.", "warning"
        )
        return None
    folder = context.run.path / FOLDER
    try:
        why: list[str] = []
        mode = choose_mode(why.append)
        _keep_inside(folder)
        module = _imported(folder)
        run = _init(module, config, context, mode, why.append)
    except Exception as error:
        context.say(f"W&B could not be started ({_words(error)}): trained without it.", "warning")
        return None
    told = WandbRun(module, run, context)
    if told.offline and mode != "disabled":
        context.say(offline_words(folder, why), "warning" if why else "info")
    return told


def offline_words(folder: Path, why: Sequence[str]) -> str:
    """How to upload what lies in `folder`, and why it was not: one sentence, as `show` and the deck keep warnings."""
    command = f"W&B is offline; upload with: wandb sync {shlex.quote(str(folder))}/offline-run-*"
    return f"{command} ({'; '.join(why)})" if why else command


def _init(module: Any, config: Any, context: Context, mode: str, say: Callable[[str], None]) -> Any:
    settings = module.Settings(
        console="off", silent=True, init_timeout=_INIT_S, x_disable_stats=True, disable_git=True, disable_code=True,
    )  # fmt: skip
    options = {
        "project": os.environ.get("WANDB_PROJECT") or PROJECT,
        "id": context.run.id,
        "name": context.run.id,
        "dir": str(context.run.path),
        "config": to_resolved(config),
        "resume": "allow",
        "settings": settings,
    }
    try:
        run = module.init(mode=mode, **options)
    except Exception as error:
        if mode != "online":
            raise
        say(f"W&B did not answer: {_words(error)}")
        run = module.init(mode="offline", **options)
    run.define_metric("step", hidden=True)
    run.define_metric("*", step_metric="step")
    return run


def choose_mode(say: Callable[[str], None]) -> str:
    """`online` where an upload can work; WANDB_MODE is obeyed."""
    asked = os.environ.get("WANDB_MODE")
    if asked:
        return asked
    base = os.environ.get("WANDB_BASE_URL") or _API
    host = urlsplit(base).hostname or "api.wandb.ai"
    if not has_key(host):
        say("there is no W&B API key here: WANDB_API_KEY, or `wandb login`")
        return "offline"
    try:
        port = urlsplit(base).port or (80 if base.startswith("http:") else 443)
        socket.create_connection((host, port), timeout=_NETWORK_S).close()
    except OSError as error:
        say(f"W&B's server {plain(host, 80)} is not reachable: {error.strerror or error}")
        return "offline"
    return "online"


def has_key(host: str) -> bool:
    """Whether an API key for the server is in the environment or in the user's netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _keep_inside(folder: Path) -> None:
    """Point W&B's folders into the run's; what its user has set is kept."""
    for variable, name in _PLACES.items():
        path = Path(os.environ.setdefault(variable, str(folder / name)))
        path.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")


def _imported(folder: Path) -> Any:
    """The wandb module. It makes a temporary folder as it is imported, which is to lie in the run as well."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder / _PLACES["WANDB_DATA_DIR"])
    try:
        import wandb
    finally:
        tempfile.tempdir = before
    return wandb


def _number(value: Any) -> float | str:
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def _words(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return plain(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__, 200)
