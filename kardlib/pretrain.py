"""Pre-training of the shipped base models, on an endless stream of other worlds.

The stream's worlds take their names from the ``pretraining`` inventory, which shares none with any world that the kit
reports. Half of its examples come with passages found by BM25 (with the rationale, or with the question and therefore
often incomplete), a quarter without, a quarter with a rationale to read or to copy.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch.utils.data import IterableDataset

from .bm25 import BM25
from .mini import MiniSet, make_mini
from .names import Inventory
from .prompts import build_prompt, build_target, query_of
from .records import Question
from .world import WorldSize

SMALL_WORLD = WorldSize(diseases=150, findings=50, drugs=60, enzymes=24, carriers=30, towns=24, trades=12, zipf=0.3)


@dataclass(frozen=True)
class Example:
    """One training pair of texts."""

    source: str
    target: str


class WorldStream(IterableDataset):
    """Examples from worlds that are never seen twice, easy ones first.

    Args:
        seed: of the stream.
        copying: so many examples, mostly with a rationale to copy, come first: a name must be copied before it is read.
        easy: so many after them have one or two passages, found with the rationale.
        names: ``pretraining``, or its part ``narrow``.
        tasks: mini sets that the worlds ask about, one after the other.
    """

    def __init__(
        self,
        seed: int,
        copying: int = 0,
        easy: int = 0,
        names: Inventory = "pretraining",
        tasks: Sequence[str] = ("mini-medqa",),
    ) -> None:
        self.seed = seed
        self.names = names
        self.tasks = tasks
        self.copying = copying
        self.easy = easy

    def __iter__(self) -> Iterator[Example]:
        made, number = 0, 0
        while True:
            for example in self._world(number, made):
                made += 1
                yield example
            number += 1

    def _world(self, number: int, made: int) -> Iterator[Example]:
        seed = self.seed * 1_000_000 + number
        rng = random.Random(f"stream-{seed}")
        task = self.tasks[number % len(self.tasks)]
        mini = make_mini(task, seed, self.names, {"train": 300}, SMALL_WORLD)
        search = BM25(mini.passages)
        stage = "copying" if made < self.copying else "easy" if made < self.copying + self.easy else "full"
        for question in mini.splits["train"]:
            yield make_example(question, mini, search, rng, stage)


@dataclass(frozen=True)
class Stage:
    """Shares of the tasks at one stage of pre-training.

    Attributes:
        tasks: weights of: a rationale to copy, passages, nothing, a rationale to read.
        sizes: weights of 1, 2, 3 and 5 passages.
        by_question: share of passages that are found with the question, and therefore often incomplete.
        answer_only: share of targets that are the answer alone.
    """

    tasks: tuple[float, float, float, float]
    sizes: tuple[float, float, float, float]
    by_question: float
    answer_only: float


STAGES: dict[str, Stage] = {
    "copying": Stage((0.7, 0.3, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0), 0.0, 0.0),
    "easy": Stage((0.05, 0.8, 0.05, 0.1), (0.5, 0.5, 0.0, 0.0), 0.0, 0.1),
    "full": Stage((0.05, 0.5, 0.25, 0.2), (0.1, 0.2, 0.5, 0.2), 0.5, 0.25),
}


def make_example(question: Question, mini: MiniSet, search: BM25, rng: random.Random, stage: str = "full") -> Example:
    """Draw a task for a question: with passages, without, or with a rationale; rationale or answer as target."""
    shares = STAGES[stage]
    told = mini.task.tell(question, mini.task.chain(mini.world, question), rng)
    task = rng.choices(("copy", "passages", "nothing", "reader"), shares.tasks)[0]
    if task == "reader":
        return Example(build_prompt(question, cue="answer", explanation=told), build_target(question.answer_text, None))
    if task == "copy":
        return Example(build_prompt(question, explanation=told), build_target(question.answer_text, told))
    passages: list[str] = []
    if task == "passages":
        query = query_of(question) if rng.random() < shares.by_question else told
        hits = search.search(query, rng.choices((1, 2, 3, 5), shares.sizes)[0])
        passages = [search.passages[hit.index].text for hit in hits]
        if rng.random() < 0.3:
            rng.shuffle(passages)
    bare = rng.random() < shares.answer_only
    source = build_prompt(question, passages, "answer" if bare else "rationale")
    return Example(source, build_target(question.answer_text, None if bare else told))
