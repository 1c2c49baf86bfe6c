"""Padding changes no score and no gradient; what the library does of its own, and what is added."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers.multi_vector_encoder.data_collator import MultiVectorEncoderDataCollator

from kardlib import padding
from kardlib.candidates import Candidates
from kardlib.errors import KardError
from kardlib.mini import MiniSet
from kardlib.padding import chunk_sizes
from kardlib.presets import Settings, resolve
from kardlib.reranker import load_cross_encoder, load_late_interaction, load_reranker
from kardlib.reranker_losses import loss_of
from kardlib.reranker_padding import sorted_loss_of

FORMS = ("late-interaction", "cross-encoder")


@pytest.fixture(scope="module")
def texts(mini: MiniSet) -> list[str]:
    """Passages of very different lengths, in no order."""
    names = [p.text for p in mini.passages[:24]]
    return [" ".join(names[i : i + 1 + i % 5]) for i in range(16)]


def widths(model: Any, call: Any) -> list[tuple[int, int]]:
    """Rows and width of each batch that a model is given during a call."""
    seen: list[tuple[int, int]] = []
    usual = model.forward

    def watch(features: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(tuple(features["input_ids"].shape))
        return usual(features, *args, **kwargs)

    model.forward = watch
    try:
        call()
    finally:
        del model.forward
    return seen


@pytest.mark.parametrize("form", FORMS)
def test_the_library_sorts_by_length_and_pads_each_batch_to_its_own_longest(
    form: str, texts: list[str], tiny_bert: str
) -> None:
    model = load_reranker(tiny_bert, form).model
    if form == "late-interaction":
        seen = widths(model, lambda: model.encode(texts, task="document", batch_size=4, show_progress_bar=False))
    else:
        pairs = [("Which drug?", text) for text in texts]
        seen = widths(model, lambda: model.predict(pairs, batch_size=4, show_progress_bar=False))
    assert [rows for rows, _ in seen] == [4] * 4
    lengths = [width for _, width in seen]
    assert lengths == sorted(lengths, reverse=True) and lengths[-1] < lengths[0] / 2


@pytest.mark.parametrize("form", FORMS)
def test_padding_changes_no_score(form: str, texts: list[str], tiny_bert: str) -> None:
    reranker = load_reranker(tiny_bert, form)
    named = {f"p{i:02d}": text for i, text in enumerate(texts)}
    group = Candidates(key="q", passages=tuple(named), scores=(0.0,) * len(named))
    usual = reranker.rank(["Which drug?"], [group], named)[0]
    preprocess = reranker.model.preprocess

    def padded(inputs: Any, *args: Any, **options: Any) -> Any:
        features = preprocess(inputs, *args, **options)
        for name, value in features.items():
            if isinstance(value, torch.Tensor) and value.ndim == 2:
                features[name] = torch.nn.functional.pad(value, (0, 128 - value.shape[1]))
        return features

    reranker.model.preprocess = padded
    wide = reranker.rank(["Which drug?"], [group], named)[0]
    scores = dict(zip(wide.passages, wide.scores, strict=True))
    assert [scores[p] for p in usual.passages] == pytest.approx(usual.scores, abs=1e-4)
    assert wide.passages == usual.passages and np.ptp(usual.scores) > 1e-2


def settings_for(form: str, encoder: str, **change: Any) -> Settings:
    return resolve("mini", encoder=encoder, reranker_form=form, tau1=3.0, tau2=0.7, **change)


def inputs_for(form: str, model: Any, texts: list[str], settings: Settings) -> tuple[Any, Any]:
    """A batch of four questions with four passages each, as the trainer hands it to the loss."""
    lists = [texts[i : i + 4] for i in range(0, 16, 4)]
    scores = torch.rand((4, 4), generator=torch.Generator().manual_seed(3)) * 12
    queries = ["Which drug?", "What spreads vorosis in summer, and who avoids it?", "Who?", "Is it rare?"]
    if form == "cross-encoder":
        return [queries, lists], [row / settings.tau1 for row in scores]
    rows = [{"query": q} | {f"passage_{j}": p[j] for j in range(4)} for q, p in zip(queries, lists, strict=True)]
    batch = MultiVectorEncoderDataCollator(model.preprocess)(rows)
    names = ("query", *(f"passage_{j}" for j in range(4)))
    return [
        {key.removeprefix(f"{n}_"): value for key, value in batch.items() if key.startswith(f"{n}_")} for n in names
    ], scores


def loss_and_gradient(loss: Any, model: Any, inputs: tuple[Any, Any]) -> tuple[float, torch.Tensor]:
    model.eval()  # without dropout, which draws other numbers for another batch
    model.zero_grad()
    value = loss(*inputs)
    value.backward()
    return value.item(), torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None])


@pytest.fixture(autouse=True)
def short_passages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the tests are of the usual length."""
    monkeypatch.setattr(padding, "USUAL_TOKENS", 8)


