"""The words of an index: sorted UTF-8 terms in one file of bytes and one of offsets, read where they lie.

A dictionary of a million terms takes some 150 MB in every process that searches. Here a process keeps every
sixteenth term and reads the rest from the mapped files.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np

TERMS, OFFSETS = "vocabulary.utf8", "vocabulary.offsets"
_STEP = 16


def write_vocabulary(folder: Path, terms: Sequence[str]) -> None:
    """Write terms that are sorted (by code point, which is the order of their UTF-8 bytes) and distinct."""
    offsets = np.zeros(len(terms) + 1, dtype=np.int64)
    with open(folder / TERMS, "wb") as file:
        for start in range(0, len(terms), 1 << 16):
            encoded = [term.encode() for term in terms[start : start + (1 << 16)]]
            offsets[start + 1 : start + 1 + len(encoded)] = [len(term) for term in encoded]
            file.write(b"".join(encoded))
    np.cumsum(offsets, out=offsets)
    offsets.tofile(folder / OFFSETS)


def read_array(path: Path, mapped: bool) -> np.ndarray:
    """The bytes of a file, read-only: mapped, so that they belong to the page cache, or in memory."""
    if not mapped or not path.stat().st_size:
        held = np.fromfile(path, dtype=np.uint8)
        held.setflags(write=False)
        return held
    with open(path, "rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)


class Vocabulary:
    """Number of a term: its place among the sorted terms."""

    def __init__(self, folder: Path, mapped: bool = True) -> None:
        self._bytes = memoryview(read_array(folder / TERMS, mapped))
        self._offsets = read_array(folder / OFFSETS, mapped).view(np.int64)
        self._guide = [self._between(*self._offsets[i : i + 2]) for i in range(0, len(self), _STEP)]

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def _between(self, start: int, end: int) -> bytes:
        return bytes(self._bytes[start:end])

    def number(self, term: str) -> int:
        """Place of a term, or -1 where no passage has it."""
        wanted = term.encode(errors="surrogatepass")
        first = (bisect_right(self._guide, wanted) - 1) * _STEP
        if first < 0:
            return -1
        offsets = self._offsets[first : first + _STEP + 1].tolist()
        near = [self._between(start, end) for start, end in zip(offsets, offsets[1:], strict=False)]
        at = bisect_left(near, wanted)
        return first + at if at < len(near) and near[at] == wanted else -1

    def term(self, number: int) -> str:
        """The term at a place."""
        return self._between(*self._offsets[number : number + 2]).decode()
