"""Opening the deck on this terminal; Textual is imported only here."""

from __future__ import annotations

import sys

import typer

from ...engine.errors import WavedeckError


def open_deck(
    run_id: str | None = None, listen: tuple[str, str | None, str | None] | None = None, *, tour: bool = False
) -> None:
    """Start the Textual app on this terminal, or say why that cannot be.

    Parameters
    ----------
    run_id: the run to open. listen: run, set and item to open the Listen screen on. tour: once the run has
    finished, listen to it.
    """
    from ...engine.pictures.terminal import pictures_of
    from ...engine.rundir import Home

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise WavedeckError("the deck needs a terminal; `wavedeck ps` and the other verbs work without one.")
    home = Home.default()
    home.ensure_writable()
    pictures = pictures_of(sys.stdout.fileno())  # before anything else reads what the terminal answers
    from ..cockpit import Wavedeck

    application = Wavedeck(home, open_run=run_id, listen=listen, tour=tour, pictures=pictures, babysits=True)
    application.run()
    if application.return_code:
        raise typer.Exit(application.return_code)
