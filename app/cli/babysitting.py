"""`wavedeck babysit`: mirror, back up, tell and fail over, headless, for as long as it runs."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from ...engine import format as fmt
from ...engine.errors import ExitCode
from ...engine.rundir import Home
from .common import JsonOption, print_json, say

STATUS_EVERY_S = 60.0


def register(app: typer.Typer) -> None:
    """Add this verb to the command."""
    app.command()(babysit)


def babysit(
    once: Annotated[bool, typer.Option("--once", help="Hear every host, look once, tell, and end.")] = False,
    test_alerts: Annotated[
        bool, typer.Option("--test-alerts", help="Send a test alert to every sink of alerts.toml, and end.")
    ] = False,
    interval: Annotated[float, typer.Option("--interval", min=1.0, max=600.0, help="Seconds between two looks.")] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Watch every run with nobody looking: copies, alerts and failover. Run it in tmux on a machine that stays on."""
    home = Home.default()
    home.ensure_writable()
    if test_alerts:
        _test(home, as_json)
        return
    from functools import partial

    from ...remote.babysit import Babysitter
    from ...remote.babysit import babysit as watch
    from ...remote.babysit_failover import own_parts

    teller = _Teller(as_json)
    parts = partial(own_parts, home)
    sitter = Babysitter(home, parts=parts, write=_bell, said=say, told=teller.alert, looked=teller.status)
    if not as_json:
        say(f"babysitting {home.root} until Ctrl-C; alerts also stand in alerts.jsonl there.")
    watch(sitter, once=once, interval_s=interval)


class _Teller:
    """Prints alerts as they come, and now and then how things stand."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._words = ""
        self._shown = 0.0

    def alert(self, alert: Any) -> None:
        if self._json:
            _json_line({"kind": "alert", **alert.to_json()})
        else:
            lines = [f"{fmt.clock(alert.t)}  {alert.severity}  {fmt.plain(alert.title, 300)}"]
            lines += [f"    {fmt.plain(line, 500)}" for line in alert.text.split("\n") if line.strip()]
            print("\n".join(lines), flush=True)

    def status(self, status: Any) -> None:
        if self._json:
            _json_line({"kind": "status", **status.to_json()})
            return
        lines = status.lines()
        words = lines[0]
        if words != self._words or time.monotonic() - self._shown > STATUS_EVERY_S:
            self._words, self._shown = words, time.monotonic()
            for line in lines:
                say(line)


def _json_line(value: Any) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def _bell(text: str) -> None:
    """To the terminal, if there is one."""
    if sys.stderr.isatty():
        sys.stderr.write(text)
        sys.stderr.flush()


def _test(home: Home, as_json: bool) -> None:
    from ...engine.alerts.config import load_alert_config
    from ...remote.alerts.sinks import make_sinks, try_sinks
    from ...remote.babysit import trial_alert

    tried = try_sinks(make_sinks(load_alert_config(home), _bell), trial_alert(time.time()))
    if as_json:
        print_json([{"name": name, "delivered": failure is None, "problem": failure} for name, failure in tried])
    for name, failure in tried if not as_json else ():
        print(f"{'✓' if failure is None else '✗'} {name}{f': {failure}' if failure else ''}")
    if not tried:
        say("no sink would be told: alerts.toml names none, see docs/babysit.md.")
    if not tried or any(failure is not None for _, failure in tried):
        raise typer.Exit(ExitCode.FAILED)
