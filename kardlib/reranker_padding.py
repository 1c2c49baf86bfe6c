"""Eq. 3 with little padding: the passages of a training step go through the encoder in chunks of about equal length.

The library pads all passages of a step to the longest of them (late interaction), or those of two questions or so to
the longest of those (cross-encoder). Sorted by length and cut into chunks, each chunk is padded to its own longest. The
loss and its gradient are the same, dropout and float noise aside.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from sentence_transformers import CrossEncoder, MultiVectorEncoder
from sentence_transformers.base.losses.merged_forward import merge_feature_batches
from sentence_transformers.util import batch_to_device, cat_padded_token_embeddings
from torch import Tensor, nn

from .errors import KardError
from .padding import chunk_sizes
from .presets import Settings
from .released_reranker import scores_of_fixed_passages
from .reranker_losses import CrossEncoderLoss, LateInteractionLoss

CHUNK = 16
"""Passages of one forward pass, of the usual length; more where they are shorter, as small passes cost more."""


class SortedLateInteractionLoss(LateInteractionLoss):
    """:class:`LateInteractionLoss` with passages in chunks of about equal length."""

    def __init__(self, model: MultiVectorEncoder, chunk: int = CHUNK, **options: Any) -> None:
        super().__init__(model, **options)
        if model.tokenizer.padding_side != "right":
            raise KardError("passages can be sorted by length only where the tokenizer pads on the right")
        self._chunk = chunk

    def forward(self, sentence_features: Any, labels: Tensor) -> Tensor:
        query, *columns = [dict(features) for features in sentence_features]
        merged = merge_feature_batches(columns)
        if merged is None:  # features that the library itself does not put together
            return super().forward([query, *columns], labels)
        asked = self.model(query, task="query")
        vectors, mask = embed_sorted(self.model, merged, self._chunk)
        rows = len(labels)
        vectors = vectors.reshape(len(columns), rows, *vectors.shape[1:]).transpose(0, 1)
        mask = mask.reshape(len(columns), rows, -1).transpose(0, 1)
        scores = self.similarity_fct(
            asked["token_embeddings"], vectors, queries_mask=asked["attention_mask"].bool(), documents_mask=mask
        )
        return kl(labels / self.teacher_temperature, scores / self.student_temperature)


class SortedCrossEncoderLoss(CrossEncoderLoss):
    """:class:`CrossEncoderLoss` with pairs in chunks of about equal length."""

    def __init__(self, model: CrossEncoder, tau2: float, chunk: int = CHUNK) -> None:
        super().__init__(model, tau2)
        self._chunk = chunk

    def forward(self, inputs: Any, labels: list[Tensor], *args: Any, **kwargs: Any) -> Tensor:
        queries, lists = inputs
        pairs = [(query, passage) for query, passages in zip(queries, lists, strict=True) for passage in passages]
        order = sorted(range(len(pairs)), key=lambda i: sum(map(len, pairs[i])))
        scores, left = [], iter(order)
        # tokens are not known yet: four characters each
        for size in chunk_sizes([sum(map(len, pairs[i])) // 4 for i in order], self._chunk):
            features = self.model.preprocess([pairs[i] for i in itertools.islice(left, size)])
            scores.append(self.model(batch_to_device(features, self.model.device))["scores"].view(-1))
        back = torch.tensor(order, device=self.model.device).argsort()
        rows = torch.cat(scores).float()[back].reshape(len(queries), -1)
        teacher = torch.stack(list(labels)).float().to(rows.device)
        return kl(teacher / self._factor, self.activation_fn(rows))


def kl(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean over rows of KL(Q || P), of scores that are divided by their temperatures, shape ``(batch, candidates)``."""
    log_q, log_p = torch.log_softmax(teacher.detach(), -1), torch.log_softmax(student, -1)
    return nn.functional.kl_div(log_p, log_q, reduction="batchmean", log_target=True)


def embed_sorted(model: MultiVectorEncoder, features: dict[str, Any], chunk: int) -> tuple[Tensor, Tensor]:
    """Token vectors and scoring mask of passages, in their order, each chunk encoded at its own width.

    Args:
        features: tokenized passages, padded on the right to one width.

    Returns:
        Shapes ``(passages, tokens, width)`` and ``(passages, tokens)``, padded to the longest passage.
    """
    lengths = features["attention_mask"].sum(1)
    order = lengths.argsort(stable=True)
    vectors, masks = [], []
    for part in order.split(chunk_sizes(lengths[order].tolist(), chunk)):
        width = int(lengths[part].max())
        cut = {name: value[part, :width] for name, value in features.items() if _by_token(value, len(lengths))}
        rest = {name: value for name, value in features.items() if name not in cut}
        encoded = model(rest | cut, task="document")
        vectors.append(encoded["token_embeddings"])
        masks.append(encoded["attention_mask"].bool())
    together, mask = cat_padded_token_embeddings(vectors, masks)
    back = order.argsort()
    return together[back], mask[back].bool()


def _by_token(value: Any, rows: int) -> bool:
    return isinstance(value, Tensor) and value.ndim == 2 and len(value) == rows


def sorted_loss_of(
    model: Any, settings: Settings, chunk: int = CHUNK
) -> SortedLateInteractionLoss | SortedCrossEncoderLoss:
    """What :func:`kardlib.reranker_losses.loss_of` gives for the same settings, with length-sorted chunks."""
    if settings.reranker_form == "cross-encoder":
        return SortedCrossEncoderLoss(model, settings.tau2, chunk)
    fixed = {"similarity_fct": scores_of_fixed_passages} if settings.reranker_frozen_passages else {}
    taus = {"student_temperature": settings.tau2, "teacher_temperature": settings.tau1}
    return SortedLateInteractionLoss(model, chunk, **taus, **fixed)
