"""Every wrong answer of a method, sorted by the first stage of the pipeline at which it went wrong.

The paper labelled 30 wrong answers by hand: 15 of "reranker fetched no relevant passage", 15 of "relevant passage
fetched, small LM failed". Here all wrong answers are sorted, by what only a mini set's maker knows (which facts a
question needs, which passages state them), or on a real set by the truth passages of hits@k.

The stages come in the order of the pipeline, so that a cause is not hidden behind its effect: a text that names no
option is a *format* failure only where all that is needed was read, since a student without the passages often names
something that was never on offer. What is no stage stands beside the class: whether the text names an option, whether
the teacher's test rationale is wrong, whether the silver passages lead to the right answer. "Teacher wrong" is no class
of its own because KARD's answer does not pass through the test rationale: it says how far the silver passages can be
trusted, not why KARD failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from scipy import stats

from .errors import KardError
from .experiment import Experiment
from .methods import method
from .records import Prediction, Record
from .runs import ResultRow
from .scoring import Score
from .tables import accuracy_row

Kind = Literal[
    "not among the candidates",
    "among the candidates, not read",
    "part of it read",
    "read, no option named",
    "read, silver passages help",
    "read, silver passages do not help",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""*It* is what the question needs; *read* means that it stands in the k passages of the prompt."""
NO_PASSAGE, SMALL_LM = "reranker fetched no relevant passage", "relevant passage fetched, small LM failed"
PARTLY: Kind = KINDS[2]
PAPER_CLASSES: dict[str, tuple[Kind, ...]] = {NO_PASSAGE: KINDS[:2], SMALL_LM: KINDS[2:]}
"""The paper's two classes, its words taken literally: where a part of what is needed was read, a relevant passage was
fetched. One may also blame retrieval for :data:`PARTLY`; :func:`paper_shares` tells both."""
SILVER = "KARD (Silver Knowledge, oracle)"
Evidence = Callable[[str, Sequence[str]], float]
"""From a question's id and ids of passages to the share (0 to 1) of what the question needs that they state."""


class Case(Record):
    """One wrong answer.

    Attributes:
        unparsed: its text names no option.
        teacher_wrong: the teacher's test rationale ends in a wrong option; None where it does not tell.
        silver_right: the answer of KARD (Silver Knowledge, oracle), same seed and reading, is right.
    """

    question_id: str
    method: str
    seed: int
    kind: Kind
    unparsed: bool
    teacher_wrong: bool | None
    silver_right: bool

    @property
    def id(self) -> str:
        return f"{self.question_id}/{self.seed}"


def evidence_of(experiment: Experiment) -> Evidence:
    """How much of what a question needs some passages state.

    On a mini set the share of the needed facts. On a real set 1 where one of the three truth passages of hits@k is
    among them, else 0: nobody knows what a part would be.
    """
    mini = experiment.data.mini
    if mini is None:
        truth = experiment.truth()
        return lambda question_id, passages: float(bool(set(truth[question_id]) & set(passages)))
    needed = {q.id: mini.needed(q) for q in experiment.data.test}

    def stated(question_id: str, passages: Sequence[str]) -> float:
        facts = set().union(*(mini.facts[i] for i in passages))
        return len(needed[question_id] & facts) / len(needed[question_id])

    return stated


def sort_failures(
    predictions: Sequence[Prediction],
    candidates: Mapping[str, Sequence[str]],
    evidence: Evidence,
    silver_right: Mapping[str, bool],
    teacher_wrong: Mapping[str, bool | None],
    free: bool = False,
) -> list[Case]:
    """The wrong answers among some predictions, each with its class.

    Args:
        candidates: ids of the kappa* candidates, by question id.
        silver_right, teacher_wrong: see :class:`Case`, by question id.
        free: the option counts that the text names, else the one that was scored the likeliest.
    """
    return [
        Case(
            question_id=p.question_id,
            method=p.method,
            seed=p.seed,
            kind=_kind(p, candidates[p.question_id], evidence, silver_right[p.question_id], free),
            unparsed=p.parsed is None,
            teacher_wrong=teacher_wrong[p.question_id],
            silver_right=silver_right[p.question_id],
        )
        for p in predictions
        if not is_right(p, free)
    ]


def is_right(prediction: Prediction, free: bool) -> bool:
    return (prediction.parsed if free else prediction.chosen) == prediction.gold


def _kind(p: Prediction, candidates: Sequence[str], evidence: Evidence, silver_right: bool, free: bool) -> Kind:
    share = evidence(p.question_id, p.passages)
    if share == 0:
        return KINDS[1] if evidence(p.question_id, candidates) > 0 else KINDS[0]
    if share < 1:
        return PARTLY
    if free and p.parsed is None:
        return "read, no option named"
    return "read, silver passages help" if silver_right else "read, silver passages do not help"


@lru_cache(maxsize=1)
def _candidates(experiment: Experiment) -> dict[str, tuple[str, ...]]:
    """Of each question; methods and seeds share them."""
    return {i: found.passages for i, found in experiment.candidates().items()}


