"""How text becomes the terms that BM25 counts: the same for passages and queries, and stored with every index."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from itertools import chain
from typing import Any, Literal

import Stemmer

from .bm25 import STOP_WORDS, TOKEN_PATTERN
from .lucene_stemmer import LuceneStemmer
from .records import Record
from .word_breaks import WORD_BREAKS

# Pieces remembered at a time: some 40 MB. English repeats itself; past this many the memory is emptied.
_REMEMBERED = 1 << 17
_POSSESSIVES = ("'s", "’s", "＇s")


class Analysis(Record):
    """An analyser as data. Two indexes agree only where theirs are equal.

    A text in lower case is cut at white space into pieces, each match of a pattern in a piece is a word
    (:meth:`words`), and a word is dropped or becomes a term (:meth:`term`). What a piece becomes is remembered, so
    that the pattern and the stemmer run about once a distinct piece; whoever keeps numbers for terms can keep them by
    piece (:meth:`pieces`, :meth:`terms_of`).

    Attributes:
        token_pattern: a regular expression; each match is a word.
        stop_words: dropped before stemming.
        stemmer: Porter's as published, Porter's as in Lucene, or none.
        possessives: whether a word loses a final 's before it is looked up among the stop words.
    """

    token_pattern: str = TOKEN_PATTERN
    stop_words: tuple[str, ...] = tuple(sorted(STOP_WORDS))
    stemmer: Literal["porter", "lucene", "none"] = "porter"
    possessives: bool = False

    @cached_property
    def _cut(self) -> re.Pattern[str]:
        return re.compile(self.token_pattern)

    @cached_property
    def _stop(self) -> frozenset[str]:
        return frozenset(self.stop_words)

    @cached_property
    def _stem(self) -> Callable[[str], str]:
        if self.stemmer == "none":
            return str
        return (LuceneStemmer() if self.stemmer == "lucene" else Stemmer.Stemmer("porter", 0)).stemWord

    @cached_property
    def _remembered(self) -> _Remembered:
        return _Remembered(self.terms_of)

    def __reduce__(self) -> tuple[Any, ...]:
        # What is cached above cannot travel to another process.
        return Analysis.model_validate, (self.model_dump(),)

    def __copy__(self) -> Analysis:
        # A copy with other fields must not keep what these made.
        return Analysis.model_validate(self.model_dump())

    def pieces(self, text: str) -> list[str]:
        """What stands between white space, in lower case; no term depends on more than one of them."""
        return text.lower().split()

    def words(self, text: str) -> list[str]:
        """The words of a text in lower case, in order, repeated as often as they occur."""
        return [word for piece in self.pieces(text) for word in self._cut.findall(piece)]

    def term(self, word: str) -> str | None:
        """The term that one of :meth:`words` counts as; None where it is not counted."""
        if self.possessives and word.endswith(_POSSESSIVES):
            word = word[:-2]
        return None if word in self._stop else self._stem(word)

    def terms_of(self, piece: str) -> tuple[str, ...]:
        """The terms of one of :meth:`pieces`."""
        return tuple(term for word in self._cut.findall(piece) if (term := self.term(word)) is not None)

    def terms(self, text: str) -> list[str]:
        """The terms of a text, in order, repeated as often as they occur."""
        return list(chain.from_iterable(map(self._remembered.__getitem__, self.pieces(text))))


class _Remembered(dict[str, tuple[str, ...]]):
    """Terms by piece, found out when first asked for."""

    def __init__(self, terms_of: Callable[[str], tuple[str, ...]]) -> None:
        super().__init__()
        self._terms_of = terms_of

    def __missing__(self, piece: str) -> tuple[str, ...]:
        if len(self) >= _REMEMBERED:
            self.clear()
        terms = self[piece] = self._terms_of(piece)
        return terms


PLAIN = Analysis()
"""What the mini sets are searched with: lower case, ``\\w+``, Lucene's 33 stop words, Porter stems."""
LUCENE = Analysis(token_pattern=WORD_BREAKS, stemmer="lucene", possessives=True)
"""Lucene's EnglishAnalyzer, which is Anserini's and so the authors': see ``docs/lucene_parity.md``."""
ANALYSES = {"plain": PLAIN, "lucene": LUCENE}
