"""Which teachers there are: entries of ``data/teachers.toml`` and of the user's own file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from .errors import KardError
from .presets import REPOSITORY, nearest
from .records import Record, parse_record
from .teacher_limits import Limits
from .teacher_records import Sampling
from .toml_file import read_toml

TEACHERS_FILE = REPOSITORY / "data" / "teachers.toml"
BUILT_IN = ("scripted", "annotations")
"""Teachers that need no endpoint."""
_WITHOUT_ANNOTATIONS = ("medqa",)
_AT_HOME = ("localhost", "127.0.0.1", "::1", "0.0.0.0")


def tells(teacher: str, dataset: str) -> bool:
    """Whether a teacher has rationales for a data set: its annotators may have written none."""
    return teacher != "annotations" or dataset not in _WITHOUT_ANNOTATIONS


class TeacherEntry(Record):
    """One teacher behind an endpoint.

    Attributes:
        alias: what ``-p teacher=`` names; its samples are kept under it.
        base_url, key_name, takes_n, timeout: see :class:`kardlib.teacher_client.Endpoint`.
        prompts: a set of worked examples or a path; "" for the data set's own.
        note: what every table that rests on its rationales must say.
    """

    alias: str
    model: str
    base_url: str = "https://api.openai.com/v1"
    key_name: str = "OPENAI_API_KEY"
    prompts: str = ""
    note: str = ""
    takes_n: bool | None = None
    timeout: float = Field(default=120.0, gt=0)
    sampling: Sampling = Sampling()
    limits: Limits = Limits()

    def __str__(self) -> str:
        return f"{self.alias}, model {self.model} at {self.base_url}:"

    @property
    def at_home(self) -> bool:
        """Whether the server runs on this machine, so that nobody is paid."""
        return (urlsplit(self.base_url).hostname or "") in _AT_HOME


def teachers() -> dict[str, TeacherEntry]:
    """All entries by alias, those of the user's own file (``KARD_TEACHERS``) first.

    Raises:
        KardError: names the file, the entry and the field of the first fault.
    """
    own = os.environ.get("KARD_TEACHERS")
    files = [Path(own).expanduser()] if own else []
    entries: dict[str, TeacherEntry] = {}
    for path in (*files, TEACHERS_FILE):
        for alias, row in _tables(path).items():
            entries.setdefault(alias, parse_record({"alias": alias, **row}, TeacherEntry, f"{path}: [{alias}]"))
    return entries


def teacher_entry(name: str) -> TeacherEntry:
    """The entry of that alias; a KardError names the nearest one."""
    known = teachers()
    if name not in known:
        raise KardError(f"teacher {name!r}: there is none of that name{nearest(name, [*BUILT_IN, *known])}")
    return known[name]


def _tables(path: Path) -> dict[str, dict[str, Any]]:
    tables = read_toml(path)
    for alias, row in tables.items():
        if not isinstance(row, dict) or alias in BUILT_IN or not _is_name(alias):
            raise KardError(f"{path}: {alias}: an entry begins with [alias], of letters, digits, - and _")
    return tables


def _is_name(alias: str) -> bool:
    return all(letter.isalnum() or letter in "-_" for letter in alias)
