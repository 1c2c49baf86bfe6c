"""How torch says that memory has run out."""

from __future__ import annotations

import torch


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, on a GPU (cuBLAS in words of its own) or on the CPU."""
    text = str(error).lower()
    told = ("out of memory", "can't allocate memory", "_status_alloc_failed")
    return isinstance(error, torch.OutOfMemoryError) or any(words in text for words in told)
