"""Export the README's pictures from the deck on a real run: `make screenshots`, after `wavedeck demo --headless`.

Each picture is the app driven by its own keys, saved as Textual's SVG.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from textual.pilot import Pilot

from wavedeck.app.cockpit import Wavedeck
from wavedeck.engine.rundir import Home

OUT = Path(__file__).parent.parent / "docs" / "screenshots"
SIZE = (120, 36)
SHOTS: dict[str, tuple[str, ...]] = {
    "runs": (),
    "run": ("enter",),
    "crosshair": ("enter", "right", "left", "left", "left"),
    "losses": ("enter", "2"),
    "console": ("enter", "3"),
    "machine": ("enter", "4"),
    "launch": ("n",),
    "listen": ("L",),
    "light": ("t", "enter"),
}


async def settle(pilot: Pilot[None]) -> None:
    """Give the watchers time to read and the screen time to draw."""
    for _ in range(12):
        await pilot.pause(0.1)


async def shoot(name: str, keys: tuple[str, ...]) -> None:
    """One picture."""
    app = Wavedeck(Home.default())
    async with app.run_test(size=SIZE) as pilot:
        await settle(pilot)
        for key in keys:
            await pilot.press(key)
            await settle(pilot)
        (OUT / f"{name}.svg").write_text(app.export_screenshot(title=f"wavedeck · {name}"))


async def shoot_hosts() -> None:
    """The machines, with recorded readings: nobody has eight GPUs at hand."""
    import time

    from wavedeck.tests.app.hosts_deck import hosts_deck
    from wavedeck.tests.fakes.hosts import AWAY, BUSY, CPU_ONLY, NOW

    time.time = lambda: NOW  # type: ignore[assignment]

    async with hosts_deck(BUSY, AWAY, CPU_ONLY, size=SIZE) as pilot:
        await pilot.press("down", "enter")
        await settle(pilot)
        (OUT / "hosts.svg").write_text(pilot.app.export_screenshot(title="wavedeck · hosts"))


def main() -> int:
    """All pictures, or those named on the command line."""
    runs = Home.default().runs
    if sys.argv[1:] != ["hosts"] and not (runs.is_dir() and any(runs.iterdir())):
        print("no runs to show: run `wavedeck demo --headless` first", file=sys.stderr)
        return 1
    OUT.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or (*SHOTS, "hosts"):
        asyncio.run(shoot_hosts() if name == "hosts" else shoot(name, SHOTS[name]))
        print(f"docs/screenshots/{name}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
