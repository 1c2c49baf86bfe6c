"""Training on a CPU without torch's slow dropout, whatever the model: for rerankers of real sets, with long passages.

With dropout, torch's attention on a CPU takes its way for all cases, which draws the random numbers of each weight one
at a time. Students have :mod:`kardlib.lean_model`, which goes further for T5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from .quick_dropout import QuickDropout


class QuickTraining(TorchFunctionMode):
    """While it is entered, dropout of tensors on a CPU, also that within attention, is :class:`QuickDropout`."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        quick = _QUICK.get(func)
        on_cpu = quick and args and args[0].device.type == "cpu"
        result = quick(*args, **(kwargs or {})) if on_cpu else None
        return func(*args, **(kwargs or {})) if result is None else result


def _dropout(given: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor | None:
    return QuickDropout(p)(given) if training and p > 0 and not inplace else None


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor | None:  # fmt: skip
    """softmax(q k) v with dropout of the weights; None where torch's own is as quick or asked for something else."""
    if dropout_p == 0 or is_causal or enable_gqa:
        return None
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    if attn_mask is not None:
        scores.add_(attn_mask if attn_mask.is_floating_point() else _as_numbers(attn_mask, scores.dtype))
    return QuickDropout(dropout_p)(scores.softmax(-1)) @ value


def _as_numbers(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where attention may look, minus infinity elsewhere: to add that is quicker, back and forth, than to fill."""
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, -torch.inf)


_QUICK = {functional.dropout: _dropout, functional.scaled_dot_product_attention: _attention}
