"""Training a reranker with what :func:`kardlib.reranker.train_reranker` has not: LoRA, held-out curves, less padding.

With none of them asked for, the weights are those of ``train_reranker`` to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers import CrossEncoderTrainer, MultiVectorEncoderTrainer
from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments
from sentence_transformers.multi_vector_encoder import MultiVectorEncoderTrainingArguments
from transformers import PrinterCallback, set_seed

from .models import train_in_bf16
from .presets import Settings
from .released_reranker import Annealing, best_only
from .reranker import _arguments, _columns, _lists, load_cross_encoder, load_late_interaction
from .reranker_curves import HeldOut, HeldOutCurve, held_out_curve
from .reranker_lora import Lora, add_lora, merge_lora
from .reranker_losses import loss_of
from .reranker_padding import sorted_loss_of
from .student import SaveByTime, last_whole_checkpoint


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
