"""How long a training will take and what it will cost, from what earlier trainings of this home measured.

The rate is another run's `samples_per_s`; the work is items × epochs. Nothing is guessed from a data sheet: where no
comparable run has told its rate, time and cost are unknown and the sentence says how to measure them. A range stands
beside every figure, wide where the match is poor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .clouds import BILLED_BY_S, JOB_START_S, PRICE_PAGE, PRICES_OF, Flavor
from .errors import RunDirError
from .format import count, duration, money
from .hosts import LOCAL
from .machine import read_machine
from .manifest import Attempt, read_record
from .recipe import Recipe, load_object
from .rundir import Home, RunDir

if TYPE_CHECKING:
    from .planning import Wish
    from .run_view import RunView

START_S = (10.0, 60.0)
"""From a launch to its first step where the environment is there: imports, checks, the first epoch's features."""
VALIDATING = 1.25
"""Time of a whole training against its steps alone, where no run has measured it."""
_MOST_OVERHEAD = 4.0
_FIRST_READINGS = 16_384


class Match(IntEnum):
    """How well an earlier run tells the speed of this one; larger is better."""

    NONE = 0
    ELSEWHERE = 1
    """The same network and strategy on other hardware: an order of magnitude."""
    NEAR = 2
    """The same network on the same machine, trained in another way."""
    SAME = 3


