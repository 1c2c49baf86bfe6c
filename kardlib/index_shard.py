"""One shard of an index: the postings of some consecutive passages, in the columns (CSC) that bm25s uses.

File: ``indptr`` int64 ``(terms + 1,)``, ``indices`` int32 ``(postings,)``, ``data`` float32 ``(postings,)``, ``terms``
int32 ``(terms,)``. Column j belongs to the term with number ``terms[j]`` in the vocabulary: ``indices`` are places
within the shard, ascending, and ``data`` that term's part of the score. While an index is being built, ``data`` holds
term frequencies and ``terms`` is not filled.

bm25s computes both at once and passage by passage, from the tokens of all passages in memory; its formulas for the two
factors of a score are used here as they are, over whole columns.
"""

from __future__ import annotations

import itertools
from array import array
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from bm25s.scoring import _select_idf_scorer, _select_tfc_scorer

from .analysis import Analysis
from .index_vocabulary import read_array

_STRIDE = 1 << 20


class Columns(NamedTuple):
    """The arrays of a shard; see above."""

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    terms: np.ndarray


class Counted(NamedTuple):
    """What the passages of a shard hold.

    Attributes:
        terms: distinct, sorted.
        columns: with term frequencies as ``data``; its ``terms`` are places in ``terms``.
        lengths: terms of each passage, repeats counted, int64.
    """

    terms: list[str]
    columns: Columns
    lengths: np.ndarray


def count_terms(texts: Iterable[str], analysis: Analysis) -> Counted:
    """Count the terms of passages.

    Pieces of text become numbers as they are cut; each distinct piece is analysed once.
    """
    number: defaultdict[str, int] = defaultdict(itertools.count().__next__)
    flat, ends = array("i"), array("q", [0])
    for text in texts:
        flat.extend(map(number.__getitem__, analysis.pieces(text)))
        ends.append(len(flat))
    found = [analysis.terms_of(piece) for piece in number]
    del number
    terms = sorted(set(itertools.chain.from_iterable(found)))
    place = {term: i for i, term in enumerate(terms)}
    counts = np.array([len(held) for held in found], dtype=np.int32)
    term_of = np.array([place[term] for held in found for term in held], dtype=np.int32)
    del found, place
    passage = np.repeat(np.arange(len(ends) - 1, dtype=np.int32), np.diff(np.frombuffer(ends, dtype=np.int64)))
    piece = np.frombuffer(flat, dtype=np.int32) if len(flat) else np.zeros(0, np.int32)
    return _columns(terms, *_terms_of_pieces(piece, passage, counts, term_of), len(ends) - 1)


def _terms_of_pieces(
    piece: np.ndarray, passage: np.ndarray, counts: np.ndarray, term_of: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Term and passage of every term in the text: those of piece p are the next ``counts[p]`` in ``term_of``."""
    held = counts[piece]
    first = np.cumsum(counts, dtype=np.int32) - counts
    # The n-th term of the text is where its piece's terms start, plus n, less the terms of the text before that piece.
    where = np.repeat(first[piece] - (np.cumsum(held, dtype=np.int32) - held), held)
    where += np.arange(len(where), dtype=np.int32)
    return term_of[where], np.repeat(passage, held)


def _columns(terms: list[str], term: np.ndarray, passage: np.ndarray, passages: int) -> Counted:
    """Sort pairs (term, passage) and count equal ones; one 64-bit key a pair sorts fastest."""
    lengths = np.bincount(passage, minlength=passages)
    bits = passages.bit_length()
    keys = (term.astype(np.int64) << bits) | passage
    keys.sort()
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    frequency = np.diff(starts, append=len(keys)).astype(np.float32)
    keys = keys[starts]
    indptr = np.zeros(len(terms) + 1, dtype=np.int64)
    np.cumsum(np.bincount(keys >> bits, minlength=len(terms)), out=indptr[1:])
    indices = (keys & ((1 << bits) - 1)).astype(np.int32)
    return Counted(terms, Columns(indptr, indices, frequency, np.arange(len(terms), dtype=np.int32)), lengths)


def write_columns(path: Path, columns: Columns) -> None:
    """Write the arrays of a shard."""
    with open(path, "wb") as file:
        for values in columns:
            values.tofile(file)


def _split(held: np.ndarray, terms: int, postings: int) -> Columns:
    ends = np.cumsum([8 * (terms + 1), 4 * postings, 4 * postings, 4 * terms]).tolist()
    kinds = (np.int64, np.int32, np.float32, np.int32)
    starts = [0, *ends]
    return Columns(*(held[start:end].view(kind) for start, end, kind in zip(starts, ends, kinds, strict=False)))


def open_columns(path: Path, terms: int, postings: int, mapped: bool = True) -> Columns:
    """The arrays of a shard, read-only, mapped or in memory."""
    return _split(read_array(path, mapped), terms, postings)


def idf(frequencies: np.ndarray, passages: int) -> np.ndarray:
    """Lucene's idf, ln(1 + (N - n + .5) / (n + .5)), float32, of terms that n of N passages hold."""
    formula = _select_idf_scorer("lucene")
    distinct, where = np.unique(frequencies, return_inverse=True)
    return np.array([formula(int(n), N=passages) for n in distinct], dtype=np.float32)[where]


def weigh(columns: Columns, weights: np.ndarray, lengths: np.ndarray, mean: float, k1: float, b: float) -> None:
    """Replace term frequencies by parts of the score, in place.

    Args:
        weights: idf of each column's term, float32.
        lengths: |d| of each passage of the shard.
        mean: average |d| over all shards.
    """
    formula = _select_tfc_scorer("lucene")
    weight = np.repeat(weights, np.diff(columns.indptr))
    for start in range(0, len(weight), _STRIDE):
        part = slice(start, start + _STRIDE)
        frequency, length = columns.data[part].astype(np.float64), lengths[columns.indices[part]].astype(np.float64)
        columns.data[part] = weight[part] * formula(frequency, l_d=length, l_avg=mean, k1=k1, b=b)
