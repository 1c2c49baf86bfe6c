"""Training a reranker: its rows, its weights, kills; LoRA, held-out curves and less padding where asked for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch
from datasets import Dataset
from sentence_transformers import CrossEncoderTrainer, MultiVectorEncoderTrainer
from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments
from sentence_transformers.multi_vector_encoder import MultiVectorEncoderTrainingArguments
from tiny import Killed, kill_training_at, same_weights, watch_training, weights
from transformers import set_seed

from kardlib.bm25 import BM25
from kardlib.candidates import Candidates, question_candidates, training_pool
from kardlib.errors import KardError
from kardlib.keys import Keys
from kardlib.mini import MiniSet
from kardlib.models import device
from kardlib.presets import Settings, resolve
from kardlib.prompts import query_of
from kardlib.reranker import load_cross_encoder, load_late_interaction, load_reranker
from kardlib.reranker_curves import HeldOut, cut_pools, hold_out, measure_held_out, question_of
from kardlib.reranker_curves_figure import curves_figure
from kardlib.reranker_lora import Lora, add_lora, merge_lora, trained_share
from kardlib.reranker_losses import eq3_loss, loss_of
from kardlib.reranker_training import train_reranker, training_rows
from kardlib.teacher import ScriptedTeacher

matplotlib.use("Agg")
CPU = device().type == "cpu"
FORMS = ("late-interaction", "cross-encoder")


def settings_for(form: str, encoder: str, **change: Any) -> Settings:
    fast = dict(reranker_lr=2e-3, reranker_batch=8, reranker_epochs=1, pool=4, kappa1=4, kappa2=6)
    settings = resolve("mini", encoder=encoder, reranker_form=form, **(fast | change))
    return settings.model_copy(update={"reranker_chunk": change.get("reranker_chunk", 0)})  # 0: the library's way


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


# --- rows -------------------------------------------------------------------------------------------------------------


def test_rows_hold_each_pool_once_an_epoch_with_the_questions_query(
    pools: list, texts: dict, queries: dict, tiny_bert: str
) -> None:
    count, settings = len(pools), settings_for(FORMS[0], tiny_bert, reranker_epochs=2)
    rows = training_rows(pools, queries, texts, settings, 0)
    wanted = sorted(queries[question_of(pool)] for pool in pools)
    assert [sorted(row[0] for row in epoch) for epoch in (rows[:count], rows[count:])] == [wanted, wanted]
    assert [row[0] for row in rows[:count]] != [row[0] for row in rows[count:]], "epochs are shuffled"
    assert any(a[1] != b[1] for a in rows[:count] for b in rows[count:] if a[0] == b[0]), "passages are sampled anew"
    assert all(len(row[1]) == len(row[2]) == 4 for row in rows)


def test_rows_depend_on_the_seed_alone(pools: list, texts: dict, queries: dict, tiny_bert: str) -> None:
    settings = settings_for(FORMS[0], tiny_bert)
    made = [training_rows(pools[:1], queries, texts, settings, seed) for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]


def test_a_pool_of_one_is_one_line(pools: list, texts: dict, queries: dict, tiny_bert: str) -> None:
    few = pools[0].among(pools[0].passages[:1])
    with pytest.raises(KardError, match="nothing to rank"):
        training_rows([few], queries, texts, settings_for(FORMS[0], tiny_bert), 0)


# --- training ---------------------------------------------------------------------------------------------------------


def by_the_library(rows: list, settings: Settings, out: Path, work: Path) -> None:
    """The trainer of sentence-transformers as it is, set up from its documentation."""
    set_seed(0)
    shared = dict(
        output_dir=str(work), learning_rate=settings.reranker_lr, num_train_epochs=1, warmup_steps=0.05,
        per_device_train_batch_size=settings.reranker_batch, train_sampling_strategy="sequential", seed=0, use_cpu=CPU,
        save_strategy="no", report_to="none", disable_tqdm=True, bf16=not CPU,
    )  # fmt: skip
    if settings.reranker_form == "late-interaction":
        model: Any = load_late_interaction(settings.encoder)
        table = [{"query": q, **{f"passage_{j}": p for j, p in enumerate(ps)}, "label": s} for q, ps, s in rows]
        arguments, trainer = MultiVectorEncoderTrainingArguments(**shared), MultiVectorEncoderTrainer
    else:
        model = load_cross_encoder(settings.encoder)
        table = [{"query": q, "passages": ps, "labels": [x / settings.tau1 for x in s]} for q, ps, s in rows]
        arguments, trainer = CrossEncoderTrainingArguments(**shared), CrossEncoderTrainer
    data = Dataset.from_list(table)
    trainer(model=model, args=arguments, train_dataset=data, loss=loss_of(model, settings)).train()
    model.save_pretrained(str(out))


@pytest.mark.parametrize("form", FORMS)
def test_with_nothing_asked_for_and_with_curves_alone_the_weights_are_the_librarys(
    form: str, rows: list, held: HeldOut, tiny_bert: str, tmp_path: Path
) -> None:
    settings = settings_for(form, tiny_bert)
    by_the_library(rows, settings, tmp_path / "library", tmp_path / "work1")
    plain = train_reranker(rows, settings, 0, tmp_path / "plain", tmp_path / "work2")
    watched = train_reranker(rows, settings, 0, tmp_path / "watched", tmp_path / "work3", held)
    assert same_weights(tmp_path / "library", tmp_path / "plain") and plain.held == []
    assert same_weights(tmp_path / "plain", tmp_path / "watched"), "measuring changes nothing"
    assert [row["step"] for row in watched.held] == [0, 1, 2, 3] and watched.loss == plain.loss
    after = measure_held_out(load_reranker(str(tmp_path / "plain"), form), held, settings.tau1, settings.tau2)
    assert watched.held[-1] == pytest.approx({"step": 3, **after}, abs=1e-4)
    assert watched.held[0]["kl"] != watched.held[-1]["kl"]


def mean_loss(folder: str, settings: Settings, rows: list) -> float:
    """Eq. 3 of a saved or fresh reranker over rows."""
    reranker = load_reranker(folder, settings.reranker_form)
    texts = {text: text for row in rows for text in row[1]}
    groups = [Candidates(key="q", passages=tuple(row[1]), scores=tuple(row[2])) for row in rows]
    ranked = reranker.rank([row[0] for row in rows], groups, texts)
    scores = [dict(zip(r.passages, r.scores, strict=True)) for r in ranked]
    student = torch.tensor([[f[text] for text in row[1]] for f, row in zip(scores, rows, strict=True)])
    return eq3_loss(torch.tensor([row[2] for row in rows]), student, settings.tau1, settings.tau2).item()


@pytest.mark.parametrize("form", FORMS)
def test_training_lowers_eq3(form: str, rows: list, tiny_bert: str, tmp_path: Path) -> None:
    settings = settings_for(form, tiny_bert)
    torch.manual_seed(0)
    curves = train_reranker(rows * 5, settings, 0, tmp_path / "out", tmp_path / "work")
    before, after = mean_loss(tiny_bert, settings, rows), mean_loss(str(tmp_path / "out"), settings, rows)
    assert after < 0.95 * before
    assert [row["step"] for row in curves.loss] == [10] and all(row["loss"] > 0 for row in curves.loss)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("change", [{}, {"lora": True, "reranker_chunk": 4}])
def test_a_killed_training_goes_on_to_the_same_weights_and_curves(
    change: dict, form: str, rows: list, held: HeldOut, tiny_bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, measured = settings_for(form, tiny_bert, **change), held if change else None
    straight = train_reranker(rows, settings, 0, tmp_path / "straight", tmp_path / "work1", measured)
    kill_training_at(2, monkeypatch)
    with pytest.raises(Killed):
        train_reranker(rows, settings, 0, tmp_path / "killed", tmp_path / "work2", measured)
    assert not (tmp_path / "killed").exists()
    state = json.loads((tmp_path / "work2" / "checkpoint-2" / "trainer_state.json").read_text())
    assert [row["step"] for row in state["log_history"]] == ([0, 1, 2] if measured else [])
    steps = watch_training(monkeypatch)
    resumed = train_reranker(rows, settings, 0, tmp_path / "killed", tmp_path / "work2", measured)
    assert steps == [2], "what was done is not done again"
    assert same_weights(tmp_path / "straight", tmp_path / "killed") and resumed.loss == straight.loss
    assert [row["step"] for row in resumed.held] == ([0, 1, 2, 3] if measured else [])
    for one, other in zip(resumed.held, straight.held, strict=True):
        assert one == pytest.approx(other)


@pytest.mark.parametrize("change", [{"reranker_chunk": 4}, {"reranker_part": 4}, {"lora": True}])
def test_chunks_parts_and_lora_make_other_weights_under_another_key(
    change: dict, rows: list, tiny_bert: str, tmp_path: Path
) -> None:
    each = {"usual": settings_for(FORMS[0], tiny_bert), "other": settings_for(FORMS[0], tiny_bert, **change)}
    for name, settings in each.items():
        train_reranker(rows, settings, 0, tmp_path / name, tmp_path / f"work {name}")
    assert not same_weights(tmp_path / "usual", tmp_path / "other")
    usual, other = (Keys(settings).key("reranker", seed=0) for settings in each.values())
    assert usual != other


def test_a_cross_encoder_keeps_no_vectors(tiny_bert: str) -> None:
    with pytest.raises(KardError, match="reranker_vectors"):
        settings_for("cross-encoder", tiny_bert, reranker_vectors="float16")


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


def test_a_tenth_is_held_out_with_what_bm25_finds_for_it(pools: list, texts: dict, queries: dict) -> None:
    asked: list[str] = []

    def found(name: str) -> Candidates:
        asked.append(name)
        return Candidates(key=name, passages=(min(texts),), scores=(1.0,))

    kept, held = hold_out(pools, queries, texts, found)
    assert (kept, held.pools) == cut_pools(pools) and len(held.pools) < len(kept) / 5
    assert sorted(asked) == sorted({question_of(pool) for pool in held.pools})
    assert {name: held.candidates[name].key for name in asked} == {name: name for name in asked}


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
    train_reranker(rows, settings_for(form, tiny_bert, lora=True), 0, tmp_path / "out", tmp_path / "work")
    assert not list((tmp_path / "out").rglob("adapter*"))
    torch.manual_seed(0)
    (load_late_interaction if form == FORMS[0] else load_cross_encoder)(tiny_bert).save_pretrained(str(tmp_path / "in"))
    before, after = weights(tmp_path / "in"), weights(tmp_path / "out")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    attention = {name for name in moved if name.endswith(("query.weight", "value.weight"))}
    assert len(attention) == 2 and all("pooler" in name or "classifier" in name for name in moved - attention)
    change = next(after[n] - before[n] for n in attention)
    assert torch.linalg.matrix_rank(change, tol=1e-5) <= Lora().rank < min(change.shape)
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
