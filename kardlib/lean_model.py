"""The same model with less work: replaces modules that hold no weights by quicker ones that compute the same.

Saved folders are as they would be without.
"""

from __future__ import annotations

from torch import nn
from transformers.activations import NewGELUActivation


def lean(model: nn.Module) -> nn.Module:
    """Replace what can be replaced, in place; only float noise tells the results apart."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))  # the same formula in one pass
    return model
