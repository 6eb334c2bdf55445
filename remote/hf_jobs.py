"""A training as a job of Hugging Face Jobs: what is sent there, the exact command, and what it may cost.

Planning touches nothing and needs neither network nor the `hf` program, so `submit --dry-run` shows what a submission
would do to the letter. Secrets are named, never written: `hf` reads HF_TOKEN and WANDB_API_KEY from its environment.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.clouds import Flavor
from ..engine.errors import UsageError, WavedeckError
from ..engine.estimate import Estimate
from ..engine.files import write_atomic
from ..engine.format import duration, money, plain
from ..engine.planning import Wish
from ..engine.rundir import Home

REPO = "wavedeck-runs"
"""The repository where runs are kept when none is named: of the user who submits, private."""
TIMEOUT = "8h"
SCRIPT = Path(__file__).resolve().parent.parent / "assets" / "hf_job.py"
LOCK = SCRIPT.with_name("train.lock")
SUBMIT_S = 300.0
INSPECT_S = 60.0
_ENDED = {"COMPLETED", "CANCELED", "ERROR", "DELETED"}
"""Stages of a job that runs no more; any other one, and one that is new to us, may still cost money."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_MOST_NAME = 80
_RESERVED = "/data"
"""Hugging Face Jobs mounts the script and its files there."""


@dataclass(frozen=True, slots=True)
class Rented:
    """What is rented, and where what it makes is kept.

    Parameters
    ----------
    timeout: as `hf` takes it: `8h`, `90m`; the job is cut off then and may be submitted again.
    repo: OWNER/NAME of a repository of the Hub, or NAME for one of the user's own.
    volumes: `hf://datasets/OWNER/NAME:/mnt/sousa`: data sets that the job finds at a path.
    namespace: the organisation that pays; None is the user.
    """

    flavor: Flavor
    timeout: str = TIMEOUT
    repo: str = REPO
    volumes: tuple[str, ...] = ()
    namespace: str | None = None
    every_s: float = 300.0

    @property
    def timeout_s(self) -> float:
        """The timeout in seconds.

        Raises
        ------
        UsageError: it is no number of seconds, minutes, hours or days.
        """
        found = re.fullmatch(r"(\d{1,7})([smhd]?)", self.timeout.strip())
        if not found or not int(found[1]):
            raise UsageError(f"--timeout {plain(self.timeout, 30)} is no time: write 90m or 8h.")
        return int(found[1]) * float(_UNITS[found[2] or "s"])


@dataclass(frozen=True, slots=True)
class JobPlan:
    """One job that could be submitted: everything is checked, nothing is written or sent.

    Parameters
    ----------
    name: the run's folder in the repository; the same training has the same name, and goes on there.
    directory: where the files lie that are sent, and where the command is run; all jobs of a home share it.
    argv: the command, `hf` first.
    notices: sentences its user should read before they pay.
    """

    name: str
    wish: Wish
    rented: Rented
    directory: Path
    argv: tuple[str, ...]
    estimate: Estimate
    notices: tuple[str, ...] = ()

    @property
    def record(self) -> Path:
        """Where the job is remembered once it is submitted: `NAME.json`."""
        return self.directory / f"{self.name}.json"

    @property
    def command_line(self) -> str:
        """The exact command as shell lines."""
        return f"cd {shlex.quote(str(self.directory))} && \\\n  {shlex.join(self.argv)}"

    @property
    def most(self) -> float:
        """What it costs at most: the timeout at the estimate's price."""
        price = self.estimate.price_per_hour
        return (self.rented.flavor.price if price is None else price) * self.rented.timeout_s / 3600

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `submit --json`; `job` is the provider's id, null before it is submitted."""
        return {
            "name": self.name,
            "job": None,
            "recipe": self.wish.recipe.name,
            "overrides": list(self.wish.composed.overrides),
            "flavor": self.rented.flavor.name,
            "timeout": self.rented.timeout,
            "repo": self.rented.repo,
            "namespace": self.rented.namespace,
            "argv": list(self.argv),
            "dir": str(self.directory),
            "estimate": self.estimate.to_json(),
            "most": round(self.most, 2),
            "notices": list(self.notices),
        }


def plan_job(
    home: Home, wish: Wish, rented: Rented, estimate: Estimate, environ: Mapping[str, str] = os.environ
) -> JobPlan:
    """Check a training for a machine that has none of this one's files.

    Raises
    ------
    UsageError: a field names a file or folder that would not be there; a mount or a timeout that is not understood.
    """
    _check_volumes(rented.volumes)
    long_s = rented.timeout_s
    for field, value in _paths(wish.composed.resolved):
        _check_there(field, value, rented.volumes)
    name = job_name(wish)
    wants_wandb = wish.composed.resolved.get("logger") == "wandb"
    secrets = ["HF_TOKEN", *(["WANDB_API_KEY"] if wants_wandb and environ.get("WANDB_API_KEY") else [])]
    notices = []
    if wants_wandb and len(secrets) == 1:
        notices.append("WANDB_API_KEY is not set here: the job keeps its W&B records offline, in the repository.")
    if estimate.high_s is not None and estimate.high_s > long_s:
        notices.append(
            f"it may take {duration(estimate.high_s)}, longer than --timeout {rented.timeout}: cut off there, it goes "
            "on when the same command is submitted again."
        )
    argv = (*_hf_words(rented, name, secrets), *_script_words(wish, rented, name))
    return JobPlan(name, wish, rented, home.root / "submits", argv, estimate, tuple(notices))


