"""The same student with less work in training: modules without weights give way to quicker ones of the same function.

GELU's tanh form in one pass instead of eight; on a CPU also dropout (:mod:`kardlib.quick_dropout`) and, for T5, the
attention (:mod:`kardlib.quick_attention`). Saved folders are as they would be without.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.activations import NewGELUActivation

from .quick_attention import QUICK
from .quick_dropout import QuickDropout

_KINDS = ("t5", "mt5", "umt5")


def lean(model: Any) -> Any:
    """Replace what can be replaced, in place; without dropout, only float noise tells the results apart."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))
            elif on_cpu and type(child) is nn.Dropout:
                setattr(module, name, QuickDropout(child.p))
    if on_cpu and model.config.model_type in _KINDS:
        model.set_attn_implementation(QUICK)
    return model
