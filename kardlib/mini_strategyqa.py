"""mini-StrategyQA: yes or no, by hops that the question does not spell out.

As with penicillins or statins, a name's ending tells its class, and everybody knows the classes: an "-ine" is a powder,
an "-ek" is found in summer, an "-ase" is in the liver. No passage says so. "Can a smith of 40 with Xia be given a
powder?" asks for Xia's drug and never says "drug". Half of the answers are yes.

A comparison of two names (the same carrier?) was tried first: the base models, of a million parameters, did not learn
it in 2,400 steps of pre-training.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .names import class_of
from .records import Question
from .world import Fact, World

Kind = Literal["drug", "carrier", "enzyme"]
OPTIONS = ("yes", "no")


@dataclass(frozen=True)
class Strategy:
    """One kind of question.

    Attributes:
        ask: wordings of the question.
        hops: wordings of each hop, from the disease on.
        known: the class whose answer is yes, and what everybody knows of it.
    """

    ask: tuple[str, ...]
    hops: tuple[tuple[str, ...], ...]
    known: tuple[str, str]


_TREATED = ("{a} is treated with {b}.", "For {a} one gives {b}.")
STRATEGIES: dict[Kind, Strategy] = {
    "drug": Strategy(
        ("Can a {p} of {age} with {d} be given a powder?", "A {p} of {age} has {d}. Is a powder the right choice?"),
        (_TREATED,),
        ("ine", "a powder"),
    ),
    "carrier": Strategy(
        ("Can {d} come to a {p} of {age} in summer?", "A {p} of {age} has {d}. Was the bite in summer?"),
        (("{a} is spread by {b}.", "The carrier of {a} is {b}."),),
        ("ek", "found in summer"),
    ),
    "enzyme": Strategy(
        (
            "Can what clinics give for {d} harm the liver of a {p} of {age}?",
            "A {p} of {age} is treated for {d}. Is the target in the liver?",
        ),
        (_TREATED, ("{a} blocks {b}.", "The target of {a} is {b}.")),
        ("ase", "in the liver"),
    ),
}


class MiniStrategyQA:
    """Two options. A chain is the drug, the carrier, or the drug and the enzyme that it blocks."""

    name = "mini-strategyqa"
    paper_name = "StrategyQA"
    note = "mini-StrategyQA is generated: its diseases and drugs do not exist, and it only plays StrategyQA's part"

    def draw(self, world: World, number: str, rng: random.Random) -> Question:
        """One question, its disease drawn by Zipf's law among those that have the answer."""
        kind: Kind = rng.choice(tuple(STRATEGIES))
        answer = rng.choice(OPTIONS)
        while True:
            disease = rng.choices(world.diseases, world.weights)[0]
            if _answer(kind, _chain(world, kind, disease)) == answer:
                break
        trade = rng.choice(sorted(set(world.town_trade.values())))
        text = rng.choice(STRATEGIES[kind].ask).format(age=rng.randint(18, 89), p=trade, d=disease)
        meta = {"kind": kind, "disease": disease}
        return Question(
            id=number, stem=text[0].upper() + text[1:], options=OPTIONS, answer=OPTIONS.index(answer), meta=meta
        )

    def topic(self, question: Question) -> str:
        return question.meta["disease"]

    def chain(self, world: World, question: Question) -> list[str]:
        return _chain(world, question.meta["kind"], question.meta["disease"])

    def needed(self, world: World, question: Question) -> set[Fact]:
        disease, chain = question.meta["disease"], self.chain(world, question)
        if question.meta["kind"] == "carrier":
            return {Fact(disease, "spread_by", chain[0])}
        facts = {Fact(disease, "treated_with", chain[0])}
        return facts | {Fact(chain[0], "blocks", chain[1])} if len(chain) > 1 else facts

    def tell(self, question: Question, chain: list[str], rng: random.Random) -> str:
        """The hops, then what everybody knows of where they end."""
        kind, places = question.meta["kind"], [question.meta["disease"], *chain]
        strategy = STRATEGIES[kind]
        hops = zip(strategy.hops, places, chain, strict=False)
        steps = [rng.choice(wordings).format(a=a, b=b) for wordings, a, b in hops]
        steps.append(f"{chain[-1]} is {'' if _answer(kind, chain) == 'yes' else 'not '}{strategy.known[1]}.")
        return " ".join(step[0].upper() + step[1:] for step in steps)

    def mislead(self, world: World, question: Question, option: int, rng: random.Random) -> list[str]:
        """The end is of the other class."""
        chain = self.chain(world, question)
        return [*chain[:-1], _drawn(world, chain[-1], rng, other=True)]

    def detour(self, world: World, question: Question, rng: random.Random) -> list[str]:
        """False in the first place, with the right answer."""
        chain = self.chain(world, question)
        return [_drawn(world, chain[0], rng, other=False), *chain[1:]]


def _chain(world: World, kind: Kind, disease: str) -> list[str]:
    if kind == "carrier":
        return [world.carrier[disease]]
    drug = world.drug[disease]
    return [drug] if kind == "drug" else [drug, world.enzyme[drug]]


def _answer(kind: Kind, chain: list[str]) -> str:
    return "yes" if class_of(chain[-1]) == STRATEGIES[kind].known[0] else "no"


def _drawn(world: World, name: str, rng: random.Random, other: bool) -> str:
    """Another drug, carrier or enzyme than ``name``, of its own class or of the other one."""
    kinds: tuple[Mapping[str, str], ...] = (world.drug, world.carrier, world.enzyme)
    same = next(names for names in (sorted(set(kind.values())) for kind in kinds) if name in names)
    return rng.choice([x for x in same if x != name and (class_of(x) != class_of(name)) == other])
