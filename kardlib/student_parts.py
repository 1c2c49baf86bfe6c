"""A trainer that takes each step in parts: the batch stays the preset's, whatever the memory and the processes.

The loss of a step is the mean negative log-likelihood per target token of its *whole* batch, as if it were computed at
once: each part's sum is divided by the tokens of all of them, and gradients are added up. (transformers' own gradient
accumulation leaves this to the model, and T5's loss takes a mean over each part.) A part that memory has no room for is
halved, and the step is made again from its first row, with the same random numbers.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer

from .errors import KardError
from .out_of_memory import out_of_memory
from .processes import agreed, rank, sum_gradients, world
from .store import write_json

PART_FILE = "part.json"
Rows = list[dict[str, Any]]


class PartsTrainer(Trainer):
    """``Trainer`` for encoded rows in the order given; ``args.per_device_train_batch_size`` is the whole batch.

    Args:
        collate: makes padded tensors of rows, see :func:`kardlib.student.collator`.
        part: rows in memory at a time, in each process.
        bf16: whether matrices are multiplied in bfloat16; weights and sums stay in float32.
        told: gets one line where a part had to be halved.
    """

    def __init__(
        self,
        *,
        collate: Callable[[Rows], dict[str, Tensor]],
        part: int,
        bf16: bool,
        told: Callable[[str], None] = print,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        # every process holds the whole model, and gradients are added by hand: no wrapper, no second copy of them
        self.accelerator.prepare_model = lambda model, **_: model.to(self.args.device)
        self.collate, self.bf16, self.told = collate, bf16, told
        self.part = _known_part(Path(self.args.output_dir), part)

    def get_train_dataloader(self) -> DataLoader:
        """Whole batches of rows, the same in every process; each takes its share of them."""
        return DataLoader(self.train_dataset, self.args.per_device_train_batch_size, collate_fn=_as_rows)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted here: it would count padding."""
        return 0

    def training_step(self, model: nn.Module, inputs: dict[str, Rows], num_items_in_batch: Any = None) -> Tensor:
        """Gradients of one batch; returns this process's share of the loss, times the number of processes."""
        model.train()
        rows = sorted(inputs["rows"], key=_length)
        tokens = self.predicted(rows)
        while True:
            state = _random_state()
            loss = self._gradients(model, rows[rank() :: world()], tokens)
            if agreed(loss is not None):
                sum_gradients(model)
                return loss * world()
            model.zero_grad()
            self._make_room(model)
            _set_random_state(state)

    def _gradients(self, model: nn.Module, rows: Rows, tokens: int) -> Tensor | None:
        """Sum over the parts; None where memory has run out."""
        loss = torch.zeros((), device=self.args.device)
        try:
            for start in range(0, len(rows), self.part):
                part = self.summed_loss(model, rows[start : start + self.part]) / tokens
                part.backward()
                loss += part.detach()
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return None
        return loss

    def summed_loss(self, model: nn.Module, rows: Rows) -> Tensor:
        """Negative log-likelihood of all target tokens of some rows, summed."""
        batch = {name: value.to(self.args.device) for name, value in self.collate(list(rows)).items()}
        with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.bf16):
            return summed_loss(model, batch)

    def predicted(self, rows: Rows) -> int:
        """Tokens that are predicted in some rows; a causal row's first has nothing before it."""
        first = 0 if self.model.config.is_encoder_decoder else 1
        return sum(label != -100 for row in rows for label in row["labels"][first:])

    def _make_room(self, model: PreTrainedModel) -> None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        step = self.state.global_step + 1
        if self.part > 1:
            self.part = max(1, min(self.part, self.args.per_device_train_batch_size // world()) // 2)
            self.told(f"step {step}: out of memory; on with {self.part} rows at a time, the batch stays as it is")
        elif not keeps_less(model):
            keep_less(model)
            self.told(f"step {step}: out of memory with one row; on with gradient checkpointing, the batch stays")
        else:
            raise KardError(
                f"step {step}: out of memory with one row at a time and gradient checkpointing; a smaller student,"
                " -p student_lora=true or fewer -p source_tokens= are what is left"
            )
        if rank() == 0:
            write_json(Path(self.args.output_dir) / PART_FILE, self.part)


def summed_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Negative log-likelihood of the target tokens of a batch, summed.

    The output layer is computed where a token is to be predicted, and nowhere else: with a vocabulary of 32,128 it is a
    large part of a small model, and padding and the source of a causal model need none of it.

    Args:
        batch: ``input_ids``, ``attention_mask`` (rows × source) and ``labels`` (rows × target; -100 counts nothing).
    """
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "use_cache": False}
    labels = batch["labels"]
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels=labels)
    else:
        labels = nn.functional.pad(labels[:, 1:], (0, 1), value=-100)  # what stands next is predicted
    places = (labels.flatten() != -100).nonzero().squeeze(1)

    def there(head: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (given[0].flatten(0, 1).index_select(0, places)[None], *given[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(there)
    try:
        logits = model(**inputs).logits[0]
    finally:
        hook.remove()
    return nn.functional.cross_entropy(logits.float(), labels.flatten().index_select(0, places), reduction="sum")


def keep_less(model: PreTrainedModel) -> None:
    """Gradient checkpointing: activations are computed again when they are needed, for about a third more time."""
    given = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):  # its name in later versions
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=given)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=given)


def keeps_less(model: PreTrainedModel) -> bool:
    """Whether gradient checkpointing is on."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def _as_rows(rows: Rows) -> dict[str, Rows]:
    return {"rows": rows}


def _length(row: dict[str, Any]) -> tuple[int, int]:
    return len(row["input_ids"]), len(row["labels"])


def _known_part(work: Path, part: int) -> int:
    """The part that had room before the training was killed, where it is smaller."""
    try:
        return min(part, int(json.loads((work / PART_FILE).read_text(encoding="utf-8"))))
    except (OSError, ValueError):
        return part


def _random_state() -> Sequence[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])]


def _set_random_state(state: Sequence[Tensor]) -> None:
    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state(state[1])