def failures(experiment: Experiment, name: str, seed: int, free: bool = False) -> list[Case]:
    """All wrong answers of a method and seed to the reported questions, sorted; see :func:`sort_failures`.

    Where a rationale tells which passages are relevant, questions without one are left out.

    Raises:
        KardError: the method reads no passages.
    """
    if method(name).test_query == "none":
        raise KardError(f"{name}: it reads no passages, so there is nothing to sort its failures by")
    told, unknown = experiment.test_rationale(), set() if experiment.data.mini else experiment.silent()
    return sort_failures(
        [p for p in experiment.predictions(name, seed) if p.question_id not in unknown],
        _candidates(experiment),
        evidence_of(experiment),
        {p.question_id: is_right(p, free) for p in experiment.predictions(SILVER, seed)},
        {q.id: None if told[q.id].chosen is None else told[q.id].chosen != q.gold for q in experiment.data.test},
        free,
    )


def share_of(runs: Sequence[Sequence[Case]], belongs: Callable[[Case], bool]) -> Score:
    """Share of the failures that belong to a class, in percent, pooled over seeds, with Wilson's interval.

    The seeds fail on much the same questions. So the interval is as wide as the failures of one seed make it, whatever
    the number of seeds; ``n`` is the mean number of failures of a seed.

    Raises:
        KardError: there is no failure.
    """
    total = sum(map(len, runs))
    if not total:
        raise KardError("there is no wrong answer to sort")
    share = sum(map(belongs, (case for run in runs for case in run))) / total
    seeds = [100 * float(np.mean([belongs(case) for case in run])) for run in runs if run]
    n = max(1, round(total / len(runs)))
    sd = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None
    return Score(100 * share, sd, seeds, wilson(round(share * n), n), n)


def wilson(count: int, n: int) -> list[float]:
    """Wilson's 95 % interval of ``count`` out of ``n``, in percent."""
    found = stats.binomtest(count, n).proportion_ci(method="wilson")
    return [100 * float(found.low), 100 * float(found.high)]


def shares(runs: Sequence[Sequence[Case]]) -> dict[str, Score]:
    """Share of the failures in each class; they add up to 100."""
    return {kind: share_of(runs, lambda case, kind=kind: case.kind == kind) for kind in KINDS}


def paper_shares(runs: Sequence[Sequence[Case]], part_is: str = SMALL_LM) -> dict[str, Score]:
    """Share of the failures in each of the paper's two classes.

    Args:
        part_is: the class of those where a part of what is needed was read.
    """
    classes = {name: set(kinds) - {PARTLY} for name, kinds in PAPER_CLASSES.items()}
    classes[part_is].add(PARTLY)
    return {name: share_of(runs, lambda case, kinds=kinds: case.kind in kinds) for name, kinds in classes.items()}


def failure_rows(experiment: Experiment, name: str, runs: Sequence[Sequence[Case]], answers: str) -> list[ResultRow]:
    """Two rows of the table ``failure analysis``, named as in ``data/paper_results.csv``; none without a failure.

    Args:
        name: of the method whose failures they are.
        answers: ``scored`` or ``free``, as the failures were read.
    """
    return _rows(experiment, name, answers, "failure analysis", paper_shares(runs)) if any(runs) else []


def class_rows(experiment: Experiment, name: str, runs: Sequence[Sequence[Case]], answers: str) -> list[ResultRow]:
    """The same for each of our own classes, table ``failure classes``."""
    return _rows(experiment, name, answers, "failure classes", shares(runs)) if any(runs) else []


def _rows(experiment: Experiment, name: str, answers: str, table: str, values: Mapping[str, Score]) -> list[ResultRow]:
    update = {"table": table, "paper_student": "-", "metric": "share of failures"}
    update |= {"decoding": None, "parse_failures": None}
    rows = []
    for called, value in values.items():
        row = accuracy_row(experiment, method(name), "greedy", answers, value)
        settings = row.settings | {"failures_of": name}
        rows.append(row.model_copy(update=update | {"method": called, "settings": settings}))
    return rows


HEADER = ("class", "wrong answers", "share %", "95 % CI", "no option named %", "teacher wrong %", "silver right %")


def failures_html(runs: Sequence[Sequence[Case]]) -> str:
    """One line a class, with what stands beside it, as an HTML table; counts over all seeds."""
    cases = [case for run in runs for case in run]
    lines = ""
    for kind, value in shares(runs).items():
        of_kind = [case for case in cases if case.kind == kind]
        cells = [str(len(of_kind)), f"{value.value:.1f}", "{:.1f} to {:.1f}".format(*value.ci95)]
        cells += [
            _percent([getattr(c, name) for c in of_kind]) for name in ("unparsed", "teacher_wrong", "silver_right")
        ]
        lines += f'<tr><th scope="row">{kind}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    head = "".join(f'<th scope="col">{name}</th>' for name in HEADER)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _percent(values: Sequence[bool | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{100 * float(np.mean(known)):.0f}" if known else "-"
