"""``kard doctor``: is this installation sound? One line a question."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from .notebook_run import kernel_manager
from .presets import MODELS_DIR, REPOSITORY, runs_root

CONSTRAINTS = REPOSITORY / "constraints.txt"
SHIPPED = ("mini-t5-base", "mini-t5-large", "mini-t5-xl", "mini-opt", "mini-bert")
_FREE_GB = 2.0
Finding = tuple[bool, str]


def doctor(say: Callable[[str], None] = print) -> int:
    """Check the installation, one line a check.

    Returns:
        0 if all is well, 1 otherwise.
    """
    good = True
    for check in (_python, _packages, _models, _records, _kernel, _runs, _machine, _data):
        for fine, text in check():
            say(f"{'ok  ' if fine else 'FAIL'} {text}")
            good = good and fine
    return 0 if good else 1


def _python() -> Iterator[Finding]:
    yield sys.version_info >= (3, 11), f"python {platform.python_version()} (3.11 or newer is needed)"


def required() -> list[Requirement]:
    """The packages that the kit itself asks for, with their bounds; empty if the kit is not installed."""
    try:
        asked = [Requirement(line) for line in metadata.requires("kard-kit") or []]
    except metadata.PackageNotFoundError:
        return []
    return [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]


def pinned(path: Path = CONSTRAINTS) -> dict[str, str]:
    """Exact versions by lower-case package name with hyphens."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    pairs = re.findall(r"^([\w.-]+)==([^\s;]+)", text, flags=re.MULTILINE)
    return {_plain(name): version for name, version in pairs}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _packages() -> Iterator[Finding]:
    asked, pins, other = required(), pinned(), []
    if not asked:
        yield False, 'packages: the kit is not installed (pip install -c constraints.txt -e ".[test]")'
    for one in asked:
        try:
            version = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            yield False, f"package {one.name}: not installed"
            continue
        if not one.specifier.contains(version, prereleases=True):
            yield False, f"package {one.name}: {version} is installed, {one.specifier} is needed"
        elif version.split("+")[0] != pins.get(_plain(one.name)):
            other.append(f"{one.name} {version} (tested: {pins.get(_plain(one.name), 'none')})")
    if asked:
        differ = f"; not the tested version: {', '.join(other)}" if other else ", all of the tested version"
        yield True, f"packages: {len(asked)} asked for{differ}"


def _models() -> Iterator[Finding]:
    for name in SHIPPED:
        yield model_finding(MODELS_DIR / name)


def model_finding(folder: Path) -> Finding:
    """Whether a model folder has a configuration and whole weights; only the weights' header is read."""
    weights = folder / "model.safetensors"
    if not (folder / "config.json").is_file() or not weights.is_file():
        return False, f"model {folder.name}: not there (git checkout data/models, or kard pretrain {folder.name})"
    try:
        with open(weights, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, 2**24)))
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError):
        return False, f"model {folder.name}: model.safetensors has no readable header"
    if weights.stat().st_size != 8 + length + end:
        return False, f"model {folder.name}: model.safetensors is cut short or padded"
    return True, f"model {folder.name}: {weights.stat().st_size / 1e6:.1f} MB"


def _records() -> Iterator[Finding]:
    from .ship import faults
    from .shipped import shipped_files

    files, bad = shipped_files(), list(faults())
    yield from ((False, f"shipped outputs: {line}") for line in bad)
    if not bad:
        size = sum(file.stat().st_size for file in files) / 1e6
        yield True, f"shipped outputs: {len(files)} sets, {size:.1f} MB" if files else "shipped outputs: there are none"


def _kernel() -> Iterator[Finding]:
    import asyncio

    if importlib.util.find_spec("ipykernel") is None:
        yield False, "kernel: ipykernel is not installed"
        return
    try:
        asyncio.run(_start_kernel())
        yield True, "kernel: starts with this interpreter"
    except Exception as error:  # whatever keeps it from starting is the finding
        yield False, f"kernel: does not start ({type(error).__name__}: {error})"


async def _start_kernel() -> None:
    manager = kernel_manager()(kernel_name="python3")
    await manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=60)
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


def _runs() -> Iterator[Finding]:
    root = runs_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        yield False, f"runs: {root} cannot be written ({error.strerror or error})"
        return
    free = shutil.disk_usage(root).free / 1e9
    yield free > _FREE_GB, f"runs: {root} is writable, {free:.0f} GB free ({_FREE_GB:.0f} are needed)"


def _machine() -> Iterator[Finding]:
    yield True, f"cores: {os.cpu_count()} (the demo's times are for 2)"


def _data() -> Iterator[Finding]:
    folder = os.environ.get("KARD_DATA", "")
    if not folder:
        yield True, "KARD_DATA: not set (only real data sets need it)"
    elif not Path(folder).is_dir():
        yield False, f"KARD_DATA: {folder} is no folder"
    else:
        held = sorted(path.name for path in Path(folder).iterdir() if path.is_dir())
        yield True, f"KARD_DATA: {folder} holds {', '.join(held) or 'no folders'}"
