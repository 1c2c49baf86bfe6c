"""A leakage audit of one data set: what of a reported question could be known without answering it.

Four things are looked for: reported questions that are nearly the same as one that is learned from, text of a question
inside the knowledge base, queries that depend on the gold answer, and queries that hold a rationale of the test
question. A query that was found with the question alone holds all options by design; so the check is that it stays the
same whichever of them is gold.
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from .announcements import spaced, words_of
from .bm25 import Analyzer, Hit
from .candidates import Candidates
from .errors import KardError
from .experiment import Experiment
from .keys import Split
from .methods import METHODS, Method
from .predict import test_passages
from .prompts import query_of
from .records import Passage, Question, Record

NEAR = 0.8
"""Jaccard index of two stems' token sets from which on they count as nearly the same."""
WORDS = 8
"""Words in a row that count as text of a question; a shorter stem counts as a whole."""


class Finding(Record):
    """One line of the audit.

    Attributes:
        checked: questions that were looked at.
        found: those of them that have it.
        wanted: whether any may: an oracle's queries hold rationales, and are to.
        examples: the first few, in words.
    """

    check: str
    checked: int
    found: int
    wanted: bool = False
    examples: tuple[str, ...] = ()


class Near(Record):
    """Two stems that are nearly the same.

    Attributes:
        jaccard: size of the intersection of their token sets over that of the union; 1 for a repetition.
        same_answer: the texts of their gold options are the same.
    """

    first: str
    second: str
    jaccard: float
    same_answer: bool


def near_duplicates(first: Sequence[Question], second: Sequence[Question], threshold: float = NEAR) -> list[Near]:
    """All pairs, one of each, whose stems' token sets (analysed as for BM25) have a Jaccard index of the threshold.

    Exact, and without looking at every pair: with the rarest tokens in front, two sets of that Jaccard index share a
    token among their first |x| - ceil(t |x|) + 1 (prefix filter, Chaudhuri, Ganti and Kaushik 2006).

    Args:
        threshold: t, above 0 and at most 1.

    Returns:
        Pairs in the order of ``first``, then of ``second``.
    """
    if not 0 < threshold <= 1:
        raise KardError(f"threshold = {threshold:g}: it must be above 0 and at most 1")
    analyze = Analyzer()
    sets = [[frozenset(analyze(q.stem)) for q in questions] for questions in (first, second)]
    count = Counter(token for group in sets for tokens in group for token in tokens)
    index: dict[str, list[int]] = {}
    for number, tokens in enumerate(sets[1]):
        for token in _prefix(tokens, count, threshold):
            index.setdefault(token, []).append(number)
    pairs = []
    for question, tokens in zip(first, sets[0], strict=True):
        near = {number for token in _prefix(tokens, count, threshold) for number in index.get(token, ())}
        for number in sorted(near):
            jaccard = len(tokens & sets[1][number]) / len(tokens | sets[1][number])
            if jaccard >= threshold:
                pairs.append(_near(question, second[number], jaccard))
    return pairs


def _prefix(tokens: frozenset[str], count: Mapping[str, int], threshold: float) -> list[str]:
    """The rarest tokens of a set, so many that a set which is near enough must have one of them in its own prefix."""
    size = len(tokens) - math.ceil(threshold * len(tokens) - 1e-9) + 1
    return sorted(tokens, key=lambda token: (count[token], token))[:size]


def _near(first: Question, second: Question, jaccard: float) -> Near:
    known = first.answer is not None and second.answer is not None
    same = known and first.answer_text == second.answer_text
    return Near(first=first.id, second=second.id, jaccard=jaccard, same_answer=same)


def text_in_passages(questions: Sequence[Question], passages: Sequence[Passage], words: int = WORDS) -> dict[str, str]:
    """Questions of which so many words in a row stand in a passage, with the first such passage.

    Returns:
        Ids of passages by question id. Case and punctuation do not count.
    """
    wanted: dict[int, dict[tuple[str, ...], list[str]]] = {}
    for question in questions:
        stem = words_of(question.stem)
        length = min(words, len(stem))
        for run in set(_runs(stem, length)):
            wanted.setdefault(length, {}).setdefault(run, []).append(question.id)
    found: dict[str, str] = {}
    for passage in passages:
        text = words_of(passage.text)
        for length, runs in wanted.items():
            for run in _runs(text, length):
                for question_id in runs.get(run, ()):
                    found.setdefault(question_id, passage.id)
    return found


