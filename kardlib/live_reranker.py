"""Rerankers around a model that is in memory already: one in training, or a copy in another precision."""

from __future__ import annotations

from sentence_transformers import CrossEncoder, MultiVectorEncoder
from torch import Tensor

from .reranker import CrossEncoding, LateInteraction


class LiveLateInteraction(LateInteraction):
    """:class:`LateInteraction` around a model; MaxSim is taken in float32, whatever the model computes in."""

    def __init__(self, model: MultiVectorEncoder) -> None:
        self.model = model

    def _encode(self, texts: list[str], task: str) -> list[Tensor]:
        return [vectors.float() for vectors in super()._encode(texts, task)]


class LiveCrossEncoding(CrossEncoding):
    """:class:`CrossEncoding` around a model."""

    def __init__(self, model: CrossEncoder) -> None:
        self.model = model


def reranker_of(model: MultiVectorEncoder | CrossEncoder) -> LateInteraction | CrossEncoding:
    """The reranker that a model is; the model is used as it is, not copied."""
    return LiveCrossEncoding(model) if isinstance(model, CrossEncoder) else LiveLateInteraction(model)
