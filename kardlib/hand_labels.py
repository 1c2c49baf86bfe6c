"""A sheet of cases to label by hand, and how far the hand agrees with the automatic classes (Cohen's kappa).

A reader of the sheet sees what the student saw and wrote, and not the automatic class. What the reader cannot see, the
reader is not asked for: of the six classes four labels are left.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from scipy import stats

from .errors import KardError
from .experiment import Experiment
from .failures import KINDS, PARTLY, Case, wilson
from .prompts import LETTERS
from .records import Prediction, Question
from .store import atomic_write

LABELS: dict[str, str] = {
    "nothing": "no passage states anything of what the question needs",
    "part": "the passages state some of what the question needs, not all of it",
    "format": "the passages state all of it; the text names none of the options",
    "reading": "the passages state all of it; the text names a wrong option",
}
COLUMNS = ("case", "question", "options", "gold", "passages", "rationale", "answer", "label")
_EXCEL = "\ufeff"  # with this mark in front Excel reads UTF-8
RESAMPLES = 2000


def label_of(case: Case) -> str:
    """The label that the automatic class stands for."""
    if case.kind in KINDS[:2]:
        return "nothing"
    if case.kind == PARTLY:
        return "part"
    return "format" if case.unparsed else "reading"


def draw_sheet(cases: Sequence[Case], count: int = 30, seed: int = 0) -> list[Case]:
    """A sample in random order, spread over the classes as evenly as they allow.

    Rare classes get their share, which a plain sample would not give them; so the sheet tells how far hand and program
    agree, not how frequent a class is.

    Args:
        cases: with several seeds a question can come twice.
        count: so many, or all where there are fewer.
    """
    rng = Random(f"sheet-{seed}")
    strata = [rng.sample(group, len(group)) for kind in KINDS if (group := [c for c in cases if c.kind == kind])]
    drawn: list[Case] = []
    while len(drawn) < count and any(strata):
        drawn += [stratum.pop() for stratum in strata if stratum][: count - len(drawn)]
    return rng.sample(drawn, len(drawn))


def write_sheet(experiment: Experiment, cases: Sequence[Case], path: Path) -> None:
    """Write cases as CSV with an empty column ``label``; the automatic class is not in it.

    Raises:
        KardError: a case is none of the experiment's, or the file cannot be written.
    """
    questions = {q.id: q for q in experiment.data.test}
    answers = {
        (p.question_id, p.seed): p
        for name, seed in {(case.method, case.seed) for case in cases}
        for p in experiment.predictions(name, seed)
    }
    text = io.StringIO()
    sheet = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    sheet.writeheader()
    for case in cases:
        given = answers.get((case.question_id, case.seed))
        if given is None:
            raise KardError(f"case {case.id}: {experiment.data.name} has no such answer")
        sheet.writerow(_row(case, questions[case.question_id], given, experiment))
    with atomic_write(path) as file:
        file.write(_EXCEL + text.getvalue())


def _row(case: Case, question: Question, given: Prediction, experiment: Experiment) -> dict[str, str]:
    return {
        "case": case.id,
        "question": question.stem,
        "options": " ".join(f"({LETTERS[i]}) {option}" for i, option in enumerate(question.options)),
        "gold": question.answer_text,
        "passages": " ".join(f"[{n}] {experiment.texts[i]}" for n, i in enumerate(given.passages, 1)),
        "rationale": given.rationale,
        "answer": given.answer,
        "label": "",
    }


def read_sheet(path: Path) -> dict[str, str]:
    """The labels of a sheet by case; cases without a label are left out. Commas, semicolons or tabs between fields.

    Raises:
        KardError: names the file, the line and the field at fault.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise KardError(f"{path}: cannot be read ({error})") from None
    head = text.partition("\n")[0]
    sheet = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    for name in ("case", "label"):
        if name not in (sheet.fieldnames or []):
            raise KardError(f"{path}:1: field {name}: there is no such column")
    labels: dict[str, str] = {}
    try:
        for row in sheet:
            case, label = _labelled(row, f"{path}:{sheet.line_num}")
            if case in labels:
                raise KardError(f"{path}:{sheet.line_num}: field case: {case} occurs twice")
            labels[case] = label
    except csv.Error as error:
        raise KardError(f"{path}:{sheet.line_num}: field label: not CSV ({error})") from None
    return {case: label for case, label in labels.items() if label}


