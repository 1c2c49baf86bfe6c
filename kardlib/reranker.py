"""The reranker f_phi(d, x): it learns from BM25(rationale) to find such passages from the question alone (Eq. 3).

Two forms, both from sentence-transformers: late interaction (a vector a token, MaxSim; what the authors' code uses, and
the default) and a cross-encoder. Both are trained with KL(Q || P), temperatures explicit.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder, CrossEncoderTrainer, MultiVectorEncoder, MultiVectorEncoderTrainer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments
from sentence_transformers.multi_vector_encoder import MultiVectorEncoderTrainingArguments
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import Tensor, nn
from transformers import PrinterCallback, set_seed

from .candidates import Candidates, sample_halves, sample_pool
from .errors import KardError
from .models import device, locate, train_in_bf16
from .presets import Settings
from .released_reranker import Annealing, best_only
from .reranker_losses import eq3_loss as eq3_loss
from .reranker_losses import loss_of
from .student import SaveByTime, last_whole_checkpoint

Form = Literal["late-interaction", "cross-encoder"]
TOKENS = 256


class Reranker(Protocol):
    """What both forms offer."""

    def rank(
        self, queries: Sequence[str], candidates: Sequence[Candidates], texts: Mapping[str, str]
    ) -> list[Candidates]:
        """Each query's candidates, best first by f_phi, ties by passage id.

        Args:
            texts: passage texts by id.
        """


class LateInteraction:
    """MaxSim over one vector a token, cosine similarity, no projection: the backbone's own width is kept."""

    def __init__(self, folder: str) -> None:
        self.model = load_late_interaction(folder)

    def rank(
        self, queries: Sequence[str], candidates: Sequence[Candidates], texts: Mapping[str, str]
    ) -> list[Candidates]:
        needed = sorted({i for group in candidates for i in group.passages})
        vectors = dict(zip(needed, self._encode([texts[i] for i in needed], "document"), strict=True))
        return [
            _sorted(group, self.maxsim(query, [vectors[i] for i in group.passages]))
            for query, group in zip(self._encode(list(queries), "query"), candidates, strict=True)
        ]

    def _encode(self, texts: list[str], task: str) -> list[Tensor]:
        return self.model.encode(texts, task=task, batch_size=128, show_progress_bar=False)

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
        similar = self._encode([query], "query")[0] @ self._encode([passage], "document")[0].T
        best = similar.max(-1)
        return [
            (word, words_d[int(place)], float(value))
            for word, place, value in zip(words_q, best.indices, best.values, strict=True)
        ]


class CrossEncoding:
    """A cross-encoder that reads question and passage together."""

    def __init__(self, folder: str) -> None:
        self.model = load_cross_encoder(folder)

    def rank(
        self, queries: Sequence[str], candidates: Sequence[Candidates], texts: Mapping[str, str]
    ) -> list[Candidates]:
        pairs = [(query, texts[i]) for query, group in zip(queries, candidates, strict=True) for i in group.passages]
        scores = iter(self.model.predict(pairs, batch_size=128, show_progress_bar=False).tolist())
        return [_sorted(group, [next(scores) for _ in group.passages]) for group in candidates]


def load_late_interaction(folder: str) -> MultiVectorEncoder:
    """A trained late-interaction reranker, or a fresh one on the backbone in ``folder``."""
    path = locate(folder)
    with _one_line(folder):
        if (Path(path) / "modules.json").exists() and "MultiVectorMask" in (Path(path) / "modules.json").read_text():
            return MultiVectorEncoder(path, device=str(device()))
        body = Transformer(path, max_seq_length=TOKENS, model_kwargs={"use_safetensors": True, "dtype": torch.float32})
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


