"""The data set of an experiment: read or generated, over its own passages or over those of an index."""

from __future__ import annotations

from dataclasses import replace

from .dataset import DataSet
from .knowledge_base import KnowledgeBase
from .presets import Settings
from .readers import read_dataset
from .teacher_entries import BUILT_IN, teachers


def data_of(settings: Settings, base: KnowledgeBase | None = None) -> DataSet:
    """The data set that the settings name.

    Args:
        base: takes the place of the set's own passages.
    """
    data = read_dataset(settings, base)
    entry = None if settings.teacher in BUILT_IN else teachers().get(settings.teacher)
    if entry and entry.note:
        data = replace(data, notes=[*data.notes, f"teacher {entry.alias}: {entry.note}"])
    return data if base is None else _with_passages(data, base)


def _with_passages(data: DataSet, base: KnowledgeBase) -> DataSet:
    """The questions of a data set over another knowledge base, which says where it is from."""
    own = {note for note in data.notes if note.startswith("the knowledge base")}
    notes = [*(note for note in data.notes if note not in own), f"knowledge base: {base.manifest}"]
    return replace(data, passages=base, notes=[*notes, *base.manifest.notes])
