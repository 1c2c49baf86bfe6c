"""Passages as memory-mapped Arrow files: what ``datasets.load_from_disk`` reads, written as a stream."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa

from .errors import KardError

COLUMNS = ("id", "text", "document")
ROWS_A_BATCH, BYTES_A_BATCH, BYTES_A_FILE = 10_000, 1 << 24, 1 << 30


class Entry(NamedTuple):
    """A passage on its way into a knowledge base.

    Attributes:
        document: the id of the document that it was cut from; empty where there is none.
        where: its file and line, for error messages; not kept.
    """

    id: str
    text: str
    document: str
    where: str


class Written(NamedTuple):
    """What has been written: passages, white-space words, the digest of ``digest_of``, and bytes by file name."""

    count: int
    words: int
    digest: str
    files: dict[str, int]


def batches_of(
    entries: Iterable[Entry], columns: tuple[str, ...] = COLUMNS, most: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Record batches of bounded size, of ``most`` rows at most, in the order of the entries."""
    most = most or ROWS_A_BATCH
    rows: list[Entry] = []
    size = 0
    for entry in entries:
        rows.append(entry)
        size += len(entry.text)
        if len(rows) == most or size >= BYTES_A_BATCH:
            yield _batch(rows, columns)
            rows, size = [], 0
    if rows:
        yield _batch(rows, columns)


def _batch(rows: list[Entry], columns: tuple[str, ...]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array([getattr(row, name) for row in rows], pa.string()) for name in columns], names=list(columns)
    )


def mapped_batches(path: Path) -> list[pa.RecordBatch]:
    """All batches of a file. They lie in the mapped file, not in memory.

    Raises:
        KardError: the file is missing, cut short or no Arrow file.
    """
    try:
        with pa.ipc.open_stream(pa.memory_map(str(path))) as stream:
            return list(stream)
    except (OSError, pa.ArrowException) as error:
        raise KardError(f"{path}: not a whole file of passages ({' '.join(str(error).split())[:200]})") from None


def write_passages(folder: Path, entries: Iterable[Entry], bytes_a_file: int = BYTES_A_FILE) -> Written:
    """Write entries, which must come sorted by id, to an empty folder.

    Raises:
        KardError: an id is empty, occurs twice or is out of order, a text is empty or cannot be written as UTF-8.
    """
    digest, counted = hashlib.sha256(), [0, 0]
    files: dict[str, int] = {}
    stream = _checked(entries, digest, counted)
    batches = batches_of(stream)
    batch = next(batches, None)
    while batch is not None:
        name = f"passages-{len(files):05d}.arrow"
        with open(folder / name, "wb") as file:
            with pa.ipc.new_stream(file, batch.schema) as writer:
                while batch is not None and file.tell() < bytes_a_file:
                    writer.write_batch(batch)
                    batch = next(batches, None)
            files[name] = _flushed(file)
    _describe(folder, list(files), digest.hexdigest())
    return Written(counted[0], counted[1], digest.hexdigest(), files)


def _checked(entries: Iterable[Entry], digest: Any, counted: list[int]) -> Iterator[Entry]:
    """The entries, each checked, counted and taken into the digest on its way."""
    last: Entry | None = None
    for entry in entries:
        if not entry.id:
            raise KardError(f"{entry.where}: field id: it is missing, and this rule takes passages as they are named")
        if not entry.text:
            raise KardError(f"{entry.where}: field text: it is empty")
        if last and entry.id <= last.id:
            if entry.id == last.id:
                raise KardError(f"{entry.where}: field id: {entry.id!r} occurs twice (also at {last.where})")
            raise KardError(f"{entry.where}: field id: {entry.id!r} comes behind {last.id!r}")
        try:
            digest.update(f"{entry.id}\t{entry.text}\n".encode())
            entry.document.encode()
        except UnicodeEncodeError:
            raise KardError(f"{entry.where}: field text: half a surrogate pair, which is no character") from None
        counted[0] += 1
        counted[1] += len(entry.text.split())
        last = entry
        yield entry


def _flushed(file: IO[bytes]) -> int:
    file.flush()
    os.fsync(file.fileno())
    return file.tell()


def _describe(folder: Path, names: list[str], digest: str) -> None:
    """The two small files by which ``datasets`` knows a saved data set."""
    features = {name: {"dtype": "string", "_type": "Value"} for name in COLUMNS}
    state = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": digest[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    for name, value in (("dataset_info.json", {"features": features}), ("state.json", state)):
        (folder / name).write_text(json.dumps(value, indent=1), encoding="utf-8")
