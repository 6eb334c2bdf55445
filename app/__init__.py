"""The two front doors: the Textual deck and the typer CLI. The only room that knows all others."""
