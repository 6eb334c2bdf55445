"""Delivery against a real HTTP server that fails in every way, and real commands: once, again, or never in the way."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from wavedeck.engine.alerts.alert import Alert, Severity, make_alert
from wavedeck.engine.alerts.config import AlertConfig, SinkConfig
from wavedeck.remote.alerts import posting, sinks
from wavedeck.remote.alerts.outbox import Outbox, Patience
from wavedeck.remote.alerts.sinks import SinkFailed, make_sinks, try_sinks
from wavedeck.tests.servers.http_hooks import HookServer, hook_server
from wavedeck.tests.servers.sshd import free_port

QUICK = Patience(first_s=0.02, rest_s=0.1, longest_rest_s=0.2)
SECRET = "T0123-SECRET"
Wait = Callable[..., Any]


def alert(number: int = 1, **fields: Any) -> Alert:
    severity = fields.pop("severity", Severity.ERROR)
    return make_alert(f"crashed/RUN/{number}", severity, f"number {number}", t=time.time(), run="RUN", **fields)


def web(url: str, number: int = 1, **fields: Any) -> SinkConfig:
    return SinkConfig(number, "json", f"{url}/hook/{SECRET}?token={SECRET}", **fields)


class Sent:
    """An outbox with what it said and settled."""

    def __init__(self, *configs: SinkConfig, patience: Patience = QUICK, **more: Any) -> None:
        self.said: list[str] = []
        self.settled: list[str] = []
        self.reached: list[tuple[str, str]] = []
        made = make_sinks(AlertConfig(configs), more.pop("write", None))
        self.box = Outbox(
            made, said=self.said.append, settled=lambda one: self.settled.append(one.title), patience=patience,
            reached=lambda one, sink: self.reached.append((one.title, sink)),
        )  # fmt: skip


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timeouts of a tenth."""
    monkeypatch.setattr(posting, "CONNECT_S", 0.5)
    monkeypatch.setattr(posting.post, "__kwdefaults__", {"total_s": 1.0})
    monkeypatch.setattr(sinks, "COMMAND_S", 1.0)


def test_delivered_once(hooks: HookServer) -> None:
    sent = Sent(web(hooks.url))
    assert sent.box.put(alert()) == 1
    assert sent.box.close(5) == 0
    assert hooks.titles() == ["number 1"] and sent.settled == ["number 1"] and sent.said == []
    assert hooks.received[0].path == f"/hook/{SECRET}?token={SECRET}"


def test_each_sink_reports_by_a_name_that_outlives_an_edit_and_is_not_told_twice(hooks: HookServer) -> None:
    with hook_server() as away:
        away.plan.extend([503] * 99)
        here, there = web(hooks.url), web(away.url, 2)
        sent = Sent(here, there)
        sent.box.put(alert(1))
        assert sent.box.close(0.5) == 1 and sent.settled == []
        sent.box.ended(5)
        assert sent.reached == [("number 1", here.id)] and len(sent.box.undelivered) == 1
        away.plan.clear()
        moved = web(hooks.url, 2, rules=("crash*",))  # the same place, elsewhere in the file
        assert moved.id == here.id != there.id and SECRET not in here.id
        again = Sent(web(away.url, 1), moved, moved)
        assert again.box.put(alert(1), done=[here.id, f"{here.id}#2"]) == 1
        assert again.box.close(5) == 0 and again.settled == ["number 1"]
        assert hooks.titles() == ["number 1"] and away.titles()[-1] == "number 1" and again.box.undelivered == ()


@pytest.mark.parametrize("step", [500, 503, (429, {"Retry-After": "0"}), "close", "reset", "hang", "drip"])
def test_what_may_pass_is_tried_again(hooks: HookServer, quick: None, step: Any) -> None:
    hooks.plan.append(step)
    sent = Sent(web(hooks.url))
    sent.box.put(alert())
    assert sent.box.close(10) == 0
    assert hooks.titles() == ["number 1"] * 2 and sent.settled == ["number 1"]
    assert len(sent.said) == 1 and SECRET not in sent.said[0] and hooks.url in sent.said[0]


