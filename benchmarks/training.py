"""Training a student of Flan-T5-small's shape: examples a second against the authors' way (every source padded to 512
tokens, every target to the longest), and its FLOPs against the machine's own large matrix product.

Random weights; questions and passages of OpenBookQA and of MedQA with MedQuAD, read by a byte-level BPE tokenizer that
is trained on them, as the hub's is not at hand. Both ways train with the same batch, precision and optimiser.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration, Trainer, TrainerCallback

from kardlib.bm25 import BM25
from kardlib.calibration import product_rate
from kardlib.candidates import question_candidates
from kardlib.dataset import DataSet
from kardlib.errors import KardError
from kardlib.lean_model import lean
from kardlib.model_flops import example_flops
from kardlib.model_shape import shape_from
from kardlib.models import device, train_in_bf16
from kardlib.prompts import Pair, build_prompt, build_target
from kardlib.published_sets import read_medqa, read_openbookqa
from kardlib.records import Question
from kardlib.student import Hyperparameters, encode_seq2seq, epoch_orders, training_arguments
from kardlib.student_fit import Options, Task, _trainer
from kardlib.student_parts import Rows

from .rows import Row, row

QUESTIONS = 640
"""Of each set; batches are made of all of them."""
BATCH, PART, STEPS = 32, 8, 3
"""Rows of a step; rows that the authors' way has in memory at a time; steps that are timed."""
PASSAGES, TARGET_WORDS, PADDED = 3, 120, 512
HYPER = Hyperparameters(lr=1e-4, epochs=1, batch=BATCH, source_tokens=PADDED, target_tokens=256)
SHAPE: dict[str, Any] = dict(
    vocab_size=32128, d_model=512, d_kv=64, d_ff=1024, num_layers=8, num_decoder_layers=8, num_heads=6,
    feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0,
)  # fmt: skip

LARGER: dict[str, dict[str, Any]] = {
    "Flan-T5-base": dict(d_model=768, d_ff=2048, num_layers=12, num_decoder_layers=12, num_heads=12),
    "Flan-T5-XL": dict(d_model=2048, d_ff=5120, num_layers=24, num_decoder_layers=24, num_heads=32),
}


def rows() -> list[Row]:
    """The benchmark's rows; about ten minutes on two cores, and some GB of memory."""
    found: list[Row] = []
    for name, texts in (("OpenBookQA", openbookqa), ("MedQA with MedQuAD", medqa)):
        with tempfile.TemporaryDirectory() as folder:
            encoded = encode(texts(QUESTIONS), Path(folder))
            found += rows_of(f"training a student, {name}, {PASSAGES} passages", encoded, folder)
            if torch.cuda.is_available():
                for shape in LARGER:
                    found += gpu_rows(
                        f"{shape}'s shape on {torch.cuda.get_device_name()}, {name}", encoded, folder, shape
                    )
    return found


def rows_of(what: str, encoded: Rows, folder: str) -> list[Row]:
    """Against the authors' way, and against a matrix product in each precision that the device trains in."""
    bf16 = train_in_bf16(new_model())
    ours, theirs = measured(encoded, folder, bf16), measured(encoded, folder, bf16, padded=True)
    against = f"all padded to {PADDED}, targets to the longest"
    found = [row(what, against, ours.examples, theirs.examples, "examples/s", ratio="ours/theirs")]
    found.append(share(what, ours.flops, bf16))
    if bf16:
        found.append(share(what, measured(encoded, folder, False).flops, False))
    return found


def gpu_rows(what: str, encoded: Rows, folder: str, shape: str) -> list[Row]:
    """Tokens a second, share of the product's rate, and memory of a larger student."""
    torch.cuda.reset_peak_memory_stats()
    bf16 = train_in_bf16(new_model())
    ours = measured(encoded, folder, bf16, **LARGER[shape])
    memory = torch.cuda.max_memory_allocated() / 2**30
    return [
        row(f"{what}: tokens that are no padding", "", ours.tokens, None, "tokens/s"),
        share(what, ours.flops, bf16),
        row(f"{what}: largest memory", "", memory, None, "GiB"),
    ]


def share(what: str, flops: float, bf16: bool) -> Row:
    """The row of FLOPs a second against a matrix product's, in the same precision."""
    kind = "bfloat16" if bf16 else "float32"
    top = product_rate(device().type, bf16)
    name = f"{what}: FLOPs of tokens that are no padding, {kind}"
    return row(name, f"a large {kind} matrix product", flops / 1e9, top / 1e9, "GFLOP/s", ratio="ours/theirs")


def now() -> float:
    """Seconds, when the device has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def data_folder(name: str) -> Path:
    """A set's folder in the one that ``KARD_DATA`` names; a KardError where it is not there."""
    folder = Path(os.environ.get("KARD_DATA", "")) / name
    if not folder.is_dir():
        raise KardError(f"KARD_DATA: it names no folder with {name}")
    return folder


