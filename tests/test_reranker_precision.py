"""Precisions: what is measured, on whose candidates, and what is advised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kardlib import reranker_precision
from kardlib.candidates import Candidates
from kardlib.errors import KardError
from kardlib.mini import MiniSet
from kardlib.reranker import LateInteraction, load_reranker
from kardlib.reranker_precision import Agreement, Measured, advice, agreement, best, in_precision, measure

FORMS = ("late-interaction", "cross-encoder")


def ranked(*names: str, key: str = "q") -> Candidates:
    return Candidates(key=key, passages=names, scores=tuple(float(-i) for i in range(len(names))))


@pytest.fixture(scope="module")
def work(mini: MiniSet) -> tuple[list[str], list[Candidates], dict[str, str]]:
    texts = {p.id: p.text for p in mini.passages[:40]}
    rng = np.random.default_rng(1)
    groups = [ranked(*rng.choice(sorted(texts), 15, replace=False).tolist(), key=f"q{i}") for i in range(4)]
    return [texts[g.passages[0]] for g in groups], groups, texts


def test_agreement_by_hand() -> None:
    same = agreement([ranked(*"abcd")], [ranked(*"abcd")])
    assert same == Agreement(1, 1, 1)
    swapped = agreement([ranked(*"abcd")], [ranked(*"abdc")])
    assert swapped.top3 == pytest.approx(2 / 3) and swapped.top10 == 1
    assert swapped.tau == pytest.approx(1 - 2 * 1 / 6), "one of six pairs is turned over"
    assert agreement([ranked(*"abcd")], [ranked(*"dcba")]).tau == -1
    both = agreement([ranked(*"abcd")] * 2, [ranked(*"abcd"), ranked(*"dcba")])
    assert both.tau == 0


def test_agreement_of_what_cannot_be_compared() -> None:
    with pytest.raises(KardError, match="different passages"):
        agreement([ranked(*"abc")], [ranked(*"abd")])
    with pytest.raises(KardError, match="no rankings"):
        agreement([], [])
    assert agreement([ranked("a")], [ranked("a")]) == Agreement(1, 1, 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_another_precision_moves_scores_a_little_and_leaves_the_model_alone(
    form: str, precision: Any, work: Any, tiny_bert: str
) -> None:
    queries, groups, texts = work
    reranker = load_reranker(tiny_bert, form)
    usual = reranker.rank(queries, groups, texts)
    try:
        other = in_precision(reranker, precision)
    except KardError as error:
        pytest.skip(str(error))
    scores = other.rank(queries, groups, texts)
    flat = [np.array([dict(zip(r.passages, r.scores, strict=True))[p] for p in sorted(r.passages)]) for r in usual]
    near = [np.array([dict(zip(r.passages, r.scores, strict=True))[p] for p in sorted(r.passages)]) for r in scores]
    moved = max(np.abs(a - b).max() for a, b in zip(flat, near, strict=True))
    assert 0 < moved < 0.3 * np.ptp(flat), "it computes otherwise, and about the same"
    assert reranker.rank(queries, groups, texts) == usual
    assert all(w.dtype == torch.float32 for w in reranker.model.parameters())


def test_every_precision_is_measured_against_float32(work: Any, tiny_bert: str) -> None:
    rows = measure(LateInteraction(tiny_bert), *work, repeats=1)
    assert rows[0].precision == "float32" and rows[0].speed == 1 and rows[0].agreement == Agreement(1, 1, 1)
    assert {row.precision for row in rows} <= {"float32", "bfloat16", "int8"} and len(rows) > 1
    for row in rows:
        assert row.speed == pytest.approx(rows[0].seconds / row.seconds) and 0 < row.agreement.top3 <= 1


def test_what_this_machine_cannot_do_is_left_out(work: Any, tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(model: Any) -> Any:
        raise KardError("int8: this PyTorch cannot")

    monkeypatch.setattr(reranker_precision, "_quantized", cannot)
    rows = measure(LateInteraction(tiny_bert), *work, precisions=("int8",), repeats=1)
    assert [row.precision for row in rows] == ["float32"] and "nothing else" in advice(rows)


def row(precision: Any, speed: float, top3: float) -> Measured:
    return Measured(precision, 1 / speed, speed, Agreement(top3, top3, top3))


@pytest.mark.parametrize(
    "bf16, int8, chosen",
    [
        ((2.0, 1.0), (3.0, 0.99), "int8"),
        ((2.0, 1.0), (3.0, 0.6), "bfloat16"),
        ((1.1, 1.0), (0.8, 1.0), "float32"),
        ((5.0, 0.5), (9.0, 0.4), "float32"),
    ],
)
def test_the_advice_wants_both_speed_and_the_same_passages(bf16: Any, int8: Any, chosen: str) -> None:
    rows = [row("float32", 1, 1), row("bfloat16", *bf16), row("int8", *int8)]
    assert best(rows).precision == chosen
    told = advice(rows)
    assert told.startswith(f"use {chosen} here") and "\n" not in told and "top 3" in told
