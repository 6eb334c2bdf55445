"""Where a run came from: the code's commit, the packages' versions, and a command line without its secrets."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distributions, version
from itertools import pairwise

from .manifest import GitState

GIT_TIMEOUT_S = 3.0
PACKAGES = ("wavedeck", "torch", "torchaudio", "lightning", "transformers", "peft", "numpy")
HIDDEN = "***"

# -- git


def git_state(cwd: str | os.PathLike[str]) -> GitState | None:
    """The commit checked out at `cwd` and whether anything there differs from it (new files that git does not ignore
    count: they may be the model). None without git, outside a repository, and before a first commit.

    A tree too large to be compared within 3 s counts as dirty: it is not known to be clean.
    """
    commit = _git(cwd, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    status = _git(cwd, "status", "--porcelain")
    return GitState(commit.strip(), dirty=status is None or bool(status.strip()))


def _git(cwd: str | os.PathLike[str], *arguments: str) -> str | None:
    """What a read-only git command prints; None when it fails. No locks, and no program a repository's config names."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    argv = ["git", "-C", os.fspath(cwd), "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", env=environment, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


# -- packages


def package_versions(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of the packages that are installed, read from their metadata: nothing is imported."""
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def environment_text() -> str:
    """Python and every installed package as `name==version` lines, sorted: what was there when a run began."""
    found = {dist.metadata["Name"]: dist.version for dist in distributions() if dist.metadata and dist.metadata["Name"]}
    lines = [f"{name}=={found[name]}" for name in sorted(found, key=str.lower)]
    return "\n".join([f"# python {platform.python_version()} on {platform.platform()}", *lines, ""])


# -- secrets

_SECRET_WORDS = frozenset(
    {"secret", "secrets", "password", "passwd", "passphrase", "credential", "credentials", "apikey", "authorization"}
)
_KEY_OWNERS = frozenset({"api", "access", "secret", "private", "auth", "wandb", "encryption", "account", "license"})
_TEXT_TOKENS = frozenset({"pad", "eos", "bos", "unk", "mask", "sep", "cls", "special", "start", "end", "per", "image"})
_KNOWN_SHAPES = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
    r"|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|A(?:KIA|SIA)[A-Z0-9]{16}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
)
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):([^/\s@]+)(?=@)")
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
_NAME = r"[A-Za-z_][\w.-]*"
_WHOLE = re.compile(rf"(?P<lead>[-+]*(?P<name>{_NAME})=)(.+)", re.DOTALL)
_SCRIPT_OPTION = re.compile(r"-[a-z]*c")
_INSIDE = re.compile(
    rf"""(?P<lead>(?P<quote>["']?)(?P<name>{_NAME})(?P=quote)\s*[:=]\s*)(?P<value>"[^"]*"|'[^']*'|[^\s,}}&;"']+)"""
)
_SPACED = re.compile(rf"(?P<lead>(?<!\S)--?(?P<name>{_NAME})\s+)(?P<value>\"[^\"]*\"|'[^']*'|[^\s-]\S*)")


def is_secret_name(name: str) -> bool:
    """Whether a variable, option or field of this name holds a secret: `WANDB_API_KEY`, `--hf-token`, `db.password`.

    `tokenizer`, `max_tokens`, `pad_token` and a bare `key` are no secrets: they are everywhere in machine learning.
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    words = [word.lower() for word in re.split(r"[^A-Za-z0-9]+", spaced) if word]
    if any(word in _SECRET_WORDS for word in words):
        return True
    pairs = list(pairwise(["", *words]))
    if any(word == "key" and owner in _KEY_OWNERS for owner, word in pairs):
        return True
    owner, last = pairs[-1] if pairs else ("", "")
    return (last == "token" and owner not in _TEXT_TOKENS) or (last == "pwd" and owner != "") or last == "auth"


def redact_argv(argv: Sequence[str]) -> list[str]:
    """A copy of a command line fit to be saved: the values of secret options, variables and URLs become `***`.

    Only the copy in the manifest is redacted; what is executed is not.
    """
    redacted: list[str] = []
    previous = ""
    for argument in argv:
        option = previous.startswith("-") and "=" not in previous and is_secret_name(previous.lstrip("-"))
        if option and not argument.startswith("--"):
            redacted.append(HIDDEN)
        else:
            redacted.append(_redact(argument, is_script=_SCRIPT_OPTION.fullmatch(previous) is not None))
        previous = argument
    return redacted


def _redact(argument: str, is_script: bool) -> str:
    """One argument; the text of a `sh -c` keeps what follows a secret's value, any other `NAME=value` is all value."""
    whole = _WHOLE.fullmatch(argument)
    if whole and is_secret_name(whole["name"]) and not is_script:
        return whole["lead"] + HIDDEN
    argument = _BEARER.sub(rf"\1 {HIDDEN}", argument)
    argument = _hide_named(_SPACED, _hide_named(_INSIDE, argument))
    argument = _URL_PASSWORD.sub(rf"\1:{HIDDEN}", argument)
    return _KNOWN_SHAPES.sub(HIDDEN, argument)


def _hide_named(pattern: re.Pattern[str], text: str) -> str:
    """Hide the values of secret names; the value of any other name is itself searched (`url=http://h?token=x`)."""
    pieces: list[str] = []
    position = 0
    while match := pattern.search(text, position):
        secret = is_secret_name(match["name"])
        pieces += [text[position : match.end("lead")], HIDDEN if secret else ""]
        position = match.end() if secret else match.end("lead")
    return "".join(pieces) + text[position:]
