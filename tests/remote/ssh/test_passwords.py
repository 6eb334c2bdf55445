"""Passwords and questions of a host, against asyncssh's own server: a real sshd without PAM cannot check any."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncssh
import pytest

from wavedeck.engine.rundir import Home
from wavedeck.remote.host import AccessRefused, LinkDown
from wavedeck.remote.ssh import known_keys
from wavedeck.remote.ssh.connection import Pulse
from wavedeck.remote.ssh.keys import Secrets
from wavedeck.remote.ssh.questions import Question, QuestionKind
from wavedeck.remote.ssh.target import Target
from wavedeck.tests.servers.askers import Answers

from .test_connection import connected

KEY = asyncssh.generate_private_key("ssh-ed25519")


class Door(asyncssh.SSHServer):
    """Lets in who knows the password, or with `code` who answers two questions."""

    code: str | None = None
    tried: list[str] = []
    hang_up: bool = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.conn = conn

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return self.code is None

    def validate_password(self, username: str, password: str) -> bool:
        self.tried.append(password)
        return password == "right"

    def kbdint_auth_supported(self) -> bool:
        return self.code is not None

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> object:
        if self.hang_up:
            type(self).hang_up = False
            asyncio.get_running_loop().call_later(0.2, self.conn.abort)
        if self.code == "":
            return ("", "", "", [("Password: ", False)])
        return ("Two\x1b[31m factors", "for you", "", [("Password for root: ", False), ("Code: ", True)])

    def validate_kbdint_response(self, username: str, responses: list[str]) -> bool:
        self.tried.append("|".join(responses))
        return responses == (["right"] if self.code == "" else ["right", self.code])


async def _handle(process: asyncssh.SSHServerProcess[bytes]) -> None:
    process.exit(0)


@pytest.fixture
async def door(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[type[Door], Target]]:
    """The class of a server that runs, and where it is; its key is known."""
    monkeypatch.setattr(Door, "tried", [])
    monkeypatch.setattr(Door, "code", None)
    monkeypatch.setattr(Door, "hang_up", False)
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[KEY], server_factory=Door, process_factory=_handle, encoding=None
    )
    target = Target("127.0.0.1", server.get_port(), "root")
    known_keys.accept(Home(home), target, KEY.convert_to_public())
    async with server:
        yield Door, target


async def test_a_password_is_asked_for_once(door: tuple[type[Door], Target], home: Path) -> None:
    server, target = door
    user, secrets = Answers(password=["wrong", "right"]), Secrets()
    async with connected(home, asker=user, secrets=secrets, target=target) as gpu1:
        assert (await gpu1.run("true", 5)).status == 0
    assert user.kinds == [QuestionKind.PASSWORD] * 2 and all(question.secret for question in user.asked)
    assert "not right" in user.asked[1].text and "right" not in repr(secrets)
    async with connected(home, secrets=secrets, target=target):
        pass
    assert server.tried == ["wrong", "right", "right"]


async def test_three_wrong_ones_are_enough(door: tuple[type[Door], Target], home: Path) -> None:
    user = Answers(password="wrong")
    with pytest.raises(AccessRefused, match="no password"):
        async with connected(home, asker=user, target=door[1]):
            pass
    assert len(user.asked) == len(door[0].tried) == 3


async def test_a_remembered_one_that_became_wrong_is_asked_for_again(
    door: tuple[type[Door], Target], home: Path
) -> None:
    secrets, user = Secrets(), Answers(password="right")
    secrets.passwords[door[1].label] = "old"
    async with connected(home, asker=user, secrets=secrets, target=door[1]):
        pass
    assert door[0].tried == ["old", "right"] and secrets.passwords[door[1].label] == "right"


async def test_nobody_there_gives_no_password(door: tuple[type[Door], Target], home: Path) -> None:
    with pytest.raises(AccessRefused):
        async with connected(home, target=door[1]):
            pass
    assert door[0].tried == []


async def test_questions_of_the_host(door: tuple[type[Door], Target], home: Path) -> None:
    door[0].code = "123"
    user, secrets = Answers(answer=["right", "000", "right", "123"]), Secrets()
    async with connected(home, asker=user, secrets=secrets, target=door[1]):
        pass
    assert door[0].tried == ["right|000", "right|123"]
    assert [question.echo for question in user.asked] == [False, True] * 2
    assert "Two·[31m factors for you" in user.asked[0].text and "Code:" in user.asked[1].title
    assert not secrets.passwords, "one-time answers are not kept"


async def test_a_password_asked_for_as_a_question(door: tuple[type[Door], Target], home: Path) -> None:
    door[0].code = ""
    secrets = Secrets()
    async with connected(home, asker=Answers(password="right"), secrets=secrets, target=door[1]):
        pass
    async with connected(home, secrets=secrets, target=door[1]):
        pass


async def test_the_clock_stands_while_the_user_thinks(door: tuple[type[Door], Target], home: Path) -> None:
    class Slow(Answers):
        async def ask(self, question: Question) -> str | None:
            await asyncio.sleep(0.8)  # longer than a login may take
            return await super().ask(question)

    async with connected(home, asker=Slow(password="right"), target=door[1], pulse=Pulse(login_s=0.5)):
        pass


async def test_a_host_that_lost_patience_is_asked_again(door: tuple[type[Door], Target], home: Path) -> None:
    door[0].code, door[0].hang_up = "123", True

    class Slow(Answers):
        async def ask(self, question: Question) -> str | None:
            await asyncio.sleep(0.15)
            return "123" if "Code" in question.title else "right"

    async with connected(home, asker=Slow(), target=door[1]):
        pass
    assert door[0].tried[-1] == "right|123"


async def test_a_key_is_checked_before_any_password(
    door: tuple[type[Door], Target], home: Path, wait_for: Callable[..., object]
) -> None:
    (home / "known_hosts").unlink()
    user = Answers(password="right")
    with pytest.raises(LinkDown):
        async with connected(home, asker=user, target=door[1]):
            pass
    assert user.kinds == [QuestionKind.HOST_KEY] and door[0].tried == []
