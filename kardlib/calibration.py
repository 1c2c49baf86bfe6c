"""A few seconds on the user's own device: how fast large matrices are, and which share of that a real step reaches.

The step is one of the model's own shape with random weights, so no checkpoint is needed: forward, backward,
clipping and Adam as in training, then a prompt and some written tokens. Where the whole model would take too long
or too much memory it has fewer layers of the same width. What was measured is kept in the folder of the runs, and
measured again on another device, with another shape, another torch or prompts of quite another length.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from .devices import OwnDevice, own_device
from .model_flops import example_flops, prompt_flops, written_flops
from .model_shape import ModelShape, config_of, shape_from
from .presets import runs_root
from .records import Record
from .store import atomic_write, fingerprint
from .training_memory import safe_bytes, training_bytes, writing_bytes

STEP_SECONDS = 2.0
"""Longest step that is measured, as far as it can be told beforehand; a smaller batch or fewer layers otherwise."""
MEASURED_STEPS = 3
WRITTEN = 8
"""Tokens that are written to measure one."""
_GUESSED_SHARE = 0.3
_FEW = 4
"""Tokens of a pass that is all overhead."""
_EXAMPLES = 4
"""Examples that a step should have, before it may have more layers."""
_MEMORY_SHARE = 0.25


class Rates(Record):
    """What a device does with models of one shape.

    Attributes:
        device, model: by name; ``measured`` is the day, ``torch`` the version.
        bf16: training's arithmetic is bfloat16; prompts and writing are float32.
        product: FLOP/s of large matrices in training's arithmetic; ``product_fp32`` in float32.
        training: FLOP/s of forward and backward passes, of matrices, attention and LM head, beyond ``turn``.
        turn: seconds of a forward and backward pass, a parameter, however small the batch: weights that are read, cast
            and given gradients, and the launching of it all.
        update: seconds of one optimizer step, a parameter, clipping included.
        reading: FLOP/s of prompts, without gradients; of texts for an encoder.
        writing: FLOP/s of tokens written one by one, beyond ``token``; that of reading for an encoder.
        token: seconds of one more token for a whole batch, a parameter, however small the batch.
        share: part of the device's own rate that a training step reaches, all but the update counted.
        how: size of what was measured, for the user.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    device: str
    model: str
    measured: date
    torch: str
    bf16: bool
    product: float = Field(gt=0)
    product_fp32: float = Field(gt=0)
    training: float = Field(gt=0)
    turn: float = Field(ge=0)
    update: float = Field(ge=0)
    reading: float = Field(gt=0)
    writing: float = Field(gt=0)
    token: float = Field(ge=0)
    share: float = Field(gt=0)
    how: str


def calibrated(
    threads: int, model: str, source: int, target: int, batch: int, written_batch: int, again: bool = False
) -> Rates:
    """Rates of a model on this device: those that are kept, else measured now.

    Args:
        threads: so many, on a CPU.
        source, target: usual lengths in tokens; ``target`` 0 for an encoder.
        batch: examples that a training step has in memory; fewer are measured where that takes too long.
        written_batch: prompts that are answered at a time.
        again: measure even where rates are kept.
    """
    import torch

    device, config = own_device(threads), config_of(model)
    shape = shape_from(config, model)
    bf16 = trains_in_bf16(shape.parameters)
    file = rates_file(device, shape, bf16, source)
    kept = None if again else _kept(file)
    if kept is not None:
        return kept
    print(f"measuring {Path(model).name} on {device.name} for some seconds", file=sys.stderr)
    before = torch.get_num_threads()
    if device.kind == "cpu":
        torch.set_num_threads(threads)
    try:
        rates = measure(config, shape, device, Path(model).name, bf16, source, target, batch, written_batch)
    finally:
        torch.set_num_threads(before)
    with atomic_write(file) as out:
        out.write(rates.model_dump_json(indent=1) + "\n")
    return rates


