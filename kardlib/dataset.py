"""A data set as the pipeline sees it, wherever it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import KardError
from .mini import MiniSet
from .passage_source import PassageSource
from .records import Passage, Question, Rationale


@dataclass
class DataSet:
    """Questions in three roles, a knowledge base, and what the set itself brings along.

    Attributes:
        name: the kit's id, for example ``mini-medqa``.
        paper_name: the paper's name of the set that this is or plays, as in ``data/paper_results.csv``.
        train: questions that are learned from.
        dev: a part of the training questions, set apart by hash, on which every choice is made.
        test: questions that are reported.
        test_split: the publisher's name of the reported split (``test``, or ``dev`` where test is not at hand).
        passages: the knowledge base.
        annotations: human rationales by question id, for the ``annotations`` teacher. They were written with the
            gold answer in view.
        mini: what only the maker of a mini set knows; None for real sets.
        notes: lines that every table of this set must carry.
        rows: of each of the publisher's splits, as many as its files have, dropped ones included; none where a set has
            no publisher.
    """

    name: str
    paper_name: str
    train: list[Question]
    dev: list[Question]
    test: list[Question]
    test_split: str
    passages: list[Passage] | PassageSource
    annotations: dict[str, Rationale] = field(default_factory=dict)
    mini: MiniSet | None = None
    notes: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for role, questions in (("train", self.train), ("test", self.test)):
            if not questions:
                raise KardError(f"{self.name}: the {role} split is empty")
        if not self.passages:
            raise KardError(f"{self.name}: the knowledge base is empty")
        seen: set[str] = set()
        for item in (*self.train, *self.dev, *self.test):
            if item.id in seen:
                raise KardError(f"{self.name}: question id {item.id} occurs twice")
            seen.add(item.id)
        # those of an index were checked when it was built, and may be millions
        if isinstance(self.passages, list) and len({p.id for p in self.passages}) < len(self.passages):
            raise KardError(f"{self.name}: a passage id occurs twice")
