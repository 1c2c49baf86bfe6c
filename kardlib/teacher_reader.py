"""The filter with the teacher itself as the reader: asked again with question and rationale, without the gold answer.

Its verdicts are those of :func:`kardlib.filter.filter_rationales`, whose readers are models of the kit. A strong
teacher may know an answer whatever it reads; the prompt tells it to go by the explanation, and what that is worth is to
be measured where rationales are known to be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .errors import KardError
from .filter import Filtered
from .records import Question, Rationale
from .teacher_prompts import PromptSet, chosen_option, messages_for
from .teacher_records import Ask, Sample, Sampling

READING = Sampling(temperature=0, max_tokens=64)
"""How a reader's reply is drawn: the likeliest words, and room for one line with a long option."""


def reader_asks(
    questions: Sequence[Question],
    rationales: Sequence[Rationale],
    prompt_set: PromptSet,
    teacher: str,
    model: str,
    sampling: Sampling = READING,
) -> list[Ask]:
    """One ask for each rationale, in their order. Rationales of a question that are the same make the same ask, which
    is paid once.

    Args:
        questions: their gold answers are not looked at.
        teacher, model: alias and model of the reader, which need not be those that wrote the rationales.

    Raises:
        KardError: a rationale of a question that is not among them.
    """
    by_id = {question.id: question for question in questions}
    return [
        Ask(
            teacher=teacher,
            model=model,
            messages=messages_for(_of(rationale, by_id), prompt_set, "reader", rationale.text),
            sampling=sampling,
            question_id=rationale.question_id,
            purpose="reader",
        )
        for rationale in rationales
    ]


def filter_by_replies(
    questions: Sequence[Question],
    rationales: Sequence[Rationale],
    asks: Sequence[Ask],
    reply: Callable[[Ask], Sample | None],
) -> Filtered:
    """Keep a rationale where the reader's reply chooses the gold option.

    A reply that names no option, more than one, or did not come to its own end is ``no option``.

    Args:
        asks: those of :func:`reader_asks`, one for each rationale.
        reply: the stored sample of an ask, a bad one where it was given up; None where it is still to be asked for.

    Raises:
        KardError: replies are missing, or a question has no gold answer.
    """
    replies = [reply(ask) for ask in asks]
    missing = replies.count(None)
    if missing or len(replies) != len(rationales):
        there = f"{len(replies) - missing:,} of {len(rationales):,}"
        raise KardError(f"the filter: {there} replies of its reader are there; ask the reader for the rest first")
    by_id = {question.id: question for question in questions}
    verdicts = [
        _verdict(sample, _of(rationale, by_id))
        for rationale, sample in zip(rationales, replies, strict=True)
        if sample is not None
    ]
    return Filtered([r for r, verdict in zip(rationales, verdicts, strict=True) if verdict == "kept"], verdicts)


def _verdict(sample: Sample, question: Question) -> str:
    chosen = chosen_option(sample.text, question) if sample.good else None
    return "no option" if chosen is None else "kept" if chosen == question.gold else "wrong option"


def _of(rationale: Rationale, by_id: dict[str, Question]) -> Question:
    if rationale.question_id not in by_id:
        raise KardError(
            f"question {rationale.question_id}: there is a rationale of it, and it is not among the questions"
        )
    return by_id[rationale.question_id]
