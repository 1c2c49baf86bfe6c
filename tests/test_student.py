"""Student training: a loss over target tokens alone, weights that a kill does not change, plain folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import Killed, kill_training_at, same_weights, uneven_pairs, watch_training, weights
from transformers import TrainerControl, TrainerState

from kardlib import student as student_module
from kardlib.mini import MiniSet
from kardlib.models import load_student, load_tokenizer
from kardlib.student import (
    Hyperparameters,
    Pair,
    SaveByTime,
    causal_prompt,
    collator,
    encode_causal,
    encode_seq2seq,
    epoch_orders,
    last_whole_checkpoint,
    on_one_gpu,
    train_student,
    training_arguments,
)

HYPER = Hyperparameters(lr=2e-3, epochs=2, batch=4, source_tokens=200, target_tokens=48)


@pytest.fixture(scope="module")
def pairs(mini: MiniSet) -> list[Pair]:
    """Sixteen pairs of uneven length."""
    return uneven_pairs(mini, 16)


def encoded(base: str, pairs: list[Pair]) -> list[dict]:
    tokenizer = load_tokenizer(base)
    encode = encode_seq2seq if "t5" in Path(base).name else encode_causal
    return [encode(tokenizer, pair, HYPER) for pair in pairs]


@torch.no_grad()
def loss_of(base: str, rows: list[dict], folder: Path | None = None) -> float:
    model = load_student(str(folder or base)).eval()
    return model(**collator(load_tokenizer(base))(rows)).loss.item()


def test_padding_does_not_change_the_loss(base: str, pairs: list[Pair]) -> None:
    rows = encoded(base, pairs)
    assert len({len(row["input_ids"]) for row in rows}) > 3
    sizes = [sum(label != -100 for label in row["labels"]) for row in rows]
    alone = [loss_of(base, [row]) for row in rows]
    expected = sum(size * loss for size, loss in zip(sizes, alone, strict=True)) / sum(sizes)
    assert loss_of(base, rows) == pytest.approx(expected, rel=1e-4)
    assert max(alone) - min(alone) > 1e-2


def test_labels_are_the_target_and_its_end_and_nothing_else(base: str, pairs: list[Pair]) -> None:
    tokenizer = load_tokenizer(base)
    for pair, row in zip(pairs, encoded(base, pairs), strict=True):
        labels = [label for label in row["labels"] if label != -100]
        end = [tokenizer.eos_token_id]
        assert labels == tokenizer(pair.target, add_special_tokens=False).input_ids + end
        if len(row["labels"]) == len(row["input_ids"]):
            source = len(row["labels"]) - len(labels)
            assert row["labels"][:source] == [-100] * source
            assert row["input_ids"][:source] == causal_prompt(tokenizer, pair.source, HYPER.source_tokens)
            assert row["input_ids"][source:] == labels
        else:
            assert row["input_ids"] == tokenizer(pair.source).input_ids


def test_another_source_does_not_change_the_labels(base: str, pairs: list[Pair]) -> None:
    first, second = encoded(base, [pairs[1], Pair(pairs[2].source, pairs[1].target)])
    keep = [[label for label in row["labels"] if label != -100] for row in (first, second)]
    assert keep[0] == keep[1] and first["input_ids"] != second["input_ids"]


def test_a_long_target_is_cut_to_its_limit(base: str) -> None:
    row = encoded(base, [Pair("Question: x", "word " * 100)])[0]
    assert sum(label != -100 for label in row["labels"]) == HYPER.target_tokens
    assert row["labels"][-1] == load_tokenizer(base).eos_token_id


def test_every_epoch_holds_every_row_once_in_an_order_of_its_own() -> None:
    lengths = [7 * i % 50 for i in range(103)]
    hyper = Hyperparameters(1e-3, epochs=3, batch=4, source_tokens=1, target_tokens=1)
    order = epoch_orders(lengths, hyper, 0)
    epochs = [order[i : i + 103] for i in (0, 103, 206)]
    assert all(sorted(epoch) == list(range(103)) for epoch in epochs) and len(order) == 309
    assert epochs[0] != epochs[1] != epochs[2]
    assert order == epoch_orders(lengths, hyper, 0) != epoch_orders(lengths, hyper, 1)
    spreads = [max(part) - min(part) for i in range(0, 100, 4) if (part := [lengths[j] for j in order[i : i + 4]])]
    assert sorted(spreads)[len(spreads) // 2] < 10, "batches hold rows of about equal length"


def test_training_lowers_the_loss_and_plain_transformers_loads_it(base: str, pairs: list[Pair], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    curve = train_student(base, pairs, Hyperparameters(2e-3, 6, 4, 200, 48), 0, tmp_path / "out", tmp_path / "work")
    rows = encoded(base, pairs)
    after = loss_of(base, rows, tmp_path / "out")
    assert after < 0.9 * loss_of(base, rows)
    assert [row["step"] for row in curve] == [10, 20] and curve[1]["loss"] < curve[0]["loss"]
    kind = AutoModelForSeq2SeqLM if "t5" in Path(base).name else AutoModelForCausalLM
    model, tokenizer = kind.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        again = model.eval()(**collator(tokenizer)(rows)).loss.item()
    assert again == pytest.approx(after, rel=1e-5)


def test_the_seed_decides_the_weights(base: str, pairs: list[Pair], tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        train_student(base, pairs, HYPER, seed, tmp_path / name, tmp_path / f"{name}-work")
    assert same_weights(tmp_path / "one", tmp_path / "same")
    assert not same_weights(tmp_path / "one", tmp_path / "other")


def test_all_weights_are_trained(base: str, pairs: list[Pair], tmp_path: Path) -> None:
    train_student(base, pairs, HYPER, 0, tmp_path / "out", tmp_path / "work")
    before, after = weights(Path(base)), weights(tmp_path / "out")
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert before.keys() == after.keys() and not still


@pytest.mark.parametrize("step", [1, 5])
def test_a_killed_training_goes_on_to_the_same_weights(
    step: int, base: str, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_student(base, pairs, HYPER, 0, tmp_path / "straight", tmp_path / "work1")
    kill_training_at(step, monkeypatch)
    with pytest.raises(Killed):
        train_student(base, pairs, HYPER, 0, tmp_path / "killed", tmp_path / "work2")
    assert not (tmp_path / "killed").exists()
    assert [folder.name for folder in (tmp_path / "work2").glob("checkpoint-*")] == [f"checkpoint-{step}"]
    steps = watch_training(monkeypatch)
    train_student(base, pairs, HYPER, 0, tmp_path / "killed", tmp_path / "work2")
    assert steps == list(range(step, 8)), "what was done is not done again"
    assert same_weights(tmp_path / "straight", tmp_path / "killed")


@pytest.mark.parametrize("left", ["nothing", "weights", "half a state"])
def test_a_checkpoint_that_was_not_written_to_its_end_is_passed_over(tmp_path: Path, left: str) -> None:
    work = tmp_path / "work"
    assert last_whole_checkpoint(work) is None
    for step in (5, 12):
        (work / f"checkpoint-{step}").mkdir(parents=True)
        (work / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert last_whole_checkpoint(work) == str(work / "checkpoint-12")
    state = work / "checkpoint-12" / "trainer_state.json"
    state.unlink()
    if left != "nothing":
        (work / "checkpoint-12" / "model.safetensors").write_bytes(b"half")
    if left == "half a state":
        state.write_text('{"global_step": 1')
    assert last_whole_checkpoint(work) == str(work / "checkpoint-5")
    assert not (work / "checkpoint-12").exists()


def test_the_longer_a_checkpoint_takes_the_rarer_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(student_module.time, "monotonic", lambda: clock[0])
    saves, state = SaveByTime(), TrainerState(max_steps=10**9)
    saves.on_train_begin(None, state, None)
    writing, saved = 34.0, 0
    for _ in range(20_000):  # seconds of training, one a step
        clock[0] += 1
        if saves.on_step_end(None, state, TrainerControl()).should_save:
            clock[0] += writing
            saved += 1
            saves.on_save(None, state, TrainerControl())
    assert saved > 10 and writing * saved < 0.06 * clock[0]


def test_a_second_gpu_does_not_enlarge_the_batch(tmp_path: Path) -> None:
    arguments = training_arguments(HYPER, 0, tmp_path, bf16=False)
    arguments._n_gpu = 4
    assert on_one_gpu(arguments).train_batch_size == HYPER.batch
