"""Training a reranker with what :func:`kardlib.reranker.train_reranker` has not: LoRA, held-out curves, less padding.

With none of them asked for, the weights are those of ``train_reranker`` to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers import CrossEncoderTrainer, MultiVectorEncoderTrainer
from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments
from sentence_transformers.multi_vector_encoder import MultiVectorEncoderTrainingArguments
from transformers import PrinterCallback, set_seed

from .candidates import Candidates
from .models import train_in_bf16
from .presets import Settings
from .released_reranker import Annealing, best_only
from .reranker import _arguments, _columns, _lists, load_cross_encoder, load_late_interaction, training_rows
from .reranker_curves import HeldOut, HeldOutCurve, cut_pools, held_out_curve, question_of
from .reranker_lora import Lora, add_lora, merge_lora
from .reranker_losses import loss_of
from .reranker_padding import sorted_loss_of
from .student import SaveByTime, last_whole_checkpoint

MEASURED = 100
"""Held-out questions that are measured at most: each costs the reading of its candidates, six times. Our choice."""


@dataclass(frozen=True)
class Options:
    """What is added to the training; nothing by default.

    Attributes:
        lora: low-rank updates instead of all weights; merged into the saved model.
        held: questions to measure on, ``times`` times after the start.
        chunk: passages of a forward pass, sorted by length; 0 for the library's way.
    """

    lora: Lora | None = None
    held: HeldOut | None = None
    times: int = 5
    chunk: int = 0


@dataclass(frozen=True)
class Fitted:
    """Curves of a training.

    Attributes:
        curve: rows with ``step`` and ``loss`` (KL in nats).
        held: rows with ``step``, ``kl`` and hits@k on the held-out questions; empty where there are none.
    """

    curve: list[dict[str, float]]
    held: list[dict[str, float]]


def fit_reranker(
    rows: Sequence[tuple[str, list[str], list[float]]],
    settings: Settings,
    seed: int,
    out: Path,
    work: Path,
    options: Options = Options(),  # noqa: B008  (frozen)
) -> Fitted:
    """Minimise Eq. 3 over the rows, in their order, as :func:`kardlib.reranker.train_reranker` does.

    Args:
        rows: of :func:`kardlib.reranker.training_rows`, without the held-out questions.
        work: folder for checkpoints; a killed training goes on from there to the same weights.
    """
    set_seed(seed)
    late = settings.reranker_form == "late-interaction"
    model = load_late_interaction(settings.encoder) if late else load_cross_encoder(settings.encoder)
    model.model_card_data.set_widget_examples = lambda dataset: None  # a progress bar that says nothing
    if options.lora:
        add_lora(model, options.lora)
    history = _train(model, late, rows, settings, seed, work, options)
    if options.lora:
        merge_lora(model)
    model.save_pretrained(str(out))
    curve = [{"step": row["step"], "loss": row["loss"]} for row in history if "loss" in row]
    return Fitted(curve, held_out_curve(history))


def fit_from_pools(
    pools: Sequence[Candidates],
    queries: Mapping[str, str],
    texts: Mapping[str, str],
    settings: Settings,
    seed: int,
    out: Path,
    work: Path,
    lora: Lora | None = None,
    found: Callable[[str], Candidates] | None = None,
) -> Fitted:
    """Train on pools of Eq. 3, with curves on a tenth of the questions where it is known what BM25 finds for these.

    Args:
        pools, queries, texts: as for :func:`kardlib.reranker.training_rows`.
        found: the candidates of a question by its id. Where it is given, a tenth is held out, whatever is measured.
    """
    held = None
    if found is not None:
        pools, measured = cut_pools(pools, at_most=MEASURED)
        names = sorted({question_of(pool) for pool in measured})
        held = HeldOut(measured, queries, {name: found(name) for name in names}, texts)
    rows = training_rows(pools, queries, texts, settings, seed)
    return fit_reranker(rows, settings, seed, out, work, Options(lora=lora, held=held))


def _train(
    model: Any, late: bool, rows: Sequence[Any], settings: Settings, seed: int, work: Path, options: Options
) -> list[dict[str, float]]:
    loss = sorted_loss_of(model, settings, options.chunk) if options.chunk else loss_of(model, settings)
    rows = best_only(rows) if settings.reranker_loss == "best document" else rows
    trainer_kind = MultiVectorEncoderTrainer if late else CrossEncoderTrainer
    arguments_kind = MultiVectorEncoderTrainingArguments if late else CrossEncoderTrainingArguments
    trainer = trainer_kind(
        model=model,
        args=arguments_kind(output_dir=str(work), bf16=train_in_bf16(model), **_arguments(settings, seed)),
        train_dataset=(_columns if late else _lists)(rows, settings),
        loss=loss,
        callbacks=_callbacks(model, loss, settings, options),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_whole_checkpoint(work))
    return trainer.state.log_history


def _callbacks(model: Any, loss: Any, settings: Settings, options: Options) -> list[Any]:
    annealed = [Annealing(loss)] if settings.reranker_loss == "annealed kl" else []
    taus = settings.tau1, settings.tau2
    held = [HeldOutCurve(model, options.held, *taus, options.times)] if options.held else []
    return [SaveByTime(), *annealed, *held]
