"""A run in words: state, progress, best, how it ended, its last lines."""

from __future__ import annotations

import time

from rich.style import Style
from rich.text import Text

from ..engine import format as fmt
from ..engine.backup.money import budget_state
from ..engine.hosts import LinkState
from ..engine.names import tail
from ..engine.run_view import RunView
from ..engine.state import RunState, describe_end
from .backup_line import backed_up_words
from .host_words import coarse
from .palette import Palette
from .runs_table import bar, bar_style, broke_off

SILENT_AFTER_S = 30.0
_NEEDS = {
    LinkState.REFUSED: "refused: {} answers and does not let us in",
    LinkState.KEY_UNKNOWN: "unknown host key: nobody has said that the key of {} is right",
    LinkState.KEY_CHANGED: "host key changed: {} shows another key than before",
}
"""Why a host that answers is out of reach: only its user can end that, on the Hosts screen."""


def headline(view: RunView, palette: Palette, width: int) -> Text:
    """One line: state, name, progress bar, rate, ETA, best."""
    text = Text()  # no base style: the state's colour is the state's alone
    text.append(f"{view.state.mark} {view.state}", style=palette.state(view.state))
    if view.state is RunState.UNREACHABLE and view.heard is not None:
        text.append(f" · heard {coarse(time.time() - view.heard)} ago", style=palette.state(view.state))
    text.append(f"  {tail(view.id)}", style=Style(bold=True))
    text.append(f"  {fmt.plain(view.what, 30)}", style=palette.muted)
    if view.is_copy:
        text.append(f"  on {fmt.plain(view.host, 40)}", style=palette.muted)
    if view.attempt and view.attempt > 1:
        text.append(f"  attempt {view.attempt}", style=palette.muted)
    for part in _numbers(view, palette):
        if text.cell_len + part.cell_len + 3 > width:
            continue
        text.append("   ")
        text.append_text(part)
    return text


def _numbers(view: RunView, palette: Palette) -> list[Text]:
    parts: list[Text] = []
    if view.done is not None and view.total:
        parts.append(bar(view.done / view.total, 16, palette, bar_style(view, palette)))
        parts.append(Text(f"{fmt.count(view.done)}/{fmt.count(view.total)} {view.unit}"))
    elif view.done is not None:
        parts.append(Text(f"{fmt.count(view.done)} {view.unit}"))
    if (view.phase and view.state.active) or (view.activity and broke_off(view) and view.unit != "step"):
        parts.append(Text(fmt.plain(view.activity or view.phase or "", 30), style=palette.accent))
    if view.rate:
        parts.append(Text(fmt.rate(view.rate, view.unit)))
    if view.eta_s is not None:
        parts.append(Text(f"ETA {fmt.duration(view.eta_s)}"))
    if view.best:
        metric, value, step = view.best
        where = f" @ {fmt.count(step)}" if step is not None else ""
        parts.append(Text(f"★ {metric} {fmt.number(value)}{where}", style=palette.good))
    return parts


def cost_text(view: RunView, palette: Palette) -> Text | None:
    """`$4.10 of $5.00 (82%)`; None where the price is not known."""
    if view.cost is None:
        return None
    state = budget_state(view.cost, view.backup.budget if view.backup else None)
    if state is None:
        return Text(fmt.money(view.cost), style=palette.muted)
    return Text(state.words, style=palette.bad if state.over else palette.warn if state.near else palette.muted)


def facts_line(view: RunView, palette: Palette) -> Text | None:
    """What the trainer says of itself, in its order: `architecture HTS-AT · weights 3f2a91…`; None when nothing."""
    if not view.facts:
        return None
    text = Text()
    for place, (name, value) in enumerate(view.facts.items()):
        text.append(" · " if place else "", style=palette.muted)
        text.append(f"{fmt.plain(name, 24)} ", style=palette.muted)
        text.append(fmt.plain(value, 60))
    return text


def status_line(view: RunView, palette: Palette, link: LinkState | None = None, facts: Text | None = None) -> Text:
    """The second line: what happened to the run, then its newest alert; without either, how long it runs.

    `link` is how its host is reached, where that is known; `facts` come first when nothing happened.
    """
    now = time.time()
    if view.state is RunState.UNREADABLE:
        return Text(fmt.plain(view.problem or "", 300), style=palette.bad)
    moved = _moved(view, palette)
    if moved is not None:
        return moved
    said = [part for part in (_trouble(view, palette, now, link), _alert(view, palette)) if part is not None]
    if said:
        return Text("   ").join(said)
    if view.nan_counts:
        name, count = max(view.nan_counts.items(), key=lambda item: item[1])
        words = "1 value of {} is not finite" if count == 1 else f"{fmt.count(count)} values of {{}} are not finite"
        return Text("× " + words.format(fmt.plain(name, 40)), style=palette.bad)
    quiet = Text(_quiet_facts(view, now), style=palette.muted)
    parts = [part for part in (facts, cost_text(view, palette), quiet) if part is not None]
    return Text(" · ", style=palette.muted).join(parts)


