"""Any seq2seq or causal model of transformers is a student: by folder, with its own tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import weights
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    T5Config,
)

from kardlib.generate import Generator
from kardlib.mini import MiniSet
from kardlib.models import is_encoder_decoder, load_student, load_tokenizer, token_counter
from kardlib.prompts import Pair, build_prompt, build_target, question_block
from kardlib.reranker_lora import Lora
from kardlib.student import Hyperparameters, collator, encode_causal, encode_seq2seq
from kardlib.student_fit import Options, fit_student
from kardlib.student_parts import summed_loss

HYPER = Hyperparameters(lr=1e-2, epochs=1, batch=4, source_tokens=120, target_tokens=40)
SIZES = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
GPT2_SIZES = dict(n_embd=32, n_layer=1, n_head=2, n_positions=256)
BART_SIZES = dict(
    d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
    encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=256,
)  # fmt: skip
T5_SIZES = dict(d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, decoder_start_token_id=0)
KINDS: dict[str, tuple[str, Callable[..., object]]] = {
    "t5": ("unigram", lambda **ids: T5Config(**T5_SIZES, **ids)),
    "flan-t5": (
        "unigram",
        lambda **ids: T5Config(**T5_SIZES, feed_forward_proj="gated-gelu", tie_word_embeddings=False, **ids),
    ),
    "bart": ("bytes", lambda **ids: BartConfig(**BART_SIZES, decoder_start_token_id=1, bos_token_id=1, **ids)),
    "opt": ("bytes", lambda **ids: OPTConfig(hidden_size=32, ffn_dim=64, num_hidden_layers=1, num_attention_heads=2,
                                             word_embed_proj_dim=16, max_position_embeddings=256, **ids)),
    "gpt2": ("bytes", lambda **ids: GPT2Config(**GPT2_SIZES, **ids)),
    "llama": ("unigram", lambda **ids: LlamaConfig(**SIZES, num_key_value_heads=1, **ids)),
    "qwen2": ("bytes", lambda **ids: Qwen2Config(**SIZES, num_key_value_heads=1, tie_word_embeddings=True, **ids)),
}  # fmt: skip
"""What cuts a text into tokens, and the configuration of the model."""


def tokenizer_of(kind: str, model: str, texts: list[str]) -> PreTrainedTokenizerFast:
    """Pieces as SentencePiece has them, or byte-level BPE; T5's and BART's end a text, Llama's and OPT's begin it."""
    specials = ["<pad>", "</s>", "<unk>"]
    if kind == "unigram":
        core = Tokenizer(models.Unigram())
        core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        learn = trainers.UnigramTrainer(vocab_size=300, special_tokens=specials, unk_token="<unk>", show_progress=False)
    else:
        core = Tokenizer(models.BPE())
        core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        learn = trainers.BpeTrainer(vocab_size=400, special_tokens=specials, show_progress=False)
    core.train_from_iterator(texts, learn)
    frame = {"t5": "$A </s>", "flan-t5": "$A </s>", "bart": "</s> $A </s>", "llama": "</s> $A", "opt": "</s> $A"}
    if model in frame:
        core.post_processor = processors.TemplateProcessing(single=frame[model], special_tokens=[("</s>", 1)])
    padding = {} if model in ("llama", "gpt2") else {"pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="<unk>", **padding)


@pytest.fixture(scope="module")
def pairs(mini: MiniSet) -> list[Pair]:
    """Eight pairs of uneven length."""
    return [
        Pair(build_prompt(q, [p.text for p in mini.passages[: i % 3]]), build_target(q.answer_text, None))
        for i, q in enumerate(mini.splits["train"][:8])
    ]


@pytest.fixture(scope="module", params=KINDS)
def base(request: pytest.FixtureRequest, pairs: list[Pair], tmp_path_factory: pytest.TempPathFactory) -> str:
    cut, config = KINDS[request.param]
    folder = tmp_path_factory.mktemp("models") / request.param
    tokenizer = tokenizer_of(cut, request.param, [f"{pair.source} {pair.target}" for pair in pairs])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    made = config(vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=1)
    kind = AutoModelForSeq2SeqLM if made.is_encoder_decoder else AutoModelForCausalLM
    kind.from_config(made).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("lora", [None, Lora(2, dropout=0.0)])
def test_it_is_trained_saved_and_writes(base: str, pairs: list[Pair], lora: Lora | None, tmp_path: Path) -> None:
    if lora and Path(base).name in ("gpt2",):
        pytest.skip("one matrix for query, key and value")
    out = tmp_path / "out"
    fit_student(base, pairs, HYPER, 0, out, tmp_path / "work", Options(part=3, lora=lora))
    before, after = weights(Path(base)), weights(out)
    assert before.keys() == after.keys() and any(not torch.equal(before[name], after[name]) for name in before)
    generator = Generator(str(out), HYPER.source_tokens, 8)
    written = generator.greedy([pair.source for pair in pairs])
    assert len(written) == len(pairs) and written == generator.greedy([pair.source for pair in pairs])


@torch.no_grad()
def test_padding_counts_nothing(base: str, pairs: list[Pair]) -> None:
    """The loss of a batch is the sum over its rows, each of which has no padding when it is alone."""
    tokenizer, model = load_tokenizer(base), load_student(base).eval()
    encode = encode_seq2seq if is_encoder_decoder(base) else encode_causal
    rows = [encode(tokenizer, pair, HYPER) for pair in pairs]
    assert len({len(row["input_ids"]) for row in rows}) > 2
    collate = collator(tokenizer)
    alone = [float(summed_loss(model, collate([row]))) for row in rows]
    assert float(summed_loss(model, collate(rows))) == pytest.approx(sum(alone), rel=1e-4)
    labels = torch.tensor([rows[0]["labels"]])
    usual = model(input_ids=torch.tensor([rows[0]["input_ids"]]), labels=labels).loss
    assert alone[0] == pytest.approx(float(usual) * int((labels != -100).sum()), rel=1e-4)


@torch.no_grad()
def test_options_are_scored_as_targets_are_learned(base: str, pairs: list[Pair]) -> None:
    """The mean likelihood of an option's tokens, where training has them: behind whatever opens a target."""
    tokenizer, model = load_tokenizer(base), load_student(base).eval()
    encode = encode_seq2seq if is_encoder_decoder(base) else encode_causal
    options = ["kilalgy", "a much longer option"]
    found = Generator(base, HYPER.source_tokens, 8).option_scores([p.source for p in pairs], [""] * 8, [options] * 8)
    for pair, scores in zip(pairs, found, strict=True):
        for option, score in zip(options, scores, strict=True):
            row = encode(tokenizer, Pair(pair.source, option), HYPER)
            labels = torch.tensor([row["labels"]])
            logits = model(input_ids=torch.tensor([row["input_ids"]]), labels=labels).logits
            if not is_encoder_decoder(base):
                logits, labels = logits[:, :-1], labels[:, 1:]
            each = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[:, :, None])[0, :, 0]
            kept = (labels[0] != -100) & (labels[0] != tokenizer.eos_token_id)
            assert score == pytest.approx(float(each[kept].mean()), abs=1e-3)


