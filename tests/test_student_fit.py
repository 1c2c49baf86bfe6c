"""Training in parts: the same loss and weights however a batch is cut, memory that runs out, LoRA, best-on-dev."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Killed, kill_training_at, same_weights, watch_training, weights

from kardlib import student_parts
from kardlib.errors import KardError
from kardlib.mini import MiniSet
from kardlib.models import load_student, load_tokenizer
from kardlib.processes import added, agreed, from_first, rank, sum_gradients, world
from kardlib.prompts import Pair, build_prompt, build_target
from kardlib.reranker_lora import Lora
from kardlib.student import Hyperparameters, collator, encode_causal, encode_seq2seq, train_student
from kardlib.student_fit import Options, fit_student
from kardlib.student_parts import PartsTrainer, out_of_memory, summed_loss
from kardlib.teacher import ScriptedTeacher

HYPER = Hyperparameters(lr=1e-3, epochs=2, batch=6, source_tokens=200, target_tokens=48)


@pytest.fixture(scope="module")
def pairs(mini: MiniSet) -> list[Pair]:
    """Fourteen pairs of uneven length: the last batch of two epochs has four rows."""
    questions = mini.splits["train"][:14]
    told = ScriptedTeacher(mini).rationales(questions, 1, show_gold=True)
    return [
        Pair(
            build_prompt(q, [p.text for p in mini.passages[: i % 4]]),
            build_target(q.answer_text, r.text if i % 3 else None),
        )
        for i, (q, r) in enumerate(zip(questions, told, strict=True))
    ]


@pytest.fixture(params=["seq2seq", "causal"])
def base(request: pytest.FixtureRequest, tiny_t5: str, tiny_opt: str) -> str:
    return tiny_t5 if request.param == "seq2seq" else tiny_opt


def trained(base: str, pairs: list[Pair], folder: Path, **options: Any) -> list[dict[str, float]]:
    dev = options.pop("dev", ())
    return fit_student(base, pairs, HYPER, 0, folder / "out", folder / "work", Options(**options), dev).curve


def near(first: Path, second: Path) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.allclose(a[name], b[name], atol=2e-5) for name in a)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The loss of every step that the next trainings make."""
    seen: list[float] = []
    usual = PartsTrainer.training_step

    def step(self: PartsTrainer, *given: Any) -> torch.Tensor:
        seen.append(float(loss := usual(self, *given)))
        return loss

    monkeypatch.setattr(PartsTrainer, "training_step", step)
    return seen


def test_the_summed_loss_is_that_of_transformers(base: str, pairs: list[Pair]) -> None:
    """The output layer is left out where nothing is predicted; the loss is the model's own, times its tokens."""
    tokenizer, model = load_tokenizer(base), load_student(base).eval()
    encode = encode_seq2seq if model.config.is_encoder_decoder else encode_causal
    batch = collator(tokenizer, True)([encode(tokenizer, pair, HYPER) for pair in pairs])
    count = int((batch["labels"] != -100).sum())
    model(**batch).loss.backward()
    theirs = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    loss = summed_loss(model, batch) / count
    loss.backward()
    assert float(loss) == pytest.approx(float(model(**batch).loss), rel=1e-5)
    for name, weight in model.named_parameters():
        assert torch.allclose(weight.grad, theirs[name], atol=1e-5), name


def test_a_batch_in_parts_is_the_batch(base: str, pairs: list[Pair], tmp_path: Path, steps: list[float]) -> None:
    """One row, two rows or all rows at a time: the same losses and weights, and those of the usual training."""
    for part in (0, 1, 2):
        trained(base, pairs, tmp_path / str(part), part=part)
    assert len(steps) == 15 and steps[:5] == pytest.approx(steps[5:10], rel=1e-5)
    assert steps[:5] == pytest.approx(steps[10:], rel=1e-5) and max(steps) > 1.01 * min(steps)
    train_student(base, pairs, HYPER, 0, tmp_path / "usual", tmp_path / "work")
    for part in (0, 1, 2):
        assert near(tmp_path / str(part) / "out", tmp_path / "usual")
    assert not near(Path(base), tmp_path / "usual")


def test_checkpointing_changes_nothing(base: str, pairs: list[Pair], tmp_path: Path) -> None:
    trained(base, pairs, tmp_path / "with", checkpointing=True)
    trained(base, pairs, tmp_path / "without")
    assert near(tmp_path / "with" / "out", tmp_path / "without" / "out")


