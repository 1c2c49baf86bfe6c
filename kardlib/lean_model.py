"""The same student with less work in training: modules without weights give way to quicker ones of the same function.

GELU's tanh form in one pass instead of eight. On a CPU also dropout, whose random numbers torch draws one at a time:
sixteen random bits decide about an element, so that its probability is exact to 1 in 65,536. T5's attention too: the
gradient of its position bias keeps torch from its fused one on a CPU, and what stands in for that copies more than it
need. Saved folders are as they would be without.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.activations import NewGELUActivation
from transformers.masking_utils import eager_mask

QUICK = "quick-t5"
"""Name of the attention below among those of transformers."""
_KINDS = ("t5", "mt5", "umt5")


def lean(model: Any) -> Any:
    """Replace what can be replaced, in place; without dropout, only float noise tells the results apart."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))
            elif on_cpu and type(child) is nn.Dropout:
                setattr(module, name, QuickDropout(child.p))
    if on_cpu and model.config.model_type in _KINDS:
        model.set_attn_implementation(QUICK)
    return model


class QuickDropout(nn.Module):
    """Dropout on a CPU."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, given: Tensor) -> Tensor:
        return _Drop.apply(given, self.p) if self.training and self.p > 0 else given


class _Drop(torch.autograd.Function):
    """Elements are zero with probability p, and divided by 1 - p otherwise."""

    @staticmethod
    def forward(context: Any, given: Tensor, p: float) -> Tensor:
        limit = round(p * 2**16)
        kept = random_bits(given.numel()).view(given.shape) >= limit - 2**15
        context.save_for_backward(kept)
        context.scale = 2**16 / (2**16 - limit) if limit < 2**16 else 0.0
        return given.mul(kept).mul_(context.scale)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (kept,) = context.saved_tensors
        return gradient.mul(kept).mul_(context.scale), None


def random_bits(count: int) -> Tensor:
    """So many numbers of sixteen random bits (int16), four of each draw of the generator."""
    return torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, dropout: float = 0.0,
    scaling: float | None = None, position_bias: Tensor | None = None, **_: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """T5's attention: scores, bias and mask in one buffer; arguments as transformers gives them."""
    if scaling != 1.0:
        query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = query @ key.transpose(2, 3)
    for more in (position_bias, attention_mask):
        scores = scores if more is None else scores.add_(more)
    weights = scores.softmax(-1)
    if dropout and module.training:
        weights = _Drop.apply(weights, dropout)
    return (weights.to(value.dtype) @ value).transpose(1, 2).contiguous(), weights


AttentionInterface.register(QUICK, attention)
AttentionMaskInterface.register(QUICK, eager_mask)
