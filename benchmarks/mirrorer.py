"""A process that copies the runs of one host and does nothing else: `python -m wavedeck.benchmarks.mirrorer HOST FILE`.

Each state of the link goes to FILE as `time state`, so that others can tell when it was lost and when it was back.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from wavedeck.engine.rundir import Home
from wavedeck.remote.fleet import Fleet


async def main(host: str, file: Path) -> None:
    """Mirror until killed."""
    with file.open("w", buffering=1) as told:
        before = ""

        def changed() -> None:
            nonlocal before
            link = fleet.links.get(host)
            if link is not None and link.state.value != before:
                before = link.state.value
                told.write(f"{time.time():.4f} {before}\n")

        fleet = Fleet(Home.default(), changed=changed)
        try:
            fleet.watch(host)
            await asyncio.Event().wait()
        finally:
            await fleet.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