@pytest.mark.parametrize("room", [3, 1, 0.5])
def test_where_memory_runs_out_parts_are_halved(
    room: float, base: str, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], steps: list[float],
) -> None:  # fmt: skip
    """From the third step on there is room for so many rows; half a row is one with gradient checkpointing."""
    usual = student_parts.summed_loss

    def short(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        needed = len(batch["labels"]) * (0.5 if model.is_gradient_checkpointing else 1)
        if len(steps) >= 2 and needed > room:
            torch.rand(3)  # what was drawn is drawn again
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return usual(model, batch)

    monkeypatch.setattr(student_parts, "summed_loss", short)
    trained(base, pairs, tmp_path / "short", part=6)
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == ["step 3"] * {3: 1, 1: 2, 0.5: 3}[room]
    assert all("out of memory" in line for line in told)
    assert ("gradient checkpointing" in told[-1]) == (room == 0.5)
    monkeypatch.undo()
    trained(base, pairs, tmp_path / "enough")
    assert len(steps) == 5 and near(tmp_path / "short" / "out", tmp_path / "enough" / "out")


def test_no_room_at_all_is_one_line(
    base: str, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*given: Any) -> torch.Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(student_parts, "summed_loss", short)
    with pytest.raises(KardError, match="step 1: out of memory with one row"):
        trained(base, pairs, tmp_path)
    monkeypatch.setattr(student_parts, "summed_loss", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trained(base, pairs, tmp_path)
    assert not out_of_memory(RuntimeError("shapes cannot be multiplied"))


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize("lora", [None, Lora(4)])
def test_a_killed_training_goes_on_to_the_same_weights(
    step: int, lora: Lora | None, base: str, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with LoRA, whose dropout draws random numbers, and with the best epoch on dev."""
    given = {"part": 2, "lora": lora, "best_on_dev": True, "dev": pairs[:5]}
    trained(base, pairs, tmp_path / "straight", **given)
    kill_training_at(step, monkeypatch)
    with pytest.raises(Killed):
        trained(base, pairs, tmp_path / "killed", **given)
    steps = watch_training(monkeypatch)
    trained(base, pairs, tmp_path / "killed", **given)
    assert steps == list(range(step, 5))
    assert same_weights(tmp_path / "straight" / "out", tmp_path / "killed" / "out")


def test_lora_moves_query_and_value_alone_and_is_merged(base: str, pairs: list[Pair], tmp_path: Path) -> None:
    """The saved folder has the base model's weights, all of them as they were but for two projections."""
    trained(base, pairs, tmp_path, lora=Lora(4, dropout=0.0))
    before, after = weights(Path(base)), weights(tmp_path / "out")
    moved = {name for name in before if not torch.equal(before[name].float(), after[name])}
    assert before.keys() == after.keys() and moved
    assert {name.split(".")[-2] for name in moved} <= {"q", "v", "q_proj", "v_proj"}
    assert load_student(str(tmp_path / "out")).num_parameters() == load_student(base).num_parameters()


def test_the_best_epoch_on_dev_is_kept(
    base: str, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dev loss is the mean over its tokens; where it rises after the first epoch, the first epoch's weights stay."""
    folder = tmp_path / "fine"
    fitted = fit_student(
        base, pairs, HYPER, 0, folder / "out", folder / "work", Options(best_on_dev=True), pairs[:5]
    )  # fmt: skip
    assert [row["step"] for row in fitted.held] == [3, 5] and fitted.held[1]["loss"] < fitted.held[0]["loss"]
    trained(base, pairs, tmp_path / "last")
    assert same_weights(folder / "out", tmp_path / "last" / "out")
    tokenizer, model = load_tokenizer(base), load_student(str(folder / "out")).eval()
    encode = encode_seq2seq if model.config.is_encoder_decoder else encode_causal
    batch = collator(tokenizer, True)([encode(tokenizer, pair, HYPER) for pair in pairs[:5]])
    assert fitted.held[1]["loss"] == pytest.approx(float(model(**batch).loss), rel=1e-4)
    from kardlib.student_dev import DevLoss

    usual, worse = DevLoss.measured, iter([0.0, 1e3])
    monkeypatch.setattr(DevLoss, "measured", lambda self, trainer: usual(self, trainer) + next(worse))
    trained(base, pairs, tmp_path / "first", best_on_dev=True, dev=pairs[:5])
    assert not near(tmp_path / "first" / "out", folder / "out")
    with pytest.raises(KardError, match="student_keep"):
        trained(base, pairs, tmp_path / "none", best_on_dev=True)


def test_alone_there_is_nobody_to_agree_with(tiny_opt: str) -> None:
    model = load_student(tiny_opt)
    sum_gradients(model)
    assert all(weight.grad is None for weight in model.parameters())
    assert (rank(), world(), added(2.5), from_first("x"), agreed(True), agreed(False)) == (0, 1, 2.5, "x", True, False)
