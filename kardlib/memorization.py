"""How many bits a learner must store: Theorems 1 and 2 as a toy whose errors have closed forms.

N reference strings of d random symbols (0 or 1), one for each subpopulation; n training samples, each of which shows
one whole string, drawn with replacement; a question asks for one symbol of one string, both drawn uniformly. The
knowledge base S holds the N strings and R others. A learner stores b bits of every string that it has seen. (The
address, which string the bits belong to, is free for all learners.) Excess error is counted from the best learner
without S: it stores what it has seen whole and guesses the rest. :mod:`kardlib.memorization_simulation` does what is
computed here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from scipy.special import entr

from .errors import KardError
from .presets import nearest

MOST_SYMBOLS = 2**25
"""Symbols that a simulation holds at most, one byte each."""
LEARNERS: dict[str, str] = {
    "alone": "first b symbols stored, no S",
    "fingerprint": "b-bit fingerprint stored, searches S with it",
    "prefix": "first b symbols stored, searches S with them",
    "prefix and question": "the same, and the question's own prefix is searched with too, at no cost",
}
"""What a learner stores of a string and what it does with S. ``prefix`` is the pair of Theorem 2's proof."""


@dataclass(frozen=True)
class Toy:
    """The size of a problem.

    Attributes:
        N: reference strings.
        R: distractors in S.
        d: symbols of a string.
        n: training samples; 0 means as many as strings, as in Theorem 1.

    Raises:
        KardError: a size is no whole number or out of range.
    """

    N: int
    R: int
    d: int
    n: int = 0

    def __post_init__(self) -> None:
        for name, least in (("N", 1), ("R", 0), ("d", 1), ("n", 0)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
                raise KardError(f"{name} = {value!r}: a whole number of at least {least} was expected")
        if self.d > MOST_SYMBOLS:
            raise KardError(f"d = {self.d}: too large for memory; at most {MOST_SYMBOLS}")
        if self.n == 0:
            object.__setattr__(self, "n", self.N)

    @property
    def entries(self) -> int:
        """N + R, the strings in S."""
        return self.N + self.R

    @property
    def seen(self) -> float:
        """P_seen = 1 - ((N - 1)/N)^n: chance that training has shown a given string."""
        return 1.0 if self.N == 1 else -math.expm1(self.n * math.log1p(-1 / self.N))

    @property
    def optimal_error(self) -> float:
        """Error of the best learner without S: a coin for every string that it has not seen."""
        return (1 - self.seen) / 2


def wrong_hit(entries: int, b: float | np.ndarray) -> np.ndarray:
    """Chance that a search with b bits returns another of the entries than the one meant.

    Each other entry has the same b bits with chance p = 2^-b, and ties are broken uniformly, so the right one is
    returned with chance E[1/(1 + K)] = (1 - (1 - p)^M) / (M p), K ~ Binomial(M - 1, p), M = entries.
    """
    p = np.exp2(-np.asarray(b, dtype=float))
    with np.errstate(divide="ignore"):  # b = 0: log(0)
        exact = 1 + np.expm1(entries * np.log1p(-p)) / (entries * p)
    # nothing but rounding errors is left of the difference where there are hardly any ties
    few = (entries - 1) * p / 2 - (entries - 1) * (entries - 2) * p**2 / 6
    return np.where(entries * p < 1e-5, few, exact)


def excess_error(toy: Toy, b: int | np.ndarray, learner: str = "fingerprint") -> np.ndarray:
    """Expected excess error of a learner that stores b bits a string, a share of the questions (METHOD's closed forms).

    Args:
        b: budget, or an array of budgets, from 0 to d.
        learner: one of ``LEARNERS``.

    Returns:
        Of the shape of ``b``; negative where the question's own prefix finds strings that training never showed.
    """
    check_learner(learner)
    budget = check_budget(toy, b)
    rest = 1 - budget / toy.d  # chance that the symbol asked for is not among the first b
    if learner == "alone":
        return toy.seen * rest / 2
    if learner == "fingerprint":
        return toy.seen * wrong_hit(toy.entries, budget) / 2
    if learner == "prefix":  # a wrong hit shares the first b symbols, so they are right all the same
        return toy.seen * rest * wrong_hit(toy.entries, budget) / 2
    lost = wrong_hit(toy.entries, np.arange(toy.d)) / 2 / toy.d
    after = np.append(np.cumsum(lost[::-1])[::-1], 0.0)  # after[b]: the sum over the positions from b on
    return toy.seen * after[budget.astype(int)] + (1 - toy.seen) * after[0] - toy.optimal_error


def binary_entropy(p: float | np.ndarray) -> np.ndarray:
    """h(p) in bits."""
    return np.asarray(entr(p) + entr(1 - np.asarray(p))) / math.log(2)


def least_excess_alone(toy: Toy, b: int | np.ndarray) -> np.ndarray:
    """No learner without S and with b bits a string has less excess error than this, however it uses them.

    Whoever tells d fair coins from b bits errs in a share D of them with h(D) >= 1 - b/d (rate-distortion; by the chain
    rule also where the question shows the symbols before the one that is asked for). Storing the first b symbols is
    simpler, and worse.
    """
    wanted = 1 - check_budget(toy, b) / toy.d
    low, high = np.zeros_like(wanted), np.full_like(wanted, 0.5)
    for _ in range(50):  # h rises from 0 at 0 to 1 at 1/2
        middle = (low + high) / 2
        above = binary_entropy(middle) > wanted
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return toy.seen * low


def sufficient_bits(toy: Toy, epsilon: float) -> float:
    """Theorem 2's m, at least 0: with m bits a string and S, excess error epsilon can be had.

    m = log2(P_seen (M^2 - M) / (2 epsilon)), M = N + R: a union bound over all pairs of entries. It is sufficient, not
    necessary, and where it exceeds d one may as well store the string.

    Raises:
        KardError: epsilon is not above 0.
    """
    if not epsilon > 0:
        raise KardError(f"epsilon = {epsilon!r}: a number above 0 was expected")
    pairs = toy.seen * toy.entries * (toy.entries - 1) / (2 * epsilon)
    return max(0.0, math.log2(pairs)) if pairs else 0.0


def bound(toy: Toy, b: int | np.ndarray) -> np.ndarray:
    """Theorem 2 read the other way: the epsilon that it promises for b stored bits, at most 1."""
    budget = check_budget(toy, b)
    return np.minimum(1.0, toy.seen * toy.entries * (toy.entries - 1) / 2 * np.exp2(-budget))


def bits_needed(toy: Toy, excess: float, learner: str = "fingerprint") -> int:
    """The smallest budget with at most this excess error; d where none below is enough (a string stored whole is).

    Raises:
        KardError: the excess is below 0, or there is no such learner.
    """
    check_learner(learner)
    if not excess >= 0:
        raise KardError(f"excess = {excess!r}: a share of at least 0 was expected")
    low, high = 0, toy.d  # excess error falls with b
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if excess_error(toy, middle, learner) <= excess else (middle + 1, high)
    return low


def check_budget(toy: Toy, b: int | np.ndarray) -> np.ndarray:
    """The budget as an array of floats; a KardError names one that is no whole number from 0 to d."""
    budget = np.asarray(b)
    if budget.dtype.kind not in "iu":
        raise KardError(f"b = {b!r}: whole bits were expected")
    if budget.size and not 0 <= budget.min() <= budget.max() <= toy.d:
        at_fault = budget.max() if budget.max() > toy.d else budget.min()
        raise KardError(f"b = {at_fault}: a string has d = {toy.d} bits; from 0 to {toy.d} can be stored")
    return budget.astype(float)


def check_learner(learner: str) -> None:
    """A KardError names the nearest learner where there is none of that name."""
    if learner not in LEARNERS:
        raise KardError(f"learner {learner!r}: there is none of that name{nearest(learner, LEARNERS)}")
