"""What costs money: a budget that is used up, a GPU that idles under a run, a rented machine without one."""

from __future__ import annotations

from collections.abc import Iterator

from ..format import money, percent
from ..hosts import HostView
from ..machine import GpuReading
from ..run_view import RunView
from ..state import RunState
from .alert import Severity, make_alert
from .evidence import Evidence
from .rules import Kind, Memory, Said

IDLE_S = 600.0
IDLE_PCT = 5.0
BUDGET_WARNING = 0.8


def budget(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """Four fifths of a run's budget are spent; all of it is."""
    for one in evidence.budgets:
        view = evidence.run(one.run)
        spent = one.spent if one.spent is not None else (view.cost if view is not None else None)
        if view is None or spent is None or one.limit <= 0 or not view.state.active:
            continue
        share = spent / one.limit
        if share < BUDGET_WARNING:
            continue
        over = share >= 1.0
        after = (
            "It is stopped once its checkpoint is saved and verified here." if over and one.stops
            else "It goes on: `wavedeck stop` ends it." if over
            else "It will be stopped when the budget is used up." if one.stops else ""
        )  # fmt: skip
        title = f"{view.name} has {'used up its budget' if over else f'spent {percent(share)} of its budget'}"
        # One key: the second alert is the first one grown worse. The limit is in it, so a new one is told anew.
        alert = make_alert(
            f"budget/{view.id}/{one.limit:g}", Severity.ERROR if over else Severity.WARNING, title,
            [f"{money(spent)} of {money(one.limit)}.", after], t=evidence.now, run=view.id, host=view.host,
        )  # fmt: skip
        yield Said(Kind.PROBLEM, alert)


def budget_stops(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """What came of stopping a run at its budget; that something of it is not safe must not go unheard."""
    for stop in evidence.stops:
        view = evidence.run(stop.run)
        title, _, text = stop.text.partition("\n")
        alert = make_alert(
            f"budget/{stop.run}/{stop.limit:g}/{stop.attempt or 0}/{'stopped' if stop.safe else 'unsafe'}",
            Severity.INFO if stop.safe else Severity.ERROR, title, text,
            t=evidence.now, run=stop.run, host=None if view is None else view.host,
        )  # fmt: skip
        yield Said(Kind.AGAIN, alert)


def idle_gpu(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """A run is supposed to compute and its GPUs have had nothing to do for ten minutes."""
    for view in evidence.runs:
        host = evidence.host(view.host)
        key = f"gpu-idle/{view.id}"
        if view.state is not RunState.RUNNING or host is None or not host.link.up:
            continue
        gpus = _gpus_of(view, host)
        idle = _all_idle(gpus)
        if idle is None:
            continue
        if idle:
            which = ", ".join(str(gpu.index) for gpu in gpus)
            alert = make_alert(
                key, Severity.WARNING, f"{view.name} runs and its GPU idles",
                [f"GPU {which} of {host.name} has been below {IDLE_PCT:g} % for ten minutes; {_phase(view)}.",
                 "Does it wait for data, or compute on the CPU?", _price(host)],
                t=evidence.now, run=view.id, host=host.name,
            )  # fmt: skip
            yield Said(Kind.PROBLEM, alert, after_s=IDLE_S)
        else:
            title = f"{view.name} uses its GPU again"
            alert = make_alert(key, Severity.INFO, title, t=evidence.now, run=view.id, host=host.name, recovered=True)
            yield Said(Kind.FINE, alert)


def idle_machine(evidence: Evidence, memory: Memory) -> Iterator[Said]:
    """A machine that costs money has had nothing to do for ten minutes."""
    for host in evidence.hosts:
        if not host.price_per_hour or not host.link.up:
            continue
        key = f"idle/{host.name}"
        busy = any(view.state is not RunState.UNREACHABLE for view in evidence.active_on(host.name))
        idle = _all_idle(host.gpus) if host.gpus else None if host.reading is None else True
        if busy or idle is False:
            title = f"{host.name} has something to do again"
            alert = make_alert(key, Severity.INFO, title, t=evidence.now, host=host.name, recovered=True)
            yield Said(Kind.FINE, alert)
        elif idle:
            alert = make_alert(
                key, Severity.WARNING, f"{host.name} costs money and does nothing",
                ["No run of ours and no busy GPU for ten minutes.", _price(host),
                 f"`wavedeck safe {host.name}` says whether it may be destroyed."],
                t=evidence.now, host=host.name,
            )  # fmt: skip
            yield Said(Kind.PROBLEM, alert, after_s=IDLE_S)


def _gpus_of(view: RunView, host: HostView) -> tuple[GpuReading, ...]:
    """The GPUs that a run was given; all of them where nobody chose and the machine is rented for its GPUs."""
    given = view.manifest.gpus if view.manifest else []
    if given:
        return tuple(gpu for gpu in host.gpus if gpu.index in given)
    return host.gpus if host.price_per_hour else ()


def _all_idle(gpus: tuple[GpuReading, ...]) -> bool | None:
    """Whether none of them computes; None while that is not known."""
    used = [gpu.utilization_pct for gpu in gpus if gpu.utilization_pct is not None]
    if any(value >= IDLE_PCT for value in used):
        return False
    return True if used and len(used) == len(gpus) else None


def _phase(view: RunView) -> str:
    return "no step yet" if view.step is None else f"step {view.step:,}" + (f", {view.phase}" if view.phase else "")


def _price(host: HostView) -> str:
    return f"It costs {money(host.price_per_hour)} an hour." if host.price_per_hour else ""


RULES = (budget, budget_stops, idle_gpu, idle_machine)
