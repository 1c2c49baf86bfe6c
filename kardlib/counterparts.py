"""Which of the paper's numbers has one beside it here, and why the others have none."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .report import PAPER_METRICS, paper_numbers
from .runs import ResultRow

REASONS = {
    "OPT-IML-1.3B": "mini-opt plays OPT-350M; the shipped models have room for one OPT, and instruction tuning, which "
    "sets OPT-IML apart, has no mini form",
}
"""Why nobody plays a student of the paper at mini scale."""
NOT_RUN = "not run"


@dataclass(frozen=True)
class Counterpart:
    """One number of the paper.

    Attributes:
        reason: why ``here`` is empty; empty where it is not.
        here: the rows that stand beside it, both readings of an answer included.
    """

    table: str
    dataset: str
    student: str
    method: str
    metric: str
    here: tuple[ResultRow, ...]
    reason: str


def counterparts(rows: Sequence[ResultRow]) -> list[Counterpart]:
    """Every row of ``data/paper_results.csv``, in its order of keys, with its counterparts among ``rows``."""
    found: dict[tuple[str, ...], list[ResultRow]] = {}
    for row in rows:
        metric = PAPER_METRICS.get(row.metric, row.metric)
        if row.decoding != "vote5":
            key = (row.table, row.paper_dataset or "", row.paper_student or "-", row.method, metric)
            found.setdefault(key, []).append(row)
    every = [(number.table, *key) for key, numbers in paper_numbers().items() for number in numbers]
    return [Counterpart(*key, here := tuple(found.get(key, ())), _reason(key[2], here)) for key in every]


def _reason(student: str, here: Sequence[ResultRow]) -> str:
    return "" if here else REASONS.get(student, NOT_RUN)


def counterparts_html(found: Sequence[Counterpart]) -> str:
    """How many have one, and for the others a line for each table, student and reason."""
    missing = Counter((one.table, one.dataset, one.student, one.reason) for one in found if not one.here)
    told = f"{sum(bool(one.here) for one in found)} of the paper's {len(found)} numbers have one of ours beside them."
    lines = "".join(
        f'<tr><th scope="row">{html.escape(f"{table}, {dataset}, {student}")}</th>'
        f"<td>{count}</td><td>{html.escape(reason)}</td></tr>"
        for (table, dataset, student, reason), count in missing.items()
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("without one", "numbers", "why"))
    table = f'<table class="without"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>' if missing else ""
    return f"<p>{told}</p>{table}"
