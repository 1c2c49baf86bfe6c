"""The pipeline: what each step depends on, what a test question may never see, and a whole run at the smallest size."""

from __future__ import annotations

import copy
import csv
import multiprocessing
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tiny import smallest_runs, smallest_settings

from kardlib import jobs, sources, student, table_jobs, tables
from kardlib.candidates import question_candidates, rationale_candidates
from kardlib.errors import KardError
from kardlib.experiment import Experiment
from kardlib.generate import Generator
from kardlib.index_build import build_index
from kardlib.index_folder import CANDIDATES, INDEX, PASSAGES
from kardlib.jobs import Job, run_jobs
from kardlib.knowledge_base_builders import Origin, build_from_passages
from kardlib.methods import KARD, METHODS, TRAININGS, Method, method, training_name
from kardlib.passage_source import PassageList
from kardlib.predict import predict, test_passages
from kardlib.presets import Settings, resolve
from kardlib.prompts import build_prompt, build_target, parse_answer, query_of
from kardlib.records import Prediction, read_jsonl
from kardlib.runs import PAPER_CSV
from kardlib.store import fingerprint

SIZES = {"train": 12, "dev": 4, "test": 6}
NAMES = [row.name for row in METHODS]
OWN_ROW = "Base model with passages, untrained"
KARD_ROWS = [row for row in METHODS if row.training == KARD]


@pytest.fixture(scope="module", autouse=True)
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs in a folder of their own, one process, a handful of questions."""
    with smallest_runs(tmp_path_factory.mktemp("runs"), SIZES):
        yield


@pytest.fixture(scope="module")
def settings(tiny_t5: str, tiny_bert: str) -> Settings:
    return smallest_settings(tiny_t5, tiny_bert)


@pytest.fixture(scope="module")
def experiment(settings: Settings) -> Experiment:
    return Experiment(settings)


@pytest.fixture(scope="module")
def finished(experiment: Experiment) -> dict[str, bool]:
    """Predictions of all rows; for each, whether anything asked for the teacher's rationales of test questions."""
    asked: list[bool] = []
    real = Experiment.rationales

    def watched(self: Experiment, show_gold: bool = True) -> Any:
        asked.append(not show_gold)
        return real(self, show_gold)

    result = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "rationales", watched)
        for row in sorted(METHODS, key=lambda row: row.oracle):
            asked.clear()
            experiment.predictions(row.name, 0)
            result[row.name] = any(asked)
    return result


def fresh(experiment: Experiment, **change: Any) -> Experiment:
    """The same experiment with other data in its hands."""
    other = copy.copy(experiment)
    other.__dict__.update(change)
    return other


# --- the methods ------------------------------------------------------------------------------------------------------


def test_methods_are_named_as_in_the_papers_tables() -> None:
    with open(PAPER_CSV, newline="", encoding="utf-8") as file:
        known = {row["method"] for row in csv.DictReader(file)}
    assert len(set(NAMES)) == len(NAMES)
    assert {name for name in NAMES if name not in known} == {OWN_ROW}


def test_oracle_rows_are_those_that_use_a_test_rationale() -> None:
    for row in METHODS:
        assert row.oracle == (row.test_query == "oracle rationale" or row.forced_rationale)
        assert row.training is None or row.cue == row.training.target, "asked for what was trained"
    assert {row.oracle for row in METHODS} == {True, False}


def test_kard_is_trained_with_the_rationale_as_query_and_tested_with_three_others() -> None:
    assert KARD.query == "rationale" and KARD.target == "rationale"
    assert [row.test_query for row in KARD_ROWS] == ["question", "reranker", "oracle rationale"]
    assert {training_name(row) for row in METHODS if row.training} == set(TRAININGS)


def test_a_misspelt_method_is_one_line() -> None:
    with pytest.raises(KardError, match=r"did you mean 'KARD \(BM25\)'"):
        method("KARD (BM2)")


# --- keys -------------------------------------------------------------------------------------------------------------


