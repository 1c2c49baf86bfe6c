"""Asks and completions that several test files need."""

from __future__ import annotations

from kardlib.teacher_records import Ask, Message, Sample, Sampling

MODEL = "tiny-teacher"


def an_ask(number: int = 0, **changes: object) -> Ask:
    """The ask of one question."""
    fields: dict[str, object] = {
        "teacher": "someone",
        "model": MODEL,
        "messages": (
            Message(role="system", content="Think step by step."),
            Message(role="user", content=f"Question {number}: which of these?\n(A) ü (B) \u2028 (C) no"),
        ),
        "sampling": Sampling(max_tokens=64),
        "question_id": f"q{number}",
    }
    return Ask.model_validate(fields | changes)


def a_sample(index: int, text: str | None = None, **changes: object) -> Sample:
    """A good completion, unless changes say otherwise."""
    fields: dict[str, object] = {
        "index": index,
        "text": f"Because of {index}.\nSo it is (A)." if text is None else text,
        "finish_reason": "stop",
        "prompt_tokens": 20,
        "completion_tokens": 7,
        "arrived": 1000.25 + index,
    }
    return Sample.model_validate(fields | changes)
