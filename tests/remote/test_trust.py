"""A host that was set up anew: one question with both keys, and then the link heals by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavedeck.engine.hosts import LinkState
from wavedeck.engine.rundir import Home
from wavedeck.remote.fleet import Fleet
from wavedeck.remote.host import HostKeyChanged
from wavedeck.remote.link import Link
from wavedeck.remote.ssh.questions import Question
from wavedeck.remote.trust import trust_again
from wavedeck.tests.remote.test_link import QUICK, until
from wavedeck.tests.servers.sshd import CONFIG_VARIABLE, Sshd


class Person:
    """Says yes, or leaves it; notes what was asked."""

    def __init__(self, answer: str | None = "yes") -> None:
        self.answer = answer
        self.asked: list[Question] = []

    async def ask(self, question: Question) -> str | None:
        self.asked.append(question)
        return self.answer


async def changed(home: Path, server: Sshd, monkeypatch: pytest.MonkeyPatch, person: Person) -> tuple[Fleet, Link, str]:
    """A link that was up once and now meets another key."""
    monkeypatch.setenv(CONFIG_VARIABLE, str(server.ssh_config))
    fleet = Fleet(Home(home), person, rhythm=QUICK)
    link = fleet.watch(server.name)
    await until(lambda: link.state is LinkState.CONNECTED, "the first connection")
    before = server.fingerprint
    assert [question.fingerprint for question in person.asked] == [before]
    person.asked.clear()
    server.new_host_key()
    await until(lambda: link.state is LinkState.KEY_CHANGED, "host key changed")
    return fleet, link, before


@pytest.mark.parametrize("refused", [False, True], ids=["let-in", "login-refused"])
async def test_exactly_one_question(home: Path, monkeypatch: pytest.MonkeyPatch, refused: bool) -> None:
    person = Person()
    with Sshd(known=False) as server:
        fleet, link, before = await changed(home, server, monkeypatch, person)
        try:
            if refused:
                server.withdraw_key()
            await trust_again(Home(home), server.name, person)
            known = (home / "known_hosts").read_text()
            assert server.host_key.with_suffix(".pub").read_text().split()[1] in known and len(known.splitlines()) == 1
            server.restore_key()
            link.retry()
            await until(lambda: link.state is LinkState.CONNECTED, "the link")
            assert len(person.asked) == 1
            assert before in person.asked[0].text and server.fingerprint in person.asked[0].text
        finally:
            await fleet.close()


async def test_a_key_that_is_left_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    person = Person()
    with Sshd(known=False) as server:
        fleet, link, _ = await changed(home, server, monkeypatch, person)
        try:
            known, person.answer = (home / "known_hosts").read_text(), None
            with pytest.raises(HostKeyChanged) as caught:
                await trust_again(Home(home), server.name, person)
            assert str(home / "known_hosts") in str(caught.value) and len(person.asked) == 1
            link.retry()
            await until(lambda: link.state is LinkState.KEY_CHANGED, "still changed")
            assert (home / "known_hosts").read_text() == known and len(person.asked) == 1
        finally:
            await fleet.close()


async def test_who_is_gone_after_the_yes_keeps_the_old_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is forgotten for a key that was not seen again: the next look asks with both keys."""
    with Sshd(known=False) as server:
        fleet, _, _ = await changed(home, server, monkeypatch, Person())
        await fleet.close()
        known = (home / "known_hosts").read_text()

        class Leaving(Person):
            async def ask(self, question: Question) -> str | None:
                server.stop()
                return await super().ask(question)

        with pytest.raises(Exception, match="refuses the connection"):
            await trust_again(Home(home), server.name, Leaving())
        assert (home / "known_hosts").read_text() == known