def rates_file(device: OwnDevice, shape: ModelShape, bf16: bool, source: int) -> Path:
    """Where the rates of a shape on a device are, or would be, for prompts of about one length: a factor of two."""
    import torch

    key = fingerprint("quick", device.name, torch.__version__, asdict(shape), bf16, source.bit_length())
    return runs_root() / "calibration" / f"{key}.json"


def _kept(file: Path) -> Rates | None:
    try:
        return Rates.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValidationError):  # of an older kit: measured again
        return None


def trains_in_bf16(parameters: int) -> bool:
    """Whether the kit trains a model of that size in bfloat16 on this device."""
    import torch

    from .models import train_in_bf16

    with torch.device("meta"):
        return train_in_bf16(torch.nn.ParameterList([torch.nn.Parameter(torch.empty(parameters))]))


def measure(
    config: Any, shape: ModelShape, device: OwnDevice, name: str, bf16: bool, source: int, target: int,
    batch: int, written_batch: int,
) -> Rates:  # fmt: skip
    """Measure rates now; see :func:`calibrated`."""
    import torch

    product_fp32 = product_rate(device.kind, bf16=False)
    product = product_rate(device.kind, bf16=True) if bf16 else product_fp32
    config, small, layers = _small_enough(config, shape, source, target, product, device.memory)
    one = example_flops(small, source, target).training()
    room = safe_bytes(device.memory)
    batch = max(1, min(batch, int(STEP_SECONDS * _GUESSED_SHARE * product / one)))
    batch = _halved(batch, 1, room, lambda n: training_bytes(small, n, source, target, bf16))
    model = _random_model(config, small).to(device.kind)
    prompt = prompt_flops(small, source).forward if target else example_flops(small, source).forward
    rows = max(2, min(written_batch, int(STEP_SECONDS * _GUESSED_SHARE * product_fp32 / prompt)))
    rows = _halved(rows, 2, room, lambda n: writing_bytes(small, n, source, WRITTEN + 2))
    reading, writing, token = _inference_rates(model, small, device.kind, rows, source, bool(target))
    turn, passes, update = _training_seconds(model, small, device.kind, bf16, batch, source, target)
    return Rates(
        device=device.name, model=name, measured=date.today(), torch=torch.__version__, bf16=bf16, product=product,
        product_fp32=product_fp32, training=batch * one / max(passes - turn, passes / 10), reading=reading,
        writing=writing, turn=turn / small.parameters, update=update / small.parameters,
        token=token / small.parameters, share=batch * one / passes / product,
        how=f"batch {batch} of {source} + {target} tokens, {layers}",
    )  # fmt: skip


