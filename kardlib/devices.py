"""GPUs by name, from a dated table that the user may edit (``data/devices.toml``), and the device at hand."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydantic import ConfigDict, Field, StrictFloat, StrictInt

from .errors import KardError
from .presets import REPOSITORY, nearest
from .records import Record, parse_record
from .toml_file import read_toml

DEVICES_FILE = REPOSITORY / "data" / "devices.toml"
_TERA, _GIGA = 1e12, 1e9


class Sheet(Record):
    """One row of the table: what the maker's sheet says.

    Attributes:
        also: further names, torch's own among them.
        bf16, fp32: peak of dense matrices in TFLOP/s; no ``bf16`` where the device has none.
        memory: GB; ``bandwidth`` GB/s.
        dated: when it was announced; ``source`` is where.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    name: str = Field(min_length=1)
    also: tuple[str, ...] = ()
    bf16: StrictFloat | StrictInt | None = Field(default=None, gt=0)
    fp32: StrictFloat | StrictInt = Field(gt=0)
    memory: StrictFloat | StrictInt = Field(gt=0)
    bandwidth: StrictFloat | StrictInt = Field(gt=0)
    dated: date
    source: str = Field(min_length=1)

    def peak(self, bf16: bool) -> float:
        """FLOP/s; of float32 where the device has no bfloat16, since training then runs in that."""
        return (self.bf16 if bf16 and self.bf16 is not None else self.fp32) * _TERA

    @property
    def bytes(self) -> float:
        """Memory in bytes."""
        return self.memory * _GIGA

    @property
    def bytes_a_second(self) -> float:
        return self.bandwidth * _GIGA


def sheets(path: Path = DEVICES_FILE) -> dict[str, Sheet]:
    """Rows of the table by every name that they bear, in lower case.

    Raises:
        KardError: names the file, the row and the field of the first fault.
    """
    rows = read_toml(path).get("device", [])
    if not isinstance(rows, list) or not rows:
        raise KardError(f"{path}: rows are expected that begin with [[device]]")
    found: dict[str, Sheet] = {}
    for number, row in enumerate(rows, 1):
        sheet = parse_record(row, Sheet, f"{path}: device {number}")
        for name in (sheet.name, *sheet.also):
            if found.setdefault(name.lower(), sheet) is not sheet:
                raise KardError(f"{path}: device {number}: {name!r} is the name of another device already")
    return found


def sheet_of(name: str) -> Sheet:
    """The row of a GPU by any of its names, capitals aside.

    Raises:
        KardError: there is none; the nearest name is told.
    """
    known = sheets()
    if name.lower() not in known:
        names = list(dict.fromkeys(sheet.name for sheet in known.values()))
        raise KardError(f"--gpu {name!r}: {DEVICES_FILE.name} has none of that name{nearest(name, names)}")
    return known[name.lower()]


@dataclass(frozen=True)
class OwnDevice:
    """What the kit computes on here.

    Attributes:
        name: of the GPU, or of the processor with the threads that one step gets.
        kind: ``cuda`` or ``cpu``.
        memory: bytes that are there for all, used or not.
        sheet: row of the table, where this is one of its GPUs.
    """

    name: str
    kind: str
    memory: float
    sheet: Sheet | None = None


def own_device(threads: int = 1) -> OwnDevice:
    """The device at hand.

    Args:
        threads: that one step computes with, where there is no GPU.
    """
    import torch

    if torch.cuda.is_available():
        name = str(torch.cuda.get_device_name(0))
        memory = float(torch.cuda.get_device_properties(0).total_memory)
        return OwnDevice(name, "cuda", memory, sheets().get(name.lower()))
    return OwnDevice(f"{_processor()}, {threads} thread{'s' if threads > 1 else ''}", "cpu", _memory())


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine() or "processor"


def _memory() -> float:
    """Memory of the machine, or what a container's limit leaves of it."""
    import psutil

    most = float(psutil.virtual_memory().total)
    try:
        return min(most, float(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no such limit here
        return most
