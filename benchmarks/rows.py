"""Rows of the table, and the machine that they were measured on."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from kardlib.presets import runs_root

Row = dict[str, Any]
"""``name, against, ratio, ours, theirs, unit, machine``; numbers are None where they were not measured."""
NOT_MEASURED = "not measured"


def row(
    name: str, against: str, ours: float | None, theirs: float | None, unit: str, ratio: str = "theirs/ours"
) -> Row:
    """A row.

    Args:
        ratio: ``theirs/ours`` (times and sizes, where less is better) or ``ours/theirs``.
    """
    measured = None if ours is None or theirs is None else theirs / ours if ratio == "theirs/ours" else ours / theirs
    return {
        "name": name, "against": against, "ratio": NOT_MEASURED if measured is None else _short(measured),
        "ours": _short(ours), "theirs": _short(theirs), "unit": unit, "machine": machine(),
    }  # fmt: skip


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def machine() -> str:
    """Processor, cores, memory, Python."""
    name, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.is_file():
        found = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = found[0] if found else name
    numba = "with numba" if importlib.util.find_spec("numba") else "without numba"
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores of {name}, {memory:.0f} GiB, Python {platform.python_version()} {numba}"


def work() -> Path:
    """Folder for what the benchmarks build."""
    folder = runs_root() / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def seconds(call: Callable[[], object], rounds: int = 1) -> float:
    """Median wall-clock time of a call."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def in_process(code: str, *arguments: object) -> str:
    """Last line that a fresh interpreter prints when it runs the code; for memory, which an old process has used."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1]


def anonymous_mb() -> float:
    """Memory of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise OSError("this system does not tell the anonymous memory of a process")
