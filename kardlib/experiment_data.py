"""The data set of an experiment: read or generated, over its own passages or over those of an index."""

from __future__ import annotations

from dataclasses import replace

from .dataset import DataSet
from .endpoint_teacher import is_endpoint
from .knowledge_base import KnowledgeBase
from .presets import Settings
from .readers import read_dataset
from .teacher_entries import teacher_entry


def data_of(settings: Settings, base: KnowledgeBase | None = None) -> DataSet:
    """The data set that the settings name.

    Args:
        base: takes the place of the set's own passages.
    """
    data = read_dataset(settings)
    if is_endpoint(settings.teacher) and (note := teacher_entry(settings.teacher).note):
        data = replace(data, notes=[*data.notes, f"teacher {settings.teacher}: {note}"])
    return data if base is None else _with_passages(data, base)


def _with_passages(data: DataSet, base: KnowledgeBase) -> DataSet:
    """The questions of a data set over another knowledge base, which says where it is from."""
    own = {note for note in data.notes if note.startswith("the knowledge base")}
    notes = [*(note for note in data.notes if note not in own), f"knowledge base: {base.manifest}"]
    return replace(data, passages=base, notes=[*notes, *base.manifest.notes])
