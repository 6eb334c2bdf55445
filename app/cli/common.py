"""What the headless verbs share: stdout is data, stderr is narration, names complete in the shell."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...engine.rundir import Home, RunDir

if TYPE_CHECKING:
    from rich.console import Console

    from ...engine.catalog import Catalog
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
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]


def catalog() -> Catalog:
    """The catalog of this user's home."""
    from ...engine.catalog import Catalog
    from ...remote.liveness import alive

    return Catalog(Home.default(), alive)


def find(run: str) -> tuple[Catalog, RunDir]:
    """The catalog and the run that the user means."""
    runs = catalog()
    return runs, runs.resolve(run)


def look(run: str) -> RunView:
    """The current view of the run that the user means; an unreadable run is a usage error."""
    from ...engine.catalog import refuse_unreadable

    runs, directory = find(run)
    view = refuse_unreadable(runs.view(directory))
    runs.save_cache()
    return view


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def say(text: str) -> None:
    """Narration on stderr."""
    print(text, file=sys.stderr, flush=True)


def out() -> Console:
    """A rich console on stdout: colours on a terminal, plain text in a pipe, never narrower than needed there."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 200
    return console
