"""What each service is sent: its own shape, within its limits, and nothing in it that could act."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from wavedeck.engine.alerts.alert import Alert, Severity, make_alert
from wavedeck.remote.alerts.shapes import SHAPES, discord_post, json_post, ntfy_post, slack_post
from wavedeck.remote.alerts.sinks import bell_text, desktop_argv

EVIL = "@everyone <!channel> <script> val_loss *x* `y` [a](http://b)"


def alert(title: str = "drums crashed on gpu1: exit code 1", text: str = "step 5", **fields: Any) -> Alert:
    severity = fields.pop("severity", Severity.ERROR)
    return make_alert("crashed/RUN/1", severity, title, text, t=1_800_000_000.0, run="RUN", host="gpu1", **fields)


def test_slack() -> None:
    body = json.loads(slack_post(alert(text=EVIL)).body)
    assert body["text"] == "🔴 drums crashed on gpu1: exit code 1"
    assert {block["type"] for block in body["blocks"]} == {"section", "context"}
    assert all(block["text"]["type"] == "plain_text" for block in body["blocks"][:2])
    assert body["blocks"][1]["text"]["text"] == EVIL  # plain text is never markup
    assert "<!channel>" not in json.loads(slack_post(alert(title=EVIL)).body)["text"]


def test_discord() -> None:
    body = json.loads(discord_post(alert(title=EVIL, text=EVIL)).body)
    assert body["allowed_mentions"] == {"parse": []}
    assert r"val\_loss \*x\* \`y\` \[a\]\(http" in body["content"]
    assert body["embeds"][0]["title"] == "error: crashed" and body["embeds"][0]["color"] == 0xED4245
    assert body["embeds"][0]["timestamp"] == "2027-01-15T08:00:00.000+00:00"


def test_ntfy() -> None:
    post = ntfy_post(alert())
    assert post.body == b"step 5" and dict(post.headers)["Title"] == "drums crashed on gpu1: exit code 1"
    assert dict(post.headers)["Priority"] == "5" and dict(post.headers)["Tags"] == "rotating_light"
    title = dict(ntfy_post(alert(title="Größe\nX-Evil: 1")).headers)["Title"]
    assert base64.b64decode(title.removeprefix("=?UTF-8?B?").removesuffix("?=")).decode() == "Größe·X-Evil: 1"
    over = dict(ntfy_post(alert(severity=Severity.INFO, recovered=True)).headers)
    assert over["Tags"] == "white_check_mark" and over["Priority"] == "3"


def test_generic_json() -> None:
    assert json.loads(json_post(alert()).body) == {
        "wavedeck": 1, "key": "crashed/RUN/1", "rule": "crashed", "severity": "error", "run": "RUN", "host": "gpu1",
        "title": "drums crashed on gpu1: exit code 1", "text": "step 5", "t": 1_800_000_000.0, "recovered": False,
        "time": "2027-01-15T08:00:00.000+00:00",
    }  # fmt: skip


@pytest.mark.parametrize("kind", SHAPES)
def test_no_service_gets_more_than_it_takes(kind: str) -> None:
    huge = Alert("crashed/x/1", "crashed", Severity.ERROR, "😀_" * 5000, 0.0, "\n".join(["😀*é"] * 5000))
    post = SHAPES[kind](huge)
    if kind == "discord":
        body = json.loads(post.body)
        assert len(body["content"].encode("utf-16-le")) // 2 <= 2000
        assert len(body["embeds"][0]["description"].encode("utf-16-le")) // 2 <= 4096
    elif kind == "slack":
        body = json.loads(post.body)
        assert len(body["text"]) <= 4000 and all(len(one["text"]["text"]) <= 3000 for one in body["blocks"][:2])
    elif kind == "ntfy":
        assert len(post.body) <= 4096
        post.body.decode()


def test_the_terminal_gets_a_bell_a_title_and_notifications_and_nothing_else() -> None:
    evil = Alert("a/b", "a", Severity.ERROR, "x\x1b]52;c;AAAA\x07;4;1", 0.0, "y\x1b[2J\nz")
    text = bell_text(evil)
    assert text.startswith("\a\x1b]0;") and text.count("\x1b]") == 3 and text.count("\x1b\\") == 3
    assert "\x1b]52" not in text and "\x1b[" not in text and text.count("\a") == 1
    assert text.count(";") == 1 + 1 + 3  # what a run printed adds no field


def test_the_desktop_gets_words_not_options_or_markup() -> None:
    evil = alert(title="--icon=/etc/passwd", text="<b>x</b>")
    argv = desktop_argv(evil, "linux")
    assert (
        argv[argv.index("--") + 1 :] == ["--icon=/etc/passwd", "&lt;b&gt;x&lt;/b&gt;"] and "--urgency=critical" in argv
    )
    assert desktop_argv(evil, "darwin")[-2:] == ["--icon=/etc/passwd", "<b>x</b>"]
