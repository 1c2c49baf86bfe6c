"""mini-MedQA: vignettes with two findings; what helps, what has spread it, what does the drug block?"""

from __future__ import annotations

import random

from .records import Question
from .wording import KIND_SHARES, QuestionKind, rationale, shows, vignette
from .world import Fact, World

HARD_OPTIONS = 2
"""Wrong options that belong to a disease which shares a finding with the right one."""


class MiniMedQA:
    """Four options; a chain is disease and carrier, disease and drug, or disease, drug and enzyme."""

    name = "mini-medqa"
    paper_name = "MedQA-USMLE"
    note = "mini-MedQA is generated: its diseases and drugs do not exist, and it only plays MedQA-USMLE's part"

    def draw(self, world: World, number: str, rng: random.Random) -> Question:
        """One question, its disease drawn by Zipf's law."""
        disease = rng.choices(world.diseases, world.weights)[0]
        kind: QuestionKind = rng.choices(list(KIND_SHARES), list(KIND_SHARES.values()))[0]
        findings = tuple(rng.sample(world.findings[disease], 2))
        town = rng.choice(list(world.town_trade))
        stem = vignette(kind, findings, town, world.town_trade[town], rng)
        options = _options(world, disease, kind, findings, rng)
        gold = options.index(answer_of(world, disease, kind))
        meta = {"kind": kind, "disease": disease, "findings": list(findings)}
        return Question(id=number, stem=stem, options=tuple(options), answer=gold, meta=meta)

    def topic(self, question: Question) -> str:
        return question.meta["disease"]

    def chain(self, world: World, question: Question) -> list[str]:
        return chain_of(world, question.meta["disease"], question.meta["kind"])

    def needed(self, world: World, question: Question) -> set[Fact]:
        disease, kind = question.meta["disease"], question.meta["kind"]
        facts = shows(disease, *question.meta["findings"])
        if kind == "carrier":
            return facts | {Fact(disease, "spread_by", world.carrier[disease])}
        drug = world.drug[disease]
        facts.add(Fact(disease, "treated_with", drug))
        return facts | {Fact(drug, "blocks", world.enzyme[drug])} if kind == "enzyme" else facts

    def tell(self, question: Question, chain: list[str], rng: random.Random) -> str:
        return rationale(question.meta["kind"], tuple(question.meta["findings"]), chain, rng)

    def mislead(self, world: World, question: Question, option: int, rng: random.Random) -> list[str]:
        """From a neighbouring disease where there is one with that answer."""
        kind, text = question.meta["kind"], question.options[option]
        pools = self._neighbours(world, question), world.diseases
        fits = next(
            (found for pool in pools if (found := [d for d in pool if answer_of(world, d, kind) == text])), None
        )
        return chain_of(world, rng.choice(fits), kind) if fits else [rng.choice(pools[0]), text]

    def detour(self, world: World, question: Question, rng: random.Random) -> list[str]:
        """The right end from the wrong disease."""
        return [rng.choice(self._neighbours(world, question)), *self.chain(world, question)[1:]]

    def _neighbours(self, world: World, question: Question) -> list[str]:
        """Other diseases that share a finding with the question, or any others."""
        own = question.meta["disease"]
        near = {d for f in question.meta["findings"] for d in world.with_finding(f)} - {own}
        return sorted(near) or [d for d in world.diseases if d != own]


def answer_of(world: World, disease: str, kind: QuestionKind) -> str:
    """The right answer: drug, carrier, or the enzyme that the drug blocks."""
    if kind == "carrier":
        return world.carrier[disease]
    return world.drug[disease] if kind == "drug" else world.enzyme[world.drug[disease]]


def chain_of(world: World, disease: str, kind: QuestionKind) -> list[str]:
    """The entities that a rationale goes through, from the disease to the answer."""
    answer = answer_of(world, disease, kind)
    return [disease, world.drug[disease], answer] if kind == "enzyme" else [disease, answer]


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
