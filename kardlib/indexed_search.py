"""The search of an experiment whose knowledge base has an index: a folder that ``kard index build`` has made."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from .candidate_store import DEPTH, CandidateStore, Unwritable
from .errors import KardError
from .index_folder import CANDIDATES, opened
from .index_key import index_key
from .knowledge_base import KnowledgeBase
from .stored_candidates import StoredSearcher


class Texts(Mapping[str, str]):
    """Passage texts by id, read from disk one by one."""

    def __init__(self, base: KnowledgeBase) -> None:
        self._base = base

    def __getitem__(self, identifier: str) -> str:
        return self._base[self._base.place(identifier)].text

    def __contains__(self, identifier: object) -> bool:
        try:
            self._base.place(str(identifier))
        except KardError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return (passage.id for passage in self._base)

    def __len__(self) -> int:
        return len(self._base)


class IndexedSearch(StoredSearcher):
    """What was searched for before is looked up; the rest is searched for.

    Args:
        folder: with ``passages`` and ``index``; ``candidates`` are added to it.

    Raises:
        KardError: the folder is not whole, or its index does not belong to its passages.
    """

    def __init__(self, folder: str) -> None:
        index = opened(Path(folder))
        self.base: KnowledgeBase = index.passages
        super().__init__(CandidateStore(Path(folder) / CANDIDATES, index_key(index.manifest)), index, live=True)
        self.texts = Texts(self.base)
        self._kept = True

    def know(self, queries: Mapping[str, str], k: int) -> None:
        """Search for the k best of many queries (key to text) at once, or more, and keep what is found.

        Those that are stored cost nothing.

        Where nothing can be kept, that is said once, and each query is searched for when it is asked.
        """
        if not self._kept:
            return
        try:
            self._store.add_missing(queries, self._index, max(k, DEPTH), progress=True)
        except Unwritable as error:
            self._kept = False
            print(f"{error}; each query is searched for when it is asked", file=sys.stderr)
