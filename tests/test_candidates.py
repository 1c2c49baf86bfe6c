"""Candidates: found with the question or the rationale, united without duplicates, scored by the rationale."""

from __future__ import annotations

import numpy as np
import pytest

from kardlib.bm25 import BM25
from kardlib.candidates import (
    Candidates,
    check_temperature,
    question_candidates,
    rationale_candidates,
    rationale_key,
    sample_pool,
    training_pool,
)
from kardlib.errors import KardError
from kardlib.mini import MiniSet
from kardlib.records import Question, Rationale
from kardlib.teacher import ScriptedTeacher

KAPPA1, KAPPA2 = 8, 24


@pytest.fixture(scope="module")
def pairs(mini: MiniSet) -> list[tuple[Question, Rationale]]:
    questions = mini.splits["train"][:15]
    told = ScriptedTeacher(mini).rationales(questions, 2, show_gold=True)
    by_id = {q.id: q for q in questions}
    return [(by_id[r.question_id], r) for r in told]


def scores_by_id(search: BM25, query: str) -> dict[str, float]:
    return dict(zip((p.id for p in search.passages), search.scores(query).tolist(), strict=True))


def test_pool_is_the_union_without_duplicates(search: BM25, pairs: list[tuple[Question, Rationale]]) -> None:
    overlaps = 0
    for question, told in pairs:
        pool = training_pool(search, question, told, KAPPA1, KAPPA2)
        first = set(rationale_candidates(search, told, KAPPA1).passages)
        second = set(question_candidates(search, question, KAPPA2).passages)
        assert len(set(pool.passages)) == len(pool.passages) == len(pool.scores)
        assert set(pool.passages) == first | second
        assert pool.key == rationale_key(told)
        overlaps += bool(first & second)
    assert overlaps, "no question where both searches find the same passage: this test would see no duplicates"


def test_every_member_is_scored_by_the_rationale(search: BM25, pairs: list[tuple[Question, Rationale]]) -> None:
    for question, told in pairs:
        pool = training_pool(search, question, told, KAPPA1, KAPPA2)
        right = scores_by_id(search, told.text)
        assert list(pool.scores) == [right[i] for i in pool.passages]
        assert list(pool.scores) == sorted(pool.scores, reverse=True)


def test_candidates_carry_the_scores_of_their_own_query(search: BM25, pairs: list[tuple[Question, Rationale]]) -> None:
    question, told = pairs[0]
    for found, query in (
        (rationale_candidates(search, told, 5), told.text),
        (question_candidates(search, question, 5), " ".join((question.stem, *question.options))),
    ):
        right = scores_by_id(search, query)
        assert list(found.scores) == [right[i] for i in found.passages] == sorted(right.values(), reverse=True)[:5]
    assert rationale_candidates(search, told, 5).passages == rationale_candidates(search, told, 9).passages[:5]


def test_a_question_may_have_several_rationales_with_keys_of_their_own(pairs: list[tuple[Question, Rationale]]) -> None:
    keys = [rationale_key(told) for _, told in pairs]
    assert len(set(keys)) == len(keys)
    assert all(key.rpartition("#")[0] == question.id for key, (question, _) in zip(keys, pairs, strict=True))


def test_a_rationale_of_another_question_is_refused(search: BM25, pairs: list[tuple[Question, Rationale]]) -> None:
    with pytest.raises(KardError, match="paired"):
        training_pool(search, pairs[0][0], pairs[-1][1], KAPPA1, KAPPA2)


def test_pools_larger_than_the_knowledge_base_hold_all_of_it(mini: MiniSet, pairs: list) -> None:
    search = BM25(mini.passages[:10])
    pool = training_pool(search, *pairs[0], 100, 100)
    assert sorted(pool.passages) == [p.id for p in search.passages]


def pool_of(count: int) -> Candidates:
    return Candidates(
        key="q#0", passages=tuple(f"p{i}" for i in range(count)), scores=tuple(float(count - i) for i in range(count))
    )


@pytest.mark.parametrize("count", [1, 2, 3, 5, 11, 12, 13, 30])
@pytest.mark.parametrize("size", [2, 5, 12])
def test_a_sample_has_the_right_size_and_no_duplicates(count: int, size: int) -> None:
    pool = pool_of(count)
    if size > count:
        with pytest.raises(KardError, match="pool q#0"):
            sample_pool(pool, size, np.random.default_rng(0))
        return
    right = dict(zip(pool.passages, pool.scores, strict=True))
    drawn = set()
    for seed in range(20):
        passages, scores = sample_pool(pool, size, np.random.default_rng(seed))
        assert len(passages) == len(scores) == size
        assert scores == [right[i] for i in passages]
        assert len(set(passages)) == size
        assert len({i for i in passages if int(i[1:]) < size}) >= min(size // 2, count)
        drawn |= set(passages)
    if count <= 2 * size:
        assert drawn == set(pool.passages), "some members are never drawn"


def test_a_sample_depends_on_the_generator_alone() -> None:
    pool = pool_of(30)
    draws = [tuple(sample_pool(pool, 12, np.random.default_rng(seed))[0]) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_a_temperature_that_does_not_fit_the_scores_is_told() -> None:
    pools = [pool_of(21)] * 3
    assert "underflows" in str(check_temperature(pools, 0.01))
    assert "flat" in str(check_temperature(pools, 1000.0))
    assert check_temperature(pools, 2.0) is None and check_temperature([], 2.0) is None
