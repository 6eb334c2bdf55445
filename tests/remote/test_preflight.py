"""What a host lacks, found before a launch: judgements of recorded facts, and the real script on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedeck.remote import preflight, preflight_facts, preflight_gpu
from wavedeck.remote.findings import BAD, MISSING, OK, WARN, Finding
from wavedeck.remote.host import Completed, HostLost, ProgramMissing
from wavedeck.remote.local import LocalHost
from wavedeck.remote.payload import preflight_facts as script
from wavedeck.remote.preflight_facts import Facts, FileSystem, Gpus, Memory, Torch

NOW = 1_795_000_000.0
H100 = {
    "index": "0",
    "name": "NVIDIA H100 80GB HBM3",
    "driver_version": "580.95.05",
    "memory.total": "81559",
    "compute_cap": "9.0",
}
GOOD = Facts(
    t=NOW,
    asked=NOW - 0.1,
    answered=NOW + 0.1,
    python="3.11.7",
    user="root",
    root=True,
    home=FileSystem(free=200 << 30, total=400 << 30, path="/workspace/wavedeck", writable=True),
    memory=Memory(total=256 << 30),
    shm=FileSystem(free=64 << 30, total=64 << 30),
    files=(1024, 1048576),
    installer="apt-get",
    programs={"tmux": "tmux 3.4", "rsync": "rsync 3.2.7", "git": "git 2.43", "uv": "uv 0.9"},
    gpus=Gpus([H100, {**H100, "index": "1"}], 0),
    cuda="13.0",
    torch=[],
)
TORCH = Torch(
    "/venv/bin/python",
    python="3.11.7",
    torch="2.14.1+cu130",
    cuda="13.0",
    available=True,
    archs=["sm_80", "sm_90", "sm_120"],
    torchaudio="2.11.0",
)


def judged(python: str | None = None, **changed: Any) -> dict[str, Finding]:
    facts = msgspec.structs.replace(GOOD, **changed)
    return {finding.what: finding for finding in preflight.judge(facts, python=python, now=NOW)}


def with_torch(configured: bool = True, facts: dict[str, Any] | None = None, **changed: Any) -> dict[str, Finding]:
    torch = msgspec.structs.replace(TORCH, **changed)
    return judged("/venv/bin/python" if configured else None, torch=[torch], **(facts or {}))


def test_a_good_host_has_nothing_to_mend() -> None:
    found = with_torch()
    assert {finding.state for finding in found.values()} == {OK} and preflight.fit(found.values())
    assert all(finding.fix is None for finding in found.values())
    assert found["GPUs"].found == "2 × NVIDIA H100 80GB HBM3 (79.6 GiB), driver 580.95.05, CUDA 13.0"


def test_missing_programs_name_one_command_that_brings_them_all() -> None:
    none = {"tmux": None, "rsync": None, "git": None, "uv": None}
    found = judged(programs=none)
    assert (found["tmux"].state, found["rsync"].state, found["git"].state, found["uv"].state) == (
        MISSING, MISSING, WARN, WARN,
    )  # fmt: skip
    assert found["tmux"].fix == found["rsync"].fix == "apt-get install -y tmux rsync"
    assert judged(programs=none, root=False)["tmux"].fix == "sudo apt-get install -y tmux rsync"
    assert judged(programs=none, installer="apk")["tmux"].fix == "apk add tmux rsync"
    assert judged(programs=none, installer=None)["tmux"].fix == "ask the administrator for tmux and rsync"
    assert not preflight.fit(found.values())


@pytest.mark.parametrize(("version", "state"), [(None, MISSING), ("3.6.9", BAD), ("3.8.0", OK), ("3.14.1", OK)])
def test_python(version: str | None, state: str) -> None:
    found = {one.what: one for one in preflight.judge(msgspec.structs.replace(GOOD, python=version), now=NOW)}
    assert found["python3"].state == state and (found["python3"].fix is None) == (state == OK)


def test_a_home_that_cannot_take_a_run() -> None:
    assert judged(home=FileSystem(path="/x", writable=False))["home"].state == BAD
    assert "read-only" in judged(home=FileSystem(path="/x", writable=False, read_only=True))["home"].found
    for free, state in ((1 << 30, BAD), (10 << 30, WARN), (100 << 30, OK)):
        room = FileSystem(free=free, total=400 << 30, path="/x", writable=True)
        assert judged(home=room)["disk"].state == state
    few = FileSystem(free=100 << 30, total=400 << 30, files_free=12, path="/x", writable=True)
    assert judged(home=few)["disk"].state == BAD and "12 more files" in judged(home=few)["disk"].found


def test_memory_and_files_of_a_container() -> None:
    found = judged(memory=Memory(total=256 << 30, limit=4 << 30), shm=FileSystem(total=64 << 20), files=(256, 1024))
    assert found["memory"].state == WARN and "the container's share" in found["memory"].found
    assert found["shared memory"].state == WARN and "--shm-size" in (found["shared memory"].fix or "")
    assert found["open files"].state == WARN
    assert judged(files=(1024, -1))["open files"].state == OK and judged(files=(-1, -1))["open files"].state == OK


@pytest.mark.parametrize(
    ("driver", "cuda", "built", "available", "state"),
    [
        ("580.95.05", "13.0", "13.0", True, OK),
        ("550.54.15", "12.4", "12.8", True, OK),  # within a major version the minor one does not matter
        ("550.54.15", "12.4", "13.0", False, BAD),
        ("550.54.15", None, "13.0", False, BAD),  # by the driver's number alone
        ("470.256.02", "11.4", "12.1", False, BAD),
        ("580.95.05", "13.0", "11.8", True, OK),
    ],
)
def test_driver_and_torch(driver: str, cuda: str | None, built: str, available: bool, state: str) -> None:
    gpus = Gpus([{**H100, "driver_version": driver}], 0)
    found = with_torch(facts={"gpus": gpus, "cuda": cuda}, torch=f"2.14.1+cu{built.replace('.', '')}", cuda=built,
                       available=available)  # fmt: skip
    assert found["torch"].state == state
    if state == BAD:
        assert "too old" in found["torch"].found and "driver" in (found["torch"].fix or "")
    assert "driver" not in found  # a configured interpreter: nothing is prepared there


def test_the_prepared_environment_needs_a_driver_that_serves_it() -> None:
    needed = preflight_gpu.cuda_of_lock()
    assert needed is not None and needed[0] >= 12
    old = judged(gpus=Gpus([{**H100, "driver_version": "470.256.02"}], 0), cuda="11.4")
    assert old["driver"].state == BAD and "11.4" in old["driver"].found and "hosts.toml" in (old["driver"].fix or "")
    assert "driver" not in judged()


def test_a_torch_for_cpus_on_a_machine_with_gpus() -> None:
    found = with_torch(torch="2.13.0+cpu", cuda=None, available=False)
    assert found["torch"].state == BAD and "CPUs only" in found["torch"].found
    assert with_torch(facts={"gpus": Gpus(status=127)}, torch="2.13.0+cpu", cuda=None)["torch"].state == OK


def test_a_gpu_newer_than_torch() -> None:
    new = {**H100, "name": "NVIDIA GeForce RTX 5090", "compute_cap": "12.0"}
    found = with_torch(facts={"gpus": Gpus([new], 0)}, archs=["sm_80", "sm_90"])
    assert found["torch"].state == BAD and "no kernels for NVIDIA GeForce RTX 5090 (sm_120)" in found["torch"].found
    assert with_torch(facts={"gpus": Gpus([new], 0)}, archs=["sm_90", "compute_90"])["torch"].state == OK
    older = {**H100, "compute_cap": "8.9"}
    assert with_torch(facts={"gpus": Gpus([older], 0)}, archs=["sm_86"])["torch"].state == OK


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({"torch": "2.15.0+cu132", "cuda": "13.0"}, BAD),
        ({"torchaudio_error": "OSError: libcudart.so.13: cannot open shared object file"}, BAD),
        ({"torch": "2.11.0+cu130"}, OK),
    ],
)
def test_torchaudio_beside_torch(changed: dict[str, Any], state: str) -> None:
    found = with_torch(**changed)["torchaudio"]
    assert found.state == state and (state == OK or "torch>=2.11,<2.15" in (found.fix or ""))


def test_a_torch_that_cannot_be_imported() -> None:
    for changed in ({"torch_error": "OSError: no libcudnn"}, {"slow": True}, {"crashed": -11, "said": "Segfault"}):
        found = with_torch(**changed)
        assert found["torch"].state == BAD and "cannot be imported" in found["torch"].found
        assert with_torch(configured=False, **changed)["torch"].state == WARN
    assert with_torch(missing=True)["torch"].state == MISSING
    assert with_torch(torch=None)["torch"].state == MISSING
    assert "torch" not in with_torch(configured=False, torch=None)


def test_gpus_that_cannot_be_used() -> None:
    assert judged(gpus=Gpus(status=127))["GPUs"].state == WARN
    lost = judged(gpus=Gpus(status=15, text="Unable to determine the device handle for GPU 0000:02:00.0: GPU is lost"))
    assert lost["GPUs"].state == BAD and "fell off the bus" in lost["GPUs"].found
    row = {**H100, "memory.total": "[GPU is lost]"}
    assert judged(gpus=Gpus([H100, row], 0))["GPUs"].state == BAD


@pytest.mark.parametrize(
    ("t", "state", "words"),
    [(NOW + 0.5, OK, "agrees"), (NOW + 90, WARN, "ahead of"), (NOW - 3600, WARN, "behind"), (None, None, "")],
)
def test_clocks(t: float | None, state: str | None, words: str) -> None:
    found = judged(t=t)
    assert ("clock" in found) == (t is not None)
    if state:
        assert found["clock"].state == state and words in found["clock"].found


def test_a_slow_answer_is_no_wrong_clock() -> None:
    assert msgspec.structs.replace(GOOD, asked=NOW - 60, answered=NOW + 1).skew_s == 0


def test_time_left() -> None:
    def left(ends: float | None = None, **changed: Any) -> Finding:
        facts = msgspec.structs.replace(GOOD, **changed)
        return next(one for one in preflight.judge(facts, ends=ends, now=NOW) if one.what == "time left")

    assert left().state == OK
    assert left(NOW + 86400).found == "24h 00m, by hosts.toml"
    assert left(NOW + 3600).state == WARN and left(NOW - 5).state == BAD
    soonest = left(NOW + 86400, shutdown=NOW + 600)
    assert soonest.state == WARN and "a planned shutdown" in soonest.found
    assert "Slurm" in left(provider={"SLURM_JOB_END_TIME": str(int(NOW) + 7200)}).found
    assert left(provider={"SLURM_JOB_END_TIME": "x" * 80}).state == OK
    rented = left(provider={"VAST_CONTAINERLABEL": "C.12345"})
    assert rented.state == WARN and "Vast.ai" in rented.found and "ends =" in (rented.fix or "")
    assert left(NOW + 90000, provider={"RUNPOD_POD_ID": "abc"}).state == OK


def test_a_login_shell_that_speaks_is_bad_news() -> None:
    assert preflight.shell_finding(b"").state == OK
    loud = preflight.shell_finding(b"\x1b[1mWelcome\x1b[0m to your instance\nnews\n")
    assert loud.state == BAD and "\x1b" not in loud.found and loud.fix


class Canned:
    """A host whose commands have prepared answers; everything else is missing."""

    name = "gpu1"

    def __init__(self, answers: Mapping[str, tuple[int, bytes]], **more: Any) -> None:
        self._answers = answers
        self.asked: list[tuple[str, ...]] = []
        self.__dict__.update(more)

    async def run(self, argv: Sequence[str], **_: Any) -> Completed:
        self.asked.append(tuple(argv))
        for known, (status, out) in self._answers.items():
            if " ".join(argv).startswith(known):
                return Completed(self.name, tuple(argv), status, out, b"")
        raise ProgramMissing(self.name, argv, "No such file or directory")


async def test_without_python_single_commands_tell_what_they_can() -> None:
    host = Canned(
        {
            "tmux -V": (0, b"tmux 3.2a\n"),
            "date +%s": (0, str(int(time.time())).encode()),
            "id -un": (0, b"root\n"),
            "df -Pk /workspace": (0, b"Filesystem 1024-blocks Used Available Capacity Mounted on\n"
                                     b"overlay 104857600 1 94371840 1% /\n"),
            "df -Pk": (1, b""),
            "test -w /workspace": (0, b""),
            "apt-get --version": (0, b"apt 2.7\n"),
            "nvidia-smi": (0, b"0, NVIDIA H100 80GB HBM3, 580.95.05, 81559\n"),
        },
        home="/workspace/wavedeck",
    )  # fmt: skip
    found = {finding.what: finding for finding in await preflight.check(host)}  # type: ignore[arg-type]
    assert found["python3"].state == MISSING and found["python3"].fix == "apt-get install -y python3"
    assert found["tmux"].found == "tmux 3.2a" and found["rsync"].fix == "apt-get install -y rsync"
    assert found["disk"].found == "90.0 GiB free of 100 GiB" and found["home"].state == OK
    assert found["clock"].state == OK and "H100" in found["GPUs"].found


async def test_what_is_configured_is_taken_from_the_hosts_entry() -> None:
    ends = time.time() + 7200
    host = Canned({}, entry=SimpleNamespace(python="/venv/bin/python", ends=ends), latency_ms=812.0, noise=b"hello")
    found = {finding.what: finding for finding in await preflight.check(host)}  # type: ignore[arg-type]
    assert host.asked[0] == ("python3", "-", "", "/venv/bin/python")
    assert found["link"].state == WARN and found["login shell"].state == BAD
    assert "hosts.toml" in found["time left"].found and found["torch"].state == WARN


async def test_a_link_that_breaks_is_no_finding() -> None:
    class Gone(Canned):
        async def run(self, argv: Sequence[str], **_: Any) -> Completed:
            raise HostLost(self.name, argv)

    with pytest.raises(HostLost):
        await preflight.check(Gone({}))  # type: ignore[arg-type]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@settings(max_examples=60)
@given(JSON)
async def test_a_host_may_answer_anything(value: Any) -> None:
    fields = dict.fromkeys(Facts.__struct_fields__, value)
    for answer in (value, fields, {"programs": value}, {"gpus": {"rows": [{"name": value}]}}, {"torch": [value]}):
        out = b"WAVEDECK-PREFLIGHT " + json.dumps(answer).encode() + b"\n"
        for finding in await preflight.check(Canned({"python3": (0, out)})):  # type: ignore[arg-type]
            assert finding.found.isprintable() and (finding.fix or "").isprintable()


async def test_this_machine_is_looked_at_and_left_as_it_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    found = {finding.what: finding for finding in await preflight.check(LocalHost())}
    assert found["link"].found == "this machine" and found["python3"].state == OK and found["clock"].state == OK
    assert found["tmux"].state == (OK if shutil.which("tmux") else MISSING)
    assert found["home"].state == OK and str(home) in found["home"].found
    assert not home.exists()


SMI = """case "$1" in
*compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2 ;;
--query*) echo '0, NVIDIA H100 80GB HBM3, 550.54.15, 81559' ;;
*) echo '| NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: 12.4     |' ;;
esac"""
CRASHES = """echo noise
echo 'WAVEDECK-TORCH {"python": "3.11.7", "torch": "2.11.0"}'
echo 'WAVEDECK-TORCH {"cuda": "12.8"}'
exit 139"""


def fake(place: Path, name: str, text: str) -> str:
    path = place / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_the_script_reads_what_tools_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "nvidia-smi", SMI)
    python = fake(tmp_path, "python", CRASHES)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    facts = msgspec.convert(json.loads(json.dumps(script.gather(str(tmp_path / "a" / "b"), python))), Facts)
    assert facts.gpus is not None and facts.gpus.rows[0]["driver_version"] == "550.54.15" and facts.cuda == "12.4"
    assert facts.torch is not None
    assert (facts.torch[0].torch, facts.torch[0].cuda, facts.torch[0].crashed) == ("2.11.0", "12.8", 139)
    assert facts.home is not None and facts.home.path == str(tmp_path / "a" / "b") and not facts.home.exists


def test_a_child_that_hangs_ends_with_its_children(
    tmp_path: Path, wait_for: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    python = fake(
        tmp_path,
        "python",
        f"""echo 'WAVEDECK-TORCH {{"torch": "2.11.0"}}'
        sleep 1000 & echo $! > {tmp_path}/pid; wait""",
    )
    monkeypatch.setattr(script, "TORCH_S", 1.0)
    torch = script.torch_of(python)
    assert torch["torch"] == "2.11.0" and torch["slow"]
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2],
             what="the grandchild's end")  # fmt: skip


def test_an_interpreter_without_torch_says_so(tmp_path: Path) -> None:
    bare = subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], timeout=60)
    assert bare.returncode == 0
    facts = msgspec.convert(script.torch_of(str(tmp_path / "venv/bin/python")), Torch)
    assert facts.torch is None and facts.torch_error is None and facts.python
    assert script.torch_of(str(tmp_path / "nothing")) == {"path": str(tmp_path / "nothing"), "missing": True}


def test_limits_of_control_groups_are_looked_for_on_the_whole_way(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("12:cpu,memory:/docker/abc\n3:pids:/x\n0::/slice/scope\n")
    files = [path.removeprefix("/g/") for path in script.limit_files("/g", str(own))]
    assert "memory/docker/abc/memory.limit_in_bytes" in files and "slice/memory.max" in files
    assert "memory.max" in files and not any("pids" in path for path in files)


def test_only_names_on_the_list_are_read_of_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_POD_ID", "pod1")
    monkeypatch.setenv("RUNPOD_API_KEY", "secret")
    monkeypatch.setenv("HF_TOKEN", "secret")
    found = script.environment_of_provider()
    assert found["RUNPOD_POD_ID"] == "pod1" and set(found) <= set(script.PROVIDER_NAMES)
    assert "secret" not in str(script.gather("", "/nonexistent"))


async def test_hostile_facts_do_not_become_output(monkeypatch: pytest.MonkeyPatch) -> None:
    out = b'WAVEDECK-PREFLIGHT {"python": "3.11.7", "programs": {"tmux": "\\u001b[31mred"}}\n'
    facts = await preflight_facts.ask(Canned({"python3": (0, out)}), "", None)  # type: ignore[arg-type]
    assert facts.programs == {"tmux": "·[31mred"}
