"""The data set of an experiment: read or generated, over its own passages or over those of an index."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from .dataset import DataSet
from .knowledge_base import KnowledgeBase
from .presets import MINI_SETS, SPLIT_SIZES, Settings, resolve
from .readers import read_dataset


def data_of(settings: Settings, base: KnowledgeBase | None = None) -> DataSet:
    """The data set that the settings name.

    Args:
        base: takes the place of the set's own passages.
    """
    s = settings
    if s.dataset in MINI_SETS:
        sizes = tuple(SPLIT_SIZES[s.size].items())
        data = _copied(_generated(s.dataset, s.world, s.inventory, s.size, s.share, sizes))
    else:
        data = read_dataset(s)
    return data if base is None else _with_passages(data, base)


# The cells of a table share their questions, and making a set takes up to a second; ``sizes`` is part of the key alone.
@lru_cache(maxsize=3)
def _generated(
    dataset: str, world: int, inventory: str, size: str, share: float, sizes: tuple[tuple[str, int], ...]
) -> DataSet:
    return read_dataset(resolve("mini", dataset=dataset, world=world, inventory=inventory, size=size, share=share))


def _copied(data: DataSet) -> DataSet:
    """The same data set with lists of its own."""
    return replace(
        data, train=[*data.train], dev=[*data.dev], test=[*data.test], passages=[*data.passages], notes=[*data.notes]
    )


def _with_passages(data: DataSet, base: KnowledgeBase) -> DataSet:
    """The questions of a data set over another knowledge base, which says where it is from."""
    own = {note for note in data.notes if note.startswith("the knowledge base")}
    notes = [*(note for note in data.notes if note not in own), f"knowledge base: {base.manifest}"]
    return replace(data, passages=base, notes=[*notes, *base.manifest.notes])
