"""What is to be backed up of a run, how much of it is kept, and what happens when its host is gone.

A run's own `policy.json` wins over `backup.toml` in the home (`[host.NAME]` over `[default]`), which wins over the
defaults here. A run's policy is a record that travels from its host, so it is validated like everything that does; one
that makes no sense is passed over for the home's, because a backup with other numbers is better than none.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..checkpoints import is_safe_path
from ..errors import RunDirError, UsageError, suggestion
from ..format import plain
from ..hosts import LOCAL, read_mirror
from ..manifest import read_record, write_record
from ..rundir import Home, RunDir

DEFAULT_PATTERNS = ("**/*.ckpt", "**/*.pt", "**/*.pth", "**/*.safetensors", "**/*.nemo")
SHORTEST_SILENCE_S = 30.0
"""A failover that waited less would move runs at every hiccup of a link."""
_MOST = 1_000_000
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,47}")
_TRUE, _FALSE, _NONE = ("true", "yes", "on", "1"), ("false", "no", "off", "0"), ("", "none", "null", "no", "off")


class BackupPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one run is backed up.

    `keep_last` and `keep_best` count checkpoints, `every_steps` keeps the first at or after each multiple of it (0:
    none), `limit_kib_s` bounds the transfer. `second` is a further place: a directory here, `HOST` or
    `HOST:/directory`. `patterns` are globs relative to the run's working directory for a foreign trainer's files; none
    are `DEFAULT_PATTERNS`. `failover` is the host that takes over after `failover_after_s` seconds of silence.
    `budget` is money, in whatever the price per hour is in.
    """

    enabled: bool = True
    keep_last: int = 3
    keep_best: int = 2
    every_steps: int = 0
    limit_kib_s: int | None = None
    second: str | None = None
    patterns: list[str] = []
    failover: str | None = None
    failover_after_s: float = 120.0
    budget: float | None = None
    stop_at_budget: bool = False

    @property
    def globs(self) -> tuple[str, ...]:
        """The patterns that apply."""
        return tuple(self.patterns) or DEFAULT_PATTERNS

    @property
    def second_host(self) -> str | None:
        """The host of the second place; None when it is a directory here, or when there is none."""
        return None if self.second is None or self.second.startswith("/") else self.second.partition(":")[0]

    @property
    def second_directory(self) -> str | None:
        """The directory of the second place; None when there is none, or when its host chooses."""
        if self.second is None:
            return None
        return self.second if self.second.startswith("/") else self.second.partition(":")[2] or None


FIELDS = tuple(field.name for field in msgspec.structs.fields(BackupPolicy))
_PLAIN = BackupPolicy()


def checked(policy: BackupPolicy) -> BackupPolicy:
    """The same policy, if it makes sense.

    Raises
    ------
    UsageError: a field does not; the sentence says which and what it may be.
    """
    for name, least in (("keep_last", 1), ("keep_best", 0), ("every_steps", 0)):
        if not least <= getattr(policy, name) <= _MOST * (1000 if name == "every_steps" else 1):
            raise UsageError(f"{name}={getattr(policy, name)}: a whole number from {least} on.")
    if policy.limit_kib_s is not None and not 1 <= policy.limit_kib_s <= 1 << 40:
        raise UsageError(f"limit_kib_s={policy.limit_kib_s}: KiB per second, at least 1; `none` is no limit.")
    if policy.second is not None and not _is_place(policy.second):
        raise UsageError(
            f"second={plain(policy.second, 80)!r}: a directory here (/mnt/nas/wavedeck), HOST or HOST:/directory."
        )
    for pattern in policy.patterns:
        if not is_safe_path(pattern):
            raise UsageError(f"patterns={plain(pattern, 80)!r}: globs relative to the run's directory, without `..`.")
    if len(policy.patterns) > 64:
        raise UsageError("patterns: at most 64 globs.")
    if policy.failover is not None and (not _HOST.fullmatch(policy.failover) or policy.failover == LOCAL):
        raise UsageError(f"failover={plain(policy.failover, 60)!r}: the name of a host; `wavedeck hosts` lists them.")
    if not SHORTEST_SILENCE_S <= policy.failover_after_s <= 30 * 86400:
        raise UsageError(f"failover_after_s={policy.failover_after_s:g}: from {SHORTEST_SILENCE_S:g} s to 30 days.")
    if policy.budget is not None and not 0 < policy.budget <= 1e9:
        raise UsageError(f"budget={policy.budget:g}: more than 0; `none` is no budget.")
    return policy


def policy_from_words(words: Iterable[str], base: BackupPolicy = _PLAIN) -> BackupPolicy:
    """`base` with `field=value` words applied: `keep_last=5`, `second=nas:/backup`, `patterns=out/*.pt,**/*.ckpt`.

    Raises
    ------
    UsageError: a word is none, names no field, or its value makes no sense.
    """
    changes: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"{plain(word, 60)!r} is no FIELD=VALUE: write keep_last=5, for example.")
        if name not in FIELDS:
            raise UsageError(
                f"a backup policy has no {plain(name, 40)!r}.{suggestion(name, FIELDS)} It has {', '.join(FIELDS)}."
            )
        changes[name] = _value(name, text.strip())
    return checked(msgspec.structs.replace(base, **changes))


