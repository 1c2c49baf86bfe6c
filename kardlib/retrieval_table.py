"""hits@k of everything that ranks passages for a question, against two ideas of a right passage.

The paper's truth is what the teacher's rationale finds (Fig. 4c). It cannot judge a search with that rationale, which
is right by construction, so there is a second one that owes nothing to BM25: passages that are known to be needed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .comparison import Comparison, compare, with_holm
from .experiment import Experiment
from .runs import ResultRow
from .scoring import Score, hits, score
from .tables import HITS

Ranking = Mapping[str, tuple[str, ...]]
"""Passage ids, best first, by question id."""
Tables = Mapping[tuple[str, str, int], np.ndarray]
"""hits@k of every question, shape ``(seeds, questions)``, by truth, ranker and k."""
BY_QUESTION, UNTRAINED, TRAINED, SILVER = "BM25", "Reranker, untrained", "Reranker", "BM25(rationale), oracle"
FOUND, NEEDED = "found by the rationale", "known to be needed"
OWN = f"{NEEDED}, among the set's own"


def rankings(experiment: Experiment) -> dict[str, list[Ranking]]:
    """By the ranker's name: one ranking, or one a seed where something was trained."""
    found = {
        BY_QUESTION: [experiment.candidates()],
        UNTRAINED: [experiment.untrained()],
        TRAINED: [experiment.reranked(seed) for seed in experiment.settings.seeds],
        SILVER: [experiment.silver(width=max(*HITS, experiment.settings.kappa_star))],
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


def own(experiment: Experiment) -> frozenset[str]:
    """Ids of the set's own passages, where an index holds them among others; empty elsewhere.

    Needed passages are the set's own, so a ranker gains where it tells the sources apart and reads neither. Among the
    set's own alone there is nothing to gain from that.
    """
    if not experiment.settings.index:
        return frozenset()
    ids = {passage.id for passage in experiment.with_settings(index="").data.passages}
    held = frozenset(i for i in ids if i in experiment.texts)
    return held if len(held) < len(experiment.texts) else frozenset()


def hits_tables(experiment: Experiment) -> Tables:
    """hits@k of every ranker by every truth, for the k of ``tables.HITS``; by what is needed also with passages of
    other sources left out of the rankings."""
    ranked, right = rankings(experiment), truths(experiment)
    asked = [(about, ranked, truth) for about, truth in right.items()]
    if NEEDED in right and (ids := own(experiment)):
        among = {name: [_among(run, ids) for run in runs] for name, runs in ranked.items()}
        asked.append((OWN, among, right[NEEDED]))
    return {
        (about, name, k): hits(runs, truth, k) for about, by, truth in asked for k in HITS for name, runs in by.items()
    }


def _among(ranking: Ranking, ids: frozenset[str]) -> Ranking:
    return {i: tuple(passage for passage in passages if passage in ids) for i, passages in ranking.items()}


def retrieval_rows(experiment: Experiment, tables: Tables) -> list[ResultRow]:
    """One row for each truth, k and ranker, table ``retrieval``."""
    return [_row(experiment, name, f"hits@{k}, {about}", score(table)) for (about, name, k), table in tables.items()]


def gains(tables: Tables, k: int) -> dict[tuple[str, str, str], Comparison]:
    """Paired comparisons in hits@k by (truth, first, second), with Holm's correction over all of them."""
    steps = ((UNTRAINED, BY_QUESTION), (TRAINED, BY_QUESTION), (TRAINED, UNTRAINED), (SILVER, TRAINED))
    asked = [(about, *step) for about in dict.fromkeys(about for about, *_ in tables) for step in steps]
    found = [compare(*(tables[about, name, k] for name in pair)) for about, *pair in asked]
    return dict(zip(asked, with_holm(found), strict=True))


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
