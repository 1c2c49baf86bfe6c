"""What an encoder made of prompts that were answered, kept until the options behind the answers are scored."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

MOST = 2**29
"""Bytes that are kept; prompts beyond that are read once more."""


class Readings:
    """States of an encoder by prompt.

    Args:
        most: bytes that are kept.
    """

    def __init__(self, most: int = MOST) -> None:
        self._states: dict[tuple[int, ...], Tensor] = {}
        self._left = self._most = most

    def keep(self, rows: Sequence[list[int]], states: Tensor) -> None:
        """Keep what was read, as far as there is room.

        Args:
            rows: token ids of the prompts.
            states: shape ``(prompts, tokens, width)``, padded behind.
        """
        for row, own in zip(rows, states, strict=True):
            size = len(row) * own.shape[-1] * own.element_size()
            if size <= self._left and tuple(row) not in self._states:
                self._states[tuple(row)] = own[: len(row)].clone()
                self._left -= size

    def of(self, rows: Sequence[list[int]]) -> Tensor | None:
        """States of all rows, zero behind their ends; None where one of them is not kept."""
        found = [self._states.get(tuple(row)) for row in rows]
        return None if any(own is None for own in found) else pad_sequence(found, batch_first=True)

    def forget(self) -> None:
        self._states, self._left = {}, self._most
