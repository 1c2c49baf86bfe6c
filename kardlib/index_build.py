"""Building an index in shards with one set of global statistics, so that the shards give the scores of one index.

First every shard's terms are counted, then the document frequencies and the mean length of all of them are known, then
every shard's counts are turned into parts of scores where they lie. A shard's arrays are in memory only while it is
worked on; what grows with the corpus is the vocabulary and four bytes a passage and term-and-shard.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import os
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from .analysis import PLAIN, Analysis
from .bm25 import K1, B
from .errors import KardError
from .index_manifest import FORMAT, MANIFEST, Manifest, ShardEntry, length_of, library_version, probe_of, stored_file
from .index_manifest import write_manifest as write
from .index_shard import count_terms, idf, open_columns, weigh, write_columns
from .index_vocabulary import OFFSETS, TERMS, write_vocabulary
from .passage_source import PassageSource
from .whole_folder import whole_folder

SHARD_PASSAGES, _SHARDS = 1 << 15, 512
FEW = 20_000
_LENGTHS, _NUMBERS, _IDF = "lengths.{}.npy", "numbers.{}.npy", "idf.npy"


class _Shard(NamedTuple):
    """A counted shard; ``tokens`` is the sum of its passages' lengths."""

    name: str
    first: int
    count: int
    terms: int
    postings: int
    tokens: int