def _halved(count: int, least: int, room: float, size: Callable[[int], float]) -> int:
    """As many as there is room for, found by halving; a few even where there is none."""
    while count > least and size(count) > room:
        count = max(least, count // 2)
    return count


def product_rate(kind: str, bf16: bool, seconds: float = 0.4) -> float:
    """FLOP/s of the machine's own product of two large square matrices, the best of several."""
    import torch

    size = 8192 if kind == "cuda" else 1536
    one = torch.randn(size, size, device=kind, dtype=torch.bfloat16 if bf16 else torch.float32)
    best, end = float("inf"), time.perf_counter() + seconds
    _timed(lambda: one @ one, kind)
    while best == float("inf") or time.perf_counter() < end:
        best = min(best, _timed(lambda: one @ one, kind))
    return 2 * size**3 / best


def _timed(call: Callable[[], object], kind: str) -> float:
    import torch

    if kind == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if kind == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _small_enough(
    config: Any, shape: ModelShape, source: int, target: int, product: float, memory: float
) -> tuple[Any, ModelShape, str]:
    """The configuration with as many layers as a step of few examples and the memory allow; one at least."""
    name = "num_layers" if shape.kind == "seq2seq" else "num_hidden_layers"
    whole = shape.layers
    for layers in range(whole, 0, -1):
        cut = copy.deepcopy(config)
        setattr(cut, name, layers)
        if shape.kind == "seq2seq":
            cut.num_decoder_layers = max(1, round(shape.decoder_layers * layers / whole))
        small = shape_from(cut)
        slow = _EXAMPLES * example_flops(small, source, target).training() > STEP_SECONDS * _GUESSED_SHARE * product
        if layers == 1 or not (slow or 20 * small.parameters > _MEMORY_SHARE * memory):
            return cut, small, "all layers" if layers == whole else f"{layers} of {whole} layers"
    raise AssertionError("one layer takes all")


def _random_model(config: Any, shape: ModelShape) -> Any:
    import torch
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    kinds = {"seq2seq": AutoModelForSeq2SeqLM, "causal": AutoModelForCausalLM, "encoder": AutoModel}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kinds[shape.kind].from_config(config, dtype=torch.float32)
    if shape.kind == "seq2seq" and not shape.tied:  # see model_shape: a head of its own
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model


def _training_seconds(
    model: Any, shape: ModelShape, kind: str, bf16: bool, batch: int, source: int, target: int
) -> tuple[float, float, float]:
    """Seconds of a pass over next to nothing, of one over a batch, and of an update: the least of several."""
    import torch

    from .lean_model import lean
    from .quick_training import QuickTraining

    if target:  # as students are trained
        lean(model)
    model.train()
    adam = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0, fused=True)
    small = _batch(shape, kind, 1, min(source, _FEW), min(target, _FEW))
    whole = _batch(shape, kind, batch, source, target)

    def passes(given: dict[str, Any]) -> None:
        adam.zero_grad()
        quick = QuickTraining() if not target else nullcontext()  # as rerankers of real sets are
        with quick, torch.autocast(kind, torch.bfloat16) if bf16 else nullcontext():
            out = model(**given)
            loss = out.loss if target else out.last_hidden_state.float().square().mean()
        loss.backward()

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()

    calls = (lambda: passes(small)), (lambda: passes(whole)), update
    times = [[_timed(call, kind) for call in calls] for _ in range(1 + MEASURED_STEPS)][1:]
    turn, whole_pass, updated = (min(column) for column in zip(*times, strict=True))
    return turn, whole_pass, updated


def _batch(shape: ModelShape, kind: str, batch: int, source: int, target: int) -> dict[str, Any]:
    import torch

    tokens = source + (target if shape.kind == "causal" else 0)
    ids = torch.randint(5, shape.vocabulary, (batch, tokens), device=kind)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if shape.kind == "seq2seq":
        given["labels"] = torch.randint(5, shape.vocabulary, (batch, target), device=kind)
    elif shape.kind == "causal":
        given["labels"] = ids
    return given


def _inference_rates(
    model: Any, shape: ModelShape, kind: str, rows: int, source: int, writes: bool
) -> tuple[float, float, float]:
    """FLOP/s of prompts and of written tokens, and seconds of a token for a batch however small."""
    import torch

    model.eval()
    whole, one = (_batch(shape, kind, count, source, 0) for count in (rows, 1))

    def write(given: dict[str, Any], tokens: int) -> float:
        options = {"min_new_tokens": tokens, "max_new_tokens": tokens, "do_sample": False, "pad_token_id": 0}
        inputs = {name: given[name] for name in ("input_ids", "attention_mask")}
        return min(_timed(lambda: model.generate(**inputs, **options), kind) for _ in range(2))

    with torch.inference_mode():
        if not writes:
            rate = rows * example_flops(shape, source).forward / min(_timed(lambda: model(**whole), kind) for _ in "ab")
            return rate, rate, 0.0
        write(one, 2)
        few, single = write(whole, 2), write(one, 2)
        # seconds of one more token, of the batch and of one row
        many, alone = (max(write(given, 2 + WRITTEN) - less, less / 100) / WRITTEN for given, less in
                       ((whole, few), (one, single)))  # fmt: skip
    a_row = max((many - alone) / (rows - 1), many / rows / 10)
    added = written_flops(shape, source, 2 + WRITTEN).forward - written_flops(shape, source, 2).forward
    prompt = max(few - 2 * many, few / 20)
    return rows * prompt_flops(shape, source).forward / prompt, added / WRITTEN / a_row, max(many - rows * a_row, 0.0)
