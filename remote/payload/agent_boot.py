"""The first thing a host runs of us: `python3 -c 'import sys;exec(sys.stdin.buffer.read(N))'`, N bytes of this file.

It reads a header (one line of JSON) and the bundle (zlib, a JSON object of module sources) from standard input, makes
the modules importable from memory and hands over to the agent: nothing is installed and no file is written. It must
parse on any Python 3, so that an old one is told in a sentence that it is too old.
"""

import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import zlib
from typing import Any, Dict

PACKAGE = "wavedeck_payload"
OLDEST = (3, 8)
TOO_OLD = 78
"""Exit status of an interpreter that is too old."""
WAIT_S = 120
MAX_BUNDLE = 8 << 20


class Bundle(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports `wavedeck_payload` and its modules from their sources in memory."""

    def __init__(self, sources: Dict[str, str]) -> None:
        self._sources = sources

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """A spec for what is ours, None for everything else."""
        package, _, name = fullname.partition(".")
        if package != PACKAGE or (name and name not in self._sources):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=not name)

    def is_package(self, fullname: str) -> bool:
        """Only the root is one."""
        return fullname == PACKAGE

    def get_source(self, fullname: str) -> str:
        """The source; the package's own is empty."""
        return self._sources.get(fullname.partition(".")[2], "")

    def get_code(self, fullname: str) -> Any:
        """Compiled under a name that says where it comes from."""
        return compile(self.get_source(fullname), "<{}>".format(fullname), "exec", dont_inherit=True)


def main() -> None:
    """Read the bundle and run the agent; never returns."""
    if sys.version_info < OLDEST:
        sys.stderr.write("wavedeck needs Python 3.8 or newer on this host; this is {}.{}.\n".format(*sys.version_info))
        os._exit(TOO_OLD)
    signal.alarm(WAIT_S)  # a connection that died in the middle of the bundle leaves no process behind
    stdin = sys.stdin.buffer  # type: Any
    header = json.loads(stdin.readline(65536).decode("utf-8"))
    data = stdin.read(min(int(header["n"]), MAX_BUNDLE))
    sys.meta_path.insert(0, Bundle(json.loads(zlib.decompress(data).decode("utf-8"))))
    signal.alarm(0)
    os.set_blocking(0, False)
    agent = importlib.import_module(PACKAGE + ".agent")
    os._exit(agent.main(header["nonce"], header.get("options") or {}, stdin.peek()))


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # never a traceback: the deck shows this line
        sys.stderr.write("wavedeck: the agent cannot be started: {!r}\n".format(error))
        os._exit(70)
