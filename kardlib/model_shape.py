"""The shape of a model, as far as its cost depends on it, from its configuration alone; no weights are read.

A local folder is asked itself. A name of the hub is looked up in a small table (``data/model_shapes.toml``, the paper's
models), so that a plan needs no network, and asked of the hub only where the table has no such row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from .errors import KardError
from .presets import REPOSITORY
from .toml_file import read_toml

SHAPES_FILE = REPOSITORY / "data" / "model_shapes.toml"
Kind = Literal["seq2seq", "causal", "encoder"]
_PLAIN_ACTIVATIONS = ("opt", "bert", "roberta", "gpt2", "gpt_neo", "gpt_neox", "electra", "distilbert", "bloom")
"""Types whose feed-forward part has two matrices. Those that came after Llama have three, the third being a gate."""


@dataclass(frozen=True)
class ModelShape:
    """Sizes that make up a model's matrices.

    Attributes:
        layers: of the encoder, or all of a causal model's; ``decoder_layers`` is 0 but for seq2seq.
        inner: width of all heads of the attention together; ``kv_inner`` that of keys and values (grouped heads).
        word_width: width of the word embeddings, where it is not ``hidden`` (OPT-350M projects).
        gated: the feed-forward part has three matrices, not two.
        tied: the LM head is the word embedding.
        pooler: an encoder has one more matrix for its first token.
        parameters: all weights, the LM head once where it is tied; exact for T5, OPT and BERT.
    """

    kind: Kind
    vocabulary: int
    hidden: int
    layers: int
    decoder_layers: int
    heads: int
    inner: int
    kv_inner: int
    feed_forward: int
    word_width: int
    gated: bool
    tied: bool
    pooler: bool
    parameters: int


def config_of(name: str) -> Any:
    """The configuration of a model: of a local folder, of the table, or of the hub, in this order.

    Raises:
        KardError: the folder's configuration is broken, or the hub has none or cannot be reached.
    """
    from .models import load_config, locate  # needs torch

    if not Path(locate(name)).is_dir():
        row = _rows().get(name)
        if row is not None:
            from transformers import AutoConfig

            return AutoConfig.for_model(row["model_type"], **row["config"])
    try:
        return load_config(name)
    except KardError as error:
        hint = f"; {SHAPES_FILE.name} can hold its shape" if not Path(locate(name)).is_dir() else ""
        raise KardError(f"{error}{hint}") from None


@lru_cache(maxsize=1)
def _rows() -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(read_toml(SHAPES_FILE).get("model", []), 1):
        lacking = next((n for n in ("name", "model_type", "parameters", "config", "source") if n not in row), None)
        if lacking:
            raise KardError(f"{SHAPES_FILE}: model {number}: field {lacking} is missing")
        for name in (row["name"], *row.get("also", [])):
            rows.setdefault(name, row)
    return rows


def known_shapes() -> dict[str, float]:
    """Names of the table, with the number of parameters that was published, in millions."""
    return {name: float(row["parameters"]) for name, row in _rows().items()}


def shape_of(name: str) -> ModelShape:
    """The shape of a model by name or folder; see :func:`config_of`."""
    return shape_from(config_of(name), name)


def shape_from(config: Any, name: str = "") -> ModelShape:
    """The shape that a configuration of transformers describes.

    Raises:
        KardError: it lacks a size that a transformer has.
    """
    try:
        return _t5(config) if config.model_type in ("t5", "mt5", "umt5") else _others(config)
    except (AttributeError, TypeError) as error:
        about = f"model {name or config.model_type}"
        raise KardError(f"{about}: its configuration is not one of a T5, OPT, BERT or Llama ({error})") from None


def _t5(config: Any) -> ModelShape:
    d, inner, ff, v = config.d_model, config.num_heads * config.d_kv, config.d_ff, config.vocab_size
    gated = bool(config.is_gated_act)
    # transformers ties in every new T5; a checkpoint of v1.1 brings a head of its own, and this tells it apart
    tied = bool(getattr(config, "scale_decoder_outputs", config.tie_word_embeddings))
    attention, feed = 4 * d * inner, (3 if gated else 2) * d * ff
    encoder, decoder = config.num_layers, config.num_decoder_layers
    parameters = encoder * (attention + feed + 2 * d) + decoder * (2 * attention + feed + 3 * d) + 2 * d
    parameters += 2 * config.relative_attention_num_buckets * config.num_heads
    parameters += v * d * (1 if tied else 2)
    return ModelShape(
        "seq2seq", v, d, encoder, decoder, config.num_heads, inner, inner, ff, d, gated, tied, False,
        parameters,
    )  # fmt: skip


def _others(config: Any) -> ModelShape:
    d, heads, kind = config.hidden_size, config.num_attention_heads, config.model_type
    layers, v = config.num_hidden_layers, config.vocab_size
    ff = config.ffn_dim if kind == "opt" else getattr(config, "intermediate_size", None) or 4 * d
    head = getattr(config, "head_dim", None) or d // heads
    kv_inner = (getattr(config, "num_key_value_heads", None) or heads) * head
    encoder = kind in ("bert", "roberta", "electra", "distilbert")
    gated = kind not in _PLAIN_ACTIVATIONS
    word = getattr(config, "word_embed_proj_dim", None) or d
    tied = encoder or bool(config.tie_word_embeddings)
    matrices = 2 * d * heads * head + 2 * d * kv_inner + (3 if gated else 2) * d * ff
    biases = 0 if gated else 4 * d + ff + d  # of the matrices
    parameters = layers * (matrices + biases + (2 if gated else 4) * d) + word * v * (1 if tied else 2)
    if encoder:  # positions, two kinds of text, the norm of the embeddings, the pooler
        parameters += (config.max_position_embeddings + config.type_vocab_size + 2) * d + d * d + d
    elif kind == "opt":  # two positions more; the projections; a norm at the end only where norms come first
        parameters += (config.max_position_embeddings + 2) * d + (2 * d * word if word != d else 0)
        parameters += 2 * d if config.do_layer_norm_before and not config._remove_final_layer_norm else 0
    else:
        parameters += d
    return ModelShape(
        "encoder" if encoder else "causal", v, d, layers, 0, heads, heads * head, kv_inner, ff, word, gated, tied,
        encoder, parameters,
    )  # fmt: skip
