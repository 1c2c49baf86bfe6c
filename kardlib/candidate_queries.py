"""The queries that are searched for once: a file's, or every question and rationale of a data set."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

from .candidates import rationale_key
from .dataset import DataSet
from .document_rows import json_lines
from .errors import KardError
from .prompts import query_of
from .raw_rows import Seen, id_field, text_field

WhichRationales = Literal["train", "all", "none"]


def file_queries(path: Path) -> dict[str, str]:
    """Key to text of a JSONL file with the fields ``id`` and ``text``.

    Raises:
        KardError: names the file, the line and the field of the first fault; an id occurs twice; there are none.
    """
    seen, queries = Seen(), {}
    for where, row in json_lines(path):
        key = id_field(row, "id", where)
        seen.add(key, where)
        queries[key] = text_field(row, "text", where)
    if not queries:
        raise KardError(f"{path}: it holds no queries")
    return queries


def dataset_queries(data: DataSet, rationales: WhichRationales = "train") -> dict[str, str]:
    """Key to text of every question (stem and options), and of rationales that the set brings along.

    Args:
        rationales: ``train``, those of the questions that are learned from; ``all``, those of dev and test too, which
            only rows marked as oracles may use: whoever wrote them had the gold answer in view.
    """
    questions = [*data.train, *data.dev, *data.test]
    queries = {question.id: query_of(question) for question in questions}
    wanted = {"train": data.train, "all": questions, "none": []}[rationales]
    return queries | _annotated({question.id for question in wanted}, data)


def _annotated(identifiers: Collection[str], data: DataSet) -> Mapping[str, str]:
    told = (data.annotations[identifier] for identifier in data.annotations if identifier in identifiers)
    return {rationale_key(rationale): rationale.text for rationale in told}
