"""The authors' sampling for large vocabularies: a token is drawn among the 50 likeliest, and nothing else is sorted.

The library's own way sorts all of a vocabulary and draws among all of it at each step, which with T5's 32,128 tokens
takes longer than a small student. The distribution is the same; the random numbers are not, so small vocabularies, for
which it makes no difference in time, stay with the library's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.modeling_outputs import BaseModelOutput

from .decoding import TOP_K, TOP_P

LARGE = 10_000
"""Tokens of a vocabulary from which on the library's sampling is left."""


class DrawnToken(LogitsProcessor):
    """Draws the next token of each row and leaves no other, so that the most likely one is what was drawn."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores of shape ``(rows, vocabulary)``: 0 for the token that was drawn, else minus infinity."""
        values, tokens = scores.topk(TOP_K, dim=-1)
        shares = values.softmax(-1)
        behind = shares.flip(-1).cumsum(-1).flip(-1)  # the share of a token and of all that are less likely
        drawn = torch.multinomial(shares.masked_fill(behind <= 1 - TOP_P, 0.0), 1)
        return torch.full_like(scores, -torch.inf).scatter_(-1, tokens.gather(-1, drawn), 0.0)


def draws_itself(model: Any) -> bool:
    """Whether a model's vocabulary is large."""
    return model.config.get_text_config().vocab_size >= LARGE


@torch.inference_mode()
def drawn(model: Any, inputs: Tensor, mask: Tensor, count: int, **options: Any) -> Tensor:
    """Token ids of ``count`` samples for each row of ``inputs``, those of one row together.

    Args:
        inputs, mask: token ids and their attention mask, shape ``(rows, tokens)``.
        options: of ``generate``.
    """
    given: dict[str, Any] = {"attention_mask": mask.repeat_interleave(count, 0)}
    if model.config.is_encoder_decoder:  # a prompt is read once, however many samples it gets
        read = model.get_encoder()(input_ids=inputs, attention_mask=mask).last_hidden_state
        given["encoder_outputs"] = BaseModelOutput(last_hidden_state=read.repeat_interleave(count, 0))
    else:
        given["input_ids"] = inputs.repeat_interleave(count, 0)
    return model.generate(**given, **options, do_sample=False, logits_processor=LogitsProcessorList([DrawnToken()]))