def _moved(view: RunView, palette: Palette) -> Text | None:
    """That it is not here that the training goes on; the key leads there."""
    if view.doubled:
        words = f"‼ it still runs although {view.moved_to} goes on in its place: s stops this one, > opens the other"
        return Text(fmt.plain(words, 300), style=palette.bad)
    if view.moved_to is not None:
        where = f" on {fmt.plain(view.moved_host, 48)}" if view.moved_host else ""
        words = f"⇢ went on as {fmt.plain(view.moved_to, 120)}{where} (> opens it)"
        return Text(words, style=palette.accent)
    if view.fenced is not None:
        words = f"⊘ fenced: {fmt.plain(view.fenced, 120)} writes in its place, so this one may not (> opens it)"
        return Text(words, style=palette.warn)
    return None


def _trouble(view: RunView, palette: Palette, now: float, link: LinkState | None) -> Text | None:
    """How the run came to grief, if it did: an old alert must not hide a crash."""
    if view.state in (RunState.FAILED, RunState.KILLED):
        lines = view.exit.tail if view.exit else []
        last = next((line for line in reversed(lines) if line.strip()), "")
        return Text(f"{describe_end(view.exit)}: {fmt.plain(last, 200)}", style=palette.bad)
    if view.state is RunState.VANISHED:
        words = "no process and no exit record: the machine rebooted or the supervisor was killed. r resumes."
        return Text(words, style=palette.bad)
    if view.state is RunState.UNREACHABLE:
        style = palette.bad if link is not None and link.needs_user else palette.warn
        backup = view.backup
        known = backup is not None and backup.verified_step is not None
        held = f"; {backed_up_words(backup, now)}" if backup is not None and known else ""
        return Text(unreachable_words(view, now, link) + held, style=style)
    if view.state is RunState.STALLED:
        return Text(f"alive, but silent for {fmt.duration(now - (view.last_sign or now))}", style=palette.warn)
    return None


def unreachable_words(view: RunView, now: float, link: LinkState | None = None) -> str:
    """Who does not answer or is not trusted, and how old the picture is."""
    who = fmt.plain(view.host, 40) if view.is_copy else "its host"
    since = view.heard or view.last_sign
    age = f", from {coarse(now - since)} ago" if since is not None else ""
    if link is not None and link in _NEEDS:
        return (
            f"{_NEEDS[link].format(who)} (h: hosts). This is the last known picture{age}; the training may well go on"
        )
    return f"{who} does not answer: this is the last known picture{age}. The training may well go on there (h: hosts)"


def _alert(view: RunView, palette: Palette) -> Text | None:
    if not view.notices:
        return None
    notice = view.notices[-1]
    return Text(f"⚠ {fmt.plain(notice.text, 200)} ({fmt.clock(notice.t)[11:]})", style=palette.warn)


def _quiet_facts(view: RunView, now: float) -> str:
    parts = []
    if view.parent is not None:
        moved = view.manifest is not None and view.manifest.parent_step is not None
        parts.append(f"{'goes on' if moved else 'comes'} from {fmt.plain(tail(view.parent), 60)} (<)")
    if view.started:
        word = "took" if view.ended else "for"
        several = view.attempt is not None and view.attempt > 1 and view.ran_s is not None
        parts.append(f"{word} {fmt.duration(view.ran_s if several else (view.ended or now) - view.started)}")
    if view.evaluated_at is not None:
        parts.append(f"evaluated again {fmt.clock(view.evaluated_at)[11:]}")
    if view.state.active and view.last_sign and now - view.last_sign > SILENT_AFTER_S:
        parts.append(f"last sign {fmt.ago(view.last_sign, now)}")
    if view.checkpoints:
        newest = view.checkpoints[-1]
        parts.append(f"checkpoint at step {fmt.count(newest.step)}, {fmt.clock(newest.t)[11:]}")
    if view.backup is not None and view.backup.verified_step is not None:
        parts.append(backed_up_words(view.backup, now))
    elif view.backup is not None and view.checkpoints:
        parts.append("nothing backed up yet")
    if view.manifest and view.manifest.git:
        git = view.manifest.git
        parts.append(f"git {git.commit[:9]}{' + changes' if git.dirty else ''}")
    if view.problem:
        parts.append(view.problem)
    parts.append(view.id)
    return " · ".join(parts)
