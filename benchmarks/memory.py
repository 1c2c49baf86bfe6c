"""Searching three million passages: anonymous memory of the process, against the index's size on disk."""

from __future__ import annotations

import sys

from benchmarks.build import BASE, ROUNDS, folder_name, measure
from benchmarks.passages import Absent, parity
from benchmarks.rows import Row, anonymous_mb, in_process, row, work
from kardlib.errors import KardError
from kardlib.index import Index
from kardlib.index_manifest import read_manifest

_BARE = "from pathlib import Path; print(next(l.split()[1] for l in open('/proc/self/status') if l[:7] == 'RssAnon'))"
_CHILD = "import sys; from benchmarks.memory import searching; searching(sys.argv[1])"


def searching(name: str) -> None:
    """Open a mapped index, search all queries with all cores, and print the memory that this took, in MB."""
    manifest = read_manifest(work() / name)
    index = Index.open(work() / name, Absent(manifest.passages, manifest.digest))
    index.search_many(parity()["queries"], 100)
    print(anonymous_mb())


def rows() -> list[Row]:
    """The rows of this section; the index of the build section is used where it is there."""
    if not sys.platform.startswith("linux"):
        return [row("search: anonymous memory", "index on disk", None, None, "MB")]
    name = folder_name(BASE, ROUNDS)
    try:
        read_manifest(work() / name)
    except KardError:
        measure(BASE, ROUNDS)
    size = read_manifest(work() / name).size / 2**20
    ours = float(in_process(_CHILD, name)) - int(in_process(_BARE)) / 1024
    what = f"search of {ROUNDS * BASE:,} passages: anonymous memory above the bare interpreter"
    return [row(what, "index on disk", ours, size, "MB", "ours/theirs")]
