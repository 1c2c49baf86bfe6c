"""Eq. 3 as a loss of the reranker: written out, and through the library for its two forms."""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers import CrossEncoder, MultiVectorEncoder
from sentence_transformers.cross_encoder.losses import ListNetLoss
from sentence_transformers.multi_vector_encoder.losses import MultiVectorDistillKLDivLoss
from torch import Tensor, nn

from .errors import KardError
from .models import device
from .presets import Settings
from .released_reranker import scores_of_fixed_passages


def eq3_loss(teacher_scores: Tensor, student_scores: Tensor, tau1: float, tau2: float) -> Tensor:
    """Eq. 3 written out: the mean over rows of KL(Q || P), Q = softmax(rho / tau1), P = softmax(f / tau2).

    Args:
        teacher_scores: rho(d | r) of the candidates, shape ``(batch, candidates)``.
        student_scores: f_phi(d, x) of the same candidates, same shape.
        tau1, tau2: temperatures, above 0.
    """
    if tau1 <= 0 or tau2 <= 0:
        raise KardError(f"tau1 = {tau1:g}, tau2 = {tau2:g}: temperatures must be above 0")
    log_p = torch.log_softmax(student_scores / tau2, dim=-1)
    log_q = torch.log_softmax(teacher_scores / tau1, dim=-1)
    return nn.functional.kl_div(log_p, log_q, reduction="batchmean", log_target=True)


class LateInteractionLoss(MultiVectorDistillKLDivLoss):
    """The library's distillation loss without its factor tau2²: exactly Eq. 3."""

    def __init__(self, model: MultiVectorEncoder, **options: Any) -> None:
        super().__init__(model, **options)
        self._usual = self.teacher_temperature, self.student_temperature

    def anneal(self, factor: float) -> None:
        """Multiply both temperatures that it was made with."""
        self.teacher_temperature, self.student_temperature = (factor * tau for tau in self._usual)

    def forward(self, sentence_features: Any, labels: Tensor) -> Tensor:
        return super().forward(sentence_features, labels) / self.student_temperature**2


class CrossEncoderLoss(ListNetLoss):
    """ListNet is the cross-entropy H(Q, P); minus the entropy of Q it is KL(Q || P), Eq. 3.

    Its labels must come divided by tau1, and its scores are divided by tau2 here.
    """

    def __init__(self, model: CrossEncoder, tau2: float) -> None:
        super().__init__(model, activation_fn=_Divide(tau2))
        self._tau2, self._factor = tau2, 1.0

    def anneal(self, factor: float) -> None:
        """Multiply both temperatures that it was made with."""
        self.activation_fn.by, self._factor = factor * self._tau2, factor

    def forward(self, inputs: Any, labels: list[Tensor], *args: Any, **kwargs: Any) -> Tensor:
        labels = [row / self._factor for row in labels]
        entropy = torch.stack([torch.distributions.Categorical(logits=row.float()).entropy() for row in labels]).mean()
        return super().forward(inputs, labels, *args, **kwargs) - entropy.to(device())


class _Divide(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, scores: Tensor) -> Tensor:
        return scores / self.by


def loss_of(model: Any, settings: Settings) -> LateInteractionLoss | CrossEncoderLoss:
    """The loss of a reranker of the form that the settings ask for."""
    if settings.reranker_form == "cross-encoder":
        return CrossEncoderLoss(model, settings.tau2)
    fixed = {"similarity_fct": scores_of_fixed_passages} if settings.reranker_frozen_passages else {}
    return LateInteractionLoss(model, student_temperature=settings.tau2, teacher_temperature=settings.tau1, **fixed)
