"""The lines under a run's checkpoints: what is being copied now, how far the backup is, and the policy in words."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.text import Text
from textual.widgets import Static

from ..engine import format as fmt
from ..engine.backup.places import BackupPicture
from .host_words import coarse
from .palette import Palette
from .runs_table import bar


@dataclass(frozen=True, slots=True)
class Copying:
    """What the backup does for one run at this moment. `what` is None while it rests."""

    what: str | None = None
    bytes: int = 0
    total: int = 0
    rate: float | None = None
    eta_s: float | None = None
    error: str | None = None
    second_error: str | None = None


class BackupLine(Static):
    """Two lines, cut to the width."""

    DEFAULT_CSS = "BackupLine { height: 2; padding: 0 1; background: $surface; border-top: none; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("", id=id, markup=False)
        self._args: tuple[BackupPicture | None, Copying | None, str] = (None, None, "")
        self._shown: Text | None = None

    def show(self, picture: BackupPicture | None, copying: Copying | None, policy: str) -> None:
        """How the backup stands, what it does (None: nobody backs up), and what it was asked for."""
        self._args = (picture, copying, policy)
        self._draw()

    def on_resize(self) -> None:
        """Both lines are cut to the width."""
        self._draw()

    def notify_style_update(self) -> None:
        """The colours follow the theme."""
        super().notify_style_update()
        self._draw()

    def _draw(self) -> None:
        picture, copying, policy = self._args
        palette, width = Palette.of(self.app), max(1, self.size.width - 2)
        lines = [state_text(picture, copying, palette, time.time(), width), policy_text(policy, palette)]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        text = Text("\n").join(lines)
        if text != self._shown:
            self._shown = text
            self.update(text)


def policy_text(policy: str, palette: Palette) -> Text:
    """`policy  keep_last=5 second=/mnt/nas`, or that it is the default."""
    text = Text().append("policy  ", style=palette.muted)
    return text.append(fmt.plain(policy, 400) if policy else "the default: last 3, best 2, kept here")


def state_text(
    picture: BackupPicture | None, copying: Copying | None, palette: Palette, now: float, width: int
) -> Text:
    """The most urgent there is to say: what fails, what moves, what is still to come, that all is well."""
    if picture is None:
        words = "this machine has the only copies: a second place in the policy (P) keeps more"
        return Text(words, style=palette.muted)
    if not picture.enabled:
        return Text("⚠ the backup is switched off: enabled=true in the policy (P)", style=palette.warn)
    if copying is not None and copying.error:
        return Text(f"✗ {fmt.plain(copying.error, 300)}", style=palette.bad)
    if copying is not None and copying.what:
        return moving_text(copying, palette, width)
    if copying is not None and copying.second_error:
        return Text(f"⚠ second place: {fmt.plain(copying.second_error, 300)}", style=palette.warn)
    text = Text()
    if picture.outstanding:
        count = "1 checkpoint" if picture.outstanding == 1 else f"{picture.outstanding} checkpoints"
        text.append(f"{count} ({fmt.size(picture.bytes_outstanding)}) still to come", style=palette.warn)
        if copying is None:
            text.append("; nobody backs up at the moment", style=palette.warn)
    elif picture.verified_step is not None:
        text.append("✓ all that the policy wants is verified", style=palette.good)
    else:
        text.append("nothing to back up yet", style=palette.muted)
    if picture.bad:
        text.append(f" · {picture.bad} damaged", style=palette.bad)
    if picture.verified_step is not None:
        text.append(f" · {backed_up_words(picture, now)}", style=palette.muted)
    return text


def backed_up_words(picture: BackupPicture, now: float) -> str:
    """`backed up to step 1,200 (3m ago)`, by the time that the checkpoint was written."""
    age = "" if picture.verified_t is None else f" ({coarse(now - picture.verified_t)} ago)"
    return f"backed up to step {fmt.count(picture.verified_step)}{age}"


def moving_text(copying: Copying, palette: Palette, width: int) -> Text:
    """`⇣ epoch=12.ckpt ━━━━━──── 42% 20s left 88 MiB/s 1.2 GiB of 2.9 GiB`, as much of it as fits."""
    text = Text().append("⇣ ", style=palette.accent).append(fmt.plain(copying.what or "", 60), style=palette.text)
    parts = [bar(copying.bytes / copying.total, 10 if width < 100 else 20, palette)] if copying.total else []
    parts += [Text(f"{fmt.duration(copying.eta_s)} left")] if copying.eta_s is not None else []
    parts += [Text(f"{fmt.size(copying.rate)}/s")] if copying.rate else []
    if copying.total:
        parts.append(Text(f"{fmt.size(copying.bytes)} of {fmt.size(copying.total)}", style=palette.muted))
    for part in parts:
        if text.cell_len + part.cell_len + 2 <= width:
            text.append("  ").append_text(part)
    return text
