"""The temperatures of the authors' released code: annealed while the reranker is trained.

Theirs are 1 and 100, on scores of another scale than ours. What is rebuilt is the course that they take, as a factor on
the temperatures of the settings.
"""

from __future__ import annotations

import math

CROSSING = math.atanh(0.25) / 5
"""Share of the training after which both annealed temperatures are below zero: 5.1 %, where the warm-up of the learning
rate has just ended."""


def annealing(progress: float) -> float:
    """What both temperatures are multiplied by: 1 - 4a, with a = tanh(5 progress) rising from 0 to 1.

    At tau1 = 1 and tau2 = 100 this is tau = 1 - 4a and tau2 = 100 - 400a. It falls below zero at ``CROSSING`` (a linear
    a would cross at a quarter of the training) and ends near -3. It is never exactly zero: ``CROSSING`` is irrational.
    Both softmaxes are turned over together, so that KL(Q || P) still has its minimum where f = rho tau2 / tau1, and the
    ranking that is learned is not turned over; but from then on the worst candidates weigh most and the best least.

    Args:
        progress: share of the steps that are done, 0 to 1.
    """
    return 1 - 4 * math.tanh(5 * progress)
