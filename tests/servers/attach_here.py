"""Run as a program in a pty: `attach_here.py COMMAND` attaches to `gpu1` and tells how that and the terminal ended."""

import asyncio
import os
import sys
import termios

from wavedeck.engine.rundir import Home
from wavedeck.remote.host import HostLost
from wavedeck.remote.ssh.connection import Pulse, connect
from wavedeck.remote.ssh.keys import Secrets
from wavedeck.remote.ssh.questions import NobodyAsks
from wavedeck.remote.ssh.target import resolve
from wavedeck.remote.ssh.terminal import attach


async def main() -> str:
    pulse = Pulse(keepalive_s=0.3)
    gpu1 = await connect("gpu1", resolve(["gpu1"]), Home.default(), NobodyAsks(), Secrets(), pulse)
    try:
        return f"status={await attach(gpu1, sys.argv[1])}"
    except HostLost as error:
        return f"lost={error}"
    finally:
        await gpu1.close()


if __name__ == "__main__":
    before = termios.tcgetattr(0) if os.isatty(0) else None
    try:
        print(asyncio.run(main()))
    finally:
        if before is not None:
            print("terminal as before:", termios.tcgetattr(0) == before, flush=True)
