"""The paper's tables and figures as lists of cells.

A cell is one number: a data set, a student, a method, the settings in which it differs from the preset, and the seeds
that it is a mean over. What two tables share has one key and is made once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .as_released import reached, switches
from .errors import KardError
from .methods import METHODS, method
from .presets import Settings, nearest, resolve
from .teacher_entries import tells

DATASETS: dict[str, dict[str, str]] = {
    "mini": {"medqa": "mini-medqa", "strategyqa": "mini-strategyqa", "openbookqa": "mini-openbookqa"},
    "laptop": {"medqa": "medqa", "strategyqa": "strategyqa", "openbookqa": "openbookqa"},
    "paper": {"medqa": "medqa", "strategyqa": "strategyqa", "openbookqa": "openbookqa"},
}
"""Which set plays which of the paper's, for each preset."""
STUDENTS: dict[str, dict[str, str]] = {
    "mini": {"base": "mini-t5-base", "large": "mini-t5-large", "xl": "mini-t5-xl", "opt": "mini-opt"},
    "laptop": {"base": "mini-t5-base"},
    "paper": {
        "base": "google/flan-t5-base",
        "large": "google/flan-t5-large",
        "xl": "google/flan-t5-xl",
        "opt": "facebook/opt-350m",
        "opt-iml": "facebook/opt-iml-1.3b",
    },
}
"""Which model plays which of the paper's students, for each preset."""
_T5 = {f"google/flan-t5-{size}": f"google/t5-v1_1-{size}" for size in ("base", "large", "xl")}
_PLAIN_T5 = ("strategyqa", "openbookqa")
"""Sets on which the paper's students are T5, not Flan-T5."""
SEVERAL_RUNS = ("Reasoning Distillation", "KARD (BM25)", "KARD (Reranker)")
"""Methods of which the paper reports the mean of three runs."""


@dataclass(frozen=True)
class Cell:
    """One number of one table.

    Attributes:
        row: the name that it has in ``data/paper_results.csv``, for example ``KARD (BM25), l=3 rationales``.
        method: the row of the table of methods that makes it.
    """

    table: str
    row: str
    method: str
    settings: Settings

    @property
    def seeds(self) -> tuple[int, ...]:
        """A method that is not trained gives the same answers for every seed."""
        return self.settings.seeds if method(self.method).training else self.settings.seeds[:1]


@dataclass(frozen=True)
class Study:
    """A table or figure: every data set with every student, every change of settings and every method.

    Attributes:
        table: its name in the paper.
        title: what it asks, in a few words.
        changes: settings in which columns or rows differ, each with the words that the row's name gets.
        methods: by the name that they bear in this table; all of the main table where it is empty.
        reached: methods that stand under a change, by the words of the change; all of them where it is not named.
        all_seeds: three seeds for every method, not only for those that have three runs in the paper.
        stands_for: the paper's student that the rows stand beside, where it is not the one that the student plays.
    """

    table: str
    title: str
    datasets: tuple[str, ...]
    students: tuple[str, ...]
    methods: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"": {}})
    reached: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    all_seeds: bool = False
    stands_for: str = ""


