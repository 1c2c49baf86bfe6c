"""Small networks that learn random strings by heart, or learn to read them where a search has found them.

Each network gets the key of a string, the symbols before the one that is asked for, and the position; it says whether
the next symbol is 1. The key is a fixed random code, so that whatever a network knows of the strings is in its weights.
With S, the whole string that a search returned is a further input. All networks of one width are trained as one batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .errors import KardError
from .memorization import binary_entropy
from .memorization_simulation import search

MOST_FLOATS = 2**27
"""Numbers that the inputs of one batch of networks may have."""
MOST_KEY = 20
LEARNING_RATE = 1e-2  # falls to 0 along a line


@dataclass(frozen=True)
class Task:
    """What one network has to learn.

    Attributes:
        N: strings.
        d: symbols of a string; the network learns all N d of them.
        found: whether it also gets the string that the search returned.
        seed: of the strings, of the keys, of the first weights and of the batches.
        R: distractors in S, which the search may return instead.
        b: bits that the search goes by. They are stored beside the network, N b of them, not in its weights.
        key_size: length of a key.
    """

    N: int
    d: int
    found: bool
    seed: int
    R: int = 0
    b: int = 0
    key_size: int = 16

    def __post_init__(self) -> None:
        for name, least in (("N", 1), ("d", 1), ("R", 0), ("b", 0), ("key_size", 1)):
            if getattr(self, name) < least:
                raise KardError(f"{name} = {getattr(self, name)}: {least} at least")
        if self.b > 62:
            raise KardError(f"b = {self.b}: the networks' search goes by 62 bits at most")
        most = 2 ** (min(self.key_size, MOST_KEY) - 1)  # as many keys are left for fresh strings
        if self.N > most or self.key_size > MOST_KEY:
            raise KardError(f"N = {self.N}, key_size = {self.key_size}: at most {most} strings, {MOST_KEY} signs a key")

    def parameters(self, width: int) -> int:
        """Weights that can matter: those of inputs that are always 0 are not counted."""
        inputs = self.key_size + 2 * self.d + self.d * self.found
        return (inputs + 1) * width + width + 1


@dataclass(frozen=True)
class Trained:
    """A trained network and what it can do.

    Attributes:
        accuracy: share of the N d symbols that it was trained on and has right.
        fresh: the same for as many strings that it was never trained on, under keys of their own.
    """

    task: Task
    width: int
    parameters: int
    accuracy: float
    fresh: float


def examples(task: Task, fresh: bool = False) -> tuple[Tensor, Tensor]:
    """All questions about the strings of a task: one for each symbol of each of them.

    Args:
        fresh: about other strings instead, which training has no part in.

    Returns:
        Inputs, shape ``(N d, key_size + 3 d)``, made of -1, 0 and 1: key, symbols so far, position, found string (0
        without S). And the next symbols, shape ``(N d,)``, 0 or 1.
    """
    rng = np.random.default_rng((task.seed, task.N, task.d, fresh))
    strings = rng.integers(2, size=(task.N + task.R, task.d))
    keys = _keys(task)[task.N * fresh :][: task.N]
    addresses = rng.integers(2, size=(task.N + task.R, task.b))
    hits = search(addresses[: task.N], addresses, rng)
    own, place = strings[: task.N], np.arange(task.d)
    shape = (task.N, task.d, -1)
    parts = [
        np.broadcast_to(2 * keys[:, None] - 1, (task.N, task.d, task.key_size)),
        (2 * own - 1)[:, None] * (place < place[:, None]),
        np.broadcast_to(np.eye(task.d), (task.N, task.d, task.d)),
        np.broadcast_to((2 * strings[hits] - 1)[:, None] * task.found, (task.N, task.d, task.d)),
    ]
    inputs = np.concatenate([part.reshape(shape) for part in parts], axis=2).reshape(task.N * task.d, -1)
    return torch.tensor(inputs, dtype=torch.float32), torch.tensor(own.reshape(-1), dtype=torch.float32)


def _keys(task: Task) -> np.ndarray:
    """Different random keys for N strings and for N fresh ones, shape ``(2 N, key_size)``, 0 or 1."""
    numbers = np.random.default_rng(task.seed).choice(2**task.key_size, size=2 * task.N, replace=False)
    return numbers[:, None] >> np.arange(task.key_size) & 1


class Networks(torch.nn.Module):
    """One hidden layer of rectified units, as many networks as there are seeds, computed together.

    Args:
        inputs: size of an input.
        width: hidden units of each.
        seeds: one for each network; its first weights depend on nothing else.
    """

    def __init__(self, inputs: int, width: int, seeds: Sequence[int]) -> None:
        super().__init__()
        makers = [torch.Generator().manual_seed(seed) for seed in seeds]
        first = torch.stack([torch.randn(inputs, width, generator=maker) for maker in makers])
        second = torch.stack([torch.randn(width, 1, generator=maker) for maker in makers])
        self.first = torch.nn.Parameter(first / math.sqrt(inputs))
        self.first_bias = torch.nn.Parameter(torch.zeros(len(seeds), 1, width))
        self.second = torch.nn.Parameter(second / math.sqrt(width))
        self.second_bias = torch.nn.Parameter(torch.zeros(len(seeds), 1, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Log-odds of a 1, shape ``(networks, questions)``, for inputs of shape ``(networks, questions, size)``."""
        hidden = torch.relu(torch.baddbmm(self.first_bias, inputs, self.first))
        return torch.baddbmm(self.second_bias, hidden, self.second).squeeze(-1)


