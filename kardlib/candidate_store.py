"""What BM25 finds for every query, found once: the best passages with their scores, in Parquet.

Rankings are total orders (score, then place), so the first k of the stored ones are exactly what a search for k finds.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from tqdm import tqdm

from .candidates import Candidates
from .errors import KardError
from .passage_source import PassageSource
from .store import atomic_write, fingerprint

DEPTH = 300
"""Passages that are kept of each query."""
QUERIES_A_PART, QUERIES_A_GROUP, GROUPS_HELD = 256, 64, 64
SCHEMA = pa.schema(
    [
        ("query", pa.string()),
        ("key", pa.string()),
        ("depth", pa.int32()),
        ("places", pa.list_(pa.int64())),
        ("ids", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),
    ]
)


class ManySearcher(Protocol):
    """What an index offers."""

    passages: PassageSource

    def search_many(self, queries: Sequence[str], k: int) -> Sequence[tuple[np.ndarray, np.ndarray]]:
        """For each query the places and scores of the k best passages, best first, equal scores by place."""

    def score(self, query: str, places: Sequence[int] | np.ndarray) -> np.ndarray:
        """The scores of some passages, float32: the same numbers that a search would give them."""

    def scores(self, query: str) -> np.ndarray:
        """The scores of all passages, float32."""


class Unwritable(KardError):
    """Candidates cannot be kept; whoever only wants to know them can search."""


class _Row(NamedTuple):
    """Where a query's candidates are: file, row group, row in it; and how many were asked for."""

    file: Path
    group: int
    row: int
    depth: int


def query_hash(query: str) -> str:
    """What a query is stored under."""
    return hashlib.sha256(query.encode()).hexdigest()


