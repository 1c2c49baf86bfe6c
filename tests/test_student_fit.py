"""Training in parts: the same loss and weights however a batch is cut, memory that runs out, LoRA, best-on-dev."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Killed, kill_training_at, same_weights, uneven_pairs, watch_training, weights

from kardlib import student_parts
from kardlib.errors import KardError
from kardlib.mini import MiniSet
from kardlib.models import is_encoder_decoder, load_student, load_tokenizer
from kardlib.out_of_memory import out_of_memory
from kardlib.processes import added, agreed, from_first, rank, sum_gradients, world
from kardlib.prompts import Pair
from kardlib.reranker_lora import Lora
from kardlib.student import Hyperparameters, collator, encode_causal, encode_seq2seq, train_student
from kardlib.student_dev import DevLoss
from kardlib.student_fit import Fitted, Options, Task, _trainer, fit_student
from kardlib.student_parts import PartsTrainer, keep_less, keeps_less

HYPER = Hyperparameters(lr=1e-3, epochs=2, batch=6, source_tokens=200, target_tokens=48)


@pytest.fixture(scope="module")
def pairs(mini: MiniSet) -> list[Pair]:
    """Fourteen pairs of uneven length: the last batch of two epochs has four rows."""
    return uneven_pairs(mini, 14)


def trained(base: str, pairs: list[Pair], folder: Path, **options: Any) -> Fitted:
    dev = options.pop("dev", ())
    return fit_student(base, pairs, HYPER, 0, folder / "out", folder / "work", Options(**options), dev)


def near(first: Path, second: Path) -> bool:
    """Whether two saved models are equal but for float noise. A bias of the keys has no gradient but noise, as all of
    a query's scores rise by the same; Adam makes steps of full size of it."""
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(
        torch.allclose(a[name], b[name], atol=5e-5) for name in a if not name.endswith("k_proj.bias")
    )


def encoded(base: str, pairs: list[Pair]) -> list[dict[str, Any]]:
    encode = encode_seq2seq if is_encoder_decoder(base) else encode_causal
    return [encode(load_tokenizer(base), pair, HYPER) for pair in pairs]