def test_a_chunk_has_room_for_so_many_passages_of_the_usual_length() -> None:
    lengths = [2, 2, 3, 4, 8, 8, 9, 40]
    assert chunk_sizes(lengths, 2) == [4, 2, 1, 1], "16 tokens, padded, and one passage in any case"
    assert chunk_sizes(lengths, 1) == [2, 2, 1, 1, 1, 1]
    assert chunk_sizes(lengths, 100) == [8] and chunk_sizes([], 2) == []


@pytest.mark.parametrize(
    "form, change", [("late-interaction", {}), ("late-interaction", {"reranker_frozen_passages": True}), (FORMS[1], {})]
)
def test_sorted_chunks_change_neither_loss_nor_gradient(
    form: str, change: dict, texts: list[str], tiny_bert: str
) -> None:
    model = load_late_interaction(tiny_bert) if form == FORMS[0] else load_cross_encoder(tiny_bert)
    settings = settings_for(form, tiny_bert, **change)
    usual = loss_and_gradient(loss_of(model, settings), model, inputs_for(form, model, texts, settings))
    for chunk in (1, 3, 16):
        chunked = sorted_loss_of(model, settings, chunk)
        value, gradient = loss_and_gradient(chunked, model, inputs_for(form, model, texts, settings))
        assert value == pytest.approx(usual[0], abs=1e-5) and value > 0.01
        assert torch.allclose(gradient, usual[1], atol=1e-5) and gradient.abs().max() > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_sorted_chunks_pad_less(form: str, texts: list[str], tiny_bert: str) -> None:
    model = load_late_interaction(tiny_bert) if form == FORMS[0] else load_cross_encoder(tiny_bert)
    settings = settings_for(form, tiny_bert)
    sizes = []
    for loss in (loss_of(model, settings), sorted_loss_of(model, settings, 4)):
        seen = widths(model, lambda loss=loss: loss(*inputs_for(form, model, texts, settings)))
        sizes.append(sum(rows * width for rows, width in seen))
    assert sizes[1] < 0.8 * sizes[0]


def test_annealed_temperatures_reach_the_sorted_losses(texts: list[str], tiny_bert: str) -> None:
    for form, load in zip(FORMS, (load_late_interaction, load_cross_encoder), strict=True):
        model = load(tiny_bert).eval()
        settings = settings_for(form, tiny_bert)
        losses = [loss_of(model, settings), sorted_loss_of(model, settings, 4)]
        values = []
        for loss in losses:
            loss.anneal(-1.5)
            values.append(loss(*inputs_for(form, model, texts, settings)).item())
        assert values[0] == pytest.approx(values[1], abs=1e-5)


def test_padding_on_the_left_is_refused(tiny_bert: str) -> None:
    model = load_late_interaction(tiny_bert)
    model.tokenizer.padding_side = "left"
    with pytest.raises(KardError, match="right"):
        sorted_loss_of(model, settings_for(FORMS[0], tiny_bert))
