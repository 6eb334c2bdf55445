"""What the deck sees of a run's evaluation: the watcher that reads it, and the words where there is none."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.dom import DOMNode
from textual.message import Message

from ..engine.errors import RunDirError
from ..engine.evaluation import EVALUATION_FILE, Evaluation, read_evaluation
from ..engine.format import count, plain
from ..engine.names import tail
from ..engine.run_view import RunView
from ..engine.rundir import RunDir
from ..engine.state import RunState, describe_end
from ..widgets.evaluation_page import EvaluationPage, EvaluationPicture
from .deck import deck_of
from .watchers import Watcher

if TYPE_CHECKING:
    from textual.message_pump import MessagePump

EVERY_S = 0.5


class EvaluationSeen(Message):
    """What is known of a run's evaluation now."""

    def __init__(self, run_id: str, picture: EvaluationPicture) -> None:
        super().__init__()
        self.run_id = run_id
        self.picture = picture

    def can_replace(self, message: Message) -> bool:
        """A newer picture of the same run replaces an older one."""
        return isinstance(message, EvaluationSeen) and message.run_id == self.run_id


class EvaluationWatcher(Watcher):
    """Reads `evaluation.json` when it was replaced."""

    def __init__(self, view: Callable[[], RunView | None], run: RunDir, target: MessagePump) -> None:
        super().__init__(f"evaluation of {run.id}", target)
        self._view = view
        self._run = run
        self._mark: object = ()
        self._evaluation: Evaluation | None = None
        self._problem = ""
        self._posted: EvaluationPicture | None = None

    def look(self) -> float:
        """Post the picture when anything in it changed."""
        view = self._view()
        if view is None:
            return EVERY_S
        mark = self._stamp()
        if mark != self._mark:
            try:
                self._evaluation, self._problem = read_evaluation(self._run.path), ""
            except RunDirError as error:
                self._evaluation, self._problem = None, str(error)
            self._mark = mark
        words = self._problem or (
            absent_words(view) if self._evaluation is None else stale_words(view, self._evaluation)
        )
        picture = EvaluationPicture(self._evaluation, words)
        if picture != self._posted:
            self._posted = picture
            self.target.post_message(EvaluationSeen(self._run.id, picture))
        return EVERY_S

    def _stamp(self) -> object:
        try:
            found = os.stat(self._run.path / EVALUATION_FILE)
        except FileNotFoundError:
            return None
        except OSError as error:
            return error.strerror
        return found.st_ino, found.st_mtime_ns, found.st_size


def listen_to(node: DOMNode, run_id: str, message: EvaluationPage.Wanted) -> None:
    """Open the clips that the page was asked for; not all of them were kept, so there may be none."""
    from ..engine.samples import sample_sets
    from .listen.listing import Wanted

    deck, evaluation = deck_of(node), message.page.picture.evaluation
    sets = sample_sets(deck.home.run(run_id).path)
    if not sets:
        text = "No clips were kept of this evaluation: there is nothing to listen to."
        node.app.notify(text, severity="warning", markup=False)
        return
    split = evaluation.split if evaluation is not None else ""
    if message.answer is None:
        wanted = Wanted(filter='label="{}"'.format(message.truth.replace('"', "")))
    else:
        wanted = Wanted(cell=(message.truth, message.answer))
    deck.open_listen(run_id, split if split in sets else None, wanted=wanted)


def absent_words(view: RunView) -> str:
    """Why there is no evaluation, and what to do."""
    name = plain(tail(view.id), 40)
    judge = f"`wavedeck eval {name}`"
    if view.manifest is None or view.manifest.recipe is None:
        return f"A recipe's evaluation writes {EVALUATION_FILE}; {name} is another program's run and has written none."
    if view.state.active:
        evaluates = view.phase == "evaluate"
        return f"{name} is being judged now." if evaluates else f"Not judged yet: {name} still runs; it is judged last."
    if view.phase == "evaluate" and view.state is not RunState.FINISHED:
        end = describe_end(view.exit) or str(view.state)
        return f"The evaluation did not come to its end ({plain(end, 200)}): {judge} tries again."
    if not view.checkpoints:
        return f"Not judged: {name} has no checkpoint."
    return f"Not judged yet: {judge} judges its best checkpoint."


def stale_words(view: RunView, evaluation: Evaluation) -> str:
    """That what is shown is not the newest; empty when it is."""
    if view.state.active and view.phase == "evaluate":
        return "It is being judged anew; these are the numbers of before."
    best = next((line for line in reversed(view.checkpoints) if line.best), None)
    newer = best is not None and evaluation.step is not None and best.step > evaluation.step
    if best is None or not newer:
        return ""
    at = count(evaluation.step)
    end = "" if view.state.active else f": `wavedeck eval {plain(tail(view.id), 40)}` judges it"
    return f"These are numbers of step {at}; since then step {count(best.step)} was better{end}."
