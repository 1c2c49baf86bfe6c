"""Encoding passages with little padding: by their number of tokens, in small batches, in one process or in several.

sentence-transformers sorts the texts of one ``encode`` or ``predict`` call by their number of **characters**, and pads
a batch to its own longest text. Here they come sorted by their number of tokens.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import MultiVectorEncoder

BATCH = 32
"""Texts of one forward pass. On a CPU more of them are slower: they no longer fit into its caches."""


def token_counts(model: MultiVectorEncoder, texts: Sequence[str]) -> np.ndarray:
    """Tokens of each text as the encoder reads it as a passage, cut, with special ones."""
    counts = [
        model.preprocess(list(texts[start : start + 512]), task="document")["attention_mask"].sum(1)
        for start in range(0, len(texts), 512)
    ]
    return torch.cat(counts).numpy()


def encode_sorted(
    model: MultiVectorEncoder, blocks: Iterable[list[str]], processes: int = 1
) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Each block of passages with their vectors, in its own order, which should be that of their lengths.

    Args:
        processes: from 2 on, that many processes of the library's own pool, the cores shared out among them.
    """
    with pool_of(model, processes) as pool:
        for block in blocks:
            if pool is None:
                parts = (block[start : start + BATCH] for start in range(0, len(block), BATCH))
                encoded = [one for part in parts for one in _encode(model, part)]
            else:
                encoded = _encode(model, block, pool=pool, chunk_size=BATCH)
            yield block, encoded


def _encode(model: MultiVectorEncoder, texts: list[str], **options: Any) -> list[np.ndarray]:
    vectors = model.encode(texts, task="document", batch_size=BATCH, show_progress_bar=False, **options)
    return [one.float().cpu().numpy() for one in vectors]


@contextlib.contextmanager
def pool_of(model: MultiVectorEncoder, processes: int) -> Iterator[dict[str, Any] | None]:
    """The library's pool of processes on the CPU, or one on each GPU; None where one process is enough."""
    if processes < 2:
        yield None
        return
    place = model.device
    # each process would take all cores for itself
    threads = {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // processes))}
    before = {name: os.environ.get(name) for name in threads}
    os.environ.update(threads)
    try:
        pool = model.start_multi_process_pool(None if torch.cuda.is_available() else ["cpu"] * processes)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    try:
        yield pool
    finally:
        model.stop_multi_process_pool(pool)
        model.to(place)  # the pool has moved it to the CPU