def training_rows(
    pools: Sequence[Candidates], queries: Mapping[str, str], texts: Mapping[str, str], settings: Settings, seed: int
) -> list[tuple[str, list[str], list[float]]]:
    """(question, sampled passages, rho(d | r)) for each rationale, sampled anew for each epoch and shuffled.

    Every row has the same number of passages: ``settings.pool``, or fewer where the smallest union has fewer.

    Args:
        pools: unions of Eq. 3; ``key`` is ``question#rationale``.
        queries: the test-time query of each question, by question id.
    """
    size = min(settings.pool, *(len(pool.passages) for pool in pools))
    if size < 2:
        raise KardError("a union of candidates has one member only: nothing to rank; raise kappa1 and kappa2")
    rng = np.random.default_rng(seed)
    rows = []
    first = min(settings.kappa1, len(texts))
    for _ in range(settings.reranker_epochs):
        epoch = []
        for pool in pools:
            halves = settings.pool_as_released
            passages, scores = sample_halves(pool, first, size, rng) if halves else sample_pool(pool, size, rng)
            epoch.append((queries[pool.key.rpartition("#")[0]], [texts[i] for i in passages], scores))
        rows += [epoch[i] for i in rng.permutation(len(epoch))]
    return rows


def train_reranker(
    rows: Sequence[tuple[str, list[str], list[float]]], settings: Settings, seed: int, out: Path, work: Path
) -> list[dict[str, float]]:
    """Minimise Eq. 3, or what ``settings.reranker_loss`` puts in its place, over the rows, in their order.

    Linear schedule with 5 % warm-up.

    Returns:
        The loss curve: rows with ``step`` and ``loss`` (KL in nats).
    """
    set_seed(seed)
    late = settings.reranker_form == "late-interaction"
    model = load_late_interaction(settings.encoder) if late else load_cross_encoder(settings.encoder)
    model.model_card_data.set_widget_examples = lambda dataset: None  # a progress bar that says nothing
    loss = loss_of(model, settings)
    rows = best_only(rows) if settings.reranker_loss == "best document" else rows
    kinds = (MultiVectorEncoderTrainer, MultiVectorEncoderTrainingArguments, _columns) if late else (
        CrossEncoderTrainer, CrossEncoderTrainingArguments, _lists)  # fmt: skip
    trainer_kind, arguments_kind, table = kinds
    trainer = trainer_kind(
        model=model,
        args=arguments_kind(output_dir=str(work), bf16=train_in_bf16(model), **_arguments(settings, seed)),
        train_dataset=table(rows, settings),
        loss=loss,
        callbacks=[SaveByTime(), *([Annealing(loss)] if settings.reranker_loss == "annealed kl" else [])],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_whole_checkpoint(work))
    model.save_pretrained(str(out))
    return [{"step": row["step"], "loss": row["loss"]} for row in trainer.state.log_history if "loss" in row]


def _columns(rows: Sequence[tuple[str, list[str], list[float]]], settings: Settings) -> Dataset:
    columns: dict[str, list[Any]] = {"query": [row[0] for row in rows]}
    for j in range(len(rows[0][1])):
        columns[f"passage_{j}"] = [row[1][j] for row in rows]
    return Dataset.from_dict(columns | {"label": [row[2] for row in rows]})


def _lists(rows: Sequence[tuple[str, list[str], list[float]]], settings: Settings) -> Dataset:
    labels = [[score / settings.tau1 for score in row[2]] for row in rows]
    return Dataset.from_dict({"query": [r[0] for r in rows], "passages": [r[1] for r in rows], "labels": labels})


def _arguments(settings: Settings, seed: int) -> dict[str, Any]:
    part = min(settings.reranker_part, settings.reranker_batch)
    while settings.reranker_batch % part:  # every step has the whole batch
        part -= 1
    return dict(
        learning_rate=settings.reranker_lr, lr_scheduler_type="linear", warmup_steps=0.05, num_train_epochs=1,
        per_device_train_batch_size=part,
        gradient_accumulation_steps=settings.reranker_batch // part, train_sampling_strategy="sequential",
        save_strategy="no", save_total_limit=1, logging_steps=10, seed=seed, data_seed=seed, report_to="none",
        use_cpu=device().type == "cpu", disable_tqdm=True, log_level="error", dataloader_pin_memory=False,
    )  # fmt: skip


def _sorted(group: Candidates, scores: Sequence[float]) -> Candidates:
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], group.passages[i]))
    return Candidates(
        key=group.key,
        passages=tuple(group.passages[i] for i in order),
        scores=tuple(float(scores[i]) for i in order),
    )
