"""BM25 over an index on disk: the same interface and the same bits as :class:`kardlib.bm25.BM25`, at any size.

A score is a float32 sum over the query's terms in their order, repeats counted, as in bm25s. Nothing else enters it,
so one shard or many, mapped or in memory, numba or numpy, one thread or several give equal places *and* equal scores.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np

from . import index_numpy
from .analysis import Analysis
from .bm25 import Hit
from .errors import KardError
from .index_manifest import Manifest, check_files, check_settings, check_source, read_manifest
from .index_shard import Columns, open_columns
from .index_vocabulary import Vocabulary
from .passage_source import PassageSource

Backend = Literal["auto", "numba", "numpy"]
_PIECES_KEPT = 100_000
# A part of the queries goes through the index once, so an index larger than memory is read once a part.
_AT_ONCE = 2048


class Index:
    """An opened index; use :meth:`open`.

    Attributes:
        passages: what it was built of, in its order; a hit's ``index`` is a place in it.
        manifest: what is stored with the index.
    """

    def __init__(
        self,
        manifest: Manifest,
        source: PassageSource,
        vocabulary: Vocabulary,
        shards: Sequence[Columns],
        kernel: ModuleType,
    ) -> None:
        self.manifest, self.passages = manifest, source
        self._vocabulary, self._shards = vocabulary, shards
        self._firsts = np.array([shard.first for shard in manifest.shards], dtype=np.int64)
        self._kernel = kernel
        self._pieces, self._terms_of = manifest.analysis.pieces, manifest.analysis.terms_of
        self._numbers: dict[str, tuple[int, ...]] = {}

    @classmethod
    def open(
        cls,
        folder: Path | str,
        source: PassageSource,
        mapped: bool = True,
        *,
        analysis: Analysis | None = None,
        k1: float | None = None,
        b: float | None = None,
        lengths: str | None = None,
        backend: Backend = "auto",
    ) -> Index:
        """Open an index and check that it belongs to these passages.

        Args:
            folder: what :func:`kardlib.index_build.build_index` wrote.
            source: the passages.
            mapped: leave the postings to the page cache; else read them into memory.
            analysis: what the caller expects the index to have been built with; like ``k1``, ``b`` and ``lengths``
                None takes what is stored. Queries are always analysed as the passages were.
            backend: ``numba`` where it is installed (``auto``), or ``numpy``; both give the same.

        Raises:
            KardError: one line on what is missing, cut short, changed or different.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        check_settings(folder, manifest, analysis, k1, b, lengths)
        check_source(folder, manifest, source)
        check_files(folder, manifest)
        shards = [open_columns(folder / one.file.name, one.terms, one.postings, mapped) for one in manifest.shards]
        return cls(manifest, source, Vocabulary(folder, mapped), shards, _kernel(backend))

    @property
    def analysis(self) -> Analysis:
        """How passages and queries become terms."""
        return self.manifest.analysis

    def __len__(self) -> int:
        return self.manifest.passages

    def search(self, query: str, k: int) -> list[Hit]:
        """The k best passages, best first; equal scores in the order of the passages.

        A query without a known word scores 0 everywhere and gets the first k passages; k above the number of passages
        gets them all.
        """
        places, scores = self._search([query], _checked(k))[0]
        return [Hit(place, score) for place, score in zip(places.tolist(), scores.tolist(), strict=True)]

    def search_many(
        self, queries: Sequence[str], k: int, threads: int | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """What :meth:`search` gives for each query, as places (int64) and scores (float32), best first.

        Args:
            threads: searching at once; None means all cores. With numpy more than one gain little.
        """
        k, threads = _checked(k), threads or os.cpu_count() or 1
        # A few parts a thread, so that none waits long for the last.
        size = max(1, min(_AT_ONCE, -(-len(queries) // (4 * threads))))
        parts = [queries[start : start + size] for start in range(0, len(queries), size)]
        if threads == 1 or len(parts) < 2:
            return [found for part in parts for found in self._search(part, k)]
        with ThreadPoolExecutor(threads) as pool:
            return [found for part in pool.map(lambda part: self._search(part, k), parts) for found in part]

    def scores(self, query: str) -> np.ndarray:
        """Scores of all passages, float32 ``(passages,)``; meant for small bases."""
        numbers, total = self._terms(query), np.zeros(len(self), dtype=np.float32)
        for columns, shard in zip(self._shards, self.manifest.shards, strict=True):
            self._kernel.add(columns, numbers, total[shard.first : shard.first + shard.count])
        return total

    def score(self, query: str, places: Sequence[int] | np.ndarray) -> np.ndarray:
        """BM25 of given passages, float32, in the order of ``places``, without a search.

        Raises:
            KardError: a place that is none.
        """
        asked = np.asarray(places, dtype=np.int64)
        if len(asked) and not 0 <= asked.min() <= asked.max() < len(self):
            raise KardError(f"place {asked.min()} or {asked.max()}: the index has {len(self):,} passages")
        numbers, found = self._terms(query), np.zeros(len(asked), dtype=np.float32)
        shard_of = np.searchsorted(self._firsts, asked, side="right") - 1
        for shard in np.unique(shard_of):
            here = np.flatnonzero(shard_of == shard)
            local = (asked[here] - self._firsts[shard]).astype(np.int32)
            found[here] = self._kernel.score(self._shards[shard], numbers, local)
        return found

    def frequency(self, term: str) -> int:
        """How many passages hold a term (of the analyser, not a word)."""
        number, found = self._vocabulary.number(term), 0
        for columns in self._shards if number >= 0 else ():
            at = int(np.searchsorted(columns.terms, number))
            if at < len(columns.terms) and columns.terms[at] == number:
                found += int(columns.indptr[at + 1] - columns.indptr[at])
        return found

    def _search(self, queries: Sequence[str], k: int) -> list[tuple[np.ndarray, np.ndarray]]:
        numbers = [self._terms(query) for query in queries]
        ends = np.cumsum([0, *map(len, numbers)])
        hits = self._kernel.room(len(queries), min(k, len(self)), len(self))
        total = np.zeros(max(shard.count for shard in self.manifest.shards), dtype=np.float32)
        flat = np.concatenate(numbers)
        for columns, shard in zip(self._shards, self.manifest.shards, strict=True):
            self._kernel.search(columns, flat, ends, shard.first, total[: shard.count], hits)
        self._kernel.settle(hits)
        places, scores = hits.places[:, : hits.k], hits.scores[:, : hits.k]
        order = np.lexsort((places, -scores))
        return list(zip(np.take_along_axis(places, order, 1), np.take_along_axis(scores, order, 1), strict=True))

    def _terms(self, query: str) -> np.ndarray:
        """Numbers of the query's terms that some passage has, in order, int32."""
        known, numbers = self._numbers, []
        for piece in self._pieces(query):
            held = known.get(piece)
            if held is None:
                if len(known) >= _PIECES_KEPT:
                    known.clear()
                found = map(self._vocabulary.number, self._terms_of(piece))
                held = known[piece] = tuple(number for number in found if number >= 0)
            numbers += held
        return np.array(numbers, dtype=np.int32)


def _checked(k: int) -> int:
    if k < 1:
        raise KardError(f"k = {k}: at least one passage must be asked for")
    return k


def _kernel(backend: Backend) -> ModuleType:
    if backend == "numpy":
        return index_numpy
    try:
        from . import index_numba
    except (ImportError, RuntimeError) as error:  # also a numba that does not go with this numpy, or has no cache
        if backend == "numba":
            raise KardError(
                f"backend = numba: it cannot be used ({error}); numpy gives the same, more slowly"
            ) from None
        return index_numpy
    return index_numba
