"""What a run is made of: what its trainer says of itself, command, code, the resolved config with the changed fields
marked, packages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from ..engine import format as fmt
from ..engine.config import write_override
from ..engine.manifest import Manifest
from .palette import Palette


class ConfigPage(VerticalScroll, can_focus=True):
    """A page of text; nothing in it is markup."""

    DEFAULT_CSS = "ConfigPage { padding: 0 1; } ConfigPage Static { width: 1fr; height: auto; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._manifest: Manifest | None = None
        self._said: tuple[Mapping[str, str], Mapping[str, float]] = ({}, {})

    def compose(self) -> ComposeResult:
        """One static text."""
        yield Static("", id="page")

    def show(
        self,
        manifest: Manifest | None,
        facts: Mapping[str, str] | None = None,
        numbers: Mapping[str, float] | None = None,
    ) -> None:
        """Draw another manifest, or what else the trainer said of itself; the same costs nothing."""
        said = (facts or {}, numbers or {})
        if manifest is None or (manifest == self._manifest and said == self._said):
            return
        self._manifest, self._said = manifest, said
        self._draw()

    def notify_style_update(self) -> None:
        """Colours follow the theme."""
        super().notify_style_update()
        if self._manifest is not None and self.is_mounted:
            self._draw()

    def _draw(self) -> None:
        assert self._manifest is not None
        self.query_one("#page", Static).update(page(self._manifest, Palette.of(self.app), *self._said))


def page(
    manifest: Manifest,
    palette: Palette,
    facts: Mapping[str, str] | None = None,
    numbers: Mapping[str, float] | None = None,
) -> Text:
    """The manifest as a readable text."""
    text = Text()
    said = {**(facts or {}), **{name: fmt.amount(value) for name, value in (numbers or {}).items()}}
    if said:
        text.append("what its trainer says\n", style=palette.accent + Style(bold=True))
        width = min(28, max(map(len, said)))
        for name, value in said.items():
            text.append(f"  {fmt.plain(name, 28):<{width}}  ", style=palette.muted)
            text.append(f"{fmt.plain(value, 300)}\n")
        text.append("\n")
    for label, value in _facts(manifest):
        text.append(f"{label:>11}  ", style=palette.muted)
        text.append(f"{fmt.plain(value, 600)}\n")
    if manifest.config:
        text.append("\nresolved config", style=palette.accent + Style(bold=True))
        text.append(f"  signature {manifest.signature}\n" if manifest.signature else "\n", style=palette.muted)
        chosen = {override.split("=", 1)[0] for override in manifest.overrides}
        for depth, name, setting, dotted in _walk(manifest.config):
            changed = dotted in chosen
            text.append("  " * depth + f"  {fmt.plain(name, 60)}", style=palette.accent if changed else palette.primary)
            if setting is not None:
                text.append(": ", style=palette.muted)
                text.append(fmt.plain(setting, 300), style=Style(bold=changed))
            if changed:
                text.append("  ◂ set for this run", style=palette.muted)
            text.append("\n")
    if manifest.packages:
        text.append("\npackages\n", style=palette.accent + Style(bold=True))
        for name, version in manifest.packages.items():
            text.append(f"  {fmt.plain(name, 40):<14} {fmt.plain(version, 60)}\n")
    return text


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if manifest.recipe:
        words = [manifest.recipe + (f".{manifest.stage}" if manifest.stage else "")]
        words += [f"preset={manifest.preset}"] if manifest.preset else []
        yield "recipe", " ".join([*words, *manifest.overrides])
    yield "command", " ".join(manifest.command)
    yield "host", manifest.host
    if manifest.cwd:
        yield "directory", manifest.cwd
    if manifest.git:
        yield "git", manifest.git.commit + (" with uncommitted changes" if manifest.git.dirty else "")
    if manifest.parent:
        yield "parent", manifest.parent
    if manifest.tags:
        yield "tags", " ".join(manifest.tags)
    yield "created", fmt.clock(manifest.created)


def _walk(config: Mapping[str, Any], depth: int = 0, prefix: str = "") -> Iterator[tuple[int, str, str | None, str]]:
    """(depth, name, value or None for a branch, dotted name) of every entry."""
    for name, value in config.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield depth, str(name), None, dotted
            yield from _walk(value, depth + 1, f"{dotted}.")
        else:
            yield depth, str(name), write_override("", value)[1:], dotted  # null, true, [a,b]: as `run` takes them
