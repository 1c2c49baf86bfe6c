"""Tiny random checkpoints as their publishers lay them out: T5 1.1 and Flan-T5, and both kinds of OPT."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import OPTConfig, OPTForCausalLM, T5Config, T5ForConditionalGeneration

from kardlib.mini_tokenizer import make_tokenizer


def save_t5_v1_1(folder: Path, heads: int = 3, scale: float = 3.0) -> str:
    """Gated GELU, an output layer of its own that is not scaled, and heads that are not width / d_kv in number."""
    tokenizer = make_tokenizer("seq2seq")
    config = {
        "architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "vocab_size": len(tokenizer),
        "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 1, "num_decoder_layers": 1, "num_heads": heads,
        "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "dropout_rate": 0.1, "eos_token_id": 1,
        "pad_token_id": 0, "decoder_start_token_id": 0, "is_encoder_decoder": True, "initializer_factor": 1.0,
        "relative_attention_num_buckets": 32, "layer_norm_epsilon": 1e-6, "use_cache": True,
    }  # fmt: skip
    torch.manual_seed(7)
    model = T5ForConditionalGeneration(T5Config(**{k: v for k, v in config.items() if k != "architectures"}))
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
        weights.pop(name)
    for name, tensor in weights.items():
        if tensor.dim() > 1 and name != "shared.weight":
            weights[name] = tensor * scale
    weights["lm_head.weight"] = torch.randn_like(weights["shared.weight"]) / 4
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save_pretrained(folder)
    return str(folder)


def save_opt(folder: Path, small: bool) -> str:
    """``small``: as OPT-350M, with embeddings narrower than the layers and norms behind them; else as OPT-IML-1.3B."""
    tokenizer = make_tokenizer("causal")
    torch.manual_seed(5)
    config = OPTConfig(
        vocab_size=len(tokenizer), hidden_size=32, word_embed_proj_dim=16 if small else 32, ffn_dim=48,
        num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=512, do_layer_norm_before=not small,
        pad_token_id=0, bos_token_id=1, eos_token_id=1, init_std=0.3,
    )  # fmt: skip
    OPTForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
