"""The folder that ``kard index build`` makes: passages, an index of them, and what was found in it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from .errors import KardError
from .index import Index
from .index_key import index_key
from .index_manifest import MANIFEST, read_manifest
from .knowledge_base import KnowledgeBase
from .store import fingerprint

PASSAGES, INDEX, CANDIDATES = "passages", "index", "candidates"
"""Its subfolders; ``kard candidates`` and experiments add the last."""


def opened(folder: Path) -> Index:
    """The index of a built folder, with its passages.

    Raises:
        KardError: one of them is missing or damaged, or they do not belong together.
    """
    return Index.open(folder / INDEX, KnowledgeBase.open(folder / PASSAGES))


def rankings_hash(folder: Path) -> str:
    """Stands for every ranking in a built folder: its passages, how they are analysed and scored.

    When it was built, how many shards it has and what its licence is do not enter.

    Raises:
        KardError: the folder holds no index, or one of another version.
    """
    for manifest in (folder / PASSAGES / MANIFEST, folder / INDEX / MANIFEST):
        if not manifest.is_file():
            raise KardError(f"index {folder}: no {manifest.parent.name}/{MANIFEST}; kard index build makes it")
    return _rankings_hash(folder / INDEX, manifest.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _rankings_hash(index: Path, changed: int) -> str:
    return fingerprint(index_key(read_manifest(index)))
