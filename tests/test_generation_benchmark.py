"""The benchmark of generation: its rows, and that it refuses to compare what is not the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import flan_t5_small, generation  # noqa: E402
from kardlib.errors import KardError  # noqa: E402
from kardlib.models import load_student  # noqa: E402
from kardlib.presets import SPLIT_SIZES  # noqa: E402


@pytest.fixture
def small(tiny_t5: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Four questions for a tiny model; one option of them is answered alone."""
    monkeypatch.setenv("KARD_RUNS", str(tmp_path))
    monkeypatch.setattr(generation, "model_folder", lambda: Path(tiny_t5))
    monkeypatch.setattr(
        generation, "prompts", lambda count, folder: [f"Question: {'well ' * i}?" for i in range(count)]
    )
    monkeypatch.setitem(SPLIT_SIZES, "smoke", {"train": 8, "dev": 4, "test": 5})
    for name, value in {"QUESTIONS": 4, "ALONE": 2, "TARGET_TOKENS": 4}.items():
        monkeypatch.setattr(generation, name, value)


def test_rows_are_ratios_and_greedy_texts_are_the_same(small: None) -> None:
    rows = generation.rows()
    speeds, shares = [r for r in rows if r["unit"] == "questions/s"], [r for r in rows if r["unit"] == "share"]
    assert len(speeds) == len(shares) in (1, 2), "without and with CTranslate2"
    assert all(row["ratio"] == pytest.approx(row["ours"] / row["theirs"], rel=0.01) for row in speeds)
    assert [row["ours"] for row in shares] == [1.0] * len(shares)


def test_a_missing_text_is_no_speed() -> None:
    with pytest.raises(KardError, match="not be of the same work"):
        generation.speed(lambda asked, seed: [["a"] * 4 + [""] for _ in asked], ["x", "y"])
    with pytest.raises(KardError, match="transformers writes instead"):
        generation.refuse("engine ctranslate2: transformers writes instead")


def test_the_model_is_flan_t5_small_in_shape_and_never_ends(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KARD_RUNS", str(tmp_path))
    monkeypatch.setattr(flan_t5_small, "SHAPE", flan_t5_small.SHAPE | {"num_layers": 1, "num_decoder_layers": 1})
    folder = flan_t5_small.model_folder()
    model = load_student(str(folder)).eval()
    assert model.lm_head.weight.shape == (32128, 512) and model.config.num_heads == 6 and model.config.d_ff == 1024
    asked = flan_t5_small.prompts(3, folder)
    assert all(prompt.count("[3]") == 1 for prompt in asked), "three passages each"
    with torch.inference_mode():
        ids = torch.tensor([[5, 6, 1]])
        logits = model(input_ids=ids, decoder_input_ids=torch.tensor([[0, 7]])).logits[0]
    assert (logits[:, 1] < logits.topk(50, -1).values[:, -1]).all(), "the end is not among the likeliest"
