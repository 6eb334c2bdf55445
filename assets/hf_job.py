# /// script
# requires-python = ">=3.11"
# dependencies = ["huggingface-hub>=1.0,<3"]
# ///
"""A training as a job of Hugging Face Jobs: install, go on or begin, keep what it makes in a repository.

`wavedeck submit` sends this file, Wavedeck's wheel and the locked packages; nothing of Wavedeck is imported here.
The run directory is brought to the repository every few minutes and at the end, so a job that is cut off loses
minutes: the same command again finds the run there and goes on from its newest checkpoint.

Tokens come in the environment (HF_TOKEN, WANDB_API_KEY), never as arguments. A repository that is written as an
absolute path is a directory (a mounted bucket, a disk), which needs no token and no network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

PYTHON = "3.12"
POLL_S = 0.5
STOP_S = 90.0
"""How long the training may take to save its state once the job is told to end."""
FINAL_TRIES = 4
LEFT_OUT = (".*", "*/.*", "*.tmp", "stop.json", "wandb/cache/*", "wandb/config/*", "wandb/tmp/*")
"""What is not brought to the repository: files that are being written, and what belongs to one attempt only."""
EXIT_USAGE = 2


class Trouble(Exception):
    """A failure with a sentence for whoever reads the job's log."""


class Store(Protocol):
    """Where the run directory is kept."""

    def pull(self, into: Path) -> bool:
        """Bring what is kept; False when there is nothing yet.

        Raises
        ------
        Trouble: whether there is anything cannot be found out, so beginning anew might write over it.
        """
        ...

    def push(self, run: Path) -> None:
        """Keep the run directory as it is now."""
        ...


class FolderStore:
    """A directory, `root/name`."""

    def __init__(self, root: Path, name: str) -> None:
        self.kept = root / name

    def pull(self, into: Path) -> bool:
        """Copy what is kept."""
        if not (self.kept / "manifest.json").is_file():
            return False
        try:
            shutil.copytree(self.kept, into)
        except (OSError, shutil.Error) as error:
            raise Trouble(f"the run in {self.kept} cannot be read: {first_line(error)}") from error
        return True

    def push(self, run: Path) -> None:
        """Copy what changed; checkpoints that the training dropped are dropped here."""
        wanted = kept_files(run)
        for name in wanted:
            source, target = run / name, self.kept / name
            if target.is_file() and same_file(source, target):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.tmp")
            shutil.copy2(source, partial)
            os.replace(partial, target)
        for old in (self.kept / "checkpoints").glob("*"):
            if f"checkpoints/{old.name}" not in wanted:
                old.unlink()


class HubStore:
    """A private repository of the Hub; the run lies in a folder of the job's name."""

    def __init__(self, repo: str, name: str) -> None:
        from huggingface_hub import HfApi

        self.api, self.name = HfApi(), name
        try:
            self.repo = str(self.api.create_repo(repo, private=True, exist_ok=True, repo_type="model").repo_id)
        except Exception as error:
            text = f"the repository {repo} cannot be used ({first_line(error)}): is HF_TOKEN a write token?"
            raise Trouble(text) from error
        print(f"kept in {self.repo}, folder {name}", flush=True)

    def pull(self, into: Path) -> bool:
        """Download the run's folder."""
        from huggingface_hub import snapshot_download

        place = into.parent / f".{into.name}.download"
        pattern = f"{self.name}/*"
        try:
            snapshot_download(self.repo, repo_type="model", allow_patterns=[pattern], local_dir=str(place))
            if not (place / self.name / "manifest.json").is_file():
                return False
            os.replace(place / self.name, into)
        except Exception as error:
            text = f"what {self.repo} keeps of this run cannot be fetched ({first_line(error)}): submit it again later."
            raise Trouble(text) from error
        return True

    def push(self, run: Path) -> None:
        """One commit with what changed."""
        self.api.upload_folder(
            repo_id=self.repo, repo_type="model", folder_path=str(run), path_in_repo=self.name,
            ignore_patterns=list(LEFT_OUT), delete_patterns=["checkpoints/*"],
            commit_message=f"{self.name}: {run.name}",
        )  # fmt: skip


def open_store(repo: str, name: str) -> Store:
    """The store that `--repo` means."""
    return FolderStore(Path(repo), name) if repo.startswith("/") else HubStore(repo, name)


