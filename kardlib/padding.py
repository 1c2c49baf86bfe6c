"""Rows of token ids of different lengths as one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch

USUAL_TOKENS = 128
"""Of a passage of about 100 words."""


def pad_rows(rows: Sequence[list[int]], value: int, left: bool) -> torch.Tensor:
    """Shape ``(rows, longest)``: each row made as long as the longest with a value, in front (``left``) or behind."""
    width = max(len(row) for row in rows)
    return torch.tensor([([value] * (width - len(r)) + r) if left else (r + [value] * (width - len(r))) for r in rows])


def mask_of(rows: Sequence[list[int]], left: bool = False) -> torch.Tensor:
    """1 for each token of the rows, 0 for padding."""
    return pad_rows([[1] * len(row) for row in rows], 0, left)


def chunk_sizes(lengths: Sequence[int], chunk: int) -> list[int]:
    """Texts of each forward pass: ``chunk`` times the usual length has room, padded, and one text in any case.

    Args:
        lengths: tokens of each text, ascending.
    """
    sizes: list[int] = []
    for length in lengths:
        if sizes and (sizes[-1] + 1) * length <= chunk * USUAL_TOKENS:
            sizes[-1] += 1
        else:
            sizes.append(1)
    return sizes
