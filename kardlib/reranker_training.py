"""Training a reranker: the rows that it learns from, and the library's trainer with the loss of Eq. 3.

LoRA, curves on held-out questions and chunks of passages of about equal length are added where they are asked for;
without them it is the plain trainer of sentence-transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from sentence_transformers import CrossEncoderTrainer, MultiVectorEncoderTrainer
from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments
from sentence_transformers.multi_vector_encoder import MultiVectorEncoderTrainingArguments
from transformers import PrinterCallback, set_seed

from .candidates import Candidates, sample_halves, sample_pool
from .errors import KardError
from .models import device, train_in_bf16
from .presets import Settings
from .released_reranker import Annealing, Row, best_only
from .reranker import load_cross_encoder, load_late_interaction
from .reranker_curves import HeldOut, HeldOutCurve, held_out_curve, question_of
from .reranker_lora import Lora, add_lora, merge_lora
from .reranker_losses import loss_of
from .reranker_padding import sorted_loss_of
from .student import SaveByTime, TellProgress, last_whole_checkpoint, on_one_gpu


@dataclass(frozen=True)
class Curves:
    """How a training went.

    Attributes:
        loss: rows with ``step`` and ``loss`` (KL in nats), means over ten steps.
        held: rows with ``step``, ``kl`` and hits@k on the held-out questions; empty where there are none.
    """

    loss: list[dict[str, float]]
    held: list[dict[str, float]]


def training_rows(
    pools: Sequence[Candidates], queries: Mapping[str, str], texts: Mapping[str, str], settings: Settings, seed: int
) -> list[Row]:
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
            epoch.append((queries[question_of(pool)], [texts[i] for i in passages], scores))
        rows += [epoch[i] for i in rng.permutation(len(epoch))]
    return rows


def train_reranker(
    rows: Sequence[Row], settings: Settings, seed: int, out: Path, work: Path, held: HeldOut | None = None
) -> Curves:
    """Minimise Eq. 3, or what ``settings.reranker_loss`` puts in its place, over the rows, in their order.

    Linear schedule with 5 % warm-up.

    Args:
        rows: of :func:`training_rows`, without the held-out questions.
        out: folder for the model; one that was trained with LoRA is saved whole.
        work: folder for checkpoints; a killed training goes on from there to the same weights.
        held: questions to measure on as it goes; they change no weight.
    """
    set_seed(seed)
    model = _FORMS[settings.reranker_form].load(settings.encoder)
    model.model_card_data.set_widget_examples = lambda dataset: None  # a progress bar that says nothing
    if settings.lora:
        add_lora(model, Lora())
    trainer = _trainer(model, rows, settings, seed, work, held)
    trainer.train(resume_from_checkpoint=last_whole_checkpoint(work))
    if settings.lora:
        merge_lora(model)
    model.save_pretrained(str(out))
    history = trainer.state.log_history
    return Curves([{"step": r["step"], "loss": r["loss"]} for r in history if "loss" in r], held_out_curve(history))


def _trainer(model: Any, rows: Sequence[Row], settings: Settings, seed: int, work: Path, held: HeldOut | None) -> Any:
    form, chunk = _FORMS[settings.reranker_form], settings.reranker_chunk
    loss = sorted_loss_of(model, settings, chunk) if chunk else loss_of(model, settings)
    trainer = form.trainer(
        model=model,
        args=on_one_gpu(form.arguments(output_dir=str(work), bf16=train_in_bf16(model), **_arguments(settings, seed))),
        train_dataset=form.table(best_only(rows) if settings.reranker_loss == "best document" else rows, settings),
        loss=loss,
        callbacks=_callbacks(model, loss, settings, held),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _callbacks(model: Any, loss: Any, settings: Settings, held: HeldOut | None) -> list[Any]:
    annealed = [Annealing(loss)] if settings.reranker_loss == "annealed kl" else []
    measured = [HeldOutCurve(model, held, settings.tau1, settings.tau2)] if held else []
    return [SaveByTime(), TellProgress(), *annealed, *measured]


def _columns(rows: Sequence[Row], settings: Settings) -> Dataset:
    columns: dict[str, list[Any]] = {"query": [row[0] for row in rows]}
    for j in range(len(rows[0][1])):
        columns[f"passage_{j}"] = [row[1][j] for row in rows]
    return Dataset.from_dict(columns | {"label": [row[2] for row in rows]})


def _lists(rows: Sequence[Row], settings: Settings) -> Dataset:
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


class _Form(NamedTuple):
    load: Callable[[str], Any]
    trainer: Callable[..., Any]
    arguments: Callable[..., Any]
    table: Callable[[Sequence[Row], Settings], Dataset]


_FORMS = {
    "late-interaction": _Form(
        load_late_interaction, MultiVectorEncoderTrainer, MultiVectorEncoderTrainingArguments, _columns
    ),
    "cross-encoder": _Form(load_cross_encoder, CrossEncoderTrainer, CrossEncoderTrainingArguments, _lists),
}
