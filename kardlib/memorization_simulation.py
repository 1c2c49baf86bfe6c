"""The toy of :mod:`kardlib.memorization` as it runs: strings are drawn, learned and asked for, errors are counted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .errors import KardError
from .memorization import MOST_SYMBOLS, Toy, check_budget, check_learner, excess_error

_BITS = 30  # so many are compared at a time: the number of a group and these fit into 64 bits


@dataclass(frozen=True)
class World:
    """One draw of a problem.

    Attributes:
        strings: of S, the reference strings first; shape ``(N + R, d)``, 0 or 1.
        fingerprints: as many random bits for each of them, of which a learner uses the first b; same shape.
        seen: whether training has shown a reference string; shape ``(N,)``.
    """

    strings: np.ndarray
    fingerprints: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A mean over independent worlds with its standard error."""

    value: float
    se: float
    worlds: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval, normal approximation."""
        return self.value - 1.96 * self.se, self.value + 1.96 * self.se


def check_memory(toy: Toy) -> None:
    """A KardError names the limit where a world of this size does not fit into memory."""
    if toy.entries * toy.d > MOST_SYMBOLS:
        most = MOST_SYMBOLS // toy.entries
        limit = f"at most d = {most}" if most else f"at most {MOST_SYMBOLS} strings"
        raise KardError(f"d = {toy.d}: {toy.entries} strings of that length are too large for memory; {limit}")
    if toy.n > MOST_SYMBOLS:
        raise KardError(f"n = {toy.n}: too many samples for memory; at most {MOST_SYMBOLS}")


def draw_world(toy: Toy, rng: np.random.Generator) -> World:
    """Strings, fingerprints and n training samples.

    Raises:
        KardError: they do not fit into memory.
    """
    check_memory(toy)
    strings, fingerprints = rng.integers(2, size=(2, toy.entries, toy.d), dtype=np.uint8)
    seen = np.zeros(toy.N, dtype=bool)
    seen[rng.integers(toy.N, size=toy.n)] = True
    return World(strings, fingerprints, seen)


def search(queries: np.ndarray, keys: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """phi's search: for each query an entry with the same bits, uniformly chosen among all that have them.

    Args:
        queries: shape ``(Q, b)``, 0 or 1; each of them is the key of at least one entry.
        keys: shape ``(M, b)``.

    Returns:
        Numbers of entries, shape ``(Q,)``.
    """
    group = _groups(np.vstack([keys, queries]))
    of_entry, of_query = group[: len(keys)], group[len(keys) :]
    order, size = np.argsort(of_entry, kind="stable"), np.bincount(of_entry, minlength=group.max() + 1)
    first = np.cumsum(size) - size
    return order[first[of_query] + rng.integers(size[of_query])]


def _groups(rows: np.ndarray) -> np.ndarray:
    """A number for each row of bits, the same for equal rows."""
    group = np.zeros(len(rows), dtype=np.int64)
    for start in range(0, rows.shape[1], _BITS):
        part = rows[:, start : start + _BITS]
        code = part @ (1 << np.arange(part.shape[1], dtype=np.int64)) + (group << _BITS)
        group = np.unique(code, return_inverse=True)[1].ravel()
    return group


def answers(
    world: World, positions: np.ndarray, coins: np.ndarray, b: int, learner: str, rng: np.random.Generator
) -> np.ndarray:
    """What a learner answers when each reference string is asked for one symbol.

    Args:
        positions: of the symbol that is asked for, shape ``(N,)``.
        coins: guesses for what is not known, shape ``(N,)``.

    Returns:
        Symbols, shape ``(N,)``.
    """
    count = len(positions)
    if learner == "alone":
        own = world.strings[np.arange(count), positions]
        return np.where(world.seen & (positions < b), own, coins)
    if learner == "prefix and question":
        lengths = np.maximum(np.where(world.seen, b, 0), positions)
        return _answers_by_length(world, positions, lengths, rng)
    keys = world.fingerprints if learner == "fingerprint" else world.strings
    hits = search(keys[:count, :b], keys[:, :b], rng)
    return np.where(world.seen, world.strings[hits, positions], coins)


def _answers_by_length(
    world: World, positions: np.ndarray, lengths: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    given = np.empty_like(world.strings[: len(positions), 0])
    for length in np.unique(lengths):
        asked = np.flatnonzero(lengths == length)
        hits = search(world.strings[asked, :length], world.strings[:, :length], rng)
        given[asked] = world.strings[hits, positions[asked]]
    return given


def simulate(toy: Toy, b: int, learner: str = "fingerprint", worlds: int = 200, seed: int = 0) -> Estimate:
    """Excess error by simulation: in every world each string is asked for one random symbol, and the best learner
    without S answers the same questions with the same coins.

    Raises:
        KardError: budget or learner are wrong, fewer than two worlds, or the strings do not fit into memory.
    """
    check_learner(learner)
    check_budget(toy, b)
    if worlds < 2:
        raise KardError(f"worlds = {worlds}: two at least, or there is no standard error")
    rng = np.random.default_rng(seed)
    values = np.array([_excess_in(draw_world(toy, rng), toy, b, learner, rng) for _ in range(worlds)])
    return Estimate(float(values.mean()), float(values.std(ddof=1) / math.sqrt(worlds)), worlds)


def _excess_in(world: World, toy: Toy, b: int, learner: str, rng: np.random.Generator) -> float:
    positions, coins = rng.integers(toy.d, size=toy.N), rng.integers(2, size=toy.N, dtype=np.uint8)
    truth = world.strings[np.arange(toy.N), positions]
    given = answers(world, positions, coins, b, learner, rng)
    best = np.where(world.seen, truth, coins)
    return float((given != truth).mean() - (best != truth).mean())


def standard_errors(toy: Toy, b: int, learner: str, estimate: Estimate) -> float:
    """How many standard errors lie between a simulation and its closed form.

    A rare error may not have happened at all in a simulation, whose own standard error is then 0. So at least the
    standard error counts that as many independent questions would have.
    """
    expected = float(excess_error(toy, b, learner))
    spread = abs(expected) * (1 - abs(expected)) / (toy.N * estimate.worlds)
    gap = abs(estimate.value - expected)
    return gap / max(estimate.se, math.sqrt(spread)) if gap > 1e-12 else 0.0


def random_toys(count: int, seed: int, most: int = 96) -> list[tuple[Toy, int]]:
    """Random (N, R, d, n), each with a random budget b, to compare closed forms with simulations."""
    rng = np.random.default_rng(seed)
    high = np.array([most, 3 * most, most, 2 * most])
    sizes = rng.integers((1, 0, 1, 1), high + 1, size=(count, 4)).tolist()
    return [(toy, int(rng.integers(min(toy.d, 16) + 1))) for toy in (Toy(N, R, d, n) for N, R, d, n in sizes)]
