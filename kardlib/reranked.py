"""A ranking of many questions that a kill does not undo: what is ranked is kept as it comes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .candidates import Candidates
from .store import SCRATCH

if TYPE_CHECKING:
    from .reranker import Reranker

RERANKED = "reranked.jsonl"


def rank_into(
    folder: Path, model: Reranker, queries: Sequence[str], candidates: Sequence[Candidates], texts: Mapping[str, str]
) -> None:
    """Rank each query's candidates and write them to ``RERANKED``, in their order.

    Where an earlier attempt was killed, its questions are not ranked again. Others then share a batch with them, so
    scores may differ from those of one go by float noise.

    Args:
        folder: of an artefact in the making; its ``work`` holds what is ranked so far.
    """
    work = folder / SCRATCH
    work.mkdir(exist_ok=True)
    file = work / RERANKED
    done = _whole_lines(file)
    with open(file, "a", encoding="utf-8") as out:
        for one in model.ranked(queries[done:], candidates[done:], texts):
            out.write(one.model_dump_json() + "\n")
            out.flush()
    os.replace(file, folder / RERANKED)


def _whole_lines(file: Path) -> int:
    """Lines of a file, less one that was cut off, which is removed."""
    held = file.read_bytes() if file.exists() else b""
    whole = held[: held.rfind(b"\n") + 1]
    if whole != held:
        os.truncate(file, len(whole))
    return whole.count(b"\n")
