"""How likely a student finds each option as what comes next; what stands before the options is read once.

A *group* is what a question has written so far, as token ids, and its options behind it. Scores are mean
log-likelihoods of an option's tokens, in nats per token.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers.modeling_outputs import BaseModelOutput

from .padding import mask_of, pad_rows

LOGITS = 2**28
"""Values of a causal model's output layer that are in memory at a time, 1 GiB of them."""
Continuations = tuple[list[int], list[list[int]]]
"""Token ids of what has been written, and of each option behind it."""


@torch.inference_mode()
def seq2seq_scores(
    model: Any, pad: int, sources: Sequence[list[int]], groups: Sequence[Continuations], states: Tensor | None = None
) -> list[list[float]]:
    """Scores of an encoder-decoder; what is written so far must be of one length.

    Args:
        pad: id of the padding token.
        states: of the encoder, shape ``(sources, tokens, width)``, where the sources have been read before.
    """
    device, most = model.device, max(len(rows) for _, rows in groups)
    mask, start = mask_of(sources).to(device), model.generation_config.decoder_start_token_id
    source = (
        {"input_ids": pad_rows(sources, pad, left=False).to(device)}
        if states is None
        else {"encoder_outputs": BaseModelOutput(last_hidden_state=states)}
    )
    begins = torch.tensor([[start, *begin] for begin, _ in groups], device=device)
    read = model(**source, attention_mask=mask, decoder_input_ids=begins, use_cache=True)
    labels = _labels(groups, most).to(device)
    logits = read.logits[:, -1:].repeat_interleave(most, 0)
    if labels.shape[1] > 1:
        read.past_key_values.batch_repeat_interleave(most)
        rest = model(
            encoder_outputs=(read.encoder_last_hidden_state.repeat_interleave(most, 0),),
            attention_mask=mask.repeat_interleave(most, 0),
            decoder_input_ids=labels[:, :-1].masked_fill(labels[:, :-1] < 0, pad),
            past_key_values=read.past_key_values,
        )
        logits = torch.cat([logits, rest.logits], 1)
    return _grouped(_mean_log_likelihoods(logits, labels), groups, most)


@torch.inference_mode()
def causal_scores(
    model: Any, pad: int, sources: Sequence[list[int]], groups: Sequence[Continuations]
) -> list[list[float]]:
    """Scores of a decoder; source, what is written so far and option are one sequence."""
    heads = [[*source, *begin] for source, (begin, _) in zip(sources, groups, strict=True)]
    most, accepted = max(len(rows) for _, rows in groups), inspect.signature(model.forward).parameters
    known = {"position_ids", "past_key_values"} <= set(accepted)
    # so that no more rows are remembered at a time than greedy decoding has of this batch
    part = max(1, len(heads) // most)
    if "logits_to_keep" not in accepted:
        part = min(part, max(1, LOGITS // (max(map(len, heads)) * _vocabulary(model))))
    scores: list[list[float]] = []
    for cut in range(0, len(heads), part):
        some, own = heads[cut : cut + part], groups[cut : cut + part]
        found = _behind_memory(model, pad, some, own, "logits_to_keep" in accepted) if known else None
        scores += whole_scores(model, pad, some, own) if found is None else found
    return scores


def _behind_memory(
    model: Any, pad: int, heads: Sequence[list[int]], groups: Sequence[Continuations], last: bool
) -> list[list[float]] | None:
    """Heads are read once, padded in front, and each option behind them; None where the model's memory has no rows."""
    most, mask = max(len(rows) for _, rows in groups), mask_of(heads, left=True).to(model.device)
    read = model(
        input_ids=pad_rows(heads, pad, left=True).to(model.device),
        attention_mask=mask,
        position_ids=_positions(mask),
        use_cache=True,
        **({"logits_to_keep": 1} if last else {}),
    )
    memory = getattr(read, "past_key_values", None)
    if not hasattr(memory, "batch_repeat_interleave"):
        return None
    labels = _labels(groups, most).to(model.device)
    logits = read.logits[:, -1:].repeat_interleave(most, 0)
    if labels.shape[1] > 1:
        memory.batch_repeat_interleave(most)
        told = labels[:, :-1]
        longer = torch.cat([mask.repeat_interleave(most, 0), torch.ones_like(told)], 1)
        rest = model(
            input_ids=told.masked_fill(told < 0, pad),
            attention_mask=longer,
            position_ids=_positions(longer)[:, mask.shape[1] :],
            past_key_values=memory,
        )
        logits = torch.cat([logits, rest.logits], 1)
    return _grouped(_mean_log_likelihoods(logits, labels), groups, most)


@torch.inference_mode()
def whole_scores(
    model: Any, pad: int, heads: Sequence[list[int]], groups: Sequence[Continuations]
) -> list[list[float]]:
    """The scores of a decoder that remembers nothing: each option is read with all that stands before it."""
    flat = [[*head, *row] for head, (_, rows) in zip(heads, groups, strict=True) for row in rows]
    given = [len(head) for head, (_, rows) in zip(heads, groups, strict=True) for _ in rows]
    part = max(1, LOGITS // (max(map(len, flat)) * _vocabulary(model)))
    scores: list[float] = []
    for cut in range(0, len(flat), part):
        some = flat[cut : cut + part]
        ids, mask = pad_rows(some, pad, left=False).to(model.device), mask_of(some).to(model.device)
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        begun = torch.tensor(given[cut : cut + part], device=model.device)[:, None]
        told = torch.arange(ids.shape[1], device=model.device)[None, :] < begun
        scores += _mean_log_likelihoods(logits, ids.masked_fill((mask == 0) | told, -100)[:, 1:])
    left = iter(scores)
    return [[next(left) for _ in rows] for _, rows in groups]


def _vocabulary(model: Any) -> int:
    return model.config.get_text_config().vocab_size


def _positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(-1) - 1).clamp(min=0)


def _labels(groups: Sequence[Continuations], most: int) -> Tensor:
    """Shape ``(questions * most, tokens)``: every question gets as many rows as the one with most options."""
    return pad_rows([row for _, rows in groups for row in [*rows, *[rows[0]] * (most - len(rows))]], -100, left=False)


def _grouped(scores: Sequence[float], groups: Sequence[Continuations], most: int) -> list[list[float]]:
    """``most`` scores a question as one list each, less those of rows that are no options."""
    return [list(scores[i * most : i * most + len(rows)]) for i, (_, rows) in enumerate(groups)]


def _mean_log_likelihoods(logits: Tensor, labels: Tensor) -> list[float]:
    """Of each row's labels that are not -100, in nats per token.

    Args:
        logits: shape ``(rows, tokens, vocabulary)``.
        labels: shape ``(rows, tokens)``.
    """
    each = torch.zeros(labels.shape, device=labels.device)
    counted = labels >= 0
    each[counted] = -cross_entropy(logits[counted].float(), labels[counted], reduction="none")
    return (each.sum(-1) / counted.sum(-1).clamp(min=1)).tolist()
