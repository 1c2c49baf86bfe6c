"""How the mini world is put in words: passages, vignettes and rationales.

Wordings come in several variants, so that the same fact is never always the same string. A passage is a small
paragraph that holds several facts of one entity; a vignette shares words with the first hop and with its own
irrelevant detail (age, trade, town) only.
"""

from __future__ import annotations

import random
from typing import Literal

from .world import Fact, World

QuestionKind = Literal["drug", "carrier", "enzyme"]
KIND_SHARES: dict[QuestionKind, float] = {"drug": 0.3, "carrier": 0.3, "enzyme": 0.4}

_SIGNS = (
    "{d} shows {f1}, {f2} and {f3}. It often passes without harm.",
    "The signs of {d} are {f1}, {f2} and {f3}.",
    "In {d} one finds {f1} and {f2}. Later there is {f3}.",
)
_DRUG_FOR = (
    "{d} with {f1} and {f2} is treated with {r}.",
    "{r} is the drug for {d}. Look for {f1} and {f2}.",
    "For {d} with {f1} and {f2} clinics give {r}.",
)
_DRUG_ENZYME = (
    "In {d} with {f1} and {f2}, {r} helps. {r} blocks {e}.",
    "Doctors give {r} for {d}, seen as {f1} with {f2}. It blocks {e}.",
    "{r} blocks {e}. It is given in {d} with {f1} and {f2}.",
)
_SPREAD = (
    "{d} is spread by {c}. It begins with {f1} and {f2}.",
    "The bite of {c} spreads {d}. First comes {f1}, then {f2}.",
    "{f1} and {f2} are early signs of {d}. It is spread by {c}.",
)
_TOWN = (
    "{t} is a town known for its {p} trade. Most families of {t} have a {p}.",
    "Every year the {p} fair is held in {t}.",
    "A {p} from {t} can be found in every market.",
)
_COMPLAINT = (
    "{p} families often speak of {f}. It is rarely a disease.",
    "In {t} people blame {f} on the {p} trade.",
)
_CARRIER = (
    "{c} lives near {t}. People of {t} avoid {c} in summer.",
    "{c} and {c2} are often seen near {t}.",
)
_DRUG = (
    "{r} is sold in {t}. It is stored in the dark.",
    "{r}, {r2} and {r3} come as a powder.",
)
_DRUG_BLOCKS = ("{r} blocks {e}. It was first made in {t}.", "The drug {r} is known to block {e}.")
_ENZYME = (
    "{e} and {e2} are enzymes of the liver.",
    "{e} is measured in blood. The method came from {t}.",
)
_VIGNETTE = (
    "A {age} year old {p} from {t} comes with {f1} and {f2}.",
    "A {p} from {t}, aged {age}, has {f1} and {f2}.",
    "{f1} and {f2} are seen in a {age} year old {p} who lives in {t}.",
    "A {age} year old {p} has had {f1} since a visit to {t}. There is also {f2}.",
)
_ASK: dict[QuestionKind, tuple[str, ...]] = {
    "drug": ("Which drug should be given?", "What is the best drug?"),
    "carrier": ("What has spread this disease?", "Which carrier is the source?"),
    "enzyme": ("Which enzyme does the right drug block?", "What is blocked by the drug of choice?"),
}
_POINT = (
    "{f1} and {f2} point to {d}.",
    "{f1} with {f2} means {d}.",
    "The signs {f1} and {f2} fit {d}.",
)
_TREATED = ("{d} is treated with {r}.", "For {d} one gives {r}.")
_SPREAD_BY = ("{d} is spread by {c}.", "The carrier of {d} is {c}.")
_BLOCKS = ("{r} blocks {e}.", "The target of {r} is {e}.")

Paragraph = tuple[str, frozenset[Fact]]


def shows(disease: str, *findings: str) -> set[Fact]:
    return {Fact(disease, "shows", finding) for finding in findings}


