"""What the deck does to the copies of a run's checkpoints: it asks, works in a worker, and says how it went.

The work itself is `remote/backup` and `remote/failover`, as for `wavedeck ckpt` and `wavedeck backup`.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from ..engine import format as fmt
from ..engine.backup.copies import HERE, VERIFIED
from ..engine.backup.places import Where
from ..engine.errors import UsageError, WavedeckError
from ..engine.hosts import LOCAL
from ..engine.names import tail
from ..engine.run_view import RunView
from ..engine.rundir import RunDir
from .messages import WorkProgress
from .screens.choose import Choice, Choose, host_choices
from .screens.confirm import Confirm
from .screens.text_question import TextQuestion
from .screens.working import Working

if TYPE_CHECKING:
    from textual.app import App

    from ..engine.backup.copies import CopyLine
    from ..engine.checkpoints import CheckpointLine
    from ..remote.backup.pull import Moving
    from ..remote.host import Host
    from ..remote.provision.there import Progress
    from .deck import Deck

POLICY_HINT = (
    "words FIELD=VALUE; what is not named is the default: keep_last keep_best every_steps second limit_kib_s "
    "patterns failover failover_after_s budget stop_at_budget enabled"
)
Tell = Callable[[str, str, float | None, float | None], None]
"""Takes phase, text, done and total; from any thread."""


class CopyCommands:
    """Verify, pull, restore and delete checkpoints; edit the policy. For the Checkpoints tab."""

    def __init__(self, app: App[None], deck: Deck) -> None:
        self._app = app
        self._deck = deck

    def do(self, verb: str, view: RunView, row: Where | None) -> None:
        """What `CheckpointTable.Wanted` asks for."""
        if verb == "policy":
            self.policy(view)
        elif row is not None:
            {"verify": self.verify, "pull": self.pull, "restore": self.restore, "delete": self.delete}[verb](view, row)

    # --- hash again

    def verify(self, view: RunView, row: Where) -> None:
        """Hash every copy of the run, here and at the second place."""
        self.begin(f"verify/{view.id}", f"verifying the copies of {tail(view.id)}", partial(self._verify, view))

    async def _verify(self, view: RunView, tell: Tell) -> str:
        from ..remote.backup.verify import verify, verify_own

        run, home = RunDir(view.dir), self._deck.home
        report = _moving(tell, "hashing")
        told = await self._deck.fleet.with_fleet(lambda fleet: verify(home, run, report, hosts=fleet.host))
        if not view.is_copy:
            await verify_own(run, told, report)
        sentences = [f"{fmt.plain(copy.name, 80)} ({copy.place}) {copy.text}" for copy in told.bad]
        if told.bad:
            again = " The next backup fetches them again." if view.is_copy else ""
            raise WavedeckError(f"{len(told.right)} right, {len(told.bad)} damaged: {'; '.join(sentences)}.{again}")
        return " ".join([f"{len(told.right)} copies hashed: all are right.", *told.notes])

    # --- fetch

    def pull(self, view: RunView, row: Where) -> None:
        """Bring one checkpoint here, whatever the policy keeps."""
        name = fmt.plain(row["name"], 80)
        self.begin(f"pull/{view.id}", f"fetching {name} from {view.host}", partial(self._pull, view, row))

    async def _pull(self, view: RunView, row: Where, tell: Tell) -> str:
        from ..engine.backup.policy import read_policy
        from ..remote.backup.disk import RealDisk
        from ..remote.backup.pull import pull
        from ..remote.ssh_host import SshHost

        run, home = RunDir(view.dir), self._deck.home
        line = _line_of(view, row)

        async def fetch(host: Host) -> CopyLine:
            assert isinstance(host, SshHost)
            return await pull(host, run, line, read_policy(home, run), _moving(tell, "fetching"), RealDisk())

        async with self._deck.backup_held():
            told = await self._deck.fleet.do(view.host, fetch)
        if told.event != VERIFIED:
            raise WavedeckError(f"{fmt.plain(line.name, 80)}: {told.text}")
        return f"{fmt.plain(line.name, 80)} is here, and verified."

    # --- bring back

    def restore(self, view: RunView, row: Where) -> None:
        """Ask which host, and where there."""
        name = fmt.plain(row["path"] or row["name"], 80)
        choices = host_choices(self._deck.hosts)

        def chosen(host: str | None) -> None:
            if host is not None:
                self._ask_directory(view, row, host)

        detail = "The copy here is sent there and hashed there."
        self._app.push_screen(Choose(f"Restore {name} to which machine?", choices, detail), chosen)

    def _ask_directory(self, view: RunView, row: Where, host: str) -> None:
        own = host == view.host and not (view.state.active or host == LOCAL)
        home = "; empty is where the run itself has it" if own else ""

        def check(text: str) -> str | None:
            if text.startswith("/") or (own and not text):
                return None
            return "an absolute directory, /data/models for example"

        def given(into: str | None) -> None:
            if into is not None:
                title = f"restoring {fmt.plain(row['name'], 80)} on {host}"
                self.begin(f"restore/{view.id}", title, partial(self._restore, view, row, host, into or None))

        question = f"Into which directory of {host}{home}?"
        self._app.push_screen(TextQuestion(question, "Restore", check=check, most=1000), given)

    async def _restore(self, view: RunView, row: Where, host: str, into: str | None, tell: Tell) -> str:
        from ..remote.failover.restore import restore

        home, run = self._deck.home, RunDir(view.dir)

        def report(progress: Progress) -> None:
            tell(progress.phase, progress.text, progress.done, progress.total)

        path = await self._deck.fleet.do(host, lambda there: restore(home, run, row["name"], there, into, report))
        return f"restored to {fmt.plain(path, 300)} on {host}."

    # --- delete

    def delete(self, view: RunView, row: Where) -> None:
        """Ask at which place, then tell what follows, then delete."""
        choices = _places(view, row)

        def chosen(place: str | None) -> None:
            if place is not None:
                self._work(f"looking at {row['name']}", lambda: self._ask_delete(view, row, place))

        if len(choices) == 1:
            chosen(choices[0].value)
        else:
            question = f"Delete {fmt.plain(row['name'], 80)} at which place?"
            self._app.push_screen(Choose(question, choices), chosen)

    async def _ask_delete(self, view: RunView, row: Where, place: str) -> None:
        from ..remote.backup.remove import consequences, remove

        home, run, name = self._deck.home, RunDir(view.dir), row["name"]
        said = await asyncio.to_thread(consequences, home, run, name, place)
        where = next(choice.name for choice in _places(view, row) if choice.value == place)

        async def gone() -> None:
            if place == HERE and view.is_copy:
                await remove(home, run, name, place, _nobody)
            else:
                await self._deck.fleet.with_fleet(lambda fleet: remove(home, run, name, place, fleet.host))
            self._say(f"deleted {fmt.plain(name, 80)} ({where})")

        def answered(yes: bool | None) -> None:
            if yes:
                self._work(f"deleting {name}", gone)

        detail = " ".join(said) or "The other copies stay."
        question = Confirm(f"Delete {fmt.plain(name, 80)} ({where})?", detail, "Delete", danger=True)
        self._app.push_screen(question, answered)

    # --- what is kept

    def policy(self, view: RunView) -> None:
        """Edit the policy as words."""
        self._work(f"reading the policy of {tail(view.id)}", lambda: self._ask_policy(view))

    async def _ask_policy(self, view: RunView) -> None:
        from ..engine.backup.policy import policy_words, read_policy

        run = RunDir(view.dir)
        words = await asyncio.to_thread(lambda: policy_words(read_policy(self._deck.home, run)))

        def given(text: str | None) -> None:
            if text is not None:
                self._work("changing the policy", lambda: self._change(view, text))

        self._app.push_screen(
            TextQuestion(
                f"Backup policy of {tail(view.id)}",
                "Change",
                value=shlex.join(words),
                check=policy_wrong,
                hint=POLICY_HINT,
                most=2000,
            ),
            given,
        )

    async def _change(self, view: RunView, text: str) -> None:
        from ..engine.backup.policy import policy_from_words
        from ..remote.backup.policies import set_policy

        policy = policy_from_words(shlex.split(text))
        run, home = RunDir(view.dir), self._deck.home
        await self._deck.fleet.do(view.host, lambda host: set_policy(home, run, policy, host))
        self._say(f"{tail(view.id)} is backed up by its new policy from now on")

    # --- how

    def begin(
        self, key: str, title: str, work: Callable[[Tell], Awaitable[str]], then: Callable[[], object] = lambda: None
    ) -> None:
        """Do something long in a worker, with a page that tells how far it is; its sentence is the end of it.

        Parameters
        ----------
        then: called when it went well and the page is gone.
        """
        page = Working(key, title)

        def tell(phase: str, text: str, done: float | None, total: float | None) -> None:
            self._app.post_message(WorkProgress(key, phase, text, done, total))

        async def whole() -> None:
            try:
                done = await work(tell)
            finally:
                if page in self._app.screen_stack:
                    page.finish()
            self._say(done)
            then()

        self._app.push_screen(page)
        self._app.run_worker(whole(), name=title, group=key, exclusive=False, exit_on_error=False)

    def _work(self, name: str, do: Callable[[], Awaitable[None]]) -> None:
        self._app.run_worker(do(), name=name, exit_on_error=False)

    def _say(self, text: str) -> None:
        self._app.notify(text, markup=False)
        self._deck.look_again()


def policy_wrong(text: str) -> str | None:
    """Why these words are no policy, or None."""
    from ..engine.backup.policy import policy_from_words

    try:
        policy_from_words(shlex.split(text))
    except (UsageError, ValueError) as error:
        return str(error)
    return None


def _places(view: RunView, row: Where) -> list[Choice]:
    """Where a checkpoint is, in the words of `remote.backup.remove`."""
    choices = []
    for name in row["where"]:
        if name == view.host:
            choices.append(Choice("host", fmt.plain(name, 60), "where its trainer wrote it"))
        elif name == HERE:
            choices.append(Choice(HERE, HERE, "this machine's verified copy"))
        else:
            choices.append(Choice("second", fmt.plain(name, 60), "the second place"))
    return choices


def _line_of(view: RunView, row: Where) -> CheckpointLine:
    line = next((line for line in view.checkpoints if (line.name, line.sha256) == (row["name"], row["sha256"])), None)
    if line is None:
        raise WavedeckError(f"{fmt.plain(row['name'], 80)} is not on the list any more.")
    return line


def _nobody(name: str) -> Host:
    raise WavedeckError(f"{name} is not needed.")


def _moving(tell: Tell, doing: str) -> Callable[[Moving], None]:
    """Bytes of a file as progress."""

    def report(now: Moving) -> None:
        rate = f"  {fmt.size(now.rate)}/s" if now.rate else ""
        size = f"  {fmt.size(now.bytes)} of {fmt.size(now.total)}" if now.total else ""
        tell(doing, f"{doing} {fmt.plain(now.name, 80)}{size}{rate}", now.bytes, now.total or None)

    return report
