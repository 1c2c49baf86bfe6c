"""mini-OpenbookQA: one fact of an open book and one of common knowledge, four options.

The book holds many facts (which carrier spreads which disease). Common knowledge is small and comes up again and again:
where each carrier lives, and which trade a town is known for. A student can learn it by heart, as people have.
"""

from __future__ import annotations

import random
from typing import Literal

from .records import Question
from .world import Fact, World

Kind = Literal["town", "trade"]
_ASK: dict[Kind, tuple[str, ...]] = {
    "town": (
        "A {p} of {age} has {b}. Which town is it from?",
        "{b} is found in a {p} of {age}. Which town is the source of {b}?",
    ),
    "trade": (
        "A {p} of {age} has seen {b}. Which trade is near?",
        "To a {p} of {age} comes {b}. Which trade is near {b}?",
    ),
}
TOWN_SHARE = 0.7
"""Share of questions about a disease's town; there are fewer carriers to ask about than diseases."""
_TOWN = ("{b} is spread by {c}. {c} lives near {t}.", "The carrier of {b} is {c}. {c} lives near {t}.")
_TRADE = ("{b} lives near {t}. {t} is known for its {p} trade.", "{b} lives near {t}. Families of {t} have a {p}.")


class MiniOpenbookQA:
    """Four options. A chain is carrier and town, or town and trade."""

    name = "mini-openbookqa"
    paper_name = "OpenbookQA"
    note = "mini-OpenbookQA is generated: its animals and towns do not exist, and it only plays OpenbookQA's part"

    def draw(self, world: World, number: str, rng: random.Random) -> Question:
        """One question; a disease is drawn by Zipf's law, a carrier evenly."""
        kind: Kind = "town" if rng.random() < TOWN_SHARE else "trade"
        diseases, carriers = world.diseases, list(world.carrier_town)
        about = rng.choices(diseases, world.weights)[0] if kind == "town" else rng.choice(carriers)
        answer = _answer(world, kind, about)
        others = [x for x in _all(world, kind) if x != answer]
        options = [answer, *rng.sample(others, 3)]
        rng.shuffle(options)
        trade = rng.choice([p for p in _all(world, "trade") if p not in options])
        text = rng.choice(_ASK[kind]).format(b=about, age=rng.randint(18, 89), p=trade)
        meta = {"kind": kind, "about": about}
        return Question(
            id=number,
            stem=text[0].upper() + text[1:],
            options=tuple(options),
            answer=options.index(answer),
            meta=meta,
        )

    def topic(self, question: Question) -> str:
        return question.meta["about"]

    def chain(self, world: World, question: Question) -> list[str]:
        kind, about = question.meta["kind"], question.meta["about"]
        hop = world.carrier[about] if kind == "town" else world.carrier_town[about]
        return [hop, _answer(world, kind, about)]

    def needed(self, world: World, question: Question) -> set[Fact]:
        """The fact of the open book. The other is common knowledge, which a student has learned by heart."""
        kind, about = question.meta["kind"], question.meta["about"]
        return {Fact(about, "spread_by" if kind == "town" else "lives_near", self.chain(world, question)[0])}

    def tell(self, question: Question, chain: list[str], rng: random.Random) -> str:
        about, (hop, end) = question.meta["about"], chain
        if question.meta["kind"] == "town":
            text = rng.choice(_TOWN).format(b=about, c=hop, t=end)
        else:
            text = rng.choice(_TRADE).format(b=about, t=hop, p=end)
        return ". ".join(part[0].upper() + part[1:] for part in text.split(". "))

    def mislead(self, world: World, question: Question, option: int, rng: random.Random) -> list[str]:
        """A carrier that lives near the wrong town, or a town with the wrong trade, where there is one."""
        kind, wrong = question.meta["kind"], question.options[option]
        ends = world.carrier_town if kind == "town" else world.town_trade
        fits = [hop for hop, end in ends.items() if end == wrong]
        return [rng.choice(fits or list(ends)), wrong]

    def detour(self, world: World, question: Question, rng: random.Random) -> list[str]:
        """The right end by way of the wrong carrier or town."""
        hop, end = self.chain(world, question)
        hops = world.carrier_town if question.meta["kind"] == "town" else world.town_trade
        return [rng.choice([x for x in hops if x != hop]), end]


def _answer(world: World, kind: Kind, about: str) -> str:
    return world.carrier_town[world.carrier[about]] if kind == "town" else world.town_trade[world.carrier_town[about]]


def _all(world: World, kind: Kind) -> list[str]:
    return sorted(world.town_trade if kind == "town" else set(world.town_trade.values()))
