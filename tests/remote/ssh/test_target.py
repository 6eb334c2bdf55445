"""What a provider shows becomes words, and words become a target as OpenSSH itself understands them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavedeck.engine.errors import UsageError, WavedeckError
from wavedeck.remote.ssh.target import MAX_HOPS, config_aliases, parse_words, resolve
from wavedeck.remote.ssh.words import sort_words

CONFIG = """\
Include {here}/more
Host gpu1 gpu-1.example
  HostName 203.0.113.20
  Port 10648
  User root
  ProxyJump dev@edge:2200,inner
  IdentityFile ~/.ssh/rented
  IdentitiesOnly yes
  UserKnownHostsFile {here}/one {here}/two
Host edge
  HostName 203.0.113.10
  ProxyCommand nc -X 5 %h %p
Host inner *.wild !not
  HostKeyAlias the-inner
Host loop-a
  ProxyJump loop-b
Host loop-b
  ProxyJump loop-a
Match host=matched
  User from-match
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with everything in it; it is also what WAVEDECK_SSH_CONFIG names."""
    path = tmp_path / "config"
    path.write_text(CONFIG.format(here=tmp_path))
    (tmp_path / "more").write_text('Host = "included one"\n  User from-include\nhost included\n  Port 7\n')
    monkeypatch.setenv("WAVEDECK_SSH_CONFIG", str(path))
    return path


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ("ssh -p 10648 root@203.0.113.20 -L 8080:localhost:8080", "-p 10648 root@203.0.113.20"),
        ("ssh root@203.0.113.20 -p 22022 -i /k/id_ed25519", "-p 22022 -i /k/id_ed25519 root@203.0.113.20"),
        ("/usr/bin/ssh -Nfp22 -D1080 -oUser=x gpu1", "-p 22 -o User=x gpu1"),
        ("root@203.0.113.20:10648", "-p 10648 root@203.0.113.20"),
        ("ssh://root@203.0.113.20:10648/", "-p 10648 root@203.0.113.20"),
        ("root@[2001:db8::1]:222", "-p 222 root@2001:db8::1"),
        ("-J a@b:1,c -A -- host", "-J a@b:1,c host"),
        ("  gpu1 ", "gpu1"),
    ],
)
def test_what_providers_show(shown: str, words: str) -> None:
    assert parse_words(shown) == tuple(shlex.split(words))
    assert parse_words(shlex.join(parse_words(shown))) == parse_words(shown)


@pytest.mark.parametrize(
    ("shown", "sentence"),
    [
        ("", "No host is named"),
        ("ssh -p 22", "No host is named"),
        ("ssh ''", "No host is named"),
        ("ssh root@", "names no host"),
        ("ssh @host", "names no host"),
        ("ssh host nvidia-smi -L", "`nvidia-smi -L` after the host"),
        ("ssh host -- rm -rf /", "after the host"),
        ("ssh -p 99999 host", "from 1 to 65535"),
        ("ssh -p", "needs a value"),
        ("ssh -W a:1 host", "no meaning here"),
        ("ssh -- -oProxyCommand=x", "names no host"),
        ("ssh 'a;touch x'", "cannot be the name"),
        ("ssh 'unclosed", "no ssh command line"),
        ("ssh host\x07", "control characters"),
    ],
)
def test_what_is_refused(shown: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_words(shown)
    assert sentence in str(refused.value)


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(["ssh", "-p", "22", "-L", "root@h", "--", "-", "-i", "@", ":", "[", "'"])).map(" ".join)
)
def test_no_text_breaks_it(text: str) -> None:
    try:
        words = parse_words(text)
    except UsageError as refused:
        assert str(refused).isprintable()
    else:
        assert words[-1] and not words[-1].startswith("-")
        assert sort_words(words) == (words[:-1], words[-1])


def test_the_users_configuration_is_read_by_openssh(config: Path, tmp_path: Path) -> None:
    gpu1 = resolve(["gpu1"])
    assert (gpu1.host, gpu1.port, gpu1.user) == ("203.0.113.20", 10648, "root")
    assert gpu1.identity_files == (Path("~/.ssh/rented").expanduser(),) and gpu1.identities_only
    assert gpu1.known_hosts[:2] == (tmp_path / "one", tmp_path / "two")
    assert [hop.place.split("@")[-1] for hop in gpu1.jump] == ["203.0.113.10:2200", "inner"]
    assert gpu1.jump[0].user == "dev" and gpu1.jump[0].proxy_command == "nc -X 5 203.0.113.10 2200"
    assert gpu1.jump[1].host_key_alias == "the-inner" and gpu1.jump[1].proxy_command is None
    assert gpu1.label.startswith("root@203.0.113.20:10648 via ") and gpu1.label.endswith("via dev@203.0.113.10:2200")
    assert resolve(["included"]).port == 7 and resolve(["matched"]).user == "from-match"
    assert resolve(["-p", "5", "-l", "me", "gpu1"]).place == "me@203.0.113.20:5"


def test_an_argument_goes_before_the_environment(config: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("Host gpu1\n  HostName other\n")
    assert resolve(["gpu1"], other).host == "other"
    assert resolve(["-F", str(other), "gpu1"]).host == "other"
    other.write_text("Host gpu1\n  ProxyJump edge\nHost edge\n  HostName of-other\n")
    assert resolve(["-F", str(other), "gpu1"]).jump[0].host == "of-other"


def test_jump_hosts_that_lead_in_a_circle(config: Path) -> None:
    with pytest.raises(UsageError, match="circle"):
        resolve(["loop-a"])


@pytest.mark.parametrize("nested", [False, True])
def test_more_jump_hosts_than_are_followed(config: Path, tmp_path: Path, nested: bool) -> None:
    def write(hops: int) -> None:
        names = [f"h{number}" for number in range(hops)]
        if nested:
            lines = [f"Host {a}\n  ProxyJump {b}\n" for a, b in zip(["far", *names], names, strict=False)]
        else:
            lines = [f"Host far\n  ProxyJump {','.join(names)}\n"]
        config.write_text("".join(lines))

    write(MAX_HOPS)
    assert len(resolve(["far"]).jump) == MAX_HOPS
    write(MAX_HOPS + 1)
    with pytest.raises(UsageError, match=f"at most {MAX_HOPS} are followed"):
        resolve(["far"])


def test_what_ssh_does_not_understand_is_a_sentence(config: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ssh does not understand"):
        resolve(["-o", "NoSuchOption=1", "gpu1"])
    with pytest.raises(UsageError, match="ssh does not understand"):
        resolve(["gpu1"], tmp_path / "missing")


def test_without_openssh_it_is_a_sentence(config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WavedeckError, match="no ssh program"):
        resolve(["gpu1"])


def test_literal_names_are_completed(config: Path) -> None:
    assert config_aliases() == [
        "included one",
        "included",
        "gpu1",
        "gpu-1.example",
        "edge",
        "inner",
        "loop-a",
        "loop-b",
    ]
    config.write_text(f"Include {config}\nHost x 'unclosed\nHost y # comment\n\x00\xff")
    assert config_aliases() == ["y"]
    config.unlink()
    assert config_aliases() == []