def openbookqa(count: int) -> list[Pair]:
    """OpenBookQA's training questions with three facts of its open book; a target is the annotators' fact."""
    data = read_openbookqa(data_folder("openbookqa"))
    return pairs(data, count, lambda q, _: data.annotations[q.id].text)


def medqa(count: int) -> list[Pair]:
    """MedQA's training questions with three paragraphs of MedQuAD; 120 words of the next ones stand for a rationale."""
    return pairs(
        read_medqa(data_folder("medqa")), count, lambda _, more: " ".join(" ".join(more).split()[:TARGET_WORDS])
    )


def pairs(data: DataSet, count: int, rationale: Callable[[Question, list[str]], str]) -> list[Pair]:
    """Prompts with the passages that BM25 finds, whole, and targets."""
    search, found = BM25(data.passages), []
    for question in data.train[:count]:
        texts = [search.texts[i] for i in question_candidates(search, question, 3 * PASSAGES).passages]
        told = rationale(question, texts[PASSAGES:])
        found.append(Pair(build_prompt(question, texts[:PASSAGES]), build_target(question.answer_text, told)))
    return found


def encode(found: Sequence[Pair], folder: Path) -> Rows:
    """Token ids, cut to 512 and 256; the tokenizer is written to the folder."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    specials = ["<pad>", "</s>", "<unk>"]
    learn = trainers.BpeTrainer(vocab_size=32100, special_tokens=specials, show_progress=False)
    core.train_from_iterator([f"{pair.source} {pair.target}" for pair in found], learn)
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    tokenizer.save_pretrained(folder)
    return [encode_seq2seq(tokenizer, pair, HYPER) for pair in found]


def new_model(**shape: Any) -> T5ForConditionalGeneration:
    """Random weights. The output layer's are small, as a trained model's: else its gradients are denormal numbers."""
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(T5Config(**SHAPE | shape))
    with torch.no_grad():
        model.lm_head.weight.mul_(0.05)
    return model.to(device())


@dataclass(frozen=True)
class Speed:
    """What a second brings: examples, their tokens, and FLOPs of these; padding counts nowhere."""

    examples: float
    tokens: float
    flops: float


class Clock(TrainerCallback):
    """Seconds of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._start = now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(now() - self._start)


def measured(encoded: Rows, folder: str, bf16: bool, padded: bool = False, **shape: Any) -> Speed:
    """Speed of the kit's training, or of the authors' way; the first step sets things up and is not timed."""
    model, clock = new_model(**shape), Clock()
    order = epoch_orders([item["length"] for item in encoded], HYPER, 0)
    every = [[encoded[i] for i in order[start : start + BATCH]] for start in range(0, len(order) - BATCH + 1, BATCH)]
    chosen = spread(every, 1 if padded else STEPS)
    batches = [chosen[0], *chosen]
    timed = [item for batch in batches[1:] for item in batch]
    with tempfile.TemporaryDirectory() as work:
        if padded:
            trainer = padded_trainer(model, batches, encoded, Path(work), bf16)
        else:
            task = Task(folder, [r for b in batches for r in b], [], [], HYPER, Options(), 0, Path(work))
            trainer = _trainer(replace(task, order=list(range(len(task.rows)))), lean(model), bf16)
        trainer.add_callback(clock)
        trainer.train()
    like = shape_from(model.config)
    flops = sum(example_flops(like, len(item["input_ids"]), len(item["labels"])).training() for item in timed)
    tokens = sum(item["length"] for item in timed)
    return Speed(*(value / sum(clock.seconds[1:]) for value in (len(timed), tokens, flops)))


def spread(batches: list[Rows], count: int) -> list[Rows]:
    """Some batches, evenly from all: short and long rows in the measure that they are there."""
    ordered = sorted(batches, key=lambda batch: sum(item["length"] for item in batch))
    return [ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count)]


def padded_trainer(model: nn.Module, batches: list[Rows], encoded: Rows, work: Path, bf16: bool) -> Trainer:
    """The authors' way: transformers' trainer, all rows of one width; gradients of parts are accumulated, as a whole
    batch of that width has no room in 16 GB."""
    widest = max(len(item["labels"]) for item in encoded)

    def collate(items: Rows) -> dict[str, Tensor]:
        ids = [item["input_ids"] + [0] * (PADDED - len(item["input_ids"])) for item in items]
        labels = [item["labels"] + [-100] * (widest - len(item["labels"])) for item in items]
        ids = torch.tensor(ids)
        return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": torch.tensor(labels)}

    arguments = training_arguments(replace(HYPER, batch=PART), 0, work, bf16)
    arguments.gradient_accumulation_steps = BATCH // PART
    flat = [item for batch in batches for item in batch]
    return Trainer(model=model, args=arguments, train_dataset=flat, data_collator=collate)
