"""Headless verbs (typer): the same functions as the deck, printed."""
