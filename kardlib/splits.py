"""Splits made by a hash of the question's id: the same on every machine, whatever the order of the rows."""

from __future__ import annotations

import hashlib

from .records import Question

DEV_SHARE = 0.1


def hash_share(question_id: str, purpose: str) -> float:
    """A number in [0, 1) that depends on the id and the purpose alone; different purposes cut independently."""
    digest = hashlib.sha256(f"{purpose}:{question_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def in_dev(question_id: str, share: float = DEV_SHARE) -> bool:
    """Whether a training question belongs to the part that choices are made on (a fraction ``share`` of all)."""
    return hash_share(question_id, "dev") < share


def hold_out_dev(questions: list[Question]) -> tuple[list[Question], list[Question]]:
    """Split training questions into (train, dev). From two questions on, neither part is empty."""
    dev = {question.id for question in questions if in_dev(question.id)}
    if len(questions) > 1 and not 0 < len(dev) < len(questions):
        # A handful of questions can all fall on one side.
        dev = {min(questions, key=lambda question: hash_share(question.id, "dev")).id}
    elif len(questions) == 1:
        dev = set()
    return [q for q in questions if q.id not in dev], [q for q in questions if q.id in dev]


def cut(questions: list[Question], count: int) -> list[Question]:
    """The first ``count`` questions in the order of a hash of their ids."""
    return sorted(questions, key=lambda question: hash_share(question.id, "cut"))[:count]
