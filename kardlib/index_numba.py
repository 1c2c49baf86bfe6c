"""The inner loops of a search, compiled by numba; :mod:`kardlib.index_numpy` gives the same bits without it.

Why not bm25s's own compiled retrieval: its heap leaves the order of equal scores to chance, it allocates and clears an
array of all passages for every query, and it knows one matrix, not shards with a threshold carried from one to the
next. The accumulation itself is bm25s's, float32 additions in the order of the query's terms.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .index_shard import Columns

_BLOCK = 64


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
def _sink(scores: np.ndarray, places: np.ndarray, size: int, at: int) -> None:
    """Restore the heap below ``at``; at the root is the worst hit: the lowest score, the last place among equals."""
    score, place = scores[at], places[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            scores[right] < scores[child] or (scores[right] == scores[child] and places[right] > places[child])
        ):
            child = right
        if scores[child] > score or (scores[child] == score and places[child] < place):
            break
        scores[at], places[at] = scores[child], places[child]
        at = child
    scores[at], places[at] = score, place


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
def _offer(total: np.ndarray, start: int, end: int, first: int, scores: np.ndarray, places: np.ndarray) -> None:
    for i in range(start, end):
        if total[i] > scores[0]:
            scores[0], places[0] = total[i], first + i
            _sink(scores, places, len(scores), 0)


@njit(nogil=True, cache=True)
def _keep(total: np.ndarray, first: int, scores: np.ndarray, places: np.ndarray, held: int) -> int:
    """Put a shard's scores into the heap and clear them; later places never displace equal scores.

    Returns:
        How many hits the heap holds.
    """
    k, start = len(scores), 0
    while held < k and start < len(total):
        scores[held], places[held] = total[start], first + start
        held += 1
        start += 1
        if held == k:
            for at in range(k // 2 - 1, -1, -1):
                _sink(scores, places, k, at)
    whole = len(total) // _BLOCK
    # Rows of a constant length and a 32-bit flag are what the compiler turns into vector comparisons.
    rows = total[: whole * _BLOCK].reshape(-1, _BLOCK)
    for row in range(start // _BLOCK, whole):
        worst, better = scores[0], np.int32(0)
        for i in range(_BLOCK):
            better |= np.int32(rows[row, i] > worst)
        if better:
            _offer(total, max(start, row * _BLOCK), (row + 1) * _BLOCK, first, scores, places)
    _offer(total, max(start, whole * _BLOCK), len(total), first, scores, places)
    total[:] = 0
    return held


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
    held: int,
) -> int:
    filled = held
    for i in range(len(ends) - 1):
        _add(indptr, indices, data, terms, queries[ends[i] : ends[i + 1]], total)
        filled = _keep(total, first, scores[i], places[i], held)
    return filled


def search(
    columns: Columns, queries: np.ndarray, ends: np.ndarray, first: int, total: np.ndarray, best: tuple, held: int
) -> int:
    """Merge a shard into the best hits of each query.

    Args:
        queries: numbers of the terms of all queries, int32; query i has ``queries[ends[i] : ends[i + 1]]``.
        first: place of the shard's first passage.
        total: zeros, float32 ``(passages of the shard,)``; zeros again afterwards.
        best: scores float32 and places int64, both ``(queries, k)``, unsorted.
        held: how many of the k are filled.

    Returns:
        How many are filled now.
    """
    return _search(*columns, queries, ends, first, total, *best, held)


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
