"""Finding and loading models: folders, shipped names, and one line for whatever is broken."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kardlib import models
from kardlib.errors import KardError
from kardlib.models import is_encoder_decoder, load_config, load_student, load_tokenizer, locate


def test_a_folder_is_found_wherever_the_caller_stands(
    tiny_t5: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert Path(locate(tiny_t5)) == Path(tiny_t5).resolve()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Path(locate("mine")) == (tmp_path / "mine").resolve()


def test_a_shipped_name_is_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MODELS_DIR", tmp_path)
    (tmp_path / "mini-t5-base").mkdir()
    assert Path(locate("mini-t5-base")) == tmp_path / "mini-t5-base"


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "~/nowhere", "mini-none", "..\\nowhere"])
def test_a_folder_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(KardError) as caught:
        locate(name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_name_of_the_hub_stays_as_it_is() -> None:
    assert locate("google/t5-v1_1-base") == "google/t5-v1_1-base"


def test_students_are_told_apart_and_loaded_in_float32(tiny_t5: str, tiny_opt: str) -> None:
    assert is_encoder_decoder(tiny_t5) and not is_encoder_decoder(tiny_opt)
    for folder in (tiny_t5, tiny_opt):
        assert {p.dtype for p in load_student(folder).parameters()} == {torch.float32}


def test_half_precision_weights_become_float32(tiny_t5: str, tmp_path: Path) -> None:
    load_student(tiny_t5).to(torch.bfloat16).save_pretrained(tmp_path / "half")
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    assert {p.dtype for p in load_student(str(tmp_path / "half")).parameters()} == {torch.float32}


def test_a_tokenizer_always_pads(tiny_opt: str, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_opt)
    assert tokenizer.pad_token == "<pad>" and tokenizer.pad_token_id != tokenizer.eos_token_id
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "bare")
    assert load_tokenizer(str(tmp_path / "bare")).pad_token == "</s>"


def cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def no_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"none")


def pickle_only(folder: Path) -> None:
    """Weights in a format that can run code."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def other_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"d_ff": 48}))


DAMAGE: list[tuple[Callable[[Path], Any], Callable[[str], Any]]] = [
    (lambda folder: (folder / "config.json").unlink(), load_config),
    (lambda folder: (folder / "config.json").write_text("{"), load_config),
    (lambda folder: (folder / "config.json").write_text("{}"), load_config),
    (lambda folder: (folder / "config.json").write_text("{}"), load_student),
    (cut_weights, load_student),
    (no_safetensors, load_student),
    (pickle_only, load_student),
    (other_shape, load_student),
    (lambda folder: (folder / "model.safetensors").unlink(), load_student),
    (lambda folder: (folder / "tokenizer.json").write_text("{"), load_tokenizer),
]


@pytest.mark.parametrize("damage, load", DAMAGE)
def test_whatever_is_broken_is_one_line_with_the_folder(
    damage: Callable[[Path], Any], load: Callable[[str], Any], tiny_t5: str, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_t5, folder)
    load(str(folder))
    damage(folder)
    with pytest.raises(KardError) as caught:
        load(str(folder))
    assert "broken" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_is_for_large_models_where_the_device_has_it(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": fast}, raising=False)
    small, large = torch.nn.Linear(10, 10), torch.nn.Linear(4000, 4000, device="meta")
    assert models.train_in_bf16(large) is fast
    assert not models.train_in_bf16(small)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not models.train_in_bf16(large)


@pytest.mark.parametrize("real", [True, False])
def test_a_gpu_that_only_emulates_bfloat16_does_not_have_it(monkeypatch: pytest.MonkeyPatch, real: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: real or including_emulation)
    assert models.train_in_bf16(torch.nn.Linear(4000, 4000, device="meta")) is real


def test_weights_that_lack_a_tensor_are_refused(tiny_t5: str, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_t5, tmp_path / "holes")
    tensors = load_file(folder / "model.safetensors")
    gone = next(name for name in tensors if "decoder" in name)
    save_file(
        {name: tensor for name, tensor in tensors.items() if name != gone},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(KardError, match="holes: its weights lack " + re.escape(gone)):
        load_student(str(folder))


def test_an_encoder_is_no_student(tiny_bert: str) -> None:
    with pytest.raises(KardError, match="does not write"):
        load_student(tiny_bert)


def test_a_wrong_type_in_the_configuration_is_one_line(tiny_t5: str, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_t5, tmp_path / "typed")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_layers": "two"}))
    with pytest.raises(KardError, match="cannot be loaded"):
        load_student(str(folder))
