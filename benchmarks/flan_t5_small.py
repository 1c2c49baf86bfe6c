"""A T5 of Flan-T5-small's shape with random weights, and real prompts for it: OpenBookQA with three passages each.

Its tokenizer is trained on the set's own text, whose words come out about as long as under T5's. The end token's row
of the output layer is zero: it is never among the likeliest, so every text has the full length, as no trained model's
has and as random weights need it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from benchmarks.passages import data_folder
from benchmarks.rows import work
from kardlib.bm25 import BM25
from kardlib.candidates import question_candidates
from kardlib.dataset import DataSet
from kardlib.models import load_config, load_tokenizer
from kardlib.prompts import build_prompt, query_of
from kardlib.published_sets import read_openbookqa

VOCABULARY, END = 32128, 1
SHAPE = {
    "d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_decoder_layers": 8, "num_heads": 6,
    "feed_forward_proj": "gated-gelu", "dropout_rate": 0.1, "pad_token_id": 0, "eos_token_id": END,
    "decoder_start_token_id": 0, "tie_word_embeddings": False,
}  # fmt: skip
PASSAGES, SOURCE_TOKENS = 3, 512


@cache
def openbookqa() -> DataSet:
    """The real set; a KardError where ``KARD_DATA`` names no folder with it."""
    return read_openbookqa(data_folder() / "openbookqa")


def prompts(count: int, folder: Path) -> list[str]:
    """Held-out questions with the three passages that BM25 finds for each, as the kit lays them out.

    Args:
        folder: of the model that will read them.
    """
    data, tokenizer = openbookqa(), load_tokenizer(str(folder))
    search, texts = BM25(data.passages), {p.id: p.text for p in data.passages}
    found = []
    for question in [*data.test, *data.dev][:count]:
        passages = [texts[i] for i in question_candidates(search, question, PASSAGES).passages]
        found.append(build_prompt(question, passages, count=lambda text: len(tokenizer.tokenize(text))))
    return found


def model_folder() -> Path:
    """Where the model is; made where it is not there yet."""
    folder = work() / "flan-t5-small-shape"
    if not (folder / "model.safetensors").is_file():
        torch.manual_seed(0)
        model = T5ForConditionalGeneration(T5Config(vocab_size=VOCABULARY, **SHAPE))
        head = torch.randn_like(model.shared.weight) * SHAPE["d_model"] ** -0.5
        head[END] = 0
        model.lm_head.weight = torch.nn.Parameter(head)  # of its own, as Flan-T5's is
        tokenizer().save_pretrained(folder)
        model.save_pretrained(folder)
    assert load_config(str(folder)).vocab_size == VOCABULARY
    return folder


def tokenizer() -> PreTrainedTokenizerFast:
    """Pieces of words with their space, an end token behind a text."""
    data = openbookqa()
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    specials = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - 28, special_tokens=specials, show_progress=False)
    core.train_from_iterator([*(p.text for p in data.passages), *map(query_of, data.train)], trainer)
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", END)])
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
