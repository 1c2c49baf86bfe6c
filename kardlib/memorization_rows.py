"""Rows of the record for the toy and for the small networks, table ``theory``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .memorization import LEARNERS, Toy
from .memorization_simulation import simulate
from .memorizing_networks import Trained
from .runs import ResultRow

TABLE = "theory"


def toy_rows(dataset: str, toy: Toy, b: int, worlds: int) -> list[ResultRow]:
    """Simulated excess error of each learner, in percent; ``n`` is the number of questions in all worlds.

    Args:
        dataset: that the record is filed under.
        worlds: of each simulation.
    """
    settings = {"N": toy.N, "R": toy.R, "d": toy.d, "samples": toy.n, "b": b}
    rows = []
    for learner in LEARNERS:
        found = simulate(toy, b, learner, worlds)
        low, high = found.interval
        value = {"value": 100 * found.value, "ci95": (100 * low, 100 * high), "n": toy.N * worlds}
        rows.append(_row(dataset, f"toy, {learner}", "excess error", settings, **value))
    return rows


def network_rows(dataset: str, networks: Sequence[Trained]) -> list[ResultRow]:
    """Accuracy of the networks of each size in percent: mean over seeds, which also make the interval; ``n`` counts the
    symbols of one seed."""
    groups: dict[tuple[int, bool, int], list[Trained]] = {}
    for one in networks:
        groups.setdefault((one.task.N, one.task.found, one.parameters), []).append(one)
    rows = []
    for (count, found, parameters), group in groups.items():
        seeds = [100 * one.accuracy for one in group]
        value = {"value": float(np.mean(seeds)), "seeds": seeds, "ci95": (min(seeds), max(seeds))}
        value["sd"] = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None
        settings = {"N": count, "d": group[0].task.d, "parameters": parameters}
        name = f"network, {'with' if found else 'without'} S"
        rows.append(_row(dataset, name, "accuracy", settings, n=count * group[0].task.d, **value))
    return rows


def _row(dataset: str, method: str, metric: str, settings: dict[str, object], **value: object) -> ResultRow:
    about = {"table": TABLE, "dataset": dataset, "split": "toy", "method": method, "metric": metric}
    return ResultRow(**about, settings=settings, **value)
