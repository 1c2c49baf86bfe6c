"""How a reranker computes on this machine: float32, bfloat16 or int8; what is faster, and what it does to the ranking.

Nothing is assumed: speed and ranking are measured on candidates of one's own, and :func:`advice` says which to use.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import nn

from .candidates import Candidates
from .errors import KardError
from .reranker import CrossEncoding, LateInteraction, reranker_of

Precision = Literal["float32", "bfloat16", "int8"]
FASTER, OVERLAP = 1.2, 0.95
"""Our choice: another precision is advised from so much more speed on, and from so large an overlap of the top 3 on."""


@dataclass(frozen=True)
class Agreement:
    """How alike two rankings of the same candidates are, as means over questions.

    Attributes:
        top3, top10: share of the first 3 and 10 passages that both have.
        tau: Kendall's tau-b of all places; 1 where they are in the same order.
    """

    top3: float
    top10: float
    tau: float


@dataclass(frozen=True)
class Measured:
    """One precision on one set of candidates.

    Attributes:
        seconds: for ranking all of them once, the best of the repeats.
        speed: seconds of float32 over these seconds.
        agreement: with the ranking in float32.
    """

    precision: Precision
    seconds: float
    speed: float
    agreement: Agreement


def agreement(one: Sequence[Candidates], other: Sequence[Candidates]) -> Agreement:
    """Compare two rankings, question by question; both hold the same candidates.

    Raises:
        KardError: they do not.
    """
    rows = []
    for first, second in zip(one, other, strict=True):
        if set(first.passages) != set(second.passages):
            raise KardError(f"rankings of {first.key} and {second.key}: they hold different passages")
        tops = [_shared(first.passages[:k], second.passages[:k]) for k in (3, 10)]
        places = {passage: place for place, passage in enumerate(second.passages)}
        order = [places[passage] for passage in first.passages]
        rows.append([*tops, kendalltau(range(len(order)), order).statistic if len(order) > 1 else 1.0])
    if not rows:
        raise KardError("nothing to compare: there are no rankings")
    return Agreement(*np.mean(rows, axis=0).tolist())


def _shared(one: Sequence[str], other: Sequence[str]) -> float:
    return len({*one} & {*other}) / len(one) if one else 1.0


def in_precision(reranker: LateInteraction | CrossEncoding, precision: Precision) -> LateInteraction | CrossEncoding:
    """A copy of a reranker that computes in another precision; scores are float32 all the same.

    int8 is PyTorch's dynamic quantisation of the linear layers, on the CPU: weights are rounded once, activations as
    they come.

    Raises:
        KardError: this PyTorch, or this machine, cannot.
    """
    model = copy.deepcopy(reranker.model).eval()
    if precision == "bfloat16":
        model = model.to(torch.bfloat16)
    elif precision == "int8":
        model = _quantized(model)
    return reranker_of(model)


def _quantized(model: Any) -> Any:
    if model.device.type != "cpu":
        raise KardError(f"int8: the dynamic quantisation runs on the CPU only, the model is on {model.device}")
    try:
        from torch.ao.quantization import quantize_dynamic

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it tells of its successor at every call
            return quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8, inplace=True)
    except (ImportError, RuntimeError) as error:
        raise KardError(f"int8: this PyTorch cannot quantise here ({str(error).splitlines()[0][:120]})") from None


def measure(
    reranker: LateInteraction | CrossEncoding,
    queries: Sequence[str],
    candidates: Sequence[Candidates],
    texts: Mapping[str, str],
    precisions: Sequence[Precision] = ("bfloat16", "int8"),
    repeats: int = 3,
) -> list[Measured]:
    """Time each precision on one's own candidates and compare its ranking with that of float32, which comes first.

    A precision that this machine cannot compute in is left out. Some twenty questions are enough.
    """
    usual, slowest = _timed(reranker, queries, candidates, texts, repeats)
    rows = [Measured("float32", slowest, 1.0, agreement(usual, usual))]
    for precision in precisions:
        try:
            ranked, seconds = _timed(in_precision(reranker, precision), queries, candidates, texts, repeats)
        except KardError:
            continue
        rows.append(Measured(precision, seconds, slowest / seconds, agreement(usual, ranked)))
    return rows


def _timed(
    reranker: LateInteraction | CrossEncoding,
    queries: Sequence[str],
    candidates: Sequence[Candidates],
    texts: Mapping[str, str],
    repeats: int,
) -> tuple[list[Candidates], float]:
    reranker.rank(queries[:1], candidates[:1], texts)  # what a first call sets up is not timed
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        ranked = reranker.rank(queries, candidates, texts)
        seconds.append(time.perf_counter() - start)
    return ranked, min(seconds)


def best(measured: Sequence[Measured]) -> Measured:
    """The fastest of those that are worth it: float32, or ``FASTER`` times as fast with ``OVERLAP`` of its top 3."""
    worth = [m for m in measured if m.speed >= FASTER and m.agreement.top3 >= OVERLAP]
    return max(worth, key=lambda m: m.speed) if worth else measured[0]


def advice(measured: Sequence[Measured]) -> str:
    """One line: which precision to use here, and why."""
    chosen = best(measured)
    others = [m for m in measured[1:] if m is not chosen]
    told = "; ".join(f"{m.precision}: {_told(m)}" for m in others)
    if chosen.precision == "float32":
        return f"use float32 here ({told or 'nothing else could be measured'})"
    return f"use {chosen.precision} here: {_told(chosen)}" + (f" ({told})" if told else "")


def _told(m: Measured) -> str:
    a = m.agreement
    return f"{m.speed:.1f} x as fast, {a.top3:.0%} of the top 3 and {a.top10:.0%} of the top 10 kept, tau {a.tau:.2f}"
