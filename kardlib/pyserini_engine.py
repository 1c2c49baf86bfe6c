"""Lucene itself behind the interface of :mod:`kardlib.bm25`, through pyserini: the authors' index.

Optional: pyserini is no dependency of the kit, and needs Java (its version 0.25 ran on Java 17, newer ones want 21).
What it finds can be had without either; see ``docs/lucene_parity.md``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from .bm25 import K1, B, Hit
from .errors import KardError
from .passage_source import PassageSource
from .records import Passage

_AT_ONCE = 1000


def build_lucene_index(source: PassageSource, folder: Path | str, threads: int = 1) -> None:
    """Build Lucene's index of passages; a document's name is the passage's place, padded so that ties go by it.

    Args:
        source: passages, sorted by id.
        folder: is made; must not hold anything.
        threads: of Lucene.

    Raises:
        KardError: pyserini or Java is absent, or the folder is not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise KardError(f"Lucene index {folder}: something is there already")
    indexer = _pyserini("pyserini.index.lucene").LuceneIndexer(str(folder), threads=threads)
    batch: list[dict[str, str]] = []
    for place, passage in enumerate(source):
        batch.append({"id": f"{place:010d}", "contents": passage.text})
        if len(batch) == _AT_ONCE:
            indexer.add_batch_dict(batch)
            batch = []
    if batch:
        indexer.add_batch_dict(batch)
    indexer.close()


class LuceneEngine:
    """Searches what :func:`build_lucene_index` built; a :class:`kardlib.bm25.Searcher`.

    Args:
        source: the passages that the index was built of.
        folder: the index.

    Raises:
        KardError: pyserini, Java or the index is absent, or it holds another number of passages.
    """

    def __init__(self, source: PassageSource, folder: Path | str, k1: float = K1, b: float = B) -> None:
        if not Path(folder).is_dir():
            raise KardError(f"Lucene index {folder}: there is none")
        self.passages: Sequence[Passage] | PassageSource = source
        self._lucene = _pyserini("pyserini.search.lucene").LuceneSearcher(str(folder))
        if self._lucene.num_docs != len(source):
            held = f"it holds {self._lucene.num_docs:,} passages, the source has {len(source):,}"
            raise KardError(f"Lucene index {folder}: {held}")
        self._lucene.set_bm25(k1, b)

    def search(self, query: str, k: int) -> list[Hit]:
        """The k best passages; where fewer have a word of the query, the first of the others follow with score 0."""
        return self._filled(self._lucene.search(query, _checked(k)) if query.strip() else [], k)

    def search_many(self, queries: Sequence[str], k: int, threads: int | None = None) -> list[list[Hit]]:
        """What :meth:`search` gives for each query; Lucene uses so many threads, or one for every core."""
        asked = {str(i): query for i, query in enumerate(queries) if query.strip()}
        threads = threads or os.cpu_count() or 1
        found = self._lucene.batch_search([*asked.values()], [*asked], _checked(k), threads) if asked else {}
        return [self._filled(found.get(str(i), []), k) for i in range(len(queries))]

    def scores(self, query: str) -> np.ndarray:
        """Scores of all passages, float32: those that Lucene finds when asked for all, 0 for the others."""
        total = np.zeros(len(self.passages), np.float32)
        for hit in self._lucene.search(query, len(total)) if query.strip() else ():
            total[int(hit.docid)] = hit.score
        return total

    def score(self, query: str, places: Sequence[int]) -> np.ndarray:
        """Scores of some passages, named by their places; it costs as much as those of all."""
        return self.scores(query)[list(places)]

    @cached_property
    def texts(self) -> dict[str, str]:
        """Passage texts by id."""
        return {passage.id: passage.text for passage in self.passages}

    def _filled(self, found: Sequence[object], k: int) -> list[Hit]:
        hits = [Hit(int(hit.docid), float(hit.score)) for hit in found]  # type: ignore[attr-defined]
        held = {hit.index for hit in hits}
        missing = min(k, len(self.passages)) - len(hits)
        # Among the first k places at most len(hits) are taken, so these are enough.
        rest = [place for place in range(min(k, len(self.passages))) if place not in held] if missing > 0 else []
        return hits + [Hit(place, 0.0) for place in rest[:missing]]


def _checked(k: int) -> int:
    if k < 1:
        raise KardError(f"k = {k}: at least one passage must be asked for")
    return k


def _pyserini(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise KardError(f"engine pyserini: it cannot be imported ({error}); pip install pyserini") from None
    except Exception as error:  # jnius raises its own kinds where there is no Java, or one too old
        first = (str(error).splitlines() or [""])[0]
        raise KardError(f"engine pyserini: it or Java does not start ({type(error).__name__}: {first})") from None
