"""hits@k of four rankers by two truths: what holds by construction, and what was counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from constructed import experiment_on

from kardlib.experiment import Experiment
from kardlib.mini import MiniSet, make_mini_medqa
from kardlib.published_sets import read_strategyqa
from kardlib.retrieval_table import (
    BY_QUESTION,
    FOUND,
    NEEDED,
    OWN,
    SILVER,
    TRAINED,
    UNTRAINED,
    gains,
    hits_tables,
    own,
    retrieval_rows,
    truths,
)
from kardlib.tables import HITS


@pytest.fixture(scope="module")
def mini() -> MiniSet:
    return make_mini_medqa(3, "development", {"train": 12, "dev": 4, "test": 10})


@pytest.fixture
def one(mini: MiniSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setenv("KARD_RUNS", str(tmp_path))
    experiment = experiment_on(mini, seeds=(0, 1), kappa_star=20)
    found = experiment.candidates()
    experiment.__dict__["reranked"] = lambda seed, split="test": {
        i: c.among(c.passages).model_copy(update={"passages": c.passages[seed:] + c.passages[:seed]})
        for i, c in found.items()
    }
    return experiment


def test_what_holds_by_construction(one: Experiment) -> None:
    tables = hits_tables(one)
    for k in HITS:
        assert tables[FOUND, SILVER, k].all(), "the rationale finds what it finds"
        assert np.array_equal(tables[FOUND, BY_QUESTION, k], tables[FOUND, TRAINED, k][:1]), "seed 0 changes nothing"
        for about in (FOUND, NEEDED):
            for name, seeds in ((BY_QUESTION, 1), (UNTRAINED, 1), (TRAINED, 2), (SILVER, 1)):
                assert tables[about, name, k].shape == (seeds, len(one.data.test))
    for (about, name, k), table in tables.items():
        if k > 1:
            assert (table >= tables[about, name, 1]).all(), "more passages never lose a hit"
    rows = {(row.metric, row.method): row for row in retrieval_rows(one, tables)}
    assert {row.method for row in rows.values() if row.oracle} == {SILVER}
    for (about, first, second), gap in gains(tables, 3).items():
        values = [rows[f"hits@3, {about}", name].value for name in (first, second)]
        assert gap.p_holm is not None and gap.gap == pytest.approx(values[0] - values[1])


def test_needed_passages_state_a_needed_fact(one: Experiment, mini: MiniSet) -> None:
    needed = truths(one)[NEEDED]
    for question in one.data.test:
        facts = mini.needed(question)
        inside = set(needed[question.id])
        assert inside == {i for i, stated in mini.facts.items() if stated & facts} and inside


def test_passages_that_no_search_could_find_are_no_truth(one: Experiment) -> None:
    asked = [q.id for q in one.data.test]
    needed = truths(one)[NEEDED]
    first = set(needed[asked[0]])
    one.__dict__["texts"] = {i: text for i, text in one.texts.items() if i not in first}
    left = truths(one)[NEEDED]
    assert asked[0] not in left and all(set(left[i]) == set(needed[i]) - first for i in left)
    one.__dict__["texts"] = {f"set/{i}": text for i, text in one.texts.items()}
    assert list(truths(one)) == [FOUND], "ids that were changed by a mixture"


def test_among_the_sets_own_other_sources_are_left_out(one: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    import kardlib.retrieval_table as table

    assert own(one) == frozenset() and not any(about == OWN for about, *_ in hits_tables(one)), "no index, no control"
    ids = frozenset(sorted(one.texts)[::2])
    monkeypatch.setattr(table, "own", lambda experiment: ids)
    tables, needed = hits_tables(one), truths(one)[NEEDED]
    for at, (i, right) in enumerate(needed.items()):
        first = next((p for p in one.candidates()[i].passages if p in ids), None)
        assert tables[OWN, BY_QUESTION, 1][0, at] == (first in right)


def test_own_passages_are_those_of_the_set_that_an_index_holds_among_others(one: Experiment) -> None:
    class Indexed:
        settings = one.settings.model_copy(update={"index": "somewhere"})
        texts = {**one.texts, "wiki/1": "something else"}

        def with_settings(self, index: str) -> Experiment:
            return one

    indexed = Indexed()
    assert own(indexed) == set(one.texts)  # type: ignore[arg-type]
    indexed.texts.pop(next(iter(one.texts)))
    assert len(own(indexed)) == len(one.texts) - 1  # type: ignore[arg-type]
    indexed.texts.pop("wiki/1")
    assert own(indexed) == frozenset(), "the set's own alone"  # type: ignore[arg-type]


def test_the_untrained_encoder_orders_the_same_candidates(one: Experiment) -> None:
    ranked, found = one.untrained(), one.candidates()
    assert {i: sorted(c.passages) for i, c in ranked.items()} == {i: sorted(c.passages) for i, c in found.items()}
    assert any(ranked[i].passages != found[i].passages for i in found)


def test_strategyqas_annotated_paragraphs_are_kept_apart_from_the_text(tmp_path: Path) -> None:
    (tmp_path / "paragraphs.json").write_text(
        '{"A-1": {"title": "A", "content": "x"}, "B-1": {"title": "B", "content": "y"}}'
    )
    rows = ",".join(
        f'{{"qid": "q{i}", "question": "Is it {i}?", "answer": true, "facts": ["f"], "evidence": '
        '[[[["B-1", "A-1"]], ["operation"]], [["no_evidence", ["A-1"]]]]}'
        for i in range(40)
    )
    (tmp_path / "train.json").write_text(f"[{rows}]")
    data = read_strategyqa(tmp_path)
    for question in (*data.train, *data.test):
        assert question.meta["evidence"] == ["A-1", "B-1"] and "A-1" not in question.stem