def test_retry_after_is_honoured_and_capped(hooks: HookServer) -> None:
    hooks.plan.extend([(429, {"Retry-After": "1"}), 200])
    sent = Sent(web(hooks.url))
    sent.box.put(alert())
    assert sent.box.close(10) == 0
    first, second = hooks.received
    assert second.t - first.t >= 1.0
    hooks.plan.append((503, {"Retry-After": "86400"}))
    with pytest.raises(posting.PostFailed) as failed:
        posting.post(hooks.url, b"", ())
    assert failed.value.after_s == posting.LONGEST_WAIT_S and failed.value.again
    hooks.plan.append((503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}))
    with pytest.raises(posting.PostFailed) as failed:
        posting.post(hooks.url, b"", ())
    assert failed.value.after_s == 0.0


def test_a_longer_failure_is_outlasted(hooks: HookServer, wait_for: Wait) -> None:
    hooks.plan.extend([500] * 9)
    sent = Sent(web(hooks.url))
    sent.box.put(alert(1))
    sent.box.put(alert(2))
    wait_for(lambda: sent.settled == ["number 1", "number 2"], what="both")
    assert hooks.titles() == ["number 1"] * 10 + ["number 2"] and len(sent.said) == 1
    sent.box.close(5)


@pytest.mark.parametrize("step", [404, 400, 403])
def test_what_cannot_succeed_is_dropped_and_said(hooks: HookServer, step: int) -> None:
    hooks.plan.append(step)
    sent = Sent(web(hooks.url))
    sent.box.put(alert(1))
    sent.box.put(alert(2))
    assert sent.box.close(5) == 0
    assert hooks.titles() == ["number 1", "number 2"] and sent.settled == ["number 1", "number 2"]
    assert f"answers {step}" in sent.said[0] and SECRET not in sent.said[0]
    (status,) = sent.box.status()
    assert (status.delivered, status.dropped, status.problem) == (1, 1, None)


def test_a_redirect_leads_to_the_same_server_or_nowhere(hooks: HookServer) -> None:
    with hook_server() as other:
        hooks.plan.append((302, {"Location": f"{other.url}/stolen/{SECRET}"}))
        sent = Sent(web(hooks.url))
        sent.box.put(alert(1))
        assert sent.box.close(5) == 0
        assert other.received == [] and "another server" in sent.said[0] and SECRET not in sent.said[0]
    hooks.plan.append((307, {"Location": "/moved"}))
    assert posting.post(f"{hooks.url}/hook", b"x", ()) == 200
    assert [one.path for one in hooks.received][-2:] == ["/hook", "/moved"] and hooks.received[-1].body == b"x"
    hooks.plan.extend([(307, {"Location": "/again"})] * 5)
    with pytest.raises(posting.PostFailed, match="in a circle"):
        posting.post(hooks.url, b"", ())


def test_a_sink_that_hangs_delays_nobody(hooks: HookServer, wait_for: Wait) -> None:
    with hook_server() as dead:
        dead.plan.extend(["hang"] * 9)
        sent = Sent(web(dead.url), web(hooks.url, 2))
        began = time.monotonic()
        for number in range(50):
            sent.box.put(alert(number))
        put_s = time.monotonic() - began
        wait_for(lambda: len(hooks.received) == 50, what="the sink that works")
        assert put_s < 5.0 and sent.settled == []
        began = time.monotonic()
        assert sent.box.close(0.5) == 50
        assert time.monotonic() - began < 5.0
        assert sent.settled == []  # so that the next babysitter tells them


def test_a_queue_is_bounded_and_says_what_it_dropped(wait_for: Wait) -> None:
    with hook_server() as slow:
        slow.plan.extend([500] * 8)
        sent = Sent(web(slow.url), patience=Patience(first_s=0.3, rest_s=0.1, queue=5))
        for number in range(1, 13):
            sent.box.put(alert(number))
        assert len(sent.settled) == 7 and any("oldest alerts are dropped" in one for one in sent.said)
        wait_for(lambda: len(sent.settled) == 12, what="the rest")
        sent.box.close(5)
        delivered = [one.json for one in slow.received if one.json["title"] in [f"number {n}" for n in range(8, 13)]]
        assert delivered[-1]["title"] == "number 12"
        assert any("(7 earlier alerts could not be delivered.)" in one["text"] for one in delivered)