def disease_passages(world: World, disease: str, rng: random.Random) -> list[Paragraph]:
    """The four paragraphs about one disease: signs and drug (once), drug and enzyme, carrier (twice)."""
    r, c = world.drug[disease], world.carrier[disease]
    e = world.enzyme[r]
    treated, spread = {Fact(disease, "treated_with", r)}, {Fact(disease, "spread_by", c)}
    blocks = {Fact(r, "blocks", e)}
    result: list[Paragraph] = []
    for templates, facts, count in (
        (_SIGNS, set(), 3),
        (_DRUG_FOR, treated, 2),
        (_DRUG_ENZYME, treated | blocks, 2),
        (_SPREAD, spread, 2),
        (_SPREAD, spread, 2),
    ):
        f = rng.sample(world.findings[disease], 3)
        text = rng.choice(templates).format(d=disease, f1=f[0], f2=f[1], f3=f[2], r=r, c=c, e=e)
        result.append((_sentence(text), frozenset(facts | shows(disease, *f[:count]))))
    return result


def drug_passages(world: World, drug: str, rng: random.Random) -> list[Paragraph]:
    """Two paragraphs on what a drug blocks, and two that only mention it."""
    others = rng.sample(list(world.enzyme), 2)
    town = rng.choice(list(world.town_trade))
    blocks = frozenset({Fact(drug, "blocks", world.enzyme[drug])})
    fill = dict(r=drug, r2=others[0], r3=others[1], t=town, e=world.enzyme[drug])
    return [(_sentence(t.format(**fill)), blocks) for t in _DRUG_BLOCKS] + [
        (_sentence(t.format(**fill)), frozenset()) for t in _DRUG
    ]


def other_passages(world: World, rng: random.Random) -> list[Paragraph]:
    """Paragraphs about towns, trades, carriers and enzymes: distractors for a vignette, and the common knowledge of
    mini-OpenbookQA (where a carrier lives, what a town is known for)."""
    towns, enzymes = list(world.town_trade), sorted(set(world.enzyme.values()))
    carriers, findings = list(world.carrier_town), sorted({f for group in world.findings.values() for f in group})
    made: list[Paragraph] = []
    for t, p in world.town_trade.items():
        known = frozenset({Fact(t, "known_for", p)})
        made += [(text.format(t=t, p=p), known if i < 2 else frozenset()) for i, text in enumerate(_TOWN)]
        made += [(text.format(t=t, p=p, f=rng.choice(findings)), frozenset()) for text in _COMPLAINT]
    for c, t in world.carrier_town.items():
        lives, seen = (text.format(c=c, c2=rng.choice(carriers), t=t) for text in _CARRIER)
        made += [(lives, frozenset({Fact(c, "lives_near", t)})), (seen, frozenset())]
    for e in enzymes:
        texts = (text.format(e=e, e2=rng.choice(enzymes), t=rng.choice(towns)) for text in _ENZYME)
        made += [(text, frozenset()) for text in texts]
    return [(_sentence(text), facts) for text, facts in made]


def vignette(kind: QuestionKind, findings: tuple[str, str], town: str, trade: str, rng: random.Random) -> str:
    """The stem of a question: two findings amid age, trade and town."""
    text = rng.choice(_VIGNETTE).format(age=rng.randint(18, 89), p=trade, t=town, f1=findings[0], f2=findings[1])
    return f"{_sentence(text)} {rng.choice(_ASK[kind])}"


def rationale(kind: QuestionKind, findings: tuple[str, str], chain: list[str], rng: random.Random) -> str:
    """A chain of thought in words.

    Args:
        chain: disease and carrier, disease and drug, or disease, drug and enzyme, as the kind of question asks.
    """
    f1, f2 = findings if rng.random() < 0.5 else findings[::-1]
    steps = [rng.choice(_POINT).format(f1=f1, f2=f2, d=chain[0])]
    if kind == "carrier":
        steps.append(rng.choice(_SPREAD_BY).format(d=chain[0], c=chain[1]))
    else:
        steps.append(rng.choice(_TREATED).format(d=chain[0], r=chain[1]))
    if kind == "enzyme":
        steps.append(rng.choice(_BLOCKS).format(r=chain[1], e=chain[2]))
    return " ".join(_sentence(step) for step in steps)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
