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

    Attributes:
        token_pattern: a regular expression; each match is a token.
        stop_words: dropped before stemming.
        stemmer: Porter's, or none.
    """

    token_pattern: str = TOKEN_PATTERN
    stop_words: tuple[str, ...] = tuple(sorted(STOP_WORDS))
    stemmer: Literal["porter", "none"] = "porter"

    @cached_property
    def _stem(self) -> Stemmer.Stemmer:
        return Stemmer.Stemmer("porter")

    def terms(self, text: str) -> list[str]:
        """The terms of a text, in order, repeated as often as they occur."""
        stop = set(self.stop_words)
        words = [word for word in re.findall(self.token_pattern, text.lower()) if word not in stop]
        return self._stem.stemWords(words) if self.stemmer == "porter" else words


PLAIN = Analysis()
"""What the mini sets are searched with: lower case, ``\\w+``, Lucene's 33 stop words, Porter stems."""