def policy_words(policy: BackupPolicy) -> list[str]:
    """The words that make this policy from the defaults; empty for the defaults themselves."""
    words = []
    for name, value in msgspec.structs.asdict(policy).items():
        if value != getattr(_PLAIN, name):
            text = (
                ",".join(value) if isinstance(value, list) else str(value).lower() if value in (True, False) else value
            )
            words.append(f"{name}={'none' if text is None else text}")
    return words


def write_policy(run: RunDir, policy: BackupPolicy) -> None:
    """Give a run a policy of its own. For a copy the host gets it first: this directory only follows.

    Raises
    ------
    UsageError: the policy makes no sense.
    """
    write_record(run.policy, checked(policy))


def own_policy(run: RunDir) -> BackupPolicy | None:
    """The policy in a run's own `policy.json`; None when there is none.

    Raises
    ------
    RunDirError: it is damaged. UsageError: it makes no sense.
    """
    policy = read_record(run.policy, BackupPolicy)
    return None if policy is None else checked(policy)


def read_policy(home: Home, run: RunDir) -> BackupPolicy:
    """What applies to a run: its own policy, else the home's for its host, else the defaults.

    Raises
    ------
    UsageError: `backup.toml` is its user's to mend.
    """
    try:
        own = own_policy(run)
    except (RunDirError, UsageError):
        own = None
    return own if own is not None else host_policy(home, host_of(run))


def host_of(run: RunDir) -> str:
    """The host whose copy a run directory is, or this machine."""
    try:
        mirror = read_mirror(run.path)
    except RunDirError:
        mirror = None
    return LOCAL if mirror is None else mirror.host


def host_policy(home: Home, host: str) -> BackupPolicy:
    """What `backup.toml` says for the runs of a host.

    Raises
    ------
    UsageError: the file cannot be read or understood; the sentence names the table and the field.
    """
    tables = _tables(home.backup_settings)
    policy = _with_table(_PLAIN, tables.get("default", {}), "default")
    hosts = tables.get("host", {})
    if not isinstance(hosts, dict):
        raise UsageError("backup.toml: write [host.NAME], one table for each host.")
    return _with_table(policy, hosts.get(host, {}), f"host.{host}")


_toml: dict[Path, tuple[tuple[int, int, int], dict[str, Any]]] = {}


def _tables(path: Path) -> dict[str, Any]:
    try:
        status = path.stat()
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = _toml.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # a home that is none is somebody else's sentence
        return {}
    except OSError as error:
        raise UsageError(f"{path.name} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path.name} is no TOML: {error}.") from error
    unknown = [name for name in tables if name not in ("default", "host")]
    if unknown:
        raise UsageError(f"backup.toml has no [{plain(unknown[0], 40)}]: write [default] and [host.NAME].")
    _toml[path] = (stamp, tables)
    return tables


def _with_table(base: BackupPolicy, table: Any, title: str) -> BackupPolicy:
    if not isinstance(table, Mapping):
        raise UsageError(f"backup.toml: [{title}] must be a table.")
    for name in table:
        if name not in FIELDS:
            raise UsageError(f"backup.toml: [{title}] has no {plain(str(name), 40)!r}.{suggestion(str(name), FIELDS)}")
    try:
        return checked(msgspec.convert({**msgspec.structs.asdict(base), **table}, BackupPolicy))
    except (msgspec.ValidationError, UsageError) as error:
        raise UsageError(f"backup.toml: [{title}] {error}") from error


def _is_place(text: str) -> bool:
    """Whether a second place is one: an absolute directory here, a host, or a host and an absolute directory there."""
    if not text.isprintable() or len(text) > 1024:
        return False
    host, colon, directory = ("", ":", text) if text.startswith("/") else text.partition(":")
    if host == LOCAL or (host and _HOST.fullmatch(host) is None) or not (host or text.startswith("/")):
        return False
    return not colon or (directory.startswith("/") and is_safe_path(directory.strip("/")))


def _value(name: str, text: str) -> Any:
    if name in ("enabled", "stop_at_budget"):
        if text.lower() not in (*_TRUE, *_FALSE):
            raise UsageError(f"{name}={plain(text, 40)}: true or false.")
        return text.lower() in _TRUE
    if name == "patterns":
        return [part.strip() for part in text.split(",") if part.strip()] if text.lower() not in _NONE else []
    if name in ("second", "failover"):
        return None if text.lower() in _NONE else text
    if name in ("limit_kib_s", "budget") and text.lower() in _NONE:
        return None
    whole = name not in ("failover_after_s", "budget")
    try:
        number = int(text.replace("_", "")) if whole else float(text)
    except ValueError:
        raise UsageError(f"{name}={plain(text, 40)}: {'a whole number' if whole else 'a number'}.") from None
    return number
