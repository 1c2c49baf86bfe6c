"""Invented names of two tokens each, in inventories that never share a name.

A name is a syllable and a kind-specific ending (``vor`` + ``mia``). Each cell (syllable i, ending j) belongs to one
inventory, so the worlds that pre-train the base models, the worlds on which the kit was developed and the worlds that
are reported draw on the same tokens and on disjoint names, for every seed. Pre-training has five cells out of six:
where it had only half of them, a model learned by heart which names exist and misread the others.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from functools import cache
from typing import Literal

Kind = Literal["disease", "finding", "drug", "enzyme", "carrier", "town", "trade"]
Inventory = Literal["narrow", "pretraining", "development", "reported"]

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
_NARROW = 120


def _make_syllables(count: int, seed: int, without: Sequence[str] = ()) -> tuple[str, ...]:
    every = [a + v + b for a in "bdfgklmnprstvz" for v in "aeiou" for b in "bdfgklmnprstvx"]
    return tuple(sorted(random.Random(seed).sample([s for s in every if s not in without], count)))


NARROW_SYLLABLES: tuple[str, ...] = _make_syllables(_NARROW, 20230515)
# "sold" is a word of the passages and would swallow the syllable "sol".
MORE_SYLLABLES: tuple[str, ...] = _make_syllables(200, 20230516, (*NARROW_SYLLABLES, "sol"))
SYLLABLES: tuple[str, ...] = NARROW_SYLLABLES + MORE_SYLLABLES
"""First tokens, shared by every kind of name."""
_KNOWN = frozenset(SYLLABLES)


@cache
def endings(kind: Kind) -> tuple[str, ...]:
    """The 24 second tokens of a kind of name."""
    return tuple(onset + ending for ending in _ENDINGS[kind] for onset in _ONSETS)


def class_of(name: str) -> str:
    """The class that a name's ending tells, one of two for each kind: ``ol`` or ``ine`` for a drug.

    Raises:
        StopIteration: it is no name.
    """
    return next(ending for pair in _ENDINGS.values() for ending in pair if name.endswith(ending))


def is_name(word: str) -> bool:
    """Whether a word is built like a name, of this or of any other world."""
    return word[:3] in _KNOWN and any(word[3:] in endings(kind) for kind in KINDS)


@cache
def inventory(kind: Kind, which: Inventory) -> tuple[str, ...]:
    """All names of a kind in one inventory.

    ``narrow`` is a part of ``pretraining`` that its first phase keeps to; the other inventories share no name.
    """
    return tuple(
        head + tail
        for i, head in enumerate(SYLLABLES)
        for j, tail in enumerate(endings(kind))
        if which == _inventory_of(i, j, kind) or (which == "narrow" and _is_narrow(i, j))
    )


def _is_narrow(i: int, j: int) -> bool:
    return i < _NARROW and (i + j) % 4 < 2


def _inventory_of(i: int, j: int, kind: Kind) -> Inventory:
    if _is_narrow(i, j):
        return "pretraining"
    # A hash leaves no pattern from which a model could tell which names are missing.
    tenth = int.from_bytes(hashlib.sha256(f"{kind}-{i}-{j}".encode()).digest()[:4], "big") % 10
    return "development" if tenth == 0 else "reported" if tenth == 1 else "pretraining"
