"""Building: speed and peak memory for 313,606 passages, and how memory grows to three million."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator

import psutil

from benchmarks.growth import growth_rows
from benchmarks.lucene import lucene_build_seconds
from benchmarks.passages import Numbered, texts
from benchmarks.rows import Row, in_process, row, work
from kardlib.index_build import build_index
from kardlib.index_estimate import estimate_index
from kardlib.index_vocabulary import Vocabulary
from kardlib.records import Passage, write_jsonl
from kardlib.store import write_json

BOUND_MB = 1200.0
BASE, ROUNDS = 300_000, 10
SIZES = ((50_000, 1), (100_000, 1), (BASE, 1), (BASE, ROUNDS))
_CHILD = "import sys; from benchmarks.build import measured; measured(*map(int, sys.argv[1:]))"


class _Peak:
    """Highest memory of this process and its children together, sampled; shared pages count once (PSS)."""

    def __init__(self) -> None:
        self.mb, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.1):
            total = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    held = process.memory_full_info()
                    total += getattr(held, "pss", held.rss)
                except psutil.Error:
                    continue  # it has ended
            self.mb = max(self.mb, total / 2**20)


class _FromFile:
    """Passages that a file holds, so that the texts are not the build's memory; written where it is not there yet."""

    def __init__(self, count: int, rounds: int) -> None:
        self._path = work() / f"{folder_name(count, rounds)}.jsonl"
        about = self._path.with_suffix(".json")
        if not about.is_file():
            source = Numbered(texts(count or None), rounds)
            write_jsonl(self._path, source)
            write_json(about, {"count": len(source), "digest": source.digest})
        held = json.loads(about.read_text())
        self._count, self.digest = held["count"], held["digest"]

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Passage]:
        with open(self._path, encoding="utf-8") as file:
            for line in file:
                yield Passage.model_construct(**json.loads(line))


def measured(count: int, rounds: int) -> None:
    """Build in this process and print what it took, as JSON; ``count`` 0 means all passages."""
    source = _FromFile(count, rounds)
    start = time.perf_counter()
    with _Peak() as peak:
        manifest = build_index(source, work() / folder_name(count, rounds), progress=sys.stderr.isatty())
    took = time.perf_counter() - start
    vocabulary = Vocabulary(work() / folder_name(count, rounds))
    words = [vocabulary.term(number) for number in range(len(vocabulary))]
    # Twice the references: the dictionary is sorted into a list, and a term is held where it is counted and in all.
    held = (sys.getsizeof(dict.fromkeys(words)) + sum(sys.getsizeof(word) + 32 + 16 for word in words)) / 2**20
    print(json.dumps({"mb": peak.mb, "seconds": took, "disk": manifest.size / 2**20, "vocabulary": held}))


def folder_name(count: int, rounds: int) -> str:
    """Of an index in the benchmarks' folder."""
    return f"built-{count}x{rounds}" if count else "built-all"


def measure(count: int = 0, rounds: int = 1) -> dict[str, float]:
    """Build in a process of its own: peak MB, seconds, MB on disk, MB of the vocabulary."""
    return json.loads(in_process(_CHILD, count, rounds))


def rows() -> list[Row]:
    """The rows of this section, and how build and search grow from the smallest size to the largest."""
    whole, costs = measure(), [measure(*size) for size in SIZES]
    small, large = costs[-2:]
    base = texts()
    expected, size = estimate_index(Numbered(base)), f"index build, {len(base):,} passages"
    grown, before = f"index build, {BASE * ROUNDS:,} passages", f"{BASE:,} passages"
    aside = [one["mb"] - one["vocabulary"] for one in (large, small)]
    up = "ours/theirs"
    return [
        row(size, "Lucene (pyserini)", whole["seconds"], lucene_build_seconds(base), "s"),
        row(f"{size}: peak memory", "bound of 1.2 GB", whole["mb"], BOUND_MB, "MB", up),
        row(f"{size}: estimated time", "measured", expected.seconds, whole["seconds"], "s", up),
        row(f"{size}: estimated memory", "measured", expected.memory_mb, whole["mb"], "MB", up),
        row(f"{size}: estimated disk", "measured", expected.disk_mb / 1.048576, whole["disk"], "MB", up),
        row(f"{grown}: peak memory, vocabulary aside", before, *aside, "MB", up),
        row(f"{grown}: peak memory", before, large["mb"], small["mb"], "MB", up),
        row(f"{grown}: time", before, large["seconds"], small["seconds"], "s", up),
        *growth_rows([(work() / folder_name(*size), cost) for size, cost in zip(SIZES, costs, strict=True)]),
    ]
