"""Candidate passages: what BM25 finds for a question or a rationale, and the reranker's training pools.

Passages are named by id everywhere outside the engine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from .bm25 import TOKEN_PATTERN, Searcher
from .errors import KardError
from .prompts import query_of
from .records import Question, Rationale, Record


class Candidates(Record):
    """Passages with scores, best first.

    Attributes:
        key: id of the question, with ``#j`` behind it for its j-th rationale.
    """

    key: str
    passages: tuple[str, ...]
    scores: tuple[float, ...]

    def among(self, passages: Sequence[str]) -> Candidates:
        """Those that are among some passages, in their order here."""
        wanted = set(passages)
        kept = [(p, s) for p, s in zip(self.passages, self.scores, strict=True) if p in wanted]
        return Candidates(key=self.key, passages=tuple(p for p, _ in kept), scores=tuple(s for _, s in kept))


def rationale_key(rationale: Rationale) -> str:
    return f"{rationale.question_id}#{rationale.index}"


def question_candidates(search: Searcher, question: Question, k: int) -> Candidates:
    """topk(rho(d | x), k): found with stem and options; this is also the reranker's kappa* at test time."""
    return _found(search, question.id, query_of(question), k)


def rationale_candidates(search: Searcher, rationale: Rationale, k: int) -> Candidates:
    """topk(rho(d | r), k), Eq. 2's passages: found with the rationale."""
    return _found(search, rationale_key(rationale), rationale.text, k)


def _found(search: Searcher, key: str, query: str, k: int) -> Candidates:
    hits = search.search(query, k)
    return Candidates(
        key=key,
        passages=tuple(search.passages[hit.index].id for hit in hits),
        scores=tuple(hit.score for hit in hits),
    )


def training_pool(search: Searcher, question: Question, rationale: Rationale, kappa1: int, kappa2: int) -> Candidates:
    """The union of Eq. 3: topk(rho(d | r), kappa1) and topk(rho(d | x), kappa2), without duplicates.

    Every member, those found with the question included, carries its BM25 score for the **rationale**.
    """
    if rationale.question_id != question.id:
        raise KardError(f"rationale of question {rationale.question_id} was paired with question {question.id}")
    scores = {hit.index: hit.score for hit in search.search(rationale.text, kappa1)}
    others = [hit.index for hit in search.search(query_of(question), kappa2) if hit.index not in scores]
    scores |= {i: float(score) for i, score in zip(others, search.score(rationale.text, others), strict=True)}
    order = sorted(scores, key=lambda i: (-scores[i], i))
    return Candidates(
        key=rationale_key(rationale),
        passages=tuple(search.passages[i].id for i in order),
        scores=tuple(scores[i] for i in order),
    )


def sample_pool(pool: Candidates, size: int, rng: np.random.Generator) -> tuple[list[str], list[float]]:
    """``size`` members of a pool for one training step: half from the best by the rationale, half from the rest.

    The best are drawn from the first ``size``. None is drawn twice: both softmaxes of Eq. 3 would count it twice.
    """
    count = len(pool.passages)
    if size > count:
        raise KardError(f"pool {pool.key}: {size} members were asked for, it has {count}")
    head = rng.permutation(size)[: size // 2]
    tail = rng.choice(np.setdiff1d(np.arange(count), head), size - len(head), replace=False)
    chosen = [*head.tolist(), *tail.tolist()]
    return [pool.passages[i] for i in chosen], [pool.scores[i] for i in chosen]


def released_pool(search: Searcher, question: Question, rationale: Rationale, kappa1: int, kappa2: int) -> Candidates:
    """The pool of the authors' released code: what the rationale finds, and behind it what the question finds.

    A passage that both find stands twice. The first half has the scores that it was found with, rho(d | r); the second
    has those of another implementation of BM25(rationale), which knows no word that a single passage has.
    """
    if rationale.question_id != question.id:
        raise KardError(f"rationale of question {rationale.question_id} was paired with question {question.id}")
    first, second = rationale_candidates(search, rationale, kappa1), search.search(query_of(question), kappa2)
    words = re.findall(TOKEN_PATTERN, rationale.text)
    shared = " ".join(word for word in words if np.count_nonzero(search.scores(word)) != 1)
    scores = search.score(shared, [hit.index for hit in second])
    return Candidates(
        key=first.key,
        passages=first.passages + tuple(search.passages[hit.index].id for hit in second),
        scores=first.scores + tuple(float(score) for score in scores),
    )


def sample_halves(pool: Candidates, first: int, size: int, rng: np.random.Generator) -> tuple[list[str], list[float]]:
    """``size`` members of a :func:`released_pool`, half from each half of it; a passage can be drawn from both.

    Args:
        first: members that the rationale has found; they stand at the front.
    """
    sizes = size // 2, size - size // 2
    found = first, len(pool.passages) - first
    if sizes[0] > found[0] or sizes[1] > found[1]:
        raise KardError(f"pool {pool.key}: {size} members were asked for, its halves have {found[0]} and {found[1]}")
    chosen = [*rng.choice(found[0], sizes[0], replace=False), *(first + rng.choice(found[1], sizes[1], replace=False))]
    return [pool.passages[i] for i in chosen], [pool.scores[i] for i in chosen]


def check_temperature(pools: Sequence[Candidates], tau1: float) -> str | None:
    """A warning where tau1 does not fit the spread of the scores: Q one-hot, underflowing, or flat."""
    spreads = [max(p.scores) - min(p.scores) for p in pools if p.scores]
    if not spreads:
        return None
    spread = float(np.median(spreads))
    if spread / tau1 > 80:
        return f"tau1 = {tau1:g}: the scores spread over {spread:.0f}, Q underflows; try tau1 near {spread / 10:.1f}"
    if spread / tau1 < 0.5:
        return f"tau1 = {tau1:g}: the scores spread over {spread:.1f} only, Q is flat; try tau1 near {spread / 10:.2f}"
    return None
