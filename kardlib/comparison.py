"""Paired comparisons of methods: gap, interval, p-value, Holm's correction, and what so many questions could detect.

Everything is paired by question: both methods answered the same ones. Seeds are averaged within each question before
questions are resampled, so an interval speaks about the students that were trained, not about all that could have been;
``by_seed`` shows how far these differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from .errors import KardError

RESAMPLES = 10_000  # a two-sided p-value goes down to 2e-4: Holm can still decide within a family of two hundred
LEVEL = 0.05
POWER = 0.80
BOOTSTRAP, MCNEMAR, TWO_SAMPLES = "paired bootstrap", "exact McNemar", "bootstrap of two samples"
Tail = Callable[[float], float]


@dataclass(frozen=True)
class Comparison:
    """A difference in accuracy with what is known about it; gaps and intervals in points.

    Attributes:
        gap: first minus second, mean over questions and seeds; or a sum of several such terms.
        ci95: percentile bootstrap over questions.
        p: two-sided, of the bound or bounds that were asked about (0 by default); None where nothing could be tested.
        test: how ``p`` was found.
        n: distinct questions.
        by_seed: the gap of each seed.
        discordance: mean of the squared gap of a question, in percent; with one seed on each side it is the share of
            questions that exactly one of the two methods got right.
        detectable: see :func:`detectable`; None where nothing is paired.
        p_holm: ``p`` after Holm's correction over its family; None before it.
    """

    gap: float
    ci95: tuple[float, float]
    p: float | None
    test: str
    n: int
    by_seed: tuple[float, ...] = ()
    discordance: float | None = None
    detectable: float | None = None
    p_holm: float | None = None

    @property
    def verdict(self) -> str:
        """What it says about "first > second", see :func:`verdict_of`; after Holm's correction where there was one."""
        return verdict_of(self.ci95, p_holm=self.p_holm)

    def __str__(self) -> str:
        """The gap with its interval, in points."""
        return f"{self.gap:+.1f} ({self.ci95[0]:+.1f} to {self.ci95[1]:+.1f})"

    @property
    def p_text(self) -> str:
        """p after Holm's correction, as tables have it."""
        return "-" if self.p_holm is None else "<0.001" if self.p_holm < 0.001 else f"{self.p_holm:.3f}"

    @property
    def seeds(self) -> int:
        """Seeds that were paired."""
        return len(self.by_seed)


def compare(first: np.ndarray, second: np.ndarray, above: float = 0.0, below: float = math.inf) -> Comparison:
    """Compare two methods from their outcomes; see :func:`contrast`."""
    return contrast([first], [second], above, below)


def contrast(
    plus: Sequence[np.ndarray], minus: Sequence[np.ndarray], above: float = 0.0, below: float = math.inf
) -> Comparison:
    """Sum of the accuracies ``plus`` less the sum of the accuracies ``minus``, question by question.

    One table on each side is a plain comparison, two on each side a difference of differences. The p-value is that of
    exact McNemar where one seed is compared with one seed against 0, else of the paired bootstrap.

    Args:
        plus, minus: outcomes, each of shape ``(seeds, questions)`` with the same questions in the same order; 1 for
            right and 0 for wrong. A table of one seed is compared with every seed of the others.
        above, below: the gap is asked to lie between these, in points; two finite bounds ask for equivalence.

    Raises:
        KardError: the tables cannot be paired, or are empty.
    """
    gaps = _gaps(plus, minus)
    mean, reach = gaps.mean(axis=0), max(len(plus), len(minus))
    alike = np.ptp(mean) < 1e-12
    ci95, low_tail, high_tail = _constant(mean, reach) if alike else _tails(_drawn(mean, np.random.default_rng(0)))
    test, p = BOOTSTRAP, _p_value(low_tail, high_tail, above, below)
    if len(gaps) == len(plus) == len(minus) == 1 and (above, below) == (0.0, math.inf):
        test, p = MCNEMAR, mcnemar(int((mean > 0).sum()), int((mean < 0).sum()))
    n, discordance = mean.size, 100 * float((mean**2).mean())
    return Comparison(
        gap=100 * float(mean.mean()), ci95=ci95, p=p, test=test, n=n,
        by_seed=tuple(100 * float(row.mean()) for row in gaps), discordance=discordance,
        detectable=detectable(n, discordance or 100 * _unseen(n)),
    )  # fmt: skip


