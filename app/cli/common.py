"""What the headless verbs share: stdout is data, stderr is narration, names complete in the shell."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...engine.rundir import Home, RunDir

if TYPE_CHECKING:
    from rich.console import Console

    from ...engine.catalog import Catalog, Far
    from ...engine.run_view import RunView


def complete_run(incomplete: str) -> list[str]:
    """Run names for shell completion: `last`, two-word tails and ids."""
    from ...engine.names import tail

    home = Home.default()
    from ...engine.names import RUN_ID

    try:
        ids = sorted((entry.name for entry in home.runs.iterdir() if RUN_ID.match(entry.name)), reverse=True)
    except OSError:
        return []
    words = ["last", *(tail(run_id) for run_id in ids), *ids]
    return [word for word in words if word.startswith(incomplete)]


def complete_recipe(incomplete: str) -> list[str]:
    """Recipe and stage names for shell completion."""
    from ...engine.recipe import load_recipe, recipe_names

    words: list[str] = []
    for name in recipe_names():
        words.append(name)
        if incomplete.startswith(f"{name}."):
            words += [f"{name}.{stage.name}" for stage in load_recipe(name).stages]
    return [word for word in words if word.startswith(incomplete)]


RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run id, a unique prefix of it, its two-word tail, its name where only one run has it, or `last`.",
        autocompletion=complete_run,
    ),
]
RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE[.STAGE]", help="What to train.", autocompletion=complete_recipe)
]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[key=value]...", help="group=option, preset=name or field=value.")
]
PresetOption = Annotated[str | None, typer.Option("--preset", help="The baseline, but: see `wavedeck recipes NAME`.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]


OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Do not ask other hosts: show the copies here as they are.")
]


def catalog(far: Far | None = None) -> Catalog:
    """The catalog of this user's home; what other processes know about other hosts is asked of their records."""
    from ...engine.catalog import Catalog
    from ...remote.liveness import alive

    home = Home.default()
    if far is None:
        far = partial(_recorded, home)
    return Catalog(home, alive, far=far)


def _recorded(home: Home, host: str, run_id: str, attempt: int) -> tuple[bool | None, float | None]:
    """Imports the links only when a run of another host is there."""
    from ...remote.far import far_sign

    return far_sign(home)(host, run_id, attempt)


def find(run: str) -> tuple[Catalog, RunDir]:
    """The catalog and the run that the user means."""
    runs = catalog()
    return runs, runs.resolve(run)


def look(run: str, offline: bool = False) -> RunView:
    """The current view of the run that the user means; an unreadable run is a usage error."""
    from ...engine.catalog import refuse_unreadable

    with following(run, offline) as (runs, directory, _):
        view = refuse_unreadable(runs.view(directory))
        runs.save_cache()
        return view


@contextmanager
def following(
    run: str, offline: bool = False, *, long: bool = False
) -> Iterator[tuple[Catalog, RunDir, Callable[[], None]]]:
    """The run that the user means, up to date; call the third to narrate what becomes of its host.

    A run of this machine and one that has ended cost nothing; nor does one that another process mirrors, for a verb
    that only looks. A `long` one connects all the same, and mirrors itself once the other process is gone.
    """
    from ...engine.state import RunState

    runs, directory = find(run)
    view = runs.view(directory)
    known = not view.state.active or (view.state is not RunState.UNREACHABLE and not long)
    if offline or not view.is_copy or known:
        yield runs, directory, lambda: None
        return
    from .places import near

    with near(runs.home, [view.host], run=directory) as place:
        yield catalog(place.far), directory, place.tell


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def say(text: str) -> None:
    """Narration on stderr; what it quotes from elsewhere loses its control characters."""
    clean = "".join(char if char.isprintable() or char == "\n" else "·" for char in text)
    print(clean, file=sys.stderr, flush=True)


def out() -> Console:
    """A rich console on stdout: colours on a terminal, plain text in a pipe, never narrower than needed there."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 200
    return console
