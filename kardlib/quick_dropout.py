"""Dropout on a CPU, whose random numbers torch draws one at a time.

Sixteen random bits decide about an element, so that its probability is exact to 1 in 65,536.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class QuickDropout(nn.Module):
    """What takes the place of torch's."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, given: Tensor) -> Tensor:
        return _Drop.apply(given, self.p) if self.training and self.p > 0 else given


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, given: Tensor, p: float) -> Tensor:
        kept, context.scale = keeps(given.shape, p)
        context.save_for_backward(kept)
        return given.mul(kept).mul_(context.scale)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (kept,) = context.saved_tensors
        return gradient.mul(kept).mul_(context.scale), None


def keeps(shape: Sequence[int], p: float) -> tuple[Tensor, float]:
    """Which elements are kept, each with probability 1 - p, and what they are multiplied with: 1 / (1 - p)."""
    limit = round(p * 2**16)
    bits = random_bits(torch.Size(shape).numel()).view(*shape)
    return bits >= limit - 2**15, 2**16 / (2**16 - limit) if limit < 2**16 else 0.0


def random_bits(count: int) -> Tensor:
    """So many numbers of sixteen random bits (int16), four of each draw of the generator."""
    return torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
