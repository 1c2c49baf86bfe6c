"""Questions that two runs answer differently, from the raw predictions of one row."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from .presets import runs_root
from .records import Prediction, read_jsonl
from .runs import ResultRow

Answers = dict[str, Prediction]


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
    a, b = _by_seed(files[0]), _by_seed(files[1])
    shared = [seed for seed in a if seed in b]
    if any(_other_questions(a[seed], b[seed]) for seed in shared):
        return [], f"{name}: not the same questions (of one id the gold answers differ)"
    free = first[1].settings.get("answers") == "free", second[1].settings.get("answers") == "free"
    found = [_flips(name, seed, a[seed], b[seed], free) for seed in shared]
    alone = [str(seed) for seed in dict.fromkeys([*a, *b]) if seed not in shared]
    return found, f"{name}: only one run has raw predictions of seed {', '.join(alone)}" if alone else None


def predictions_file(folder: Path, row: ResultRow) -> Path | None:
    """File of a row's raw predictions, below the root that the run lies in or else below the root of the runs."""
    if row.predictions is None:
        return None
    roots = [*folder.parents[3:4], runs_root()]
    return next((root / row.predictions for root in roots if (root / row.predictions).is_file()), None)


def _by_seed(file: Path) -> Mapping[int, Answers]:
    return _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=64)  # two rows, as written and scored, are read off one file
def _read(file: Path, changed: int) -> Mapping[int, Answers]:
    seeds: dict[int, Answers] = {}
    for prediction in read_jsonl(file, Prediction):
        seeds.setdefault(prediction.seed, {})[prediction.question_id] = prediction
    return seeds


def _other_questions(a: Answers, b: Answers) -> bool:
    return any(a[i].gold != b[i].gold for i in a if i in b)


def _flips(name: str, seed: int, a: Answers, b: Answers, free: tuple[bool, bool]) -> Flips:
    both = [i for i in a if i in b]
    right = [(i, _right(a[i], free[0]), _right(b[i], free[1])) for i in both]
    return Flips(
        row=name, seed=seed, n=len(both), to_wrong=[i for i, x, y in right if x and not y],
        to_right=[i for i, x, y in right if y and not x],
    )  # fmt: skip


def _right(prediction: Prediction, free: bool) -> bool:
    """As scoring has it: the text as written counts, or the option that was chosen."""
    return (prediction.parsed if free else prediction.chosen) == prediction.gold
