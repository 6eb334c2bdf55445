"""What of a project travels: git's own view of it, however odd its names, and nothing that is too much."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from wavedeck.engine.errors import UsageError
from wavedeck.remote.provision import project as module
from wavedeck.remote.provision.project import Project, files, find_project

ODD = (b"a b", b"it's", b'"quoted"', b"two\nlines", b"-rf", b"--delete", b"#hash", b";semi", b"$(touch x)", b"\\#012",
       "naïve-日本.py".encode(), b"bytes-\xff\xfe", b" lead", b"trail ", b"*", b"a:b", b"tab\there", b"!x")  # fmt: skip


def git(cwd: Path, *words: str) -> None:
    """A git that knows nobody."""
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *who, *words], cwd=cwd, check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project without a repository."""
    root = tmp_path / "my project"
    (root / "src" / "deep").mkdir(parents=True)
    (root / "train.py").write_text("print(1)\n")
    (root / "src" / "deep" / "model.py").write_text("x = 1\n")
    (root / ".gitignore").write_text("*.log\n/data/\n!keep.log\n")
    (root / "data").mkdir()
    (root / "data" / "big.bin").write_bytes(b"x" * 1000)
    (root / "a.log").touch()
    (root / "keep.log").touch()
    return root


def names(project: Project) -> set[str]:
    return {os.fsdecode(path) for path in files(project).paths}


def test_in_a_repository_git_says_what_is_code(tree: Path) -> None:
    git(tree, "init", "-q")
    (tree / "gone.py").touch()
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "x")
    (tree / "gone.py").unlink()
    (tree / "new.py").write_text("new")
    (tree / "train.py").write_text("print(22)\n")
    project = find_project(tree / "src" / "deep")
    assert (project.root, project.subdirectory, project.is_repository) == (tree, "src/deep", True)
    assert names(project) == {".gitignore", "keep.log", "new.py", "src/deep/model.py", "train.py"}
    assert files(project).size == sum((tree / name).stat().st_size for name in names(project))
    assert project.key == find_project(tree).key and project.key.startswith("my-project-")


def test_submodules_and_repositories_inside_travel_too(tree: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "lib.py").touch()
    (inner / ".gitignore").write_text("secret\n")
    git(inner, "init", "-q")
    git(inner, "add", "-A")
    git(inner, "commit", "-qm", "x")
    git(tree, "init", "-q")
    git(tree, "submodule", "add", "-q", str(inner), "third/inner")
    (tree / "third" / "inner" / "new.py").touch()
    (tree / "third" / "inner" / "secret").touch()
    shutil.copytree(inner, tree / "cloned")
    found = names(find_project(tree))
    assert {"third/inner/lib.py", "third/inner/new.py", "cloned/lib.py", ".gitmodules"} <= found
    assert "third/inner/secret" not in found and not any(".git/" in name for name in found)


def test_without_a_repository_ignore_files_still_count(tree: Path) -> None:
    for name in ("__pycache__/x.pyc", ".venv/bin/python", "node_modules/x", "wandb/run", "last.ckpt"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    project = find_project(tree)
    assert not project.is_repository and project.subdirectory == ""
    assert names(project) == {".gitignore", "keep.log", "src/deep/model.py", "train.py"}


def test_without_git_rsync_reads_the_ignore_files(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tree / "pipe")
    (tree / "wandb").mkdir()
    (tree / "wandb" / "run").touch()
    (tree / "two\nlines").touch()
    monkeypatch.setattr(module, "_git", lambda *words: None)
    project = find_project(tree)
    assert names(project) == {".gitignore", "src/deep/model.py", "train.py", "two\nlines"}
    assert "no exceptions" in files(project).notices[0]


@pytest.mark.parametrize("kind", ["repository", "directory", "no git"])
def test_odd_names(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = os.fsencode(tmp_path / "odd")
    for name in ODD:
        Path(os.fsdecode(os.path.join(root, b"d" + name))).mkdir(parents=True)
        for place in (name, os.path.join(b"d" + name, name)):
            with open(os.path.join(root, place), "wb") as handle:
                handle.write(name)
    if kind == "repository":
        git(tmp_path / "odd", "init", "-q")
    if kind == "no git":
        monkeypatch.setattr(module, "_git", lambda *words: None)
    listing = files(find_project(tmp_path / "odd"))
    assert set(listing.paths) == {*ODD, *(b"d" + name + b"/" + name for name in ODD)}
    assert listing.paths == tuple(sorted(listing.paths))


def test_links_out_of_the_tree_stay_here(tree: Path) -> None:
    (tree / "inside").symlink_to("src/deep/model.py")
    (tree / "folder").symlink_to("src")
    (tree / "src" / "up").symlink_to("../train.py")
    (tree / "src" / "dots").symlink_to("..bin")
    (tree / "out").symlink_to("../elsewhere")
    (tree / "absolute").symlink_to(tree / "train.py")
    (tree / "keys").symlink_to("/etc/passwd")
    listing = files(find_project(tree))
    found = {os.fsdecode(path) for path in listing.paths}
    assert {"inside", "folder", "src/up", "src/dots"} <= found
    assert not {"out", "absolute", "keys", "folder/deep/model.py"} & found
    assert listing.notices == ("absolute, keys, out lead out of the project and are not pushed.",)


def test_home_and_root_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="/ is not a project"):
        find_project(Path("/"))
    home = tmp_path / "me"
    (home / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    with pytest.raises(UsageError, match="is not a project"):
        find_project(home)
    git(home, "init", "-q")  # dotfiles under version control
    with pytest.raises(UsageError, match="--no-push"):
        find_project(home)
    (home / "other").touch()
    (home / "work" / "train.py").touch()
    project = find_project(home / "work")
    assert project.root == home / "work" and names(project) == {"train.py"}


def test_what_is_too_large_names_where(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tree / "src" / "deep" / "take.wav", "wb") as handle:
        handle.truncate(3 << 30)
    project = find_project(tree)
    with pytest.raises(
        UsageError, match=r"3\.0 GiB, more than 1\.0 GiB: src/deep/ \(3\.0 GiB\).*\.gitignore.*--push-large"
    ):
        files(project)
    assert files(project, unlimited=True).size > 3 << 30
    (tree / "src" / "deep" / "take.wav").unlink()
    monkeypatch.setattr(module, "MOST_FILES", 3)
    with pytest.raises(UsageError, match="4 files, more than 3: "):
        files(project)


def test_a_repository_cannot_run_programs_here(tree: Path) -> None:
    git(tree, "init", "-q")
    git(tree, "config", "core.fsmonitor", f"touch {tree}/ran")
    files(find_project(tree))
    assert not (tree / "ran").exists()
