"""Files that are whole or absent, and artefacts that are made once.

An artefact is a folder named by the hash of everything that went into it. It is made under a temporary name and
renamed when it is finished, so a killed process leaves nothing half written; of two processes that want the same one,
the second waits for the first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from .errors import KardError

SCRATCH = "work"


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` and rename it to ``path`` when the block ends without an error."""
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, mode, **({} if "b" in mode else {"encoding": "utf-8"})) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp gives files to their owner alone
        os.replace(temporary, path)
    except OSError as error:
        raise KardError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON value, whole or not at all."""
    with atomic_write(path) as file:
        json.dump(value, file)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def fingerprint(*parts: Any) -> str:
    """Twelve hexadecimal digits that stand for the given JSON-like values."""
    text = json.dumps(parts, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def hash_file(path: Path) -> str:
    """Hash of a file's bytes, or of all files of a folder with their names."""
    path = Path(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update((file.relative_to(path).as_posix() if file != path else file.name).encode())
            try:
                digest.update(file.read_bytes())
            except OSError as error:
                raise KardError(f"{file}: cannot be read ({error.strerror or error})") from None
    return digest.hexdigest()[:12]


def artefact_folder(root: Path, kind: str, key: dict[str, Any]) -> Path:
    """Where the artefact with that key is, or would be."""
    return Path(root) / kind / fingerprint(key)


def artefact(root: Path, kind: str, key: dict[str, Any], make: Callable[[Path], None]) -> Path:
    """Return the folder of an artefact, making it if it is not there.

    Args:
        root: folder that holds all artefacts.
        kind: what it is, for example ``student``; the first part of its folder's name.
        key: everything that its content depends on.
        make: fills an empty folder; whatever it raises leaves nothing behind but ``<name>.partial``, a folder that
            the next attempt finds again. Its subfolder ``work`` is scratch (checkpoints live there), gone in the end.

    Returns:
        A folder with the artefact and its ``key.json``.
    """
    final = artefact_folder(root, kind, key)
    if (final / "key.json").exists():
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{final}.lock"):
            if (final / "key.json").exists():
                return final
            partial = final.with_suffix(".partial")
            partial.mkdir(exist_ok=True)
            if not (partial / "key.json").exists():  # else it was finished, and killed before it got its name
                make(partial)
                with atomic_write(partial / "key.json") as file:
                    json.dump(key, file, indent=1, default=str)
            shutil.rmtree(partial / SCRATCH, ignore_errors=True)
            if final.exists():
                shutil.rmtree(final)
            os.replace(partial, final)
    except OSError as error:
        about = f"{Path(error.filename).name}: " if error.filename else ""
        raise KardError(f"{final}: cannot be made ({about}{error.strerror or error})") from None
    except Exception as error:  # a full disk, as the writer of weights tells it; its error derives from Exception alone
        if type(error).__module__.startswith("safetensors"):
            raise KardError(f"{final}: cannot be made ({error})") from None
        raise
    return final
