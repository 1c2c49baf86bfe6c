"""What an index will cost, before it is built: memory, time and disk, from the first seconds of it.

A sample is counted for real, on one core; the rest is proportion. The vocabulary is the one thing that grows more
slowly than the passages: its growth within the sample is carried on (Heaps' law).
"""

from __future__ import annotations

import math
import os
import time
from typing import NamedTuple

import numpy as np

from .analysis import PLAIN, Analysis
from .errors import KardError
from .index_build import FEW, usual_shard
from .index_shard import count_terms
from .passage_source import PassageSource

_SAMPLE = 2000
_INTERPRETER_MB = 125
_DICT_BYTES = 170
_COPIES = 9


class Estimate(NamedTuple):
    """What a build is expected to take.

    Attributes:
        passages: how many.
        memory_mb: peak of all its processes together.
        seconds: wall clock.
        disk_mb: the finished index.
        workers: processes that it is reckoned for.
    """

    passages: int
    memory_mb: float
    seconds: float
    disk_mb: float
    workers: int

    @property
    def line(self) -> str:
        """For the user, before the build."""
        return (
            f"{self.passages:,} passages: about {self.memory_mb:,.0f} MB of memory, {self.disk_mb:,.1f} MB of disk "
            f"(twice that where an older index is replaced) and {_time(self.seconds)} "
            f"with {self.workers} process{'es' * (self.workers > 1)}"
        )


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def estimate_index(
    source: PassageSource,
    analysis: Analysis = PLAIN,
    shard_passages: int | None = None,
    workers: int | None = None,
    sample: int = _SAMPLE,
) -> Estimate:
    """Estimate a build; see :func:`kardlib.index_build.build_index` for the arguments.

    Args:
        sample: passages, evenly spread, that are counted to calibrate.

    Raises:
        KardError: the source is empty.
    """
    if not len(source):
        raise KardError("the knowledge base is empty")
    passages = len(source)
    shard_passages = shard_passages or usual_shard(passages)
    workers = workers if workers is not None else (os.cpu_count() or 1) if passages > FEW else 0
    start = time.perf_counter()
    texts = [source[int(place)].text for place in np.linspace(0, passages - 1, min(sample, passages))]
    read = time.perf_counter() - start
    half = count_terms(texts[: -(-len(texts) // 2)], analysis)
    start = time.perf_counter()
    counted = count_terms(texts, analysis)
    spent = time.perf_counter() - start
    share = passages / len(texts)
    # Terms grow as a power of the passages; from half of the sample to all of it shows which.
    power = math.log2(max(1.0, len(counted.terms) / max(1, len(half.terms))))
    vocabulary = len(counted.terms) * share**power
    in_shard = len(counted.terms) * (min(shard_passages, passages) / len(texts)) ** power
    shards = -(-passages // shard_passages)
    disk = 8 * len(counted.columns.indices) * share + 12 * in_shard * shards + 15 * vocabulary
    block = min(shard_passages, passages) / len(texts)
    text_bytes, words = sum(len(text.encode()) for text in texts) * block, int(counted.lengths.sum()) * block
    busy = max(1, workers)
    memory = text_bytes * (busy + 2) + busy * words * 8 * _COPIES + vocabulary * _DICT_BYTES
    return Estimate(
        passages, memory / 1e6 + _INTERPRETER_MB * (1 + (workers if workers > 1 else 0)),
        max(read * share, (read + spent * 1.3) * share / busy), disk / 1e6, busy,
    )  # fmt: skip
