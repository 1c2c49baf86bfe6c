"""Memory of training, beside the tensors that autograd really saves; and the batch that goes into it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from kardlib.model_shape import shape_from, shape_of
from kardlib.training_memory import activations, largest_batch, safe_bytes, training_bytes, writing_bytes

WORDS = 61
T5: dict[str, Any] = dict(num_heads=4, vocab_size=WORDS, dropout_rate=0.1, decoder_start_token_id=0)
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gated t5": ("t5", T5 | dict(d_model=64, d_kv=16, d_ff=128, num_layers=3, feed_forward_proj="gated-gelu")),
    "plain t5": ("t5", T5 | dict(d_model=32, d_kv=8, d_ff=96, num_layers=2, feed_forward_proj="relu")),
    "opt": ("opt", dict(hidden_size=64, word_embed_proj_dim=64, ffn_dim=192, num_hidden_layers=3, vocab_size=WORDS,
                        num_attention_heads=4, max_position_embeddings=200)),
    "bert": ("bert", dict(hidden_size=64, intermediate_size=192, num_hidden_layers=3, num_attention_heads=4,
                          vocab_size=WORDS)),
}  # fmt: skip


def saved_bytes(one: torch.nn.Module, given: dict[str, torch.Tensor], bf16: bool) -> int:
    """Bytes of all that autograd keeps after a forward pass, weights and their copies in bfloat16 aside."""
    known = {weight.untyped_storage().data_ptr() for weight in one.parameters()}
    copies = {tuple(w.shape) for w in one.parameters()} | {tuple(w.T.shape) for w in one.parameters() if w.dim() == 2}
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        store = tensor.untyped_storage()
        copied = bf16 and tensor.dtype == torch.bfloat16 and tuple(tensor.shape) in copies
        if store.data_ptr() not in known and not copied:
            seen[store.data_ptr()] = store.nbytes()
        return tensor

    arithmetic = torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), arithmetic:
        out = one(**given)
        kept = out  # what is kept must not be freed, or another tensor takes its place in memory
    del kept
    return sum(seen.values())


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_activations_bound_what_autograd_saves(name: str, bf16: bool, attention: str) -> None:
    kind, values = MODELS[name]
    config = AutoConfig.for_model(kind, **values)
    maker = {"t5": AutoModelForSeq2SeqLM, "opt": AutoModelForCausalLM, "bert": AutoModel}[kind]
    one = maker.from_config(config, attn_implementation=attention).train()
    for batch, source, target in ((4, 56, 12), (2, 24, 30)):
        ids, labels = torch.randint(3, WORDS, (batch, source)), torch.randint(3, WORDS, (batch, target))
        given = {"input_ids": ids} if kind == "bert" else {"input_ids": ids, "labels": labels}
        if kind == "opt":
            given = {"input_ids": (both := torch.cat([ids, labels], 1)), "labels": both}
        given["attention_mask"] = torch.ones_like(given["input_ids"])
        found = saved_bytes(one, given, bf16)
        told = activations(shape_from(config), batch, source, 0 if kind == "bert" else target, bf16)
        assert found <= told <= 2.5 * found, (batch, told / found)


def test_checkpointing_keeps_less_and_a_batch_more() -> None:
    shape = shape_of("google/flan-t5-base")
    whole, less = (activations(shape, 8, 512, 256, checkpointing=checked) for checked in (False, True))
    assert less < whole / 3
    assert activations(shape, 16, 512, 256) == pytest.approx(2 * whole)
    assert activations(shape, 8, 512, 256, bf16=True) < whole


def test_weights_gradients_and_adam_are_sixteen_bytes_a_parameter() -> None:
    shape = shape_of("google/flan-t5-xl")
    nothing = training_bytes(shape, 0, 0)
    assert nothing == pytest.approx((16 + 4) * shape.parameters)
    few = training_bytes(shape, 0, 0, trainable=10**7)
    assert 4 * shape.parameters < few < 5 * shape.parameters


def test_the_largest_batch_divides_the_papers_and_one_more_part_would_not_go_in() -> None:
    shape = shape_of("google/flan-t5-large")
    for memory in (20e9, 40e9, 80e9):
        fit = largest_batch(shape, 32, 512, 256, memory, bf16=True)
        assert fit is not None and fit.batch * fit.accumulation == 32
        assert fit.bytes == training_bytes(shape, fit.batch, 512, 256, True, fit.checkpointing) <= safe_bytes(memory)
        if fit.batch < 32:
            assert training_bytes(shape, 2 * fit.batch, 512, 256, True, fit.checkpointing) > safe_bytes(memory)


def test_more_memory_never_means_a_smaller_batch_for_one_kind_of_training() -> None:
    shape = shape_of("google/flan-t5-base")
    for checked in (False, True):
        fits = [largest_batch(shape, 32, 512, 256, size * 1e9, checkpointing=checked) for size in range(4, 100, 4)]
        batches = [fit.batch if fit else 0 for fit in fits]
        assert batches == sorted(batches) and batches[0] < batches[-1]


def test_what_does_not_go_in_at_all_is_none() -> None:
    assert largest_batch(shape_of("google/flan-t5-xl"), 32, 512, 256, 24e9, bf16=True) is None
    assert largest_batch(shape_of("google/flan-t5-xl"), 32, 512, 256, 24e9, bf16=True, trainable=10**7) is not None


def test_writing_takes_its_cache_for_every_sample() -> None:
    shape = shape_of("google/flan-t5-base")
    one, five = (writing_bytes(shape, 8, 512, 256, samples) for samples in (1, 5))
    cache = 8 * shape.decoder_layers * 2 * shape.inner * 4 * (512 + 256)
    assert five - one == pytest.approx(4 * (cache + 8 * shape.vocabulary * 12))
    assert writing_bytes(replace(shape, parameters=0), 0, 0, 0) == 0
