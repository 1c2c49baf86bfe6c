"""The inner loops of a search in numpy: the same functions, and the same bits, as :mod:`kardlib.index_numba`."""

from __future__ import annotations

import numpy as np

from .index_shard import Columns


def _spans(columns: Columns, query: np.ndarray) -> list[tuple[int, int]]:
    """First and last posting of each of the query's terms that the shard has, in the query's order."""
    at = np.searchsorted(columns.terms, query)
    at = at[np.take(columns.terms, at, mode="clip") == query] if len(columns.terms) else at[:0]
    return list(zip(columns.indptr[at].tolist(), columns.indptr[at + 1].tolist(), strict=True))


def add(columns: Columns, query: np.ndarray, total: np.ndarray) -> None:
    """Add the scores of one query over one shard to ``total``, float32 ``(passages of the shard,)``."""
    for start, end in _spans(columns, query):
        total[columns.indices[start:end]] += columns.data[start:end]  # a term has each passage once


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """Where the k largest scores are, best first; of equal ones the first."""
    k = min(k, len(scores))
    floor = np.partition(scores, len(scores) - k)[len(scores) - k]
    near = np.flatnonzero(scores >= floor)
    return near[np.argsort(-scores[near], kind="stable")][:k]


def search(
    columns: Columns, queries: np.ndarray, ends: np.ndarray, first: int, total: np.ndarray, best: tuple, held: int
) -> int:
    """Merge a shard into the best hits of each query; see :func:`kardlib.index_numba.search`."""
    scores, places = best
    filled = min(held + len(total), scores.shape[1])
    for i in range(len(ends) - 1):
        add(columns, queries[ends[i] : ends[i + 1]], total)
        near = np.arange(len(total)) if held < filled else np.flatnonzero(total > scores[i, :held].min())
        both = np.concatenate([scores[i, :held], total[near]])
        where = np.concatenate([places[i, :held], near + first])
        keep = _best(both, filled)
        scores[i, :filled], places[i, :filled] = both[keep], where[keep]
        total[:] = 0
    return filled


def score(columns: Columns, query: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Scores of given places within a shard, found by bisection in each term's postings; float32 ``(places,)``."""
    scores = np.zeros(len(places), dtype=np.float32)
    for start, end in _spans(columns, query):
        at = start + np.searchsorted(columns.indices[start:end], places)
        held = np.flatnonzero(np.take(columns.indices, np.minimum(at, end - 1)) == places)
        scores[held] += columns.data[at[held]]
    return scores
