"""Invented names of two tokens each, in inventories that never share a name.

A name is a syllable and a kind-specific ending (``vor`` + ``mia``). The cell (syllable i, ending j) belongs
to one inventory by ``(i + j) mod 4``, so the worlds that pre-train the base models, the worlds on which the
kit was developed and the worlds that are reported draw on the same tokens and on disjoint names, for every seed.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Literal

Kind = Literal["disease", "finding", "drug", "enzyme", "carrier", "town", "trade"]
Inventory = Literal["pretraining", "development", "reported"]

_ONSETS = "bdfgklmnprtv"
_ENDINGS: dict[Kind, tuple[str, str]] = {
    "disease": ("ia", "osis"),
    "finding": ("ema", "algy"),
    "drug": ("ol", "ine"),
    "enzyme": ("ase", "yme"),
    "carrier": ("ek", "ug"),
    "town": ("ton", "by"),
    "trade": ("smith", "wright"),
}
KINDS: tuple[Kind, ...] = tuple(_ENDINGS)
_CLASSES: dict[Inventory, tuple[int, ...]] = {"pretraining": (0, 1), "development": (2,), "reported": (3,)}


def _make_syllables(count: int) -> tuple[str, ...]:
    every = [a + v + b for a in "bdfgklmnprstvz" for v in "aeiou" for b in "bdfgklmnprstvx"]
    return tuple(sorted(random.Random(20230515).sample(every, count)))


SYLLABLES: tuple[str, ...] = _make_syllables(120)
"""First tokens, shared by every kind of name."""


def endings(kind: Kind) -> tuple[str, ...]:
    """The 24 second tokens of a kind of name."""
    return tuple(onset + ending for ending in _ENDINGS[kind] for onset in _ONSETS)


@cache
def inventory(kind: Kind, which: Inventory) -> tuple[str, ...]:
    """All names of a kind in one inventory: 720, or 1,440 for pre-training."""
    classes = _CLASSES[which]
    tails = endings(kind)
    return tuple(
        head + tail for i, head in enumerate(SYLLABLES) for j, tail in enumerate(tails) if (i + j) % 4 in classes
    )
