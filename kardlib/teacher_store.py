"""Where a teacher's completions are kept: one row a sample, on the disk before anything else is done with it.

Sample ``index`` of an ask is a slot. A completion that came to its own end fills it; one that did not (cut off,
refused, empty) is kept as an attempt at the slot and does not count. A slot is asked for again until :data:`ATTEMPTS`
attempts have failed; then it is given up, and neither a resumed run nor a later one asks for it unless it is told more
attempts.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import KardError
from .teacher_records import Ask, Sample

ATTEMPTS = 3
"""Completions of one slot that are paid for at most."""
APPLICATION = 0x4B415244
"""``KARD``, in the file's header."""
VERSION = 1
BUSY_SECONDS = 30.0
_SCHEMA = """
CREATE TABLE asks (identity TEXT PRIMARY KEY, ask TEXT NOT NULL, question_id TEXT NOT NULL, purpose TEXT NOT NULL);
CREATE TABLE samples (
    identity TEXT NOT NULL REFERENCES asks, idx INTEGER NOT NULL, attempt INTEGER NOT NULL, good INTEGER NOT NULL,
    text TEXT NOT NULL, finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    source TEXT NOT NULL, arrived REAL NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (identity, idx, attempt)
);
CREATE UNIQUE INDEX one_good_sample_a_slot ON samples (identity, idx) WHERE good;
CREATE TABLE faults (kind TEXT NOT NULL, time REAL NOT NULL);
CREATE TABLE batches (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, teacher TEXT NOT NULL, state TEXT NOT NULL, file_id TEXT,
    batch_id TEXT, made REAL NOT NULL
);
CREATE TABLE batch_samples (
    batch INTEGER NOT NULL REFERENCES batches, identity TEXT NOT NULL REFERENCES asks, idx INTEGER NOT NULL,
    PRIMARY KEY (identity, idx, batch)
);
CREATE INDEX samples_of_a_batch ON batch_samples (batch);
"""
COLUMNS = "idx, text, finish_reason, prompt_tokens, completion_tokens, source, arrived"
"""Columns of ``samples`` that make a :class:`Sample`, in the order of its fields."""
OPEN_BATCH = "state != 'closed'"


