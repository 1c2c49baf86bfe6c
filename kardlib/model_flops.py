"""Floating-point operations of a model on non-padding tokens: matrices, attention and LM head, nothing else.

One multiplication and one addition are two operations, as everywhere. What is left out (norms, softmax, embeddings,
activations, the optimizer) is below one percent at the width of a real model, and costs time but not arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

from .model_shape import ModelShape


@dataclass(frozen=True)
class Flops:
    """Operations of a forward pass, by where they fall.

    Attributes:
        layers: in the layers; with gradient checkpointing these come a second time.
        head: in the LM head, projections of the embeddings and the pooler, which are outside the layers.
    """

    layers: float
    head: float

    @property
    def forward(self) -> float:
        return self.layers + self.head

    def training(self, checkpointing: bool = False) -> float:
        """Forward, and backward with twice as much; with checkpointing the layers once more."""
        return 3 * self.forward + (self.layers if checkpointing else 0)

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.layers + other.layers, self.head + other.head)

    def __mul__(self, times: float) -> Flops:
        return Flops(self.layers * times, self.head * times)


def example_flops(shape: ModelShape, source: float, target: float = 0) -> Flops:
    """One training example.

    Args:
        source: tokens of the prompt, or of a text for an encoder.
        target: tokens to be learned. A causal model reads them behind the source, in one sequence.
    """
    if shape.kind == "seq2seq":
        layers = shape.layers * _encoder_layer(shape, source) + shape.decoder_layers * _decoder_layer(
            shape, source, target
        )
        return Flops(layers, _head(shape, target))
    tokens = source + target
    layers = shape.layers * _encoder_layer(shape, tokens)
    if shape.kind == "encoder":
        return Flops(layers, 2 * shape.hidden * shape.hidden if shape.pooler else 0)
    return Flops(layers, _projections(shape, tokens) + _head(shape, tokens))


def prompt_flops(shape: ModelShape, source: float, samples: int = 1) -> Flops:
    """Reading the prompt, before the first token is written. A causal model reads it once for every sample.

    Args:
        source: tokens of the prompt; an encoder reads it once for all samples.
    """
    if shape.kind == "seq2seq":
        crossed = shape.decoder_layers * 4 * source * shape.hidden * shape.kv_inner * samples  # keys, values
        return Flops(shape.layers * _encoder_layer(shape, source) + crossed, 0)
    layers = shape.layers * _encoder_layer(shape, source)
    return Flops(layers, _projections(shape, source) + _head(shape, 1)) * samples


def written_flops(shape: ModelShape, source: float, written: float, samples: int = 1) -> Flops:
    """The tokens that are written one by one, with a cache of keys and values: each reads all before it, and only the
    last position has a head. Of a causal model the first comes with the prompt.

    Args:
        written: tokens of one sample, the end token included.
    """
    d, feed = shape.hidden, _feed_forward(shape)
    if shape.kind == "seq2seq":
        seen = written * (written + 1) / 2
        one = 2 * d * (2 * shape.inner + 2 * shape.kv_inner) + feed + 4 * d * shape.inner  # cross: query and output
        layers = shape.decoder_layers * (written * one + 4 * shape.inner * (seen + written * source))
        return Flops(layers, _head(shape, written)) * samples
    steps = max(written - 1, 0)
    seen = steps * source + steps * (steps + 1) / 2
    one = 2 * d * (2 * shape.inner + 2 * shape.kv_inner) + feed
    layers = shape.layers * (steps * one + 4 * shape.inner * seen)
    return Flops(layers, _projections(shape, steps) + _head(shape, steps)) * samples


def _attention(shape: ModelShape, queries: float, keys: float) -> float:
    """The four matrices, and scores and sums of all pairs (a causal mask spares nothing in transformers)."""
    matrices = 2 * shape.hidden * (2 * queries * shape.inner + 2 * keys * shape.kv_inner)
    return matrices + 4 * queries * keys * shape.inner


def _feed_forward(shape: ModelShape) -> float:
    """Of one token."""
    return 2 * shape.hidden * shape.feed_forward * (3 if shape.gated else 2)


def _encoder_layer(shape: ModelShape, tokens: float) -> float:
    return _attention(shape, tokens, tokens) + tokens * _feed_forward(shape)


def _decoder_layer(shape: ModelShape, source: float, target: float) -> float:
    own, crossed = _attention(shape, target, target), _attention(shape, target, source)
    return own + crossed + target * _feed_forward(shape)


def _projections(shape: ModelShape, tokens: float) -> float:
    """From the width of the word embeddings to that of the layers, and back."""
    return 0 if shape.word_width == shape.hidden else 4 * tokens * shape.hidden * shape.word_width


def _head(shape: ModelShape, tokens: float) -> float:
    return 2 * tokens * shape.word_width * shape.vocabulary
