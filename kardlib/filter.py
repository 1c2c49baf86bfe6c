"""The rationale filter: kept only where a reader, shown question and rationale, picks the gold answer (METHOD 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .prompts import build_prompt, parse_answer
from .records import Question, Rationale

Reader = Callable[[Sequence[str]], list[str]]
"""Answers a list of prompts with a list of texts."""


@dataclass(frozen=True)
class Filtered:
    """What is left, and why the rest is gone.

    Attributes:
        verdicts: for each rationale, in the order given: ``kept``, ``wrong option`` or ``no option``.
    """

    kept: list[Rationale]
    verdicts: list[str]

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.verdicts)


def filter_rationales(
    questions: Sequence[Question],
    rationales: Sequence[Rationale],
    reader: Reader,
    count: Callable[[str], int] | None = None,
    max_tokens: int = 512,
) -> Filtered:
    """Show every rationale with its question to a reader and keep it where the answer is the gold one.

    Args:
        count: tokens of a text for the reader; with it, prompts are made to fit into ``max_tokens``.
    """
    by_id = {question.id: question for question in questions}
    prompts = [
        build_prompt(by_id[r.question_id], cue="answer", explanation=r.text, count=count, max_tokens=max_tokens)
        for r in rationales
    ]
    verdicts = []
    for rationale, text in zip(rationales, reader(prompts), strict=True):
        question = by_id[rationale.question_id]
        parsed = parse_answer(text, question.options)
        verdicts.append("no option" if parsed is None else "kept" if parsed == question.gold else "wrong option")
    return Filtered([r for r, verdict in zip(rationales, verdicts, strict=True) if verdict == "kept"], verdicts)
