"""The one tokenizer of the shipped models: WordPiece over the mini world's syllables, with pieces for other text."""

from __future__ import annotations

import re
import string
from typing import Literal

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from . import prompts, wording
from .names import KINDS, MORE_SYLLABLES, NARROW_SYLLABLES, endings

SPECIALS = ("<pad>", "</s>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
Role = Literal["seq2seq", "causal", "encoder"]


def vocabulary() -> list[str]:
    """Specials, name syllables and endings, the templates' words, and one- and two-letter pieces for all else."""
    letters = string.ascii_lowercase
    tokens = [*SPECIALS, *NARROW_SYLLABLES, *(f"##{tail}" for kind in KINDS for tail in endings(kind))]
    tokens += _template_words()
    tokens += [*string.punctuation, *string.digits, *letters]
    tokens += [f"##{c}" for c in string.digits + letters]
    tokens += [mark + a + b for mark in ("", "##") for a in letters for b in letters]
    return list(dict.fromkeys([*tokens, *MORE_SYLLABLES]))


def _template_words() -> list[str]:
    texts: list[str] = [*prompts.CUES.values(), prompts.ANSWER_MARK, "Question Options Passages"]
    for name in vars(wording):
        value = getattr(wording, name)
        if name.startswith("_") and name.isupper():
            groups = value.values() if isinstance(value, dict) else [value]
            texts += [text for group in groups for text in group]
    return sorted({word for text in texts for word in re.findall(r"[a-z]{2,}", re.sub(r"{\w+}", " ", text).lower())})


def make_tokenizer(role: Role) -> PreTrainedTokenizerFast:
    """The tokenizer with the special tokens that a kind of model expects around its text.

    T5-style models get ``</s>`` at the end, OPT-style ``</s>`` at the start, BERT-style ``[CLS] … [SEP]``.
    """
    ids = {token: i for i, token in enumerate(vocabulary())}
    core = Tokenizer(models.WordPiece(ids, unk_token="<unk>", max_input_chars_per_word=60))
    core.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=True)]
    )
    core.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    frame = {"seq2seq": "$A </s>", "causal": "</s> $A", "encoder": "[CLS] $A [SEP]"}[role]
    used = [token for token in SPECIALS if token in frame.split()]
    core.post_processor = processors.TemplateProcessing(
        single=frame,
        pair=frame.replace("$A", "$A [SEP] $B" if role == "encoder" else "$A $B"),
        special_tokens=[(token, ids[token]) for token in sorted({*used, "[SEP]"})],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        padding_side="left" if role == "causal" else "right",
        model_max_length=512,
    )