def apart(first: np.ndarray, second: np.ndarray) -> Comparison:
    """Mean of one group of questions less that of another; nothing is paired, so both are resampled on their own.

    A group whose values are all the same shows no spread. Its mean may be as far off as :func:`_unseen` lets it, the
    interval is wider by that, and there is no p-value.

    Args:
        first, second: a value for each question, of shape ``(questions,)``: outcomes, or gaps between two methods.

    Raises:
        KardError: a group is empty.
    """
    if first.ndim != 1 or second.ndim != 1 or not first.size or not second.size:
        raise KardError(f"groups of shapes {first.shape} and {second.shape} cannot be compared")
    rng = np.random.default_rng(0)
    ci95, low_tail, high_tail = _tails(_drawn(first, rng) - _drawn(second, rng))
    down, up = _unseen_reach(first), _unseen_reach(second)[::-1]
    p = None if any((*down, *up)) else _p_value(low_tail, high_tail, 0.0, math.inf)
    ci95 = ci95[0] - down[0] - up[0], ci95[1] + down[1] + up[1]
    gap = 100 * float(first.mean() - second.mean())
    return Comparison(gap=gap, ci95=ci95, p=p, test=TWO_SAMPLES, n=first.size + second.size)


def _unseen_reach(values: np.ndarray) -> tuple[float, float]:
    """By how much the mean of a group without spread may lie below and above it, in percent, values within 1 of 0."""
    if np.ptp(values) >= 1e-12:
        return 0.0, 0.0
    (low, high), _, _ = _constant(values, 1)
    return 100 * float(values[0]) - low, high - 100 * float(values[0])


def _gaps(plus: Sequence[np.ndarray], minus: Sequence[np.ndarray]) -> np.ndarray:
    tables = [*plus, *minus]
    shapes = [table.shape for table in tables]
    seeds = max((shape[0] for shape in shapes if len(shape) == 2), default=0)
    if not plus or any(len(s) != 2 or s[1] != shapes[0][1] or s[0] not in (1, seeds) or not s[1] for s in shapes):
        raise KardError(f"outcomes of shapes {', '.join(map(str, shapes)) or 'none'} cannot be paired")
    signs = [1] * len(plus) + [-1] * len(minus)
    return np.sum([sign * np.broadcast_to(t, (seeds, shapes[0][1])) for sign, t in zip(signs, tables, strict=True)], 0)


