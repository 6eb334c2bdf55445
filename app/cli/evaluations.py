"""What `show` says of a run's evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ...engine import format as fmt
from ...engine.errors import RunDirError
from ...engine.evaluation import Evaluation, doubt_words, judged_words, metric_names, read_evaluation, read_raw
from .common import out

if TYPE_CHECKING:
    from ...engine.run_view import RunView

WORST = 5


def evaluation_json(view: RunView) -> dict[str, Any] | None:
    """The content of `evaluation.json`, at most 1 MiB; None without one, `{"problem": …}` for a damaged one."""
    try:
        return read_raw(view.dir)
    except RunDirError as error:
        return {"problem": str(error)}


def print_evaluation(view: RunView) -> None:
    """The metrics with intervals and ceilings, and the commonest mistakes; nothing for a run that was not judged."""
    console = out()
    try:
        evaluation = read_evaluation(view.dir)
    except RunDirError as error:
        console.print(Text(f"\n{error}", style="red"))
        return
    if evaluation is None:
        return
    console.print(Text("\nevaluation  ", style="dim") + Text(judged_words(evaluation)))
    doubt = doubt_words(evaluation)
    if doubt:
        console.print(Text(doubt, style="yellow"))
    if evaluation.metrics:
        console.print(_metrics_table(evaluation))
    for words in dict.fromkeys(ceiling.words for ceiling in evaluation.ceilings.values() if ceiling.words):
        console.print(Text(f"ceiling: {words}", style="dim"))
    mistakes = [f"{one.truth} taken for {one.answer}: {fmt.count(one.clips)}" for one in evaluation.confusions[:WORST]]
    if mistakes:
        console.print(Text("commonest mistakes  ", style="dim") + Text("; ".join(mistakes)))


def _metrics_table(evaluation: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("TEST METRIC")
    for title in ("VALUE", "INTERVAL", "CEILING"):
        table.add_column(title, justify="right")
    for name in metric_names(evaluation):
        interval, ceiling = evaluation.intervals.get(name), evaluation.ceilings.get(name)
        between = fmt.MISSING if interval is None else f"{interval.low:.3f} – {interval.high:.3f}"
        most = fmt.MISSING if ceiling is None else f"{ceiling.value:.3f}"
        table.add_row(Text(name), f"{evaluation.metrics[name]:.4f}", between, most)
    return table
