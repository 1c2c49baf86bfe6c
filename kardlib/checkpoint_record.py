"""What the records of finished runs say about one trained student, and nothing that they say about any other.

A record names no artefact. So a row counts only where the raw predictions that it rests on are, for the seed in
question, those of the student's own artefact, and likewise the rankings behind hits@k.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import KardError
from .experiment import Experiment
from .methods import Method
from .presets import runs_root
from .records import Prediction, Ranking, read_jsonl
from .runs import RECORD, ResultRow, RunRecord, read_record
from .scoring import Score
from .shipped import Ranked
from .tables import _unusual, accuracy_row

NOTHING = Score(0.0, None, [], [0.0, 0.0], 1)


@dataclass(frozen=True)
class Measured:
    """The rows of one run's record that are about a student and its reranker.

    Attributes:
        run: ``preset/dataset/notebook/id``.
        accuracy: rows of its method, options scored and as written, as far as there are such.
        hits: rows of hits@k: of BM25 and of the reranker.
        seed: of the student; ``place`` is its place among the seeds of the record's rows.
    """

    record: RunRecord
    run: str
    accuracy: tuple[ResultRow, ...]
    hits: tuple[ResultRow, ...]
    seed: int

    @property
    def place(self) -> int:
        return list(self.record.parameters["seeds"]).index(self.seed)

    def own(self, row: ResultRow) -> float:
        """The value of the exported seed, in percent; a row of what has no seeds has one value."""
        return row.seeds[self.place] if len(row.seeds) > 1 else row.seeds[0]


def measured(experiment: Experiment, row: Method, seed: int) -> Measured | None:
    """The newest record that has measured this very student; None where there is none.

    Args:
        experiment: with the settings that the student was trained under.
    """
    if not experiment.made("predictions", name=row.name, seed=seed):
        return None
    folder = experiment.folder("predictions", name=row.name, seed=seed)
    own = read_jsonl(folder / "predictions.jsonl", Prediction)
    for path, record in _records(experiment):
        if seed not in record.parameters.get("seeds", ()):
            continue
        found = [one for one in _accuracy(experiment, row, record) if _rests_on(one, own, seed)]
        if found:
            hits = _hits(experiment, record, seed) if row.test_query == "reranker" else ()
            run = path.parent.relative_to(runs_root()).as_posix()
            return Measured(record, run, tuple(found), tuple(hits), seed)
    return None


def _records(experiment: Experiment) -> Iterator[tuple[Path, RunRecord]]:
    """Records of the preset and the data set, the newest first; what cannot be read is passed over."""
    s = experiment.settings
    paths = (runs_root() / s.preset / s.dataset).glob(f"*/*/{RECORD}")
    for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            yield path, read_record(path)
        except KardError:
            continue


def _accuracy(experiment: Experiment, row: Method, record: RunRecord) -> Iterator[ResultRow]:
    for answers in dict.fromkeys((experiment.settings.answers, "free")):
        expected = _plain(accuracy_row(experiment, row, "greedy", answers, NOTHING))
        yield from (one for one in record.results if _plain(one) == expected)


def _plain(row: ResultRow) -> Any:
    """What tells a row from others of its kind."""
    names = {"dataset", "split", "student", "method", "metric", "decoding", "settings"}
    return json.loads(row.model_dump_json(include=names))


def _rests_on(row: ResultRow, own: list[Prediction], seed: int) -> bool:
    return [one for one in _raw(row, Prediction) if one.seed == seed] == own


def _hits(experiment: Experiment, record: RunRecord, seed: int) -> Iterator[ResultRow]:
    if not experiment.made("rankings", seed=seed):
        return
    own = read_jsonl(experiment.folder("rankings", seed=seed) / "rankings.jsonl", Ranked)
    expected = {name: {one.question_id: getattr(one, name.lower()) for one in own} for name in ("BM25", "Reranker")}
    settings = _unusual(experiment) | {"kappa_star": experiment.settings.kappa_star}
    settings = json.loads(json.dumps(settings))
    for row in record.results:
        if row.metric.startswith("hits@") and row.method in expected and row.settings == settings:
            raw = [one for one in _raw(row, Ranking) if one.seed == seed or row.method == "BM25"]
            if raw and {one.question_id: one.passages for one in raw} == expected[row.method]:
                yield row


def _raw(row: ResultRow, kind: type[Any]) -> Iterable[Any]:
    if row.predictions is None:
        return []
    try:
        return read_jsonl(runs_root() / row.predictions, kind)
    except KardError:
        return []