def _labelled(row: dict[str, str | None], where: str) -> tuple[str, str]:
    """Case and label of a row, the label in lower case."""
    case, label = row["case"], row["label"]
    if not case:
        raise KardError(f"{where}: field case: it is empty")
    if label is None or None in row:
        raise KardError(f"{where}: field label: the line has {'too few' if label is None else 'too many'} fields")
    label = label.strip().lower()
    if label and label not in LABELS:
        raise KardError(f"{where}: field label: {label!r} is none of {', '.join(LABELS)}")
    return case, label


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Cohen's kappa (1960) of two raters over the same cases: (p_o - p_e) / (1 - p_e).

    p_o is the share of cases with equal labels, p_e the one that chance would give raters who use each label as often.
    1 where all are equal, even if there is one label only.

    Raises:
        KardError: there is no case, or the raters have labelled different numbers of them.
    """
    if len(first) == 0 or len(first) != len(second):
        raise KardError(f"kappa: {len(first)} labels stand beside {len(second)}")
    observed, chance = _agreement(first, second)
    return 1.0 if observed == 1 else (observed - chance) / (1 - chance)


def _agreement(first: Sequence[str], second: Sequence[str]) -> tuple[float, float]:
    """p_o and p_e."""
    a, b = np.asarray(first), np.asarray(second)
    chance = sum(float((a == label).mean() * (b == label).mean()) for label in set(a) | set(b))
    return float((a == b).mean()), chance


def kappa_interval(first: Sequence[str], second: Sequence[str]) -> tuple[float, float]:
    """95 % percentile bootstrap of kappa over cases.

    Where all labels are equal resampling shows no spread; then the lower end is that of Wilson's interval for p_o, at
    the p_e that was seen. Where all cases disagree alike, or there is but one, nothing is known: (-1, 1).
    """
    observed, chance = _agreement(first, second)
    if observed == 1:
        low = wilson(len(first), len(first))[0] / 100
        return (low - chance) / (1 - chance) if chance < 1 else 0.0, 1.0
    if len(set(zip(first, second, strict=True))) == 1:
        return -1.0, 1.0
    codes = {label: i for i, label in enumerate(sorted({*first, *second}))}
    numbers = [np.array([codes[label] for label in labels]) for labels in (first, second)]
    found = stats.bootstrap(
        numbers, cohen_kappa, paired=True, vectorized=False, n_resamples=RESAMPLES, method="percentile",
        rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


@dataclass(frozen=True)
class Agreement:
    """How far labels by hand agree with the automatic classes.

    Attributes:
        n: labelled cases.
        observed: share of equal labels, in percent.
        ci95: of kappa.
        counts: cases by (automatic, by hand).
    """

    n: int
    observed: float
    kappa: float
    ci95: tuple[float, float]
    counts: dict[tuple[str, str], int]


def agreement(cases: Sequence[Case], labels: Mapping[str, str]) -> Agreement:
    """Compare the labels of a sheet with the classes of its cases.

    Raises:
        KardError: nothing is labelled, or a labelled case is none of these.
    """
    by_id = {case.id: label_of(case) for case in cases}
    unknown = next((case for case in labels if case not in by_id), None)
    if unknown is not None:
        raise KardError(f"case {unknown}: it is labelled, and it is none of the {len(by_id)} cases of the sheet")
    if not labels:
        raise KardError(f"the sheet has no label yet; the column 'label' takes {', '.join(LABELS)}")
    automatic, by_hand = [by_id[case] for case in labels], list(labels.values())
    return Agreement(
        n=len(labels),
        observed=100 * _agreement(automatic, by_hand)[0],
        kappa=cohen_kappa(automatic, by_hand),
        ci95=kappa_interval(automatic, by_hand),
        counts=dict(Counter(zip(automatic, by_hand, strict=True))),
    )
