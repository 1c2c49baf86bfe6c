"""The shipped base models: their shapes, their pre-training, their cards.

They play Flan-T5 (``mini-t5-*``), OPT (``mini-opt``) and LinkBERT (``mini-bert``). ``mini-t5-large`` and ``-xl`` are
grown from ``mini-t5-base``: added layers, heads and hidden units start with zero output, so that at first a grown model
computes what the smaller one did; then it is trained on.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import BertConfig, BertForMaskedLM, OPTConfig, OPTForCausalLM, T5Config, T5ForConditionalGeneration

from .errors import KardError
from .mini_tokenizer import Role, make_tokenizer
from .models import load_student
from .names import Inventory
from .presets import MODELS_DIR
from .pretrain import Example, WorldStream
from .store import atomic_write


@dataclass(frozen=True)
class Phase:
    """A stretch of pre-training.

    Attributes:
        steps: optimiser steps; the learning rate rises over the first 300 at most and then falls linearly to 5 %.
        names: the inventory of names (see :mod:`kardlib.names`).
        keep: share of the encoder's chosen places that show their own token instead of a mask: it makes the vectors of
            unmasked tokens hold what the token is, without which late interaction cannot match names.
        tasks: mini sets that its worlds ask about.
        warm: whether it starts with the easy stages of the stream: copying, then one or two passages.
    """

    steps: int
    lr: float
    names: Inventory = "pretraining"
    tasks: tuple[str, ...] = ("mini-medqa",)
    warm: bool = False
    keep: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """How one base model is made.

    Attributes:
        layers: of the encoder, and as many of the decoder.
        grown_from: name of the model that it starts from, or None for random weights.
        phases: run one after the other, each with its own schedule.
    """

    role: Role
    layers: int
    heads: int
    hidden: int
    phases: tuple[Phase, ...]
    grown_from: str | None = None
    batch: int = 48
    seed: int = 7
    width: int = 128


_ALL_SETS = ("mini-strategyqa", "mini-medqa", "mini-openbookqa")
_GROWN = (Phase(400, 7e-4, tasks=_ALL_SETS),)
RECIPES: dict[str, Recipe] = {
    "mini-t5-base": Recipe(
        "seq2seq",
        layers=2,
        heads=4,
        hidden=512,
        phases=(Phase(5000, 2e-3, "narrow", warm=True), Phase(2400, 1e-3), Phase(2000, 1.5e-3, tasks=_ALL_SETS)),
    ),
    "mini-t5-large": Recipe("seq2seq", layers=3, heads=6, hidden=768, phases=_GROWN, grown_from="mini-t5-base"),
    "mini-t5-xl": Recipe("seq2seq", layers=4, heads=8, hidden=1024, phases=_GROWN, grown_from="mini-t5-base"),
    "mini-opt": Recipe(
        "causal",
        layers=4,
        heads=4,
        hidden=512,
        phases=(Phase(2400, 2e-3, warm=True),),
    ),
    "mini-bert": Recipe(
        "encoder", layers=2, heads=4, hidden=512, phases=(Phase(2000, 2e-3), Phase(1000, 1e-3, keep=0.4))
    ),
}


def new_model(recipe: Recipe) -> nn.Module:
    """A model of the recipe's shape with random weights."""
    torch.manual_seed(recipe.seed)
    size = len(make_tokenizer(recipe.role))
    if recipe.role == "seq2seq":
        config = T5Config(
            vocab_size=size, d_model=recipe.width, d_kv=32, d_ff=recipe.hidden, num_layers=recipe.layers,
            num_decoder_layers=recipe.layers, num_heads=recipe.heads, dropout_rate=0.0, pad_token_id=0,
            eos_token_id=1, decoder_start_token_id=0,
        )  # fmt: skip
        return T5ForConditionalGeneration(config)
    if recipe.role == "causal":
        config = OPTConfig(
            vocab_size=size, hidden_size=recipe.width, word_embed_proj_dim=recipe.width, ffn_dim=recipe.hidden,
            num_hidden_layers=recipe.layers, num_attention_heads=recipe.heads, dropout=0.0, attention_dropout=0.0,
            max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=1, init_std=0.05,
        )  # fmt: skip
        return OPTForCausalLM(config)
    config = BertConfig(
        vocab_size=size, hidden_size=recipe.width, intermediate_size=recipe.hidden, num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=0,
        max_position_embeddings=512, initializer_range=0.05,
    )  # fmt: skip
    return BertForMaskedLM(config)