def _runs(words: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    """All runs of so many words; none of length 0."""
    return (tuple(words[i : i + length]) for i in range(len(words) - length + 1) if length)


class Listener:
    """Stands in for a search engine: it writes down every query and finds the first passages."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = passages
        self.texts = {passage.id: passage.text for passage in passages}
        self.heard: list[str] = []

    def scores(self, query: str) -> np.ndarray:
        self.heard.append(query)
        return np.ones(len(self.passages), dtype=np.float32)

    def score(self, query: str, places: Sequence[int]) -> np.ndarray:
        return self.scores(query)[list(places)]

    def search(self, query: str, k: int) -> list[Hit]:
        self.heard.append(query)
        return [Hit(i, 1.0) for i in range(min(k, len(self.passages)))]


class _Overheard(Experiment):
    """An experiment whose searches are overheard. A reranker gets BM25's query; here nothing is ranked by it."""

    def reranked(self, seed: int, split: Split = "test") -> dict[str, Candidates]:
        return self.candidates(split)


def queries(experiment: Experiment, row: Method, questions: Sequence[Question]) -> list[str]:
    """What a method searches with for each question, overheard while it does; "" for one that does not search.

    A dense retriever (RAG) reads :func:`kardlib.prompts.query_of`, as does a reranker.
    """
    if row.test_query in ("none", "dense"):
        return [query_of(q) if row.test_query == "dense" else "" for q in questions]
    overheard = _Overheard(experiment.settings)
    overheard.__dict__.update(experiment.__dict__)
    overheard.__dict__["data"] = replace(experiment.data, test=list(questions))
    overheard.__dict__["search"] = listener = Listener(experiment.search.passages)
    test_passages(overheard, row, experiment.settings.seeds[0], "test")
    if len(listener.heard) != len(questions):
        raise KardError(f"{row.name}: {len(listener.heard)} queries were heard for {len(questions)} questions")
    return listener.heard


def with_gold(question: Question, turn: int) -> Question:
    """The question with another of its options as the gold one (some questions have fewer options than others)."""
    return question.model_copy(update={"answer": (question.gold + turn) % len(question.options)})


def query_findings(experiment: Experiment, rows: Sequence[Method] = METHODS) -> list[Finding]:
    """For each method that searches: queries that change with the gold option, and queries with the test rationale."""
    test, findings = experiment.data.test, []
    told = {i: spaced(rationale.text) for i, rationale in experiment.usable_rationale().items()}
    most = max(len(q.options) for q in test)
    for row in (row for row in rows if row.test_query != "none"):
        asked = [queries(experiment, row, [with_gold(q, turn) for q in test]) for turn in range(most)]
        changed = [q.id for q, own in zip(test, zip(*asked, strict=True), strict=True) if len(set(own)) > 1]
        holds = [q.id for q, query in zip(test, asked[0], strict=True) if q.id in told and told[q.id] in spaced(query)]
        findings += [
            Finding(check=f"{row.name}: query depends on the gold option", checked=len(test), found=len(changed),
                    examples=tuple(changed[:3])),
            Finding(check=f"{row.name}: query holds the test rationale", checked=len(test), found=len(holds),
                    wanted=row.oracle, examples=tuple(holds[:3])),
        ]  # fmt: skip
    return findings


def question_findings(experiment: Experiment, threshold: float = NEAR) -> list[Finding]:
    """Repeated and nearly repeated questions between the splits, and text of reported questions in passages."""
    data = experiment.data
    splits = {"test in train": (data.test, data.train), "test in dev": (data.test, data.dev)}
    splits["dev in train"] = (data.dev, data.train)
    findings = [one for name, pair in splits.items() for one in _repeated(name, *pair, threshold)]
    inside = text_in_passages(data.test, data.passages)
    texts = tuple(f"{i}: {passage}" for i, passage in list(inside.items())[:3])
    check = f"{WORDS} words in a row of a test question stand in a passage"
    return [*findings, Finding(check=check, checked=len(data.test), found=len(inside), examples=texts)]


def _repeated(name: str, asked: Sequence[Question], known: Sequence[Question], threshold: float) -> list[Finding]:
    pairs = near_duplicates(asked, known, threshold)
    told = {q.id: q.stem for q in (*asked, *known)}
    checks = {
        "repeated word for word": [p for p in pairs if words_of(told[p.first]) == words_of(told[p.second])],
        f"nearly repeated (Jaccard of {threshold:g} or more)": pairs,
        "nearly repeated, with the same gold answer": [p for p in pairs if p.same_answer],
    }
    return [
        Finding(
            check=f"{name}: {check}",
            checked=len(asked),
            found=len({p.first for p in kept}),
            examples=tuple(f"{told[p.first]} | {told[p.second]}" for p in kept[:3]),
        )
        for check, kept in checks.items()
    ]


def by_frequency_alone(train: Sequence[Question], test: Sequence[Question]) -> float:
    """Accuracy in percent of taking the option that was most often gold in training; the stem is not looked at.

    Options that were gold equally often share the question among them, so unknown ones are guessed at.
    """
    count, right = Counter(q.answer_text for q in train), 0.0
    for question in test:
        most = max(count[option] for option in question.options)
        best = [option for option in question.options if count[option] == most]
        right += (question.answer_text in best) / len(best)
    return 100 * right / len(test)


def audit(experiment: Experiment, threshold: float = NEAR) -> list[Finding]:
    """The whole audit of a data set. It trains nothing; the teacher is asked for its rationales of test questions."""
    return question_findings(experiment, threshold) + query_findings(experiment)


def audit_html(findings: Sequence[Finding]) -> str:
    """One line a check, as an HTML table; what should not be is bold."""
    lines = ""
    for one in findings:
        share = f"{one.found} of {one.checked}" + (" (an oracle's is to)" if one.wanted else "")
        cell = f"<b>{share}</b>" if one.found and not one.wanted else share
        example = html.escape(one.examples[0]) if one.examples and not one.wanted else ""
        cells = "".join(f'<td style="text-align:left">{text}</td>' for text in (html.escape(one.check), cell, example))
        lines += f"<tr>{cells}</tr>"
    head = "".join(f'<th scope="col">{name}</th>' for name in ("check", "questions", "for example"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