def fingerprints(settings: Settings) -> dict[str, str]:
    """The key of every step, by a short name."""
    one = Experiment(settings)
    keys = {"rationales": one.key("rationales"), "test rationales": one.key("rationales", show_gold=False)}
    keys |= {"pools": one.key("pools")} | {step: one.key(step, seed=0) for step in ("reranker", "reranked")}
    keys |= {f"student {name}": one.key("student", training=name, seed=0) for name in TRAININGS}
    keys |= {name: one.key("predictions", name=name, seed=0) for name in NAMES}
    return {name: fingerprint(key) for name, key in keys.items()}


def changed(settings: Settings, **change: Any) -> set[str]:
    before, after = fingerprints(settings), fingerprints(settings.model_copy(update=change))
    return {name for name in before if before[name] != after[name]}


STUDENTS = {f"student {name}" for name in TRAININGS}
TRAINED = {row.name for row in METHODS if row.training}
RERANKED = {"reranker", "reranked", "KARD (Reranker)"}
SHOTS = {row.name for row in METHODS if row.examples}
READS = {"student KARD", "student KA Fine-tuning", *(row.name for row in METHODS if row.test_query != "none")}


@pytest.mark.parametrize(
    "change, expected",
    [
        (dict(k=2), READS),
        (dict(tau1=1.0), RERANKED),
        (dict(tau2=2.0), RERANKED),
        (dict(reranker_lr=1e-4), RERANKED),
        (dict(reranker_form="cross-encoder"), RERANKED),
        (dict(kappa_star=30), {"KARD (Reranker)"}),  # a smaller one is looked up in the widest
        (dict(kappa_star=150), RERANKED - {"reranker"}),
        (dict(kappa1=5), {"pools", *RERANKED}),
        (dict(student_lr=1e-4), STUDENTS | TRAINED),
        (dict(student_epochs=2), STUDENTS | TRAINED),
        (dict(shots=1), SHOTS),
        (dict(answers="free"), set(NAMES)),
        (dict(seeds=(0, 1, 2)), set()),
    ],
    ids=str,
)
def test_a_change_remakes_what_depends_on_it(settings: Settings, change: dict[str, Any], expected: set[str]) -> None:
    assert changed(settings, **change) == expected


def test_l_and_the_filter_reach_everything_that_learns(settings: Settings) -> None:
    learns = STUDENTS | TRAINED | RERANKED | SHOTS | {"pools"}
    assert changed(settings, l=3) >= learns | {"rationales"} and "test rationales" not in changed(settings, l=3)
    assert changed(settings, filter=True) >= learns and "rationales" not in changed(settings, filter=True)


def test_another_world_remakes_everything(settings: Settings) -> None:
    for change in (dict(world=2), dict(inventory="reported"), dict(size="full")):
        assert changed(settings, **change) == set(fingerprints(settings))


@pytest.mark.parametrize(
    "module, expected",
    [
        ("reranker", RERANKED),
        ("pairs", STUDENTS | set(NAMES)),
        ("few_shot", set(NAMES)),
        ("methods", STUDENTS | set(NAMES)),
        ("generate", set(NAMES)),
        ("prompts", None),
        ("bm25", {"pools", *RERANKED} | STUDENTS | set(NAMES)),
        ("teacher", None),
        ("raw_rows", None),
        ("records", None),
        ("tables", set()),
        ("report", set()),
    ],
)
def test_a_change_of_the_code_remakes_what_it_makes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, module: str, expected: set[str] | None
) -> None:
    """None stands for everything."""
    before = fingerprints(settings)
    monkeypatch.setitem(sources.SOURCES, module, sources.SOURCES[module] + "# new")
    after = fingerprints(settings)
    assert {name for name in before if before[name] != after[name]} == (set(before) if expected is None else expected)


def test_the_number_of_candidates_does_not_reach_methods_that_search_with_the_question(
    experiment: Experiment, finished: dict[str, bool]
) -> None:
    few = Experiment(experiment.settings.model_copy(update={"kappa_star": experiment.settings.k}))
    for row in METHODS:
        if row.test_query == "question":
            assert test_passages(few, row, 0, "test") == test_passages(experiment, row, 0, "test")


def test_seed_split_and_decoding_have_artefacts_of_their_own(experiment: Experiment) -> None:
    for step, base in (("student", dict(training="KARD", seed=0)), ("reranker", dict(seed=0))):
        assert experiment.key(step, **base) != experiment.key(step, **(base | {"seed": 1}))
    base = dict(name="KARD (Reranker)", seed=0)
    variants = [base, base | {"seed": 1}, base | {"split": "dev"}, base | {"decoding": "vote5"}]
    assert len({fingerprint(experiment.key("predictions", **v)) for v in variants}) == 4