@pytest.fixture(scope="module")
def usual(tiny_t5: str, tiny_opt: str, pairs: list[Pair], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Students of ``train_student``, which knows of no parts, by base model."""
    folder = tmp_path_factory.mktemp("usual")
    for base in (tiny_t5, tiny_opt):
        train_student(base, pairs, HYPER, 0, folder / Path(base).name, folder / "work" / Path(base).name)
    return {base: folder / Path(base).name for base in (tiny_t5, tiny_opt)}


@pytest.fixture
def trainer(base: str, pairs: list[Pair], tmp_path: Path) -> PartsTrainer:
    task = Task(base, encoded(base, pairs), [0], [], HYPER, Options(), 0, tmp_path)
    return _trainer(task, load_student(base), False)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    return found


def test_parts_have_the_loss_and_the_gradients_of_the_batch(
    base: str, pairs: list[Pair], trainer: PartsTrainer
) -> None:
    """One row, two, five or all at a time, and with checkpointing: transformers' own loss of the whole batch."""
    model, rows = trainer.model, encoded(base, pairs)
    whole = model(**collator(load_tokenizer(base))(rows)).loss
    whole.backward()
    theirs = gradients(model)
    alone = [float(trainer.summed_loss(model, [row]).detach()) / trainer.predicted([row]) for row in rows]
    assert max(alone) > 1.01 * min(alone), "a mean of means would be another number"
    for part in (14, 1, 2, 5, 5):
        trainer.part = part
        loss = trainer.training_step(model, {"rows": rows})
        assert float(loss) == pytest.approx(float(whole.detach()), rel=1e-5)
        for name, gradient in gradients(model).items():
            assert torch.allclose(gradient, theirs[name], atol=1e-5, rtol=1e-3), (part, name)
        if part == 5:
            keep_less(model)


def test_a_training_in_parts_is_the_usual_one(
    base: str, pairs: list[Pair], tmp_path: Path, usual: dict[str, Path]
) -> None:
    fitted = trained(base, pairs, tmp_path, part=2)
    assert near(tmp_path / "out", usual[base]) and not near(Path(base), usual[base])
    assert fitted.held == [] and all(row.keys() == {"step", "loss"} for row in fitted.curve)


@pytest.mark.parametrize("room", [3, 0.5])
def test_where_memory_runs_out_parts_are_halved(
    room: float, tiny_t5: str, pairs: list[Pair], tmp_path: Path, usual: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """From the third step on there is room for so many rows; half a row is one with gradient checkpointing."""
    real, step = student_parts.summed_loss, PartsTrainer.training_step
    steps: list[torch.Tensor] = []

    def short(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        needed = len(batch["labels"]) * (0.5 if keeps_less(model) else 1)
        if len(steps) >= 2 and needed > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return real(model, batch)

    monkeypatch.setattr(student_parts, "summed_loss", short)
    monkeypatch.setattr(PartsTrainer, "training_step", lambda *given: steps.append(step(*given)) or steps[-1])
    trained(tiny_t5, pairs, tmp_path, part=6)
    told = [line for line in capsys.readouterr().out.splitlines() if "out of memory" in line]
    assert [line.split(":")[0] for line in told] == ["step 3"] * {3: 1, 0.5: 3}[room]
    assert ("gradient checkpointing" in told[-1]) == (room == 0.5) and "3 rows" in told[0]
    assert len(steps) == 5 and near(tmp_path / "out", usual[tiny_t5])


def test_random_numbers_are_drawn_again_with_smaller_parts(trainer: PartsTrainer, base: str, pairs: list[Pair]) -> None:
    rows, drawn = encoded(base, pairs)[:4], []

    def short(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        drawn.append(float(torch.rand(1)))
        if len(batch["labels"]) > 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried")
        return model.get_input_embeddings().weight.sum() * 0

    trainer.part = 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(student_parts, "summed_loss", short)
        trainer.training_step(trainer.model, {"rows": rows})
    assert len(drawn) == 3 and drawn[0] == drawn[1] != drawn[2] and trainer.part == 2
    assert json.loads((Path(trainer.args.output_dir) / "part.json").read_text()) == 2


def test_no_room_at_all_is_one_line(trainer: PartsTrainer, base: str, pairs: list[Pair]) -> None:
    def short(*given: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(student_parts, "summed_loss", short)
        with pytest.raises(KardError, match="step 1: out of memory with one row"):
            trainer.training_step(trainer.model, {"rows": encoded(base, pairs)})
        patch.setattr(student_parts, "summed_loss", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trainer.training_step(trainer.model, {"rows": encoded(base, pairs)})
    assert not out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))


def test_a_killed_training_goes_on_to_the_same_weights(
    base: str, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with LoRA, whose dropout draws random numbers, and with the best epoch on dev."""
    given = {"part": 2, "lora": Lora(4) if "opt" in base else None, "best_on_dev": True, "dev": pairs[:5]}
    trained(base, pairs, tmp_path / "straight", **given)
    kill_training_at(4, monkeypatch)
    with pytest.raises(Killed):
        trained(base, pairs, tmp_path / "killed", **given)
    steps = watch_training(monkeypatch)
    trained(base, pairs, tmp_path / "killed", **given)
    assert steps == [4] and same_weights(tmp_path / "straight" / "out", tmp_path / "killed" / "out")


def test_lora_moves_query_and_value_alone_and_is_merged(base: str, pairs: list[Pair], tmp_path: Path) -> None:
    """The saved folder has the base model's weights, all of them as they were but for two projections."""
    trained(base, pairs, tmp_path, lora=Lora(4, dropout=0.0))
    before, after = weights(Path(base)), weights(tmp_path / "out")
    moved = {name for name in before if not torch.equal(before[name].float(), after[name])}
    assert before.keys() == after.keys() and moved
    assert {name.split(".")[-2] for name in moved} <= {"q", "v", "q_proj", "v_proj"}


def test_the_best_epoch_on_dev_is_kept(
    tiny_t5: str, pairs: list[Pair], tmp_path: Path, usual: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dev loss is the mean over its tokens; where it rises, the first epoch's weights stay."""
    fitted = trained(tiny_t5, pairs, tmp_path / "last", best_on_dev=True, dev=pairs[:5])
    assert [row["step"] for row in fitted.held] == [3, 5] and fitted.held[1]["loss"] < fitted.held[0]["loss"]
    assert near(tmp_path / "last" / "out", usual[tiny_t5])
    with torch.no_grad():
        batch = collator(load_tokenizer(tiny_t5))(encoded(tiny_t5, pairs[:5]))
        loss = float(load_student(str(tmp_path / "last" / "out")).eval()(**batch).loss)
    assert fitted.held[1]["loss"] == pytest.approx(loss, rel=1e-4)
    real, worse = DevLoss.measured, iter([0.0, 1e3])
    monkeypatch.setattr(DevLoss, "measured", lambda self, trainer: real(self, trainer) + next(worse))
    trained(tiny_t5, pairs, tmp_path / "first", best_on_dev=True, dev=pairs[:5])
    assert not near(tmp_path / "first" / "out", usual[tiny_t5])
    with pytest.raises(KardError, match="student_keep"):
        trained(tiny_t5, pairs, tmp_path / "none", best_on_dev=True)


def test_alone_there_is_nobody_to_agree_with(tiny_opt: str) -> None:
    model = load_student(tiny_opt)
    sum_gradients(model)
    assert all(weight.grad is None for weight in model.parameters())
    assert (rank(), world(), added(2.5), from_first("x"), agreed(True), agreed(False)) == (0, 1, 2.5, "x", True, False)
