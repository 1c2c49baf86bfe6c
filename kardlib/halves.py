"""Work on a batch that goes on where memory runs out: half of it at a time, and half of that."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .errors import KardError
from .out_of_memory import out_of_memory


def in_halves(
    work: Callable[[Sequence[int]], list[Any]], batch: Sequence[int], tell: Callable[[str], None] = print
) -> list[Any]:
    """What ``work`` makes of a batch, in its order.

    Args:
        work: gives the same number of values for each member of the batch.
        tell: is given the line that says how many go on together; samples depend on that, greedy texts do not.

    Raises:
        KardError: memory runs out with one alone.
    """
    try:
        return work(batch)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        if len(batch) == 1:
            raise KardError("out of memory with one prompt at a time; a smaller student or -p source_tokens=") from None
    gc.collect()  # outside the handler, whose traceback holds the tensors of the failed attempt
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = (len(batch) + 1) // 2
    tell(f"out of memory with {len(batch)} prompts at a time; on with {half}")
    return [*in_halves(work, batch[:half], tell), *in_halves(work, batch[half:], tell)]
