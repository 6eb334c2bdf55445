"""alerts.toml: what is understood, and which sentence tells of what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavedeck.engine.alerts.alert import Severity, make_alert, wanted
from wavedeck.engine.alerts.config import default_config, load_alert_config
from wavedeck.engine.errors import WavedeckError
from wavedeck.engine.rundir import Home


def load(home: Path, text: str, **environ: str) -> object:
    home.mkdir(parents=True, exist_ok=True)
    (home / "alerts.toml").write_text(text)
    return load_alert_config(Home(home), environ)


def test_a_whole_file(home: Path) -> None:
    config = load(
        home,
        """
        [limits]
        per_minute = 5
        [[sink]]
        kind = "slack"
        url = "env:HOOK"
        rules = ["crashed", "failover*"]
        min_severity = "warning"
        [[sink]]
        kind = "ntfy"
        url = "https://ntfy.example/topic"
        headers = { Authorization = "Bearer env:TOKEN" }
        [[sink]]
        kind = "command"
        command = ["logger", "-t", "wavedeck"]
        """,
        HOOK="https://hooks.example/services/T0/SECRET",
        TOKEN="tk_secret",
    )
    slack, ntfy, command = config.sinks  # type: ignore[attr-defined]
    assert slack.url == "https://hooks.example/services/T0/SECRET" and slack.min_severity is Severity.WARNING
    assert ntfy.headers == (("Authorization", "Bearer tk_secret"),)
    assert command.command == ("logger", "-t", "wavedeck") and config.limits.per_minute == 5  # type: ignore[attr-defined]
    assert "SECRET" not in repr(config) and "tk_secret" not in repr(config)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[sink]]\nkind = 'slak'", r"sink 1 needs a kind: .*Did you mean slack\?"),
        ("[[sink]]\nkind = 'bell'\n[[sink]]\nkind = 'json'", "sink 2 needs a url"),
        ("[[sink]]\nkind = 'json'\nurl = 'ftp://x'", "sink 1 has a url that does not begin with https"),
        ("[[sink]]\nkind = 'json'\nurl = 'https://me:pw@x/y'", "sink 1 has a password in its url"),
        ("[[sink]]\nkind = 'json'\nurl = 'https://x/a b'", "sink 1 has a url with blanks"),
        ("[[sink]]\nkind = 'json'\nurl = 'https://x:99999/y'", "sink 1 has a url that cannot be understood"),
        ("[[sink]]\nkind = 'ntfy'\nurl = 'https://ntfy.sh'", "sink 1 has a url without a topic"),
        ("[[sink]]\nkind = 'json'\nurl = 'env:NOT_THERE'", "sink 1 takes its url from the variable NOT_THERE"),
        ("[[sink]]\nkind = 'bell'\nurl = 'https://x/y'", "sink 1 has a url, which a bell sink does not take"),
        ("[[sink]]\nkind = 'command'\ncommand = 'rm -rf x'", "sink 1 has command that are no list of texts"),
        ("[[sink]]\nkind = 'command'", "sink 1 needs a command, as a list"),
        ("[[sink]]\nkind = 'bell'\nmin_severity = 'bad'", "sink 1 has a min_severity that is none"),
        ("[[sink]]\nkind = 'bell'\nruls = []", r"sink 1 has an unknown field 'ruls'. Did you mean rules"),
        ("[[sink]]\nkind='json'\nurl='https://x/y'\nheaders={Host='z'}", "sink 1 has a header 'Host'"),
        (
            "[[sink]]\nkind='json'\nurl='https://x/y'\nheaders={A=\"b\\nC: d\"}",
            "sink 1 has a header A with line breaks",
        ),
        ("[sink]\nkind = 'bell'", r"sinks are written as \[\[sink\]\]"),
        ("[limits]\nper_minute = 0", "per_minute of .limits. is a whole number"),
        ("[[sink]\n", "is damaged"),
    ],
)
def test_a_mistake_is_a_sentence_that_names_sink_and_field(home: Path, text: str, sentence: str) -> None:
    with pytest.raises(WavedeckError, match=sentence):
        load(home, text)


def test_without_a_file_the_bell_rings_and_the_desktop_shows(home: Path) -> None:
    assert [sink.kind for sink in load_alert_config(Home(home), {}).sinks] == ["bell"]
    found = default_config({"DISPLAY": ":0"}, which=lambda name: f"/usr/bin/{name}", platform="linux")
    assert [sink.kind for sink in found.sinks] == ["bell", "desktop"] and found.is_default
    assert len(default_config({}, which=lambda name: f"/usr/bin/{name}", platform="linux").sinks) == 1
    assert len(default_config({}, which=lambda name: f"/usr/bin/{name}", platform="darwin").sinks) == 2


def test_the_end_of_a_problem_is_wanted_by_whoever_wanted_the_problem() -> None:
    over = make_alert("crashed/x/1", Severity.INFO, "x goes on", t=0.0, recovered=True)
    done = make_alert("finished/x/1", Severity.INFO, "x is finished", t=0.0)
    assert wanted(over, ["crash*"], Severity.ERROR) and not wanted(over, ["disk"], Severity.INFO)
    assert not wanted(done, [], Severity.WARNING) and wanted(done, [], Severity.INFO)
