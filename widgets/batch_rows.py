"""The heading row of a batch in the table of runs."""

from __future__ import annotations

from rich.style import Style
from rich.text import Text

from ..engine import format as fmt
from ..engine.batch_view import BatchView, headline_value
from ..engine.names import tail
from ..engine.state import RunState
from .live_table import Row
from .palette import Palette

BAD = (RunState.FAILED, RunState.KILLED, RunState.VANISHED)


def heading(batch: BatchView, palette: Palette, progress: Text, folded: bool, age: str) -> Row:
    """`▾ 3/12 done  brisk-heron ▶1 ◌8 ✓3 twelve … 0.61 hts_at ia3`: the cells of a run's row."""
    name = Text(tail(batch.id), style=Style(bold=True))
    for state, count in batch.counts.items():
        name.append(f" {state.mark}{count}", style=palette.bad if state in BAD else palette.state(state))
    name.append(f" {batch.name}", style=palette.muted)
    best = batch.best
    value = headline_value(best, batch.headline) if best is not None else None
    reached = f"{fmt.number(value)} {fmt.plain(best.name, 40)}" if best is not None and value is not None else ""
    money = [view.cost for view in batch.members if view.cost is not None]
    current = batch.current
    words = " ".join((batch.id, *batch.counts, *(f"{view.name} {view.id}" for view in batch.members)))
    return Row(
        batch.id,
        (
            Text(f"{'▸' if folded else '▾'} {batch.ended}/{batch.total} done", style=Style(bold=True)),
            name,
            fmt.plain(batch.members[0].what, 30),
            "",
            progress,
            "",
            fmt.duration(current.eta_s) if current is not None else "",
            "",
            reached,
            fmt.money(sum(money)) if money else "",
            fmt.plain(batch.members[0].host, 14),
            age,
        ),
        words.lower(),
    )
