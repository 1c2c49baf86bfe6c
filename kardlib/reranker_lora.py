"""LoRA on the reranker's query and value projections, as in the authors' released code; merged when it is trained.

Rank 16, alpha 32, dropout 0.1 are the released code's. A merged reranker is an ordinary model: it loads without peft.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sentence_transformers import CrossEncoder, MultiVectorEncoder

from .errors import KardError

PROJECTIONS = (("query", "value"), ("q_lin", "v_lin"), ("q", "v"), ("q_proj", "v_proj"))
"""What query and value are called in BERT and RoBERTa, DistilBERT, MPNet, and models of later make."""
_HEAD = ("pooler", "classifier")


@dataclass(frozen=True)
class Lora:
    """Low-rank updates of the attention's query and value: W + (alpha / rank) B A."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.1


def add_lora(model: MultiVectorEncoder | CrossEncoder, lora: Lora) -> None:
    """Put the low-rank updates into a model and freeze all else, but for a cross-encoder's head, which is fresh.

    Raises:
        KardError: the backbone calls its projections otherwise, or peft is not installed.
    """
    try:
        from peft import LoraConfig
    except ImportError:
        raise KardError("LoRA needs the package peft: pip install peft") from None
    head = [name for name in _HEAD if isinstance(model, CrossEncoder) and _has(model, name)]
    model.add_adapter(
        LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(projections(model)),
            modules_to_save=head or None,
        )
    )


def projections(model: Any) -> tuple[str, str]:
    """What the backbone calls its query and value projections."""
    for pair in PROJECTIONS:
        if all(_has(model, name) for name in pair):
            return pair
    raise KardError(
        f"LoRA: {type(model.transformers_model).__name__} has no query and value projections that are known"
    )


def merge_lora(model: MultiVectorEncoder | CrossEncoder) -> None:
    """Add the trained updates to the weights and take the adapter out, so that saving and loading are plain again."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    body = model.transformers_model
    for name, module in list(body.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            _put(body, name, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):
            _put(body, name, module.modules_to_save[module.active_adapters[0]])
    body._hf_peft_config_loaded = False  # or only the adapter would be saved
    del body.peft_config
    model.requires_grad_(True)


def trained_share(model: MultiVectorEncoder | CrossEncoder) -> float:
    """Share of the weights that training moves."""
    counts = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    return sum(n for n, moved in counts if moved) / sum(n for n, _ in counts)


def _has(model: Any, name: str) -> bool:
    return any(module.rpartition(".")[2] == name for module, _ in model.named_modules())


def _put(body: Any, name: str, module: Any) -> None:
    parent, _, last = name.rpartition(".")
    setattr(body.get_submodule(parent), last, module)
