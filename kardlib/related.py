"""A text that is related to the mini world's knowledge base and is not it: reports on the same names.

It plays the PubMed abstracts of the paper's Fig. 3: the same diseases, drugs, enzymes and carriers, told of by those
who saw, counted or measured them, where the knowledge base tells what treats, spreads and blocks. Signs of a disease
are named, as reports do, and they are the true ones. What no report states is how anything leads to an answer: a text
names one disease, drug, enzyme or carrier and never two, so it can hold no link from disease to drug, from drug to
enzyme or from disease to carrier. Counts, years and ages are invented.

Another world of the same inventory would not do: the inventory is so small that most of its names would be the same,
with other drugs and carriers, and a student would be taught what is false. The words are those of the shipped
tokenizer, as real T5 knows the words of real abstracts: nothing is spelt out in pieces that the base model never saw.
"""

from __future__ import annotations

import random

from .world import World

_DISEASE = (
    "In {t} {n} people have had {d}. Most had {f1} and {f2}.",
    "{d} was first seen in {t}. There was {f1}, then {f2}.",
    "Of {m} people with {d}, {n} had {f1}.",
    "A {p} aged {a} had {d} with {f1} and without {f2}.",
    "{d} is rarely seen in {t}. It passes without harm in {n} of {m}.",
)
_DRUG = (
    "{r} was first sold in {t}. {n} clinics have it.",
    "In {t} {n} people had {r} for a year without harm.",
    "The method for {r} came from {t} in {y}.",
    "{r} is rarely given to people aged {a}.",
)
_ENZYME = (
    "{e} was measured in {t}. It was found in the blood of {n} people.",
    "{e} was first found in the liver of a {p} in {y}.",
)
_CARRIER = (
    "In {t} {n} people have had a bite of {c}.",
    "{c} was first seen in {t} in {y}. It comes in summer.",
)
_TOWN = (
    "The {p} fair of {t} was first held in {y}.",
    "Of {m} families in {t}, {n} have had a {p}.",
)
_FINDING = (
    "In {t} {n} people speak of {f1} in summer.",
    "{f1} was seen in {n} of {m} {p} families.",
)


def related_texts(world: World) -> list[str]:
    """Reports on every name of a world, about as many as its knowledge base has passages; the same for the same world.

    Returns:
        Texts of one or two sentences, shuffled: five a disease, four a drug, two for every other name.
    """
    rng = random.Random(f"related-{'-'.join(world.diseases)}")
    texts = [_report(t, world, rng, world.findings[d], d=d) for d in world.diseases for t in _DISEASE]
    texts += [_report(t, world, rng, r=r) for r in world.enzyme for t in _DRUG]
    texts += [_report(t, world, rng, e=e) for e in sorted(set(world.enzyme.values())) for t in _ENZYME]
    texts += [_report(template, world, rng, c=c, t=t) for c, t in world.carrier_town.items() for template in _CARRIER]
    texts += [_report(template, world, rng, t=t) for t in world.town_trade for template in _TOWN]
    texts += [_report(t, world, rng, (f, f)) for f in _findings(world) for t in _FINDING]
    texts = list(dict.fromkeys(texts))
    rng.shuffle(texts)
    return texts


def _report(template: str, world: World, rng: random.Random, findings: tuple[str, ...] = ("", ""), **names: str) -> str:
    """Fill in the names given; town, findings' order and numbers are drawn, the trade is the town's."""
    town = names.pop("t", "") or rng.choice(list(world.town_trade))
    f1, f2 = rng.sample(findings, 2)
    people = rng.randint(20, 99)
    numbers = dict(m=people, n=rng.randint(2, people - 1), y=rng.randint(1900, 2020), a=rng.randint(18, 89))
    text = template.format(t=town, p=world.town_trade[town], f1=f1, f2=f2, **numbers, **names)
    return text[0].upper() + text[1:]


def _findings(world: World) -> list[str]:
    return sorted({finding for triple in world.findings.values() for finding in triple})
