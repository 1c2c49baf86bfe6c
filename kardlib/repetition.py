"""How much texts repeat themselves, each other, and test questions.

Words are ``\\w+`` in lower case, unless a definition speaks of tokens: those are analysed as for BM25.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .announcements import names_option, words_of
from .bm25 import Analyzer
from .errors import KardError
from .leakage import NEAR, WORDS, near_duplicates, text_in_passages
from .records import Passage, Question


@dataclass(frozen=True)
class Repeats:
    """Places of texts that repeat an earlier one, in the order given.

    Attributes:
        exact_within, exact_across: it has the same words in the same order as an earlier text of the same question,
            and as an earlier text of another question.
        near_within, near_across: the same, where the Jaccard index of their token sets is at least the threshold, or
            the words are the same. A text may be in several of the four.
    """

    exact_within: tuple[int, ...]
    exact_across: tuple[int, ...]
    near_within: tuple[int, ...]
    near_across: tuple[int, ...]


def repeats(texts: Sequence[tuple[str, str]], near: Mapping[str, Sequence[str]] | None = None) -> Repeats:
    """Exact and near repetitions.

    Args:
        texts: the question's id and the text of each.
        near: :func:`neighbours` of these texts or of more; found with the usual threshold where it is not given.
    """
    keys = [_key(text) for _, text in texts]
    near = neighbours([text for _, text in texts]) if near is None else near
    told: dict[str, set[str]] = {}  # questions that have a text of these words
    exact: tuple[list[int], list[int]] = ([], [])
    close: tuple[list[int], list[int]] = ([], [])
    for place, ((question, _), key) in enumerate(zip(texts, keys, strict=True)):
        for found, same in ((exact, [key]), (close, [key, *near[key]])):
            asked = set().union(*(told.get(other, set()) for other in same))
            if question in asked:
                found[0].append(place)
            if asked - {question}:
                found[1].append(place)
        told.setdefault(key, set()).add(question)
    return Repeats(tuple(exact[0]), tuple(exact[1]), tuple(close[0]), tuple(close[1]))


def neighbours(texts: Sequence[str], threshold: float = NEAR) -> dict[str, list[str]]:
    """For each different string of words the others that are near it, by the Jaccard index of their token sets.

    Exact. :func:`kardlib.leakage.near_duplicates` compares two lists; within one list it is enough to look from longer
    sets to shorter ones, and of these at their first tokens alone (Xiao, Wang, Lin and Yu 2008).

    Args:
        threshold: above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise KardError(f"threshold = {threshold:g}: it must be above 0 and at most 1")
    keys, analyze = list(dict.fromkeys(_key(text) for text in texts)), Analyzer()
    near: dict[str, list[str]] = {key: [] for key in keys}
    sets = _rarest_first([frozenset(analyze(key)) for key in keys])
    index: dict[int, list[int]] = {}
    for place in sorted(range(len(keys)), key=lambda i: len(sets[i])):
        tokens, size = sets[place], len(sets[place])
        least = math.ceil(threshold * size - 1e-9)
        shorter = {other for token in list(tokens)[: size - least + 1] for other in index.get(token, ())}
        for other in (other for other in shorter if len(sets[other]) >= least):
            shared = len(tokens.keys() & sets[other].keys())
            if shared / (size + len(sets[other]) - shared) >= threshold:
                near[keys[place]].append(keys[other])
                near[keys[other]].append(keys[place])
        shared_at_least = math.ceil(2 * threshold / (1 + threshold) * size - 1e-9)
        for token in list(tokens)[: size - shared_at_least + 1]:
            index.setdefault(token, []).append(place)
    return near


def _rarest_first(sets: Sequence[frozenset[str]]) -> list[dict[int, None]]:
    """Token sets as numbers in the order of their rarity, as ordered sets."""
    count = Counter(token for tokens in sets for token in tokens)
    rank = {token: number for number, token in enumerate(sorted(count, key=lambda token: (count[token], token)))}
    return [dict.fromkeys(sorted(rank[token] for token in tokens)) for tokens in sets]


def _key(text: str) -> str:
    return " ".join(words_of(text))


def _as_question(identifier: str, text: str) -> Question:
    """A text in the shape that the leakage audit compares."""
    return Question(id=identifier, stem=text, options=("yes", "no"))


def n_grams(text: str, n: int) -> Iterator[tuple[str, ...]]:
    """All runs of ``n`` words of a text."""
    words = words_of(text)
    return zip(*(words[first:] for first in range(n)), strict=False)


def distinct(texts: Sequence[str], n: int) -> float | None:
    """Distinct-n (Li et al. 2016): n-grams that differ over all n-grams, of all texts together; None without any.

    It falls as the number of texts grows, so only equally many texts compare.
    """
    grams = [gram for text in texts for gram in n_grams(text, n)]
    return len(set(grams)) / len(grams) if grams else None


@dataclass(frozen=True)
class Overlap:
    """Test questions that texts give away, by id.

    Attributes:
        run: so many words of its stem stand in a row in a text (a shorter stem counts as a whole).
        run_and_answer: that is so, and a text with such a run holds its gold option's words in a row too.
        near: the Jaccard index of the token sets of its stem and of a text is at least the threshold.
    """

    run: tuple[str, ...]
    run_and_answer: tuple[str, ...]
    near: tuple[str, ...]


def overlap(texts: Sequence[str], test: Sequence[Question], words: int = WORDS, threshold: float = NEAR) -> Overlap:
    """Which test questions the texts overlap with; see :class:`Overlap`."""
    unique = [text for text in dict.fromkeys(texts) if words_of(text)]
    passages = [Passage(id=str(number), text=text) for number, text in enumerate(unique)]
    run = text_in_passages(test, passages, words)
    by_id = {question.id: question for question in test}
    answered = [identifier for identifier in run if _tells_answer(by_id[identifier], passages, words)]
    pairs = near_duplicates(test, [_as_question(passage.id, passage.text) for passage in passages], threshold)
    order = [question.id for question in test]
    kept = (tuple(i for i in order if i in group) for group in (run, answered, {pair.first for pair in pairs}))
    return Overlap(*kept)


def _tells_answer(question: Question, passages: Sequence[Passage], words: int) -> bool:
    """Whether one text holds both a run of a stem and the gold option."""
    if question.answer is None:
        return False
    telling = [passage for passage in passages if names_option(passage.text, question.answer_text)]
    return bool(text_in_passages([question], telling, words))
