"""Where alerts go, one class a kind. `send` may take its time (each sink has a thread) and raises when it failed."""

from __future__ import annotations

import contextlib
import html
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from ...engine.alerts.alert import Alert, Severity, wanted
from ...engine.alerts.config import HTTP_KINDS, AlertConfig, SinkConfig
from ...engine.format import plain
from .posting import PostFailed, masked, post
from .shapes import SHAPES

COMMAND_S = 10.0
DESKTOP_S = 5.0
Write = Callable[[str], None]
_URGENCY = {Severity.INFO: "low", Severity.WARNING: "normal", Severity.ERROR: "critical"}
_SCRIPT = ("on run argv", "display notification (item 2 of argv) with title (item 1 of argv)", "end run")


class SinkFailed(Exception):
    """An alert was not delivered; the sentence holds no secret. `again`: trying again may help."""

    def __init__(self, text: str, *, again: bool = False, after_s: float | None = None) -> None:
        super().__init__(text)
        self.again = again
        self.after_s = after_s


class Sink(Protocol):
    """Brings an alert to somebody."""

    @property
    def id(self) -> str:
        """Where it leads: the same in the next process."""

    @property
    def name(self) -> str:
        """What it is called in messages; no secret."""

    def wants(self, alert: Alert) -> bool:
        """Whether this alert is for it."""

    def send(self, alert: Alert) -> None:
        """Deliver it. Raises SinkFailed."""


class ConfiguredSink:
    """What all kinds share."""

    def __init__(self, config: SinkConfig) -> None:
        self.config = config

    @property
    def id(self) -> str:
        """As its configuration says."""
        return self.config.id

    @property
    def name(self) -> str:
        """`sink 2 (slack)`."""
        return self.config.name

    def wants(self, alert: Alert) -> bool:
        """By its rules and least severity."""
        return wanted(alert, self.config.rules, self.config.min_severity)


class WebSink(ConfiguredSink):
    """A webhook."""

    @property
    def name(self) -> str:
        """`sink 2 (slack, https://hooks.example.com/…)`."""
        return f"sink {self.config.number} ({self.config.kind}, {masked(self.config.url or '')})"

    def send(self, alert: Alert) -> None:
        """Post it, in the service's own shape."""
        assert self.config.url is not None
        what = SHAPES[self.config.kind](alert)
        try:
            post(self.config.url, what.body, (*what.headers, *self.config.headers))
        except PostFailed as error:
            raise SinkFailed(str(error), again=error.again, after_s=error.after_s) from None


class CommandSink(ConfiguredSink):
    """A program: the alert as JSON on its standard input and in variables. If it hangs, it is killed with its group."""

    def send(self, alert: Alert) -> None:
        """Run it."""
        data = json.dumps(alert.to_json(), ensure_ascii=False).encode() + b"\n"
        _run(list(self.config.command), data, COMMAND_S, {**os.environ, **variables(alert)})


class DesktopSink(ConfiguredSink):
    """A notification of the desktop."""

    def send(self, alert: Alert) -> None:
        """Show it."""
        _run(desktop_argv(alert), b"", DESKTOP_S, dict(os.environ))


class BellSink(ConfiguredSink):
    """The terminal's bell and title, and a notification of those terminals that have them (OSC 9, OSC 777)."""

    def __init__(self, config: SinkConfig, write: Write) -> None:
        super().__init__(config)
        self._write = write

    def send(self, alert: Alert) -> None:
        """Ring."""
        try:
            self._write(bell_text(alert))
        except (OSError, ValueError) as error:
            raise SinkFailed(f"the terminal cannot be written to ({type(error).__name__}).") from None


def variables(alert: Alert) -> dict[str, str]:
    """`WAVEDECK_ALERT_*` of a command."""
    return {
        "WAVEDECK_ALERT_KEY": alert.key,
        "WAVEDECK_ALERT_RULE": alert.rule,
        "WAVEDECK_ALERT_SEVERITY": str(alert.severity),
        "WAVEDECK_ALERT_RUN": alert.run or "",
        "WAVEDECK_ALERT_HOST": alert.host or "",
        "WAVEDECK_ALERT_TITLE": alert.title,
        "WAVEDECK_ALERT_TEXT": alert.text,
        "WAVEDECK_ALERT_TIME": f"{alert.t:.3f}",
        "WAVEDECK_ALERT_RECOVERED": "1" if alert.recovered else "",
    }


def desktop_argv(alert: Alert, platform: str = sys.platform) -> list[str]:
    """The command of a desktop notification. What a run printed is no markup there."""
    text = alert.text[:400]
    if platform == "darwin":
        return ["osascript", *(word for line in _SCRIPT for word in ("-e", line)), alert.title, text]
    urgency = _URGENCY[alert.severity]
    return ["notify-send", "--app-name=Wavedeck", f"--urgency={urgency}", "--", alert.title, html.escape(text)]


def bell_text(alert: Alert) -> str:
    """The bytes for a terminal: bell, title, two kinds of notification."""
    title = plain(alert.title, 150).replace(";", ",")
    text = plain(alert.text.replace("\n", " "), 200).replace(";", ",")
    # The words before it: `OSC 9 ; 4 ; …` would be a progress bar in some terminals.
    return f"\a\x1b]0;{title}\x1b\\\x1b]9;Wavedeck: {title}\x1b\\\x1b]777;notify;Wavedeck: {title};{text}\x1b\\"


def _run(argv: list[str], data: bytes, timeout_s: float, environ: dict[str, str]) -> None:
    program = plain(Path(argv[0]).name, 60)
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=environ, start_new_session=True,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a word of it holds a NUL"
        raise SinkFailed(f"{program} cannot be started ({reason}).") from None
    try:
        process.communicate(data, timeout_s)
    except subprocess.TimeoutExpired:
        raise SinkFailed(f"{program} did not end within {timeout_s:.0f} s and was killed.") from None
    finally:
        _kill_group(process)
    if process.returncode:
        raise SinkFailed(f"{program} ended with {process.returncode}.")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of it: the group outlives its leader when a child of it hangs."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(2)
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def make_sinks(config: AlertConfig, write: Write | None = None) -> list[Sink]:
    """The sinks of a configuration; `write` is the terminal, without which nothing rings."""
    made: list[Sink] = []
    for one in config.sinks:
        if one.kind in HTTP_KINDS:
            made.append(WebSink(one))
        elif one.kind == "command":
            made.append(CommandSink(one))
        elif one.kind == "desktop":
            made.append(DesktopSink(one))
        elif write is not None:
            made.append(BellSink(one, write))
    return made


def try_sinks(sinks: Sequence[Sink], alert: Alert) -> list[tuple[str, str | None]]:
    """Send one alert to every sink, whatever it wants, once and in turn: name and failure of each (None is none)."""
    found: list[tuple[str, str | None]] = []
    for sink in sinks:
        try:
            sink.send(alert)
        except SinkFailed as error:
            found.append((sink.name, str(error)))
        else:
            found.append((sink.name, None))
    return found