def test_nothing_secret_is_said_when_there_is_no_server() -> None:
    for url in (f"http://127.0.0.1:{free_port()}/{SECRET}", f"https://no-such-host.invalid/{SECRET}"):
        with pytest.raises(posting.PostFailed) as failed:
            posting.post(url, b"", (("Authorization", SECRET),))
        assert SECRET not in str(failed.value) and failed.value.again


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    with hook_server(certificate, key) as secure:
        with pytest.raises(posting.PostFailed, match=r"certificate of https://127.0.0.1:\d+/… is not good") as failed:
            posting.post(f"{secure.url}/{SECRET}", b"", ())
        assert secure.received == [] and not failed.value.again
        trusting = ssl.create_default_context(cafile=str(certificate))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(posting.ssl, "create_default_context", lambda: trusting)
            assert posting.post(f"{secure.url}/{SECRET}", b"x", ()) == 200


def test_headers_reach_the_server(hooks: HookServer) -> None:
    sent = Sent(SinkConfig(1, "ntfy", f"{hooks.url}/topic", headers=(("Authorization", "Bearer x"),)))
    sent.box.put(alert())
    sent.box.close(5)
    (one,) = hooks.received
    assert one.headers["Authorization"] == "Bearer x" and one.headers["Title"] == "number 1" and one.path == "/topic"


def test_each_sink_gets_what_it_asked_for(hooks: HookServer) -> None:
    rang: list[str] = []
    sent = Sent(web(hooks.url, rules=("disk*",)), SinkConfig(2, "bell", min_severity=Severity.ERROR), write=rang.append)
    assert sent.box.put(alert(severity=Severity.WARNING)) == 0 and sent.settled == ["number 1"]
    assert sent.box.put(alert(2)) == 1
    sent.box.close(5)
    assert hooks.received == [] and len(rang) == 1 and "number 2" in rang[0]


def test_a_command_gets_the_alert_as_json_and_as_variables(tmp_path: Path) -> None:
    script = (
        "import json, os, sys; a = json.load(sys.stdin); "
        f"open({str(tmp_path / 'out')!r}, 'w').write(a['title'] + '|' + os.environ['WAVEDECK_ALERT_RULE'])"
    )
    made = make_sinks(AlertConfig((SinkConfig(1, "command", command=(sys.executable, "-c", script)),)))
    assert try_sinks(made, alert()) == [("sink 1 (command)", None)]
    assert (tmp_path / "out").read_text() == "number 1|crashed"


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path, quick: None, wait_for: Wait) -> None:
    mark = str(tmp_path / "mark")
    command = ("sh", "-c", f"sleep 61 & : {mark}; sleep 62", mark)
    (sink,) = make_sinks(AlertConfig((SinkConfig(1, "command", command=command),)))
    with pytest.raises(SinkFailed, match=r"sh did not end within 1 s and was killed\.") as failed:
        sink.send(alert())
    assert not failed.value.again

    def left() -> list[Any]:
        sleeping = [
            p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] in (["sleep", "61"], ["sleep", "62"])
        ]
        return [p for p in sleeping if p.status() != psutil.STATUS_ZOMBIE]

    wait_for(lambda: not left(), what="the end of its children")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [(("no-such-program-here",), "cannot be started"), (("sh", "-c", "exit 3"), "sh ended with 3")],
)
def test_a_command_that_fails_is_said(command: tuple[str, ...], sentence: str) -> None:
    made = make_sinks(AlertConfig((SinkConfig(1, "command", command=command),)))
    ((name, failure),) = try_sinks(made, alert())
    assert failure is not None and sentence in failure and name == "sink 1 (command)"
