"""`python -m wavedeck` is the `wavedeck` command."""

from .app.cli.main import main

if __name__ == "__main__":
    main()
