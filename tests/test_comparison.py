"""Paired comparisons: intervals, p-values, Holm's correction, power."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from kardlib.comparison import (
    BOOTSTRAP,
    MCNEMAR,
    RESAMPLES,
    Comparison,
    apart,
    compare,
    contrast,
    detectable,
    holm,
    mcnemar,
    questions_needed,
    verdict_of,
    with_holm,
)
from kardlib.errors import KardError
from kardlib.scoring import score


def table(rng: np.random.Generator, seeds: int, n: int, rate: float) -> np.ndarray:
    return (rng.random((seeds, n)) < rate).astype(float)


def pair(n: int, wins: int, losses: int) -> tuple[np.ndarray, np.ndarray]:
    """One seed each: the first alone is right on ``wins`` questions, the second alone on ``losses``."""
    first, second = np.zeros((1, n)), np.zeros((1, n))
    first[0, :wins] = 1
    second[0, wins : wins + losses] = 1
    return first, second


def test_gap_and_seeds_are_those_of_the_paired_difference() -> None:
    rng = np.random.default_rng(1)
    first, second = table(rng, 3, 200, 0.6), table(rng, 1, 200, 0.5)
    one = compare(first, second)
    assert one.gap == pytest.approx(score(first).value - score(second).value)
    assert one.by_seed == pytest.approx([100 * (row.mean() - second.mean()) for row in first])
    assert one.n == 200 and one.seeds == 3 and one.test == BOOTSTRAP
    assert one.discordance == pytest.approx(100 * np.mean((first.mean(0) - second[0]) ** 2))
    assert one.ci95[0] < one.gap < one.ci95[1]


def test_a_method_does_not_differ_from_itself() -> None:
    both = table(np.random.default_rng(4), 3, 50, 0.5)
    same = compare(both, both)
    assert same.gap == 0 and same.by_seed == (0, 0, 0) and same.verdict == "undecided"


def test_what_is_worse_on_the_same_questions_is_told_more_finely_than_by_its_accuracy() -> None:
    first = table(np.random.default_rng(5), 3, 400, 0.5)
    second = first.copy()
    second[:, :40] = 0  # worse on the same questions, else equal
    gap, back = compare(first, second), compare(second, first)
    assert gap.gap == pytest.approx(score(first).value - score(second).value)
    assert gap.gap == pytest.approx(-back.gap) and gap.gap > 0 and gap.ci95[0] > 0
    assert np.ptp(gap.ci95) < np.ptp(score(first).ci95)


@pytest.mark.parametrize("first, second", [((3, 5), (3, 6)), ((1, 1), (1, 6)), ((2, 5), (3, 5))])
def test_tables_that_do_not_fit_are_refused_either_way(first: tuple[int, int], second: tuple[int, int]) -> None:
    for a, b in ((first, second), (second, first)):
        with pytest.raises(KardError, match="cannot be paired"):
            compare(np.ones(a), np.zeros(b))


def test_groups_of_different_questions_are_resampled_apart() -> None:
    rng = np.random.default_rng(7)
    first, second = table(rng, 3, 150, 0.6).mean(0), table(rng, 3, 400, 0.5).mean(0)
    one, back = apart(first, second), apart(second, first)
    expected = stats.bootstrap(
        (first, second), lambda a, b, axis: 100 * (a.mean(axis) - b.mean(axis)), n_resamples=RESAMPLES,
        method="percentile", rng=np.random.default_rng(1), batch=500,
    )  # fmt: skip
    assert one.gap == pytest.approx(100 * (first.mean() - second.mean())) == -back.gap
    assert one.ci95 == pytest.approx(tuple(expected.confidence_interval), abs=expected.standard_error / 5)
    assert one.n == 550 and one.detectable is None and 0 < one.p < 1
    assert str(one) == f"{one.gap:+.1f} ({one.ci95[0]:+.1f} to {one.ci95[1]:+.1f})"
    sure, few = apart(np.ones(100), np.zeros(200)), apart(np.ones(3), np.zeros(3))
    assert (sure.gap, sure.p, sure.verdict) == (100, None, "holds") and 90 < sure.ci95[0] < 92
    assert few.gap == 100 and few.ci95[0] < 0 and few.verdict == "undecided", "three questions of a kind are no group"
    mixed = apart(np.ones(3), np.arange(60) % 2.0)
    assert mixed.p is None and mixed.ci95[0] < 0 < mixed.gap
    with pytest.raises(KardError, match="cannot be compared"):
        apart(first, first[:0])


@pytest.mark.parametrize("low, high, says", [(1, 2, "holds"), (-2, -1, "does not hold"), (-1, 1, "undecided")])
def test_a_verdict_is_where_the_interval_lies_and_holm_may_leave_it_open(low: float, high: float, says: str) -> None:
    one = Comparison((low + high) / 2, (low, high), 0.04, BOOTSTRAP, 9)
    assert one.verdict == says
    assert [two.verdict for two in with_holm([one, one])] == ["undecided"] * 2


def test_the_interval_is_scipys_bootstrap_up_to_resampling_noise() -> None:
    rng = np.random.default_rng(2)
    first, second = table(rng, 3, 300, 0.6), table(rng, 3, 300, 0.5)
    gaps = 100 * (first - second).mean(axis=0)
    result = stats.bootstrap((gaps,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=rng, batch=500)
    one = compare(first, second)
    # the 2.5 % quantile of N normal draws has standard error sd * sqrt(0.025 * 0.975 / N) / density
    error = result.standard_error * math.sqrt(0.025 * 0.975 / RESAMPLES) / stats.norm.pdf(stats.norm.ppf(0.025))
    bound = 5 * math.sqrt(2) * error + 100 / (3 * 300)  # means are multiples of 1 / (3 * 300)
    assert one.ci95 == pytest.approx(tuple(result.confidence_interval), abs=bound)


def test_pairing_is_by_question_and_signs_mirror() -> None:
    rng = np.random.default_rng(3)
    first, second, order = table(rng, 2, 120, 0.7), table(rng, 2, 120, 0.5), rng.permutation(120)
    one, mirrored, shuffled = compare(first, second), compare(second, first), compare(first[:, order], second[:, order])
    assert mirrored.gap == pytest.approx(-one.gap) and mirrored.p == pytest.approx(one.p, abs=0.01)
    assert (shuffled.gap, shuffled.ci95, shuffled.p) == (one.gap, one.ci95, one.p)
    harder = np.where(rng.random(400) < 0.5, 1.0, 0.0)[None]
    alike = harder.copy()
    alike[0, :8] = 1 - alike[0, :8]
    unpaired = compare(harder, rng.permutation(alike[0])[None])
    width = [np.ptp(compare(harder, alike).ci95), np.ptp(unpaired.ci95)]
    assert width[0] < width[1] / 2, "methods that mostly agree are told apart more finely than their accuracies"


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (12, 3), (30, 30), (3, 40)])
def test_one_seed_is_tested_by_exact_mcnemar(wins: int, losses: int) -> None:
    n = wins + losses
    below = sum(math.comb(n, i) for i in range(min(wins, losses) + 1)) / 2**n
    assert mcnemar(wins, losses) == pytest.approx(min(1, 2 * below))
    one = compare(*pair(100, wins, losses))
    assert one.test == MCNEMAR and one.p == mcnemar(wins, losses)
    assert one.gap == pytest.approx(wins - losses) and one.discordance == pytest.approx(wins + losses)


def test_the_bootstraps_p_agrees_with_its_interval_and_nearly_with_mcnemar() -> None:
    for wins, losses in [(60, 30), (50, 42), (20, 55), (45, 45), (60, 41)]:
        first, second = pair(400, wins, losses)
        one = contrast([np.repeat(first, 2, axis=0)], [second])
        assert one.test == BOOTSTRAP
        assert (one.p < 0.05) == (one.ci95[0] > 0 or one.ci95[1] < 0)
        assert one.p == pytest.approx(mcnemar(wins, losses), abs=0.1)


def test_a_difference_of_differences_is_the_sum_of_its_parts() -> None:
    rng = np.random.default_rng(4)
    a, b, c, d = (table(rng, seeds, 150, rate) for seeds, rate in ((3, 0.8), (3, 0.5), (1, 0.6), (3, 0.4)))
    both = contrast([a, d], [b, c])
    assert both.gap == pytest.approx(compare(a, b).gap - compare(c, d).gap)
    assert np.ptp(both.ci95) > np.ptp(compare(a, b).ci95)
    assert contrast([a, a], [b, b]).ci95 == pytest.approx(tuple(2 * end for end in compare(a, b).ci95))
    assert contrast([a, b], [a, b]).gap == 0


def test_no_difference_at_all_is_no_proof_of_equality() -> None:
    same = table(np.random.default_rng(5), 3, 50, 0.5)
    one = compare(same, same)
    assert one.gap == 0 and one.p == 1 and one.ci95[0] < 0 < one.ci95[1] and one.detectable > 0
    assert verdict_of(one.ci95) == "undecided"
    # an unseen kind of question with the largest share in the interval would be missed by n with probability 2.5 %
    assert (1 - one.ci95[1] / 100) ** 50 == pytest.approx(0.025)
    many = compare(np.ones((1, 5000)), np.ones((1, 5000)))
    assert np.ptp(many.ci95) < np.ptp(one.ci95) / 50


@pytest.mark.parametrize("n", [1, 4, 9])
def test_few_questions_all_alike_have_the_sign_tests_p(n: int) -> None:
    one = compare(np.ones((2, n)), np.zeros((1, n)))
    assert one.p == pytest.approx(min(1, stats.binomtest(n, n).pvalue)) and one.ci95[1] == pytest.approx(100)
    assert (one.p < 0.05) == (one.ci95[0] > 0)
    assert compare(np.zeros((1, n)), np.ones((2, n))).ci95[0] == pytest.approx(-100)


def test_equivalence_needs_the_whole_interval_within_the_margin() -> None:
    rng = np.random.default_rng(6)
    first = table(rng, 3, 2000, 0.5)
    second = np.where(rng.random(first.shape) < 0.02, 1 - first, first)
    one = compare(first, second, -2, 2)
    assert one.test == BOOTSTRAP and one.p < 0.05 and verdict_of(one.ci95, -2, 2) == "holds"
    few = compare(first[:, :40], table(rng, 3, 40, 0.5), -2, 2)
    assert verdict_of(few.ci95, -2, 2) == "undecided" and few.p > 0.05
    far = compare(first, np.zeros_like(first), -2, 2)
    assert verdict_of(far.ci95, -2, 2) == "does not hold" and far.p < 0.05
    same = compare(first, first, -2, 2)
    assert verdict_of(same.ci95, -2, 2) == "holds" and same.p == pytest.approx(2 * 0.98**2000)


def test_the_p_value_of_no_difference_is_uniform_enough() -> None:
    """Under "no difference" at most 5 % of p-values are below 0.05, up to five standard errors."""
    rng, count = np.random.default_rng(7), 150
    small = sum(compare(table(rng, 3, 150, 0.5), table(rng, 3, 150, 0.5)).p < 0.05 for _ in range(count))
    assert small / count < 0.05 + 5 * math.sqrt(0.05 * 0.95 / count)


def test_holm_is_bonferroni_over_every_subset() -> None:
    """Holm's adjusted p-value is the largest Bonferroni p-value of all families that hold the hypothesis."""
    rng = np.random.default_rng(8)
    for size in range(1, 8):
        p = rng.random(size) ** 3
        p[size // 2] = p[0]  # a tie
        brute = [
            max(min(1, len(s) * min(p[list(s)])) for r in range(1, size + 1) for s in combinations(range(size), r)
                if i in s)
            for i in range(size)
        ]  # fmt: skip
        assert holm(p.tolist()) == pytest.approx(brute)
    assert holm([]) == []


def test_holm_over_comparisons_leaves_out_those_without_a_p_value() -> None:
    made = [Comparison(0, (0, 0), p, "t", 1) for p in (0.03, None, 0.01)]
    assert [one.p_holm for one in with_holm(made)] == [pytest.approx(0.03), None, pytest.approx(0.02)]


@pytest.mark.parametrize(("n", "psi"), [(300, 0.3), (1000, 0.12)])
def test_the_detectable_difference_is_found_four_times_in_five(n: int, psi: float) -> None:
    rng, count = np.random.default_rng(n), 4000
    delta = detectable(n, 100 * psi) / 100
    wins, losses, _ = rng.multinomial(n, [(psi + delta) / 2, (psi - delta) / 2, 1 - psi], size=count).T
    found = np.abs(wins - losses) / np.sqrt(wins + losses) > stats.norm.ppf(0.975)
    assert abs(found.mean() - 0.8) < 5 * math.sqrt(0.8 * 0.2 / count)


def test_the_kits_own_test_finds_the_detectable_difference_too() -> None:
    rng, n, psi, count = np.random.default_rng(9), 500, 0.25, 150
    delta = detectable(n, 100 * psi) / 100
    drawn = rng.choice([1.0, -1.0, 0.0], p=[(psi + delta) / 2, (psi - delta) / 2, 1 - psi], size=(count, 1, n))
    found = [contrast([np.repeat(d > 0, 2, axis=0).astype(float)], [(d < 0).astype(float)]).p < 0.05 for d in drawn]
    assert abs(np.mean(found) - 0.8) < 5 * math.sqrt(0.8 * 0.2 / count)


@pytest.mark.parametrize(("n", "psi"), [(50, 40.0), (1000, 10.0), (1273, 35.0)])
def test_questions_needed_and_detectable_are_inverse(n: int, psi: float) -> None:
    assert abs(questions_needed(detectable(n, psi), psi) - n) <= 1
    assert detectable(2 * n, psi) < detectable(n, psi) < detectable(n, 2 * psi)
    assert detectable(n, psi) < detectable(n, psi, power=0.9)
    assert questions_needed(-3, psi) == questions_needed(3, psi) > questions_needed(6, psi)


def test_what_cannot_be_paired_or_asked_is_refused() -> None:
    for first, second in ((np.ones((2, 5)), np.ones((3, 5))), (np.ones((1, 5)), np.ones((1, 4))),
                          (np.ones(5), np.ones(5)), (np.ones((1, 0)), np.ones((1, 0)))):  # fmt: skip
        with pytest.raises(KardError, match="cannot be paired"):
            compare(first, second)
    for gap, psi in ((0, 20), (60, 20)):
        with pytest.raises(KardError, match="gap"):
            questions_needed(gap, psi)
    with pytest.raises(KardError, match="positive"):
        detectable(100, 0)
