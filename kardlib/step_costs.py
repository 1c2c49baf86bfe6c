"""What one step makes a model do, and so its operations, memory and time, given rates.

Batches are formed as training and writing form them, from lengths drawn from the sample: examples of about one length
together, each batch padded to its longest. Operations are told without padding; time is that of the padded ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from .calibration import Rates
from .devices import Sheet
from .model_flops import example_flops, prompt_flops, written_flops
from .model_shape import ModelShape
from .padding import chunk_sizes
from .sample_lengths import Lengths
from .training_memory import Fit, largest_batch, safe_bytes, training_bytes, writing_bytes

Act = Literal["train", "write", "encode"]
_DRAWN = 3200
"""Examples of which batches are formed; costs of more are in proportion."""
_MEGA = 50
"""Batches that are sorted by length together in training, as transformers does."""
_UPDATE_BYTES = 28
"""That Adam reads and writes for a parameter."""


@dataclass(frozen=True)
class Work:
    """What a step makes a model do.

    Attributes:
        model: name or folder.
        lengths: of a sample of its examples; an encoder's texts have no target.
        examples: of all epochs together.
        batch: examples of one update in training, prompts at a time in writing.
        samples: texts for each prompt.
        options: texts that are scored behind each answer; 0 where the answer counts as it is written.
        unit: examples that stay together in memory (a question's passages).
        part: examples in memory at a time in training, where that is settled; 0 where memory decides.
        most: as many at most, where memory decides; 0 for no bound.
        checkpointing: gradient checkpointing in any case, not only where memory asks for it.
        trained: parameters that are trained, where they are not all of them (LoRA); 0 for all.
        chunk: examples of the usual length that are padded together in training; 0 for all that are in memory.
        sorted: whether training takes examples of about one length together.
    """

    act: Act
    model: str
    lengths: Lengths
    examples: int
    batch: int
    samples: int = 1
    options: int = 0
    unit: int = 1
    part: int = 0
    most: int = 0
    checkpointing: bool = False
    trained: int = 0
    chunk: int = 0
    sorted: bool = True


@dataclass(frozen=True)
class Cost:
    """Of one step, once.

    Attributes:
        examples, tokens: source and target, padding aside.
        flops: of these.
        training, reading, writing: operations with padding, by the rate that they run at.
        updates: optimizer steps; ``passes`` are those of parts of a batch that are in memory at a time.
        turns: steps of writing one token for a whole batch.
        fit: how the batch goes into memory; None where it does not.
    """

    work: Work
    shape: ModelShape
    examples: int
    tokens: float
    flops: float
    training: float
    reading: float
    writing: float
    updates: float
    passes: float
    turns: float
    fit: Fit | None

    def seconds(self, rates: Rates) -> float:
        """On the device that the rates are of."""
        touched = (self.passes * rates.turn + self.turns * rates.token) * self.shape.parameters
        seconds = self.training / rates.training + self.reading / rates.reading + self.writing / rates.writing
        return seconds + touched + self.updates * rates.update * self.trained

    @property
    def trained(self) -> int:
        """Parameters that an update changes."""
        return self.work.trained or self.shape.parameters

    def projected(self, rates: Rates, own: Sheet | None, sheet: Sheet, bf16: bool = True) -> float:
        """Seconds on another device: its sheet's peak times the measured share; a token written for a batch takes at
        least the time of reading all weights once.

        Args:
            own: sheet of the device that was measured; without one its share is that of its own matrix product.
            bf16: whether the model trains in bfloat16 there, as far as that device can.
        """
        train = rates.share * (rates.product / own.peak(rates.bf16) if own else 1) * sheet.peak(bf16)
        read, write = (
            rate / (own.peak(False) if own else rates.product_fp32) * sheet.peak(False)
            for rate in (rates.reading, rates.writing)
        )
        updates = self.updates * self.trained * _UPDATE_BYTES / sheet.bytes_a_second
        weights = self.turns * 4 * self.shape.parameters / sheet.bytes_a_second
        return self.training / train + updates + self.reading / read + max(self.writing / write, weights)


def cost(work: Work, shape: ModelShape, memory: float, bf16: bool) -> Cost:
    """The cost of a step on a device.

    Args:
        memory: of the device, in bytes.
        bf16: training's arithmetic there.
    """
    longest = max(s for s, _ in work.lengths), max(t for _, t in work.lengths)
    mean_tokens = sum(s + t * work.samples for s, t in work.lengths) / len(work.lengths)
    told = {"examples": work.examples, "tokens": work.examples * mean_tokens}
    if work.act == "train":
        return _training(work, shape, memory, bf16, longest, told)
    parts = [_written(work, shape, batch) for batch in _batches(work, sort_all=True)]
    share = work.examples / sum(part[0] for part in parts)
    _, flops, reading, writing, turns = (share * sum(column) for column in zip(*parts, strict=True))
    return Cost(work, shape, **told, flops=flops, training=0, reading=reading, writing=writing, updates=0, passes=0,
                turns=turns, fit=_fit_written(work, shape, longest, memory))  # fmt: skip


def _fit_written(work: Work, shape: ModelShape, longest: tuple[int, int], memory: float) -> Fit | None:
    """The batch, halved until it goes in, as it is where memory runs out; None where one prompt does not."""
    batch = work.batch
    while (size := writing_bytes(shape, batch, *longest, work.samples)) > safe_bytes(memory):
        if batch == 1:
            return None
        batch //= 2
    return Fit(batch, 1, False, size)


def _training(
    work: Work, shape: ModelShape, memory: float, bf16: bool, longest: tuple[int, int], told: dict[str, float]
) -> Cost:
    units = max(1, work.batch // work.unit)
    fit = _fit(shape, work, units, longest, memory, bf16)
    part = fit.batch if fit else work.part or work.unit
    again = bool(fit and fit.checkpointing)
    flops = padded = count = passes = 0.0
    for rows in _padded_together(work, part):
        source, target = max(s for s, _ in rows), max(t for _, t in rows)
        padded += len(rows) * _trained_flops(work, shape, source, target, again)
        flops += sum(_trained_flops(work, shape, s, t) for s, t in rows)
        count += len(rows)
        passes += 1
    share = work.examples / count
    return Cost(work, shape, **told, flops=share * flops, training=share * padded, reading=0, writing=0,
                updates=work.examples / work.batch, passes=share * passes, turns=0, fit=fit)  # fmt: skip


def _trained_flops(work: Work, shape: ModelShape, source: int, target: int, again: bool = False) -> float:
    """Of an example; a weight that is not trained has no gradient of its own."""
    flops = example_flops(shape, source, target)
    frozen = 1 - work.trained / shape.parameters if work.trained else 0.0
    return flops.training(again) - frozen * flops.forward


def _fit(shape: ModelShape, work: Work, units: int, longest: tuple[int, int], memory: float, bf16: bool) -> Fit | None:
    """The largest safe part of a batch, in whole units; the part that is set, where one is, if that goes in."""
    if work.part:
        part = min(work.part, work.batch)
        size = training_bytes(shape, part, *longest, bf16)
        return Fit(part, -(-work.batch // part), False, size) if size <= safe_bytes(memory) else None
    most, checked, trained = min(units, work.most or units), work.checkpointing or None, work.trained or None
    fit = largest_batch(shape, most, *longest, memory, bf16, checked, trained, work.unit)
    return Fit(fit.batch * work.unit, -(-units // fit.batch), fit.checkpointing, fit.bytes) if fit else None


def _padded_together(work: Work, part: int) -> Iterator[list[tuple[int, int]]]:
    """Examples of a training as they are padded: all that are in memory at a time, or chunks of about one length."""
    for batch in _batches(work, sort_all=False):
        for cut in range(0, len(batch), part):
            rows = batch[cut : cut + part]
            ordered = sorted(rows) if work.chunk else rows
            sizes = chunk_sizes([s for s, _ in ordered], work.chunk) if work.chunk else [len(rows)]
            left = iter(ordered)
            yield from (list(islice(left, size)) for size in sizes)


def _written(work: Work, shape: ModelShape, rows: Sequence[tuple[int, int]]) -> tuple[float, ...]:
    """Examples, operations without padding, padded ones of reading and of writing, and turns of one batch."""
    source, target, n = max(s for s, _ in rows), max(t for _, t in rows), work.samples
    if work.act == "encode":
        flops = sum(example_flops(shape, s).forward for s, _ in rows)
        return len(rows), flops, len(rows) * example_flops(shape, source).forward, 0.0, 0.0
    flops = sum(prompt_flops(shape, s, n).forward + written_flops(shape, s, t, n).forward for s, t in rows)
    reading = len(rows) * prompt_flops(shape, source, n).forward
    if work.options:  # what stands before the options is read once more; an encoder's states are kept
        flops += sum(_reread(shape, s, t) for s, t in rows)
        reading += len(rows) * _reread(shape, source, target)
    return len(rows), flops, reading, len(rows) * written_flops(shape, source, target, n).forward, float(target)


def _reread(shape: ModelShape, source: int, target: int) -> float:
    kept = prompt_flops(shape, source).forward if shape.kind == "seq2seq" else 0.0
    return example_flops(shape, source, target).forward - kept


def _batches(work: Work, sort_all: bool) -> Iterator[list[tuple[int, int]]]:
    """Batches of drawn lengths: sorted by prompt as a whole in writing, by both in large heaps in training, or not."""
    rng, count = np.random.default_rng(0), min(_DRAWN, work.examples)
    drawn = [work.lengths[i] for i in rng.integers(0, len(work.lengths), count)]
    heap = len(drawn) if sort_all else _MEGA * work.batch
    for start in range(0, len(drawn), heap):
        rows = drawn[start : start + heap]
        if sort_all or work.sorted:
            rows = sorted(rows, key=(lambda pair: pair[0]) if sort_all else sum)
        yield from (rows[cut : cut + work.batch] for cut in range(0, len(rows), work.batch))
