"""Training with LoRA, held-out curves and less padding; with none of them, the weights of ``train_reranker``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch
from tiny import Killed, same_weights, weights

from kardlib import reranker_fit, student
from kardlib.bm25 import BM25
from kardlib.candidates import Candidates, question_candidates, training_pool
from kardlib.errors import KardError
from kardlib.mini import MiniSet
from kardlib.presets import Settings, resolve
from kardlib.prompts import query_of
from kardlib.reranker import load_cross_encoder, load_late_interaction, load_reranker, train_reranker, training_rows
from kardlib.reranker_curves import HeldOut, cut_pools, measure_held_out, question_of
from kardlib.reranker_curves_figure import curves_figure
from kardlib.reranker_fit import Options, fit_from_pools, fit_reranker
from kardlib.reranker_lora import Lora, add_lora, merge_lora, trained_share
from kardlib.reranker_losses import eq3_loss
from kardlib.student import SaveByTime
from kardlib.teacher import ScriptedTeacher

matplotlib.use("Agg")
FORMS = ("late-interaction", "cross-encoder")


def settings_for(form: str, encoder: str, **change: Any) -> Settings:
    fast = dict(reranker_lr=2e-3, reranker_batch=8, reranker_epochs=1, pool=4, kappa1=4, kappa2=6)
    return resolve("mini", encoder=encoder, reranker_form=form, **(fast | change))


@pytest.fixture(scope="module")
def pools(mini: MiniSet, search: BM25) -> list[Candidates]:
    questions = mini.splits["train"][:30]
    told = ScriptedTeacher(mini).rationales(questions, 2, True)
    by_id = {q.id: q for q in questions}
    return [training_pool(search, by_id[r.question_id], r, 4, 6) for r in told]


@pytest.fixture(scope="module")
def texts(mini: MiniSet) -> dict[str, str]:
    return {p.id: p.text for p in mini.passages}


@pytest.fixture(scope="module")
def queries(mini: MiniSet) -> dict[str, str]:
    return {q.id: query_of(q) for q in mini.splits["train"]}


@pytest.fixture(scope="module")
def held(mini: MiniSet, search: BM25, pools: list[Candidates], texts: dict, queries: dict) -> HeldOut:
    by_id = {q.id: q for q in mini.splits["train"]}
    out = cut_pools(pools, 0.2)[1]
    found = {name: question_candidates(search, by_id[name], 12) for name in map(question_of, out)}
    return HeldOut(out, queries, found, texts)


@pytest.fixture(scope="module")
def rows(pools: list[Candidates], texts: dict, queries: dict, tiny_bert: str) -> list:
    return training_rows(cut_pools(pools, 0.2)[0], queries, texts, settings_for(FORMS[0], tiny_bert), 0)[:24]


# --- nothing asked for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_without_options_and_with_curves_alone_the_weights_are_the_usual_ones(
    form: str, rows: list, held: HeldOut, tiny_bert: str, tmp_path: Path
) -> None:
    settings = settings_for(form, tiny_bert)
    curve = train_reranker(rows, settings, 0, tmp_path / "usual", tmp_path / "work1")
    plain = fit_reranker(rows, settings, 0, tmp_path / "plain", tmp_path / "work2")
    watched = fit_reranker(rows, settings, 0, tmp_path / "watched", tmp_path / "work3", Options(held=held, times=3))
    assert same_weights(tmp_path / "usual", tmp_path / "plain") and plain.curve == curve and plain.held == []
    assert same_weights(tmp_path / "usual", tmp_path / "watched"), "measuring changes nothing"
    assert [row["step"] for row in watched.held] == [0, 1, 2, 3]
    after = measure_held_out(load_reranker(str(tmp_path / "usual"), form), held, settings.tau1, settings.tau2)
    assert watched.held[-1] == pytest.approx({"step": 3, **after}, abs=1e-4)
    assert watched.held[0]["kl"] != watched.held[-1]["kl"]


# --- the held-out part ------------------------------------------------------------------------------------------------


def test_no_question_is_on_both_sides(pools: list[Candidates]) -> None:
    kept, out = cut_pools(pools, 0.2)
    assert {question_of(p) for p in kept}.isdisjoint(question_of(p) for p in out)
    assert len(kept) + len(out) == len(pools) and 0 < len(out) < len(pools) / 2
    assert cut_pools(list(reversed(pools)), 0.2)[1] == list(reversed(out)), "the order of the pools decides nothing"


def test_fewer_held_out_questions_change_nothing_in_the_training(pools: list[Candidates]) -> None:
    kept, out = cut_pools(pools, 0.3)
    same, few = cut_pools(pools, 0.3, at_most=1)
    assert same == kept and len({question_of(p) for p in few}) == 1 and len(out) > len(few)
    with pytest.raises(KardError, match="too few"):
        cut_pools(pools[:2], 0.2)


def test_what_is_measured_is_eq3_and_hits_by_hand(held: HeldOut, tiny_bert: str) -> None:
    reranker = load_reranker(tiny_bert, "late-interaction")
    measured = measure_held_out(reranker, held, 2.0, 0.5)
    losses, hits, seen = [], [], set()
    for pool in held.pools:
        name = question_of(pool)
        ranked = reranker.rank([held.queries[name]], [pool], held.texts)[0]
        f = dict(zip(ranked.passages, ranked.scores, strict=True))
        student = torch.tensor([[f[i] for i in pool.passages]])
        losses.append(eq3_loss(torch.tensor([pool.scores]), student, 2.0, 0.5).item())
        if name not in seen:
            seen.add(name)
            order = reranker.rank([held.queries[name]], [held.candidates[name]], held.texts)[0].passages
            hits.append(any(passage in pool.passages[:3] for passage in order[:5]))
    assert measured["kl"] == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    assert measured["hits@5"] == pytest.approx(100 * sum(hits) / len(hits))
    assert measured["hits@1"] <= measured["hits@3"] <= measured["hits@5"] <= measured["hits@10"]


def test_a_training_from_pools_holds_a_tenth_out(
    mini: MiniSet, search: BM25, pools: list, texts: dict, queries: dict, tiny_bert: str, tmp_path: Path
) -> None:
    settings, by_id = settings_for(FORMS[0], tiny_bert), {q.id: q for q in mini.splits["train"]}
    asked: list[str] = []

    def found(name: str) -> Candidates:
        asked.append(name)
        return question_candidates(search, by_id[name], 12)

    fitted = fit_from_pools(pools, queries, texts, settings, 0, tmp_path / "a", tmp_path / "work1", found=found)
    kept, out = cut_pools(pools)
    assert sorted(asked) == sorted({question_of(pool) for pool in out}) and len(fitted.held) > 2
    rows = training_rows(kept, queries, texts, settings, 0)
    assert fit_reranker(rows, settings, 0, tmp_path / "b", tmp_path / "work2").curve == fitted.curve
    assert same_weights(tmp_path / "a", tmp_path / "b"), "trained on the others alone"
    whole = fit_from_pools(pools, queries, texts, settings, 0, tmp_path / "c", tmp_path / "work3")
    assert whole.held == [] and not same_weights(tmp_path / "a", tmp_path / "c")


def test_the_figure_shows_both_sides() -> None:
    curve = [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 0.5}]
    held = [{"step": s, "kl": 1 / (s + 1), "hits@1": 10.0, "hits@3": 30.0} for s in (0, 10, 20)]
    figure = curves_figure(curve, held)
    labels = [[line.get_label() for line in axes.lines] for axes in figure.axes]
    assert labels == [["loss in training", "KL, held out"], ["hits@1", "hits@3"]]
    assert list(figure.axes[0].lines[1].get_ydata()) == [row["kl"] for row in held]


# --- LoRA -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_lora_moves_query_and_value_alone_and_loads_without_peft(
    form: str, rows: list, tiny_bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(form, tiny_bert)
    fit_reranker(rows, settings, 0, tmp_path / "out", tmp_path / "work", Options(lora=Lora(rank=4)))
    assert not list((tmp_path / "out").rglob("adapter*"))
    torch.manual_seed(0)
    (load_late_interaction if form == FORMS[0] else load_cross_encoder)(tiny_bert).save_pretrained(str(tmp_path / "in"))
    before, after = weights(tmp_path / "in"), weights(tmp_path / "out")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    attention = {name for name in moved if name.endswith(("query.weight", "value.weight"))}
    assert len(attention) == 2 and all("pooler" in name or "classifier" in name for name in moved - attention)
    change = next(after[n] - before[n] for n in attention)
    assert torch.linalg.matrix_rank(change, tol=1e-5) <= 4
    monkeypatch.setitem(sys.modules, "peft", None)  # a user who has not installed it
    assert load_reranker(str(tmp_path / "out"), form).rank(
        ["q"], [Candidates(key="q", passages=("a",), scores=(0,))], {"a": "b"}
    )


@pytest.mark.parametrize("form", FORMS)
def test_merging_keeps_the_scores(form: str, tiny_bert: str, texts: dict) -> None:
    reranker = load_reranker(tiny_bert, form)
    group = Candidates(key="q", passages=tuple(sorted(texts)[:6]), scores=(0.0,) * 6)
    plain = reranker.rank(["Which drug?"], [group], texts)[0]
    add_lora(reranker.model, Lora(rank=4))
    assert 0 < trained_share(reranker.model) < 0.3
    with torch.no_grad():
        for name, weight in reranker.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.5)
    adapted = reranker.rank(["Which drug?"], [group], texts)[0]
    merge_lora(reranker.model)
    merged = reranker.rank(["Which drug?"], [group], texts)[0]
    assert merged.passages == adapted.passages and merged.scores == pytest.approx(adapted.scores, abs=1e-4)
    assert adapted.scores != pytest.approx(plain.scores, abs=1e-2), "the update does something"
    assert trained_share(reranker.model) == 1


def test_a_backbone_with_other_names_is_one_line(tiny_t5: str) -> None:
    from kardlib.reranker_lora import projections

    class Body(torch.nn.Module):
        transformers_model = torch.nn.Linear(1, 1)

    with pytest.raises(KardError, match="query and value"):
        projections(Body())


# --- kills ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_killed_training_with_all_options_goes_on_to_the_same_weights_and_curves(
    form: str, rows: list, held: HeldOut, tiny_bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, options = settings_for(form, tiny_bert), Options(Lora(rank=4), held, times=3, chunk=4)
    straight = fit_reranker(rows, settings, 0, tmp_path / "straight", tmp_path / "work1", options)

    class Kill(SaveByTime):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                raise Killed

    monkeypatch.setattr(student, "CHECKPOINT_SECONDS", -1)
    monkeypatch.setattr(reranker_fit, "SaveByTime", Kill)
    with pytest.raises(Killed):
        fit_reranker(rows, settings, 0, tmp_path / "killed", tmp_path / "work2", options)
    checkpoint = next((tmp_path / "work2").glob("checkpoint-2"))
    assert [row["step"] for row in json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]] == [
        0,
        1,
        2,
    ]
    monkeypatch.setattr(reranker_fit, "SaveByTime", SaveByTime)
    resumed = fit_reranker(rows, settings, 0, tmp_path / "killed", tmp_path / "work2", options)
    assert same_weights(tmp_path / "straight", tmp_path / "killed")
    assert [row["step"] for row in resumed.held] == [0, 1, 2, 3] and resumed.curve == straight.curve
    for one, other in zip(resumed.held, straight.held, strict=True):
        assert one == pytest.approx(other)
