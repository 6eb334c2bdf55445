"""`hosts.toml`: the hosts that Wavedeck knows by name, beside the aliases of the user's ssh configuration.

People edit it by hand, so comments and order survive every change made here.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from ..engine.errors import UsageError, WavedeckError, suggestion
from ..engine.files import sync_directory
from ..engine.format import plain
from ..engine.hosts import LOCAL
from ..engine.rundir import Home
from .ssh.aliases import config_aliases

FILE = "hosts.toml"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,47}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FIELDS = ("ssh", "home", "python", "price_per_hour", "ends", "pass_env")


@dataclass(frozen=True, slots=True)
class HostEntry:
    """What the user said about one host."""

    name: str
    ssh: tuple[str, ...]
    """Words as after `ssh`; the name alone is an alias of the ssh configuration."""
    home: str | None = None
    """Wavedeck's home there, an absolute path or one from `~`; None is the host's own choice."""
    python: str | None = None
    """Interpreter of its trainings; with it nothing is prepared there."""
    price_per_hour: float | None = None
    ends: float | None = None
    """When the provider takes it back, seconds since the epoch."""
    pass_env: tuple[str, ...] = ()
    """More variables that travel to its trainings."""


def hosts_path(home: Home) -> Path:
    """Where the file is, whether or not it exists."""
    return home.root / FILE


def valid_name(name: str) -> str:
    """`name`, if a host can be called that.

    Raises
    ------
    UsageError: it cannot.
    """
    if name == LOCAL:
        raise UsageError(f"`{LOCAL}` is this machine: call the host something else.")
    if NAME.fullmatch(name) is None:
        raise UsageError(
            f"{plain(name, 60)!r} cannot be the name of a host: use letters, digits, `-`, `_` and `.`, at most 48, "
            "beginning with a letter or a digit."
        )
    return name


def load_hosts(home: Home) -> dict[str, HostEntry]:
    """Every host of the file, in its order; none when there is no file.

    Raises
    ------
    WavedeckError: the file cannot be read or understood; the sentence names the line.
    """
    path = hosts_path(home)
    return {name: _entry(path, name, table) for name, table in _document(path).items()}


def host_entry(home: Home, name: str) -> HostEntry:
    """One host: of the file, else an alias of the ssh configuration.

    Raises
    ------
    UsageError: nobody knows it; the sentence names what looks like it.
    """
    hosts = load_hosts(home)
    if name in hosts:
        return hosts[name]
    aliases = config_aliases()
    if name in aliases:
        return HostEntry(valid_name(name), (name,))
    known = [LOCAL, *hosts, *(alias for alias in aliases if NAME.fullmatch(alias))]
    raise UsageError(
        f"There is no host {plain(name, 60)!r}.{suggestion(name, known)} `wavedeck hosts ls` lists the hosts."
    )


def add_host(home: Home, entry: HostEntry, *, replace: bool = False) -> None:
    """Write a host into the file; with `replace`, over what is there of that name.

    Raises
    ------
    UsageError: there is one of that name, or something about it is not allowed. WavedeckError: it cannot be written.
    """
    import tomlkit

    path = hosts_path(home)
    valid_name(entry.name)
    document = _document(path)
    if entry.name in document and not replace:
        raise UsageError(f"There is a host {entry.name} already: remove it first, or choose another name.")
    fields = _fields(entry)
    _entry(path, entry.name, fields)
    if entry.name in document:
        table = document[entry.name]
        for field in _FIELDS:
            if field in fields:
                table[field] = fields[field]
            elif field in table:
                del table[field]
    else:
        table = tomlkit.table()
        table.update(fields)
        if document:
            document.add(tomlkit.nl())
        document.add(entry.name if "." not in entry.name else tomlkit.key([entry.name]), table)
    _write(path, tomlkit.dumps(document))


def remove_host(home: Home, name: str) -> None:
    """Take a host out of the file.

    Raises
    ------
    UsageError: it is not in it. WavedeckError: it cannot be written.
    """
    import tomlkit

    path = hosts_path(home)
    document = _document(path)
    if name not in document:
        if name in config_aliases():
            raise UsageError(f"{plain(name, 60)} is an alias of your ssh config, not of {path}: it is removed there.")
        raise UsageError(f"There is no host {plain(name, 60)!r} in {path}.{suggestion(name, list(document))}")
    document.remove(name)
    _write(path, tomlkit.dumps(document))


def write_private(path: Path, data: bytes) -> None:
    """Replace a file atomically by one that only its user can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _write(path: Path, text: str) -> None:
    # A link (dotfiles in a repository) stays one: what it leads to is replaced.
    try:
        write_private(path.resolve(), text.encode())
    except OSError as error:
        raise WavedeckError(f"{path} cannot be written ({error.strerror}).") from error