def test_a_models_weights_count_and_its_place_does_not(settings: Settings, tiny_t5: str, tmp_path: Path) -> None:
    moved, retrained = tmp_path / "moved" / "tiny-t5", tmp_path / "retrained" / "tiny-t5"
    for folder in (moved, retrained):
        shutil.copytree(tiny_t5, folder)
    weights = load_file(retrained / "model.safetensors")
    next(iter(weights.values())).flatten()[0] += 1
    save_file(weights, retrained / "model.safetensors", {"format": "pt"})
    assert changed(settings, student=str(moved)) == set()
    assert changed(settings, student=str(retrained)) == STUDENTS | set(NAMES)


def test_the_three_kard_rows_share_one_student(experiment: Experiment, finished: dict[str, bool]) -> None:
    keys = {fingerprint(experiment.key("student", training=training_name(row), seed=0)) for row in KARD_ROWS}
    assert len(KARD_ROWS) == 3 and len(keys) == 1
    made = [path for path in (experiment.root / "student").iterdir() if path.is_dir()]
    assert len(made) == len(TRAININGS)


# --- what a test question may never see -------------------------------------------------------------------------------


def test_only_oracle_rows_ask_for_rationales_of_test_questions(finished: dict[str, bool]) -> None:
    assert finished == {row.name: row.oracle for row in METHODS}


class Recorder:
    """Stands for a student: keeps what it is shown, answers nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.prompts: list[str] = []
        self.scored: list[Any] = []
        monkeypatch.setattr(Generator, "greedy", self.greedy)
        monkeypatch.setattr(Generator, "likeliest", self.likeliest)

    def greedy(self, prompts: list[str], forced: list[str] | None = None) -> list[str]:
        self.prompts = list(prompts)
        return [f"perhaps {i}" for i in range(len(prompts))]

    def likeliest(self, *given: list[Any]) -> list[int]:
        self.scored = [list(part) for part in given]
        return [0] * len(given[0])


def shown(experiment: Experiment, row: Method, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All texts that the student of a row gets to see: prompts, and what the options are scored behind."""
    recorder = Recorder(monkeypatch)
    predict(experiment, row, 0, "greedy", "test")
    assert recorder.scored[0] == recorder.prompts
    assert recorder.scored[2] == [q.options for q in experiment.data.test]
    begin = "" if row.cue == "answer" else "perhaps {} So the answer is"
    assert recorder.scored[1] == [begin.format(i) for i in range(len(recorder.prompts))]
    return recorder.prompts


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.name)
def test_prompts_do_not_depend_on_the_gold_answer(
    experiment: Experiment, finished: dict[str, bool], monkeypatch: pytest.MonkeyPatch, row: Method
) -> None:
    moved = [q.model_copy(update={"answer": (q.gold + 1) % 4, "meta": {}}) for q in experiment.data.test]
    other = fresh(experiment, data=replace(experiment.data, test=moved))
    first = shown(experiment, row, monkeypatch)
    assert first == shown(other, row, monkeypatch) and len(set(first)) == SIZES["test"]