def grow(small: nn.Module, large: nn.Module) -> nn.Module:
    """Copy a T5 into a deeper and wider-hidden one so that both compute the same function."""
    state = large.state_dict()
    old = small.state_dict()
    for name, value in state.items():
        output = name.endswith(("Attention.o.weight", "DenseReluDense.wo.weight"))
        if output:
            value.zero_()
        if name in old:
            value[tuple(slice(0, n) for n in old[name].shape)] = old[name]
    large.load_state_dict(state)
    return large


def batches(recipe: Recipe, number: int = 0, pool: int = 24) -> Iterator[dict[str, Tensor]]:
    """Endless batches of about equal length: a pool of examples is sorted by length and cut.

    Args:
        number: of the phase.
        pool: batches in a pool.
    """
    phase = recipe.phases[number]
    tokenizer = make_tokenizer(recipe.role)
    encode: dict[Role, Callable[[list[Example], Any, random.Random], dict[str, Tensor]]] = {
        "seq2seq": _seq2seq_batch,
        "causal": _causal_batch,
        "encoder": partial(_masked_batch, keep=phase.keep),
    }
    rng = random.Random(recipe.seed + number)
    total = phase.steps * recipe.batch if phase.warm else 0
    seed = recipe.seed + 100 * number + sum(map(ord, recipe.role))
    stream = iter(WorldStream(seed, copying=total // 8, easy=total // 4, names=phase.names, tasks=phase.tasks))
    while True:
        examples = list(itertools.islice(stream, recipe.batch * pool))
        examples.sort(key=lambda example: len(example.source))
        cuts = list(range(0, len(examples), recipe.batch))
        rng.shuffle(cuts)
        for cut in cuts:
            yield encode[recipe.role](examples[cut : cut + recipe.batch], tokenizer, rng)


def _seq2seq_batch(examples: list[Example], tokenizer: Any, rng: random.Random) -> dict[str, Tensor]:
    source = tokenizer([e.source for e in examples], padding=True, return_tensors="pt")
    labels = tokenizer([e.target for e in examples], padding=True, return_tensors="pt").input_ids
    labels[labels == tokenizer.pad_token_id] = -100
    return {"input_ids": source.input_ids, "attention_mask": source.attention_mask, "labels": labels}


def _causal_batch(examples: list[Example], tokenizer: Any, rng: random.Random) -> dict[str, Tensor]:
    texts = [f"{e.source} {e.target}{tokenizer.eos_token}" for e in examples]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    starts = torch.tensor([len(ids) for ids in tokenizer([e.source for e in examples]).input_ids])
    told = batch.attention_mask.cumsum(1) <= starts[:, None]  # what is given: question, passages
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": labels, "told": told}


def _masked_batch(examples: list[Example], tokenizer: Any, rng: random.Random, keep: float) -> dict[str, Tensor]:
    batch = tokenizer([e.source for e in examples], padding=True, return_tensors="pt")
    draw = torch.rand(batch.input_ids.shape, generator=torch.Generator().manual_seed(rng.randrange(2**31)))
    masked = (draw < 0.2) & (batch.attention_mask == 1) & (batch.input_ids >= 6)
    labels = batch.input_ids.masked_fill(~masked, -100)
    hidden = masked & (draw < 0.2 * (1 - keep))
    inputs = batch.input_ids.masked_fill(hidden, tokenizer.mask_token_id)
    return {"input_ids": inputs, "attention_mask": batch.attention_mask, "labels": labels}


def pretrain(name: str, out: Path | None = None, log: Callable[[str], None] = print) -> Path:
    """Make one base model and write it with its tokenizer and its card.

    Args:
        name: a key of ``RECIPES``.
        out: folder for the model; ``data/models/<name>`` by default.

    Raises:
        KardError: the name is unknown, or the model that it grows from is not there.
    """
    if name not in RECIPES:
        raise KardError(f"{name}: no such base model (there are {', '.join(RECIPES)})")
    recipe = RECIPES[name]
    folder = Path(out or MODELS_DIR / name)
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)  # known before, not after, the long work
    except OSError as error:
        raise KardError(f"{folder}: cannot be written ({error.strerror})") from None
    model = new_model(recipe)
    if recipe.grown_from:
        model = grow(load_student(str(MODELS_DIR / recipe.grown_from)).cpu(), model)
    started, losses = time.time(), []
    for number in range(len(recipe.phases)):
        losses += _fit(model, recipe, number, log)
    model.to(torch.bfloat16).save_pretrained(partial)
    make_tokenizer(recipe.role).save_pretrained(partial)
    with atomic_write(partial / "README.md") as file:
        file.write(_card(name, recipe, model, losses, time.time() - started))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
    return folder


def _fit(model: nn.Module, recipe: Recipe, number: int, log: Callable[[str], None]) -> list[tuple[int, int, float]]:
    """Train one phase; rows of phase, step and the mean loss since the row before."""
    phase = recipe.phases[number]
    optimizer = torch.optim.AdamW(model.parameters(), phase.lr, betas=(0.9, 0.98), weight_decay=0.01)
    warm, last = min(300, phase.steps // 4), phase.steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, 0.05 + 0.95 * max(0, last - step) / max(1, last - warm))
    )
    rows: list[tuple[int, int, float]] = []
    recent: list[float] = []
    model.train()
    data = itertools.islice(batches(recipe, number), last)
    for step, batch in tqdm(enumerate(data, 1), total=last, mininterval=30):
        loss = _loss(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        recent.append(loss.item())
        if step % max(1, last // 10) == 0:
            rows.append((number + 1, step, sum(recent) / len(recent)))
            recent = []
            log(f"phase {number + 1}, step {step}: loss {rows[-1][2]:.3f}")
    return rows


def _loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The model's own loss; for the encoder computed at the masked places only, which halves the work.

    For a causal model the mean over the target plus half the mean over what is given: the given text is seven times as
    long and can mostly not be predicted, since its world is new.
    """
    if isinstance(model, OPTForCausalLM):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        labels, told = batch["labels"][:, 1:], batch["told"][:, 1:]
        each = nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        return each[~told & (labels >= 0)].mean() + 0.5 * each[told & (labels >= 0)].mean()
    if not isinstance(model, BertForMaskedLM):
        return model(**batch).loss
    hidden = model.bert(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    masked = batch["labels"] >= 0
    return nn.functional.cross_entropy(model.cls(hidden[masked]), batch["labels"][masked])


def _card(name: str, recipe: Recipe, model: nn.Module, losses: list[tuple[int, int, float]], seconds: float) -> str:
    count = sum(p.numel() for p in model.parameters())
    curve = "\n".join(f"| {phase} | {step} | {loss:.3f} |" for phase, step, loss in losses)
    shape = json.dumps(asdict(recipe), indent=1)
    tasks = (
        "Masked language modelling on passages and questions only."
        if recipe.role == "encoder"
        else "Half of the examples with passages found by BM25, a quarter without, a quarter with a rationale to read."
    )
    counted = ": over the target, plus half of that over what is given" if recipe.role == "causal" else ""
    return f"""# {name}

A base model of the KARD kit, made by `kard pretrain {name}`. It plays a role in the mini world and is of no other use.

- Architecture: {type(model).__name__}, {count / 1e6:.2f} million parameters, stored in bfloat16.
- Data: an endless stream of invented clinics (`kardlib/pretrain.py`) whose names share no name with any world that
  the kit reports. {tasks}
- Seed {recipe.seed}; {seconds / 60:.0f} minutes with {torch.get_num_threads()} thread(s), torch {torch.__version__}.
- Licence: MIT, like the kit.

Recipe:

```json
{shape}
```

| phase | step | mean loss since the row above{counted} |
|---|---|---|
{curve}
"""
