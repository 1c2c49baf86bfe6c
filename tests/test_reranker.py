"""Eq. 3 written out and through the library, and ranking that depends on question and passage alone."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers.multi_vector_encoder.data_collator import MultiVectorEncoderDataCollator

from kardlib import reranker
from kardlib.candidates import Candidates
from kardlib.errors import KardError
from kardlib.presets import resolve
from kardlib.reranker import LateInteraction, best_first, load_cross_encoder, load_late_interaction, load_reranker
from kardlib.reranker_losses import CrossEncoderLoss, LateInteractionLoss, eq3_loss

FORMS = ("late-interaction", "cross-encoder")
QUERY = "A smith has bordema and kilalgy. Which drug should be given?"
TEXTS = {
    "a": "Kilalgy is rare.",
    "b": "The signs of vorosis are bordema, kilalgy and later much fever. It often passes without harm.",
    "c": "Vorosis is treated with bordol.",
    "d": "Every year the fair is held in summer, and people avoid it.",
}


@pytest.fixture(scope="module")
def backbones(tiny_bert: str) -> dict[str, str]:
    return dict.fromkeys(FORMS, tiny_bert)


def group(*names: str) -> Candidates:
    return Candidates(key="q", passages=names, scores=tuple(0.0 for _ in names))


def by_id(ranked: Candidates) -> dict[str, float]:
    return dict(zip(ranked.passages, ranked.scores, strict=True))


# --- Eq. 3 ------------------------------------------------------------------------------------------------------------


def random_scores(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 10 * torch.rand((5, 7), generator=generator), torch.randn((5, 7), generator=generator)


@pytest.mark.parametrize("tau1, tau2", [(1.0, 1.0), (2.0, 0.5), (0.3, 3.0)])
def test_eq3_is_cross_entropy_minus_entropy(tau1: float, tau2: float) -> None:
    teacher, student = random_scores()
    q, p = torch.softmax(teacher / tau1, -1), torch.softmax(student / tau2, -1)
    expected = (-(q * p.log()).sum(-1) + (q * q.log()).sum(-1)).mean()
    assert torch.isclose(eq3_loss(teacher, student, tau1, tau2), expected, atol=1e-5)


def test_eq3_by_hand_and_in_the_right_direction() -> None:
    q, p = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.5, 0.5]]).log()
    forward = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert math.isclose(eq3_loss(q, p, 1.0, 1.0).item(), forward, abs_tol=1e-6)
    assert abs(eq3_loss(p, q, 1.0, 1.0).item() - forward) > 0.1


def test_eq3_is_zero_for_equal_distributions_and_above_it_for_others() -> None:
    teacher, _ = random_scores()
    assert abs(eq3_loss(teacher, teacher * 3 / 2, 2.0, 3.0).item()) < 1e-6
    for seed in range(10):
        assert eq3_loss(*random_scores(seed), 2.0, 1.0).item() > 1e-3


def test_eq3_does_not_see_constants() -> None:
    teacher, student = random_scores()
    shift = torch.arange(5.0)[:, None] * 7
    value = eq3_loss(teacher, student, 2.0, 1.0)
    assert torch.isclose(eq3_loss(teacher + shift, student - shift, 2.0, 1.0), value, atol=1e-4)


def test_eq3_stays_finite_for_any_spread() -> None:
    teacher = torch.tensor([[0.0, 5000.0, -5000.0]])
    student = torch.tensor([[900.0, 0.0, -900.0]], requires_grad=True)
    loss = eq3_loss(teacher, student, 0.1, 1.0)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(student.grad).all()


@pytest.mark.parametrize("tau1, tau2", [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (1.0, -2.0)])
def test_temperatures_must_be_above_zero(tau1: float, tau2: float, tiny_bert: str) -> None:
    with pytest.raises(KardError, match="above 0"):
        eq3_loss(*random_scores(), tau1, tau2)
    with pytest.raises(KardError, match="tau"):
        resolve("mini", tau1=tau1 or -1.0, tau2=tau2 or -1.0)


def test_late_interaction_loss_is_eq3_on_maxsim(tiny_bert: str) -> None:
    tau1, tau2, names = 2.0, 0.7, ["a", "b", "c", "d"]
    queries, teacher = [QUERY, "What spreads vorosis?"], torch.tensor([[9.0, 7.5, 1.0, 0.0], [2.0, 2.5, 4.0, 1.0]])
    encoder = LateInteraction(tiny_bert)
    rows = [{"query": q} | {n: TEXTS[n] for n in names} for q in queries]
    batch = MultiVectorEncoderDataCollator(encoder.model.preprocess)(rows)
    features = [
        {key.removeprefix(f"{n}_"): value for key, value in batch.items() if key.startswith(f"{n}_")}
        for n in ("query", *names)
    ]
    loss = LateInteractionLoss(encoder.model, student_temperature=tau2, teacher_temperature=tau1)(features, teacher)
    ranked = encoder.rank(queries, [group(*names)] * 2, TEXTS)
    student = torch.tensor([[by_id(row)[n] for n in names] for row in ranked])
    assert torch.isclose(loss, eq3_loss(teacher, student, tau1, tau2), atol=1e-4)
    assert loss.item() > 0.01


def test_cross_encoder_loss_is_eq3(tiny_bert: str) -> None:
    tau1, tau2, names = 2.0, 0.7, ["a", "b", "c", "d"]
    queries, teacher = [QUERY, "What spreads vorosis?"], torch.tensor([[9.0, 7.5, 1.0, 0.0], [2.0, 2.5, 4.0, 1.0]])
    model = load_cross_encoder(tiny_bert)
    passages = [TEXTS[n] for n in names]
    loss = CrossEncoderLoss(model, tau2)([queries, [passages] * 2], list(teacher / tau1))
    pairs = [(q, passage) for q in queries for passage in passages]
    student = torch.tensor(model.predict(pairs, show_progress_bar=False)).reshape(2, 4)
    assert torch.isclose(loss, eq3_loss(teacher, student, tau1, tau2), atol=1e-4)
    assert loss.item() > 0.01 and student.std() > 1e-3


# --- ranking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_score_depends_on_question_and_passage_alone(form: Any, backbones: dict[str, str]) -> None:
    encoder = load_reranker(backbones[form], form)
    together = by_id(encoder.rank([QUERY], [group("a", "b", "c", "d")], TEXTS)[0])
    alone = {n: encoder.rank([QUERY], [group(n)], TEXTS)[0].scores[0] for n in TEXTS}
    beside = encoder.rank(["x", QUERY * 3, QUERY], [group("b"), group("d"), group("c", "a")], TEXTS)[2]
    assert together == pytest.approx(alone, abs=1e-4)
    assert by_id(beside) == pytest.approx({n: alone[n] for n in "ac"}, abs=1e-4)
    assert np.ptp(list(together.values())) > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_candidates_come_back_sorted_and_complete(form: Any, backbones: dict[str, str]) -> None:
    ranked = load_reranker(backbones[form], form).rank([QUERY], [group("d", "c", "b", "a")], TEXTS)[0]
    assert list(ranked.scores) == sorted(ranked.scores, reverse=True)
    assert sorted(ranked.passages) == sorted(TEXTS) and ranked.key == "q"


def test_vectors_of_few_passages_are_in_memory_at_a_time(tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, groups = LateInteraction(tiny_bert), [group("a", "b"), group("b", "c"), group("d")]
    together = encoder.rank([QUERY, "x", QUERY], groups, TEXTS)
    encoded: list[list[str]] = []
    encode = encoder.model.encode

    def watch(texts: list[str], task: str, **options: Any) -> Any:
        if task == "document":
            encoded.append(texts)
        return encode(texts, task=task, **options)

    monkeypatch.setattr(encoder.model, "encode", watch)
    assert encoder.rank([QUERY, "x", QUERY], groups, TEXTS) == together and encoded == [list(TEXTS.values())]
    encoded.clear()
    monkeypatch.setattr(reranker, "BLOCK_CHARACTERS", len(TEXTS["a"]) + len(TEXTS["b"]))
    apart = encoder.rank([QUERY, "x", QUERY], groups, TEXTS)
    assert encoded == [[TEXTS["a"], TEXTS["b"]], [TEXTS["c"]], [TEXTS["d"]]], "b comes again and is kept"
    for one, other in zip(apart, together, strict=True):
        assert one.passages == other.passages and one.scores == pytest.approx(other.scores, abs=1e-4)


def test_long_texts_go_through_a_cpu_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [reranker.batch_of(["x" * n] * 3) for n in (1, 100, 512, 10**5)] == [128, 61, 12, 1]
    assert reranker.batch_of([]) == 128
    monkeypatch.setattr(reranker, "device", lambda: torch.device("cuda"))
    assert reranker.batch_of(["x" * 10**5]) == 128


def test_ties_go_by_id() -> None:
    ranked = best_first(group("c", "e", "a", "b"), [1.0, 2.0, 1.0, 1.0])
    assert ranked.passages == ("e", "a", "b", "c") and ranked.scores == (2.0, 1.0, 1.0, 1.0)


def test_maxsim_ignores_padding_and_adds_over_query_tokens() -> None:
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    passages = [torch.tensor([[-1.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.8, 0.6], [-1.0, 0.0]])]
    assert LateInteraction.maxsim(query, passages) == pytest.approx([-1.0, 1.6])


def test_what_tells_two_passages_apart_adds_up_to_the_difference_of_their_scores(tiny_bert: str) -> None:
    encoder = LateInteraction(tiny_bert)
    scores = [sum(value for _, _, value in encoder.contributions(QUERY, TEXTS[i])) for i in ("a", "b")]
    words = encoder.preference(QUERY, TEXTS["a"], TEXTS["b"])
    assert sum(value for _, value in words) == pytest.approx(scores[0] - scores[1], abs=1e-4)
    assert all(value == 0 for _, value in encoder.preference(QUERY, TEXTS["a"], TEXTS["a"]))


def test_contributions_add_up_to_the_score(tiny_bert: str) -> None:
    encoder = LateInteraction(tiny_bert)
    parts = encoder.contributions(QUERY, TEXTS["b"])
    assert sum(value for _, _, value in parts) == pytest.approx(
        encoder.rank([QUERY], [group("b")], TEXTS)[0].scores[0], abs=1e-4
    )
    assert all(value <= 1.0001 for _, _, value in parts) and len(parts) == len(encoder.model.tokenizer(QUERY).input_ids)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("damage", ["cut", "noise", "gone", "config"])
def test_a_damaged_encoder_is_one_line(form: Any, damage: str, tiny_bert: str, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_bert, folder)
    file = folder / "model.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1000])
    elif damage == "noise":
        file.write_bytes(b"no weights at all")
    elif damage == "gone":
        file.unlink()
    else:
        (folder / "config.json").write_text("{")
    with pytest.raises(KardError) as caught:
        load_reranker(str(folder), form)
    assert "\n" not in str(caught.value) and "broken" in str(caught.value)


def test_a_fresh_late_interaction_model_keeps_the_backbones_width(tiny_bert: str) -> None:
    vectors = load_late_interaction(tiny_bert).encode([QUERY], task="query", show_progress_bar=False)[0]
    assert vectors.shape[1] == 64
    assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)), atol=1e-4)
