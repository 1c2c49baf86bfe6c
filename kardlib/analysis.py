"""How text becomes the terms that BM25 counts: the same for passages and queries, and stored with every index."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Literal

import Stemmer

from .bm25 import STOP_WORDS, TOKEN_PATTERN
from .records import Record


class Analysis(Record):
    """An analyser as data. Two indexes agree only where theirs are equal.

    It works in two steps, so that whoever counts millions of words needs the second only once a distinct word:
    :meth:`words` cuts, :meth:`term` drops or stems.

    Attributes:
        token_pattern: a regular expression; each match in the lower-cased text is a word.
        stop_words: dropped before stemming.
        stemmer: Porter's, or none.
        possessives: whether a word loses a final 's before it is looked up among the stop words.
    """

    token_pattern: str = TOKEN_PATTERN
    stop_words: tuple[str, ...] = tuple(sorted(STOP_WORDS))
    stemmer: Literal["porter", "none"] = "porter"
    possessives: bool = False

    @cached_property
    def _cut(self) -> re.Pattern[str]:
        return re.compile(self.token_pattern)

    @cached_property
    def _stop(self) -> frozenset[str]:
        return frozenset(self.stop_words)

    @cached_property
    def _stem(self) -> Stemmer.Stemmer:
        return Stemmer.Stemmer("porter", 0)  # its cache costs nine times the stemming where words are distinct

    def words(self, text: str) -> list[str]:
        """The words of a text in lower case, in order, repeated as often as they occur."""
        return self._cut.findall(text.lower())

    def term(self, word: str) -> str | None:
        """The term that one of :meth:`words` counts as; None where it is not counted."""
        if self.possessives and word[-2:] in ("'s", "’s", "＇s"):
            word = word[:-2]
        if word in self._stop:
            return None
        return self._stem.stemWord(word) if self.stemmer == "porter" else word

    def terms(self, text: str) -> list[str]:
        """The terms of a text, in order, repeated as often as they occur."""
        return [term for word in self.words(text) if (term := self.term(word)) is not None]


PLAIN = Analysis()
"""What the mini sets are searched with: lower case, ``\\w+``, Lucene's 33 stop words, Porter stems."""
