"""`alerts.toml`: who is told what, in the user's own file. A mistake is a sentence that names sink and field."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..errors import WavedeckError, suggestion
from ..format import plain
from ..rundir import Home
from .alert import Severity

FILE = "alerts.toml"
HTTP_KINDS = ("slack", "discord", "ntfy", "json")
KINDS = (*HTTP_KINDS, "command", "desktop", "bell")
FIELDS = ("kind", "url", "command", "rules", "min_severity", "headers")
ENV = "env:"
"""A url or a header's value that begins so is taken from that variable, so that no secret need stand in the file."""
MOST_SINKS = 20
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_|~-]{1,64}")
_OURS = ("content-length", "content-type", "host", "transfer-encoding", "connection")


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """One `[[sink]]`, with the values of its variables already in place: never print `url` or `headers`."""

    number: int
    """Its place in the file, from 1."""
    kind: str
    url: str | None = None
    command: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    """Globs over the names of rules; none means all."""
    min_severity: Severity = Severity.INFO
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """`sink 2 (slack)`: what may be printed of it."""
        return f"sink {self.number} ({self.kind})"

    @property
    def id(self) -> str:
        """Where it leads, the same wherever it stands in the file and whatever it asks for; tells no address."""
        where = "\0".join((self.kind, self.url or "", *self.command))
        return f"{self.kind}-{hashlib.sha256(where.encode()).hexdigest()[:12]}"

    def __repr__(self) -> str:
        """Without the address: that of a webhook is a password."""
        return f"SinkConfig({self.name})"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is told."""

    per_minute: int = 20
    cooldown_s: float = 600.0
    """For so long the same problem is not told again; twice as long each further time, an hour at most."""


@dataclass(frozen=True, slots=True)
class AlertConfig:
    """The whole file."""

    sinks: tuple[SinkConfig, ...] = ()
    limits: Limits = Limits()
    is_default: bool = False
    """There is no file: these are the sinks that work without one."""


def load_alert_config(home: Home, environ: Mapping[str, str] | None = None) -> AlertConfig:
    """The user's `alerts.toml`; without one the terminal's bell, and the desktop where there is one.

    Raises
    ------
    WavedeckError: the file cannot be read, or something in it cannot be meant.
    """
    env = os.environ if environ is None else environ
    path = home.root / FILE
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return default_config(env)
    except UnicodeDecodeError:
        raise WavedeckError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
    except OSError as error:
        raise WavedeckError(f"{path} cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise WavedeckError(f"{path} is damaged: {plain(str(error), 200)}.") from None
    return parse_alert_config(document, str(path), env)


def config_stamp(home: Home) -> tuple[int, ...]:
    """Changes with every change of the file."""
    try:
        status = (home.root / FILE).stat()
    except OSError:
        return ()
    return (status.st_mtime_ns, status.st_ino, status.st_size)


def default_config(
    environ: Mapping[str, str], which: Callable[[str], str | None] = shutil.which, platform: str = sys.platform
) -> AlertConfig:
    """Bell, and the desktop when somebody may be sitting in front of one."""
    sinks = [SinkConfig(1, "bell")]
    shown = which("osascript") if platform == "darwin" else which("notify-send") and _has_display(environ)
    if shown:
        sinks.append(SinkConfig(2, "desktop", min_severity=Severity.WARNING))
    return AlertConfig(tuple(sinks), is_default=True)


def _has_display(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def parse_alert_config(document: Mapping[str, Any], path: str, environ: Mapping[str, str]) -> AlertConfig:
    """A parsed file, checked.

    Raises
    ------
    WavedeckError: something in it cannot be meant; the sentence names sink and field.
    """
    unknown = next((key for key in document if key not in ("sink", "limits")), None)
    if unknown is not None:
        raise WavedeckError(
            f"{path}: {plain(unknown, 40)!r} is not known here; write [[sink]] before each sink, or [limits]."
        )
    sinks = document.get("sink", [])
    if not isinstance(sinks, list) or not all(isinstance(one, dict) for one in sinks):
        raise WavedeckError(f"{path}: sinks are written as [[sink]], with two brackets.")
    if len(sinks) > MOST_SINKS:
        raise WavedeckError(f"{path}: {len(sinks)} sinks are too many; at most {MOST_SINKS} are told.")
    parsed = tuple(_Reader(path, number, table, environ).sink() for number, table in enumerate(sinks, 1))
    return AlertConfig(parsed, _limits(path, document.get("limits", {})))


def _limits(path: str, table: object) -> Limits:
    if not isinstance(table, dict):
        raise WavedeckError(f"{path}: limits is a table: [limits].")
    unknown = next((key for key in table if key not in ("per_minute", "cooldown_s")), None)
    if unknown is not None:
        guess = suggestion(str(unknown), ("per_minute", "cooldown_s"))
        raise WavedeckError(f"{path}: [limits] has an unknown field {plain(str(unknown), 40)!r}.{guess}")
    least, most = table.get("per_minute", 20), table.get("cooldown_s", 600.0)
    if isinstance(least, bool) or not isinstance(least, int) or not 1 <= least <= 1000:
        raise WavedeckError(f"{path}: per_minute of [limits] is a whole number from 1 to 1000.")
    if isinstance(most, bool) or not isinstance(most, int | float) or not 0 <= most <= 86400:
        raise WavedeckError(f"{path}: cooldown_s of [limits] is a number of seconds from 0 to 86400.")
    return Limits(least, float(most))


class _Reader:
    """Reads one `[[sink]]`."""

    def __init__(self, path: str, number: int, table: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self._path = path
        self._number = number
        self._table = table
        self._environ = environ

    def sink(self) -> SinkConfig:
        """The sink, checked."""
        for field in self._table:
            if field not in FIELDS:
                raise self._wrong(f"has an unknown field {plain(field, 40)!r}.{suggestion(field, FIELDS)}")
        kind = self._table.get("kind")
        if kind not in KINDS:
            guess = suggestion(kind, KINDS) if isinstance(kind, str) else ""
            raise self._wrong(f"needs a kind: one of {', '.join(KINDS)}.{guess}")
        web = kind in HTTP_KINDS
        for field, belongs in (("url", web), ("headers", web), ("command", kind == "command")):
            if field in self._table and not belongs:
                raise self._wrong(f"has a {field}, which a {kind} sink does not take: remove it.")
        return SinkConfig(
            self._number, kind, self._url() if web else None, self._command() if kind == "command" else (),
            self._texts("rules"), self._severity(), self._headers(),
        )  # fmt: skip

    def _wrong(self, what: str) -> WavedeckError:
        return WavedeckError(f"{self._path}: sink {self._number} {what}")

    def _url(self) -> str:
        value = self._table.get("url")
        if not isinstance(value, str) or not value:
            raise self._wrong('needs a url: "https://…", or "env:NAME" to take it from a variable.')
        url = self._from_environment("url", value)
        try:
            parts = urlsplit(url)
            port_is_one = parts.port is None or parts.port > 0
        except ValueError:
            raise self._wrong("has a url that cannot be understood: copy it anew.") from None
        if parts.scheme not in ("https", "http") or not parts.hostname or not port_is_one:
            raise self._wrong("has a url that does not begin with https:// (or http://) and a host.")
        if parts.username is not None or parts.password is not None:
            raise self._wrong("has a password in its url: put it into headers, as Authorization.")
        if not url.isascii() or any(char.isspace() or not char.isprintable() for char in url):
            raise self._wrong("has a url with blanks or unusual characters in it: copy it anew.")
        if self._table.get("kind") == "ntfy" and not parts.path.strip("/"):
            raise self._wrong("has a url without a topic: https://ntfy.sh/YOUR-TOPIC.")
        return url

    def _command(self) -> tuple[str, ...]:
        words = self._texts("command")
        if not words or not words[0]:
            raise self._wrong('needs a command, as a list of words: command = ["notify", "--now"].')
        return words

    def _texts(self, field: str) -> tuple[str, ...]:
        value = self._table.get(field, [])
        if not isinstance(value, list) or not all(isinstance(word, str) and "\0" not in word for word in value):
            raise self._wrong(f'has {field} that are no list of texts: {field} = ["…", "…"].')
        return tuple(value)

    def _severity(self) -> Severity:
        value = self._table.get("min_severity", "info")
        if not isinstance(value, str) or value not in {str(one) for one in Severity}:
            raise self._wrong('has a min_severity that is none: "info", "warning" or "error".')
        return Severity(value)

    def _headers(self) -> tuple[tuple[str, str], ...]:
        table = self._table.get("headers", {})
        if not isinstance(table, dict):
            raise self._wrong('has headers that are no table: headers = { Authorization = "env:MY_TOKEN" }.')
        found = []
        for name, value in table.items():
            if _HEADER.fullmatch(name) is None or name.lower() in _OURS:
                raise self._wrong(f"has a header {plain(name, 40)!r}, which cannot be set: remove it.")
            if not isinstance(value, str):
                raise self._wrong(f"has a header {name} that is no text.")
            text = self._from_environment(f"header {name}", value)
            if not text.isprintable() or not text.isascii():
                raise self._wrong(f"has a header {name} with line breaks or unusual characters in it.")
            found.append((name, text))
        return tuple(found)

    def _from_environment(self, field: str, value: str) -> str:
        before, mark, variable = value.partition(ENV)
        # `Bearer env:TOKEN` as well: that is how most services want it.
        if not mark or (before and not before.endswith(" ")):
            return value
        if _VARIABLE.fullmatch(variable) is None:
            raise self._wrong(f"takes its {field} from {plain(variable, 40)!r}, which is no name of a variable.")
        found = self._environ.get(variable)
        if not found:
            raise self._wrong(f"takes its {field} from the variable {variable}, which is not set.")
        return before + found
