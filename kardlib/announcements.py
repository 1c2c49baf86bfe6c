"""Whether a rationale announces an answer instead of reasoning towards it.

A rationale may name an option by its text, and mostly has to. It leaks where it points at the option by its letter,
where it says "the answer is ...", or where it lets out that the answer was given: a student that learns such sentences
learns to announce. What is found are wordings, in English; a sentence that announces in other words is missed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from .prompts import LETTERS

Leak = Literal["letter", "announced", "given"]
LEAKS: tuple[Leak, ...] = ("letter", "announced", "given")
_IS = r"(?:is|was|are|would be|must be|should be|will be|has to be)"
# Capitals only: "option a" may be "the option a doctor has". "The best choice is" is said of treatments and counts not.
_LETTER = re.compile(
    r"\((?P<bracket>[A-J])\)(?!\w)"
    r"|\b(?:[Oo]ptions?|[Cc]hoices?|[Aa]nswers?)(?::| is)? (?P<named>[A-J])\b"
    rf"|(?:^|[.;:,!?]\s+|\b(?:[Ss]o|[Tt]hus|[Tt]herefore|[Hh]ence|[Tt]hat) )(?P<said>[A-J]) {_IS} "
    r"(?:the )?(?:correct|right|best|answer)\b"
)
_ANNOUNCED = re.compile(
    rf"\banswer(?: to (?:this|the|that)\b[^.?!]{{0,40}})? {_IS}\b"
    r"|\banswer\s*:"
    rf"|\b(?:correct|right) (?:option|choice|one) {_IS}\b"
    r"|\b(?:is|as|makes? \w[^.?!]{0,60}) the (?:correct|right|best) answer\b"
    r"|\b(?:is|as) the (?:correct|right) (?:option|choice)\b",
    re.IGNORECASE,
)
_GIVEN = re.compile(
    r"\b(?:given|provided|stated|supplied|indicated) (?:correct |right |gold |true )?answer\b"
    r"|\banswer (?:that )?(?:(?:is|was|has been|as) )?(?:given|provided|stated|supplied|indicated)\b"
    r"|\bgold answer\b|\banswer key\b",
    re.IGNORECASE,
)


def leaks(text: str, options: int = len(LETTERS)) -> dict[Leak, str]:
    """The leaks in a rationale, each kind with the words around its first place.

    ``letter``: a letter in brackets, or behind "option", "choice" or "answer", or before "is correct"; letters that no
    option has do not count. ``announced``: "the answer is", "answer:", "is the correct answer" and their like.
    ``given``: "the given answer", "the answer provided" and their like.

    Args:
        options: how many options the question has.
    """
    letters = (m for m in _LETTER.finditer(text) if LETTERS.index(next(filter(None, m.groups()))) < options)
    found = {"letter": next(letters, None), "announced": _ANNOUNCED.search(text), "given": _GIVEN.search(text)}
    return {kind: _around(text, match) for kind in LEAKS if (match := found[kind]) is not None}


def _around(text: str, match: re.Match[str], reach: int = 40) -> str:
    """The place of a match with so many characters on either side."""
    start, end = max(0, match.start() - reach), min(len(text), match.end() + reach)
    return ("…" if start else "") + " ".join(text[start:end].split()) + ("…" if end < len(text) else "")


def names_option(text: str, option: str) -> bool:
    """Whether a text holds all words of an option in a row; case and punctuation do not count. This is no leak."""
    wanted = spaced(option)
    return bool(wanted.strip()) and wanted in spaced(text)


@lru_cache(maxsize=256)  # one text is searched for each of its question's options
def spaced(text: str) -> str:
    """Words of a text with one space around each, so that a run of whole words is a substring."""
    return f" {' '.join(words_of(text))} "


def words_of(text: str) -> list[str]:
    """Words of a text in lower case, without punctuation."""
    return re.findall(r"\w+", text.lower())
