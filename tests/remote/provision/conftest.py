"""A machine that stands for another one: this one, with a Wavedeck home of its own."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from wavedeck.engine.hosts import HostFacts
from wavedeck.remote.host import Completed
from wavedeck.remote.local import LocalHost
from wavedeck.remote.provision.there import Progress

UV = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
SHELL = """#!{python}
import os, sys
option, value, *words = sys.argv[1:]
assert (option, value) == ("-o", "it's a \\"word\\" ''"), sys.argv
line = " ".join(words[1:])
os.execv("/bin/sh", ["sh", "-c", line])
"""
"""What rsync takes for ssh: drops the host's name and has a shell run the rest, as sshd would."""


@dataclass(frozen=True)
class Entry:
    """What hosts.toml would say."""

    python: str | None = None
    price_per_hour: float | None = 0.4


class There:
    """This machine under another name, with its own home and only the environment it is given."""

    python = "python3"

    def __init__(self, home: Path, shell: Path) -> None:
        self.here = LocalHost()
        self.home = str(home)
        self.entry = Entry()
        self.facts = HostFacts(hostname="gpu1", home=str(home), python="3.11.2", programs={"rsync": "3.5"})
        self.env: dict[str, str] = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        self._shell = shell

    @property
    def name(self) -> str:
        return "gpu1"

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 30.0,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        limit: int = 16 << 20,
        on_output: Callable[[bytes], None] | None = None,
    ) -> Completed:
        return await self.here.run(
            argv, timeout_s=timeout_s, stdin=stdin, env=env or self.env, limit=limit, on_output=on_output
        )

    @asynccontextmanager
    async def rsync_words(self) -> AsyncIterator[list[str]]:
        yield [str(self._shell), "-o", "it's a \"word\" ''"]


@pytest.fixture
def there(tmp_path: Path) -> There:
    """`gpu1`."""
    shell = tmp_path / "a shell"
    shell.write_text(SHELL.replace("{python}", sys.executable))
    shell.chmod(shell.stat().st_mode | stat.S_IXUSR)
    if " " in sys.executable:
        pytest.skip("the interpreter's path has a blank")
    host = There(tmp_path / "there with blanks", shell)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "uv").symlink_to(UV)
    host.env["PATH"] = f"{tools}:{host.env['PATH']}"
    return host


@pytest.fixture
def gate(there: There, tmp_path: Path) -> Path:
    """The uv of `there` says that it began (`gate/began`) and waits until `gate/open` is there."""
    folder = tmp_path / "gate"
    folder.mkdir()
    uv = tmp_path / "tools" / "uv"
    uv.unlink()
    uv.write_text(
        f"#!/bin/sh\ntouch '{folder}/began'\nwhile ! [ -e '{folder}/open' ]; do sleep 0.05; done\nexec '{UV}' \"$@\"\n"
    )
    uv.chmod(0o755)
    return folder


class Told(list[Progress]):
    """A report that keeps what it was told."""

    def __call__(self, progress: Progress) -> None:
        self.append(progress)

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(f"{item.phase}: {item.text}" for item in self)


@pytest.fixture
def told() -> Told:
    """A report that keeps what it was told."""
    return Told()


def without_uv(there: There, folder: Path) -> None:
    """Let the host have python3 and the usual tools, but no uv."""
    folder.mkdir()
    (folder / "python3").symlink_to(Path(sys.executable).resolve())
    for name in ("sh", "env", "true", "rsync"):
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    there.env = {"PATH": str(folder), "HOME": str(folder)}
