"""Users as tests need them: they answer from a list, and remember what they were asked."""

from __future__ import annotations

from wavedeck.remote.ssh.questions import Question, QuestionKind


class Answers:
    """Answers each question by what `by` says for its kind: a text, a list of texts in turn, or None."""

    def __init__(self, **by: str | list[str] | None) -> None:
        self.asked: list[Question] = []
        self._by = by

    @property
    def kinds(self) -> list[QuestionKind]:
        """The kinds of the questions, in their order."""
        return [question.kind for question in self.asked]

    async def ask(self, question: Question) -> str | None:
        """The next answer."""
        self.asked.append(question)
        answer = self._by.get(question.kind.value)
        if isinstance(answer, list):
            return answer.pop(0) if answer else None
        return answer
