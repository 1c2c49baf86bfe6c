"""What an index is built of and names its hits by: passages in a fixed order, wherever they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from .errors import KardError
from .records import Passage


class PassageSource(Protocol):
    """Passages sorted by id; a place in the order is what an index stores, so equal scores go by id."""

    @property
    def digest(self) -> str:
        """Hash of ids and texts in order; see :func:`digest_of`."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int) -> Passage: ...

    def __iter__(self) -> Iterator[Passage]: ...


class PassageList:
    """A source in memory.

    Raises:
        KardError: there are none, or an id occurs twice.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        if not passages:
            raise KardError("the knowledge base is empty")
        self._passages = sorted(passages, key=lambda passage: passage.id)
        for one, other in zip(self._passages, self._passages[1:], strict=False):
            if one.id == other.id:
                raise KardError(f"passage id {one.id} occurs twice")
        self.digest = digest_of(self._passages)

    def __len__(self) -> int:
        return len(self._passages)

    def __getitem__(self, place: int) -> Passage:
        return self._passages[place]

    def __iter__(self) -> Iterator[Passage]:
        return iter(self._passages)


def digest_of(passages: Iterable[Passage]) -> str:
    """sha256 over ``id``, tab, text, newline of every passage in order, as hexadecimal digits."""
    digest = hashlib.sha256()
    for passage in passages:
        digest.update(f"{passage.id}\t{passage.text}\n".encode())
    return digest.hexdigest()