_SPREAD = {Match.ELSEWHERE: (0.3, 3.0), Match.NEAR: (0.6, 1.8), Match.SAME: (0.85, 1.25)}
"""The true time is taken to be within these multiples of the figure."""
_WORDS = {
    Match.ELSEWHERE: "the same model and strategy on other hardware, so a rough guess",
    Match.NEAR: "the same model here with other settings, so roughly",
    Match.SAME: "the same model and strategy here",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a training would run.

    Parameters
    ----------
    host: the name of this machine or of a host; a rented job's flavor.
    gpu: the GPU as its seller calls it (`A10G`); None when only the host's name is known, which then has to match.
    start_s: least and most seconds before the first step.
    billed_by_s: time is paid in pieces of this many seconds.
    """

    host: str = LOCAL
    gpu: str | None = None
    price_per_hour: float | None = None
    price_words: str = ""
    start_s: tuple[float, float] = START_S
    billed_by_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """Time and money of one training, or of several after each other. None is unknown, never 0."""

    seconds: float | None
    low_s: float | None
    high_s: float | None
    price_per_hour: float | None
    cost: float | None
    low_cost: float | None
    high_cost: float | None
    basis: str
    """What it rests on, in words; what to do when it is unknown."""
    price_words: str = ""
    run: str | None = None
    """The run whose rate was used."""
    rate: float | None = None
    """Items a second."""
    items: int | None = None
    """Items seen in all epochs together."""
    unknown: int = 0
    """How many of several trainings are not in the sum."""

    @property
    def line(self) -> str:
        """One line for a form: `about 3h 20m (2h 50m to 4h 10m), about $3.40 ($2.90 to $4.20)`."""
        if self.seconds is None:
            return "time and cost unknown: nothing comparable was measured here"
        text = f"about {duration(self.seconds)} ({duration(self.low_s)} to {duration(self.high_s)})"
        if self.cost is not None:
            text += f", about {money(self.cost)} ({money(self.low_cost)} to {money(self.high_cost)})"
        return f"{text}; {self.unknown} more unknown" if self.unknown else text

    @property
    def lines(self) -> tuple[str, ...]:
        """The same with what it rests on, for a terminal."""
        price = (f"price: {self.price_words}",) if self.price_words else ()
        return (f"estimate: {self.line}", f"basis: {self.basis}", *price)

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `estimate` in `run --dry-run --json` and `submit --json`; seconds and US dollars."""
        return {
            "seconds": _rounded(self.seconds),
            "low_s": _rounded(self.low_s),
            "high_s": _rounded(self.high_s),
            "price_per_hour": self.price_per_hour,
            "cost": _rounded(self.cost, 4),
            "low_cost": _rounded(self.low_cost, 4),
            "high_cost": _rounded(self.high_cost, 4),
            "samples_per_s": self.rate,
            "items": self.items,
            "run": self.run,
            "basis": self.basis,
            "price": self.price_words or None,
            "unknown": self.unknown,
        }


def machine_of(wish: Wish, price_per_hour: float | None = None) -> Machine:
    """The machine a wish names: this one, or a host with the price its user wrote into `hosts.toml`."""
    words = "" if price_per_hour is None else f"{money(price_per_hour)}/h, from hosts.toml"
    return Machine(wish.host, price_per_hour=price_per_hour, price_words=words)


def machine_of_flavor(flavor: Flavor, price_per_hour: float | None = None) -> Machine:
    """A rented job's machine; `price_per_hour` is believed instead of the list."""
    listed = price_per_hour is None
    price = flavor.price if price_per_hour is None else price_per_hour
    words = f"{flavor.words}, list of {PRICES_OF}; {PRICE_PAGE}" if listed else f"{money(price)}/h, as you said"
    return Machine(flavor.name, flavor.gpu, price, words, JOB_START_S, BILLED_BY_S)


def estimate(home: Home, wish: Wish, machine: Machine | None = None) -> Estimate:
    """Time and cost of a training before it is launched, from the runs of `home`. Reads their journals' summaries."""
    from .catalog import Catalog

    views = Catalog(home, lambda run_id, record: None).views()
    return estimate_from(views, wish, machine or machine_of(wish))


def estimate_all(home: Home, wishes: Sequence[Wish], price_per_hour: float | None = None) -> list[Estimate]:
    """The estimates of a batch, in its order; `total` adds them up. The runs of `home` are read once."""
    from .catalog import Catalog

    views = Catalog(home, lambda run_id, record: None).views()
    return [estimate_from(views, wish, machine_of(wish, price_per_hour)) for wish in wishes]


def estimate_from(views: Iterable[RunView], wish: Wish, machine: Machine) -> Estimate:
    """The same from runs that were read already."""
    items = items_of(wish.recipe, wish.composed.config, wish.composed.resolved)
    if items is None:
        return _unknown(machine, f"{wish.recipe.name} does not say how many items it trains on.", None)
    wanted = _Traits.of(wish.composed.resolved)
    ranked = sorted(
        ((_match(view, wish, wanted, machine), view.created or 0.0, view) for view in views),
        key=lambda found: found[:2],
    )
    match, _, view = ranked[-1] if ranked else (Match.NONE, 0.0, None)
    if view is None or match is Match.NONE or view.manifest is None:
        return _unknown(machine, _how_to_measure(wish, wanted, machine), items)
    return _from_run(view, match, wanted, machine, items)


def total(estimates: Sequence[Estimate]) -> Estimate:
    """Several trainings one after another; those that are unknown are counted and left out of the sum."""
    known = [one for one in estimates if one.seconds is not None]
    unknown = len(estimates) - len(known)
    basis = f"the sum of {len(known)} of {len(estimates)} runs" + (
        f"; {unknown} have nothing comparable measured here" if unknown else ""
    )
    prices = {one.price_per_hour for one in estimates}
    words = {one.price_words for one in estimates}
    return Estimate(
        _sum(known, "seconds"), _sum(known, "low_s"), _sum(known, "high_s"),
        prices.pop() if len(prices) == 1 else None,
        _sum(known, "cost"), _sum(known, "low_cost"), _sum(known, "high_cost"),
        basis, words.pop() if len(words) == 1 else "", unknown=unknown,
    )  # fmt: skip


def items_of(recipe: Recipe, config: Any, resolved: Mapping[str, Any]) -> int | None:
    """Items a training sees in all its epochs together; None where the recipe does not say how many there are."""
    training = resolved.get("training", {})
    per_step = _number(training, "batch_size", 1) * _number(training, "accumulate", 1)
    steps = _number(training, "max_steps", 0)
    if steps:
        return round(steps * per_step)
    if recipe.items is None:
        return None
    try:
        one_epoch = load_object(recipe.items)(config)
    except Exception:  # code of the recipe: whatever goes wrong in it, a guess is no reason to refuse a launch
        return None
    return None if one_epoch is None else round(one_epoch * _number(training, "max_epochs", 1))


@dataclass(frozen=True, slots=True)
class _Traits:
    """What decides a training's speed, read from a resolved config."""

    model: tuple[Any, ...]
    strategy: Any
    details: tuple[Any, ...]
    clip_s: float

    @classmethod
    def of(cls, resolved: Mapping[str, Any]) -> _Traits:
        model, training = _section(resolved, "model"), _section(resolved, "training")
        sizes = tuple(sorted((k, str(v)) for k, v in model.items() if k not in ("name", "size", "weights", "dropout")))
        return cls(
            (model.get("name"), model.get("size")),
            _section(resolved, "strategy").get("name"),
            (sizes, *(training.get(name) for name in ("precision", "checkpointing", "batch_size"))),
            _positive(_section(resolved, "data").get("duration_s")) or 1.0,
        )

    @property
    def words(self) -> str:
        name, size = self.model
        parts = [f"{name} ({size})" if size else name, self.strategy]
        return " + ".join(part for part in parts if part) or "this configuration"


def _match(view: RunView, wish: Wish, wanted: _Traits, machine: Machine) -> Match:
    manifest = view.manifest
    if manifest is None or manifest.recipe != wish.recipe.name or not _positive(view.numbers.get("samples_per_s")):
        return Match.NONE
    traits = _Traits.of(manifest.config)
    if traits.model != wanted.model:
        return Match.NONE
    gpu = gpu_of(view)
    here = _same_machine(manifest.host, gpu, wish, machine)
    if not here:
        both_alike = (gpu is None) == (machine.gpu is None)
        return Match.ELSEWHERE if traits.strategy == wanted.strategy and both_alike else Match.NONE
    same = traits.strategy == wanted.strategy and traits.details == wanted.details
    return Match.SAME if same else Match.NEAR


def _same_machine(host: str, gpu: str | None, wish: Wish, machine: Machine) -> bool:
    if machine.gpu is not None:
        words = (gpu or "").upper().replace("-", " ").split()
        return all(word in words for word in machine.gpu.upper().split())
    return host == machine.host and (wish.gpus != () or gpu is None)


def gpu_of(view: RunView) -> str | None:
    """The GPU a run had, as the driver calls it (`NVIDIA A10G`); None for a run on a CPU or where it is not known."""
    run = RunDir(Path(view.dir))
    chosen = tuple(view.manifest.gpus) if view.manifest else ()
    return _gpu_of(run.path, chosen, _version(run.attempt(1)), min(_version(run.machine)[0], _FIRST_READINGS))


@lru_cache(maxsize=4096)
def _gpu_of(run: Path, chosen: tuple[int, ...], attempt: tuple[int, int], readings: int) -> str | None:
    """The same, read once for each version of the two files: a form asks at every change of a field."""
    directory = RunDir(run)
    try:
        record = read_record(directory.attempt(1), Attempt)
    except RunDirError:  # one damaged record of an old run: its readings speak alone
        record = None
    if record is not None and record.env.get("CUDA_VISIBLE_DEVICES") == "":
        return None
    found, _ = read_machine(directory.machine, 0, readings)
    gpus = next((reading.gpus for reading in found if reading.gpus), ())
    return next((gpu.name for gpu in gpus if gpu.name and (not chosen or gpu.index in chosen)), None)


def _version(path: Path) -> tuple[int, int]:
    """Size and time of change; zeros where nothing can be read."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _from_run(view: RunView, match: Match, wanted: _Traits, machine: Machine, items: int) -> Estimate:
    assert view.manifest is not None
    theirs = _Traits.of(view.manifest.config)
    rate = view.numbers["samples_per_s"] * theirs.clip_s / wanted.clip_s
    busy = items / rate * _overhead(view) + (_positive(view.numbers.get("evaluate_s")) or 0.0)
    low, high = _SPREAD[match]
    seconds = busy + math.fsum(machine.start_s) / 2
    low_s, high_s = busy * low + machine.start_s[0], busy * high + machine.start_s[1]
    longer = "" if theirs.clip_s == wanted.clip_s else f", scaled to clips of {wanted.clip_s:g} s"
    basis = (
        f"{count(items)} items at {rate:.3g} samples/s, measured by {view.id} ({_WORDS[match]}{longer}); "
        "making a data set that is not there comes on top"
    )
    return Estimate(
        seconds, low_s, high_s, machine.price_per_hour,
        _cost(machine, seconds), _cost(machine, low_s), _cost(machine, high_s),
        basis, machine.price_words, view.id, rate, items,
    )  # fmt: skip


def _overhead(view: RunView) -> float:
    """A whole training against its steps alone: validation and checkpoints, where that run measured both."""
    assert view.manifest is not None
    training = _section(view.manifest.config, "training")
    seen = (view.step or 0) * _number(training, "batch_size", 1) * _number(training, "accumulate", 1)
    whole, rate = _positive(view.numbers.get("train_s")), view.numbers["samples_per_s"]
    if not whole or not seen:
        return VALIDATING
    return min(_MOST_OVERHEAD, max(1.0, whole * rate / seen))


def _unknown(machine: Machine, basis: str, items: int | None) -> Estimate:
    price = machine.price_per_hour
    return Estimate(None, None, None, price, None, None, None, basis, machine.price_words, items=items)


def _how_to_measure(wish: Wish, wanted: _Traits, machine: Machine) -> str:
    return (
        f"no run of {wish.recipe.name} with {wanted.words} has told its samples/s on {machine.gpu or machine.host}: "
        "one short run there (training.max_steps=50) measures it."
    )


def _cost(machine: Machine, seconds: float) -> float | None:
    if machine.price_per_hour is None:
        return None
    billed = math.ceil(seconds / machine.billed_by_s) * machine.billed_by_s
    return machine.price_per_hour * billed / 3600


def _sum(known: Sequence[Estimate], name: str) -> float | None:
    values = [getattr(one, name) for one in known]
    return math.fsum(values) if values and None not in values else None


def _section(resolved: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = resolved.get(name)
    return section if isinstance(section, Mapping) else {}


def _number(section: Mapping[str, Any], name: str, otherwise: float) -> float:
    value = section.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else otherwise


def _positive(value: object) -> float | None:
    """A measured number above zero; None for what a damaged or foreign record may hold instead."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and value > 0 else None


def _rounded(value: float | None, digits: int = 1) -> float | None:
    return None if value is None else round(value, digits)