def kept_files(run: Path) -> dict[str, tuple[int, int]]:
    """Name -> (bytes, time of change) of the files that are brought to the repository."""
    from fnmatch import fnmatch

    found = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_file() and not path.is_symlink() and not any(fnmatch(name, pattern) for pattern in LEFT_OUT):
            with contextlib.suppress(FileNotFoundError):  # a checkpoint that is dropped meanwhile
                status = path.stat()
                found[name] = (status.st_size, status.st_mtime_ns)
    return found


def same_file(one: Path, other: Path) -> bool:
    """Whether a copy is of this very version."""
    first, second = one.stat(), other.stat()
    return first.st_size == second.st_size and first.st_mtime_ns == second.st_mtime_ns


class Job:
    """One job: its options, and where things lie on its machine."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work = Path(options.work).absolute()
        self.home = self.work / "home"
        self.told_to_end = False
        self.pushed: dict[str, tuple[int, int]] = {}

    @property
    def python(self) -> Path:
        """The interpreter that trains."""
        return Path(self.options.python) if self.options.python else self.work / "env" / "bin" / "python"

    def wavedeck(self, *words: str) -> list[str]:
        """A Wavedeck command in the training's environment."""
        return [str(self.python), "-P", "-m", "wavedeck", *words]

    def environment(self) -> dict[str, str]:
        """What the training's processes see."""
        return {**os.environ, "WAVEDECK_HOME": str(self.home), "PYTHONSAFEPATH": "1"}

    def check(self) -> None:
        """Look at everything that needs no network."""
        wheel, lock = Path(self.options.wheel), Path(self.options.lock)
        try:
            with zipfile.ZipFile(wheel) as archive:
                names = archive.namelist()
        except (OSError, zipfile.BadZipFile) as error:
            raise Trouble(f"{wheel} is no wheel: {error}.") from error
        if not any(name.endswith("wavedeck/__main__.py") for name in names):
            raise Trouble(f"{wheel} holds no Wavedeck.")
        if not lock.is_file():
            raise Trouble(f"there is no list of packages {lock}.")
        odd = [word for word in self.options.overrides if "=" not in word]
        if odd:
            raise Trouble(f"{odd[0]} is no override: write field=value.")

    def install(self) -> None:
        """Make the environment: the locked packages, then this very Wavedeck."""
        if self.options.python:
            return
        uv = shutil.which("uv")
        if uv is None:
            raise Trouble("there is no uv on this machine: use an image that has it.")
        installer = [uv, "pip", "install", "--quiet", "--python", str(self.python)]
        for argv in (
            [uv, "venv", "--quiet", "--python", PYTHON, str(self.work / "env")],
            [*installer, "-r", self.options.lock],
            [*installer, "--no-deps", self.options.wheel],
        ):
            if subprocess.run(argv, check=False).returncode:
                raise Trouble(f"`{' '.join(argv[:4])} …` failed: the lines above say why.")

    def restore(self, store: Store) -> Path | None:
        """The run directory that the repository holds, in its place; None when there is none."""
        runs = self.home / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        arriving = self.home / "arriving"
        shutil.rmtree(arriving, ignore_errors=True)
        if not store.pull(arriving):
            return None
        name = read_json(arriving / "manifest.json").get("id")
        if not isinstance(name, str) or not name.strip(".") or Path(name).name != name:
            print("what is kept has no whole manifest.json: it counts as nothing, the training begins anew", flush=True)
            return None
        run = runs / name
        shutil.rmtree(run, ignore_errors=True)
        os.replace(arriving, run)
        return run

    def command(self, run: Path | None) -> list[str] | None:
        """What to start: the next attempt where there is a checkpoint, otherwise a new run; None when all is done."""
        if run is not None:
            if has_finished(run):
                return None
            if has_checkpoint(run):
                print(f"going on with {run.name}", flush=True)
                return self.wavedeck("resume", run.name, "--attach")
            print(f"{run.name} has no checkpoint: it begins again", flush=True)
            shutil.rmtree(run)
        words = ("--name", self.options.name, "--tag", "hf-jobs", "--attach")
        return self.wavedeck("run", self.options.recipe, *self.options.overrides, *words)

    def run_directory(self) -> Path | None:
        """The one run of this home, once it is there."""
        found = [path.parent for path in (self.home / "runs").glob("*/manifest.json")]
        return max(found, key=lambda path: path.stat().st_mtime) if found else None

    def train(self, command: list[str], store: Store) -> int:
        """Start it and keep what it makes, until it ends or the job is told to end; returns its exit code."""
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, self._end)
        try:
            process = subprocess.Popen(
                command, env=self.environment(), stdin=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            raise Trouble(f"{command[0]} cannot be started: {error.strerror}.") from error
        next_push, deadline = time.monotonic() + self.options.every, None
        while process.poll() is None:
            now = time.monotonic()
            if self.told_to_end and deadline is None:
                deadline = now + STOP_S
                self._stop()
            if deadline is not None and now > deadline:
                process.kill()
                break
            if now >= next_push:
                self.keep(store)
                next_push = time.monotonic() + self.options.every
            time.sleep(POLL_S)
        for waited_s in (0, *(2**attempt for attempt in range(FINAL_TRIES))):
            time.sleep(waited_s)
            if self.keep(store):
                return process.wait()
        raise Trouble("the last state could not be kept: what the repository holds is older.")

    def keep(self, store: Store) -> bool:
        """Bring the run to the repository if anything changed; a failure is said, and tried again later."""
        try:
            run = self.run_directory()
            if run is None:
                return True
            now = kept_files(run)
            if now == self.pushed:
                return True
            store.push(run)
        except Exception as error:
            print(f"not kept this time: {first_line(error)}", file=sys.stderr, flush=True)
            return False
        self.pushed = now
        return True

    def _end(self, signum: int, frame: FrameType | None) -> None:
        self.told_to_end = True

    def _stop(self) -> None:
        """Ask the training to save and end; one that does not answer is killed by `train`, and still kept."""
        run = self.run_directory()
        print("told to end: the training saves its state", flush=True)
        if run is None:
            return
        argv = self.wavedeck("stop", run.name)
        try:
            subprocess.run(argv, env=self.environment(), check=False, timeout=STOP_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"the training did not take it: {first_line(error)}", file=sys.stderr, flush=True)


def has_finished(run: Path) -> bool:
    """Whether its newest attempt ended by itself and well."""
    exit_ = read_json(run / "exit.json")
    attempts = [path.stem for path in (run / "attempts").glob("*.json")]
    newest = max((int(stem) for stem in attempts if stem.isdecimal()), default=0)
    well = exit_.get("exit_code") == 0 and not exit_.get("stop_requested") and not exit_.get("signal")
    return well and exit_.get("attempt") == newest


def has_checkpoint(run: Path) -> bool:
    """Whether some checkpoint that the manifest names is there."""
    try:
        lines = (run / "checkpoints" / "manifest.jsonl").read_text().splitlines()
    except (OSError, ValueError):
        return False
    names = [as_record(line).get("name") for line in lines]
    return any(isinstance(name, str) and name and (run / "checkpoints" / name).is_file() for name in names)


def read_json(path: Path) -> dict[str, Any]:
    """A record; empty when there is none."""
    try:
        return as_record(path.read_text())
    except (OSError, ValueError):
        return {}


def as_record(text: str) -> dict[str, Any]:
    """A JSON object; empty for what is torn or something else."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def first_line(error: BaseException) -> str:
    """An error in one line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def parse(argv: list[str]) -> argparse.Namespace:
    """The job's own command line."""
    parser = argparse.ArgumentParser(prog="hf_job.py", description="One Wavedeck training as a Hugging Face job.")
    parser.add_argument("--repo", required=True, help="OWNER/NAME of the repository, or an absolute path")
    parser.add_argument("--name", required=True, help="the run's folder there; the same name goes on")
    parser.add_argument("--every", type=float, default=300.0, help="seconds between two times of keeping it")
    parser.add_argument("--work", default="/tmp/wavedeck", help="where everything lies on this machine")
    parser.add_argument("--python", default=None, help="an interpreter that has Wavedeck, instead of installing it")
    parser.add_argument("--check", action="store_true", help="look at everything, start nothing, need no network")
    parser.add_argument("wheel")
    parser.add_argument("lock")
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run the job; every failure is a sentence."""
    job = Job(parse(argv))
    try:
        job.check()
        if job.options.check:
            print(json.dumps({"command": job.command(None), "home": str(job.home), "repo": job.options.repo}, indent=2))
            return 0
        store = open_store(job.options.repo, job.options.name)
        job.install()
        command = job.command(job.restore(store))
        if command is None:
            print("this training has finished already: nothing to do", flush=True)
            return 0
        return job.train(command, store)
    except Trouble as trouble:
        print(f"job: {trouble}", file=sys.stderr, flush=True)
        return EXIT_USAGE if job.options.check else 1
    except OSError as error:
        print(f"job: this machine's disk or programs fail: {first_line(error)}", file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
