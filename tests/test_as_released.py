"""Departures of the released code: defaults change nothing, and each switch does what it says and nothing else."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers.multi_vector_encoder.data_collator import MultiVectorEncoderDataCollator
from tiny import Killed, kill_training_at, same_weights, watch_training

from kardlib.annealing import CROSSING, annealing
from kardlib.as_released import (
    DEPARTURES,
    RD,
    READINGS,
    RERANKED,
    cut_rows,
    last_character,
    last_words,
    read_again,
    switches,
    trained_on,
)
from kardlib.bm25 import BM25
from kardlib.candidates import (
    Candidates,
    question_candidates,
    rationale_candidates,
    released_pool,
    sample_halves,
    training_pool,
)
from kardlib.errors import KardError
from kardlib.experiment import Experiment
from kardlib.methods import KARD, REASONING_DISTILLATION, TRAININGS, method
from kardlib.mini import MiniSet
from kardlib.mini_tokenizer import make_tokenizer
from kardlib.pairs import training_pairs
from kardlib.predict import predict
from kardlib.presets import Settings, resolve
from kardlib.prompts import build_prompt, query_of
from kardlib.records import Passage, Prediction, Question, Rationale
from kardlib.released_reranker import best_only
from kardlib.reranker import load_cross_encoder, load_late_interaction
from kardlib.reranker_losses import CrossEncoderLoss, eq3_loss, loss_of
from kardlib.reranker_training import train_reranker, training_rows
from kardlib.splits import hold_out_dev
from kardlib.store import fingerprint
from kardlib.studies import cells_of
from kardlib.teacher import ScriptedTeacher
from kardlib.training_steps import _dev_pairs

FORMS = ("late-interaction", "cross-encoder")
Row = tuple[str, list[str], list[float]]
TEXTS = ["Kilalgy is rare.", "Bordema and kilalgy are signs of vorosis.", "Vorosis is treated with bordol."]
QUERY = "A smith has bordema. Which drug should be given?"
USUAL = {name: field.default for name, field in Settings.model_fields.items()}


def settings_for(encoder: str, form: str = FORMS[0], **change: Any) -> Settings:
    fast = dict(reranker_lr=2e-3, reranker_batch=4, reranker_epochs=1, pool=4, kappa1=4, kappa2=6)
    return resolve("mini", encoder=encoder, reranker_form=form, **(fast | change))


@pytest.fixture(scope="module")
def told(mini: MiniSet) -> list[tuple[Question, Rationale]]:
    questions = mini.splits["train"][:12]
    return list(zip(questions, ScriptedTeacher(mini).rationales(questions, 1, True), strict=True))


def rows_of(told: list, search: BM25, settings: Settings, released: bool = False) -> list[Row]:
    pools = [(released_pool if released else training_pool)(search, q, r, 4, 6) for q, r in told]
    texts = {p.id: p.text for p in search.passages}
    return training_rows(pools, {q.id: query_of(q) for q, _ in told}, texts, settings, 0)


# --- the table --------------------------------------------------------------------------------------------------------


def test_every_departure_has_a_switch_or_a_way_to_measure_it_or_a_reason_why_not() -> None:
    assert len({d.id for d in DEPARTURES}) == len(DEPARTURES)
    for departure in DEPARTURES:
        assert bool(departure.settings) + bool(departure.why_not) <= 1
        assert departure.settings or departure.note or departure.why_not
        assert bool(departure.settings) == bool(departure.rows)
        for name, value in departure.settings.items():
            assert USUAL[name] != value, "as in the paper is the default"


def test_all_usual_departures_at_once_are_valid_settings() -> None:
    for words, change in switches().items():
        settings = resolve("mini", **change)
        assert {name: getattr(settings, name) for name in change} == change
        assert settings.changed() == change, words
    together = switches()[", all of these"]
    usual = {name for d in DEPARTURES if d.usual for name in d.settings}
    assert set(together) == usual and together["reranker_loss"] == "best document"


def test_the_study_has_each_departure_alone_beside_the_paper() -> None:
    cells = cells_of("as released", resolve("mini", student_lr=1e-3))
    for name in (RERANKED, RD):
        changes = [
            {n: v for n, v in c.settings.changed().items() if n != "student_lr"} for c in cells if c.method == name
        ]
        alone = [dict(d.settings) for d in DEPARTURES if d.settings and name in d.rows]
        assert changes == [{}, *alone, *([switches()[", all of these"]] if name == RERANKED else [])]
    assert {cell.settings.dataset for cell in cells} == {"mini-medqa"} and len({c.row for c in cells}) == len(cells)
    assert {cell.settings.student_lr for cell in cells} == {1e-3}


# --- keys -------------------------------------------------------------------------------------------------------------


def keys(settings: Settings) -> dict[str, str]:
    one = Experiment(settings)
    found = {"rationales": one.key("rationales"), "pools": one.key("pools")}
    found |= {step: one.key(step, seed=0) for step in ("reranker", "reranked")}
    found |= {f"student {name}": one.key("student", training=name, seed=0) for name in TRAININGS}
    found |= {name: one.key("predictions", name=name, seed=0) for name in (RERANKED, RD, "KARD (BM25)", "Fine-tuning")}
    return {name: fingerprint(key) for name, key in found.items()}


RERANKER = {"reranker", "reranked", RERANKED}


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"reranker_loss": "best document"}, RERANKER),
        ({"reranker_loss": "annealed kl"}, RERANKER),
        ({"reranker_frozen_passages": True}, RERANKER),
        ({"pool_as_released": True}, {"pools"} | RERANKER),
        ({"prompt_as_released": True}, {f"student {KIND}" for KIND in ("KARD", RD)} | {RERANKED, RD, "KARD (BM25)"}),
    ],
    ids=str,
)
def test_a_switch_remakes_what_it_changes(tiny_t5: str, tiny_bert: str, change: dict[str, Any], expected: set) -> None:
    settings = settings_for(tiny_bert, student=tiny_t5)
    before, after = keys(settings), keys(settings.model_copy(update=change))
    assert {name for name in before if before[name] != after[name]} == expected


def test_what_is_as_in_the_paper_has_keys_without_the_switches(tiny_t5: str, tiny_bert: str) -> None:
    one = Experiment(settings_for(tiny_bert, student=tiny_t5))
    names = {name for d in DEPARTURES for name in d.settings}
    made = [one.key("pools"), one.key("reranker", seed=0), one.key("student", training="KARD", seed=0)]
    assert names and not any(names & set(key) for key in made)


# --- the reranker's loss ----------------------------------------------------------------------------------------------


def test_both_temperatures_cross_zero_after_a_twentieth_of_the_training() -> None:
    assert annealing(0) == 1 and annealing(1) == pytest.approx(-3, abs=1e-3)
    assert 0.051 < CROSSING < 0.0511 and annealing(CROSSING) == pytest.approx(0, abs=1e-12)
    course = [annealing(i / 1000) for i in range(1001)]
    assert course == sorted(course, reverse=True) and 0 not in course
    for progress in (0.0, 0.02, 0.3, 1.0):  # tau = 1 - 4a, tau2 = 100 - 400a, a = 2 / (1 + exp(-10 p)) - 1
        a = 2 / (1 + math.exp(-10 * progress)) - 1
        assert (annealing(progress), 100 * annealing(progress)) == pytest.approx((1 - 4 * a, 100 - 400 * a))


def turned(teacher: torch.Tensor, student: torch.Tensor, tau1: float, tau2: float) -> torch.Tensor:
    """KL(Q || P) at temperatures of any sign."""
    q, p = torch.softmax(teacher.double() / tau1, -1), torch.softmax(student.double() / tau2, -1)
    return (q * (q.log() - p.log())).sum(-1).mean()


@pytest.mark.parametrize("factor", [1.0, 0.3, -0.5, -3.0])
def test_the_ranking_aimed_at_is_the_same_on_both_sides_of_zero_and_the_weights_are_not(factor: float) -> None:
    teacher, tau1, tau2 = torch.tensor([[6.0, 3.0, 1.0, 0.0]]), 2.0, 1.0
    aim = (teacher * tau2 / tau1).requires_grad_()
    loss = turned(teacher, aim, factor * tau1, factor * tau2)
    loss.backward()
    assert abs(loss.item()) < 1e-12 and aim.grad.abs().max() < 1e-12
    start = torch.zeros(1, 4, requires_grad=True)
    turned(teacher, start, factor * tau1, factor * tau2).backward()
    q = torch.softmax(teacher[0] / (factor * tau1), -1)
    assert q.argmax() == (0 if factor > 0 else 3), "below zero the worst candidate weighs most"
    assert start.grad[0, 0] < 0 < start.grad[0, 3], "the best goes up and the worst down on either side"


def late_features(model: Any, queries: list[str]) -> list[dict[str, Any]]:
    rows = [{"query": query} | {f"passage_{i}": text for i, text in enumerate(TEXTS)} for query in queries]
    batch = MultiVectorEncoderDataCollator(model.preprocess)(rows)
    names = ("query", *(f"passage_{i}" for i in range(len(TEXTS))))
    return [{k.removeprefix(f"{n}_"): v for k, v in batch.items() if k.startswith(f"{n}_")} for n in names]


@pytest.mark.parametrize("factor", [0.4, -0.5, -3.0])
@pytest.mark.parametrize("form", FORMS)
def test_an_annealed_loss_is_kl_at_the_factors_temperatures(form: str, factor: float, tiny_bert: str) -> None:
    settings, teacher = settings_for(tiny_bert, form, tau1=2.0, tau2=0.7), torch.tensor([[4.0, 2.5, 0.0]])
    values = {}
    for now in (1.0, factor):
        model = load_late_interaction(tiny_bert) if form == FORMS[0] else load_cross_encoder(tiny_bert)
        torch.manual_seed(0)
        model = model if form == FORMS[0] else load_cross_encoder(tiny_bert)  # its fresh head is random
        loss = loss_of(model, settings)
        loss.anneal(now)
        with torch.no_grad():
            if form == FORMS[0]:
                values[now] = loss(late_features(model, [QUERY]), teacher).item()
                queries, passages = (model.encode(t, task=k, show_progress_bar=False)
                                     for t, k in (([QUERY], "query"), (TEXTS, "document")))  # fmt: skip
                student = torch.tensor([[(queries[0] @ p.T).max(-1).values.sum().item() for p in passages]])
            else:
                values[now] = loss([[QUERY], [TEXTS]], list(teacher / settings.tau1)).item()
                student = torch.tensor([model.predict([(QUERY, t) for t in TEXTS], show_progress_bar=False).tolist()])
        expected = turned(teacher, student, now * settings.tau1, now * settings.tau2).item()
        assert values[now] == pytest.approx(expected, abs=1e-4)
    assert values[1.0] != pytest.approx(values[factor], abs=1e-4)


def test_the_loss_on_the_best_document_is_its_cross_entropy() -> None:
    rows = best_only([("q", ["a", "b", "c", "d"], [1.0, 4.0, 4.0, 0.5])])
    assert rows[0][:2] == ("q", ["a", "b", "c", "d"])
    student = torch.tensor([[0.3, -1.0, 2.0, 0.0]])
    for tau1, tau2 in ((2.0, 1.0), (30.0, 0.5)):
        expected = torch.nn.functional.cross_entropy(student / tau2, torch.tensor([1]))
        assert torch.isclose(eq3_loss(torch.tensor([rows[0][2]]), student, tau1, tau2), expected, atol=1e-6)


def test_a_cross_encoder_takes_the_best_document_too(tiny_bert: str) -> None:
    model = load_cross_encoder(tiny_bert)
    rows = best_only([(QUERY, TEXTS, [1.0, 7.0, 3.0])])
    with torch.no_grad():
        loss = CrossEncoderLoss(model, 0.7)([[QUERY], [TEXTS]], [torch.tensor(rows[0][2]) / 2.0])
    student = torch.tensor([model.predict([(QUERY, t) for t in TEXTS], show_progress_bar=False).tolist()])
    expected = torch.nn.functional.cross_entropy(student / 0.7, torch.tensor([1]))
    assert torch.isclose(loss, expected, atol=1e-4)


def test_passages_without_a_gradient_score_the_same_and_questions_alone_teach(tiny_bert: str) -> None:
    teacher, gradients, losses = torch.tensor([[4.0, 2.5, 0.0]]), {}, {}
    for frozen in (False, True):
        model = load_late_interaction(tiny_bert).eval()
        seen = []
        loss = loss_of(model, settings_for(tiny_bert, reranker_frozen_passages=frozen))
        kept = loss.similarity_fct

        def watch(queries: Any, documents: Any, kept: Any = kept, seen: list = seen, **masks: Any) -> Any:
            queries.retain_grad()
            documents.retain_grad()
            seen += [queries, documents]
            return kept(queries, documents, **masks)

        loss.similarity_fct = watch
        value = loss(late_features(model, [QUERY]), teacher)
        value.backward()
        losses[frozen], gradients[frozen] = value.item(), [part.grad for part in seen]
    assert losses[True] == losses[False]
    assert torch.equal(gradients[True][0], gradients[False][0]), "what the question learns is the same"
    assert gradients[True][1] is None and gradients[False][1].abs().max() > 0


def test_a_cross_encoder_has_no_passage_side(tiny_bert: str) -> None:
    with pytest.raises(KardError, match="reranker_frozen_passages"):
        settings_for(tiny_bert, "cross-encoder", reranker_frozen_passages=True)


def test_every_switch_of_the_reranker_trains_another_one_and_the_defaults_the_same(
    told: list, search: BM25, tiny_bert: str, tmp_path: Path
) -> None:
    usual = settings_for(tiny_bert)
    rows = rows_of(told, search, usual)
    named = {n: USUAL[n] for n in ("reranker_loss", "reranker_frozen_passages", "pool_as_released")}
    changes = {"usual": {}, "named": named, "best": {"reranker_loss": "best document"},
               "annealed": {"reranker_loss": "annealed kl"}, "frozen": {"reranker_frozen_passages": True}}  # fmt: skip
    for name, change in changes.items():
        settings = settings_for(tiny_bert, **change)
        assert rows_of(told, search, settings) == rows
        train_reranker(rows, settings, 0, tmp_path / name, tmp_path / f"work {name}")
    assert same_weights(tmp_path / "usual", tmp_path / "named")
    others = ["usual", "best", "annealed", "frozen"]
    assert not any(same_weights(tmp_path / a, tmp_path / b) for i, a in enumerate(others) for b in others[:i])


def test_an_annealed_training_that_was_killed_goes_on_to_the_same_weights(
    told: list, search: BM25, tiny_bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tiny_bert, reranker_loss="annealed kl")
    rows = rows_of(told, search, settings)
    train_reranker(rows, settings, 0, tmp_path / "straight", tmp_path / "work1")
    kill_training_at(2, monkeypatch)
    with pytest.raises(Killed):
        train_reranker(rows, settings, 0, tmp_path / "killed", tmp_path / "work2")
    steps = watch_training(monkeypatch)
    train_reranker(rows, settings, 0, tmp_path / "killed", tmp_path / "work2")
    assert steps == [2] and same_weights(tmp_path / "straight", tmp_path / "killed")


# --- pools ------------------------------------------------------------------------------------------------------------


def test_a_released_pool_is_two_lists_one_behind_the_other(told: list, search: BM25) -> None:
    twice = 0
    for question, r in told:
        pool = released_pool(search, question, r, 4, 6)
        first, second = rationale_candidates(search, r, 4), question_candidates(search, question, 6)
        assert pool.passages == first.passages + second.passages and pool.key == first.key
        assert pool.scores[:4] == first.scores
        twice += len(pool.passages) - len(set(pool.passages))
    assert twice, "no passage was found twice: this test would see no de-duplication"
    with pytest.raises(KardError, match="paired"):
        released_pool(search, told[0][0], told[1][1], 4, 6)


def test_the_second_scorer_reads_the_rationale_and_knows_no_word_of_a_single_passage() -> None:
    texts = ["fever and rash", "fever in spring", "rash of zorp", "spring rain"]
    search = BM25([Passage(id=f"p{i}", text=text) for i, text in enumerate(texts)])
    question = Question(id="q", stem="spring rain?", options=("rash", "zorp"), answer=0)
    told = Rationale(question_id="q", index=0, text="The rash is zorp, a rash.", saw_gold=True)
    pool = released_pool(search, question, told, 4, 4)
    first, second = (dict(zip(pool.passages[i : i + 4], pool.scores[i : i + 4], strict=True)) for i in (0, 4))
    common = dict(zip(("p0", "p1", "p2", "p3"), search.scores("rash rash").tolist(), strict=True))
    assert second == pytest.approx(common), "zorp is in one passage only"
    assert first["p2"] > second["p2"] > 0 and first["p0"] == pytest.approx(second["p0"])
    assert second["p3"] == 0, "it was found with the question and is scored by the rationale"


def test_samples_come_half_from_each_half() -> None:
    pool = Candidates(key="q#0", passages=tuple("abcd" + "abxyzw"), scores=tuple(float(10 - i) for i in range(10)))
    drawn: Counter[str] = Counter()
    for seed in range(60):
        passages, scores = sample_halves(pool, 4, 5, np.random.default_rng(seed))
        assert set(passages[:2]) <= set("abcd") and set(passages[2:]) <= set("abxyzw")
        assert len(set(passages[:2])) == 2 and len(set(passages[2:])) == 3
        assert all(
            score in {pool.scores[i] for i in range(10) if pool.passages[i] == p}
            for p, score in zip(passages, scores, strict=True)
        )
        drawn["twice"] += len(set(passages)) < 5
        drawn.update(passages)
    assert set(pool.passages) <= set(drawn) and drawn["twice"], "a passage of both halves can be drawn twice"
    with pytest.raises(KardError, match="q#0"):
        sample_halves(pool, 1, 5, np.random.default_rng(0))


def test_training_rows_of_a_released_pool_are_drawn_from_its_halves(told: list, search: BM25, tiny_bert: str) -> None:
    rows = rows_of(told, search, settings_for(tiny_bert, pool_as_released=True), released=True)
    texts = {p.id: p.text for p in search.passages}
    by_query = {query_of(q): (q, r) for q, r in told}
    assert len(rows) == len(told)
    for query, passages, _ in rows:
        question, r = by_query[query]
        assert set(passages[:2]) <= {texts[i] for i in rationale_candidates(search, r, 4).passages}
        assert set(passages[2:]) <= {texts[i] for i in question_candidates(search, question, 6).passages}


# --- prompts ----------------------------------------------------------------------------------------------------------

Q = Question(id="q1", stem="What helps?", options=("aspirin", "quinine"), answer=1)


def test_released_training_prompts_differ_in_what_is_said_and_nothing_else() -> None:
    usual, released = (
        build_prompt(Q, ["one text", "another"], layout=layout) for layout in ("one for all", "as released")
    )
    assert released == usual.replace("one text [2]", "one text\t[2]") != usual
    usual, released = (build_prompt(Q, layout=layout) for layout in ("one for all", "as released"))
    assert f"Question: {released}" == usual


def test_the_shipped_tokenizer_sees_no_tab_and_misses_the_label(told: list, search: BM25) -> None:
    tokenizer = make_tokenizer("seq2seq")
    for training, same in ((KARD, True), (REASONING_DISTILLATION, False)):
        made = [
            training_pairs(training, told, search, 3, lambda t: len(tokenizer.tokenize(t)), 90, layout=layout)
            for layout in ("one for all", "as released")
        ]
        ids = [[tokenizer(pair.source).input_ids for pair in pairs] for pairs in made]
        assert (ids[0] == ids[1]) == same
        assert [p.target for p in made[0]] == [p.target for p in made[1]] and made[0] != made[1]


def test_the_switch_reaches_students_that_write_rationales(
    tiny_t5: str, tiny_bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KARD_RUNS", str(tmp_path))
    small = dict(student=tiny_t5, size="smoke", inventory="development", filter=False, l=1)
    usual, released = (Experiment(settings_for(tiny_bert, **small, prompt_as_released=on)) for on in (False, True))
    default = Experiment(settings_for(tiny_bert, **small))
    for name, training in TRAININGS.items():
        pairs = [one.training_pairs(training) for one in (default, usual, released)]
        assert pairs[0] == pairs[1]
        assert (pairs[1] != pairs[2]) == (training.target == "rationale"), name


def test_dev_pairs_are_laid_out_as_training_pairs(
    tiny_t5: str, tiny_bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KARD_RUNS", str(tmp_path))
    small = dict(student=tiny_t5, size="smoke", inventory="development", filter=False, l=1)
    for on in (False, True):
        experiment = Experiment(settings_for(tiny_bert, **small, prompt_as_released=on))
        for pairs in (_dev_pairs(experiment, KARD), experiment.training_pairs(KARD)):
            assert {"\t" in pair.source for pair in pairs} == {on}


# --- answers ----------------------------------------------------------------------------------------------------------

OPTIONS = ("aspirin", "quinine", "quinine salt", "rest")


@pytest.mark.parametrize(
    "text, expected",
    [("Answer: B", 1), ("B", 1), ("So the answer is A", 0), ("Answer: B.", None), ("Answer: b", None), ("", None),
     ("quinine.", None), ("Answer: E", None), ("It lacks vitamin D", 3), ("B ", None)],
)  # fmt: skip
def test_the_last_character(text: str, expected: int | None) -> None:
    assert last_character(text, OPTIONS) == expected
    assert last_character("C", ("yes", "no")) is None


@pytest.mark.parametrize(
    "text, expected",
    [("quinine.", 1), ("Quinine", 1), ("quinine salt.", 2), ("take rest .", 3), ("quinine or so", None),
     ("arrest", None), ("", None), ("B", None), ("none", None)],
)  # fmt: skip
def test_the_last_words(text: str, expected: int | None) -> None:
    assert last_words(text, OPTIONS) == expected


def test_predictions_are_read_again_without_another_training() -> None:
    question = Question(id="q", stem="What?", options=OPTIONS, answer=1)
    written = ["quinine.", "quinine, or so", "(B)", "B", "nothing"]
    made = [
        Prediction(question_id="q", method=RD, seed=0, decoding="greedy", rationale="r", answer=text,
                   parsed=READINGS["as written"](text, OPTIONS), chosen=0, gold=1)
        for text in written
    ]  # fmt: skip
    found = {name: [p.parsed for p in read_again(made, [question], reading)] for name, reading in READINGS.items()}
    assert read_again(made, [question], READINGS["as written"]) == made
    assert found == {
        "as written": [1, 1, 1, 1, None], "last words": [1, None, None, None, None],
        "last character": [None, None, None, 1, None],
    }  # fmt: skip
    assert all(p.chosen == 0 for p in read_again(made, [question], last_character))
    with pytest.raises(KardError, match="question q"):
        read_again(made, [], last_character)


# --- dev --------------------------------------------------------------------------------------------------------------


def rationales(questions: int, each: int) -> list[Rationale]:
    return [
        Rationale(question_id=f"q{i}", index=j, text="x", saw_gold=True) for i in range(questions) for j in range(each)
    ]


@pytest.mark.parametrize("questions, each", [(20, 1), (40, 3), (33, 7), (7, 3)])
def test_rows_cut_from_a_list_leave_one_question_at_most_on_both_sides(questions: int, each: int) -> None:
    told = rationales(questions, each)
    train, dev = cut_rows(told)
    assert train + dev == told and len(dev) == math.ceil(0.05 * len(told))
    both = {r.question_id for r in train} & {r.question_id for r in dev}
    assert len(both) == (len(train) % each > 0)
    assert trained_on(train, dev) == pytest.approx((-len(train) % each if both else 0) / len(dev))


def test_a_split_by_question_shares_none_and_a_shuffled_list_nearly_all() -> None:
    told = rationales(100, 3)
    train, dev = hold_out_dev([Question(id=f"q{i}", stem="?", options=("a", "b")) for i in range(100)])
    sides = [[r for r in told if r.question_id in {q.id for q in side}] for side in (train, dev)]
    assert sides[1] and trained_on(*sides) == 0.0
    shuffled = [told[i] for i in np.random.default_rng(0).permutation(len(told))]
    assert trained_on(*cut_rows(shuffled)) > 0.8


def test_seen_questions_are_trained_on_and_as_many_as_dev(tiny_t5: str, tiny_bert: str) -> None:
    one = Experiment(settings_for(tiny_bert, student=tiny_t5, size="smoke"))
    seen = one.questions("seen")
    assert len(seen) == len(one.data.dev) and {q.id for q in seen} <= {q.id for q in one.data.train}
    assert one.key("predictions", name=RD, seed=0, split="seen") != one.key("predictions", name=RD, seed=0, split="dev")
    with pytest.raises(KardError, match="Silver"):
        predict(one, method("KARD (Silver Knowledge, oracle)"), 0, "greedy", "seen")
