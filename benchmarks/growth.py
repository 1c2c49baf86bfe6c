"""How build and search grow with the passages, and what 39.9 million would need: a projection, not a measurement."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.passages import Absent, parity
from benchmarks.rows import Row, row
from benchmarks.search import our_seconds
from kardlib.index import Index
from kardlib.index_manifest import read_manifest

WIKIPEDIA, RATIONALES = 39_900_000, 50_000
_UP = "ours/theirs"


def slope(sizes: list[int], values: list[float]) -> float:
    """Exponent a of value = c size ** a, fitted on logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def growth_rows(built: list[tuple[Path, dict[str, float]]]) -> list[Row]:
    """Growth from the first to each size, the fitted exponents, and the projection.

    The projection goes on from the largest size with the exponent, but not with less than 1: what small sizes have
    besides the passages flattens the fit.

    Args:
        built: folders of indexes, smallest first, and what :func:`benchmarks.build.measure` gave for each.
    """
    sizes, searched, queries = [], [], parity()["queries"]
    for folder, _ in built:
        manifest = read_manifest(folder)
        index = Index.open(folder, Absent(manifest.passages, manifest.digest))
        sizes.append(manifest.passages)
        searched.append(our_seconds(index, queries) / len(queries) * 1e3)
    took, disk = [cost["seconds"] for _, cost in built], [cost["disk"] / 1024 for _, cost in built]
    there = {}
    found = []
    for name, values, unit in (("build", took, "s"), ("search", searched, "ms a query"), ("disk", disk, "GiB")):
        for size, value in zip(sizes[1:], values[1:], strict=True):
            found.append(
                row(f"growth of {name}, {size:,} passages", f"{sizes[0]:,} passages", value, values[0], unit, _UP)
            )
        exponent = slope(sizes, values)
        found.append(row(f"growth of {name}: exponent", "linear", exponent, 1, "power of the passages", _UP))
        there[name] = values[-1] * (WIKIPEDIA / sizes[-1]) ** max(1.0, exponent)
        what, measured = f"projection: {name}, {WIKIPEDIA:,} passages", f"{sizes[-1]:,} passages, measured"
        found.append(row(what, measured, there[name], values[-1], unit, _UP))
    hours = there["search"] * RATIONALES / 3.6e6
    found.append(
        row(f"projection: {RATIONALES:,} rationales over {WIKIPEDIA:,} passages", "one hour", hours, 1, "h", _UP)
    )
    return found
