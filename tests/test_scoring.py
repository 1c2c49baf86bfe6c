"""Scores: what is wrong, what an interval holds, what may be compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from kardlib.errors import KardError
from kardlib.records import Prediction
from kardlib.scoring import accuracy, hits, hits_at, interval, outcomes, score


def run(
    parsed: Sequence[int | None], chosen: Sequence[int | None] | None = None, gold: int = 0, first: int = 0
) -> list[Prediction]:
    """Predictions of one seed; the gold option is always the same."""
    chosen = parsed if chosen is None else chosen
    return [
        Prediction(
            question_id=f"q{first + i:03d}", method="m", seed=0, decoding="greedy", rationale="", answer="",
            parsed=p, chosen=c, gold=gold,
        )
        for i, (p, c) in enumerate(zip(parsed, chosen, strict=True))
    ]  # fmt: skip


def test_an_answer_that_cannot_be_parsed_is_wrong_and_counted() -> None:
    value = accuracy([run([0, 0, 1, None]), run([None, 0, None, 0])])
    assert value.value == 50.0 and value.seeds == [50.0, 50.0] and value.n == 4
    assert value.parse_failures == 3
    assert accuracy([run([None, None])]).value == 0.0


def test_the_option_that_counts_is_scored_and_unreadable_texts_are_counted_all_the_same() -> None:
    value = accuracy([run([None, 1, 0], chosen=[0, 0, 1])])
    assert value.value == pytest.approx(200 / 3) and value.parse_failures == 1


def test_the_mean_and_spread_are_over_seeds() -> None:
    value = accuracy([run([0, 0, 0, 0]), run([0, 0, 1, 1]), run([0, 1, 1, 1])])
    assert value.seeds == [100.0, 50.0, 25.0]
    assert value.value == pytest.approx(np.mean(value.seeds)) and value.sd == pytest.approx(np.std(value.seeds, ddof=1))
    assert accuracy([run([0, 1])]).sd is None


def test_the_order_of_predictions_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    predictions = run(rng.integers(0, 2, 50).tolist())
    shuffled = [predictions[i] for i in rng.permutation(50)]
    assert (outcomes([predictions]) == outcomes([shuffled])).all()
    assert accuracy([predictions, shuffled]).sd == 0.0


def test_an_answer_as_written_is_wrong_where_it_names_no_option() -> None:
    named, silent = run([0, 1])[0], run([0, 1])[0].model_copy(update={"parsed": None})
    assert outcomes([[named]], free=True).all() and outcomes([[silent]]).all()
    assert not outcomes([[silent]], free=True).any()


def test_seeds_with_other_questions_are_refused() -> None:
    for other in (run([0, 0], first=1), run([0]), run([0, 0, 0]), [run([0])[0]] * 2):
        with pytest.raises(KardError, match="same questions"):
            accuracy([run([0, 0]), other])
    with pytest.raises(KardError, match="nothing to score"):
        accuracy([[]])


def test_an_interval_holds_the_value_and_narrows_with_questions() -> None:
    rng, widths = np.random.default_rng(1), []
    for n in (20, 200, 2000):
        value = score((rng.random((3, n)) < 0.4).astype(float))
        assert value.ci95[0] < value.value < value.ci95[1]
        widths.append(value.ci95[1] - value.ci95[0])
    assert widths == sorted(widths, reverse=True)
    half = 196 * np.sqrt(0.25 / 2000)
    low, high = interval(np.arange(2000) % 2.0)
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)


def test_an_interval_is_the_same_each_time_and_a_point_where_nothing_varies() -> None:
    values = np.random.default_rng(2).random(40)
    assert interval(values) == interval(values)
    assert interval(np.full(9, 0.5)) == [50.0, 50.0]
    assert interval(np.array([0.5])) == [50.0, 50.0]


def test_seeds_are_nested_in_questions() -> None:
    """Two equal seeds hold no more questions than one: the interval must not shrink."""
    row = (np.random.default_rng(3).random((1, 100)) < 0.5).astype(float)
    assert score(np.repeat(row, 4, axis=0)).ci95 == score(row).ci95


def test_hits_at_by_hand() -> None:
    ranking = ("a", "b", "c", "d")
    assert hits_at(ranking, ["c", "x"], 3) and not hits_at(ranking, ["c", "x"], 2)
    assert hits_at(ranking, ["a"], 1) and not hits_at(ranking, ["b"], 1)
    assert not hits_at(ranking, ["x"], 10), "a truth passage outside the candidates is a miss"
    assert hits_at(ranking, ["x", "d"], 10) and not hits_at((), ["a"], 3) and not hits_at(ranking, [], 4)


def test_hits_are_a_table_in_the_order_of_the_truth() -> None:
    truth = {"q1": ["a"], "q2": ["b"]}
    runs = [{"q2": ["b", "a"], "q1": ["b", "a"]}, {"q1": ["a"], "q2": ["x"]}]
    assert hits(runs, truth, 1).tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert hits(runs, truth, 2).tolist() == [[1.0, 1.0], [1.0, 0.0]]
    assert (hits(runs, truth, 2) >= hits(runs, truth, 1)).all()


def test_nothing_wrong_in_few_questions_is_no_proof_of_perfection() -> None:
    low, high = interval(np.ones(20))
    assert 70 < low < 95 and high == pytest.approx(100)
    assert interval(np.zeros(20)) == pytest.approx([100 - high, 100 - low])
    assert interval(np.ones(2000))[0] > 99
