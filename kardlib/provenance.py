"""Where a number comes from: versions, commit, machine; by allow-list, so nothing of the user's can slip in."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

from . import __version__
from .presets import REPOSITORY

PACKAGES = ("torch", "transformers", "sentence-transformers", "bm25s", "numpy")


def provenance(seeds: tuple[int, ...], inputs: dict[str, str]) -> dict[str, Any]:
    """What a record says about its making. No environment variable, user name or absolute path is among it."""
    return {
        "git": git_state(),
        "versions": versions(),
        "platform": platform.platform(),
        "device": device(),
        "cpu_count": os.cpu_count(),
        "seeds": list(seeds),
        "inputs": dict(sorted(inputs.items())),
    }


def versions() -> dict[str, str | None]:
    """Versions of the kit, of Python and of the packages that numbers depend on; None for one not installed."""
    found: dict[str, str | None] = {"kardlib": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def git_state(*paths: str) -> dict[str, Any]:
    """Commit of the repository and whether tracked files differ from it; None where there is no git or no commit.

    Args:
        paths: files and folders that are looked at, relative to the repository; all of it where none is named.
    """
    commit = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--untracked-files=no", "--", *paths)
    return {"commit": commit or None, "dirty": None if status is None else bool(status)}


def _git(*arguments: str) -> str | None:
    if not (REPOSITORY / ".git").exists():  # a folder above may be some other repository
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def device() -> str:
    """The accelerator's name, or ``cpu``. A process that never imported torch has used none."""
    torch = sys.modules.get("torch")
    if torch is None:
        return "cpu"
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    return "mps" if torch.backends.mps.is_available() else "cpu"


def peak_memory_mb() -> float:
    """Peak resident memory of this process or of the largest finished child, whichever is more, in MiB."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        info = psutil.Process().memory_info()
        return round(getattr(info, "peak_wset", info.rss) / 2**20, 1)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
