"""The Batch API of the fault server."""

from __future__ import annotations


class Batches:
    def __init__(self, choice: object) -> None:
        self.log = []
