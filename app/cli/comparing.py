"""The verb compare: runs beside each other as a table, JSON, CSV or a page with curves and sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...engine.errors import UsageError, WavedeckError
from ...engine.files import write_atomic
from ...engine.format import plain
from .common import JsonOption, OfflineOption, catalog, complete_run, print_json, say

if TYPE_CHECKING:
    from ...engine.comparing import ComparedRun, Comparison
    from ...engine.run_view import RunView


def register(app: typer.Typer) -> None:
    """Add this verb to the command."""
    app.command()(compare)


MetricOption = Annotated[
    list[str] | None, typer.Option("--metric", metavar="KEY", help="A column of this metric; several are allowed.")
]
PairedOption = Annotated[
    tuple[str, str] | None,
    typer.Option("--paired", metavar="A B", help="Whether A and B differ on the same test clips (McNemar)."),
]
CsvOption = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write everything as CSV.")]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write one page with curves, matrices and sound.")
]


def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN|BATCH]...", help="Runs, or the id of a batch.", autocompletion=complete_run),
    ] = None,
    batch: Annotated[
        list[str] | None, typer.Option("--batch", help="All runs of a batch; `last` is the newest. May be repeated.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option("--sort", metavar="KEY", help="A metric, number or setting; by default the headline, best first."),
    ] = None,
    descending: Annotated[
        bool | None, typer.Option("--descending/--ascending", help="From high to low, or from low to high.")
    ] = None,
    at: Annotated[
        str,
        typer.Option("--at", metavar="best|last|STEP", help="Metrics of each run's best, of its end, or of one step."),
    ] = "best",
    metric: MetricOption = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Every setting that differs, metric, number.")
    ] = False,
    paired: PairedOption = None,
    csv_file: CsvOption = None,
    html_file: HtmlOption = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare runs: what was set differently, and what came out."""
    from ...engine.comparing import column_for, parse_place, read_comparison, sorted_runs
    from ..comparing import choose_runs, folder_problem

    for path in (csv_file, html_file):
        if path is not None and (problem := folder_problem(path)) is not None:
            raise UsageError(f"{problem}.")
    place = parse_place(at)
    views = _views(offline)
    chosen = choose_runs(views, [*(runs or []), *(paired or ())], batch)
    test = _paired(views, *paired) if paired else None
    comparison = read_comparison(chosen, place)
    ordered = sorted_runs(comparison, column_for(comparison, sort) if sort else None, descending=descending)
    metrics = [column_for(comparison, key).key for key in metric or ()]
    written = _write_files(comparison, ordered, csv_file, html_file)
    if as_json:
        from ...engine.comparing.export import comparison_json

        print_json(comparison_json(comparison, ordered) | ({"paired": test} if test is not None else {}))
    elif not written:
        from .compare_table import print_comparison

        print_comparison(comparison, ordered, metrics, everything=everything)
        if test is not None:
            print(f"\n{test['first']} (first) and {test['second']} (second): {test['words']}.")


def _write_files(
    comparison: Comparison, ordered: Sequence[ComparedRun], csv_file: Path | None, html_file: Path | None
) -> bool:
    """Write the files that were asked for; whether there were any."""
    if csv_file is not None:
        from ...engine.comparing.export import comparison_csv

        _write(csv_file, comparison_csv(comparison, ordered).encode())
    if html_file is not None:
        from ...engine.comparing.page import report_page

        _write(html_file, report_page(comparison, ordered).encode())
    return csv_file is not None or html_file is not None


def _views(offline: bool) -> list[RunView]:
    """All runs; other hosts are asked about theirs like `ps` does."""
    views = catalog().views()
    unknown = {view.host for view in views if view.is_copy and view.state == "unreachable"}
    if unknown and not offline:
        from ...engine.rundir import Home
        from .places import near

        with near(Home.default(), unknown) as place:
            views = catalog(place.far).views()
    return views


def _paired(views: Sequence[RunView], first: str, second: str) -> dict[str, Any]:
    """McNemar's test of two runs on the clips that both were evaluated on.

    Raises
    ------
    WavedeckError: one was not evaluated, or they have no clip in common.
    """
    from ...engine.paired import ANSWERS_NAME, compare_answers, read_answers
    from ..comparing import choose_runs

    pair = choose_runs(views, [first, second])
    if len(pair) != 2:
        raise UsageError("--paired wants two different runs, not a batch.")
    found = compare_answers(*(read_answers(view.dir / ANSWERS_NAME) for view in pair))
    told = {
        name: getattr(found, name)
        for name in ("clips", "both", "only_first", "only_second", "neither", "p", "difference", "words")
    }
    interval = found.interval
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return {"first": pair[0].id, "second": pair[1].id} | told | {"low": low, "high": high}


def _write(path: Path, data: bytes) -> None:
    """Write a file whole, and say where."""
    try:
        write_atomic(path.absolute(), data)
    except OSError as error:
        raise WavedeckError(f"{plain(str(path), 200)} could not be written: {error.strerror}.") from error
    say(f"{plain(str(path), 300)}: {len(data):,} bytes.")