_RD, _BM25, _RERANKER = ({name: name} for name in SEVERAL_RUNS)
STUDIES: dict[str, Study] = {
    study.table: study
    for study in (
        Study("1", "main results, MedQA-USMLE", ("medqa",), ("base", "large", "xl", "opt", "opt-iml")),
        Study("2", "main results, StrategyQA and OpenbookQA", ("strategyqa", "openbookqa"), ("base", "large", "xl")),
        Study(
            "3", "rationales per question", ("medqa",), ("base", "large"), _BM25,
            {f", l={count} rationales": {"l": count} for count in (1, 3, 5, 10)},
        ),
        Study(
            "filter", "the rationale filter", ("medqa",), ("base",), _RD | _BM25,
            {", filter on": {"filter": True}, ", filter off": {"filter": False}},
        ),
        Study(
            "4", "candidates of the reranker", ("medqa",), ("base", "large"), _RERANKER,
            {f", kappa*={count} candidates": {"kappa_star": count} for count in (20, 50, 100)},
        ),
        Study(
            "5", "passages that the student reads", ("medqa",), ("base",), _BM25 | _RERANKER,
            {f", k={count} passages": {"k": count} for count in (1, 2, 3, 5)},
        ),
        Study(
            "Fig 4a", "share of the training data", ("medqa",), ("large",),
            # the figure does not say which KARD it shows; at 100 % it is that of BM25 by its number in Table 1
            {"Fine-tuning": "Fine-tuning", "KARD": "KARD (BM25)", "KARD with reranker": "KARD (Reranker)"},
            {f", {round(100 * share)}% of train": {"share": share} for share in (0.01, 0.25, 1.0)}, all_seeds=True,
        ),
        Study(
            "Fig 4b", "examples shown to the largest model", ("medqa",), ("xl",),
            {"in-context learning": "Few-shot + CoT"}, stands_for="Flan-T5-xxl (11B)",
        ),
        Study(
            "Fig 3", "further training on text first (DAPT)", ("medqa",), ("base",), _RD | _RERANKER,
            {", DAPT=none": {"dapt": "none"}, ", DAPT=PubMed abstracts": {"dapt": "related"},
             ", DAPT=MedWiki": {"dapt": "knowledge base"}},
        ),
        Study(
            "7", "a retriever trained with the student (RAG)", ("medqa", "strategyqa"), ("base",),
            {name: name for name in ("KA Fine-tuning", "RAG + Reasoning Distillation", "KARD (Reranker)")},
            all_seeds=True,
        ),
        Study(
            "as released", "where the released code departs from the paper", ("medqa",), ("base",), _RERANKER | _RD,
            switches(), reached(),
        ),
    )
}  # fmt: skip


def study(table: str) -> Study:
    """The study of that name; a KardError names the nearest one."""
    if table not in STUDIES:
        raise KardError(f"table {table!r}: there is none of that name{nearest(table, STUDIES)}")
    return STUDIES[table]


def cells_of(table: str, given: Settings) -> list[Cell]:
    """The cells of a table under a preset, in the paper's order.

    Args:
        given: settings that hold wherever the table sets nothing else; its data set and student are left aside, since
            the table has its own. Parts of the paper's that nobody plays under the preset are left out, and under the
            teacher "annotations" MedQA, which has none, and changes that want several rationales.
    """
    wanted = study(table)
    methods = wanted.methods or {row.name: row.name for row in METHODS}
    return [
        Cell(table, f"{label}{words}", name, _settings(wanted, name, changes, given, dataset, student))
        for dataset in _played(wanted.datasets, DATASETS, given)
        if tells(given.teacher, dataset)
        for student in _played(wanted.students, STUDENTS, given)
        for words, changes in wanted.changes.items()
        if not (given.teacher == "annotations" and changes.get("l", 1) > 1)
        for label, name in methods.items()
        if name in wanted.reached.get(words, methods.values())
    ]


def _played(parts: Iterable[str], cast: Mapping[str, Mapping[str, str]], given: Settings) -> list[str]:
    return [cast[given.preset][part] for part in parts if part in cast[given.preset]]


def _settings(
    wanted: Study, name: str, changes: Mapping[str, Any], given: Settings, dataset: str, student: str
) -> Settings:
    own = {field: getattr(given, field) for field in (*given.changed(), "data_dir", "dapt_text", "retrain")}
    student = _T5.get(student, student) if dataset in _PLAIN_T5 else student
    seeds = given.seeds if wanted.all_seeds or name in SEVERAL_RUNS else given.seeds[:1]
    return resolve(given.preset, **own | dict(changes) | {"dataset": dataset, "student": student, "seeds": seeds})
