"""The benchmark of training trains the same rows both ways."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import training  # noqa: E402
from kardlib.calibration import product_rate  # noqa: E402
from kardlib.prompts import Pair  # noqa: E402

SHAPE = dict(vocab_size=400, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_decoder_layers=1, num_heads=3)


@pytest.fixture(scope="module")
def texts() -> list[Pair]:
    return [Pair(f"Question: what is {i} {'and so on ' * (i % 9)}?", "one " * (1 + i % 5)) for i in range(64)]


def test_both_ways_are_timed(texts: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the machine itself; a product's rate is above that of a tiny model, and padding costs."""
    monkeypatch.setattr(training, "PADDED", 128)
    rows = training.encode(texts, tmp_path)
    ours = training.measured(rows, str(tmp_path), False, **SHAPE)
    theirs = training.measured(rows, str(tmp_path), False, padded=True, **SHAPE)
    assert ours.examples > theirs.examples > 0 and ours.tokens > 10 * ours.examples
    assert 0 < ours.flops < product_rate("cpu", bf16=False)


def test_batches_are_taken_from_short_to_long() -> None:
    batches = [[{"length": length}] * 2 for length in (5, 1, 4, 2, 6, 3)]
    assert [batch[0]["length"] for batch in training.spread(batches, 3)] == [2, 4, 6]
    assert [batch[0]["length"] for batch in training.spread(batches, 1)] == [4]


def test_real_text(data_dir: Path) -> None:
    """Three passages and the question; MedQA's targets have 120 words and the answer."""
    for pair in training.openbookqa(3):
        assert all(mark in pair.source for mark in ("[1] ", "[2] ", "[3] ", "Question: ", "(D) "))
    words = [len(pair.target.split()) for pair in training.medqa(3)]
    assert all(120 < count < 150 for count in words)
