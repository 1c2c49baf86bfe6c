"""Mini data sets: questions and knowledge base, drawn from the mini world.

All of them ask about the same world and search the same knowledge base; what tells them apart is a
:class:`kardlib.mini_task.MiniTask`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import lru_cache

from .errors import KardError
from .mini_medqa import MiniMedQA
from .mini_openbookqa import MiniOpenbookQA
from .mini_strategyqa import MiniStrategyQA
from .mini_task import MiniTask
from .names import Inventory
from .records import Passage, Question
from .wording import Paragraph, disease_passages, drug_passages, other_passages
from .world import STANDARD, Fact, World, WorldSize, make_world

HOLE_RATE = 0.04
"""Share of paragraphs that the knowledge base lacks, as real ones do."""
TASKS: dict[str, MiniTask] = {task.name: task for task in (MiniMedQA(), MiniStrategyQA(), MiniOpenbookQA())}


@dataclass
class MiniSet:
    """A mini data set with what only its maker can know.

    Attributes:
        task: what is asked about the world.
        splits: questions by ``train``, ``dev`` and ``test``.
        facts: for each passage, the facts that it states (for coverage; no model sees them).
        world: where it all comes from.
    """

    task: MiniTask
    splits: dict[str, list[Question]]
    passages: list[Passage]
    facts: dict[str, frozenset[Fact]]
    world: World = field(repr=False)

    def needed(self, question: Question) -> set[Fact]:
        """The facts that an honest reader needs to answer a question."""
        return self.task.needed(self.world, question)


def make_mini(name: str, seed: int, which: Inventory, sizes: dict[str, int], size: WorldSize = STANDARD) -> MiniSet:
    """Generate a mini data set.

    Args:
        name: a key of ``TASKS``.
        seed: of the world and of the questions.
        which: the inventory of names.
        sizes: questions per split, for example ``{"train": 800, "dev": 300, "test": 1000}``.
    """
    task, world = TASKS[name], make_world(seed, which, size)
    passages, facts = _knowledge_base(world, random.Random(f"passages-{which}-{seed}"))
    about = "" if name == "mini-medqa" else f"{name}-"
    rng = random.Random(f"questions-{about}{which}-{seed}")
    seen: set[str] = set()
    splits = {
        split: [_new_question(task, world, f"{split}-{number:05d}", rng, seen) for number in range(count)]
        for split, count in sizes.items()
    }
    return MiniSet(task, splits, passages, facts, world)


@lru_cache(maxsize=3)
def shared_mini(name: str, seed: int, which: Inventory, sizes: tuple[tuple[str, int], ...]) -> MiniSet:
    """What :func:`make_mini` makes, once for all cells of a table. Its lists are not to be changed."""
    return make_mini(name, seed, which, dict(sizes))


def make_mini_medqa(seed: int, which: Inventory, sizes: dict[str, int], size: WorldSize = STANDARD) -> MiniSet:
    """mini-MedQA; see :func:`make_mini`."""
    return make_mini("mini-medqa", seed, which, sizes, size)


def _knowledge_base(world: World, rng: random.Random) -> tuple[list[Passage], dict[str, frozenset[Fact]]]:
    paragraphs: list[Paragraph] = []
    for disease in world.diseases:
        paragraphs += disease_passages(world, disease, rng)
    for drug in world.enzyme:
        paragraphs += drug_passages(world, drug, rng)
    paragraphs += other_passages(world, rng)
    paragraphs = [paragraph for paragraph in paragraphs if rng.random() >= HOLE_RATE]
    paragraphs = list(dict(paragraphs).items())
    rng.shuffle(paragraphs)
    passages = [Passage(id=f"p{i:05d}", text=text) for i, (text, _) in enumerate(paragraphs)]
    return passages, {p.id: facts for p, (_, facts) in zip(passages, paragraphs, strict=True)}


def _new_question(task: MiniTask, world: World, number: str, rng: random.Random, seen: set[str]) -> Question:
    """A question that no other of the set repeats, be it with other options."""
    for _ in range(1000):
        question = task.draw(world, number, rng)
        if question.stem not in seen:
            seen.add(question.stem)
            return question
    raise KardError(f"{task.name}: the world is too small for so many different questions")
