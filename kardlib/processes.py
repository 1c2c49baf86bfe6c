"""Several processes that train one student together, as ``accelerate launch`` starts them; alone, all of it is nothing.

Gradients are added up after the step's last part, by hand: processes must first agree that none of them has run out of
memory, and DistributedDataParallel would have begun to add before that is known.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from transformers import TrainerCallback

_BUCKET = 2**26
"""Bytes that are sent at a time."""


def together() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Number of this process; 0 is the one that writes."""
    return dist.get_rank() if together() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if together() else 1


def agreed(well: bool) -> bool:
    """Whether it went well in every process."""
    return added(0.0 if well else 1.0) == 0 if together() else well


def added(value: float) -> float:
    """Sum of a number over the processes."""
    if not together():
        return value
    total = torch.tensor([value], dtype=torch.float64, device=_device())
    dist.all_reduce(total)
    return float(total)


def from_first(value: Any) -> Any:
    """What the first process has, in all of them."""
    if not together():
        return value
    held = [value]
    dist.broadcast_object_list(held, src=0)
    return held[0]


def sum_gradients(model: nn.Module) -> None:
    """Add the gradients of all processes; one that had no row of the batch adds nothing."""
    if not together():
        return
    bucket: list[Tensor] = []
    for weight in model.parameters():
        if weight.requires_grad:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            bucket.append(weight.grad)
            if sum(grad.nbytes for grad in bucket) >= _BUCKET:
                _sum_bucket(bucket)
                bucket = []
    if bucket:
        _sum_bucket(bucket)


class Together(TrainerCallback):
    """All processes save a checkpoint where the first one does."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if together():
            control.should_save = from_first(control.should_save)
        return control


def _sum_bucket(bucket: list[Tensor]) -> None:
    flat = _flatten_dense_tensors(bucket)
    dist.all_reduce(flat)
    for grad, summed in zip(bucket, _unflatten_dense_tensors(flat, bucket), strict=True):
        grad.copy_(summed)


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
