"""A teacher's raw samples on their way to rationales: cut, screened, and turned into the kit's records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import Field

from .announcements import words_of
from .records import Question, Rationale, Record
from .teacher_prompts import chosen_option, split_completion
from .teacher_records import Ask, Sample

Fault = Literal["not finished", "empty", "duplicate", ""]


class Draft(Record):
    """One sample, before any reader has judged it.

    Attributes:
        index: that of the sample, from 0.
        text: the rationale, without the last line that answers; it may be empty.
        finish_reason: as the server said it.
        chosen: the option that the last line names; None where it names none.
    """

    question_id: str
    index: int = Field(ge=0)
    text: str
    finish_reason: str = "stop"
    chosen: int | None = None


def drafts_of(
    pairs: Iterable[tuple[Ask, Sample]],
    questions: Sequence[Question],
    purpose: Literal["rationale", "oracle"] = "rationale",
) -> list[Draft]:
    """Samples of a purpose as drafts, in the order of their questions and indices.

    Args:
        pairs: samples of one teacher and one set of worked examples, failed attempts included; those of another purpose
            or of other questions are left out.
    """
    by_id = {question.id: question for question in questions}
    place = {question.id: number for number, question in enumerate(questions)}
    drafts = []
    for ask, sample in pairs:
        question = by_id.get(ask.question_id)
        if question is not None and ask.purpose == purpose:
            drafts.append(
                Draft(
                    question_id=question.id,
                    index=sample.index,
                    text=split_completion(sample.text)[0],
                    finish_reason=sample.finish_reason,
                    chosen=chosen_option(sample.text, question),
                )
            )
    return sorted(drafts, key=lambda draft: (place[draft.question_id], draft.index))


def screen(drafts: Sequence[Draft], drop_duplicates: bool = False) -> list[Fault]:
    """What makes a draft no rationale, "" where nothing does; the first of these counts.

    ``not finished``: ``finish_reason`` is not ``stop``. ``empty``: the rationale has no word. ``duplicate``, only if it
    is asked for: the words of an earlier good draft of the same question, in the same order.
    """
    seen: set[tuple[str, ...]] = set()
    faults: list[Fault] = []
    for draft in drafts:
        words = (draft.question_id, *words_of(draft.text))
        if draft.finish_reason != "stop":
            faults.append("not finished")
        elif len(words) == 1:
            faults.append("empty")
        elif drop_duplicates and words in seen:
            faults.append("duplicate")
        else:
            faults.append("")
            seen.add(words)
    return faults


def as_rationales(drafts: Sequence[Draft], saw_gold: bool, drop_duplicates: bool = False) -> list[Rationale]:
    """The drafts without a fault, in their order. What an oracle chose is kept; with the gold answer shown there is
    nothing to choose."""
    faults = screen(drafts, drop_duplicates)
    return [
        Rationale(
            question_id=draft.question_id,
            index=draft.index,
            text=draft.text,
            saw_gold=saw_gold,
            chosen=None if saw_gold else draft.chosen,
        )
        for draft, fault in zip(drafts, faults, strict=True)
        if not fault
    ]