def test_test_passages_of_the_bm25_row_are_found_with_the_question(
    experiment: Experiment, finished: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    queries: list[str] = []
    engine = copy.copy(experiment.search)
    monkeypatch.setattr(engine, "scores", lambda query: queries.append(query) or experiment.search.scores(query))
    shown(fresh(experiment, search=engine), method("KARD (BM25)"), monkeypatch)
    assert queries == [query_of(q) for q in experiment.data.test]


SAME_QUERIES = {("none", "none"), ("question", "question"), ("rationale", "oracle rationale")}
AGREE = [row for row in METHODS if row.training and (row.training.query, row.test_query) in SAME_QUERIES]


@pytest.mark.parametrize("row", [row for row in AGREE if not row.forced_rationale], ids=lambda row: row.name)
def test_training_and_test_prompts_are_the_same_for_the_same_passages(
    experiment: Experiment, finished: dict[str, bool], monkeypatch: pytest.MonkeyPatch, row: Method
) -> None:
    """The training questions as test questions, their training rationales as the oracle's."""
    told = {r.question_id: r for r in experiment.rationales() if r.index == 0}
    monkeypatch.setattr(Experiment, "test_rationale", lambda self: told)
    data = experiment.data
    other = fresh(experiment, data=replace(data, train=data.test, test=data.train))
    tokenizer = Generator(experiment.settings.student, 512, 8).tokenizer
    pairs = experiment.training_pairs(row.training, lambda text: len(tokenizer.tokenize(text)))
    first = {pair.source for pair in (pairs[:: experiment.settings.l] if row.training.target == "rationale" else pairs)}
    assert first == set(shown(other, row, monkeypatch)) and len(first) == SIZES["train"]
    if row.test_query != "none":
        whole = {pair.source for pair in experiment.training_pairs(row.training)}
        assert not first & whole, "nothing was cut: the source limit is too large for this test"


# --- training pairs ---------------------------------------------------------------------------------------------------


def test_kard_pairs_have_passages_found_with_their_own_rationale(experiment: Experiment) -> None:
    by_id = {q.id: q for q in experiment.data.train}
    pairs, told = experiment.training_pairs(KARD), experiment.rationales()
    assert len(pairs) == len(told) == SIZES["train"] * experiment.settings.l
    other = 0
    for pair, r in zip(pairs, told, strict=True):
        question = by_id[r.question_id]
        found = rationale_candidates(experiment.search, r, experiment.settings.k).passages
        assert pair.source == build_prompt(question, [experiment.texts[i] for i in found])
        assert pair.target == build_target(question.answer_text, r.text)
        other += found != question_candidates(experiment.search, question, experiment.settings.k).passages
    assert other, "the question would have found the same passages"


@pytest.mark.parametrize("name", TRAININGS)
def test_pairs_hold_what_their_training_says(experiment: Experiment, name: str) -> None:
    training = TRAININGS[name]
    pairs = experiment.training_pairs(training)
    assert len(pairs) == SIZES["train"] * experiment.settings.l
    assert all((training.query == "none") == ("Passages:" not in pair.source) for pair in pairs)
    answers = {build_target(q.answer_text, None) for q in experiment.data.train}
    assert all((training.target == "answer") == (pair.target in answers) for pair in pairs)


def test_the_filter_leaves_what_was_understood(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Experiment(settings.model_copy(update={"filter": True, "l": 3}))
    told, by_id = one.rationales(), {q.id: q for q in one.data.train}
    says = [by_id[r.question_id].answer_text if i % 2 else "?" for i, r in enumerate(told)]
    monkeypatch.setattr(Generator, "greedy", lambda self, prompts, forced=None: says)
    assert one.kept_rationales() == told[1::2] and one.verdicts().counts["no option"] == len(told[::2])
    assert [pool.key for pool in one.pools()] == [f"{r.question_id}#{r.index}" for r in told[1::2]]
    assert len(one.training_pairs(KARD)) == len(told[1::2])


def test_a_filter_that_keeps_nothing_is_one_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Experiment(settings.model_copy(update={"filter": True, "l": 1}))
    monkeypatch.setattr(Generator, "greedy", lambda self, prompts, forced=None: ["?"] * len(prompts))
    with pytest.raises(KardError, match="filter=false"):
        one.kept_rationales()


def test_more_passages_than_there_are_is_one_line(settings: Settings) -> None:
    with pytest.raises(KardError, match="passages only"):
        Experiment(settings.model_copy(update={"k": 10**6})).data  # noqa: B018


def test_cells_share_what_was_generated_but_not_each_others_changes(settings: Settings) -> None:
    one, other = Experiment(settings), Experiment(settings.model_copy(update={"k": 1}))
    assert one.data.mini is other.data.mini and one.data.train == other.data.train
    one.data.train.clear()
    one.data.passages.pop()
    assert other.data.train and len(other.data.passages) == len(one.data.passages) + 1
    assert Experiment(settings.model_copy(update={"world": settings.world + 1})).data.mini is not other.data.mini


def test_an_index_of_the_same_passages_changes_nothing_but_the_way(settings: Settings, tmp_path: Path) -> None:
    one = Experiment(settings)
    base = build_from_passages(
        tmp_path / PASSAGES, PassageList(one.data.passages), Origin(name="the same", source="test"), progress=False
    )
    build_index(base, tmp_path / INDEX, shard_passages=50, progress=False)
    other = Experiment(settings.model_copy(update={"index": str(tmp_path)}))
    assert other.key("pools") != one.key("pools") and other.key("rationales") == one.key("rationales")
    assert other.pools() == one.pools() and other.candidates() == one.candidates() and other.truth() == one.truth()
    assert other.training_pairs(KARD) == one.training_pairs(KARD)
    assert all(other.texts[i] == text for i, text in one.texts.items())
    assert any("knowledge base: the same" in note for note in other.data.notes)
    assert list((tmp_path / CANDIDATES).rglob("*.parquet")), "what was found is kept"


def test_lora_curves_and_kept_vectors_are_steps_of_their_own(settings: Settings) -> None:
    one = Experiment(settings)
    fitted = one.with_settings(lora=True, reranker_curves=True)
    assert fitted.folder("reranker", seed=0) != one.folder("reranker", seed=0)
    held = fitted.curve("reranker", "held", seed=0)
    assert [row["step"] for row in held] == sorted({row["step"] for row in held}) and len(held) > 1
    kept = one.with_settings(reranker_vectors="float32").reranked(0)
    assert {i: c.passages for i, c in kept.items()} == {i: c.passages for i, c in one.reranked(0).items()}


def test_a_query_with_no_known_word_is_one_line(settings: Settings) -> None:
    one = Experiment(settings)
    first = one.data.test[0]
    strange = first.model_copy(update={"stem": "Xyzzy?", "options": ("plugh", "frotz", "gnusto", "rezrov")})
    one.data.test[0] = strange
    with pytest.raises(KardError, match=f"question {first.id}: none of its words is in the knowledge base"):
        one.candidates()
    told = one.rationales()
    empty = told[0].model_copy(update={"text": "Frotz, gnusto."})
    with pytest.raises(KardError, match=f"rationale {empty.question_id}#{empty.index}: none of its words"):
        one._found("rationale", rationale_candidates(one.search, empty, 3))


# --- predictions ------------------------------------------------------------------------------------------------------


def predictions(experiment: Experiment, name: str, **arguments: Any) -> list[Prediction]:
    return experiment.predictions(name, 0, **arguments)


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.name)
def test_every_row_answers_every_question_once(experiment: Experiment, finished: dict[str, bool], row: Method) -> None:
    made = predictions(experiment, row.name)
    assert [(p.question_id, p.gold) for p in made] == [(q.id, q.gold) for q in experiment.data.test]
    assert {(p.method, p.seed, p.decoding) for p in made} == {(row.name, 0, "greedy")}
    assert {len(p.passages) for p in made} == {0 if row.test_query == "none" else experiment.settings.k}
    for p, q in zip(made, experiment.data.test, strict=True):
        assert p.parsed == parse_answer(p.answer, q.options)
        assert p.chosen in range(4), "options are scored: one of them always counts"


def test_free_answers_are_what_was_written(experiment: Experiment, finished: dict[str, bool]) -> None:
    free = Experiment(experiment.settings.model_copy(update={"answers": "free"}))
    for name in ("Fine-tuning", "Reasoning Distillation"):
        made, scored = free.predictions(name, 0), predictions(experiment, name)
        assert all(p.chosen == p.parsed for p in made)
        assert [(p.rationale, p.answer, p.parsed) for p in made] == [(p.rationale, p.answer, p.parsed) for p in scored]
    assert Experiment(free.settings).folder("predictions", name=NAMES[1], seed=0, decoding="vote5") == (
        experiment.folder("predictions", name=NAMES[1], seed=0, decoding="vote5")
    )


def test_each_row_reads_the_passages_of_its_query(experiment: Experiment, finished: dict[str, bool]) -> None:
    told, k, search = experiment.test_rationale(), experiment.settings.k, experiment.search
    found = {name: {p.question_id: p.passages for p in predictions(experiment, name)} for name in NAMES}
    for q in experiment.data.test:
        star = question_candidates(search, q, experiment.settings.kappa_star).passages
        assert found["KARD (BM25)"][q.id] == found["KA Fine-tuning"][q.id] == star[:k]
        assert found["KARD (Reranker)"][q.id] == experiment.reranked(0)[q.id].passages[:k]
        assert sorted(experiment.reranked(0)[q.id].passages) == sorted(star)
        oracle = rationale_candidates(search, told[q.id], k).passages
        assert found["KARD (Silver Knowledge, oracle)"][q.id] == oracle
    assert found["KARD (Reranker)"] != found["KARD (BM25)"] != found["KARD (Silver Knowledge, oracle)"]


def test_the_teachers_rationale_is_put_in_the_students_mouth(experiment: Experiment, finished: dict[str, bool]) -> None:
    told = experiment.test_rationale()
    assert not any(r.saw_gold for r in told.values())
    for p in predictions(experiment, "CoT from teacher (oracle)"):
        assert p.rationale == told[p.question_id].text.lower()


def test_votes_and_other_splits(experiment: Experiment, finished: dict[str, bool]) -> None:
    made = predictions(experiment, "Fine-tuning", decoding="vote5")
    assert len(made) == SIZES["test"] and {p.decoding for p in made} == {"vote5"}
    on_dev = predictions(experiment, "Fine-tuning", split="dev")
    assert [p.question_id for p in on_dev] == [q.id for q in experiment.data.dev]
    with pytest.raises(KardError, match="nothing to vote on"):
        predictions(experiment, "CoT from teacher (oracle)", decoding="vote5")
    with pytest.raises(KardError, match="greedy and vote5"):
        predictions(experiment, "Fine-tuning", decoding="beam")


def test_a_finished_experiment_makes_nothing_again(
    settings: Settings, finished: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("it was there")

    for module, name in ((student, "train_student"), (Generator, "__init__")):
        monkeypatch.setattr(module, name, forbidden)
    again = Experiment(settings)
    table_jobs.make_main_table(again)
    assert again.has("student", training="KARD", seed=0) and not again.has("student", training="KARD", seed=9)
    with pytest.raises(AssertionError, match="it was there"):
        run_jobs(settings, [Job("student", {"training": "KARD", "seed": 9})], "training")


def test_tables_follow_from_predictions(experiment: Experiment, finished: dict[str, bool], tmp_path: Path) -> None:
    rows = tables.main_rows(experiment, folder=tmp_path)
    assert [row.method for row in rows] == [*NAMES, *NAMES]
    assert [row.settings["answers"] for row in rows] == ["scored"] * len(NAMES) + ["free"] * len(NAMES)
    for row in rows:
        made = predictions(experiment, row.method)
        free = row.settings["answers"] == "free"
        right = sum((p.parsed if free else p.chosen) == p.gold for p in made)
        assert row.value == pytest.approx(100 * right / len(made))
        assert row.n == SIZES["test"] and row.parse_failures == sum(p.parsed is None for p in made)
        assert row.oracle == method(row.method).oracle
        assert read_jsonl(Path(row.predictions), Prediction) == made
    same = tables.compare(experiment, "KARD (BM25)", "KARD (BM25)")
    assert (same.gap, same.n, same.p) == (0, SIZES["test"], 1)


def test_groups_by_frequency_hold_every_question_once(experiment: Experiment, finished: dict[str, bool]) -> None:
    groups = tables.asked_in_training(experiment)
    ids = [i for group in groups.values() for i in group]
    assert sorted(ids) == sorted(q.id for q in experiment.data.test)
    whiskers = tables.by_frequency(experiment, "KARD (BM25)")
    mean = sum(value * len(group) for (value, _, _), group in zip(whiskers, groups.values(), strict=True)) / len(ids)
    row = next(row for row in tables.main_rows(experiment) if row.method == "KARD (BM25)")
    assert mean == pytest.approx(row.value)


def test_gaps_of_two_halves_average_to_the_whole(experiment: Experiment, finished: dict[str, bool]) -> None:
    ids = [q.id for q in experiment.data.test]
    halves = [tables.compare_hits(experiment, 3, set(part)).gap for part in (ids[::2], ids[1::2])]
    assert sum(halves) / 2 == pytest.approx(tables.compare_hits(experiment, 3).gap)


def test_hits_rise_with_k_and_truth_is_the_rationales_top_three(
    experiment: Experiment, finished: dict[str, bool]
) -> None:
    told = experiment.test_rationale()
    for question_id, truth in experiment.truth().items():
        assert truth == rationale_candidates(experiment.search, told[question_id], 3).passages
    rows = {(row.method, row.metric): row.value for row in tables.hits_rows(experiment)}
    for name in ("BM25", "Reranker"):
        values = [rows[name, f"hits@{k}"] for k in tables.HITS]
        assert values == sorted(values) and 0 <= values[0] <= values[-1] <= 100


def test_coverage_is_of_the_first_k_passages(experiment: Experiment, finished: dict[str, bool]) -> None:
    everything = {q.id: tuple(experiment.texts) for q in experiment.data.test}
    nothing = {q.id: () for q in experiment.data.test}
    assert tables.coverage(experiment, everything, 10**6).mean() > 0.5
    assert not tables.coverage(experiment, nothing, 3).any() and not tables.coverage(experiment, everything, 0).any()


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_workers_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    mini = resolve("mini")
    for value, count in (("1", 1), ("3", 3), ("0", 1)):
        monkeypatch.setenv("KARD_WORKERS", value)
        assert jobs.workers(mini) == count
    monkeypatch.delenv("KARD_WORKERS")
    assert 1 <= jobs.workers(mini) <= jobs.MOST_WORKERS


@pytest.mark.parametrize("cores", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_real_data_shares_the_cores_among_the_seeds(
    monkeypatch: pytest.MonkeyPatch, cores: int, seeds: tuple[int, ...]
) -> None:
    monkeypatch.delenv("KARD_WORKERS", raising=False)
    monkeypatch.setattr(jobs, "cores", lambda: cores)
    laptop, mini = resolve("laptop", seeds=seeds), resolve("mini", seeds=seeds)
    assert jobs.workers(laptop) == min(cores, len(seeds))
    assert jobs.workers(laptop) * jobs.threads(laptop) <= cores < jobs.workers(laptop) * (jobs.threads(laptop) + 1)
    assert jobs.threads(mini) == 1 and jobs.workers(mini) == min(cores, jobs.MOST_WORKERS)


def test_small_students_and_rankings_of_real_data_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KARD_WORKERS", raising=False)
    monkeypatch.setattr(jobs, "cores", lambda: 4)
    small, large = resolve("laptop", seeds=(0,)), resolve("laptop", seeds=(0,), student="google/flan-t5-base")
    assert [jobs.workers(small, step) for step in ("student", "untrained", "reranker", "rag")] == [4, 2, 1, 1]
    assert [jobs.threads(small, step) for step in ("student", "untrained", "reranker", "rag")] == [1, 2, 4, 4]
    assert jobs.workers(large, "student") == jobs.workers(large, "predictions") == 1


def test_a_failing_step_is_one_line_and_leaves_no_process_behind(
    settings: Settings, tiny_t5: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KARD_WORKERS", "2")
    monkeypatch.setattr(jobs, "_pools", {})
    broken = shutil.copytree(tiny_t5, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    wrong = settings.model_copy(update={"student": str(broken)})
    before = set(multiprocessing.active_children())
    with pytest.raises(KardError, match="broken: it cannot be loaded"):
        run_jobs(wrong, [Job("student", {"training": "KARD", "seed": seed}) for seed in (0, 1)], "training")
    assert not jobs._pools
    ends = time.monotonic() + 20
    # the pool's own thread may have reaped a process and not said so yet
    while set(multiprocessing.active_children()) - before and time.monotonic() < ends:
        time.sleep(0.05)
    assert set(multiprocessing.active_children()) <= before


def test_jobs_cover_every_row_and_training_of_the_main_table(experiment: Experiment) -> None:
    assert {job.arguments["name"] for job in table_jobs.main_jobs(experiment)} == set(NAMES)
    trained = {job.arguments.get("training") for job in table_jobs.training_jobs(experiment)}
    assert trained == {None, *TRAININGS}
    votes = {job.arguments["name"] for job in table_jobs.main_jobs(experiment, ["vote5"])}
    assert votes == {row.name for row in METHODS if not row.forced_rationale}
