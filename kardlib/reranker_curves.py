"""How a reranker learns: Eq. 3 and hits@k on a tenth of the training questions that it is not trained on.

The tenth is cut by a hash of the question's id, so no question has rationales on both sides. A measurement takes
nothing from the random numbers of the training: the weights are the same with it and without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from .candidates import Candidates
from .errors import KardError
from .reranker import CrossEncoding, LateInteraction, reranker_of
from .reranker_losses import eq3_loss
from .splits import hash_share

SHARE = 0.1
TRUTH = 3
"""Passages that the rationale finds first, the ones that count as hits."""
KS = (1, 3, 5, 10)
TIMES = 5
"""Measurements after the start."""
MEASURED = 100
"""Held-out questions that are measured at most: each costs the reading of its candidates, six times. Our choice."""


@dataclass(frozen=True)
class HeldOut:
    """Training questions that a reranker is not trained on.

    Attributes:
        pools: their unions of Eq. 3, best by the rationale first.
        queries: the test-time query of each question, by question id.
        candidates: what BM25 finds for each question, by question id, as at test time; hits@k is measured among them.
        texts: passage texts by id.
    """

    pools: Sequence[Candidates]
    queries: Mapping[str, str]
    candidates: Mapping[str, Candidates]
    texts: Mapping[str, str]


def question_of(pool: Candidates) -> str:
    """Id of the question that a pool's rationale belongs to."""
    return pool.key.rpartition("#")[0]


def cut_pools(
    pools: Sequence[Candidates], share: float = SHARE, at_most: int | None = None
) -> tuple[list[Candidates], list[Candidates]]:
    """Split pools into (trained on, held out) by question, the same on every machine.

    Args:
        at_most: held-out questions; those above are in neither part, since what is measured must not depend on it.

    Raises:
        KardError: one part would be empty.
    """
    places = {name: hash_share(name, "reranker curves") for name in map(question_of, pools)}
    held = sorted((name for name, place in places.items() if place < share), key=places.__getitem__)
    chosen = set(held[:at_most])
    parts = [p for p in pools if question_of(p) not in set(held)], [p for p in pools if question_of(p) in chosen]
    if not all(parts):
        raise KardError(f"{len(places)} training questions are too few to hold {share:.0%} of them out")
    return parts


def hold_out(
    pools: Sequence[Candidates],
    queries: Mapping[str, str],
    texts: Mapping[str, str],
    found: Callable[[str], Candidates],
) -> tuple[list[Candidates], HeldOut]:
    """The pools to train on, and the questions to measure on.

    Args:
        pools, queries, texts: as for :func:`kardlib.reranker_training.training_rows`.
        found: what BM25 finds for a question, by its id.
    """
    kept, measured = cut_pools(pools, at_most=MEASURED)
    names = sorted({question_of(pool) for pool in measured})
    return kept, HeldOut(measured, queries, {name: found(name) for name in names}, texts)


def measure_held_out(
    reranker: LateInteraction | CrossEncoding, held: HeldOut, tau1: float, tau2: float
) -> dict[str, float]:
    """Eq. 3 over whole pools (``kl``, nats) and hits@k in percent, of a reranker as it is now.

    hits@k is the share of questions with one of the first ``TRUTH`` passages of their first pool among the first k; a
    truth passage that is not among the question's candidates is a miss.
    """
    first = {question_of(pool): pool for pool in reversed(held.pools)}
    asked = [held.queries[question_of(pool)] for pool in held.pools] + [held.queries[name] for name in first]
    groups = [*held.pools, *(held.candidates[name] for name in first)]
    ranked = reranker.rank(asked, groups, held.texts)
    losses = [_eq3(pool, f, tau1, tau2) for pool, f in zip(held.pools, ranked, strict=False)]
    orders = dict(zip(first, ranked[len(held.pools) :], strict=True))
    hits = {f"hits@{k}": 100 * float(np.mean([_hit(first[i], orders[i], k) for i in first])) for k in KS}
    return {"kl": float(np.mean(losses)), **hits}


def _eq3(pool: Candidates, ranked: Candidates, tau1: float, tau2: float) -> float:
    scores = dict(zip(ranked.passages, ranked.scores, strict=True))
    student = torch.tensor([[scores[i] for i in pool.passages]], dtype=torch.float64)
    return eq3_loss(torch.tensor([pool.scores], dtype=torch.float64), student, tau1, tau2).item()


def _hit(pool: Candidates, ranked: Candidates, k: int) -> bool:
    return bool({*pool.passages[:TRUTH]} & {*ranked.passages[:k]})


class HeldOutCurve(TrainerCallback):
    """Measures a reranker in training: before its first step, and ``TIMES`` times on the way, the last at its end.

    The rows go into the trainer's own log history, so that a training that goes on after a kill still has them.

    Args:
        model: the one that is trained.
    """

    def __init__(self, model: Any, held: HeldOut, tau1: float, tau2: float) -> None:
        self._model, self._held, self._taus = model, held, (tau1, tau2)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:
            self._measure(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        every = max(1, state.max_steps // TIMES)
        last, step = state.max_steps, state.global_step
        if step == last or (step % every == 0 and last - step >= every):
            self._measure(state)

    def _measure(self, state: Any) -> None:
        training = self._model.training
        values = measure_held_out(reranker_of(self._model), self._held, *self._taus)
        self._model.train(training)
        state.log_history.append({"step": state.global_step, **values})


def held_out_curve(log_history: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """The rows that :class:`HeldOutCurve` left in a trainer's log history: ``step``, ``kl`` and the hits."""
    return [{"step": row["step"], **_values(row)} for row in log_history if "kl" in row]


def _values(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: row[name] for name in ("kl", *(f"hits@{k}" for k in KS))}
