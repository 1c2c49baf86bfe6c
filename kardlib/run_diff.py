"""``kard diff``: two finished runs, what went into them differently and what came out differently."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from .errors import KardError
from .flips import Flips, question_flips
from .plain_text import columns, time_text
from .presets import nearest, runs_root
from .runs import LATEST, RECORD, ResultRow, read_record

SHOWN = 3
"""Question ids that a line names."""


class Change(BaseModel):
    """A value that two runs do not have in common; None where a run has none of that name."""

    model_config = ConfigDict(frozen=True)

    name: str
    first: Any
    second: Any


class RowPair(BaseModel):
    """One row of a table as two runs have it."""

    model_config = ConfigDict(frozen=True)

    name: str
    first: ResultRow
    second: ResultRow


class RunDiff(BaseModel):
    """All that tells a second run from a first.

    Attributes:
        first, second: the runs as ``preset/dataset/notebook/id``.
        seconds: what each took.
        parameters, provenance: differing values by name; those inside provenance by dotted name.
        rows: rows of both whose value, in the mean or of a seed, interval, questions or parse failures differ.
        same_rows: number of rows that do not.
        only_first, only_second: names of rows that the other run has not.
        flips: of each matching row with raw predictions, seed by seed.
        remarks: what could not be compared, and why.
    """

    model_config = ConfigDict(frozen=True)

    first: str
    second: str
    seconds: tuple[float, float]
    parameters: list[Change]
    provenance: list[Change]
    rows: list[RowPair]
    same_rows: int
    only_first: list[str]
    only_second: list[str]
    flips: list[Flips]
    remarks: list[str]


def find_run(name: str) -> Path:
    """The folder of a finished run.

    Args:
        name: a run's folder, a folder of runs with a ``latest``, a notebook by name or number, which is its latest run,
            or a run's id (or how that begins); folders also relative to the root of the runs.

    Raises:
        KardError: there is none, or there are several.
    """
    for folder in (Path(name).expanduser(), runs_root() / name):
        folder = folder.parent if folder.name == RECORD else folder
        if (folder / RECORD).is_file():
            return folder.resolve()
        if (folder / LATEST).is_file():
            return _finished(_latest(folder / LATEST), name)
    runs = [path.parent for path in sorted(runs_root().glob(f"*/*/*/*/{RECORD}"))]
    marks = [mark for mark in sorted(runs_root().glob(f"*/*/*/{LATEST}")) if _is_called(mark.parent.name, name)]
    # a notebook goes first: an id may begin with its number
    found = [_latest(mark) for mark in marks] or [run for run in runs if name and run.name.startswith(name)]
    if len(found) > 1:
        raise KardError(f"run {name}: there are {len(found)}: {', '.join(run_name(run) for run in found)}")
    if not found:
        known = sorted({part for run in runs for part in (run.name, run.parent.name)})
        raise KardError(f"run {name}: there is no such run{nearest(name, known) if known else ' (nor any other)'}")
    return _finished(found[0], name)


def _is_called(notebook: str, name: str) -> bool:
    return name in (notebook, notebook.split("_")[0], f"{notebook}.ipynb")


def _latest(mark: Path) -> Path:
    return (mark.parent / mark.read_text(encoding="utf-8").strip()).resolve()


def _finished(folder: Path, name: str) -> Path:
    if not (folder / RECORD).is_file():
        raise KardError(f"run {name}: {run_name(folder)} is not finished")
    return folder


def run_name(folder: Path) -> str:
    """``preset/dataset/notebook/id`` of a run's folder."""
    return "/".join(folder.parts[-4:])


def diff_runs(first: Path, second: Path) -> RunDiff:
    """Compare two finished runs.

    Args:
        first, second: their folders; see :func:`find_run`.
    """
    a, b = read_record(first / RECORD), read_record(second / RECORD)
    parameters = changes(a.parameters, b.parameters)
    pairs, only_first, only_second = pair_rows(a.results, b.results, {change.name for change in parameters})
    flips: list[Flips] = []
    remarks = [f"{a.notebook} and {b.notebook} are different notebooks"] if a.notebook != b.notebook else []
    for pair in pairs:
        found, remark = question_flips(pair.name, (first, pair.first), (second, pair.second))
        flips += found
        remarks += [remark] if remark else []
    changed = [pair for pair in pairs if _numbers(pair.first) != _numbers(pair.second)]
    return RunDiff(
        first=run_name(first), second=run_name(second), seconds=(a.seconds, b.seconds), parameters=parameters,
        provenance=changes(flat(a.provenance), flat(b.provenance)), rows=changed, same_rows=len(pairs) - len(changed),
        only_first=only_first, only_second=only_second, flips=flips, remarks=remarks,
    )  # fmt: skip


def flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """A nested dictionary as one with dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return found


def changes(first: dict[str, Any], second: dict[str, Any]) -> list[Change]:
    """Values that differ, in the order of their names in the first and then in the second."""
    names = dict.fromkeys([*first, *second])
    return [Change(name=n, first=first.get(n), second=second.get(n)) for n in names if first.get(n) != second.get(n)]


def _numbers(row: ResultRow) -> tuple[Any, ...]:
    return row.value, row.seeds, row.ci95, row.n, row.parse_failures


def pair_rows(
    first: Sequence[ResultRow], second: Sequence[ResultRow], differing: Set[str]
) -> tuple[list[RowPair], list[str], list[str]]:
    """Rows of two runs that are the same cell, and the names of those that only one run has.

    A row's settings hold parameters, so that the row of a run with another ``k`` has other settings. Rows are matched
    by all settings first, then without the parameters that the runs differ in, then by method and measure alone; each
    time only where that leaves one row in each run.

    Args:
        differing: names of the parameters that the runs differ in.
    """
    told = _telling(first) | _telling(second)
    rest_a, rest_b, pairs = list(first), list(second), []
    for without in (frozenset(), frozenset(differing), None):
        a, b = _unique(rest_a, without), _unique(rest_b, without)
        for key in (key for key in a if key in b):
            pairs.append(RowPair(name=row_name(a[key], told), first=a[key], second=b[key]))
            rest_a = [row for row in rest_a if row is not a[key]]
            rest_b = [row for row in rest_b if row is not b[key]]
    order = {id(row): i for i, row in enumerate(first)}
    pairs.sort(key=lambda pair: order[id(pair.first)])
    return pairs, [row_name(row, told) for row in rest_a], [row_name(row, told) for row in rest_b]


def _unique(rows: Iterable[ResultRow], without: Set[str] | None) -> dict[str, ResultRow]:
    keyed = [(_identity(row, without), row) for row in rows]
    count = Counter(key for key, _ in keyed)
    return {key: row for key, row in keyed if count[key] == 1}


def _identity(row: ResultRow, without: Set[str] | None) -> str:
    """What makes a row that row, less some settings; less all but the reading of the answers where these are None."""
    loose = without is None or "student" in without
    settings = {
        name: value
        for name, value in row.settings.items()
        if name == "answers" or (without is not None and name not in without)
    }
    about = (row.table, row.dataset, row.split, row.method, row.metric, row.decoding, None if loose else row.student)
    return json.dumps([about, settings], sort_keys=True, default=str)


def _telling(rows: Sequence[ResultRow]) -> set[str]:
    """Settings in which rows of one method and measure differ within a run."""
    seen: dict[tuple[str, ...], dict[str, set[str]]] = {}
    for row in rows:
        key = (row.table, row.method, row.metric, str(row.decoding), str(row.settings.get("answers")))
        values = seen.setdefault(key, {})
        for name, value in row.settings.items():
            values.setdefault(name, set()).add(json.dumps(value, default=str))
    return {name for values in seen.values() for name, found in values.items() if len(found) > 1}


def row_name(row: ResultRow, told: Set[str] = frozenset()) -> str:
    """A row in words: table, method, measure, how it was decoded and read, and the settings that are told."""
    reading = {"free": ", as written", "scored": ", scored"}.get(str(row.settings.get("answers")), "")
    metric = "" if row.metric == "accuracy" else f", {row.metric}"
    vote = ", vote of 5" if row.decoding == "vote5" else ""
    about = "".join(f", {name}={row.settings[name]}" for name in sorted(told) if row.settings.get(name) is not None)
    table = f"Table {row.table}" if row.table.isdigit() else row.table
    return f"{table}: {row.method}{metric}{vote}{reading}{about}"


def page(diff: RunDiff) -> str:
    """A comparison as one page of plain text; values in percent, B - A in points."""
    head = [("A", diff.first, time_text(diff.seconds[0])), ("B", diff.second, time_text(diff.seconds[1]))]
    lines = columns(head, indent=0)
    lines += _section("Parameters", "differ", _changes(diff.parameters))
    lines += _section("Provenance", "differ", _changes(diff.provenance))
    lines += _section(f"Rows ({diff.same_rows} are the same)", "differ", _rows(diff.rows))
    for run, names in (("A", diff.only_first), ("B", diff.only_second)):
        lines += _section(f"Rows of {run} only", "", [f"  {name}" for name in names]) if names else []
    lines += _section("Answers", "differ", _flipped(diff.flips)) if diff.flips else []
    return "\n".join([*lines, *(["", *diff.remarks] if diff.remarks else [])])


def _section(title: str, verb: str, lines: list[str]) -> list[str]:
    return ["", f"{title}:", *lines] if lines else ["", f"{title}: none {verb}"]


def _changes(found: Sequence[Change]) -> list[str]:
    return columns([(c.name, _value(c.first), "->", _value(c.second)) for c in found]) if found else []


def _value(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) and value else json.dumps(value)


def _rows(pairs: Sequence[RowPair]) -> list[str]:
    if not pairs:
        return []
    lines = [("row", "A", "B", "B - A")]
    for p in pairs:
        here = _here(p.first, p.second), _here(p.second, p.first)
        lines.append((p.name, *here, f"{p.second.value - p.first.value:+.1f}"))
    return columns(lines, right=(1, 2, 3))


def _here(row: ResultRow, other: ResultRow) -> str:
    """Value, spread and interval; questions and unparsed answers where the other run has another number of them."""
    spread = f" ± {row.sd:.1f}" if row.sd is not None and len(row.seeds) > 1 else ""
    interval = f" ({row.ci95[0]:.1f} to {row.ci95[1]:.1f})" if row.ci95 else ""
    unparsed = f", {row.parse_failures} unparsed" if row.parse_failures != other.parse_failures else ""
    return f"{row.value:.1f}{spread}{interval}{unparsed}" + (f", n = {row.n}" if row.n != other.n else "")


def _flipped(flips: Sequence[Flips]) -> list[str]:
    rows = [f for f in flips if f.to_wrong or f.to_right]
    if not rows:
        return []
    lines = [("row", "seed", "n", "right -> wrong", "wrong -> right", "such as")]
    for f in rows:
        counts = (str(f.seed), str(f.n), str(len(f.to_wrong)), str(len(f.to_right)))
        lines.append((f.row, *counts, _such_as(f)))
    return columns(lines, right=(1, 2, 3, 4))


def _such_as(flips: Flips) -> str:
    kinds = (("wrong now", flips.to_wrong), ("right now", flips.to_right))
    return "; ".join(f"{name}: {', '.join(ids[:SHOWN])}" for name, ids in kinds if ids)
