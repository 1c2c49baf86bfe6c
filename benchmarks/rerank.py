"""Reranking and training a reranker, against the authors' way: all texts padded to 512 tokens, one question at a time,
nothing kept. The same encoder, the same precision (float32), the same rankings: these are checked.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.data_collator import MultiVectorEncoderDataCollator

from kardlib.candidates import Candidates
from kardlib.errors import KardError
from kardlib.passage_encoding import BATCH
from kardlib.passage_vectors import CachedLateInteraction
from kardlib.quick_training import QuickTraining
from kardlib.reranker import LateInteraction, best_first, load_late_interaction
from kardlib.reranker_losses import LateInteractionLoss
from kardlib.reranker_padding import SortedLateInteractionLoss

from .passages import parity, texts
from .rows import Row, row, seconds

ENCODER = "all-MiniLM-L6-v2"
QUESTIONS, WIDTH, WORDS = 12, 100, 100
PADDED = 512
STEPS, BATCH_QUESTIONS, POOL = 2, 2, 8
"""Training steps that are timed, questions of a step, and passages of a question."""


def rows() -> list[Row]:
    """The benchmark's rows; about five minutes on two cores; the padded training takes some GB of memory."""
    queries, groups, passages = candidates()
    return [*reranking(queries, groups, passages), *training(queries, groups, passages)]


def candidates() -> tuple[list[str], list[Candidates], dict[str, str]]:
    """Rationale queries, 100 passages of 100 words for each (Lucene's best, then those of other queries), and texts."""
    every, found, queries = texts(), parity()["top100"], parity()["queries"]
    long = [[i for i in group if len(every[i].partition(". ")[2].split()) >= WORDS] for group in found]
    mine = {i for group in long[:QUESTIONS] for i in group}
    # no filler is shared: what two questions have in common is what Lucene found for both
    filler = iter(dict.fromkeys(i for group in long[QUESTIONS:] for i in group if i not in mine))
    groups = []
    for number, own in enumerate(long[:QUESTIONS]):
        chosen = [str(i) for i in (*own, *islice(filler, WIDTH - len(own)))]
        groups.append(Candidates(key=str(number), passages=tuple(chosen), scores=(0.0,) * WIDTH))
    return queries[:QUESTIONS], groups, {i: every[int(i)] for group in groups for i in group.passages}


def reranking(queries: list[str], groups: list[Candidates], passages: dict[str, str]) -> list[Row]:
    """Rows of reranking without and with cached passage vectors, in seconds a question."""
    reranker = LateInteraction(ENCODER)
    padded_at_a_time(reranker, queries[:1], groups[:1], passages)  # what a first call sets up is not timed
    theirs, padded = timed(lambda: padded_at_a_time(reranker, queries, groups, passages))
    with tempfile.TemporaryDirectory() as folder:
        cached = CachedLateInteraction(reranker, Path(folder), tell=lambda text: None)
        cold, ranked = timed(lambda: cached.rank(queries, groups, passages))
        warm = seconds(lambda: cached.rank(queries, groups, passages), rounds=3)
        check_same(padded, ranked)
        check_same(padded, cached.rank(queries, groups, passages))
    what = f"reranking {WIDTH} passages of {WORDS} words"
    against = f"one question at a time, padded to {PADDED}, no cache"
    count = len(queries)
    return [
        row(f"{what}, cold", against, cold / count, theirs / count, "s/question"),
        row(f"{what}, vectors cached", against, warm / count, theirs / count, "s/question"),
    ]


def padded_at_a_time(
    reranker: LateInteraction, queries: list[str], groups: list[Candidates], passages: dict[str, str]
) -> list[Candidates]:
    """The authors' way. Batches are as small as ours, which on a CPU is faster than one of a hundred."""
    ranked = []
    options = {"batch_size": BATCH, "show_progress_bar": False}
    with padding_to(reranker.model, PADDED):
        for query, group in zip(queries, groups, strict=True):
            vectors = reranker.model.encode([passages[i] for i in group.passages], task="document", **options)
            asked = reranker.model.encode([query], task="query", **options)[0]
            ranked.append(best_first(group, reranker.maxsim(asked, vectors)))
    return ranked


def check_same(theirs: list[Candidates], ours: list[Candidates]) -> None:
    """Raises a KardError where two passages have changed places whose scores differ by more than float32 noise."""
    for one, other in zip(theirs, ours, strict=True):
        scores = dict(zip(one.passages, one.scores, strict=True))
        along = np.array([scores[passage] for passage in other.passages])
        if one.passages != other.passages and np.any(np.diff(along) > 1e-4):
            raise KardError(f"question {one.key}: the rankings differ")


def training(queries: list[str], groups: list[Candidates], passages: dict[str, str]) -> list[Row]:
    """The rows of training: forward, backward and step, with the loss of Eq. 3; ours also with torch's dropout."""
    steps = [
        [(queries[i], [passages[p] for p in groups[i].passages[:POOL]]) for i in range(s, s + BATCH_QUESTIONS)]
        for s in range(0, (STEPS + 1) * BATCH_QUESTIONS, BATCH_QUESTIONS)
    ]
    quick, sorted_loss = QuickTraining(), SortedLateInteractionLoss
    ways = (PADDED, LateInteractionLoss, nullcontext()), (0, sorted_loss, nullcontext()), (0, sorted_loss, quick)
    speeds = []
    for width, kind, mode in ways:
        model = load_late_interaction(ENCODER)
        with padding_to(model, width), mode:
            speeds.append(examples_a_second(model, kind(model), steps))
    theirs, torchs, ours = speeds
    what = f"reranker training, {POOL} passages of {WORDS} words a question"
    return [
        row(what, f"padded to {PADDED}", ours, theirs, "questions/s", ratio="ours/theirs"),
        row(what, "our way with torch's dropout", ours, torchs, "questions/s", ratio="ours/theirs"),
    ]


def examples_a_second(model: MultiVectorEncoder, loss: Any, steps: list[list[tuple[str, list[str]]]]) -> float:
    """Questions a second over all steps but the first, which sets things up."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    collate = MultiVectorEncoderDataCollator(model.preprocess)
    names = ["query", *(f"passage_{j}" for j in range(POOL))]
    teacher = torch.linspace(8, 0, POOL).repeat(BATCH_QUESTIONS, 1)
    start = 0.0
    for number, step in enumerate(steps):
        if number == 1:
            start = time.perf_counter()
        batch = collate([dict(zip(names, [query, *pool], strict=True)) for query, pool in step])
        features = [
            {key.removeprefix(f"{n}_"): value for key, value in batch.items() if key.startswith(f"{n}_")} for n in names
        ]
        loss(features, teacher).backward()
        optimizer.step()
        optimizer.zero_grad()
    return (len(steps) - 1) * BATCH_QUESTIONS / (time.perf_counter() - start)


@contextmanager
def padding_to(model: MultiVectorEncoder, width: int) -> Iterator[None]:
    """Every text that a model reads is padded to one width; 0 leaves the model as it is."""
    usual = model.preprocess

    def padded(inputs: Any, *args: Any, **options: Any) -> Any:
        features = usual(inputs, *args, **options)
        for name, value in features.items():
            if isinstance(value, torch.Tensor) and value.ndim == 2:
                filler = model.tokenizer.pad_token_id if name == "input_ids" else 0
                features[name] = torch.nn.functional.pad(value, (0, width - value.shape[1]), value=filler)
        return features

    if width:
        model.preprocess = padded
    try:
        yield
    finally:
        model.__dict__.pop("preprocess", None)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and what it returns."""
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value