class TeacherStore:
    """An SQLite file of asks, samples, faults and batches.

    It may be used from several threads. Several processes may read it; one run at a time fills it (:meth:`hold`).

    Args:
        path: made if it is not there.
        attempts: completions of one slot that are paid for at most.

    Raises:
        KardError: the file is damaged, of another version, not a store, or cannot be written.
    """

    def __init__(self, path: Path, attempts: int = ATTEMPTS) -> None:
        self.path = Path(path)
        self.attempts = attempts
        self._lock, self._read_lock = threading.RLock(), threading.Lock()
        with told(self.path):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise KardError(f"{self.path}: cannot be made ({error.strerror or error})") from None
            self._connection = self._connect()
            self._reader = self._connection
            try:
                self._prepare()
                self._reader = self._connect()  # a second one, so that reading never waits for the disk
            except BaseException:
                self._connection.close()
                raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous=FULL")  # a commit returns once the sample is on the disk
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    def _prepare(self) -> None:
        if self._value("PRAGMA user_version") == 0 and self._value("SELECT count(*) FROM sqlite_master") == 0:
            self._connection.execute("PRAGMA journal_mode=WAL")
            with self.writing():
                if self._value("SELECT count(*) FROM sqlite_master") == 0:  # else another process was faster
                    for statement in _SCHEMA.split(";"):
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA application_id={APPLICATION}")
                    self._connection.execute(f"PRAGMA user_version={VERSION}")
        if self._value("PRAGMA application_id") != APPLICATION:
            raise KardError(f"{self.path}: a database, but not a teacher's store; name another file")
        version = self._value("PRAGMA user_version")
        if version != VERSION:
            raise KardError(
                f"{self.path}: a store of version {version}, and this kit writes {VERSION}; "
                "export it and import that into a new store"
            )
        if self._value("PRAGMA quick_check(1)") != "ok":
            raise sqlite3.DatabaseError("malformed")

    def close(self) -> None:
        """Leave one file with everything in it."""
        with self._lock, self._read_lock:
            self._reader.close()
            self._connection.close()

    def __enter__(self) -> TeacherStore:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Be the one process that asks on behalf of this store; two would pay for the same samples.

        Raises:
            KardError: another process does so already.
        """
        try:
            with FileLock(f"{self.path}.lock", timeout=0):
                yield
        except Timeout:
            raise KardError(f"{self.path}: another run is filling it; wait for that one, or stop it") from None
        except OSError as error:
            raise KardError(f"{self.path}.lock: cannot be made ({error.strerror or error})") from None

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is on the disk when the block ends, or nothing."""
        with self._lock, told(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk has rolled back already
                    self._connection.execute("ROLLBACK")
                raise

    def put(self, ask: Ask, sample: Sample) -> Sample:
        """Write one completion; see :meth:`put_many`."""
        return self.put_many([(ask, sample)])[0]

    def put_many(self, pairs: Iterable[tuple[Ask, Sample]], faults: Iterable[tuple[str, float]] = ()) -> list[Sample]:
        """Write completions and faults (kind, seconds since the epoch) in one transaction.

        Nothing is written twice. A good completion whose slot is filled (two runs were merged) goes to the next free
        index, as it is a sample like any other.

        Returns:
            The samples as they are kept.
        """
        with self.writing() as connection:
            kept = [self.place(ask, sample) for ask, sample in pairs]
            connection.executemany("INSERT INTO faults VALUES (?, ?)", faults)
        return kept

    def add_asks(self, asks: Iterable[Ask]) -> None:
        """Write asks that have no sample yet; part of a transaction of the caller's."""
        rows = ((ask.identity, ask.model_dump_json(), ask.question_id, ask.purpose) for ask in asks)
        self._connection.executemany("INSERT OR IGNORE INTO asks VALUES (?, ?, ?, ?)", rows)

    def place(self, ask: Ask, sample: Sample) -> Sample:
        """Write one completion as part of a transaction of the caller's; see :meth:`put_many`."""
        self.add_asks([ask])
        identity = ask.identity
        same = "text = ? AND finish_reason = ? AND arrived = ?"
        content = (sample.text, sample.finish_reason, sample.arrived)
        slot = self._all("SELECT good FROM samples WHERE identity = ? AND idx = ?", identity, sample.index)
        if slot and self._all(
            f"SELECT 1 FROM samples WHERE identity = ? AND idx = ? AND {same}", identity, sample.index, *content
        ):
            return sample
        if sample.good and any(good for (good,) in slot):
            moved = self._all(f"SELECT idx FROM samples WHERE identity = ? AND {same}", identity, *content)
            if moved:
                return sample.model_copy(update={"index": moved[0][0]})
            free = self._value("SELECT max(idx) + 1 FROM samples WHERE identity = ?", identity)
            sample, slot = sample.model_copy(update={"index": free}), []
        (index, *rest) = sample.model_dump().values()
        self._connection.execute(
            "INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (identity, index, len(slot), sample.good, *rest, checksum(sample)),
        )
        return sample

    def missing(self, ask: Ask, count: int, batched: bool = False) -> list[int]:
        """Indices below ``count`` that are still to be asked for: neither filled nor given up.

        Args:
            batched: whether samples that an open batch is to bring are missing as well.
        """
        taken = self.taken(ask, batched)
        return [index for index in range(count) if index not in taken]

    def taken(self, ask: Ask, batched: bool = False) -> set[int]:
        """Indices that need not be asked for."""
        done = "SELECT idx FROM samples WHERE identity = ? GROUP BY idx HAVING max(good) OR count(*) >= ?"
        rows = self.read(done, ask.identity, self.attempts)
        if not batched:
            waiting = f"SELECT idx FROM batch_samples JOIN batches ON id = batch WHERE identity = ? AND {OPEN_BATCH}"
            rows += self.read(waiting, ask.identity)
        return {index for (index,) in rows}

    def tried(self, ask: Ask, index: int) -> int:
        """Attempts at a slot that are stored."""
        query = "SELECT count(*) FROM samples WHERE identity = ? AND idx = ?"
        return int(self.read(query, ask.identity, index)[0][0])

    def get(self, ask: Ask, count: int | None = None) -> list[Sample]:
        """Good samples of an ask in index order: those with an index below ``count``, or all."""
        query = f"SELECT {COLUMNS} FROM samples WHERE identity = ? AND good AND idx < ? ORDER BY idx"
        rows = self.read(query, ask.identity, 2**62 if count is None else count)
        return [sample_of(row) for row in rows]

    def tries(self, ask: Ask, count: int) -> list[Sample]:
        """All completions of an ask with an index below ``count``, those that do not count included."""
        query = f"SELECT {COLUMNS} FROM samples WHERE identity = ? AND idx < ? ORDER BY idx, attempt"
        return [sample_of(row) for row in self.read(query, ask.identity, count)]

    def ask(self, identity: str) -> Ask:
        """The ask of an identity that the store knows."""
        return Ask.model_validate_json(self.read("SELECT ask FROM asks WHERE identity = ?", identity)[0][0])

    def everything(self) -> Iterator[tuple[Ask, Sample]]:
        """All completions, the attempts that failed included, in an order that does not depend on when they came."""
        identity = ""
        while True:
            following = "SELECT identity, ask FROM asks WHERE identity > ? ORDER BY identity LIMIT 1"
            found = self.read(following, identity)
            if not found:
                return
            identity, ask = found[0][0], Ask.model_validate_json(found[0][1])
            query = f"SELECT {COLUMNS} FROM samples WHERE identity = ? ORDER BY idx, attempt"
            yield from ((ask, sample_of(row)) for row in self.read(query, identity))

    def read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query, as of the last finished transaction."""
        with self._read_lock, told(self.path):
            return self._reader.execute(query, values).fetchall()

    def _all(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()

    def _value(self, query: str, *values: Any) -> Any:
        return self._all(query, *values)[0][0]


def sample_of(row: tuple[Any, ...]) -> Sample:
    """The sample of a row of :data:`COLUMNS`."""
    return Sample(**dict(zip(Sample.model_fields, row, strict=True)))


def checksum(sample: Sample) -> int:
    """Tells whether a row that was read from a damaged file is as it was written."""
    return zlib.crc32(sample.model_dump_json().encode())


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what SQLite says into one line that names the file and says what to do."""
    try:
        yield
    except sqlite3.ProgrammingError:  # a mistake of this code
        raise
    except sqlite3.Error as error:
        raise KardError(f"{path}: {_advice(error)}") from None


def _advice(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")
    advice = {
        "SQLITE_NOTADB": "not a database; name another file, or restore this one",
        "SQLITE_CORRUPT": "damaged; export still reads the records that are whole: import them into a new store",
        "SQLITE_FULL": "the disk is full; what was stored is safe: make room and run the same command again",
        "SQLITE_READONLY": "cannot be written; make the file and its folder writable, or copy them elsewhere",
        "SQLITE_CANTOPEN": "cannot be opened; make the file and its folder writable, or copy them elsewhere",
        "SQLITE_IOERR": "the disk failed; what was stored is safe: see that there is room, and run the command again",
        "SQLITE_BUSY": f"another process has been writing for {BUSY_SECONDS:.0f} seconds; wait for it, or stop it",
    }
    return next((text for code, text in advice.items() if name.startswith(code)), f"cannot be used ({error})")
