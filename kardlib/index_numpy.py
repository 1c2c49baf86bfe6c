"""The inner loops of a search in numpy: the same functions, and the same bits, as :mod:`kardlib.index_numba`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .index_shard import Columns


class Gathered(NamedTuple):
    """Hits of some queries while the shards go by.

    Attributes:
        scores: float32 ``(queries, width)``, the first ``filled`` of each row in use.
        places: int64, likewise.
        filled: int64 ``(queries,)``.
        floors: float32 ``(queries,)``; no score up to it can be among the best k any more.
        k: how many are wanted.
    """

    scores: np.ndarray
    places: np.ndarray
    filled: np.ndarray
    floors: np.ndarray
    k: int


def gathered(queries: int, k: int, width: int) -> Gathered:
    """Nothing gathered yet; scores are never negative."""
    scores, places = np.zeros((queries, width), np.float32), np.zeros((queries, width), np.int64)
    return Gathered(scores, places, np.zeros(queries, np.int64), np.full(queries, -1, np.float32), k)


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


def room(queries: int, k: int, passages: int) -> Gathered:
    """Empty room for the hits of so many queries; k is at most the number of passages."""
    return gathered(queries, k, k)


def search(
    columns: Columns, queries: np.ndarray, ends: np.ndarray, first: int, total: np.ndarray, hits: Gathered
) -> None:
    """Gather the hits of each query in one shard; see :func:`kardlib.index_numba.search`."""
    for i in range(len(ends) - 1):
        add(columns, queries[ends[i] : ends[i + 1]], total)
        held = int(hits.filled[i])
        near = np.flatnonzero(total > hits.floors[i])
        both = np.concatenate([hits.scores[i, :held], total[near]])
        where = np.concatenate([hits.places[i, :held], near + first])
        keep = _best(both, hits.k)  # those held come first, so of equal scores the first place stays
        hits.scores[i, : len(keep)], hits.places[i, : len(keep)] = both[keep], where[keep]
        hits.filled[i] = len(keep)
        if len(keep) == hits.k:
            hits.floors[i] = both[keep[-1]]
        total[:] = 0


def settle(hits: Gathered) -> None:
    """Nothing is left to do: :func:`search` keeps k hits."""


def score(columns: Columns, query: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Scores of given places within a shard, found by bisection in each term's postings; float32 ``(places,)``."""
    scores = np.zeros(len(places), dtype=np.float32)
    for start, end in _spans(columns, query):
        at = start + np.searchsorted(columns.indices[start:end], places)
        held = np.flatnonzero(np.take(columns.indices, np.minimum(at, end - 1)) == places)
        scores[held] += columns.data[at[held]]
    return scores
