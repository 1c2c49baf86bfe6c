"""The inner loops of a search, compiled by numba; :mod:`kardlib.index_numpy` gives the same bits without it.

Why not bm25s's own compiled retrieval: its heap leaves the order of equal scores to chance, it allocates an array of
all passages for every query, and it knows one matrix, not shards with a threshold carried from one to the next. The
accumulation itself is bm25s's: float32 additions in the order of the query's terms.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .index_numpy import Gathered, gathered
from .index_shard import Columns

_BLOCK, _ROOM = 64, 4


@njit(nogil=True, cache=True)
def _column(terms: np.ndarray, number: int) -> int:
    """Column of a term, -1 where the shard has none."""
    low, high = 0, len(terms)
    while low < high:
        middle = (low + high) >> 1
        if terms[middle] < number:
            low = middle + 1
        else:
            high = middle
    return low if low < len(terms) and terms[low] == number else -1


@njit(nogil=True, cache=True)
def _add(
    indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, terms: np.ndarray, query: np.ndarray, total: np.ndarray
) -> None:
    for number in query:
        column = _column(terms, number)
        if column >= 0:
            # Unsigned places spare the test for negative ones.
            for j in range(indptr[column], indptr[column + 1]):
                total[np.uint32(indices[j])] += data[j]


@njit(nogil=True, cache=True)
def _thin(scores: np.ndarray, places: np.ndarray, filled: int, k: int) -> np.float32:
    """Leave the best k of the hits, in the order of their places; returns the worst score left."""
    floor = np.partition(scores[:filled], filled - k)[filled - k]
    above, kept = 0, 0
    for i in range(filled):
        above += scores[i] > floor
    equal = k - above  # the first so many of those with the worst score stay
    for i in range(filled):
        if scores[i] > floor or (scores[i] == floor and equal > 0):
            equal -= scores[i] == floor
            scores[kept], places[kept] = scores[i], places[i]
            kept += 1
    return floor


@njit(nogil=True, cache=True)
def _keep(
    total: np.ndarray, first: int, scores: np.ndarray, places: np.ndarray, filled: int, floor: np.float32, k: int
) -> tuple[int, np.float32]:
    """Gather a shard's scores above the floor and clear them all.

    Places come in order, so a later one never displaces an equal score. Hits are gathered in room for several times k
    and thinned out when it is full; that costs less than a heap, whose every step is a branch nobody can foresee.
    """
    # Rows of a constant length and a 32-bit flag are what the compiler turns into vector comparisons.
    whole = len(total) // _BLOCK * _BLOCK
    rows = total[:whole].reshape(-1, _BLOCK)
    for start in range(0, len(total), _BLOCK):
        better = np.int32(start == whole)
        if start < whole:
            row = start // _BLOCK
            for i in range(_BLOCK):
                better |= np.int32(rows[row, i] > floor)
        if better:
            for i in range(start, min(start + _BLOCK, len(total))):
                if total[i] > floor:
                    if filled == len(scores):
                        floor, filled = _thin(scores, places, filled, k), k
                        if total[i] <= floor:
                            continue
                    scores[filled], places[filled] = total[i], first + i
                    filled += 1
    total[:] = 0
    return filled, floor


@njit(nogil=True, cache=True)
def _search(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    terms: np.ndarray,
    queries: np.ndarray,
    ends: np.ndarray,
    first: int,
    total: np.ndarray,
    scores: np.ndarray,
    places: np.ndarray,
    filled: np.ndarray,
    floors: np.ndarray,
    k: int,
) -> None:
    for i in range(len(ends) - 1):
        _add(indptr, indices, data, terms, queries[ends[i] : ends[i + 1]], total)
        filled[i], floors[i] = _keep(total, first, scores[i], places[i], filled[i], floors[i], k)


@njit(nogil=True, cache=True)
def _settle(scores: np.ndarray, places: np.ndarray, filled: np.ndarray, k: int) -> None:
    for i in range(len(filled)):
        if filled[i] > k:
            _thin(scores[i], places[i], filled[i], k)


def room(queries: int, k: int, passages: int) -> Gathered:
    """Empty room for the hits of so many queries; k is at most the number of passages."""
    return gathered(queries, k, min(_ROOM * k, passages))


def search(
    columns: Columns, queries: np.ndarray, ends: np.ndarray, first: int, total: np.ndarray, hits: Gathered
) -> None:
    """Gather the hits of each query in one shard; shards come in order.

    Args:
        queries: numbers of the terms of all queries, int32; query i has ``queries[ends[i] : ends[i + 1]]``.
        first: place of the shard's first passage.
        total: zeros, float32 ``(passages of the shard,)``; zeros again afterwards.
        hits: from :func:`room`.
    """
    _search(*columns, queries, ends, first, total, *hits)


def settle(hits: Gathered) -> None:
    """Leave the best k hits of each query, in any order, in the first k columns."""
    _settle(hits.scores, hits.places, hits.filled, hits.k)


def add(columns: Columns, query: np.ndarray, total: np.ndarray) -> None:
    """Add the scores of one query over one shard to ``total``, float32 ``(passages of the shard,)``."""
    _add(*columns, query, total)


@njit(nogil=True, cache=True)
def _score(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    terms: np.ndarray,
    query: np.ndarray,
    places: np.ndarray,
    scores: np.ndarray,
) -> None:
    for number in query:
        column = _column(terms, number)
        if column < 0:
            continue
        for i in range(len(places)):
            low, high = indptr[column], indptr[column + 1]
            end = high
            while low < high:
                middle = (low + high) >> 1
                if indices[middle] < places[i]:
                    low = middle + 1
                else:
                    high = middle
            if low < end and indices[low] == places[i]:
                scores[i] += data[low]


def score(columns: Columns, query: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Scores of given places within a shard, found by bisection in each term's postings; float32 ``(places,)``."""
    scores = np.zeros(len(places), dtype=np.float32)
    _score(*columns, query, places, scores)
    return scores