class CandidateStore:
    """The candidates of many queries in one index.

    Several processes may add and read at once. Files are only ever added, each whole, so a killed run has kept
    whatever it had finished, and the next one goes on behind it.

    Args:
        folder: holds the candidates of any number of indexes, each in a subfolder.
        index_key: stands for the index: its passages, its analysis, k1 and b.
    """

    def __init__(self, folder: Path, index_key: str) -> None:
        if not index_key:
            raise KardError(f"{folder}: candidates need the key of their index")
        self.index_key = index_key
        self.folder = Path(folder).expanduser().absolute() / fingerprint(index_key)
        self._rows: dict[str, _Row] = {}
        self._known: set[Path] = set()
        self._held: OrderedDict[tuple[Path, int], pa.Table] = OrderedDict()
        self.refresh()

    def __len__(self) -> int:
        return len(self._rows)

    def refresh(self) -> None:
        """Take notice of what other processes have added.

        Raises:
            KardError: a file is damaged, or belongs to another index.
        """
        for file in sorted(self.folder.glob("part-*.parquet")):
            if file not in self._known:
                self._notice(file)

    def _notice(self, file: Path) -> None:
        with _reading(file) as parquet:
            found = (parquet.schema_arrow.metadata or {}).get(b"index", b"").decode()
            if found != self.index_key:
                raise KardError(f"{file}: it belongs to the index {found or '?'}, not to {self.index_key}")
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group, columns=["query", "depth"])
                for row, (query, depth) in enumerate(zip(*(c.to_pylist() for c in table.columns), strict=True)):
                    if query not in self._rows or self._rows[query].depth < depth:
                        self._rows[query] = _Row(file, group, row, depth)
        self._known.add(file)

    def depth(self, query: str) -> int:
        """How many candidates a query was searched for; 0 where it was not."""
        row = self._rows.get(query_hash(query))
        return row.depth if row else 0

    def missing(self, queries: Mapping[str, str], depth: int = DEPTH) -> dict[str, str]:
        """Those of the queries (key to text) that are not stored to that depth, each text once."""
        first = {text: key for key, text in reversed(queries.items())}
        return {key: text for key, text in queries.items() if first[text] == key and self.depth(text) < depth}

    def add_missing(
        self, queries: Mapping[str, str], searcher: ManySearcher, depth: int = DEPTH, progress: bool = False
    ) -> int:
        """Search for whatever is not there, and store it as it comes.

        Args:
            queries: key (a question's id, a rationale's key) to text.
            depth: candidates that are kept of each; all passages where there are fewer.

        Returns:
            How many queries were searched for.

        Raises:
            KardError: depth is below 1, the folder cannot be written, or the index does not keep to its protocol.
        """
        if depth < 1:
            raise KardError(f"depth {depth}: at least one candidate must be kept")
        self.refresh()
        wanted = list(self.missing(queries, depth).items())
        with tqdm(total=len(wanted), desc="candidates", unit=" queries", disable=not (progress and wanted)) as bar:
            for start in range(0, len(wanted), QUERIES_A_PART):
                part = wanted[start : start + QUERIES_A_PART]
                found = searcher.search_many([text for _, text in part], depth)
                self._append(self._table(part, found, searcher.passages, depth))
                bar.update(len(part))
        return len(wanted)

    def _table(
        self,
        queries: Sequence[tuple[str, str]],
        found: Sequence[tuple[np.ndarray, np.ndarray]],
        passages: PassageSource,
        depth: int,
    ) -> pa.Table:
        columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        for (key, text), (places, scores) in zip(queries, found, strict=True):
            places, scores = np.asarray(places, np.int64), np.asarray(scores, np.float32)
            _check_ranking(key, places, scores, min(depth, len(passages)))
            values = (query_hash(text), key, depth, places, _ids(passages, places), scores)
            for name, value in zip(SCHEMA.names, values, strict=True):
                columns[name].append(value)
        return pa.table(columns, schema=SCHEMA.with_metadata({"index": self.index_key}))

    def _append(self, table: pa.Table) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                for leftover in self.folder.glob(".part-*"):
                    leftover.unlink()
                numbers = [int(file.stem.removeprefix("part-")) for file in self.folder.glob("part-*.parquet")]
                file = self.folder / f"part-{max(numbers, default=-1) + 1:06d}.parquet"
                with atomic_write(file, "wb") as target:
                    pq.write_table(table, target, row_group_size=QUERIES_A_GROUP, compression="zstd")
        except OSError as error:
            raise Unwritable(f"{self.folder}: candidates cannot be written ({error.strerror or error})") from None
        self._notice(file)

    def hits(self, query: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Places (int64) and scores (float32) of the k best passages, best first; all there are where k is above.

        Raises:
            KardError: the query is not stored, or not that deep.
        """
        row, table = self._find(query, k)
        return tuple(table[name].chunk(0)[row].values.to_numpy()[:k] for name in ("places", "scores"))

    def top(self, query: str, k: int) -> Candidates:
        """Ids and scores of the k best passages; the key is the one that the query was first stored with.

        Raises:
            KardError: as :meth:`hits`.
        """
        row, table = self._find(query, k)
        cells = {name: table[name][row].as_py() for name in ("key", "ids", "scores")}
        return Candidates(key=cells["key"], passages=tuple(cells["ids"][:k]), scores=tuple(cells["scores"][:k]))

    def _find(self, query: str, k: int) -> tuple[int, pa.Table]:
        if k < 1:
            raise KardError(f"k = {k}: at least one passage must be asked for")
        place = self._rows.get(query_hash(query))
        if place is None:
            raise KardError(f"query {_short(query)}: its candidates are not stored; kard candidates adds them")
        if k > place.depth:
            raise KardError(f"query {_short(query)}: {place.depth} candidates are stored, {k} were asked for")
        where = place.file, place.group
        if where not in self._held:
            with _reading(place.file) as parquet:
                self._held[where] = parquet.read_row_group(place.group).combine_chunks()
            while len(self._held) > GROUPS_HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(where)
        return place.row, self._held[where]


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(file) as parquet:
            yield parquet
    except (OSError, pa.ArrowException) as error:
        raise KardError(
            f"{file}: no whole file of candidates; remove it, and kard candidates finds them "
            f"anew ({' '.join(str(error).split())[:200]})"
        ) from None


def _check_ranking(key: str, places: np.ndarray, scores: np.ndarray, count: int) -> None:
    """A ranking that is not what the protocol says would make every later look-up wrong."""
    if len(places) != count or len(scores) != count:
        raise KardError(f"query {key}: the index gave {len(places)} passages, {count} were asked for")
    steps, ties = np.diff(scores), np.diff(places)
    if (
        not np.isfinite(scores).all()
        or (steps > 0).any()
        or (ties[steps == 0] <= 0).any()
        or len(np.unique(places)) < count
    ):
        raise KardError(f"query {key}: the index gave passages that are not in the order of score and place")


def _ids(passages: PassageSource, places: np.ndarray) -> list[str]:
    many = getattr(passages, "ids", None)
    return many(places) if many else [passages[int(place)].id for place in places]


def _short(query: str) -> str:
    return repr(query if len(query) <= 60 else query[:57] + "...")
