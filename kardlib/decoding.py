"""What a ``decoding`` label stands for, whatever a checkpoint's own generation defaults say.

Some checkpoints bring a temperature, a repetition penalty or beams along. ``greedy`` would then mean another thing for
each student of a table; so of a checkpoint's defaults only its special tokens are kept.
"""

from __future__ import annotations

from typing import Any, Literal

from transformers import GenerationConfig

Decoding = Literal["greedy", "vote5"]
VOTES = 5
# The authors' sampling [C].
TOP_K, TOP_P, TEMPERATURE = 50, 0.95, 1.0
SAMPLING: dict[str, Any] = {"do_sample": True, "top_k": TOP_K, "top_p": TOP_P}
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id")


def tokens_alone(config: GenerationConfig) -> GenerationConfig:
    """The same special tokens, and the library's defaults for all else."""
    return GenerationConfig(**{name: getattr(config, name, None) for name in _TOKENS})


def end_tokens(config: GenerationConfig, tokenizer: Any) -> list[int]:
    """Ids that end a text: the tokenizer's, and those that the checkpoint names (a chat model's end of turn)."""
    named = config.eos_token_id
    told = named if isinstance(named, list) else [] if named is None else [named]
    return sorted({tokenizer.eos_token_id, *told} - {None})
