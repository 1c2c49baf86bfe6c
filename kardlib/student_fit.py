"""Training a student with what :mod:`kardlib.student` has not: parts of a batch, LoRA, best-on-dev, several processes.

The same pairs, batches, order and loss; with none of the options the weights are the same but for float noise, and for
the draws of dropout, which depend on how a batch is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, set_seed

from . import student
from .errors import KardError
from .lean_model import lean
from .models import is_encoder_decoder, load_student, load_tokenizer, train_in_bf16
from .out_of_memory import out_of_memory
from .presets import Settings
from .processes import Together, from_first, rank, together
from .prompts import Pair
from .reranker_lora import Lora
from .student import Hyperparameters, collator, encode_causal, encode_seq2seq, epoch_orders, last_whole_checkpoint
from .student_dev import FOLDER, DevLoss, take_best
from .student_lora import with_lora
from .student_parts import PartsTrainer, Rows, keep_less


@dataclass(frozen=True)
class Options:
    """How a student is trained, beside its hyperparameters.

    Attributes:
        part: rows in memory at a time in each process; 0 for the whole batch. Halved where memory runs out.
        checkpointing: recompute activations instead of keeping them. Part and checkpointing change no result.
        lora: low-rank updates instead of all weights; merged into the saved model.
        best_on_dev: keep the epoch with the lowest loss on the dev pairs, not the last one.
    """

    part: int = 0
    checkpointing: bool = False
    lora: Lora | None = None
    best_on_dev: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Options:
        """Those of the settings."""
        s = settings
        lora = Lora() if s.student_lora else None
        return Options(s.student_part, s.student_checkpointing, lora, s.student_keep == "best on dev")


@dataclass(frozen=True)
class Task:
    """All that a process must know to train along.

    Attributes:
        rows: encoded pairs; ``order`` tells which come when, over all epochs.
        dev: encoded dev pairs; empty unless the best epoch on them is asked for.
        work: folder for checkpoints, the same for all processes.
    """

    base: str
    rows: Rows
    order: list[int]
    dev: Rows
    hyper: Hyperparameters
    options: Options
    seed: int
    work: Path


@dataclass(frozen=True)
class Fitted:
    """Curves of a training: rows with ``step`` and ``loss``, on the batches and, after each epoch, on dev."""

    curve: list[dict[str, float]]
    held: list[dict[str, float]]


def fit_student(
    base: str, pairs: Sequence[Pair], hyper: Hyperparameters, seed: int, out: Path, work: Path,
    options: Options = Options(), dev: Sequence[Pair] = (),  # noqa: B008  (frozen)
) -> Fitted:  # fmt: skip
    """Fine-tune a base model on prompts and targets; arguments as for :func:`kardlib.student.train_student`.

    Under ``accelerate launch`` the first process calls this and the others :func:`join`.

    Args:
        dev: pairs of dev questions; needed for ``options.best_on_dev``.

    Raises:
        KardError: memory has no room for one row, or best-on-dev has no dev pairs.
    """
    if options.best_on_dev and not dev:
        raise KardError("student_keep: there is no dev question to find the best epoch on")
    tokenizer = load_tokenizer(base)
    encode = encode_seq2seq if is_encoder_decoder(base) else encode_causal
    rows, held = ([encode(tokenizer, pair, hyper) for pair in some] for some in (pairs, dev))
    order = epoch_orders([row["length"] for row in rows], hyper, seed)
    task = Task(base, rows, order, held if options.best_on_dev else [], hyper, options, seed, work)
    send(task)
    return _train(task, out)


_sent: list[Task | None] = []


def send(task: Task | None) -> None:
    """Tell the other processes, once, what to train; None where there is nothing to train."""
    if not _sent and together():
        _sent.append(from_first(task))


def join() -> None:
    """Train along in a process other than the first, with what that one sends; nothing where it sends None."""
    task = from_first(None)
    if task is not None:
        _train(task, None)


def _train(task: Task, out: Path | None) -> Fitted:
    set_seed(task.seed)
    model = load_student(task.base)
    bf16 = train_in_bf16(model)
    lean(model)
    if task.options.lora:
        model = with_lora(model, task.options.lora)
    if task.options.checkpointing:
        keep_less(model)
    trainer = _trainer(task, model, bf16)
    checkpoint = from_first(last_whole_checkpoint(task.work) if rank() == 0 else None)
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except RuntimeError as error:
        if out_of_memory(error):  # parts cannot be smaller: this is the optimiser, or the model itself
            raise KardError(
                f"model {task.base}: no memory for its optimiser; -p student_lora=true needs less"
            ) from None
        raise
    if rank() == 0 and out is not None:
        _save(task, model, out)
    history = trainer.state.log_history
    return Fitted(
        [{"step": row["step"], "loss": row["loss"]} for row in history if "loss" in row],
        [{"step": row["step"], "loss": row["dev_loss"]} for row in history if "dev_loss" in row],
    )


def _trainer(task: Task, model: Any, bf16: bool) -> PartsTrainer:
    hyper = task.hyper
    ends = {-(-len(task.rows) * epoch // hyper.batch) for epoch in range(1, hyper.epochs + 1)}
    dev = DevLoss(task.dev, ends) if task.dev else None
    trainer = PartsTrainer(
        collate=collator(load_tokenizer(task.base)),
        part=task.options.part or hyper.batch,
        bf16=bf16,
        model=model,
        args=student.training_arguments(hyper, task.seed, task.work, False),
        train_dataset=[task.rows[i] for i in task.order],
        callbacks=[*([dev] if dev else []), student.SaveByTime(), student.TellProgress(), Together()],
    )
    if dev:
        dev.trainer = trainer
    trainer.remove_callback(PrinterCallback)
    return trainer


def _save(task: Task, model: Any, out: Path) -> None:
    if task.options.best_on_dev:
        take_best(model, task.work / FOLDER)
    if task.options.lora:
        model = model.merge_and_unload()
    model.save_pretrained(out)
    load_tokenizer(task.base).save_pretrained(out)
