"""Lucene through pyserini, where it is installed with a Java that it accepts; None everywhere else."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.rows import seconds, work
from kardlib.bm25 import K1, B


def present() -> bool:
    """Whether pyserini and Java are there."""
    return importlib.util.find_spec("pyserini") is not None and shutil.which("java") is not None


def _folder() -> Path:
    return work() / "lucene"


def lucene_build_seconds(passages: list[str]) -> float | None:
    """Seconds that Lucene takes to index the passages with all cores, its start included."""
    if not present():
        return None
    shutil.rmtree(_folder(), ignore_errors=True)
    collection = _folder() / "collection"
    collection.mkdir(parents=True)
    with open(collection / "passages.jsonl", "w", encoding="utf-8") as file:
        for place, text in enumerate(passages):
            file.write(json.dumps({"id": str(place), "contents": text}) + "\n")
    command = [
        sys.executable, "-m", "pyserini.index.lucene", "--collection", "JsonCollection", "--input", str(collection),
        "--index", str(_folder() / "index"), "--generator", "DefaultLuceneDocumentGenerator",
        "--threads", str(os.cpu_count() or 1),
    ]  # fmt: skip
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True))


def lucene_search_seconds(passages: list[str], queries: list[str], k: int) -> float | None:
    """Seconds for all queries with all cores, warm; the index is built where it is not there."""
    if not present():
        return None
    if not (_folder() / "index").is_dir():
        lucene_build_seconds(passages)
    from pyserini.search.lucene import LuceneSearcher

    searcher = LuceneSearcher(str(_folder() / "index"))
    searcher.set_bm25(K1, B)
    names, cores = [str(i) for i in range(len(queries))], os.cpu_count() or 1
    searcher.batch_search(queries, names, k=k, threads=cores)
    return seconds(lambda: searcher.batch_search(queries, names, k=k, threads=cores), 7)