def test_a_source_that_is_too_long_loses_passages_and_nothing_else(base: str, mini: MiniSet) -> None:
    """Whatever cuts the text into tokens: the prompt that was made to fit is not cut again."""
    tokenizer, count = load_tokenizer(base), token_counter(base)
    encode = encode_seq2seq if is_encoder_decoder(base) else encode_causal
    passages = [p.text for p in mini.passages[:6]]
    for question in mini.splits["train"][:8]:
        room = count(build_prompt(question)) + 40
        hyper = Hyperparameters(1e-3, 1, 4, room, 40)
        prompt = build_prompt(question, passages, count=count, max_tokens=room)
        row = encode(tokenizer, Pair(prompt, question.answer_text), hyper)
        source = [i for i, label in zip(row["input_ids"], row["labels"], strict=False) if label == -100]
        ids = row["input_ids"] if is_encoder_decoder(base) else source
        told = tokenizer.decode(ids, skip_special_tokens=True)
        whole = tokenizer.decode(
            tokenizer(f"{question_block(question)}\nExplanation:").input_ids, skip_special_tokens=True
        )
        assert len(ids) <= room and told.startswith("Passages: [1]") and told.endswith(whole.strip()[-60:])
        assert question.stem[:20] in told and len(prompt) < len(build_prompt(question, passages))
