"""Searching by looking up: every kappa, kappa*, k, hits@k and silver row is a look-up in a candidate store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bm25 import Hit
from .candidate_store import CandidateStore, ManySearcher
from .errors import KardError
from .passage_source import PassageSource


class StoredSearcher:
    """Stands where :mod:`kardlib.candidates` takes a searcher.

    Args:
        store: the candidates of many queries in ``index``.
        index: gives the passages, and the scores of passages that a query did not find.
        live: whether a query that is not stored, or not deep enough, is searched for; else it is an error.
    """

    def __init__(self, store: CandidateStore, index: ManySearcher, live: bool = False) -> None:
        self._store, self._index, self._live = store, index, live

    @property
    def passages(self) -> PassageSource:
        """The knowledge base that places belong to."""
        return self._index.passages

    def hits(self, query: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Places (int64) and scores (float32) of the k best passages, best first.

        Raises:
            KardError: they are not stored, and nothing may be searched for.
        """
        if self._live and self._store.depth(query) < k:
            if k < 1:
                raise KardError(f"k = {k}: at least one passage must be asked for")
            places, scores = self._index.search_many([query], k)[0]
            return np.asarray(places, np.int64), np.asarray(scores, np.float32)
        return self._store.hits(query, k)

    def search(self, query: str, k: int) -> list[Hit]:
        """The k best passages; see :meth:`hits`."""
        places, scores = self.hits(query, k)
        return [Hit(place, score) for place, score in zip(places.tolist(), scores.tolist(), strict=True)]

    def score(self, query: str, places: Sequence[int] | np.ndarray) -> np.ndarray:
        """Scores of some passages, float32: looked up where the query found them, computed where it did not."""
        depth = self._store.depth(query)
        found = zip(*(a.tolist() for a in self._store.hits(query, depth)), strict=True) if depth else ()
        known: dict[int, float] = dict(found)
        unknown = [place for place in places if int(place) not in known]
        if unknown:
            known |= zip(map(int, unknown), self._index.score(query, np.asarray(unknown)).tolist(), strict=True)
        return np.asarray([known[int(place)] for place in places], np.float32)

    def scores(self, query: str) -> np.ndarray:
        """Scores of all passages, shape ``(len(passages),)``, float32. What needs them all is not for large indexes."""
        return self._index.scores(query)
