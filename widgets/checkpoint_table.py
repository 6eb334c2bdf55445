"""The checkpoints of a run: step, where each exists, verified when, which is best and newest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, cast

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message

from ..engine import format as fmt
from ..engine.backup.copies import HERE, SECOND
from ..engine.backup.places import Where
from ..engine.checkpoints import CheckpointLine
from ..engine.events import as_float
from .live_table import Column, LiveTable, Row
from .palette import Palette

WHERE, MARKS = 7, 9
"""Columns from the places on, and after them."""


class CheckpointTable(LiveTable):
    """Newest first. Enter restores; keys check, fetch and delete, and edit the policy. It only says what is wanted.

    Messages
    --------
    Wanted: `verb` is verify, pull, restore, delete or policy; `row` is the checkpoint under the cursor, None without.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,R", "want('restore')", "Restore", id="checkpoints.restore", tooltip="Put it back on a host"),
        Binding("v", "want('verify')", "Verify", id="checkpoints.verify", tooltip="Hash every copy again"),
        Binding("p", "want('pull')", "Pull", id="checkpoints.pull", tooltip="Bring this checkpoint here now"),
        Binding("x,delete", "want('delete')", "Delete…", id="checkpoints.delete", tooltip="Delete it at one place"),
        Binding("P", "want('policy')", "Policy", id="checkpoints.policy", tooltip="What is backed up, and kept"),
    ]
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("CHECKPOINT", 0, least=18),
        Column("STEP", 9, right=True),
        Column("EPOCH", 6, rank=7, right=True),
        Column("METRICS", 30, rank=6),
        Column("SIZE", 9, rank=4, right=True),
        Column("SHA256", 12, rank=8),
        Column("WRITTEN", 14, rank=5, right=True),
        Column("WHERE", 22),
        Column("VERIFIED", 11, rank=2, right=True),
        Column("", 17, rank=1),
    )

    class Wanted(Message):
        """A key asks for something to be done."""

        def __init__(self, table: CheckpointTable, verb: str, row: Where | None) -> None:
            super().__init__()
            self.table = table
            self.verb = verb
            self.row = row

        @property
        def control(self) -> CheckpointTable:
            """The table."""
            return self.table

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(self.COLUMNS, id=id, empty="no checkpoint yet")
        self._where: dict[tuple[str, str], Where] = {}
        self._lines: Mapping[tuple[str, str], CheckpointLine] = {}
        self.is_copy = False
        """Whether the run lives on another host, so that there is something to bring here."""

    @property
    def checkpoint(self) -> Where | None:
        """The checkpoint under the cursor."""
        return self._where.get(cast("tuple[str, str]", self.key))

    def show(self, rows: Sequence[Where], lines: Sequence[CheckpointLine], *, is_copy: bool = False) -> None:
        """Replace what is shown; both come oldest first. `lines` know what was measured."""
        before = (self.checkpoint, self.is_copy)
        self._lines = {(line.name, line.sha256): line for line in lines}
        self._where = {(row["name"], row["sha256"]): row for row in rows}
        self.is_copy = is_copy
        self._draw()
        if before != (self.checkpoint, self.is_copy):
            self.refresh_bindings()

    def watch_cursor(self, before: int, after: int) -> None:
        """What can be done with a checkpoint depends on where it is."""
        super().watch_cursor(before, after)
        self.refresh_bindings()

    def notify_style_update(self) -> None:
        """The colours in the cells follow the theme."""
        super().notify_style_update()
        if self._where:
            self._draw()

    def _draw(self) -> None:
        palette = Palette.of(self.app)
        rows = [_row(key, row, self._lines.get(key), palette) for key, row in reversed(self._where.items())]
        columns = list(self.COLUMNS)
        if not self.is_copy and all(len(row["where"]) <= 1 for row in self._where.values()):
            # They are where the run is, all of them: their metrics have the room instead.
            del columns[WHERE:MARKS]
            rows = [replace(row, cells=(*row.cells[:WHERE], *row.cells[MARKS:])) for row in rows]
        self.set_columns(columns)
        self.show_rows(rows)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what makes no sense for the checkpoint under the cursor."""
        if action != "want":
            return super().check_action(action, parameters)
        row = self.checkpoint
        if parameters == ("policy",):
            return True
        if row is None:
            return False
        if parameters == ("pull",):
            return self.is_copy and HERE not in row["where"]
        if parameters == ("restore",):
            return HERE in row["where"] or not self.is_copy
        return parameters != ("delete",) or bool(row["where"])

    def action_want(self, verb: str) -> None:
        """Say what is wanted."""
        self.post_message(self.Wanted(self, verb, self.checkpoint))

    def action_choose(self) -> None:
        """A second click on a row restores, as enter does, where that can be."""
        if self.check_action("want", ("restore",)):
            self.action_want("restore")


def _row(key: tuple[str, str], row: Where, line: CheckpointLine | None, palette: Palette) -> Row:
    metrics = "  ".join(f"{name} {fmt.number(as_float(value))}" for name, value in line.metrics.items()) if line else ""
    return Row(
        key,
        (
            Text(fmt.plain(row["path"] or row["name"], 80)),
            fmt.count(row["step"]),
            fmt.number(line.epoch, 3) if line else "",
            Text(fmt.plain(metrics, 120)),
            fmt.size(row["bytes"]),
            row["sha256"][:12],
            fmt.clock(row["t"])[5:],
            _places(row, palette),
            _verified(row, palette),
            _marks(row, palette),
        ),
    )


def _places(row: Where, palette: Palette) -> Text:
    """`gpu1 · here · /mnt/nas`; a checkpoint that is nowhere but on its host is not safe yet."""
    text = Text()
    for number, place in enumerate(row["where"]):
        if number:
            text.append(" · ", style=palette.muted)
        text.append(fmt.plain(place, 40), style=palette.good if number or place == HERE else palette.text)
    return text if row["where"] else Text("nowhere", style=palette.bad)


def _verified(row: Where, palette: Palette) -> Text:
    if row["verified_at"] is None:
        return Text(fmt.MISSING, style=palette.muted)
    return Text(f"✓ {fmt.clock(row['verified_at'])[11:]}", style=palette.good)


def _marks(row: Where, palette: Palette) -> Text:
    words = {HERE: "✗ bad here", SECOND: "✗ bad 2nd"}
    marks = [(words[place], palette.bad) for place in row["bad"]]
    marks += [("★ best", palette.good)] if row["best"] else []
    marks += [("newest", palette.accent)] if row["latest"] else []
    return Text(" ").join(Text(word, style=style) for word, style in marks)
