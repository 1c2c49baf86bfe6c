"""mini-StrategyQA: yes or no, with two hops that the question does not spell out.

"Could one bite have given a 40 year old both Xia and Yosis?" asks whether two diseases have the same carrier and never
says "carrier". Half of the answers are yes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from .records import Question
from .world import Fact, Relation, World

Kind = Literal["drug", "carrier", "enzyme"]
OPTIONS = ("yes", "no")
_ASK: dict[Kind, tuple[str, ...]] = {
    "drug": (
        "Would one powder be right for a {age} year old with {d1} and with {d2}?",
        "At {age} one has {d1} and {d2}. Is it enough to give one powder?",
    ),
    "carrier": (
        "Could one bite have given a {age} year old both {d1} and {d2}?",
        "One has {d1} at {age} and fears {d2}. Can the same bite give both?",
    ),
    "enzyme": (
        "Would the powder that a {age} year old takes for {d1} stop {e}?",
        "One aged {age} has {d1}. Does what clinics give stop {e}?",
    ),
}
_HOP: dict[Kind, tuple[str, ...]] = {
    "drug": ("{d} is treated with {x}.", "For {d} one gives {x}."),
    "carrier": ("{d} is spread by {x}.", "The carrier of {d} is {x}."),
    "enzyme": ("{x} blocks {e}.", "The target of {x} is {e}."),
}
_RELATION: dict[Kind, Relation] = {"drug": "treated_with", "carrier": "spread_by"}


class MiniStrategyQA:
    """Two options. A chain is the two drugs, the two carriers, or the drug and the enzyme that it blocks."""

    name = "mini-strategyqa"
    paper_name = "StrategyQA"
    note = "mini-StrategyQA is generated: its diseases and drugs do not exist, and it only plays StrategyQA's part"

    def draw(self, world: World, number: str, rng: random.Random) -> Question:
        """One question; its first disease is drawn by Zipf's law, what it is compared with evenly."""
        kind: Kind = rng.choice(("drug", "carrier", "enzyme"))
        yes = rng.random() < 0.5
        while True:
            first = rng.choices(world.diseases, world.weights())[0]
            others = [x for x in _others(world, kind) if x != first and _same(world, kind, first, x) == yes]
            if others:
                break
        other = rng.choice(others)
        text = rng.choice(_ASK[kind]).format(age=rng.randint(18, 89), d1=first, d2=other, e=other)
        meta = {"kind": kind, "disease": first, "other": other}
        return Question(
            id=number, stem=text[0].upper() + text[1:], options=OPTIONS, answer=OPTIONS.index(_said(yes)), meta=meta
        )

    def topic(self, question: Question) -> str:
        return question.meta["disease"]

    def chain(self, world: World, question: Question) -> list[str]:
        kind, first, other = _asked(question)
        if kind == "enzyme":
            return [world.drug[first], world.enzyme[world.drug[first]]]
        return [_of(world, kind)[first], _of(world, kind)[other]]

    def needed(self, world: World, question: Question) -> set[Fact]:
        kind, first, other = _asked(question)
        x, y = self.chain(world, question)
        if kind == "enzyme":
            return {Fact(first, "treated_with", x), Fact(x, "blocks", y)}
        return {Fact(first, _RELATION[kind], x), Fact(other, _RELATION[kind], y)}

    def tell(self, question: Question, chain: list[str], rng: random.Random) -> str:
        """Both hops, then what was compared."""
        kind, first, other = _asked(question)
        x, y = chain
        if kind == "enzyme":
            hops = [rng.choice(_HOP["drug"]).format(d=first, x=x), rng.choice(_HOP[kind]).format(x=x, e=y)]
            same, compared = y == other, (y, other)
        else:
            hops = [rng.choice(_HOP[kind]).format(d=d, x=z) for d, z in ((first, x), (other, y))]
            same, compared = x == y, (x, y)
        end = f"{compared[0]} is also {compared[1]}." if same else f"{compared[0]} is not {compared[1]}."
        return " ".join(text[0].upper() + text[1:] for text in [*hops, end])

    def mislead(self, world: World, question: Question, option: int, rng: random.Random) -> list[str]:
        """The second place is changed so that the comparison comes out the other way."""
        kind, _, other = _asked(question)
        x, y = self.chain(world, question)
        if OPTIONS[option] == "yes":
            return [x, other] if kind == "enzyme" else [x, x]
        return [x, rng.choice(_unlike(_values(world, kind), y))]

    def detour(self, world: World, question: Question, rng: random.Random) -> list[str]:
        """False in the first place (in both where they must stay equal), with the right answer."""
        kind, _, _ = _asked(question)
        x, y = self.chain(world, question)
        if kind == "enzyme":
            return [rng.choice(_unlike(_values(world, "drug"), x)), y]
        false = rng.choice(_unlike(_values(world, kind), x, y))
        return [false, false] if x == y else [false, y]


def _asked(question: Question) -> tuple[Kind, str, str]:
    return question.meta["kind"], question.meta["disease"], question.meta["other"]


def _of(world: World, kind: Kind) -> dict[str, str]:
    return world.carrier if kind == "carrier" else world.drug


def _others(world: World, kind: Kind) -> Sequence[str]:
    return sorted(set(world.enzyme.values())) if kind == "enzyme" else world.diseases


def _same(world: World, kind: Kind, first: str, other: str) -> bool:
    if kind == "enzyme":
        return world.enzyme[world.drug[first]] == other
    return _of(world, kind)[first] == _of(world, kind)[other]


def _values(world: World, kind: Kind) -> list[str]:
    return sorted(set((world.enzyme if kind == "enzyme" else _of(world, kind)).values()))


def _unlike(values: list[str], *taken: str) -> list[str]:
    return [value for value in values if value not in taken]


def _said(yes: bool) -> str:
    return "yes" if yes else "no"
