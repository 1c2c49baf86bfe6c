"""Folders that are whole or absent."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from .errors import KardError


@contextlib.contextmanager
def whole_folder(folder: Path, replace: bool = False) -> Iterator[Path]:
    """An empty folder that gets its name when the block ends without an error.

    A killed process leaves what was there before, or nothing, under that name; what it leaves beside it the next one
    removes. Of two processes that make the same folder, the second waits. No two ever fill the same folder: processes
    that a killed one has started may write to theirs for a moment longer.

    Args:
        replace: whether a folder that is there may be replaced; it stays until the new one is whole.

    Raises:
        KardError: the folder is there and may not be replaced, or it cannot be written.
    """
    folder = Path(folder).expanduser().absolute()
    if not folder.name:
        raise KardError(f"{folder}: no folder can be made there")
    partial, old = _beside(folder, f"{secrets.token_hex(4)}.partial"), _beside(folder, "old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_beside(folder, "lock")):
            _tidy(folder, old)
            if folder.exists() and not replace:
                raise KardError(f"{folder}: it is there already")
            partial.mkdir()
            try:
                yield partial
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            if folder.exists():
                os.replace(folder, old)
            os.replace(partial, folder)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise KardError(f"{folder}: cannot be made ({error.strerror or error})") from None


def _beside(folder: Path, end: str) -> Path:
    return folder.with_name(f".{folder.name}.{end}")


def _tidy(folder: Path, old: Path) -> None:
    """What a killed process has left: its unfinished folder goes; the one it was about to replace comes back."""
    for partial in folder.parent.glob(f".{glob.escape(folder.name)}.*.partial"):
        shutil.rmtree(partial, ignore_errors=True)
    if old.exists() and not folder.exists():
        os.replace(old, folder)
    shutil.rmtree(old, ignore_errors=True)
