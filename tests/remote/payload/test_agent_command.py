"""The command line and the bundle that become an agent: in every login shell, on every Python, in odd homes."""

from __future__ import annotations

import ast
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wavedeck.engine.errors import UsageError
from wavedeck.remote import bundle
from wavedeck.remote.bundle import agent_command, agent_input
from wavedeck.tests.fakes.agent_driver import NONCE, AgentDriver

RUN = "20261120-1759-drums-brisk-heron"
Start = Callable[..., AgentDriver]


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """`start(**options of AgentDriver)` starts an agent."""
    started: list[AgentDriver] = []

    def begin(place: Path | str | None = None, **options: Any) -> AgentDriver:
        started.append(AgentDriver(place or home, **options))
        return started[-1]

    yield begin
    for agent in started:
        agent.close()


SHELLS = [["sh", "-c"], ["bash", "-c"], ["dash", "-c"], ["zsh", "-c"], ["fish", "-c"], ["tcsh", "-c"], ["csh", "-c"]]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_every_login_shell_takes_the_command_line(start: Start, shell: list[str], tmp_path: Path) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")
    linked = tmp_path / "my venv+x" / "python3"
    linked.parent.mkdir()
    linked.symlink_to(sys.executable)
    agent = start(shell=shell, python=str(linked))
    assert agent.op("hello")["pid"] == agent.process.pid, "the shell is replaced"


@pytest.mark.parametrize("python", ["py'thon", "a`b`", "$HOME/python", "x!y", "-c", "", "a\nb", "a;b", "a\\b"])
def test_a_python_that_no_quoting_makes_safe_is_refused(python: str) -> None:
    with pytest.raises(UsageError):
        agent_command(python)


def test_the_command_line_holds_no_sign_that_a_shell_reads() -> None:
    assert not set(agent_command("/a b/python3")) & set('!$`"\\\n')


@pytest.mark.parametrize("name", ["a home", 'it\'s "here" $HOME `x` !y', "höme"])
def test_homes_with_signs_in_their_names(start: Start, tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    agent = start(place)
    assert agent.op("hello")["home"] == str(place)
    assert agent.ask("create_run", b"{}", run=RUN, files=[["manifest.json", 2]])["op"] == "done"
    assert (place / "runs" / RUN / "manifest.json").read_bytes() == b"{}"
    agent.send("watch")
    assert agent.op("runs")["runs"][0][0] == RUN


def test_where_home_is(start: Start, tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path / "o'neil x")}
    assert start(options={"home": "~/deck"}, env=env).op("hello")["home"] == f"{env['HOME']}/deck"
    assert start(env=env | {"WAVEDECK_HOME": ""}).op("hello")["home"] == f"{env['HOME']}/.local/share/wavedeck"
    env |= {"WAVEDECK_HOME": "", "XDG_DATA_HOME": "/srv/data"}
    assert start(env=env).op("hello")["home"] == "/srv/data/wavedeck"


def test_noise_of_the_login_shell_and_files_beside_it_do_no_harm(start: Start, tmp_path: Path) -> None:
    for name in ("json.py", "selectors.py", "agent.py"):
        (tmp_path / name).write_text("raise SystemExit('shadowed')")
    agent = start(shell=["sh", "-c", f'cd {tmp_path}; echo "Welcome!"; eval "$0"'], env={"PYTHONPATH": str(tmp_path)})
    agent.op("hello")
    assert agent.noise == b"Welcome!\n"


def test_the_bundle_holds_what_it_imports_and_parses_on_python_3_8() -> None:
    for name in (*bundle.MODULES, "agent_boot"):
        tree = ast.parse((bundle.PAYLOAD / f"{name}.py").read_text(), feature_version=(3, 8))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                wanted = [node.module] if node.module else [alias.name for alias in node.names]
                assert set(wanted) <= set(bundle.MODULES), (name, wanted)
            elif isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= set(sys.stdlib_module_names)
    ast.parse((bundle.PAYLOAD / "agent_boot.py").read_text(), feature_version=(3, 4))
    assert len(agent_input(NONCE)) < 100_000


def _pythons() -> list[str]:
    places = [Path.home() / ".pyenv" / "versions", Path("/opt/python")]
    found = [str(path) for place in places for path in sorted(place.glob("3.*/bin/python3"))]
    return [path for path in found if not path.split("/")[-3].startswith("3.11")]


@pytest.mark.parametrize("python", _pythons(), ids=lambda path: path.split("/")[-3])
def test_other_pythons(start: Start, python: str, home: Path) -> None:
    agent = start(python=python)
    if tuple(map(int, python.split("/")[-3].split(".")[:2])) < (3, 8):
        assert agent.process.wait(10) == bundle.TOO_OLD
        agent._thread.join(5)
        assert "needs Python 3.8 or newer" in agent.stderr()
        return
    key = agent.begin("run", argv=["echo", "hi"])
    assert agent.answer(key)["status"] == 0 and agent.output(key) == b"hi\n"
    agent.ask("create_run", b"{}", run=RUN, files=[["manifest.json", 2]])
    (home / "runs" / RUN / "events.jsonl").write_text("{}\n")
    agent.follow(RUN)
    agent.op("caught_up")
    assert agent.copy(RUN, "events.jsonl") == b"{}\n" and agent.record(RUN, "manifest.json") == b"{}"
    assert agent.op("reading")["memory_total"] > 0


def test_a_wheel_ships_the_script() -> None:
    source = (Path(bundle.__file__).parents[1] / "setup.py").read_text()
    assert '"wavedeck.remote.payload": ["*.sh"]' in source and json.dumps(bundle.posix_command()) == '"exec sh -s"'


def test_input_in_pieces_is_whole_or_nothing(start: Start) -> None:
    agent = start()
    agent.send("input", b"one ", id="a")
    agent.send("input", b"two ", id="a")
    agent.send("run", b"three", id="a", argv=["cat"])
    assert agent.wait(lambda h: h.get("id") == "a" and h["op"] == "piece", "its output") and agent.op("done", id="a")
    piece = b"x" * (1 << 20)
    for _ in range(17):
        agent.send("input", piece, id="b")
    assert "more input" in agent.op("failed", id="b")["text"]
    agent.send("run", b"rest", id="b", argv=["cat"])
    agent.ask("ping")
    assert not [h for h, _ in agent.said if h.get("id") == "b" and h["op"] == "done"], "it was never started"
