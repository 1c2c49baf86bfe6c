"""The kit's own sources, as a part of what a result depends on.

They are read once, when the package is first imported: a file that is edited while a notebook is open must not lend its
hash to what the older code computed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

from .store import fingerprint

SOURCES: dict[str, str] = {
    file.stem: file.read_text(encoding="utf-8") for file in sorted(Path(__file__).parent.glob("*.py"))
}
"""Text of each module by its name."""
# These say where things are kept and how they are called, and change no number. Settings are in every key themselves.
_NO_NUMBERS = {"errors", "experiment", "keys", "presets", "runs", "sources", "store"}


@cache
def all_code() -> str:
    """Hash of the whole package."""
    return fingerprint(SOURCES)


def code(modules: Iterable[str]) -> str:
    """Hash of some modules and of all that they import from the kit."""
    return _hash(tuple((name, SOURCES[name]) for name in sorted(imported(modules))))


@lru_cache(maxsize=64)
def _hash(sources: tuple[tuple[str, str], ...]) -> str:
    return fingerprint(dict(sources))


def imported(modules: Iterable[str]) -> set[str]:
    """The modules and, step by step, what they import from the kit, less those that change no number."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in _NO_NUMBERS:
            found.add(name)
            waiting += _imports(SOURCES[name])
    return found


@cache
def _imports(source: str) -> list[str]:
    return re.findall(r"^\s*from \.(\w+) import", source, re.M)
