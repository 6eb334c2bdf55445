"""A comparison as one HTML file that needs nothing else: no network, no fonts, no scripts from elsewhere.

Its size is bounded: 12 MiB of sound, curves of at most 600 points, matrices of 12 runs. Whatever comes from a run is
escaped; the same comparison gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.resources import files

from .. import format as fmt
from ..headline import goal_of
from .clips import clips_words
from .comparison import Comparison
from .differences import value_words
from .heard import Clip, Heard, Sound, heard
from .parallel import parallel, result_column
from .runs import ComparedRun
from .svg import SLOTS, Line, confusion, coordinates, curves, escape, swatch
from .table import Column, best_run, columns_of

MOST_CHARTS = 6
MOST_MATRICES = 12
MOST_CELL = 60
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; media-src data:; img-src data:"


def report_page(comparison: Comparison, runs: Sequence[ComparedRun], sound: Heard | None = None) -> str:
    """The page; `runs` in the order of its table, the first eight of them in colour.

    Parameters
    ----------
    sound: what can be heard; read from the runs' samples when None.
    """
    slots = {run.id: slot for slot, run in enumerate(runs[:SLOTS])}
    title = _title(comparison)
    sections = [
        _results(comparison, runs),
        _differences(comparison),
        _curves(comparison, runs, slots),
        _coordinates(comparison, slots),
        _matrices(comparison, runs),
        _sound(comparison, heard(runs) if sound is None else sound),
    ]
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_asset('report.css')}</style></head><body><main>"
    )
    return "\n".join([head, _heading(comparison, title), *filter(None, sections), _foot(), ""])


def _asset(name: str) -> str:
    return (files("wavedeck.assets") / name).read_text("utf-8")


def _foot() -> str:
    return f"</main><script>{_asset('report.js')}</script></body></html>"


def _title(comparison: Comparison) -> str:
    batches = {run.batch for run in comparison.runs}
    batch = next(iter(batches)) if len(batches) == 1 else None
    count = len(comparison.runs)
    return f"{count} run{'s' * (count != 1)} compared" + (f", {batch}" if batch else "")


def _heading(comparison: Comparison, title: str) -> str:
    headline = comparison.headline
    parts = [f"<h1>{escape(title)}</h1>"]
    if headline is not None:
        end = "highest" if headline.direction == "max" else "lowest"
        parts.append(f"<p>Judged by <code>{escape(headline.metric)}</code>, {end} first. Metrics of the training: ")
        parts.append(f"{escape(_place_words(comparison))}.</p>")
    for run in comparison.runs:
        if run.problem:
            parts.append(f'<p class="problem">{escape(run.label)}: {escape(run.problem)}.</p>')
    if len(comparison.runs) == 1:
        parts.append('<p class="soft">One run alone: there is nothing to compare it with.</p>')
    return "".join(parts)


def _place_words(comparison: Comparison) -> str:
    place = comparison.place
    if place.step is not None:
        return f"at step {place.step:,}, or the newest before it (@)"
    return "at each run's end" if place.kind == "last" else "at the step of each run's best"


def _results(comparison: Comparison, runs: Sequence[ComparedRun]) -> str:
    columns = columns_of(comparison, settings=None)
    stars = {column.key: best_run(comparison, column) for column in columns}
    heads = "".join(
        f'<th{_numeric(column)} data-goal="{column.goal or ""}"><button>{escape(column.title, 60)}</button></th>'
        for column in columns
    )
    rows = []
    for run in runs:
        cells = [_cell(column, run, star is not None and star.id == run.id) for column, star in _zip(columns, stars)]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    table = f'<table class="sortable"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    note = '<p class="soft">★ is the best of its column; brackets hold an interval. A head sorts by its column.</p>'
    note += "".join(f'<p class="soft">{escape(line.strip(), 400)}</p>' for line in clips_words(runs))
    return f'<h2 id="results">Results</h2><div class="scroll">{table}</div>{note}'


def _zip(columns: Sequence[Column], stars: dict[str, ComparedRun | None]) -> list[tuple[Column, ComparedRun | None]]:
    return [(column, stars[column.key]) for column in columns]


def _numeric(column: Column) -> str:
    return "" if column.kind in ("run", "state", "setting") else ' class="n"'


def _cell(column: Column, run: ComparedRun, best: bool) -> str:
    words = escape(column.words(run), MOST_CELL)
    value = column.value(run)
    known = value is not None and not (isinstance(value, float) and math.isnan(value))
    sorted_by = (
        f' data-v="{escape(value_words(value) if not isinstance(value, float) else repr(value))}"' if known else ""
    )
    if column.kind == "run":
        return f'<th scope="row"{sorted_by} title="{escape(run.id)}">{words}</th>'
    classes = [name for name, on in (("n", _numeric(column)), ("best", best), ("none", words == fmt.MISSING)) if on]
    style = f' class="{" ".join(classes)}"' if classes else ""
    return f"<td{style}{sorted_by}>{'★ ' if best else ''}{words}</td>"


def _differences(comparison: Comparison) -> str:
    differ = comparison.differences
    if len(comparison.runs) < 2:
        return ""
    parts = ['<h2 id="config">What was set differently</h2>']
    if differ.names:
        heads = "".join(f"<th>{escape(run.label, 60)}</th>" for run in comparison.runs)
        rows = []
        for name in differ.names:
            cells = "".join(
                f"<td>{escape(value_words(run.settings[name], MOST_CELL))}</td>"
                if name in run.settings
                else f'<td class="none">{fmt.MISSING}</td>'
                for run in comparison.runs
            )
            rows.append(f'<tr><th scope="row"><code>{escape(name)}</code></th>{cells}</tr>')
        table = f"<table><thead><tr><th>setting</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        parts.append(f'<div class="scroll">{table}</div>')
    else:
        parts.append("<p>Nothing was set differently.</p>")
    if differ.common:
        common = "<br>".join(
            f"<code>{escape(name)} = {escape(value_words(value, 100))}</code>" for name, value in differ.common.items()
        )
        parts.append(f"<details><summary>{len(differ.common)} settings are the same in all</summary>{common}</details>")
    return "".join(parts)


def _curves(comparison: Comparison, runs: Sequence[ComparedRun], slots: dict[str, int]) -> str:
    figures: list[str] = []
    for name in sorted(comparison.curve_names, key=lambda name: goal_of(name) is None):  # a learning rate last
        lines = [Line(comparison.title(run), run.series[name], slots.get(run.id)) for run in runs if name in run.series]
        if len(figures) >= MOST_CHARTS or not any(len(line.view) > 1 for line in lines):
            continue
        picture = curves(name, lines, comparison.levels(name))
        if picture:
            figures.append(f"<figure><figcaption><b>{escape(name)}</b> over steps</figcaption>{picture}</figure>")
    if not figures:
        return ""
    legend = "".join(
        f"<li>{swatch(slots[run.id])}{escape(comparison.title(run))}</li>" for run in runs if run.id in slots
    )
    rest = len(runs) - len(slots)
    if rest > 0:
        legend += f'<li class="soft">{rest} more in grey: hover to see which</li>'
    return f'<h2 id="curves">Curves</h2><div class="grid">{"".join(figures)}</div><ul class="legend">{legend}</ul>'


def _coordinates(comparison: Comparison, slots: dict[str, int]) -> str:
    picture = coordinates(parallel(comparison), slots)
    if not picture or len(comparison.runs) < 2:
        return ""
    said = f"Each line is a run; the last axis is {escape(result_column(comparison).title)}. Hover to see its values."
    return f'<h2 id="coordinates">Parallel coordinates</h2><figure>{picture}<figcaption>{said}</figcaption></figure>'


def _matrices(comparison: Comparison, runs: Sequence[ComparedRun]) -> str:
    told = [(run, run.judged.evaluation) for run in runs]
    judged = [(run, found) for run, found in told if found is not None and found.confusion]
    figures: list[str] = []
    for run, found in judged[:MOST_MATRICES]:
        said = f"<b>{escape(comparison.title(run))}</b> · {escape(found.split)}"
        if found.clips is not None:
            said += f", {found.clips:,} clips"
        figures.append(f"<figure><figcaption>{said}</figcaption>{confusion(found)}</figure>")
    if not figures:
        return ""
    more = len(judged) - len(figures)
    note = f'<p class="soft">{more} more runs have a matrix: <code>wavedeck show RUN</code>.</p>' if more > 0 else ""
    return f'<h2 id="matrices">What was taken for what</h2><div class="grid">{"".join(figures)}</div>{note}'


def _sound(comparison: Comparison, found: Heard) -> str:
    titles = {run.id: comparison.title(run) for run in comparison.runs}
    notes = "".join(f'<p class="soft">{escape(note, 300)}</p>' for note in found.notes)
    if not found.clips:
        return f'<h2 id="sound">Listen</h2>{notes}' if notes else ""
    how = (
        "The same clips as each run heard them, first those on which the runs disagree most."
        if found.shared
        else "These runs share no clip; the worst of each."
    )
    clips = "".join(_clip(clip, titles) for clip in found.clips)
    return f'<h2 id="sound">Listen</h2><p>{how}</p>{clips}{notes}'


def _clip(clip: Clip, titles: dict[str, str]) -> str:
    truth = f" · <b>{escape(clip.truth)}</b>" if clip.truth else ""
    tags = f' <span class="soft">{escape(", ".join(clip.tags), 80)}</span>' if clip.tags else ""
    rows = [f"<tr><td>the clip</td><td>{escape(clip.truth)}</td><td></td><td>{_audio(clip.sound)}</td></tr>"]
    for answer in clip.answers:
        mark = {True: '<span class="best">✓</span> ', False: '<span class="problem">✗</span> ', None: ""}[answer.right]
        names = ", ".join(titles.get(run, run) for run in answer.runs)
        count = f"{len(answer.runs)} run{'s' * (len(answer.runs) != 1)}"
        rows.append(
            f'<tr><td>{count}</td><td>{mark}{escape(answer.words)}</td><td class="soft">{escape(names, 400)}</td>'
            f"<td>{_audio(answer.sound)}</td></tr>"
        )
    table = f'<div class="scroll"><table class="wrap"><tbody>{"".join(rows)}</tbody></table></div>'
    return f"<h3>{escape(clip.name, 80)}{truth}{tags}</h3>{table}"


def _audio(sound: Sound | None) -> str:
    if sound is None:
        return ""
    cut = f' <span class="soft">the beginning of {sound.seconds:.0f} s</span>' if sound.cut else ""
    return f'<audio controls preload="none" src="{sound.uri}"></audio>{cut}'
