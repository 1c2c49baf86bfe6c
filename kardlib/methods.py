"""The methods of the paper's tables, as rows of one table.

What a student is trained to write, which query finds the passages that it is trained with, which query finds them at
test time, and which worked examples its prompt shows where it is not trained: nothing else tells the methods apart. The
three KARD rows are one trained student with three test queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import KardError
from .presets import nearest
from .prompts import Cue

TrainQuery = Literal["none", "question", "rationale", "dense"]
TestQuery = Literal["none", "question", "reranker", "oracle rationale", "dense"]
"""``dense``: the question, by a retriever that is trained together with the student (RAG)."""


@dataclass(frozen=True)
class Training:
    """What tells one trained student, or one kind of worked example, from another: its target and its passages.

    Attributes:
        target: ``rationale`` (then the answer, Eqs. 1 and 2) or ``answer`` alone.
        query: what finds the passages of a training example.
    """

    target: Cue
    query: TrainQuery


@dataclass(frozen=True)
class Method:
    """One row of a results table.

    Attributes:
        name: as in ``data/paper_results.csv`` where the paper has the row.
        training: None for a base model that is not trained further.
        cue: what the student is asked for at test time.
        test_query: what finds its passages at test time.
        forced_rationale: the teacher's test rationale is put in the student's mouth; it only answers.
        oracle: it uses a rationale of the test question, which nobody has in earnest.
        examples: the kind of training pairs that its prompt shows as worked examples; None where it shows none.
    """

    name: str
    training: Training | None
    cue: Cue
    test_query: TestQuery
    forced_rationale: bool = False
    oracle: bool = False
    examples: Training | None = None

    @property
    def told(self) -> bool:
        """Whether it needs a teacher's rationales: to learn from, as worked examples, as a query, in its mouth."""
        learned = self.training or self.examples
        return self.oracle or (learned is not None and learned.target == "rationale")


FINE_TUNING = Training("answer", "none")
KA_FINE_TUNING = Training("answer", "question")
REASONING_DISTILLATION = Training("rationale", "none")
KARD = Training("rationale", "rationale")
RAG = Training("rationale", "dense")
# No student is trained so: a worked example's passages are found as those of the test question beside it.
_KA_EXAMPLES = Training("rationale", "question")

METHODS: tuple[Method, ...] = (
    Method("Few-shot", None, "answer", "none", examples=FINE_TUNING),
    Method("Few-shot + CoT", None, "rationale", "none", examples=REASONING_DISTILLATION),
    Method("KA Few-shot + CoT", None, "rationale", "question", examples=_KA_EXAMPLES),
    Method("Base model with passages, untrained", None, "rationale", "question"),
    Method("Fine-tuning", FINE_TUNING, "answer", "none"),
    Method("KA Fine-tuning", KA_FINE_TUNING, "answer", "question"),
    Method("Reasoning Distillation", REASONING_DISTILLATION, "rationale", "none"),
    Method("KARD (BM25)", KARD, "rationale", "question"),
    Method("KARD (Reranker)", KARD, "rationale", "reranker"),
    Method("KARD (Silver Knowledge, oracle)", KARD, "rationale", "oracle rationale", oracle=True),
    Method(
        "CoT from teacher (oracle)", REASONING_DISTILLATION, "rationale", "none", forced_rationale=True, oracle=True
    ),
)
OTHER_METHODS: tuple[Method, ...] = (Method("RAG + Reasoning Distillation", RAG, "rationale", "dense"),)
"""Rows of the paper's other tables."""


def main_methods(told: bool = True) -> tuple[Method, ...]:
    """The rows of the main table; those that need no rationale where nobody has told any."""
    return tuple(row for row in METHODS if told or not row.told)


TRAININGS: dict[str, Training] = {
    "Fine-tuning": FINE_TUNING,
    "KA Fine-tuning": KA_FINE_TUNING,
    "Reasoning Distillation": REASONING_DISTILLATION,
    "KARD": KARD,
}


def method(name: str) -> Method:
    """The method of that name; a KardError names the nearest one."""
    for row in (*METHODS, *OTHER_METHODS):
        if row.name == name:
            return row
    raise KardError(f"method {name!r}: there is none of that name{nearest(name, [row.name for row in METHODS])}")


def training_name(row: Method) -> str:
    """Name of the training that a method's student has gone through."""
    return next(name for name, training in TRAININGS.items() if training == row.training)
