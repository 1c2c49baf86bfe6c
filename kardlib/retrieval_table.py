"""hits@k of everything that ranks passages for a question, against two ideas of a right passage.

The paper's truth is what the teacher's rationale finds (Fig. 4c). It cannot judge a search with that rationale, which
is right by construction, so there is a second one that owes nothing to BM25: passages that are known to be needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .candidates import Candidates
from .experiment import Experiment
from .keys import WIDTH
from .progress import shown
from .prompts import query_of
from .records import read_jsonl
from .reranked import RERANKED, rank_into
from .runs import ResultRow
from .scoring import Score, difference, hits, score
from .store import artefact
from .tables import HITS

Ranking = Mapping[str, tuple[str, ...]]
"""Passage ids, best first, by question id."""
Tables = Mapping[tuple[str, str, int], np.ndarray]
"""hits@k of every question, shape ``(seeds, questions)``, by truth, ranker and k."""
BY_QUESTION, UNTRAINED, TRAINED, SILVER = "BM25", "Reranker, untrained", "Reranker", "BM25(rationale), oracle"
FOUND, NEEDED = "found by the rationale", "known to be needed"


def untrained(experiment: Experiment) -> dict[str, Candidates]:
    """The kappa* candidates of each test question in the order of the encoder as it is before Eq. 3."""

    def make(folder: Path) -> None:
        from .reranker import load_reranker

        s, found = experiment.settings, experiment.candidates(width=max(WIDTH, experiment.settings.kappa_star))
        model = load_reranker(s.encoder, s.reranker_form)
        queries = [query_of(q) for q in experiment.questions("test")]
        with shown("reranking, untrained"):
            rank_into(folder, model, queries, list(found.values()), experiment.texts)

    folder = artefact(experiment.root, "untrained", experiment.key("untrained"), make)
    few = experiment.candidates()
    return {c.key: c.among(few[c.key].passages) for c in read_jsonl(folder / RERANKED, Candidates)}


def rankings(experiment: Experiment) -> dict[str, list[Ranking]]:
    """By the ranker's name: one ranking, or one a seed where something was trained."""
    found = {
        BY_QUESTION: [experiment.candidates()],
        UNTRAINED: [untrained(experiment)],
        TRAINED: [experiment.reranked(seed) for seed in experiment.settings.seeds],
        SILVER: [experiment.silver(width=max(HITS))],
    }
    return {name: [{i: c.passages for i, c in run.items()} for run in runs] for name, runs in found.items()}


def truths(experiment: Experiment) -> dict[str, Ranking]:
    """Right passages by question id: what the test rationale finds, and what is known to be needed.

    On a mini set the latter are all passages that state a needed fact; on StrategyQA its annotators' paragraphs. Where
    nobody knows, and for questions of which nothing is known, there is no entry; nor where an index does not hold them
    under the ids that they have in the set, since nobody could find them then.
    """
    mini, test = experiment.data.mini, experiment.data.test
    if mini is not None:
        needed = {q.id: [i for i, facts in mini.facts.items() if facts & mini.needed(q)] for q in test}
    else:
        needed = {q.id: q.meta.get("evidence") or [] for q in test}
    there = {i: tuple(passage for passage in passages if passage in experiment.texts) for i, passages in needed.items()}
    there = {i: passages for i, passages in there.items() if passages}
    return {FOUND: experiment.truth()} | ({NEEDED: there} if there else {})


def hits_tables(experiment: Experiment) -> Tables:
    """hits@k of every ranker by every truth, for the k of ``tables.HITS``."""
    ranked = rankings(experiment)
    return {
        (about, name, k): hits(runs, truth, k)
        for about, truth in truths(experiment).items()
        for k in HITS
        for name, runs in ranked.items()
    }


def retrieval_rows(experiment: Experiment, tables: Tables) -> list[ResultRow]:
    """One row for each truth, k and ranker, table ``retrieval``."""
    return [_row(experiment, name, f"hits@{k}, {about}", score(table)) for (about, name, k), table in tables.items()]


def gains(tables: Tables, k: int) -> dict[tuple[str, str, str], Score]:
    """Paired differences in hits@k, in points, by (truth, first, second)."""
    steps = ((UNTRAINED, BY_QUESTION), (TRAINED, BY_QUESTION), (TRAINED, UNTRAINED), (SILVER, TRAINED))
    abouts = dict.fromkeys(about for about, *_ in tables)
    return {
        (about, *step): difference(*(tables[about, name, k] for name in step)) for about in abouts for step in steps
    }


def _row(experiment: Experiment, name: str, metric: str, value: Score) -> ResultRow:
    settings = experiment.settings
    return ResultRow(
        table="retrieval",
        dataset=experiment.data.name,
        paper_dataset=experiment.data.paper_name or None,
        split=experiment.data.test_split,
        paper_student="-",
        method=name,
        metric=metric,
        settings=settings.changed() | {"kappa_star": settings.kappa_star},
        value=value.value,
        sd=value.sd,
        seeds=value.seeds,
        ci95=(value.ci95[0], value.ci95[1]),
        n=value.n,
        oracle=name == SILVER,
    )
