"""hosts.toml: what its users write survives, what is damaged is said with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavedeck.engine.errors import UsageError, WavedeckError
from wavedeck.engine.rundir import Home
from wavedeck.remote.hosts_file import HostEntry, add_host, host_entry, hosts_path, load_hosts, remove_host, valid_name

TEXT = """\
# my machines
[gpu1]  # the big one
ssh = ["-p", "10648", "root@203.0.113.20"]
home = "/workspace/wavedeck"
python = "/venv/main/bin/python"
price_per_hour = 0.40  # dear
ends = 2026-11-22T10:00:00Z
pass_env = ["MY_TOKEN"]

[lab]
"""


@pytest.fixture
def place(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Home:
    """A home with the file above, and an ssh config with two aliases."""
    home.mkdir()
    (home / "hosts.toml").write_text(TEXT)
    (tmp_path / "ssh_config").write_text("Host work gpu7\n  User me\n")
    monkeypatch.setenv("WAVEDECK_SSH_CONFIG", str(tmp_path / "ssh_config"))
    return Home(home)


def test_everything_is_read(place: Home) -> None:
    hosts = load_hosts(place)
    assert list(hosts) == ["gpu1", "lab"]
    assert hosts["gpu1"] == HostEntry(
        "gpu1",
        ("-p", "10648", "root@203.0.113.20"),
        home="/workspace/wavedeck",
        python="/venv/main/bin/python",
        price_per_hour=0.4,
        ends=1795341600.0,
        pass_env=("MY_TOKEN",),
    )
    assert hosts["lab"].ssh == ("lab",)


def test_no_file_is_no_host(home: Path) -> None:
    assert load_hosts(Home(home)) == {}


def test_a_host_is_found_by_name_or_alias(place: Home) -> None:
    assert host_entry(place, "gpu1").home == "/workspace/wavedeck"
    assert host_entry(place, "work") == HostEntry("work", ("work",))
    with pytest.raises(UsageError, match=r"Did you mean gpu1 or gpu7\?|Did you mean gpu7 or gpu1\?"):
        host_entry(place, "gpu2")


def test_comments_survive_every_change(place: Home) -> None:
    before = load_hosts(place)["gpu1"]
    add_host(place, HostEntry("new.one", ("-p", "7", "root@h"), ends=1795341600.0, price_per_hour=1))
    add_host(place, HostEntry("gpu1", before.ssh, home="/elsewhere"), replace=True)
    text = hosts_path(place).read_text()
    assert "# my machines" in text and "# the big one" in text and "price_per_hour" not in text.split("[lab]")[0]
    hosts = load_hosts(place)
    assert list(hosts) == ["gpu1", "lab", "new.one"]
    assert hosts["new.one"].ends == 1795341600.0 and hosts["gpu1"] == HostEntry("gpu1", before.ssh, home="/elsewhere")
    assert hosts_path(place).stat().st_mode & 0o777 == 0o600
    remove_host(place, "new.one")
    remove_host(place, "lab")
    assert list(load_hosts(place)) == ["gpu1"] and "# my machines" in hosts_path(place).read_text()


def test_the_first_host_makes_the_file(home: Path) -> None:
    add_host(Home(home), HostEntry("a", ("a",)))
    add_host(Home(home), HostEntry("b", ("b",)))
    assert list(load_hosts(Home(home))) == ["a", "b"]
    assert hosts_path(Home(home)).read_text() == '[a]\nssh = ["a"]\n\n[b]\nssh = ["b"]\n'


def test_a_linked_file_stays_a_link(place: Home, tmp_path: Path) -> None:
    path = hosts_path(place)
    real = tmp_path / "dotfiles.toml"
    path.rename(real)
    path.symlink_to(real)
    remove_host(place, "lab")
    assert path.is_symlink() and "[lab]" not in real.read_text()


def test_what_cannot_be_added_or_removed(place: Home) -> None:
    before = hosts_path(place).read_bytes()
    with pytest.raises(UsageError, match="already"):
        add_host(place, HostEntry("gpu1", ("x",)))
    with pytest.raises(UsageError, match="this machine"):
        add_host(place, HostEntry("local", ("x",)))
    with pytest.raises(WavedeckError, match="no variable"):
        add_host(place, HostEntry("x", ("x",), pass_env=("A=B",)))
    with pytest.raises(UsageError, match="Did you mean gpu1"):
        remove_host(place, "gpu2")
    with pytest.raises(UsageError, match="alias of your ssh config"):
        remove_host(place, "work")
    assert hosts_path(place).read_bytes() == before


@pytest.mark.parametrize("name", ["", "-x", ".x", "a b", "a/b", "x" * 49, "ü", "a\n", "local", "../x", "a:b"])
def test_names_that_hosts_cannot_have(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        valid_name(name)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[a]\nssh = ["x"\n[b]\n', "damaged in line"),
        ("[a]\n[a]\n", "damaged"),
        ("a = 1\n", "is no table"),
        ("[a]\nprise = 1\n", "Did you mean price_per_hour|unknown field"),
        ('[a]\nssh = "x y"\n', "list of texts"),
        ("[a]\nssh = []\n", "empty"),
        ('[a]\nhome = "relative"\n', "absolute path"),
        ("[a]\nprice_per_hour = -1\n", "is a number"),
        ("[a]\nprice_per_hour = nan\n", "is a number"),
        ("[a]\nprice_per_hour = true\n", "is a number"),
        ('[a]\nends = "soon"\n', "is a time"),
        ('[a]\npass_env = ["1X"]\n', "no variable"),
        ('["a b"]\n', "cannot be the name"),
        ("[a]\nssh = [1]\n", "list of texts"),
    ],
)
def test_damage_is_a_sentence(place: Home, text: str, sentence: str) -> None:
    hosts_path(place).write_text(text)
    with pytest.raises(WavedeckError, match=sentence) as refused:
        load_hosts(place)
    assert "\n" not in str(refused.value)


def test_bytes_that_are_no_text(place: Home) -> None:
    hosts_path(place).write_bytes(b"\xff\xfe")
    with pytest.raises(WavedeckError, match="UTF-8"):
        load_hosts(place)
