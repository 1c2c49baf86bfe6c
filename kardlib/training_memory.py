"""Memory of training and of writing at a batch size, and the largest batch that is safe on a device.

Weights, gradients and Adam's two moments are float32, 16 bytes a parameter, whatever the arithmetic. What a forward
pass keeps for the backward one is reckoned by kinds of tensors: those as wide as the model, the heads, the feed-
forward part, one number for every pair of positions and head, and one for every word of the vocabulary. The bytes
of each kind are upper bounds for transformers' own models with dropout, found by listing the tensors that autograd
saves; a test lists them again.
"""

from __future__ import annotations

from dataclasses import dataclass

from .model_shape import ModelShape

ADAM_BYTES = 16
"""A parameter's: weight, gradient, two moments, in float32."""
FROZEN_BYTES = 4
SAFE_SHARE = 0.9
"""Of a device's memory; the rest is the allocator's: fragments, and sizes that vary."""
CONTEXT_BYTES = 0.7e9
"""What a process has on a GPU, or in memory, before its first tensor."""


@dataclass(frozen=True)
class _Saved:
    """Bytes that a layer keeps for each number of that kind.

    Attributes:
        attention: tensors of the model's width around one attention, a token.
        heads: queries and outputs, or keys and values, a token.
        pairs: a head and pair of positions; kernels that never write these down need less.
        wide, feed: the feed-forward part: tensors of the model's width, and of its own.
        words: a token and word of the vocabulary, the gradient included.
    """

    attention: float
    heads: float
    pairs: float
    wide: float
    feed: float
    words: float


_FLOAT32 = {
    "seq2seq": _Saved(22, 9, 12, 20, 32, 26),
    "causal": _Saved(25, 9, 6, 20, 16, 20),
    "encoder": _Saved(25, 9, 13, 20, 9, 4),
}
_BFLOAT16 = {
    "seq2seq": _Saved(23, 8, 12, 23, 16, 20),
    "causal": _Saved(20, 6, 6, 12, 8, 18),
    "encoder": _Saved(22, 6, 13, 14, 6, 4),
}
_PLAIN_FEED = 0.4
"""Share of ``feed`` that is left without a gate: two or three tensors instead of eight."""


def activations(
    shape: ModelShape, batch: int, source: int, target: int = 0, bf16: bool = False, checkpointing: bool = False
) -> float:
    """Bytes that a forward pass keeps, the gradient of the logits included.

    Args:
        batch: examples, all padded to ``source`` and ``target`` tokens. A causal model reads both as one sequence.
        bf16: arithmetic in bfloat16 (autocast); the weights' copies in it are not counted here.
        checkpointing: layers keep their input alone, and one at a time is made anew.
    """
    saved = (_BFLOAT16 if bf16 else _FLOAT32)[shape.kind]
    if shape.kind == "seq2seq":
        read = _attention(shape, saved, source, source) + _feed(shape, saved, source)
        write = _attention(shape, saved, target, target) + _attention(shape, saved, target, source)
        write += _feed(shape, saved, target)
        layers = [(shape.layers, read, source), (shape.decoder_layers, write, target)]
        words = target
    else:
        words = source + target
        layers = [(shape.layers, _attention(shape, saved, words, words) + _feed(shape, saved, words), words)]
    if checkpointing:
        kept = sum(count * 4 * tokens * shape.hidden for count, _, tokens in layers) + max(
            size for _, size, _ in layers
        )
    else:
        kept = sum(count * size for count, size, _ in layers)
    ends = words * saved.words * (shape.vocabulary if shape.kind != "encoder" else shape.hidden)
    return batch * (kept + ends + 16 * (source + target) * shape.hidden)


def _attention(shape: ModelShape, saved: _Saved, queries: int, keys: int) -> float:
    linear = (
        queries * (saved.attention * shape.hidden + saved.heads * shape.inner) + keys * saved.heads * shape.kv_inner
    )
    return linear + saved.pairs * shape.heads * queries * keys


def _feed(shape: ModelShape, saved: _Saved, tokens: int) -> float:
    return tokens * (saved.wide * shape.hidden + saved.feed * (1 if shape.gated else _PLAIN_FEED) * shape.feed_forward)


def training_bytes(
    shape: ModelShape,
    batch: int,
    source: int,
    target: int = 0,
    bf16: bool = False,
    checkpointing: bool = False,
    trainable: int | None = None,
) -> float:
    """Peak of a training step: weights, gradients, Adam, activations.

    Args:
        batch: examples in memory at a time, all of the longest length.
        trainable: parameters that are trained, where it is not all of them (LoRA).
    """
    trained = shape.parameters if trainable is None else trainable
    weights = ADAM_BYTES * trained + FROZEN_BYTES * (shape.parameters - min(trained, shape.parameters))
    kept = activations(shape, batch, source, target, bf16, checkpointing) + (2 * shape.parameters if bf16 else 0)
    return weights + max(kept, 4 * trained)  # Adam's step has one more tensor of every weight, after the activations


def writing_bytes(shape: ModelShape, batch: int, source: int, written: int, samples: int = 1) -> float:
    """Peak of writing: weights, keys and values of all rows, one layer's work on the prompts, the logits; float32."""
    rows = batch * samples
    layers = shape.decoder_layers or shape.layers
    cache = rows * layers * 2 * shape.kv_inner * 4 * (source + written)
    work = batch * source * 4 * (6 * shape.hidden + 3 * shape.feed_forward + 2 * shape.heads * source)
    return 4 * shape.parameters + cache + work + rows * shape.vocabulary * 4 * 3


@dataclass(frozen=True)
class Fit:
    """How a step's batch goes into memory.

    Attributes:
        batch: examples in memory at a time.
        accumulation: such parts of one step, so that the effective batch is what was asked for.
        bytes: peak that is expected.
    """

    batch: int
    accumulation: int
    checkpointing: bool
    bytes: float


def safe_bytes(memory: float) -> float:
    """What training may use of a device's memory, both in bytes."""
    return SAFE_SHARE * memory - CONTEXT_BYTES


def largest_batch(
    shape: ModelShape,
    effective: int,
    source: int,
    target: int,
    memory: float,
    bf16: bool = False,
    checkpointing: bool | None = None,
    trainable: int | None = None,
    unit: int = 1,
) -> Fit | None:
    """The largest part of a batch that is safe on a device; the rest is accumulated.

    Parts are equal, so the mean over the batch is that of the paper. Checkpointing costs a third more arithmetic and is
    taken only where not even an eighth of the batch goes in without it.

    Args:
        effective: examples of one step, the paper's batch.
        source, target: the longest of each, in tokens.
        memory: of the device, in bytes.
        checkpointing: True or False to have it so; None to choose.
        unit: texts that one example has (a question with its passages), each of the longest length.

    Returns:
        None where a single example is too much even with checkpointing.
    """
    room = safe_bytes(memory)

    def fit(checked: bool) -> Fit | None:
        for batch in (b for b in range(effective, 0, -1) if effective % b == 0):
            size = training_bytes(shape, batch * unit, source, target, bf16, checked, trainable)
            if size <= room:
                return Fit(batch, effective // batch, checked, size)
        return None

    if checkpointing is not None:
        return fit(checkpointing)
    whole = fit(False)
    if whole is not None and 8 * whole.batch >= effective:
        return whole
    return fit(True) or whole
