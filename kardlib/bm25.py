"""BM25 as the paper uses it: rho(d | q) with Lucene's analyser and weights, ties broken by passage id.

Two engines stand behind one interface: :class:`BM25` (bm25s, fast, the default) and :class:`RankBM25`
(rank_bm25, the plain reference). Both see the same analysed tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

import bm25s
import numpy as np
import Stemmer

from .errors import KardError
from .records import Passage

# Lucene's EnglishAnalyzer stops on these 33 words.
STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they "
    "this to was will with".split()
)
TOKEN_PATTERN = r"\w+"
K1, B = 0.9, 0.4


class Hit(NamedTuple):
    """A passage's place in a knowledge base and its BM25 score."""

    index: int
    score: float


class Analyzer:
    """Lower case, ``\\w+`` tokens, Lucene's stop words, Porter stems; the same for passages and queries."""

    settings = {"token_pattern": TOKEN_PATTERN, "stop_words": sorted(STOP_WORDS), "stemmer": "porter"}

    def __init__(self) -> None:
        self._stemmer = Stemmer.Stemmer("porter")

    def __call__(self, text: str) -> list[str]:
        words = [word for word in re.findall(TOKEN_PATTERN, text.lower()) if word not in STOP_WORDS]
        return self._stemmer.stemWords(words)


class Searcher(Protocol):
    """What both engines offer."""

    passages: Sequence[Passage]
    texts: Mapping[str, str]

    def scores(self, query: str) -> np.ndarray:
        """Scores of all passages, shape ``(len(passages),)``, float32."""

    def score(self, query: str, places: Sequence[int]) -> np.ndarray:
        """Scores of some passages, named by their places, in that order."""

    def search(self, query: str, k: int) -> list[Hit]:
        """The k best passages."""


def rank(scores: np.ndarray, k: int) -> list[Hit]:
    """The k best of an array of scores, best first; equal scores in the order of the passages.

    A query without a known word scores 0 everywhere and gets the first k passages; k above the number of passages
    gets them all.
    """
    k = min(k, len(scores))
    floor = np.partition(scores, len(scores) - k)[len(scores) - k] if k else 0.0
    near = np.flatnonzero(scores >= floor)
    order = near[np.argsort(-scores[near], kind="stable")][:k]
    return [Hit(int(i), float(scores[i])) for i in order]


class _Engine:
    """Shared by both engines: passages sorted by id, their tokens, and ranking."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        if not passages:
            raise KardError("the knowledge base is empty")
        self.passages = sorted(passages, key=lambda passage: passage.id)
        self._analyze = Analyzer()
        self._tokens = [self._analyze(passage.text) for passage in self.passages]

    def scores(self, query: str) -> np.ndarray:
        raise NotImplementedError

    @cached_property
    def texts(self) -> dict[str, str]:
        """Passage texts by id."""
        return {passage.id: passage.text for passage in self.passages}

    def score(self, query: str, places: Sequence[int]) -> np.ndarray:
        return self.scores(query)[list(places)]

    def search(self, query: str, k: int) -> list[Hit]:
        if k < 1:
            raise KardError(f"k = {k}: at least one passage must be asked for")
        return rank(self.scores(query), k)


class BM25(_Engine):
    """bm25s with k1 .9, b .4 and Lucene's idf.

    Args:
        passages: the knowledge base; kept sorted by id, which is what breaks ties.
    """

    def __init__(self, passages: Sequence[Passage], k1: float = K1, b: float = B) -> None:
        super().__init__(passages)
        self._index = bm25s.BM25(k1=k1, b=b, method="lucene")
        known = sorted({token for tokens in self._tokens for token in tokens})
        self._vocabulary = {token: i for i, token in enumerate(known)}
        if not known:
            raise KardError("the knowledge base has not one word to be found by")
        ids = [[self._vocabulary[token] for token in tokens] for tokens in self._tokens]
        self._index.index((ids, self._vocabulary), show_progress=False)

    def scores(self, query: str) -> np.ndarray:
        known = [token for token in self._analyze(query) if token in self._vocabulary]
        if not known:
            return np.zeros(len(self.passages), dtype=np.float32)
        return np.asarray(self._index.get_scores(known), dtype=np.float32)


class RankBM25(_Engine):
    """rank_bm25 over the same tokens: the reference. Its idf is its own unless ``lucene_idf`` replaces it."""

    def __init__(self, passages: Sequence[Passage], k1: float = K1, b: float = B, lucene_idf: bool = True) -> None:
        super().__init__(passages)
        from rank_bm25 import BM25Okapi

        self._k1 = k1
        self._index = BM25Okapi(self._tokens, k1=k1, b=b)
        if lucene_idf:
            count = len(self.passages)
            frequency = {word: sum(word in doc for doc in self._index.doc_freqs) for word in self._index.idf}
            self._index.idf = {w: float(np.log1p((count - n + 0.5) / (n + 0.5))) for w, n in frequency.items()}

    def scores(self, query: str) -> np.ndarray:
        # Lucene leaves out the constant factor (k1 + 1) of Robertson's formula.
        return np.asarray(self._index.get_scores(self._analyze(query)) / (self._k1 + 1), dtype=np.float32)
