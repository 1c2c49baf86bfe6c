"""Operations and parameters from the configuration, beside what torch counts on the models themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from kardlib.errors import KardError
from kardlib.model_flops import example_flops, prompt_flops, written_flops
from kardlib.model_shape import config_of, known_shapes, shape_from, shape_of

T5: dict[str, Any] = dict(
    d_model=16, d_kv=4, d_ff=24, num_layers=3, num_decoder_layers=2, num_heads=2, vocab_size=50, dropout_rate=0.1,
    decoder_start_token_id=0,
)  # fmt: skip
OPT: dict[str, Any] = dict(
    hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=50, word_embed_proj_dim=16,
    max_position_embeddings=40,
)  # fmt: skip
BERT: dict[str, Any] = dict(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=50
)
LLAMA: dict[str, Any] = dict(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=50, tie_word_embeddings=False,
)  # fmt: skip
MODELS = {
    "t5 v1.0": ("t5", T5 | {"feed_forward_proj": "relu"}),
    "t5 v1.1": ("t5", T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "opt": ("opt", OPT),
    "opt that projects": ("opt", OPT | {"word_embed_proj_dim": 8, "do_layer_norm_before": False}),
    "bert": ("bert", BERT),
    "llama": ("llama", LLAMA),
}


def config(name: str) -> Any:
    kind, values = MODELS[name]
    return AutoConfig.for_model(kind, **values)


def model(name: str) -> torch.nn.Module:
    told = config(name)
    kind = {"t5": AutoModelForSeq2SeqLM, "bert": AutoModel}.get(told.model_type, AutoModelForCausalLM)
    return kind.from_config(told, attn_implementation="eager")


def batch(name: str, rows: int, source: int, target: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 50, (rows, source))
    if name == "bert":
        return {"input_ids": ids}
    labels = torch.randint(3, 50, (rows, target))
    return {"input_ids": ids, "labels": labels} if name.startswith("t5") else {"input_ids": torch.cat([ids, labels], 1)}


def counted(call: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def train(one: torch.nn.Module, given: dict[str, torch.Tensor]) -> None:
    out = one(**given)
    loss = out.loss if getattr(out, "loss", None) is not None else out[0].sum()
    if hasattr(out, "pooler_output"):
        loss = loss + out.pooler_output.sum()
    loss.backward()


@pytest.mark.parametrize("name", MODELS)
def test_forward_and_backward_are_what_torch_counts(name: str) -> None:
    one, shape, rows = model(name).train(), shape_from(config(name)), 3
    for source, target in ((7, 5), (11, 2)):
        given, flops = batch(name, rows, source, target), example_flops(shape, source, target if name != "bert" else 0)
        with torch.no_grad():
            assert counted(lambda given=given: one(**given)) == rows * flops.forward
        assert counted(lambda given=given: train(one, given)) == rows * flops.training()


@pytest.mark.parametrize("name", MODELS)
def test_checkpointing_repeats_the_layers(name: str) -> None:
    """Torch stops a repetition once it has what it needs, so the last matrix of a layer may be spared."""
    one, shape = model(name).train(), shape_from(config(name))
    one.gradient_checkpointing_enable({"use_reentrant": False})
    flops, found = example_flops(shape, 7, 5), counted(lambda: train(one, batch(name, 1, 7, 5)))
    if name == "bert":
        flops = example_flops(shape, 7)
    spared = 2 * 12 * shape.hidden * shape.feed_forward * (shape.layers + shape.decoder_layers)
    assert flops.training(checkpointing=True) - spared <= found <= flops.training(checkpointing=True)
    assert found > flops.training()


@pytest.mark.parametrize("name", [name for name in MODELS if name != "bert"])
@pytest.mark.parametrize("samples", [1, 3])
def test_generation_is_what_torch_counts(name: str, samples: int) -> None:
    one, shape = model(name).eval(), shape_from(config(name))
    ids, options = torch.randint(3, 50, (2, 6)), {"do_sample": samples > 1, "num_return_sequences": samples}

    def write() -> None:
        one.generate(ids, attention_mask=torch.ones_like(ids), min_new_tokens=5, max_new_tokens=5, **options)

    assert counted(write) == 2 * (prompt_flops(shape, 6, samples) + written_flops(shape, 6, 5, samples)).forward


@pytest.mark.parametrize("name", [name for name in MODELS if name != "llama"])
def test_parameters_are_those_of_the_model(name: str, tmp_path: Path) -> None:
    one = model(name)
    if name == "t5 v1.1":  # whose checkpoints have a head of their own
        one.lm_head.weight = torch.nn.Parameter(torch.randn_like(one.shared.weight))
        one.save_pretrained(tmp_path)
        one = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    shape = shape_from(one.config)
    assert shape.parameters == sum(weight.numel() for weight in one.parameters())
    assert shape.tied == (name not in ("t5 v1.1",))


def test_another_causal_model_has_about_the_parameters_that_it_has() -> None:
    real = sum(weight.numel() for weight in model("llama").parameters())
    assert shape_from(config("llama")).parameters == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("name", known_shapes())
def test_the_table_comes_to_the_published_number_of_parameters(name: str) -> None:
    assert shape_from(config_of(name)).parameters / 1e6 == pytest.approx(known_shapes()[name], rel=0.02)


def test_a_folder_is_asked_itself(tiny_t5: str, tiny_opt: str, tiny_bert: str) -> None:
    assert [shape_of(folder).kind for folder in (tiny_t5, tiny_opt, tiny_bert)] == ["seq2seq", "causal", "encoder"]
    assert shape_of("google/flan-t5-base").decoder_layers == 12


def test_what_is_no_such_model_is_told_in_one_line() -> None:
    with pytest.raises(KardError, match="model vit: its configuration is not one of"):
        shape_from(AutoConfig.for_model("vit"))
    with pytest.raises(KardError, match="there is no such folder"):
        shape_of("./nowhere")
