"""Provenance: git state of real repositories, versions without imports, command lines without secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wavedeck.engine.provenance import git_state, is_secret_name, package_versions, redact_argv


def _git(cwd: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(cwd), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    path = tmp_path / "code"
    path.mkdir()
    _git(path, "init", "-q")
    return path


def test_git_state_follows_the_tree(repository: Path) -> None:
    assert git_state(repository) is None, "no commit yet"
    (repository / "model.py").write_text("a = 1\n")
    _git(repository, "add", ".")
    _git(repository, "commit", "-qm", "first")
    commit = _git(repository, "rev-parse", "HEAD")
    state = git_state(repository)
    assert state is not None and (state.commit, state.dirty) == (commit, False)
    (repository / "new.py").write_text("")
    state = git_state(repository)
    assert state is not None and (state.commit, state.dirty) == (commit, True)


def test_no_repository_and_no_git(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_state(tmp_path) is None
    assert git_state(tmp_path / "missing") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(repository) is None


def test_git_that_hangs_is_given_up(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "git"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("wavedeck.engine.provenance.GIT_TIMEOUT_S", 0.1)
    assert git_state(repository) is None


def test_versions_come_without_imports() -> None:
    code = (
        "import sys; from wavedeck.engine.provenance import package_versions; v = package_versions();"
        "print(v['python'], v['numpy'], [m for m in ('torch', 'numpy', 'lightning') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    python, numpy, imported = done.stdout.split(maxsplit=2)
    assert python.startswith("3.") and numpy[0].isdigit() and imported.strip() == "[]"
    assert "no-such-package" not in package_versions(["no-such-package"])


@pytest.mark.parametrize(
    "name",
    [
        "WANDB_API_KEY",
        "--api-key",
        "hf_token",
        "HF_TOKEN",
        "db.password",
        "wandbApiKey",
        "AWS_SECRET_ACCESS_KEY",
        "token",
    ],
)
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["tokenizer", "max_tokens", "pad_token", "key", "PWD", "author", "lr", "keypoints", ""]
)
def test_names_that_only_look_secret(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("argv", "redacted"),
    [
        (["t.py", "--api-key=abc", "--lr=1"], ["t.py", "--api-key=***", "--lr=1"]),
        (["--api-key", "abc", "x"], ["--api-key", "***", "x"]),
        (["--password", "-s3cret"], ["--password", "***"]),
        (["--token", "--verbose"], ["--token", "--verbose"]),
        (["env", "WANDB_API_KEY=a b c", "python"], ["env", "WANDB_API_KEY=***", "python"]),
        (["+logger.api_key=zzz", "--wandbApiKey=3"], ["+logger.api_key=***", "--wandbApiKey=***"]),
        (
            ["sh", "-c", "WANDB_API_KEY=abc python t.py --hf-token xyz --max_tokens 5"],
            ["sh", "-c", "WANDB_API_KEY=*** python t.py --hf-token *** --max_tokens 5"],
        ),
        (["https://u:pw@h/x?token=abc&b=1"], ["https://u:***@h/x?token=***&b=1"]),
        (["--url=https://h/x?token=abc"], ["--url=https://h/x?token=***"]),
        (['{"api_key": "x y", "lr": 1}'], ['{"api_key": ***, "lr": 1}']),
        (["-H", "X-Trace: 1, Bearer abcdefghijk"], ["-H", "X-Trace: 1, Bearer ***"]),
        (["login", "hf_" + "a" * 30], ["login", "***"]),
        (["--tokenizer=bert", "--pad_token=<p>", "key=loss"], ["--tokenizer=bert", "--pad_token=<p>", "key=loss"]),
    ],
)
def test_redaction(argv: list[str], redacted: list[str]) -> None:
    before = list(argv)
    assert redact_argv(argv) == redacted
    assert argv == before, "what is executed stays as it was"
