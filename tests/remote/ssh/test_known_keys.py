"""Which keys are trusted: OpenSSH's files in every form, and our own."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from wavedeck.engine.rundir import Home
from wavedeck.remote.ssh.known_keys import Standing, accept, decide, fingerprint, forget, our_file, pattern
from wavedeck.remote.ssh.target import Target

KEY, OTHER = (asyncssh.generate_private_key("ssh-ed25519").convert_to_public() for _ in range(2))
RSA = asyncssh.generate_private_key("ssh-rsa", key_size=2048).convert_to_public()


def text(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


@pytest.fixture
def place(home: Path, tmp_path: Path) -> Home:
    return Home(home)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target("Gpu1.example", 10648, "root", known_hosts=(tmp_path / "none", tmp_path / "known_hosts"))


def write(target: Target, *lines: str) -> Path:
    path = target.known_hosts[-1]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    "hosts", ["[gpu1.example]:10648", "[GPU1.example]:10648,[10.0.0.1]:10648", "gpu1.example", "*.example"]
)
def test_a_known_key_is_trusted(place: Home, target: Target, hosts: str) -> None:
    write(target, f"{hosts} {text(KEY)}")
    assert decide(place, target, KEY).standing is Standing.TRUSTED


def test_hashed_names_of_openssh(place: Home, target: Target) -> None:
    path = write(target, f"[gpu1.example]:10648 {text(KEY)}", f"elsewhere {text(OTHER)}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
    assert "gpu1" not in path.read_text() and path.read_text().count("|1|") == 2
    assert decide(place, target, KEY).standing is Standing.TRUSTED
    assert decide(place, target, OTHER).standing is Standing.CHANGED


def test_what_changed_is_told_with_its_place(place: Home, target: Target) -> None:
    path = write(
        target, "# a comment", "damaged", f"[gpu1.example]:10648 {text(RSA)}", f"[gpu1.example]:10648 {text(KEY)}"
    )
    verdict = decide(place, target, OTHER)
    assert (verdict.standing, verdict.path, verdict.line) == (Standing.CHANGED, path, 4)
    assert (verdict.known, verdict.shown, verdict.key_type) == (fingerprint(KEY), fingerprint(OTHER), "ED25519")
    assert not verdict.ours and forget(place, target) == 0


def test_fingerprints_are_those_of_openssh(tmp_path: Path) -> None:
    (tmp_path / "k.pub").write_text(text(RSA) + "\n")
    shown = subprocess.run(["ssh-keygen", "-lf", tmp_path / "k.pub"], capture_output=True, text=True, check=True)
    assert fingerprint(RSA) == shown.stdout.split()[1]


def test_a_bare_name_makes_no_other_port_changed(place: Home, target: Target) -> None:
    write(target, f"gpu1.example {text(KEY)}")
    assert decide(place, target, OTHER).standing is Standing.UNKNOWN
    assert decide(place, replace(target, port=22), OTHER).standing is Standing.CHANGED


def test_another_host_is_nobodys_business(place: Home, target: Target) -> None:
    write(target, f"[gpu2.example]:10648 {text(KEY)}", f"!gpu1.example,*.other {text(KEY)}")
    assert decide(place, target, KEY).standing is Standing.UNKNOWN


def test_a_revoked_key_is_never_trusted(place: Home, target: Target) -> None:
    write(target, f"[gpu1.example]:10648 {text(KEY)}", f"@revoked * {text(KEY)}")
    assert decide(place, target, KEY).standing is Standing.REVOKED


def test_an_alias_is_the_name(place: Home, target: Target) -> None:
    aliased = replace(target, host_key_alias="the-one")
    write(target, f"[gpu1.example]:10648 {text(OTHER)}", f"the-one {text(KEY)}")
    assert decide(place, aliased, KEY).standing is Standing.TRUSTED
    assert decide(place, aliased, OTHER).standing is Standing.CHANGED
    accept(place, replace(aliased, known_hosts=()), OTHER)
    assert our_file(place).read_text().startswith("the-one ssh-ed25519 ")


def test_ours_is_added_to_and_forgotten(place: Home, target: Target) -> None:
    alone = replace(target, known_hosts=())
    accept(place, alone, KEY)
    ours = our_file(place)
    ours.write_text(ours.read_text().rstrip("\n"))  # a torn end
    accept(place, replace(alone, host="other"), OTHER)
    assert [line.split()[0] for line in ours.read_text().splitlines()] == ["[gpu1.example]:10648", "[other]:10648"]
    assert ours.stat().st_mode & 0o777 == 0o600
    changed = decide(place, alone, OTHER)
    assert changed.ours and changed.line == 1
    assert forget(place, alone) == 1
    assert decide(place, alone, OTHER).standing is Standing.UNKNOWN
    assert ours.read_text().split()[0] == "[other]:10648" and ours.stat().st_mode & 0o777 == 0o600
    assert subprocess.run(["ssh-keygen", "-F", "[other]:10648", "-f", ours], capture_output=True).returncode == 0


def test_damaged_files_hurt_nobody(place: Home, target: Target) -> None:
    path = write(target)
    path.write_bytes(
        b"\xff\xfe |1|x|y ssh-ed25519 A\n@odd * k k\n|1|%%|%% a b\n[gpu1.example]:10648 ssh-ed25519 broken\n"
    )
    assert decide(place, target, KEY).standing is Standing.UNKNOWN
    assert pattern(replace(target, port=22)) == "gpu1.example"
