"""Training a student: Eq. 1 (without passages) and Eq. 2 (with), through transformers' trainers."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_pt_utils import get_length_grouped_indices
from transformers.trainer_utils import get_last_checkpoint

from .chat_template import causal_prompt, lead
from .lean_model import lean
from .models import device, is_encoder_decoder, load_student, load_tokenizer, train_in_bf16
from .padding import mask_of, pad_rows
from .presets import Settings
from .progress import tell
from .prompts import Pair

CHECKPOINT_SECONDS = 25
"""A killed training repeats less than this much, or 25 times what a checkpoint takes, plus the time of a step."""


@dataclass(frozen=True)
class Hyperparameters:
    """Of student training; the learning rate is constant, there is no weight decay (METHOD 3)."""

    lr: float
    epochs: int
    batch: int
    source_tokens: int
    target_tokens: int

    @classmethod
    def of(cls, settings: Settings) -> Hyperparameters:
        """Those of the settings."""
        s = settings
        return Hyperparameters(s.student_lr, s.student_epochs, s.student_batch, s.source_tokens, s.target_tokens)


def train_student(
    base: str, pairs: Sequence[Pair], hyper: Hyperparameters, seed: int, out: Path, work: Path
) -> list[dict[str, float]]:
    """Fine-tune all weights of a base model on prompts and targets.

    The loss is the mean negative log-likelihood per target token of each batch; nothing but target tokens counts.

    Args:
        base: name or folder of the base model.
        seed: of the order of the examples.
        out: folder for the model and its tokenizer.
        work: folder for checkpoints; a killed training goes on from there to the same weights.

    Returns:
        The loss curve: rows with ``step`` and ``loss``.
    """
    tokenizer = load_tokenizer(base)
    encode = encode_seq2seq if is_encoder_decoder(base) else encode_causal
    rows = [encode(tokenizer, pair, hyper) for pair in pairs]
    order = epoch_orders([row["length"] for row in rows], hyper, seed)
    return fit(base, [rows[i] for i in order], hyper, seed, out, work)


def fit(
    base: str, rows: Sequence[dict[str, Any]], hyper: Hyperparameters, seed: int, out: Path, work: Path
) -> list[dict[str, float]]:
    """Train all weights of a base model on encoded rows, in the order given; arguments as for :func:`train_student`.

    Args:
        rows: those of all epochs, each with ``input_ids`` and ``labels`` (-100 where nothing is to be predicted).

    Returns:
        The loss curve: rows with ``step`` and ``loss``.
    """
    set_seed(seed)
    tokenizer = load_tokenizer(base)
    model = lean(load_student(base))
    trainer = Trainer(
        model=model,
        args=training_arguments(hyper, seed, work, train_in_bf16(model)),
        train_dataset=list(rows),
        data_collator=collator(tokenizer),
        callbacks=[SaveByTime(), TellProgress()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_whole_checkpoint(work))
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return [{"step": row["step"], "loss": row["loss"]} for row in trainer.state.log_history if "loss" in row]


def epoch_orders(lengths: Sequence[int], hyper: Hyperparameters, seed: int) -> list[int]:
    """Indices of all epochs, one after the other, rows of about equal length together.

    The trainer's own sampler draws each epoch from the state of torch's generator, which a resumed training has not:
    from the second epoch on it would see other batches than the one that was not killed.
    """
    generator = torch.Generator().manual_seed(seed)
    epochs = (get_length_grouped_indices(lengths, hyper.batch, generator=generator) for _ in range(hyper.epochs))
    return [i for epoch in epochs for i in epoch]


def training_arguments(hyper: Hyperparameters, seed: int, work: Path, bf16: bool) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(work),
        learning_rate=hyper.lr,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        num_train_epochs=1,  # the data set holds all epochs
        per_device_train_batch_size=hyper.batch,
        train_sampling_strategy="sequential",
        save_strategy="no",
        save_total_limit=1,
        logging_steps=10,
        seed=seed,
        data_seed=seed,
        use_cpu=device().type == "cpu",
        bf16=bf16,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        log_level="error",
    )
    return on_one_gpu(arguments)


def on_one_gpu(arguments: Any) -> Any:
    """The trainer's arguments for one GPU, or none: a second one would get a batch of its own beside the first."""
    arguments._n_gpu = min(arguments.n_gpu, 1)  # n_gpu finds the devices first
    return arguments


def last_whole_checkpoint(work: Path) -> str | None:
    """The newest checkpoint that was written to its end; what a kill or a full disk left half written is removed."""
    for folder in work.glob("checkpoint-*"):
        try:
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))  # the last file to be written
        except (OSError, ValueError):
            shutil.rmtree(folder)
    return get_last_checkpoint(str(work)) if work.is_dir() else None


class SaveByTime(TrainerCallback):
    """Checkpoints by the clock, not by steps, so that a kill costs about the same on any machine."""

    def __init__(self) -> None:
        self._last, self._took = time.monotonic(), 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        due = CHECKPOINT_SECONDS * (1 + self._took)  # the larger the model, the rarer: 4 % of the time at most
        if time.monotonic() - self._last > due and state.global_step < state.max_steps:
            self._last = time.monotonic()
            control.should_save = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        self._took, self._last = now - self._last, now


class TellProgress(TrainerCallback):
    """Tells the steps that are done, and the last loss."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        loss = next((row["loss"] for row in reversed(state.log_history) if "loss" in row), None)
        tell(state.global_step, state.max_steps, "" if loss is None else f"loss {float(loss):.3f}")


def encode_seq2seq(tokenizer: Any, pair: Pair, hyper: Hyperparameters) -> dict[str, Any]:
    """Token ids of source and target. The prompt builder has already made the source fit."""
    source = tokenizer(pair.source, truncation=True, max_length=hyper.source_tokens).input_ids
    labels = tokenizer(text_target=pair.target, truncation=True, max_length=hyper.target_tokens).input_ids
    return {"input_ids": source, "labels": labels, "length": len(source) + len(labels)}


def encode_causal(tokenizer: Any, pair: Pair, hyper: Hyperparameters) -> dict[str, Any]:
    """Source and target in one sequence; labels are -100 over the source."""
    source = causal_prompt(tokenizer, pair.source, hyper.source_tokens)
    target = tokenizer(lead(tokenizer) + pair.target, add_special_tokens=False).input_ids[: hyper.target_tokens - 1]
    target = [*target, tokenizer.eos_token_id]
    ids = source + target
    return {"input_ids": ids, "labels": [-100] * len(source) + target, "length": len(ids)}


def collator(tokenizer: Any) -> Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]:
    """Pads a batch to its own longest row; padding counts neither as input nor in the loss.

    It stands behind the row, of a causal model too: in front it would move the positions of one that counts them.
    """

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        inputs = pad_rows([row["input_ids"] for row in rows], tokenizer.pad_token_id, left=False)
        labels = pad_rows([row["labels"] for row in rows], -100, left=False)
        mask = mask_of([row["input_ids"] for row in rows])
        return {"input_ids": inputs, "attention_mask": mask, "labels": labels}

    return collate
