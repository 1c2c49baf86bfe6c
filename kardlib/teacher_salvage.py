"""What can still be read of a teacher's store that is damaged, on a read-only or full disk, or of another version."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .errors import KardError
from .teacher_records import Ask, Sample
from .teacher_store import COLUMNS, checksum, sample_of

MOST_MISSES = 20_000
"""Rows in a run that cannot be read after which a table is taken to be at its end."""


def salvage(path: Path) -> Iterator[tuple[Ask, Sample]]:
    """Every completion whose row and whose prompt can be read, in the order of a sound store's export.

    The file itself is never written to.

    Raises:
        KardError: there is no such file, it is no database, or it has no tables of asks and samples.
    """
    if not Path(path).is_file():
        raise KardError(f"{path}: no such file")
    with _opened(Path(path)) as connection:
        asks = {row[0]: ask for row in _rows(connection, "asks", "identity, ask") if (ask := _ask(row))}
        places = []
        for identity, attempt, check, *row in _rows(connection, "samples", f"identity, attempt, checksum, {COLUMNS}"):
            if identity in asks and (sample := _sample(row)) and checksum(sample) == check:
                places.append(((identity, sample.index, attempt), sample))
    if not asks:
        raise KardError(f"{path}: nothing in it can be read as a teacher's store")
    for (identity, *_), sample in sorted(places, key=lambda place: place[0]):
        yield asks[identity], sample


def _ask(row: tuple[Any, ...]) -> Ask | None:
    try:
        ask = Ask.model_validate_json(row[1])
    except ValidationError:
        return None
    return ask if ask.identity == row[0] else None  # else its bytes have been changed


def _sample(row: list[Any]) -> Sample | None:
    try:
        return sample_of(tuple(row))
    except ValidationError:
        return None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A reading connection: to the file, to a copy where the folder cannot be written, else to the main file alone."""
    with tempfile.TemporaryDirectory() as folder:
        connection = _try_open(f"{path.absolute().as_uri()}?mode=ro")
        if connection is None and (copy := _copied(path, Path(folder))):
            connection = _try_open(f"{copy.as_uri()}?mode=ro")
        connection = connection or _try_open(f"{path.absolute().as_uri()}?immutable=1")
        if connection is None:
            raise KardError(f"{path}: nothing in it can be read as a teacher's store")
        with contextlib.closing(connection):
            yield connection


def _copied(path: Path, folder: Path) -> Path | None:
    try:
        for name in (path.name, f"{path.name}-wal"):
            if (path.parent / name).exists():
                shutil.copyfile(path.parent / name, folder / name)
    except OSError:
        return None
    return folder / path.name


def _try_open(address: str) -> sqlite3.Connection | None:
    connection = None
    try:
        connection = sqlite3.connect(address, uri=True)
        connection.execute("PRAGMA writable_schema=ON")  # lets SQLite read a file that is shorter than its header says
        connection.execute("PRAGMA cell_size_check=ON")
        connection.execute("SELECT 1 FROM asks, samples LIMIT 0")
        connection.execute("SELECT name FROM sqlite_master").fetchall()
    except sqlite3.Error:
        if connection:
            connection.close()
        return None
    connection.text_factory = lambda raw: raw.decode("utf-8", "strict")
    return connection


def _rows(connection: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """Rows from the front up to the first that cannot be read; then, one by one, whatever lies behind it."""
    last = 0
    query = f"SELECT rowid, {columns} FROM {table} NOT INDEXED WHERE rowid"
    try:
        for number, *row in connection.execute(f"{query} > 0 ORDER BY rowid"):
            yield tuple(row)
            last = number
        return
    except (sqlite3.Error, UnicodeDecodeError):
        pass
    misses, number = 0, last
    while misses < MOST_MISSES:
        number, misses = number + 1, misses + 1
        with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
            for _, *row in connection.execute(f"{query} = ?", (number,)):
                yield tuple(row)
                misses = 0
