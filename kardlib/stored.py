"""What is in the folder of the artefacts: how large it is, how long it took, which artefacts it was made from.

An artefact does not hold the seconds that it took. They are read off the files: its lock file is made when its making
begins, its ``key.json`` last of all. So the time includes a pause where the making was killed and gone on with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .errors import KardError
from .store import fingerprint

KEY = "key.json"
NAME = re.compile(r"[0-9a-f]{12}")
"""How an artefact's folder is called."""
_UPSTREAM = ("after", "ranked", "oracle", "adapted", "retriever")
_VOLATILE = ("seed", "code", "inputs", *_UPSTREAM)
_ROUGH = ("step", "training", "method", "dataset", "size", "student", "encoder")
Key = dict[str, Any]


@dataclass(frozen=True)
class Stored:
    """A finished artefact.

    Attributes:
        kind: the step that made it.
        bytes: size of all its files.
        seconds: what its making took; None where its lock file is gone.
    """

    kind: str
    folder: Path
    key: Key
    bytes: int
    seconds: float | None


def stored(root: Path) -> list[Stored]:
    """All finished artefacts below a folder, by kind and name.

    Raises:
        KardError: a ``key.json`` is no JSON object.
    """
    found = []
    for file in sorted(Path(root).glob(f"*/*/{KEY}")):
        if NAME.fullmatch(file.parent.name):
            found.append(
                Stored(file.parent.parent.name, file.parent, _read(file), size_of(file.parent), seconds_of(file.parent))
            )
    return found


def _read(file: Path) -> Key:
    try:
        key = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KardError(f"{file}: cannot be read ({error})") from None
    if not isinstance(key, dict):
        raise KardError(f"{file}: a JSON object was expected")
    return key


def seconds_of(folder: Path) -> float | None:
    """What the making of a finished artefact took; None where its lock file is gone."""
    lock = lock_of(folder)
    if not lock.exists():
        return None
    seconds = (folder / KEY).stat().st_mtime - lock.stat().st_mtime
    return seconds if seconds >= 0 else None


def lock_of(path: Path) -> Path:
    """The lock file of an artefact, of what is left of it, or of the lock file itself."""
    return path.parent / f"{path.name.split('.')[0]}.lock"


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder; what vanishes meanwhile does not count."""
    total = 0
    for file in path.rglob("*") if path.is_dir() else [path]:
        try:
            total += file.lstat().st_size if file.is_file() or file.is_symlink() else 0
        except OSError:
            continue
    return total


def upstream(key: Key) -> list[str | Key]:
    """Names of the artefacts that an artefact was made from, or their keys where its own key holds them whole."""
    values = [key[name] for name in _UPSTREAM if key.get(name)]
    # the filter's state stands before the name: "True 0123456789ab"
    return [value if isinstance(value, dict) else str(value).split()[-1] for value in values]


def upstream_names(key: Key) -> set[str]:
    """Names of the artefacts that an artefact was made from."""
    return {value if isinstance(value, str) else fingerprint(value) for value in upstream(key)}


def lineage(key: Key, keys: Mapping[str, Key]) -> list[Key]:
    """The key itself and those of all that it was made from, as far as they are known.

    Args:
        keys: known keys by the names of their artefacts.
    """
    found, waiting = [], [key]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += [k for k in (u if isinstance(u, dict) else keys.get(u) for u in upstream(one)) if k is not None]
    return found


class Times:
    """How long a step is likely to take, from finished artefacts that are like it.

    Args:
        artefacts: the finished ones.
        planned: keys of what is not made yet, by name: through them an artefact's data set is known.
    """

    def __init__(self, artefacts: list[Stored], planned: Mapping[str, Key] | None = None) -> None:
        self._keys = {a.folder.name: a.key for a in artefacts} | dict(planned or {})
        self._alike: dict[str, list[float]] = {}
        self._near: dict[str, list[float]] = {}
        for artefact in artefacts:
            if artefact.seconds is not None:
                for table, name in zip((self._alike, self._near), self._names(artefact.key), strict=True):
                    table.setdefault(name, []).append(artefact.seconds)

    def estimate(self, key: Key) -> tuple[float, bool] | None:
        """Median seconds, and whether they are of the same work but for seed and code (True), or of the same step on
        the same data with other settings (False); None where nothing like it is finished."""
        for table, name, exact in zip((self._alike, self._near), self._names(key), (True, False), strict=True):
            if name in table:
                return median(table[name]), exact
        return None

    def _names(self, key: Key) -> tuple[str, str]:
        chain = lineage(key, self._keys)
        exact = sorted(json.dumps(_plain(k, _VOLATILE), sort_keys=True) for k in chain)
        merged: Key = {}
        for one in reversed(chain):
            merged |= _plain(one, _VOLATILE)
        return json.dumps(exact), json.dumps([merged.get(name) for name in _ROUGH])


def _plain(key: Key, without: tuple[str, ...]) -> Key:
    """The key less some fields, models by their names without the hash of their files."""
    values = {name: value for name, value in key.items() if name not in without}
    for name in ("student", "encoder"):
        if isinstance(values.get(name), list):
            values[name] = values[name][0]
    return values