def train_networks(tasks: Sequence[Task], width: int, steps: int = 1500, batch: int = 256) -> list[Trained]:
    """Train one network for each task, all of one width and all at once (Adam, cross-entropy).

    Args:
        tasks: of one d and one key size.
        batch: questions a step and network, drawn with replacement.

    Raises:
        KardError: the tasks do not go together, a number is below 1, or the inputs do not fit into memory.
    """
    _check(tasks, width, steps, batch)
    asked = [examples(task) for task in tasks]
    networks = Networks(asked[0][0].shape[1], width, [task.seed for task in tasks])
    optimizer = torch.optim.Adam(networks.parameters(), lr=LEARNING_RATE)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    draws = [torch.Generator().manual_seed(task.seed) for task in tasks]
    for _ in range(steps):
        drawn = [torch.randint(len(y), (batch,), generator=g) for (_, y), g in zip(asked, draws, strict=True)]
        inputs = torch.stack([x[i] for (x, _), i in zip(asked, drawn, strict=True)])
        symbols = torch.stack([y[i] for (_, y), i in zip(asked, drawn, strict=True)])
        loss = functional.binary_cross_entropy_with_logits(networks(inputs), symbols, reduction="none")
        optimizer.zero_grad()
        loss.mean(1).sum().backward()  # a sum over networks: none of them feels the others
        optimizer.step()
        falling.step()
    scores = zip(_accuracies(networks, tasks, fresh=False), _accuracies(networks, tasks, fresh=True), strict=True)
    return [Trained(t, width, t.parameters(width), *score) for t, score in zip(tasks, scores, strict=True)]


def _check(tasks: Sequence[Task], width: int, steps: int, batch: int) -> None:
    for name, value in (("tasks", len(tasks)), ("width", width), ("steps", steps), ("batch", batch)):
        if value < 1:
            raise KardError(f"{name} = {value}: 1 at least")
    if len({(task.d, task.key_size) for task in tasks}) > 1:
        raise KardError("tasks of different d or key size cannot be one batch")
    floats = sum(task.N * task.d * (task.key_size + 3 * task.d) for task in tasks)
    if floats > MOST_FLOATS:
        raise KardError(f"{len(tasks)} networks: {floats} numbers are too many for memory; at most {MOST_FLOATS}")


@torch.no_grad()
def _accuracies(networks: Networks, tasks: Sequence[Task], fresh: bool) -> list[float]:
    most = max(task.N * task.d for task in tasks)
    asked = [examples(task, fresh) for task in tasks]
    padded = torch.stack([functional.pad(x, (0, 0, 0, most - len(x))) for x, _ in asked])
    said = networks(padded) > 0
    return [float((row[: len(y)] == (y > 0.5)).double().mean()) for row, (_, y) in zip(said, asked, strict=True)]


def stored_bits(accuracy: float, symbols: int) -> float:
    """Bits that a network must have stored at least to get this share of so many random symbols right.

    ``symbols (1 - h(error))`` with the binary entropy h: the rate-distortion function of fair coins, after Fano. For
    networks without S only; what another one reads it need not have stored.
    """
    return symbols * (1 - float(binary_entropy(1 - min(1.0, max(accuracy, 0.5)))))


def parameters_needed(networks: Sequence[Trained], accuracy: float) -> float:
    """Parameters at which the mean accuracy over seeds reaches a level first, linear in their logarithm in between.

    Args:
        networks: of one N, d and ``found``, of several widths.

    Returns:
        The size of the smallest network where that is enough; NaN where no network is.
    """
    sizes = sorted({one.parameters for one in networks})
    means = [float(np.mean([one.accuracy for one in networks if one.parameters == size])) for size in sizes]
    reached = next((i for i, mean in enumerate(means) if mean >= accuracy), None)
    if reached is None or reached == 0:
        return math.nan if reached is None else float(sizes[0])
    below, above = means[reached - 1], means[reached]
    share = (accuracy - below) / (above - below)
    return float(math.exp(math.log(sizes[reached - 1]) * (1 - share) + math.log(sizes[reached]) * share))
