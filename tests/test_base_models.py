"""Base models: growth that changes nothing at first, a stream that meets no reported name, a recipe to a folder."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tiny import recipe

from kardlib import base_models
from kardlib.base_models import RECIPES, Phase, batches, grow, new_model, pretrain
from kardlib.errors import KardError
from kardlib.mini_tokenizer import Role, make_tokenizer
from kardlib.models import is_encoder_decoder, load_config, load_student, load_tokenizer
from kardlib.names import KINDS, inventory
from kardlib.pretrain import Example, WorldStream
from kardlib.prompts import ANSWER_MARK, CUES
from kardlib.reranker import load_late_interaction


def stream(seed: int, count: int, **options: Any) -> list[Example]:
    return list(itertools.islice(WorldStream(seed, **options), count))


def names(which: str) -> set[str]:
    return {name for kind in KINDS for name in inventory(kind, which)}


def words_of(examples: list[Example]) -> set[str]:
    text = " ".join(f"{e.source} {e.target}" for e in examples).lower()
    return set("".join(c if c.isalnum() else " " for c in text).split())


# --- growing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(6, 900, (3, 20), generator=generator)
    return {"input_ids": ids, "labels": ids[:, :9].contiguous(), "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("change", [dict(layers=3), dict(heads=4), dict(hidden=96), dict(layers=2, heads=3, hidden=80)])
def test_a_grown_model_computes_what_the_small_one_did(change: dict[str, int], inputs: dict) -> None:
    small = new_model(recipe("seq2seq")).eval()
    with torch.no_grad():
        for weight in small.parameters():
            weight.mul_(1.7)  # not what the large one is made with
    large = new_model(recipe("seq2seq", **change)).eval()
    with torch.no_grad():
        expected, before = small(**inputs).logits, large(**inputs).logits
        after = grow(small, large)(**inputs).logits
    assert torch.allclose(after, expected, atol=1e-4)
    assert not torch.allclose(before, expected, atol=1e-2)
    assert sum(p.numel() for p in large.parameters()) > sum(p.numel() for p in small.parameters())


def test_what_was_added_learns(inputs: dict) -> None:
    small = new_model(recipe("seq2seq"))
    large = grow(small, new_model(recipe("seq2seq", layers=2, heads=3, hidden=80)))
    large(**inputs).loss.backward()
    for name, weight in large.named_parameters():
        if name.endswith(("SelfAttention.o.weight", "DenseReluDense.wo.weight")):
            shape = dict(small.named_parameters()).get(name, torch.empty(0, 0)).shape
            added = weight.grad.clone()
            added[tuple(slice(0, n) for n in shape)] = 0
            assert added.abs().max() > 0, name


def test_a_recipes_seed_decides_its_weights() -> None:
    for role in get_args(Role):
        first, again, other = (new_model(recipe(role, seed=seed)).state_dict() for seed in (1, 1, 2))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert any(not torch.equal(first[name], other[name]) for name in first)


def test_grown_recipes_hold_the_model_that_they_grow_from() -> None:
    for one in RECIPES.values():
        if one.grown_from:
            small = RECIPES[one.grown_from]
            assert small.width == one.width and small.role == one.role == "seq2seq"
            assert one.layers > small.layers and one.heads >= small.heads and one.hidden >= small.hidden


# --- the stream -------------------------------------------------------------------------------------------------------


def test_the_stream_is_decided_by_its_seed() -> None:
    first, again, other = stream(1, 40), stream(1, 40), stream(2, 40)
    assert first == again and not set(first) & set(other)


def test_worlds_of_a_stream_are_never_the_same() -> None:
    examples = stream(3, 610)
    worlds = [examples[:300], examples[300:600], examples[600:]]
    assert not set(worlds[0]) & set(worlds[1]) and worlds[2]


@pytest.mark.parametrize("which", ["narrow", "pretraining"])
def test_no_name_of_the_stream_is_developed_on_or_reported(which: str) -> None:
    words = words_of(stream(7, 400, copying=50, easy=50, names=which))
    assert len(words & names(which)) > 300
    assert not words & (names("reported") | names("development"))
    assert (which == "narrow") == (not words & (names("pretraining") - names("narrow")))


def test_every_phase_of_every_recipe_keeps_to_the_pretraining_names() -> None:
    for one in RECIPES.values():
        assert {phase.names for phase in one.phases} <= {"narrow", "pretraining"}
        assert one.phases[-1].names == "pretraining", "the last phase has all names, or some are misread"


def test_the_stages_come_in_order_and_tasks_as_stated() -> None:
    examples = stream(5, 1500, copying=300, easy=300)
    copying, easy, full = examples[:300], examples[300:600], examples[600:]

    def passages(part: list[Example]) -> list[int]:
        return [sum(f"[{i}]" in e.source for i in range(1, 9)) for e in part]

    assert max(passages(copying)) == 1 and max(passages(easy)) == 2 and set(passages(full)) == {0, 1, 2, 3, 5}
    assert 0.4 < sum(n > 0 for n in passages(full)) / len(full) < 0.6
    assert all(e.source.endswith(tuple(CUES.values())) for e in examples)
    for example in examples:
        reader = example.source.endswith(CUES["answer"])
        assert (ANSWER_MARK in example.target) is not reader
        assert ANSWER_MARK not in example.source


def test_worlds_ask_about_every_task_in_turn() -> None:
    examples = stream(6, 900, tasks=("mini-medqa", "mini-strategyqa", "mini-openbookqa"))
    yes_no = ["(A) yes (B) no" in e.source for e in examples]
    assert all(yes_no[300:600]) and not any(yes_no[:300] + yes_no[600:])
    assert any("Which trade" in e.source for e in examples[600:]) and not any(
        "Which trade" in e.source for e in examples[:300]
    )


@pytest.mark.parametrize("role", get_args(Role))
def test_batches_teach_what_they_should(role: Role) -> None:
    batch = next(batches(recipe(role, batch=8), pool=1))
    tokenizer = make_tokenizer(role)
    ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
    assert ids.shape == mask.shape and len(ids) == 8
    assert (ids[mask == 0] == tokenizer.pad_token_id).all()
    if role == "encoder":
        hidden = labels != -100
        assert (ids[hidden] == tokenizer.mask_token_id).all() and mask[hidden].all()
        assert 0.1 < hidden.sum() / mask.sum() < 0.3
        assert not (ids[~hidden] == tokenizer.mask_token_id).any()
        assert (labels[hidden] >= 6).all(), "special tokens are not guessed"
    else:
        assert (labels == tokenizer.eos_token_id).any(dim=1).all(), "every target has an end"
        assert (labels != tokenizer.pad_token_id).all()
    if role == "causal":
        assert torch.equal(labels == -100, mask == 0) and torch.equal(labels[mask == 1], ids[mask == 1])


def test_the_encoders_loss_is_its_models_own() -> None:
    model, batch = new_model(recipe("encoder")), next(batches(recipe("encoder", batch=8), pool=1))
    with torch.no_grad():
        assert torch.isclose(base_models._loss(model, batch), model(**batch).loss, rtol=1e-4)


# --- from a recipe to a folder ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", get_args(Role))
def test_a_recipe_becomes_a_folder_with_a_card(role: Role, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        RECIPES, "mini-test", recipe(role, phases=(Phase(8, 1e-3, "narrow", warm=True), Phase(4, 1e-3)))
    )
    lines: list[str] = []
    folder = pretrain("mini-test", tmp_path / "out", lines.append)
    assert folder == tmp_path / "out" and lines
    assert is_encoder_decoder(str(folder)) == (role == "seq2seq")
    assert len(load_tokenizer(str(folder))) == load_config(str(folder)).vocab_size
    if role == "encoder":
        load_late_interaction(str(folder))
    else:
        load_student(str(folder))
    card = (folder / "README.md").read_text()
    assert "mini-test" in card and "MIT" in card and str(tmp_path) not in card


def test_a_grown_recipe_starts_from_the_saved_small_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_models, "MODELS_DIR", tmp_path)
    monkeypatch.setitem(RECIPES, "mini-small", recipe("seq2seq"))
    monkeypatch.setitem(RECIPES, "mini-grown", recipe("seq2seq", layers=2, heads=3, hidden=80, grown_from="mini-small"))
    monkeypatch.setattr(base_models, "_fit", lambda model, recipe, number, log: [])
    pretrain("mini-small")
    pretrain("mini-grown")
    ids = torch.arange(10, 30)[None]
    with torch.no_grad():
        small, grown = (
            load_student(str(tmp_path / name)).eval()(input_ids=ids, labels=ids).logits
            for name in ("mini-small", "mini-grown")
        )
    assert torch.allclose(small, grown, atol=1e-3)


def test_an_unknown_base_model_is_one_line() -> None:
    with pytest.raises(KardError, match="mini-huge: no such base model"):
        pretrain("mini-huge")
