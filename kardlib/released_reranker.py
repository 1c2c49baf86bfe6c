"""How the authors' released code trains the reranker where it departs from Eq. 3; each departure is a switch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sentence_transformers.multi_vector_encoder.scoring import colbert_kd_scores
from torch import Tensor
from transformers import TrainerCallback

from .annealing import annealing

Row = tuple[str, list[str], list[float]]
_NEVER = -1e4  # a teacher's score so low that its softmax is exactly zero, and finite: 0 times infinity is no number


class _Annealed(Protocol):
    def anneal(self, factor: float) -> None: ...


class Annealing(TrainerCallback):
    """Sets the temperatures of a loss before each step; a training that goes on after a kill has the right ones too."""

    def __init__(self, loss: _Annealed) -> None:
        self._loss = loss

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._loss.anneal(annealing(state.global_step / state.max_steps))


def best_only(rows: Sequence[Row]) -> list[Row]:
    """Rows in which only the best passage counts: KL(Q || P) is then -log P(best), cross-entropy on one document.

    Of equally good passages the first is the best, and the others are wrong; so is a second copy of the best.
    """
    marked = []
    for query, passages, scores in rows:
        best = scores.index(max(scores))
        marked.append((query, passages, [0.0 if i == best else _NEVER for i in range(len(scores))]))
    return marked


def scores_of_fixed_passages(queries: Tensor, documents: Tensor, **masks: Tensor) -> Tensor:
    """MaxSim without a gradient through the passages.

    Questions and passages share one encoder, in the authors' code as here, and it is the gradient that they leave out:
    passages are encoded with the weights as they are, no untrained copy, but the questions alone move these.

    Args:
        queries: token vectors, shape ``(batch, tokens, width)``.
        documents: shape ``(batch, candidates, tokens, width)``.

    Returns:
        Scores, shape ``(batch, candidates)``.
    """
    return colbert_kd_scores(queries, documents.detach(), **masks)
