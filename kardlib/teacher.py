"""Teachers: whoever writes the rationales r_ij, behind one interface.

At training time a teacher is shown the gold answer; for the oracle rows it must not be (METHOD 1, step 6).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from .dataset import DataSet
from .errors import KardError
from .mini import MiniSet
from .records import Question, Rationale

ERROR_RATE = 0.10
"""Share of the scripted teacher's training rationales that are wrong: most end in a wrong option."""
WRONG_OPTION_SHARE = 0.7
ACCURACY = 0.85
"""How often the scripted teacher is right when it is not shown the gold answer."""


class Teacher(Protocol):
    """Writes ``l`` rationales for each question."""

    name: str

    def rationales(self, questions: Sequence[Question], l: int, show_gold: bool) -> list[Rationale]:  # noqa: E741
        """All rationales, question by question, ``l`` each (fewer only where a set has no more).

        Args:
            show_gold: whether the gold answer may be used. False for the oracle rows.
        """


class ScriptedTeacher:
    """Plays an LLM in the mini world: varied wording, wrong at a stated rate, and it knows when it was wrong.

    Args:
        mini: the world whose facts it knows.
        seed: of its wording and of its errors. A question's j-th rationale does not depend on ``l``.
    """

    name = "scripted"

    def __init__(self, mini: MiniSet, seed: int = 0) -> None:
        self._task = mini.task
        self._world = mini.world
        self._seed = seed

    def rationales(self, questions: Sequence[Question], l: int, show_gold: bool) -> list[Rationale]:  # noqa: E741
        return [self._one(question, j, show_gold) for question in questions for j in range(l)]

    def _one(self, question: Question, index: int, show_gold: bool) -> Rationale:
        rng = random.Random(f"teacher-{self._seed}-{question.id}-{index}-{show_gold}")
        right = rng.random() >= (ERROR_RATE if show_gold else 1 - ACCURACY)
        chain, chosen = self._task.chain(self._world, question), question.gold
        if not right:
            wrong = rng.choice([i for i in range(len(question.options)) if i != question.gold])
            if show_gold and rng.random() >= WRONG_OPTION_SHARE:
                chain = self._task.detour(self._world, question, rng)
            else:
                chosen = wrong
                chain = self._task.mislead(self._world, question, wrong, rng)
        return Rationale(
            question_id=question.id,
            index=index,
            text=self._task.tell(question, chain, rng),
            saw_gold=show_gold,
            correct=right,
            chosen=None if show_gold else chosen,
        )


class AnnotationTeacher:
    """Hands out a set's own human rationales, one a question. They were written with the gold answer in view."""

    name = "annotations"

    def __init__(self, data: DataSet) -> None:
        self._annotations = data.annotations
        self._set = data.name

    def rationales(self, questions: Sequence[Question], l: int, show_gold: bool) -> list[Rationale]:  # noqa: E741
        missing = next((q.id for q in questions if q.id not in self._annotations), None)
        if missing is not None:
            raise KardError(f"{self._set}: question {missing} has no annotation, and the teacher is 'annotations'")
        return [self._annotations[question.id] for question in questions]


def make_teacher(kind: str, data: DataSet) -> Teacher:
    """The teacher of that name for a data set."""
    if kind == "annotations":
        return AnnotationTeacher(data)
    if data.mini is None:
        raise KardError(f"{data.name}: the scripted teacher knows mini sets only; choose -p teacher=annotations")
    return ScriptedTeacher(data.mini)