def _document(path: Path) -> Any:
    import tomlkit
    from tomlkit.exceptions import ParseError, TOMLKitError

    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return tomlkit.document()
    except UnicodeDecodeError:
        raise WavedeckError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
    except OSError as error:
        raise WavedeckError(f"{path} cannot be read ({error.strerror}).") from error
    try:
        return tomlkit.parse(text)
    except ParseError as error:
        reason = str(error).split(" at line ")[0]
        raise WavedeckError(f"{path} is damaged in line {error.line}: {plain(reason, 200)}.") from None
    except (TOMLKitError, ValueError, RecursionError) as error:
        raise WavedeckError(f"{path} is damaged: {plain(str(error), 200)}.") from None


def _entry(path: Path, name: str, table: object) -> HostEntry:
    """One table, checked."""
    valid_name(name)
    if not isinstance(table, Mapping):
        raise WavedeckError(f"{path}: {plain(name, 60)} is no table; write [{plain(name, 60)}] on a line of its own.")
    unknown = next((key for key in table if key not in _FIELDS), None)
    if unknown is not None:
        guess = suggestion(str(unknown), _FIELDS)
        raise WavedeckError(f"{path}: [{name}] has an unknown field {plain(str(unknown), 40)!r}.{guess}")
    words = _texts(path, name, "ssh", table.get("ssh", [name]))
    if not words:
        raise WavedeckError(
            f'{path}: ssh of [{name}] is empty; write the words after ssh: ["-p", "10648", "root@HOST"].'
        )
    pass_env = _texts(path, name, "pass_env", table.get("pass_env", []))
    for variable in pass_env:
        if _VARIABLE.fullmatch(variable) is None:
            raise WavedeckError(f"{path}: pass_env of [{name}] names {plain(variable, 60)!r}, which is no variable.")
    return HostEntry(
        name,
        words,
        home=_path(path, name, "home", table.get("home")),
        python=_path(path, name, "python", table.get("python")),
        price_per_hour=_price(path, name, table.get("price_per_hour")),
        ends=_moment(path, name, table.get("ends")),
        pass_env=pass_env,
    )


def _texts(path: Path, name: str, field: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) and word.isprintable() for word in value):
        raise WavedeckError(f'{path}: {field} of [{name}] is a list of texts: ["…", "…"].')
    return tuple(str(word) for word in value)


def _path(path: Path, name: str, field: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.isprintable() or not value.startswith(("/", "~/")):
        raise WavedeckError(
            f"{path}: {field} of [{name}] is an absolute path on that host, or one that begins with ~/."
        )
    return str(value)


def _price(path: Path, name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
        raise WavedeckError(f"{path}: price_per_hour of [{name}] is a number, 0.40 for example.")
    return float(value)


def _moment(path: Path, name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        # A time without a zone is this user's own: that is what its writer had in mind.
        return float(value.timestamp())
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day).timestamp()
    raise WavedeckError(f"{path}: ends of [{name}] is a time: 2026-11-22T10:00:00Z.")


def _fields(entry: HostEntry) -> dict[str, Any]:
    """What is written of an entry: nothing that is not said."""
    fields: dict[str, Any] = {"ssh": list(entry.ssh)}
    for field in ("home", "python", "price_per_hour"):
        if (value := getattr(entry, field)) is not None:
            fields[field] = value
    if entry.ends is not None:
        fields["ends"] = datetime.fromtimestamp(entry.ends, UTC).replace(microsecond=0)
    if entry.pass_env:
        fields["pass_env"] = list(entry.pass_env)
    return fields
