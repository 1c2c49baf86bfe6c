"""Temperatures of Eq. 3 that fit the spread of the scores: what Q and P look like at a tau, and what to do about it.

Q = softmax(rho / tau1) is what the reranker learns from. Too small a tau1 and one passage has all of it (one-hot): the
order of the others is not learned. Smaller still, and float32 rounds the others to zero: they drop out of the sum. Too
large, and all passages are alike. The same holds for P = softmax(f / tau2) and the reranker's own scores f.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .candidates import Candidates, check_temperature
from .errors import KardError

ONE_HOT = 0.05
"""Entropy in nats below which a distribution counts as one-hot: its first passage has 99 % or so. Our choice."""
COUNTED = 3.0
"""Passages that should count at a temperature that is suggested: as many as the student reads. Our choice."""


@dataclass(frozen=True)
class Sharpness:
    """What softmax(scores / tau) looks like; medians over pools.

    Attributes:
        spread: largest less smallest score.
        entropy: in nats.
        counted: e to the entropy, as many passages as would have that entropy if they shared all evenly.
        candidates: passages of a pool.
        lost: share of all candidates whose probability is exactly 0 in float32.
    """

    tau: float
    spread: float
    entropy: float
    counted: float
    candidates: float
    lost: float


def softmax(scores: Sequence[float], tau: float) -> np.ndarray:
    """exp(s / tau) over its sum, in float64, for one pool."""
    scaled = np.asarray(scores, dtype=np.float64) / tau
    weights = np.exp(scaled - scaled.max())
    return weights / weights.sum()


def sharpness(pools: Sequence[Candidates], tau: float) -> Sharpness:
    """How sharp Q (or P, with the reranker's own scores) is at a temperature.

    Raises:
        KardError: tau is not above 0, or no pool has two candidates.
    """
    if not tau > 0:
        raise KardError(f"tau = {tau:g}: temperatures must be above 0")
    scored = [np.asarray(pool.scores) for pool in pools if len(pool.scores) > 1]
    if not scored:
        raise KardError("no pool has two candidates: a temperature has nothing to act on")
    entropies = [_entropy(softmax(scores, tau)) for scores in scored]
    gaps = np.concatenate([(scores.max() - scores) / tau for scores in scored]).astype(np.float32)
    return Sharpness(
        tau=tau,
        spread=float(np.median([np.ptp(scores) for scores in scored])),
        entropy=float(np.median(entropies)),
        counted=float(np.exp(np.median(entropies))),
        candidates=float(np.median([len(scores) for scores in scored])),
        lost=float(np.mean(np.exp(-gaps) == 0)),
    )


def _entropy(shares: np.ndarray) -> float:
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum())


def tau_for(pools: Sequence[Candidates], counted: float = COUNTED) -> float:
    """The temperature at which so many passages count in the median pool, to within 1 %.

    Entropy grows with the temperature, so it is found by halving an interval.

    Raises:
        KardError: the scores do not differ, or no temperature makes so many count, or so few.
    """
    low, high = 1e-6, 1e6
    scale = sharpness(pools, 1.0).spread
    if scale == 0:
        raise KardError("the scores of a pool do not differ: no temperature tells its passages apart")
    if not sharpness(pools, low * scale).counted < counted < sharpness(pools, high * scale).counted:
        raise KardError(f"no temperature makes {counted:g} passages of a pool count")
    while high / low > 1.01:
        middle = np.sqrt(low * high)
        low, high = (middle, high) if sharpness(pools, middle * scale).counted < counted else (low, middle)
    return float(np.sqrt(low * high) * scale)


def matched_tau2(pools: Sequence[Candidates], ranked: Sequence[Candidates], tau1: float) -> float:
    """The tau2 at which the reranker's scores spread as far in P as BM25's do in Q.

    KL(Q || P) has its minimum where f / tau2 is rho / tau1 up to a constant. MaxSim cannot exceed the number of query
    tokens, so f may have no way to spread as far as rho / tau1 does unless tau2 is small enough.

    Args:
        ranked: candidates with the reranker's own scores, of these questions or of others.
    """
    return tau1 * sharpness(ranked, 1.0).spread / sharpness(pools, 1.0).spread


def temperature_warnings(
    pools: Sequence[Candidates], tau1: float, ranked: Sequence[Candidates] = (), tau2: float | None = None
) -> list[str]:
    """What is wrong with the temperatures, one line each, with what to do; empty where they fit.

    Args:
        pools: the unions of Eq. 3, scored by rho(d | r).
        ranked: candidates with the scores of the reranker to be trained; P is looked at where ``tau2`` is given.
    """
    told = [_warning(pools, tau1)]
    if ranked and tau2 is not None:
        told.append((_warning(ranked, tau2) or "").replace("tau1", "tau2").replace("Q", "P"))
    return [text for text in told if text]


def _warning(pools: Sequence[Candidates], tau: float) -> str | None:
    now, told = sharpness(pools, tau), check_temperature(pools, tau)
    one_hot = now.entropy < ONE_HOT
    if told is None and not one_hot:
        return None
    try:
        better = sharpness(pools, tau_for(pools))
    except KardError as error:
        return f"{told or f'tau1 = {tau:g}: Q is one-hot'}; {error}"
    if not one_hot:
        return f"{told}; at {better.tau:.2g}, {better.counted:.1f} of {now.candidates:.0f} passages count"
    lost = f", and {now.lost:.0%} of the candidates drop out of Eq. 3, being 0 in float32" if now.lost else ""
    return (
        f"tau1 = {tau:g}: Q is one-hot (entropy {now.entropy:.2g} nats, scores spread over {now.spread:.3g}): only the "
        f"first passage of each pool is learned{lost}; raise tau1 to about {better.tau:.2g}, where "
        f"{better.counted:.1f} passages count"
    )
