"""What the benchmarks search: Simple English Wikipedia in windows of 100 words, and 200 rationales as queries.

Both come from the folder that ``KARD_DATA`` names: ``wikipedia_simple/articles.jsonl.gz`` and ``lucene_parity.json``,
which also holds the rule of the windows and a hash of all of them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path

from kardlib.documents import read_documents
from kardlib.errors import KardError
from kardlib.passage_rules import WINDOWS
from kardlib.records import Passage


def data_folder() -> Path:
    """The folder with the real data; a KardError where ``KARD_DATA`` names none."""
    folder = Path(os.environ.get("KARD_DATA", ""))
    if not (folder / "lucene_parity.json").is_file():
        raise KardError("KARD_DATA: it names no folder with lucene_parity.json and wikipedia_simple")
    return folder


@cache
def parity() -> dict:
    """``queries`` and Lucene's ``top100`` places for each, with the number and hash of the passages."""
    return json.loads((data_folder() / "lucene_parity.json").read_text(encoding="utf-8"))


def texts(count: int | None = None) -> list[str]:
    """The first passages (default: all 313,606, whose hash is then checked), in file order."""
    found: list[str] = []
    for article in read_documents(data_folder() / "wikipedia_simple" / "articles.jsonl.gz"):
        found += WINDOWS.cut(article.title, article.text)
        if count is not None and len(found) >= count:
            return found[:count]
    if hashlib.sha256("\n".join(found).encode()).hexdigest() != parity()["sha256_of_passages_joined_by_newline"]:
        raise KardError("wikipedia_simple: its passages are not those of lucene_parity.json")
    return found


class Numbered:
    """Texts as a source of passages: the id of a passage is its place.

    Args:
        base: texts.
        rounds: how often they are taken. From the second time on every tenth word is a fresh one, so that the
            vocabulary grows with the text as it does in real text, roughly; only ``base`` is held in memory.
    """

    def __init__(self, base: list[str], rounds: int = 1) -> None:
        self._base, self._rounds = base, rounds

    @cached_property
    def digest(self) -> str:
        """As :func:`kardlib.passage_source.digest_of` has it."""
        digest = hashlib.sha256()
        for passage in self:
            digest.update(f"{passage.id}\t{passage.text}\n".encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._base) * self._rounds

    def __getitem__(self, place: int) -> Passage:
        turn, at = divmod(place, len(self._base))
        return self._passage(turn, at, self._base[at], place)

    @staticmethod
    def _passage(turn: int, at: int, text: str, place: int) -> Passage:
        return Passage.model_construct(id=f"{place:08d}", text=_freshened(text, turn, at) if turn else text)

    def __iter__(self) -> Iterator[Passage]:
        return (self[place] for place in range(len(self)))


class Absent:
    """Stands for passages that lie elsewhere: an index asks only for their number and hash."""

    def __init__(self, count: int, digest: str) -> None:
        self._count, self.digest = count, digest

    def __len__(self) -> int:
        return self._count


def _freshened(text: str, turn: int, at: int) -> str:
    words = text.split(" ")
    words[at % 10 :: 10] = [f"r{turn}{word}" for word in words[at % 10 :: 10]]
    return " ".join(words)