def job_name(wish: Wish) -> str:
    """`sousa-hts_at-lora-1a2b3c4d`: what it is, and the signature of its whole configuration."""
    resolved = wish.composed.resolved
    parts = [resolved.get(section, {}).get("name") for section in ("model", "strategy")]
    label = wish.name or "-".join([wish.recipe.name, *(part for part in parts if part)])
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-.")[:_MOST_NAME]
    stage = f"-{wish.stage}" if wish.stage else ""
    return f"{clean or wish.recipe.name}{stage}-{wish.composed.signature[:8]}"


def write_files(directory: Path) -> None:
    """Put what is sent into the plans' directory: script, wheel, locked packages.

    Raises
    ------
    WavedeckError: Wavedeck cannot be packed, or the directory cannot be written.
    """
    from .provision.wheel import build_wheel

    build_wheel(directory)
    try:
        write_atomic(directory / SCRIPT.name, SCRIPT.read_bytes(), durable=False)
        write_atomic(directory / LOCK.name, LOCK.read_bytes(), durable=False)
    except OSError as error:
        raise WavedeckError(f"{directory} cannot be written: {error.strerror}.") from error


def find_hf(environ: Mapping[str, str] = os.environ) -> str:
    """The `hf` program: on the PATH, or beside the Python that runs this.

    Raises
    ------
    WavedeckError: there is none.
    """
    beside = Path(sys.executable).parent / "hf"
    found = shutil.which("hf", path=environ.get("PATH")) or (str(beside) if beside.exists() else None)
    if found is None:
        raise WavedeckError(
            "jobs need Hugging Face's `hf` program: `pip install huggingface_hub`, then `hf auth login`."
        )
    return found


def check_login(environ: Mapping[str, str] = os.environ) -> None:
    """Refuse when no token is to be found; whether it is still valid, the provider says.

    Raises
    ------
    WavedeckError: nobody is logged in.
    """
    cache = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".cache")
    hub = Path(environ.get("HF_HOME") or Path(cache) / "huggingface")
    token = Path(environ.get("HF_TOKEN_PATH") or hub / "token")
    if environ.get("HF_TOKEN") or (token.is_file() and token.stat().st_size):
        return
    raise WavedeckError("you are not logged in to Hugging Face: `hf auth login`, or set HF_TOKEN (a write token).")


def submit(plan: JobPlan, environ: Mapping[str, str] = os.environ) -> str:
    """Send it; the job's id, which `remember` should be told at once. `write_files` must have put the files there.

    Raises
    ------
    WavedeckError: no `hf`, not logged in, or the provider refused; its own first line is in the sentence.
    """
    program = find_hf(environ)
    check_login(environ)
    done = _hf([program, *plan.argv[1:]], plan.directory, environ, SUBMIT_S)
    job = _job_id(done.stdout)
    if done.returncode or job is None:
        raise WavedeckError(f"Hugging Face did not take {plan.name}: {_said(done)}")
    return job


def remember(plan: JobPlan, job: str) -> None:
    """Write the job beside the files it was made of, so that the same command does not submit it twice.

    Raises
    ------
    WavedeckError: it cannot be written; the sentence names the job.
    """
    kept = {**plan.to_json(), "job": job}
    try:
        write_atomic(plan.record, json.dumps(kept, indent=2).encode() + b"\n")
    except OSError as error:
        raise WavedeckError(
            f"{plan.record} cannot be written ({error.strerror}): job {job} is submitted and goes on, but the same "
            "command would submit it again."
        ) from error


