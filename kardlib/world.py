"""The mini world: an invented clinic, generated from a seed.

Every disease has three findings, one drug and one carrier; every drug blocks one enzyme. Nothing in it exists
elsewhere, so no model can know it from its pre-training. How often a disease is asked about follows Zipf's law.
A result on this world shows the method at work; it is no evidence about the real world.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from .names import Inventory, Kind, inventory

Relation = Literal["shows", "treated_with", "spread_by", "blocks", "lives_near", "known_for"]


class Fact(NamedTuple):
    """One thing that is true in the world."""

    subject: str
    relation: Relation
    object: str


@dataclass(frozen=True)
class WorldSize:
    """How many entities a world has, and how skewed its questions are.

    Attributes:
        zipf: exponent of the law that draws a question's disease by its rank.
    """

    diseases: int = 600
    findings: int = 150
    drugs: int = 240
    enzymes: int = 60
    carriers: int = 90
    towns: int = 90
    trades: int = 40
    zipf: float = 1.0


STANDARD = WorldSize()


@dataclass
class World:
    """Entities and facts of one invented clinic (diseases are in order of frequency)."""

    size: WorldSize
    findings: dict[str, tuple[str, ...]]
    drug: dict[str, str]
    carrier: dict[str, str]
    enzyme: dict[str, str]
    town_trade: dict[str, str]
    carrier_town: dict[str, str]

    @property
    def diseases(self) -> list[str]:
        return list(self.findings)

    def with_finding(self, finding: str) -> list[str]:
        """Diseases that show a finding."""
        return self._by_finding.get(finding, [])

    def __post_init__(self) -> None:
        self._by_finding: dict[str, list[str]] = {}
        for disease, findings in self.findings.items():
            for finding in findings:
                self._by_finding.setdefault(finding, []).append(disease)

    @cached_property
    def weights(self) -> list[float]:
        """Zipf weights of the diseases, by rank."""
        return [1.0 / (rank + 1) ** self.size.zipf for rank in range(len(self.findings))]


def make_world(seed: int, which: Inventory, size: WorldSize = STANDARD) -> World:
    """Generate a world.

    Args:
        seed: the same seed gives the same world.
        which: the inventory of names; ``reported`` shares no name with ``pretraining`` or ``development``.
        size: numbers of entities.

    Returns:
        A world in which any two findings of a disease belong to that disease alone.
    """
    rng = random.Random(f"world-{which}-{seed}")

    def draw(kind: Kind, count: int) -> list[str]:
        return rng.sample(inventory(kind, which), count)

    diseases, findings = draw("disease", size.diseases), draw("finding", size.findings)
    drugs, enzymes = draw("drug", size.drugs), draw("enzyme", size.enzymes)
    carriers, towns, trades = draw("carrier", size.carriers), draw("town", size.towns), draw("trade", size.trades)
    return World(
        size=size,
        findings=_distinct_triples(diseases, findings, rng),
        drug={d: rng.choice(drugs) for d in diseases},
        carrier={d: rng.choice(carriers) for d in diseases},
        enzyme={r: rng.choice(enzymes) for r in drugs},
        town_trade={t: rng.choice(trades) for t in towns},
        carrier_town={c: rng.choice(towns) for c in carriers},
    )


def _distinct_triples(diseases: list[str], findings: list[str], rng: random.Random) -> dict[str, tuple[str, ...]]:
    """Three findings a disease, so that no pair of findings is used twice."""
    used: set[frozenset[str]] = set()
    result: dict[str, tuple[str, ...]] = {}
    for disease in diseases:
        while True:
            triple = tuple(rng.sample(findings, 3))
            pairs = {frozenset((triple[a], triple[b])) for a, b in ((0, 1), (0, 2), (1, 2))}
            if not pairs & used:
                break
        used |= pairs
        result[disease] = triple
    return result
