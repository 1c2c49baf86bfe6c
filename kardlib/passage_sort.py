"""Sorting passages by id when there are more of them than memory holds: sorted runs on disk, then one merge."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from operator import attrgetter
from pathlib import Path

import pyarrow as pa

from .passage_files import Entry, batches_of

RUN_BYTES = 1 << 28
RUN_ROWS = 500
"""Rows of a run that the merge holds at once: it has a batch of every run in memory."""
ENTRY_BYTES = 400
"""What Python adds to the text of an entry, about."""
_BY_ID = attrgetter("id")


def sorted_by_id(entries: Iterable[Entry], scratch: Path, run_bytes: int = RUN_BYTES) -> Iterator[Entry]:
    """The entries in the order of their ids; equal ids follow each other, in the order in which they came.

    Args:
        scratch: folder for the runs; they are removed as soon as the last entry was given.
        run_bytes: memory that the entries of one run may take; a single run never touches the disk.
    """
    runs: list[Path] = []
    held: list[Entry] = []
    size = 0
    for entry in entries:
        held.append(entry)
        size += len(entry.text) + ENTRY_BYTES
        if size >= run_bytes:
            runs.append(_spill(sorted(held, key=_BY_ID), scratch / f"run-{len(runs):05d}.arrow"))
            held, size = [], 0
    held.sort(key=_BY_ID)
    yield from heapq.merge(*map(_read, runs), held, key=_BY_ID)
    for run in runs:
        run.unlink()


def _spill(entries: list[Entry], path: Path) -> Path:
    batches = batches_of(entries, Entry._fields, RUN_ROWS)
    first = next(batches)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, first.schema) as writer:
        writer.write_batch(first)
        for batch in batches:
            writer.write_batch(batch)
    return path


def _read(path: Path) -> Iterator[Entry]:
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream:
            for row in zip(*(batch.column(name).to_pylist() for name in Entry._fields), strict=True):
                yield Entry(*row)
