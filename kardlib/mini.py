"""mini-MedQA: questions, knowledge base and needed facts, drawn from the mini world."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from .names import Inventory
from .records import Passage, Question
from .wording import (
    KIND_SHARES,
    Paragraph,
    QuestionKind,
    disease_passages,
    drug_passages,
    other_passages,
    shows,
    vignette,
)
from .world import STANDARD, Fact, World, WorldSize, make_world

HOLE_RATE = 0.04
"""Share of paragraphs that the knowledge base lacks, as real ones do."""
HARD_OPTIONS = 2
"""Wrong options that belong to a disease which shares a finding with the right one."""


@dataclass
class MiniSet:
    """A mini data set with what only its maker can know.

    Attributes:
        splits: questions by ``train``, ``dev`` and ``test``.
        facts: for each passage, the facts that it states (for coverage; no model sees them).
        world: where it all comes from.
    """

    splits: dict[str, list[Question]]
    passages: list[Passage]
    facts: dict[str, frozenset[Fact]]
    world: World = field(repr=False)


def make_mini_medqa(seed: int, which: Inventory, sizes: dict[str, int], size: WorldSize = STANDARD) -> MiniSet:
    """Generate mini-MedQA.

    Args:
        seed: of the world and of the questions.
        which: the inventory of names.
        sizes: questions per split, for example ``{"train": 1200, "dev": 300, "test": 1000}``.
    """
    world = make_world(seed, which, size)
    passages, facts = _knowledge_base(world, random.Random(f"passages-{which}-{seed}"))
    rng = random.Random(f"questions-{which}-{seed}")
    seen: set[str] = set()
    splits = {
        split: [_new_question(world, f"{split}-{number:05d}", rng, seen) for number in range(count)]
        for split, count in sizes.items()
    }
    return MiniSet(splits, passages, facts, world)


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


def _new_question(world: World, number: str, rng: random.Random, seen: set[str]) -> Question:
    """A question whose stem no other question of the set has."""
    while True:
        question = draw_question(world, number, rng)
        if question.stem not in seen:
            seen.add(question.stem)
            return question


def draw_question(world: World, number: str, rng: random.Random) -> Question:
    """One question, its disease drawn by Zipf's law."""
    disease = rng.choices(world.diseases, world.weights())[0]
    kind: QuestionKind = rng.choices(list(KIND_SHARES), list(KIND_SHARES.values()))[0]
    findings = tuple(rng.sample(world.findings[disease], 2))
    town = rng.choice(list(world.town_trade))
    stem = vignette(kind, findings, town, world.town_trade[town], rng)
    options = _options(world, disease, kind, findings, rng)
    gold = options.index(answer_of(world, disease, kind))
    return Question(
        id=number,
        stem=stem,
        options=tuple(options),
        answer=gold,
        meta={"kind": kind, "disease": disease, "findings": list(findings)},
    )


def answer_of(world: World, disease: str, kind: QuestionKind) -> str:
    """The right answer: drug, carrier, or the enzyme that the drug blocks."""
    if kind == "carrier":
        return world.carrier[disease]
    return world.drug[disease] if kind == "drug" else world.enzyme[world.drug[disease]]


def chain_of(world: World, disease: str, kind: QuestionKind) -> list[str]:
    """The entities that a rationale goes through, from the disease to the answer."""
    answer = answer_of(world, disease, kind)
    return [disease, world.drug[disease], answer] if kind == "enzyme" else [disease, answer]


def needed_facts(world: World, question: Question) -> set[Fact]:
    """The facts that an honest reader needs to answer a question."""
    disease, kind = question.meta["disease"], question.meta["kind"]
    facts = shows(disease, *question.meta["findings"])
    if kind == "carrier":
        return facts | {Fact(disease, "spread_by", world.carrier[disease])}
    drug = world.drug[disease]
    facts.add(Fact(disease, "treated_with", drug))
    return facts | {Fact(drug, "blocks", world.enzyme[drug])} if kind == "enzyme" else facts


def _options(
    world: World, disease: str, kind: QuestionKind, findings: tuple[str, ...], rng: random.Random
) -> list[str]:
    """Four options: the right one, two of diseases that share a finding, the rest at random."""
    near = [answer_of(world, d, kind) for f in findings for d in world.with_finding(f) if d != disease]
    rng.shuffle(near)
    far = [answer_of(world, d, kind) for d in rng.choices(world.diseases, k=40)]
    options = [answer_of(world, disease, kind)]
    for pool, size in ((near, 1 + HARD_OPTIONS), (far, 4)):
        for option in pool:
            if len(options) < size and option not in options:
                options.append(option)
    rng.shuffle(options)
    return options