def running_job(plan: JobPlan, environ: Mapping[str, str] = os.environ) -> str | None:
    """The id of the job that was submitted for this very training before and has not ended; None when there is none.

    Raises
    ------
    WavedeckError: there was one, and the provider does not say what became of it.
    """
    try:
        kept = json.loads(plan.record.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        kept = None
    job = kept.get("job") if isinstance(kept, dict) else None
    if not isinstance(job, str) or not re.fullmatch(r"[A-Za-z0-9][\w-]{0,99}", job):
        raise WavedeckError(
            f"{plan.record} is damaged: look with `hf jobs ps` whether {plan.name} runs, then delete that file."
        )
    words, namespace = ["jobs", "inspect", job, "--json"], kept.get("namespace")
    if isinstance(namespace, str):
        words += ["--namespace", namespace]
    done = _hf([find_hf(environ), *words], plan.directory, environ, INSPECT_S)
    if done.returncode and re.search(r"\b404\b", done.stderr):
        return None
    stage = _job_stage(done.stdout)
    if done.returncode or stage is None:
        raise WavedeckError(
            f"job {job} of {plan.name} may still run, and `hf jobs inspect {job}` does not say ({_said(done)}): try "
            f"again, or delete {plan.record} if it has ended."
        )
    return None if stage in _ENDED else job


def _hf(
    argv: Sequence[str], directory: Path, environ: Mapping[str, str], limit_s: float
) -> subprocess.CompletedProcess[str]:
    """Run `hf`; its exit code is the caller's to judge."""
    try:
        return subprocess.run(
            argv, cwd=directory, env=dict(environ), capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, timeout=limit_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise WavedeckError(
            f"`hf` did not answer in {limit_s:.0f} s: `hf jobs ps` shows whether the job started."
        ) from error
    except OSError as error:
        raise WavedeckError(f"{argv[0]} cannot be started: {error.strerror}.") from error


def _said(done: subprocess.CompletedProcess[str]) -> str:
    said = _telling_line(done.stderr) or _telling_line(done.stdout) or f"exit code {done.returncode}"
    return plain(said, 300)


def price_words(plan: JobPlan) -> str:
    """`at most $8.00 (8h of a10g-small)`."""
    return f"at most {money(plan.most)} ({plan.rented.timeout} of {plan.rented.flavor.name})"


def _hf_words(rented: Rented, name: str, secrets: Sequence[str]) -> Iterator[str]:
    yield from ("hf", "jobs", "uv", "run", "--flavor", rented.flavor.name, "--timeout", rented.timeout)
    yield from ("--name", name)
    for secret in secrets:
        yield from ("--secrets", secret)
    for volume in rented.volumes:
        yield from ("--volume", volume)
    if rented.namespace:
        yield from ("--namespace", rented.namespace)
    yield from ("--detach", "--json")


def _script_words(wish: Wish, rented: Rented, name: str) -> Iterator[str]:
    """The script and its arguments; files are named without their folder, `hf` sends those of its own directory."""
    from .. import __version__

    yield from (SCRIPT.name, "--repo", rented.repo, "--name", name, "--every", f"{rented.every_s:g}")
    yield from (f"wavedeck-{__version__}-py3-none-any.whl", LOCK.name)
    yield f"{wish.recipe.name}.{wish.stage}" if wish.stage else wish.recipe.name
    yield from wish.composed.overrides
    if wish.composed.preset:
        yield f"preset={wish.composed.preset}"


def _paths(resolved: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Fields whose value is a path: absolute, or of something that exists here."""
    for name, value in resolved.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{name}.")
        elif isinstance(value, str) and value and (value.startswith(("/", "~", "./")) or os.sep in value):
            yield f"{prefix}{name}", value


def _check_there(field: str, value: str, volumes: Sequence[str]) -> None:
    mounts = [_mount(volume) for volume in volumes]
    if any(value == mount or value.startswith(f"{mount}/") for mount in mounts):
        return
    raise UsageError(
        f"{field}={plain(value, 120)} is not on the job's machine: mount what lies there with "
        f"--volume hf://datasets/OWNER/NAME:{value if value.startswith('/') else '/mnt/set'}, or set {field} anew "
        "(data.path=null makes the clips there)."
    )


def _mount(volume: str) -> str:
    """`/mnt/set` of `hf://datasets/a/b:/mnt/set:ro`."""
    return volume.removesuffix(":ro").removesuffix(":rw").rpartition(":")[2].rstrip("/")


def _check_volumes(volumes: Sequence[str]) -> None:
    for volume in volumes:
        mount = _mount(volume)
        if not mount.startswith("/"):
            raise UsageError(f"--volume {plain(volume, 120)}: write SOURCE:/PATH, hf://datasets/OWNER/NAME:/mnt/set.")
        if mount == _RESERVED or mount.startswith(f"{_RESERVED}/"):
            raise UsageError(f"--volume {plain(volume, 120)}: {_RESERVED} holds the job's own files, use /mnt/set.")


def _job_id(stdout: str) -> str | None:
    """The id in what `hf jobs uv run --json` prints."""
    said = _printed(stdout, "{")
    job = said.get("id") if isinstance(said, dict) else None
    return job if isinstance(job, str) else None


def _job_stage(stdout: str) -> str | None:
    """The stage of the first job in what `hf jobs inspect --json` prints, `RUNNING`."""
    said = _printed(stdout, "[")
    status = said[0].get("status") if isinstance(said, list) and said and isinstance(said[0], dict) else None
    stage = status.get("stage") if isinstance(status, dict) else None
    return stage.upper() if isinstance(stage, str) else None


def _printed(stdout: str, opening: str) -> Any:
    """The JSON in what `hf --json` prints, from its first bracket on: it may say other things before."""
    start = stdout.find(opening)
    try:
        return json.JSONDecoder().raw_decode(stdout[start:])[0] if start >= 0 else None
    except ValueError:
        return None


def _telling_line(text: str) -> str:
    """The line of an error that says what is wrong: the last one that is not decoration."""
    lines = [line.strip(" │╭╰─╮╯") for line in text.splitlines()]
    return next((line for line in reversed(lines) if line and not line.lower().startswith("hint")), "")
