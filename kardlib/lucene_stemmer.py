"""Porter's stemmer with the departures of its author's own program, which Lucene's PorterStemmer follows.

Snowball's ``porter`` is the algorithm as published in 1980. The program differs in three places, and Lucene's in one
more.
"""

from __future__ import annotations

import re

import Stemmer

# Porter's m > 0: somewhere a vowel is followed by a consonant; y is a vowel after a consonant.
_MEASURED = re.compile(r"[aeiou][^aeiou]|[^aeiou]y[^aeiou]")
# Snowball undoubles these and keeps ll, ss, zz; the program undoubles all but those three.
_UNDOUBLED_OR_KEPT = frozenset("aeioubdfgmnprtlsz")


class LuceneStemmer:
    """Stems as Lucene does: words of one or two letters stay, ``-bly`` and ``-logy`` lose their last letter."""

    def __init__(self) -> None:
        self._snowball = Stemmer.Stemmer("porter", 0)  # its cache costs more than the stemming of distinct words

    def stemWord(self, word: str) -> str:  # noqa: N802 (the name that PyStemmer gave it)
        """The stem of a word in lower case."""
        if len(word) < 3:
            return word
        stem = self._snowball.stemWord(word)
        if stem.endswith("bli") and word.endswith(("bly", "bli", "blies")) and _MEASURED.search(stem[:-3]):
            return self._snowball.stemWord(stem[:-1] + "e")
        if stem.endswith("logi") and word.endswith(("logy", "logi", "logies")) and _MEASURED.search(stem[:-4]):
            return stem[:-1]
        doubled = len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in _UNDOUBLED_OR_KEPT
        return stem[:-1] if doubled and word in (stem + "ed", stem + "ing") else stem
