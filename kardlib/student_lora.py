"""LoRA for a student: low-rank updates of the attention's query and value, merged into the saved weights.

Rank, alpha and dropout are those that the authors' code has for its reranker; for students it has none. Our choice.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from .errors import KardError
from .model_shape import ModelShape
from .reranker_lora import PROJECTIONS, Lora


def lora_parameters(shape: ModelShape, lora: Lora) -> int:
    """Weights of the updates: two narrow matrices for each query and each value."""
    attentions = shape.layers + 2 * shape.decoder_layers
    return attentions * lora.rank * (2 * shape.hidden + shape.inner + shape.kv_inner)


def with_lora(model: PreTrainedModel, lora: Lora) -> Any:
    """The model with low-rank updates, all else frozen; ``merge_and_unload`` gives the plain model back.

    Raises:
        KardError: the model calls its projections otherwise, or peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise KardError("student_lora needs the package peft: pip install peft") from None
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    pair = next((pair for pair in PROJECTIONS if names.issuperset(pair)), None)
    if pair is None:
        raise KardError(f"student_lora: {type(model).__name__} has no query and value projections that are known")
    kind = "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(pair), task_type=kind
    )
    return get_peft_model(model, config)
