"""What a mini data set must bring along to be asked, taught and checked."""

from __future__ import annotations

import random
from typing import Protocol

from .records import Question
from .world import Fact, World


class MiniTask(Protocol):
    """One way of asking about the mini world.

    A *chain* is what a rationale goes through, in its order; what its places mean is the task's own business.

    Attributes:
        name: the kit's id of the set.
        paper_name: the set whose part it plays, as in ``data/paper_results.csv``.
        note: a line that every table of the set must carry.
    """

    name: str
    paper_name: str
    note: str

    def draw(self, world: World, number: str, rng: random.Random) -> Question:
        """One question, with the id ``number``."""

    def topic(self, question: Question) -> str:
        """The entity that decides how well a question is known from training: the rarest one that it needs."""

    def chain(self, world: World, question: Question) -> list[str]:
        """The right chain."""

    def needed(self, world: World, question: Question) -> set[Fact]:
        """The facts that an honest reader needs to answer."""

    def tell(self, question: Question, chain: list[str], rng: random.Random) -> str:
        """A chain in words: a rationale, without the answer's mark."""

    def mislead(self, world: World, question: Question, option: int, rng: random.Random) -> list[str]:
        """A plausible wrong chain that ends in a wrong option."""

    def detour(self, world: World, question: Question, rng: random.Random) -> list[str]:
        """A wrong chain that ends in the right answer all the same."""