def _drawn(mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means in percent of a bootstrap: drawing n questions anew is drawing how often each distinct value occurs."""
    values, counts = np.unique(np.round(mean, 9), return_counts=True)
    drawn = rng.multinomial(mean.size, counts / mean.size, size=RESAMPLES)
    return np.round(100 * (drawn @ values) / mean.size, 7)  # sums that are equal must tie


def _tails(means: np.ndarray) -> tuple[tuple[float, float], Tail, Tail]:
    low, high = np.percentile(means, [100 * LEVEL / 2, 100 - 100 * LEVEL / 2])
    return (
        (float(low), float(high)),
        lambda bound: float(1 + (means <= bound).sum()) / (RESAMPLES + 1),
        lambda bound: float(1 + (means >= bound).sum()) / (RESAMPLES + 1),
    )


def _constant(mean: np.ndarray, reach: int) -> tuple[tuple[float, float], Tail, Tail]:
    """Where the gap of every question is the same, resampling shows no spread; questions not yet seen may differ.

    With n questions alike, a share s of others goes unseen with probability (1 - s)^n; at worst each of them has the
    gap -``reach`` or +``reach``. Against 0 this gives the sign test's p-value.
    """
    n, value, unseen = mean.size, float(mean[0]), _unseen(mean.size)

    def tail(distance: float, room: float) -> float:
        return 1.0 if distance <= 0 else max(0.0, 1 - distance / room) ** n if room > 0 else 0.0

    return (
        (100 * ((1 - unseen) * value - unseen * reach), 100 * ((1 - unseen) * value + unseen * reach)),
        lambda bound: tail(value - bound / 100, value + reach),
        lambda bound: tail(bound / 100 - value, reach - value),
    )


def _unseen(n: int) -> float:
    """Largest share of questions of another kind that n questions may all have missed, at 97.5 %."""
    return 1 - (LEVEL / 2) ** (1 / n)


def _p_value(low_tail: Tail, high_tail: Tail, above: float, below: float) -> float:
    """Two-sided: twice the smaller of what speaks against "outside the bounds" and against "between them"."""
    outside = max(low_tail(above), high_tail(below))
    between = min(high_tail(above), low_tail(below))
    return min(1.0, 2 * min(outside, between))


def mcnemar(wins: int, losses: int) -> float:
    """Exact McNemar test: two-sided p-value of the questions that exactly one of two methods got right."""
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the order given: the smallest of m p-values is multiplied by m, the next by m - 1
    and so on; none may fall below the one before it."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted.tolist()


def with_holm(family: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons of one family with ``p_holm``; those without a p-value are no part of it."""
    adjusted = iter(holm([one.p for one in family if one.p is not None]))
    return [one if one.p is None else replace(one, p_holm=next(adjusted)) for one in family]


def detectable(n: int, discordance: float, power: float = POWER) -> float:
    """Smallest gap, in points, that a paired test of n questions finds with the given power at 5 % (two-sided).

    With d_i the gap of question i, psi = E[d_i^2] (the discordance) and delta = E[d_i], the mean of n gaps has variance
    psi/n under "no difference" and (psi - delta^2)/n otherwise, so that

        delta * sqrt(n) = z_a * sqrt(psi) + z_b * sqrt(psi - delta^2),   z_a = z(0.975), z_b = z(power),

    a quadratic in delta whose root is
    delta = sqrt(psi) * (z_a * sqrt(n) + z_b * sqrt(n + z_b^2 - z_a^2)) / (n + z_b^2).

    Args:
        n: questions.
        discordance: psi in percent.

    Raises:
        KardError: there are no questions, or no discordance.
    """
    z_a, z_b = _quantiles(power)
    if n < 1 or discordance <= 0:
        raise KardError(f"n = {n}, discordance = {discordance}: both must be positive")
    root = math.sqrt(max(0.0, n + z_b**2 - z_a**2))
    return 100 * math.sqrt(discordance / 100) * (z_a * math.sqrt(n) + z_b * root) / (n + z_b**2)


def questions_needed(gap: float, discordance: float, power: float = POWER) -> int:
    """Questions that a paired test needs to find a gap (in points), by the equation of :func:`detectable`.

    Raises:
        KardError: there is no gap, or no methods of this discordance (in percent) can be that far apart.
    """
    z_a, z_b = _quantiles(power)
    delta, psi = abs(gap) / 100, discordance / 100
    if not 0 < delta**2 <= psi:
        raise KardError(f"gap = {gap}: with a discordance of {discordance} % it must be above 0 and can be no larger")
    return math.ceil(((z_a * math.sqrt(psi) + z_b * math.sqrt(psi - delta**2)) / delta) ** 2)


def _quantiles(power: float) -> tuple[float, float]:
    return float(stats.norm.ppf(1 - LEVEL / 2)), float(stats.norm.ppf(power))


def verdict_of(ci95: Sequence[float], above: float = 0.0, below: float = math.inf, p_holm: float | None = None) -> str:
    """``holds`` where the interval lies between the bounds, ``does not hold`` where it misses them, else ``undecided``.

    A corrected p-value above 5 % leaves open what the interval alone would settle.
    """
    if p_holm is not None and p_holm > LEVEL:
        return "undecided"
    if above < ci95[0] and ci95[1] < below:
        return "holds"
    return "does not hold" if ci95[1] < above or ci95[0] > below else "undecided"
