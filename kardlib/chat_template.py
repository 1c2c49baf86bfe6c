"""Prompts for causal students: through the model's own chat template where it has one, else as plain text.

A student is trained on the prompts that it is tested with, so both phases lay them out here. A model without a template
goes on writing behind the prompt, and its first word follows a space; a chat model answers in a turn of its own.
"""

from __future__ import annotations

from typing import Any


def has_chat_template(tokenizer: Any) -> bool:
    """Whether a model was made to be talked to."""
    return bool(getattr(tokenizer, "chat_template", None))


def lead(tokenizer: Any) -> str:
    """What stands between a causal student's prompt and what it writes."""
    return "" if has_chat_template(tokenizer) else " "


def causal_prompt(tokenizer: Any, text: str, max_tokens: int) -> list[int]:
    """Ids of a prompt for a causal student, ready to be continued.

    Args:
        text: of the prompt builder, worked examples included; one message of the user where there is a template.
        max_tokens: of the text; a template's own tokens come on top, so that no part of it is ever cut off.
    """
    if not has_chat_template(tokenizer):
        return plain_prompt(tokenizer, text, max_tokens)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    kept = tokenizer.decode(ids[-max_tokens:]) if len(ids) > max_tokens else text
    return tokenizer(chat_text(tokenizer, kept), add_special_tokens=False).input_ids


def plain_prompt(tokenizer: Any, text: str, max_tokens: int) -> list[int]:
    """Ids of a text for a causal student: with the start token that its tokenizer puts, without an end token."""
    ids = tokenizer(text).input_ids
    if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
        ids = ids[:-1]
    return ids[-max_tokens:]


def chat_text(tokenizer: Any, text: str) -> str:
    """A user's message in the model's template, open for the answer.

    The rationale is the student's thinking; a template that knows a thinking mode of its own is told to leave it out.
    """
    message = [{"role": "user", "content": text}]
    return tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, enable_thinking=False)
