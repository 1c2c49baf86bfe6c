"""T5's attention for training on a CPU: a few rows of the batch at a time, so that their weights fit into its cache.

The gradient of T5's position bias keeps torch from its own fused attention on a CPU, and what stands in for that goes
through the weights of the whole batch, tens of megabytes, a dozen times.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from .quick_dropout import keeps

QUICK = "quick-t5"
"""Its name among the attentions of transformers."""
_WEIGHTS = 2**17
"""Weights at a time, half a megabyte, or those of one row."""


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, dropout: float = 0.0,
    scaling: float | None = None, position_bias: Tensor | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Arguments as transformers gives them; the weights are not given back."""
    if scaling != 1.0:
        query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    p = dropout if module.training else 0.0
    return _Attention.apply(query, key, value, position_bias, attention_mask, p), None


class _Attention(torch.autograd.Function):
    """softmax(q k + bias + mask) v, and its gradients but the mask's.

    Queries, keys and values have the shape ``(batch, heads, tokens, width)``, the bias ``(1, heads, queries, keys)``,
    the mask ``(batch or 1, 1, queries or 1, keys)``, and what comes out ``(batch, queries, heads, width)``.
    """

    @staticmethod
    def forward(
        context: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, mask: Tensor | None, p: float
    ) -> Tensor:
        batch, heads, queries, _ = query.shape
        out, saved = value.new_empty(batch, queries, heads, value.shape[3]), []
        for rows in _parts(query, key):
            scores = query[rows] @ key[rows].transpose(2, 3)
            if bias is not None:
                scores.add_(bias)
            if mask is not None:
                scores.add_(mask[rows] if len(mask) == batch else mask)
            weights = scores.softmax(-1).to(value.dtype)
            kept, context.scale = keeps(weights.shape, p) if p > 0 else (None, 1.0)
            out[rows] = (_dropped(weights, kept, context.scale) @ value[rows]).transpose(1, 2)
            saved += [weights, kept]
        context.save_for_backward(query, key, value, *saved)
        return out

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, *saved = context.saved_tensors
        of_query, of_key, of_value = map(torch.empty_like, (query, key, value))
        of_bias = query.new_zeros(1, *query.shape[1:3], key.shape[2]) if context.needs_input_grad[3] else None
        for rows, weights, kept in zip(_parts(query, key), saved[::2], saved[1::2], strict=True):
            out = gradient[rows].transpose(1, 2)
            of_value[rows] = _dropped(weights, kept, context.scale).transpose(2, 3) @ out
            of_weights = _dropped(out @ value[rows].transpose(2, 3), kept, context.scale)
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_query[rows], of_key[rows] = of_scores @ key[rows], of_scores.transpose(2, 3) @ query[rows]
            if of_bias is not None:
                of_bias += of_scores.sum(0, keepdim=True)
        return of_query, of_key, of_value, of_bias, None, None


def _parts(query: Tensor, key: Tensor) -> Iterator[slice]:
    batch, heads, queries, _ = query.shape
    step = max(1, _WEIGHTS // (heads * queries * key.shape[2]))
    return (slice(start, start + step) for start in range(0, batch, step))


def _dropped(weights: Tensor, kept: Tensor | None, scale: float) -> Tensor:
    return weights if kept is None else weights.mul(kept).mul_(scale)


AttentionInterface.register(QUICK, attention)
AttentionMaskInterface.register(QUICK, eager_mask)
