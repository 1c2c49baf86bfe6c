"""Search: 200 rationales over 313,606 passages, top 100, all cores, against rank_bm25 and Lucene; growth to there."""

from __future__ import annotations

import importlib.util
import os
import sys

import numpy as np

from benchmarks.lucene import lucene_search_seconds
from benchmarks.passages import Numbered, data_folder, parity, texts
from benchmarks.rows import Row, row, seconds, work
from kardlib.analysis import PLAIN
from kardlib.bm25 import K1, B
from kardlib.errors import KardError
from kardlib.index import Index
from kardlib.index_build import build_index
from kardlib.index_manifest import read_manifest
from kardlib.lucene_parity import parity as agreement
from kardlib.lucene_parity import read_lucene_top

K = 100
_TIMED = 4


def opened(source: Numbered, name: str) -> Index:
    """The index of that name in the benchmarks' folder; built where it is not there, or of other passages."""
    folder = work() / name
    try:
        fits = read_manifest(folder).digest == source.digest
    except KardError:
        fits = False
    if not fits:
        build_index(source, folder)
    return Index.open(folder, source)


def our_seconds(index: Index, queries: list[str]) -> float:
    """Seconds for all queries with all cores, warm: median of seven runs after one with the same queries."""
    index.search_many(queries, K)
    return seconds(lambda: index.search_many(queries, K), 7)


def analysed(texts: list[str]) -> list[list[str]]:
    """Terms of texts, each distinct term held once."""
    return [list(map(sys.intern, PLAIN.terms(text))) for text in texts]


def rank_bm25_seconds(passages: list[list[str]], queries: list[list[str]]) -> float:
    """Seconds that rank_bm25 takes for all queries.

    It goes through all passages for each term of a query, so its time is in proportion to the terms: a few queries are
    timed, spread over all lengths, after one that is not.
    """
    from rank_bm25 import BM25Okapi

    engine, queries = BM25Okapi(passages, k1=K1, b=B), sorted(queries, key=len)
    few = [queries[int(at)] for at in np.linspace(len(queries) / 10, len(queries) * 0.9, _TIMED)]

    def top(terms: list[str]) -> np.ndarray:
        scores = engine.get_scores(terms)
        return np.argpartition(-scores, K)[:K]

    top(few[0][:3])
    per_term = seconds(lambda: [top(terms) for terms in few]) / sum(map(len, few))
    return per_term * sum(map(len, queries))


def bm25s_seconds(passages: list[list[str]], queries: list[str]) -> float:
    """Seconds that bm25s takes for all queries by its own compiled retrieval, all cores, warm."""
    import bm25s

    engine = bm25s.BM25(k1=K1, b=B, method="lucene", backend="numba")
    engine.index(passages, show_progress=False)

    def all_queries() -> None:
        engine.retrieve(analysed(queries), k=K, show_progress=False, n_threads=os.cpu_count() or 1)

    all_queries()
    return seconds(all_queries, 7)


def rows() -> list[Row]:
    """The rows of this section."""
    passages, queries = texts(), parity()["queries"]
    source = Numbered(passages)
    index = opened(source, "simple-wikipedia")
    ours, unit = our_seconds(index, queries), "s for 200 queries"
    name = f"search, top {K} of {len(source):,}"
    same = agreement(index, read_lucene_top(data_folder() / "lucene_parity.json")).overlap[10]
    found = [row(f"{name}: same hits as Lucene, top 10", "Lucene 9", same, 1, "share", "ours/theirs")]
    terms = analysed(passages)
    if importlib.util.find_spec("numba"):
        found.append(row(name, "bm25s, numba", ours, bm25s_seconds(terms, queries), unit))
    found.append(row(name, "rank_bm25", ours, rank_bm25_seconds(terms, analysed(queries)), unit))
    found.append(row(name, "Lucene (pyserini)", ours, lucene_search_seconds(passages, queries, K), unit))
    return found
