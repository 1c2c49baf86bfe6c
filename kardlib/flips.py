"""Questions that two runs answer differently, from the raw predictions of one row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from .presets import runs_root
from .records import Prediction, Ranking, read_jsonl
from .runs import ResultRow
from .scoring import hits_at

Answers = dict[str, tuple[bool, Any]]
"""By question id: whether it is right, and what runs must agree on to be about the same question."""


class Flips(BaseModel):
    """Flipped questions of one row and one seed.

    Attributes:
        row: name of the row.
        n: questions that both runs answered.
        to_wrong: ids of those that were right in the first run and are wrong in the second; ``to_right`` the other way.
    """

    model_config = ConfigDict(frozen=True)

    row: str
    seed: int
    n: int
    to_wrong: list[str]
    to_right: list[str]


def question_flips(
    name: str, first: tuple[Path, ResultRow], second: tuple[Path, ResultRow]
) -> tuple[list[Flips], str | None]:
    """Flips of one row, seed by seed, and what could not be compared.

    Args:
        name: of the row.
        first, second: a run's folder, and the row as that run has it.

    Raises:
        KardError: a file of predictions is broken.
    """
    files = predictions_file(*first), predictions_file(*second)
    if first[1].predictions is None and second[1].predictions is None:
        return [], None
    if files[0] is None or files[1] is None:
        return [], f"{name}: run {'A' if files[0] is None else 'B'} has no raw predictions"
    a, b = _by_seed(files[0], first[1]), _by_seed(files[1], second[1])
    shared = [seed for seed in a if seed in b]
    if any(_other_questions(a[seed], b[seed]) for seed in shared):
        return [], f"{name}: not the same questions (of one id what is right differs)"
    found = [_flips(name, seed, a[seed], b[seed]) for seed in shared]
    alone = [str(seed) for seed in dict.fromkeys([*a, *b]) if seed not in shared]
    return found, f"{name}: only one run has raw predictions of seed {', '.join(alone)}" if alone else None


def predictions_file(folder: Path, row: ResultRow) -> Path | None:
    """File of a row's raw predictions, below the root that the run lies in or else below the root of the runs."""
    if row.predictions is None:
        return None
    roots = [*folder.parents[3:4], runs_root()]
    return next((root / row.predictions for root in roots if (root / row.predictions).is_file()), None)


def _by_seed(file: Path, row: ResultRow) -> Mapping[int, Answers]:
    hits = row.metric.removeprefix("hits@") if row.metric.startswith("hits@") else None
    seeds: dict[int, Answers] = {}
    found = _ranked(file, int(hits)) if hits else _answered(file, row.settings.get("answers") == "free")
    for seed, question_id, answer in found:
        seeds.setdefault(seed, {})[question_id] = answer
    return seeds


def _ranked(file: Path, k: int) -> Iterator[tuple[int, str, tuple[bool, Any]]]:
    for one in _read(file, Ranking, file.stat().st_mtime_ns):
        yield one.seed, one.question_id, (hits_at(one.passages, one.truth, k), set(one.truth))


def _answered(file: Path, free: bool) -> Iterator[tuple[int, str, tuple[bool, Any]]]:
    """As scoring has it: the text as written counts, or the option that was chosen."""
    for one in _read(file, Prediction, file.stat().st_mtime_ns):
        yield one.seed, one.question_id, ((one.parsed if free else one.chosen) == one.gold, one.gold)


@lru_cache(maxsize=64)  # several rows, as written and scored or of each k, are read off one file
def _read(file: Path, kind: type, changed: int) -> list[Any]:
    return read_jsonl(file, kind)


def _other_questions(a: Answers, b: Answers) -> bool:
    return any(a[i][1] != b[i][1] for i in a if i in b)


def _flips(name: str, seed: int, a: Answers, b: Answers) -> Flips:
    both = [i for i in a if i in b]
    return Flips(
        row=name, seed=seed, n=len(both), to_wrong=[i for i in both if a[i][0] and not b[i][0]],
        to_right=[i for i in both if b[i][0] and not a[i][0]],
    )  # fmt: skip
