"""The reranker f_phi(d, x): it learns from BM25(rationale) to find such passages from the question alone (Eq. 3).

Two forms, both from sentence-transformers: late interaction (a vector a token, MaxSim; what the authors' code uses, and
the default) and a cross-encoder. What they are, how they are loaded and how they rank is here;
:mod:`kardlib.reranker_training` trains them with KL(Q || P), temperatures explicit.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from sentence_transformers import CrossEncoder, MultiVectorEncoder
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import Tensor, nn

from .candidates import Candidates
from .errors import KardError
from .models import device, locate
from .progress import tell
from .reranker_losses import eq3_loss as eq3_loss
from .safe_folder import NO_CODE, refuse_code

Form = Literal["late-interaction", "cross-encoder"]
TOKENS = 256
BLOCK_CHARACTERS = 1 << 21
"""Text whose token vectors are in memory at a time: about half a million tokens, 0.8 GB at a width of 384. As much
again is kept of passages that later questions have among their candidates too."""
GPU_BATCH = 128
CPU_BATCH_CHARACTERS = 6144
"""Text of one forward pass on a CPU, some thousand tokens: more no longer fits into its caches and is slower."""


class Reranker(Protocol):
    """What both forms offer."""

    def ranked(
        self, queries: Sequence[str], candidates: Sequence[Candidates], texts: Mapping[str, str]
    ) -> Iterator[Candidates]:
        """Each query's candidates, best first by f_phi, ties by passage id, in turn, as soon as they are ranked.

        Args:
            texts: passage texts by id.
        """
        ...

    def rank(
        self, queries: Sequence[str], candidates: Sequence[Candidates], texts: Mapping[str, str]
    ) -> list[Candidates]:
        """All of them."""
        return list(self.ranked(queries, candidates, texts))


class LateInteraction(Reranker):
    """MaxSim over one vector a token, cosine similarity, no projection: the backbone's own width is kept.

    Args:
        model: its folder, or the model itself; MaxSim is taken in float32, whatever the model computes in.
    """

    def __init__(self, model: str | MultiVectorEncoder) -> None:
        self.model = load_late_interaction(model) if isinstance(model, str) else model

    def ranked(
        self, queries: Sequence[str], candidates: Sequence[Candidates], texts: Mapping[str, str]
    ) -> Iterator[Candidates]:
        """See :class:`Reranker`; passages are encoded a block at a time."""
        asked, done = self.encode(list(queries), "query"), 0
        vectors: dict[str, Tensor] = {}
        still = Counter(i for group in candidates for i in group.passages)
        for block, needed in _blocks(candidates, texts):
            new = {i: text for i, text in needed.items() if i not in vectors}
            vectors |= zip(new, self.encode(list(new.values()), "document") if new else [], strict=True)
            for group in block:
                yield best_first(group, self.maxsim(asked[done], [vectors[i] for i in group.passages]))
                still.subtract(group.passages)
                done += 1
            tell(done, len(queries), "questions ranked")
            vectors = {i: vectors[i] for i in _wanted_again(vectors, still, texts)}

    def encode(self, texts: list[str], task: Literal["query", "document"]) -> list[Tensor]:
        """Vectors of each text, shape ``(tokens, width)``, float32."""
        encoded = self.model.encode(texts, task=task, batch_size=batch_of(texts), show_progress_bar=False)
        return [vectors.float() for vectors in encoded]

    @staticmethod
    def maxsim(query: Tensor, passages: Sequence[Tensor]) -> list[float]:
        """Sum over query tokens of the largest cosine to any passage token; one score a passage."""
        lengths = torch.tensor([len(vectors) for vectors in passages], device=query.device)
        padded = nn.utils.rnn.pad_sequence(list(passages), batch_first=True)
        similar = torch.einsum("qd,ntd->nqt", query, padded)
        outside = torch.arange(padded.shape[1], device=query.device)[None, :] >= lengths[:, None]
        return similar.masked_fill(outside[:, None, :], -1e4).amax(-1).sum(-1).tolist()

    def preference(self, query: str, one: str, other: str) -> list[tuple[str, float]]:
        """For each query token, by how much its best match in one passage is better than in the other.

        The values add up to the difference of the two scores.
        """
        pairs = zip(self.contributions(query, one), self.contributions(query, other), strict=True)
        return [(word, first - second) for (word, _, first), (_, _, second) in pairs]

    def contributions(self, query: str, passage: str) -> list[tuple[str, str, float]]:
        """What a score rests on: for each query token, the passage token that matches it best and their cosine."""
        tokenizer = self.model.tokenizer
        words_q = tokenizer.convert_ids_to_tokens(tokenizer(query, truncation=True, max_length=TOKENS).input_ids)
        words_d = tokenizer.convert_ids_to_tokens(tokenizer(passage, truncation=True, max_length=TOKENS).input_ids)
        similar = self.encode([query], "query")[0] @ self.encode([passage], "document")[0].T
        best = similar.max(-1)
        return [
            (word, words_d[int(place)], float(value))
            for word, place, value in zip(words_q, best.indices, best.values, strict=True)
        ]


class CrossEncoding(Reranker):
    """A cross-encoder that reads question and passage together.

    Args:
        model: its folder, or the model itself.
    """

    def __init__(self, model: str | CrossEncoder) -> None:
        self.model = load_cross_encoder(model) if isinstance(model, str) else model

    def ranked(
        self, queries: Sequence[str], candidates: Sequence[Candidates], texts: Mapping[str, str]
    ) -> Iterator[Candidates]:
        """See :class:`Reranker`; pairs are read a block of passages at a time."""
        asked, done = iter(queries), 0
        for block, _ in _blocks(candidates, texts):
            pairs = [(query, texts[i]) for group, query in zip(block, asked, strict=False) for i in group.passages]
            batch = batch_of([f"{query} {text}" for query, text in pairs])
            scores = iter(self.model.predict(pairs, batch_size=batch, show_progress_bar=False).tolist())
            for group in block:
                yield best_first(group, [next(scores) for _ in group.passages])
            done += len(block)
            tell(done, len(queries), "questions ranked")


def load_late_interaction(folder: str) -> MultiVectorEncoder:
    """A trained late-interaction reranker, or a fresh one on the backbone in ``folder``."""
    path = locate(folder)
    with _one_line(folder):
        if (Path(path) / "modules.json").exists() and "MultiVectorMask" in (Path(path) / "modules.json").read_text():
            refuse_code(Path(path), modules=True)
            # a folder's own options could ask for a pickle
            own = {"use_safetensors": True, "weights_only": True}
            return MultiVectorEncoder(path, device=str(device()), model_kwargs=own)
        options = {"use_safetensors": True, "dtype": torch.float32, **NO_CODE}
        body = Transformer(
            path, max_seq_length=TOKENS, model_kwargs=options, config_kwargs={**NO_CODE}, processor_kwargs={**NO_CODE}
        )
        modules = [body, MultiVectorMask(), Normalize(module_input_name="token_embeddings")]
        return MultiVectorEncoder(modules=modules, device=str(device()))


def load_cross_encoder(folder: str) -> CrossEncoder:
    """A trained cross-encoder, or a fresh head on the backbone in ``folder``."""
    options = {"use_safetensors": True, "dtype": torch.float32}
    with _one_line(folder):
        return CrossEncoder(
            locate(folder), num_labels=1, max_length=2 * TOKENS, model_kwargs=options, device=str(device()),
            activation_fn=nn.Identity(),
        )  # fmt: skip


def load_reranker(folder: str, form: Form) -> LateInteraction | CrossEncoding:
    return LateInteraction(folder) if form == "late-interaction" else CrossEncoding(folder)


def reranker_of(model: MultiVectorEncoder | CrossEncoder) -> LateInteraction | CrossEncoding:
    """The reranker that a model is, in training or in another precision; it is used as it is, not copied."""
    return CrossEncoding(model) if isinstance(model, CrossEncoder) else LateInteraction(model)


@contextlib.contextmanager
def _one_line(folder: str) -> Any:
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, json.JSONDecodeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise KardError(f"encoder {folder}: it cannot be loaded ({lines[0][:200]})") from None
    except Exception as error:  # safetensors' own error derives from Exception alone
        if type(error).__module__.startswith("safetensors"):
            raise KardError(f"encoder {folder}: its weights are damaged ({error})") from None
        raise


def _blocks(
    candidates: Sequence[Candidates], texts: Mapping[str, str]
) -> Iterator[tuple[list[Candidates], dict[str, str]]]:
    """Groups in their order, as many at a time as memory allows, with the texts of their passages, sorted by id."""
    block: list[Candidates] = []
    held: dict[str, str] = {}
    size = 0
    for group in candidates:
        new = {i: texts[i] for i in group.passages if i not in held}
        if block and size + sum(map(len, new.values())) > BLOCK_CHARACTERS:
            yield block, dict(sorted(held.items()))
            block, held, size = [], {}, 0
            new = {i: texts[i] for i in group.passages}
        block.append(group)
        held |= new
        size += sum(map(len, new.values()))
    if block:
        yield block, dict(sorted(held.items()))


def _wanted_again(held: Iterable[str], still: Mapping[str, int], texts: Mapping[str, str]) -> list[str]:
    """Passages that later groups have too, those of most groups first, as many as ``BLOCK_CHARACTERS`` hold."""
    again = sorted((i for i in held if still[i] > 0), key=lambda i: (-still[i], i))
    sizes = itertools.accumulate(len(texts[i]) for i in again)
    return [i for i, size in zip(again, sizes, strict=True) if size <= BLOCK_CHARACTERS]


def batch_of(texts: Sequence[str]) -> int:
    """Texts of one forward pass: few on a CPU where they are long, see ``CPU_BATCH_CHARACTERS``."""
    if device().type != "cpu" or not texts:
        return GPU_BATCH
    mean = sum(map(len, texts)) / len(texts)
    return int(min(GPU_BATCH, max(1, CPU_BATCH_CHARACTERS // max(1, mean))))


def best_first(group: Candidates, scores: Sequence[float]) -> Candidates:
    """Candidates with new scores, in the order of these, ties by passage id."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], group.passages[i]))
    return Candidates(
        key=group.key,
        passages=tuple(group.passages[i] for i in order),
        scores=tuple(float(scores[i]) for i in order),
    )