def build_index(
    source: PassageSource,
    folder: Path | str,
    analysis: Analysis = PLAIN,
    k1: float = K1,
    b: float = B,
    lengths: str = "exact",
    shard_passages: int | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Manifest:
    """Build an index and put it in place, whole or not at all; an older one stays until the new one is finished.

    Args:
        source: passages, sorted by id; read once, in order.
        folder: where the index goes; a process killed on the way leaves what was there.
        lengths: how |d| enters the scores, see ``LENGTHS``.
        shard_passages: passages in a shard; memory grows with it, some 5 KB a passage and worker at 100 words. None
            means :func:`usual_shard`.
        workers: processes; None means one for every core, or none besides this one for a small source.
        progress: show a bar.

    Raises:
        KardError: there are no passages, none has a term, they are not sorted or not those of the source's digest, or
            the folder cannot be written.
    """
    folder = Path(folder)
    check_choices(k1, b, lengths, shard_passages)
    if not len(source):
        raise KardError("the knowledge base is empty")
    shard_passages = shard_passages or usual_shard(len(source))
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise KardError(f"index {folder}: something else is there; an index takes a folder of its own")
    workers = workers if workers is not None else (os.cpu_count() or 1) if len(source) > FEW else 0
    with (
        whole_folder(folder, replace=True) as scratch,
        _pool(workers, folder) as pool,
        tqdm(total=len(source), desc="index", unit=" passages", disable=not progress) as bar,
    ):
        fresh = type(analysis)(**analysis.model_dump())  # a stemmer that has been used cannot be sent to a process
        shards, vocabulary, frequencies = _count(source, scratch, fresh, shard_passages, pool, bar)
        mean = sum(shard.tokens for shard in shards) / len(source)
        _number(scratch, shards, vocabulary, frequencies, len(source))
        jobs = [pool.submit(_finish, scratch, shard, mean, k1, b, lengths) for shard in shards]
        manifest = Manifest(
            format=FORMAT, bm25s=library_version(), passages=len(source), digest=source.digest, analysis=analysis,
            probe=probe_of(analysis), k1=k1, b=b, lengths=lengths, terms=len(vocabulary), mean_length=mean,
            vocabulary=tuple(stored_file(scratch / name) for name in (TERMS, OFFSETS)),
            shards=tuple(job.result() for job in jobs),
        )  # fmt: skip
        for name in (scratch / _IDF, *scratch.glob(_NUMBERS.format("*")), *scratch.glob(_LENGTHS.format("*"))):
            name.unlink()
        write(scratch, manifest)
    return manifest


def check_choices(k1: float, b: float, lengths: str, shard_passages: int | None) -> None:
    """Raises a KardError where a choice is none; see :func:`build_index`."""
    length_of(lengths)
    if not 0 <= k1 < math.inf or not 0 <= b <= 1:
        raise KardError(f"k1 = {k1}, b = {b}: 0 or more and 0 to 1 are meant")
    if shard_passages is not None and shard_passages < 1:
        raise KardError(f"shard_passages = {shard_passages}: at least one is meant")


def usual_shard(passages: int) -> int:
    """Passages of a shard: 32,768, whose scores fit a processor's cache, or more so that 512 files are enough."""
    return max(SHARD_PASSAGES, -(-passages // _SHARDS))


def _count(
    source: PassageSource, scratch: Path, analysis: Analysis, size: int, pool: Executor, bar: tqdm
) -> tuple[list[_Shard], dict[str, int], np.ndarray]:
    """Count all shards; terms are numbered as they come, with the number of passages that hold each."""
    number: defaultdict[str, int] = defaultdict(itertools.count().__next__)
    shards: list[_Shard] = []
    frequencies = np.zeros(0, dtype=np.int64)
    for shard, terms, found in _counted(source, scratch, analysis, size, pool):
        numbers = np.fromiter(map(number.__getitem__, terms), dtype=np.int32, count=len(terms))
        np.save(scratch / _NUMBERS.format(shard.name), numbers)
        frequencies = np.pad(frequencies, (0, len(number) - len(frequencies)))
        frequencies[numbers] += found
        shards.append(shard)
        bar.update(shard.count)
    if not number:
        raise KardError("the knowledge base has not one word to be found by")
    number.default_factory = None
    return shards, number, frequencies


def _counted(
    source: PassageSource, scratch: Path, analysis: Analysis, size: int, pool: Executor
) -> Iterator[tuple[_Shard, list[str], np.ndarray]]:
    """Hand shards to the pool and give back results in order; only so many wait that all processes are busy."""
    waiting: deque[Future[tuple[_Shard, list[str], np.ndarray]]] = deque()
    room = max(1, getattr(pool, "_max_workers", 1))
    for first, texts, ends in _blocks(source, size):
        waiting.append(pool.submit(_count_shard, scratch, first, texts, ends, analysis))
        del texts
        if len(waiting) > room:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _blocks(source: PassageSource, size: int) -> Iterator[tuple[int, bytes, np.ndarray]]:
    """First place, texts in UTF-8 and their ends, of ``size`` passages at a time; order and digest are checked."""
    digest, last, first = hashlib.sha256(), "", 0
    texts, ends = bytearray(), [0]
    for passage in source:
        if passage.id <= last:
            raise KardError(f"passage id {passage.id}: it comes after {last}; an index is built of sorted passages")
        last, text = passage.id, passage.text.encode()
        digest.update(b"%b\t%b\n" % (last.encode(), text))
        texts += text
        ends.append(len(texts))
        if len(ends) > size:
            yield first, bytes(texts), np.array(ends)
            first, texts, ends = first + len(ends) - 1, bytearray(), [0]
    if len(ends) > 1:
        yield first, bytes(texts), np.array(ends)
    if first + len(ends) - 1 != len(source) or digest.hexdigest() != source.digest:
        raise KardError("the passages are not those that the source's digest stands for: have they been changed?")


def _count_shard(
    scratch: Path, first: int, texts: bytes, ends: np.ndarray, analysis: Analysis
) -> tuple[_Shard, list[str], np.ndarray]:
    spans = itertools.pairwise(ends.tolist())
    counted = count_terms((texts[start:end].decode() for start, end in spans), analysis)
    columns, name = counted.columns, f"shard-{first:010d}.csc"
    write_columns(scratch / name, columns)
    np.save(scratch / _LENGTHS.format(name), counted.lengths.astype(np.int32))
    tokens = int(counted.lengths.sum())
    shard = _Shard(name, first, len(ends) - 1, len(counted.terms), len(columns.indices), tokens)
    return shard, counted.terms, np.diff(columns.indptr)


def _number(
    scratch: Path, shards: list[_Shard], vocabulary: dict[str, int], frequencies: np.ndarray, passages: int
) -> None:
    """Write the vocabulary and number the terms of all shards by their place in it, each with its idf."""
    terms = sorted(vocabulary)
    write_vocabulary(scratch, terms)
    came = np.fromiter(map(vocabulary.__getitem__, terms), dtype=np.int64, count=len(terms))
    place = np.empty(len(terms), dtype=np.int32)
    place[came] = np.arange(len(terms), dtype=np.int32)
    np.save(scratch / _IDF, idf(frequencies[came], passages))
    for shard in shards:
        path = scratch / _NUMBERS.format(shard.name)
        np.save(path, place[np.load(path)])


def _finish(scratch: Path, shard: _Shard, mean: float, k1: float, b: float, lengths: str) -> ShardEntry:
    """Turn the counts of a shard into parts of scores."""
    path = scratch / shard.name
    columns = open_columns(path, shard.terms, shard.postings, mapped=False)
    numbers = np.load(scratch / _NUMBERS.format(shard.name))
    columns = columns._replace(data=columns.data.copy(), terms=numbers)
    weights = np.load(scratch / _IDF, mmap_mode="r")[numbers]
    exact = np.load(scratch / _LENGTHS.format(shard.name))
    weigh(columns, weights, length_of(lengths)(exact), mean, k1, b)
    write_columns(path, columns)
    return ShardEntry(
        file=stored_file(path), first=shard.first, count=shard.count, terms=shard.terms, postings=shard.postings
    )


class _Here(Executor):
    """Runs at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        done: Future = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@contextlib.contextmanager
def _pool(workers: int, folder: Path) -> Iterator[Executor]:
    if workers < 2:
        yield _Here()
        return
    # A fork needs no guarded main module; where there is none, the platform's own way is taken.
    context = get_context("fork" if sys.platform == "linux" else None)
    try:
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with, initargs=(os.getpid(),)) as pool:
            yield pool
    except BrokenProcessPool:
        raise KardError(f"index {folder}: a process of the build was ended from outside (out of memory?)") from None


def _end_with(parent: int) -> None:
    """A worker ends itself when the process that started it is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
