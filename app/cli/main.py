"""The `wavedeck` command. Without a verb it opens the deck.

Verbs import what they need when they run: `wavedeck --help` loads neither Textual nor numpy, and nothing here ever
loads torch.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ... import __version__
from ...engine.errors import ExitCode, WavedeckError
from . import (
    babysitting,
    backing,
    checkpoints,
    comparing,
    control,
    hosts,
    launching,
    listening,
    machines,
    queueing,
    reading,
    safety,
    sessions,
    submitting,
)
from .opening import open_deck

app = typer.Typer(
    name="wavedeck",
    help="The flight deck for audio-model training. Without a verb it opens the deck.",
    no_args_is_help=False,
    rich_markup_mode=None,  # typer's rich help imports a markdown renderer: 0.3 s of CPU before the first word
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
for module in (
    launching,
    reading,
    listening,
    comparing,
    control,
    queueing,
    backing,
    checkpoints,
    safety,
    babysitting,
    hosts,
    machines,
    sessions,
    submitting,
):
    module.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"wavedeck {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def deck(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Open the deck."""
    if context.invoked_subcommand is None:
        open_deck()


def main() -> None:
    """Run one verb; every failure is one sentence and an exit code, a traceback is a bug."""
    try:
        app()
    except WavedeckError as error:
        print(f"wavedeck: {error}", file=sys.stderr)
        sys.exit(int(error.exit_code))
    except KeyboardInterrupt:
        print("\nwavedeck: interrupted.", file=sys.stderr)
        sys.exit(int(ExitCode.INTERRUPTED))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(int(ExitCode.OK))
