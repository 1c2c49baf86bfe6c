"""Few-shot rows: examples are training pairs, nothing of a test question is told, what has no room is left out."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from kardlib import tables
from kardlib.bm25 import BM25
from kardlib.candidates import question_candidates
from kardlib.experiment import Experiment
from kardlib.few_shot import example_items, few_shot_prompt, own_answer, worked_examples
from kardlib.generate import Generator
from kardlib.methods import FINE_TUNING, METHODS, REASONING_DISTILLATION, Method, method
from kardlib.mini import MiniSet
from kardlib.mini_tokenizer import make_tokenizer
from kardlib.predict import predict, test_passages
from kardlib.presets import SPLIT_SIZES, Settings, resolve
from kardlib.prompts import ANSWER_MARK, Pair, build_prompt, build_target, parse_answer
from kardlib.records import Question, Rationale
from kardlib.runs import PAPER_CSV
from kardlib.teacher import ScriptedTeacher

TOKENIZER = make_tokenizer("seq2seq")
ROWS = [row for row in METHODS if row.examples]
BARE, COT, KA = ROWS


def tokens(text: str) -> int:
    return len(TOKENIZER.tokenize(text))


@pytest.fixture(scope="module", autouse=True)
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs in a folder of their own, a handful of questions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KARD_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.setitem(SPLIT_SIZES, "smoke", {"train": 12, "dev": 4, "test": 6})
        yield


@pytest.fixture(scope="module")
def settings(tiny_t5: str) -> Settings:
    change = dict(size="smoke", inventory="development", student=tiny_t5, seeds=(0,), filter=False, target_tokens=40)
    return resolve("mini", **change)


@pytest.fixture(scope="module")
def experiment(settings: Settings) -> Experiment:
    return Experiment(settings)


@pytest.fixture(scope="module")
def told(mini: MiniSet) -> list[Rationale]:
    """Two rationales for each training question of ``mini``."""
    return ScriptedTeacher(mini).rationales(mini.splits["train"], 2, show_gold=True)


def examples_of(experiment: Experiment, row: Method, count: Any = tokens) -> list[Pair]:
    assert row.examples
    train, kept = experiment.data.train, experiment.kept_rationales()
    return worked_examples(row.examples, train, kept, experiment.search, experiment.settings, count)


def prompts_of(experiment: Experiment, row: Method, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[int]]:
    """What the student of a row is shown for each test question, and how many worked examples stand in it."""
    seen: list[str] = []
    monkeypatch.setattr(Generator, "greedy", lambda self, prompts, forced: seen.extend(prompts) or ["?"] * len(prompts))
    monkeypatch.setattr(Generator, "likeliest", lambda self, prompts, begins, options: [0] * len(prompts))
    return seen, predict(experiment, row, 0, "greedy", "test")[1]


# --- the rows ---------------------------------------------------------------------------------------------------------


def test_the_papers_few_shot_rows_come_first_and_in_its_order() -> None:
    with open(PAPER_CSV, newline="", encoding="utf-8") as file:
        printed = list(dict.fromkeys(row["method"] for row in csv.DictReader(file) if row["table"] == "1"))
    assert [row.name for row in ROWS] == printed[: len(ROWS)] == [row.name for row in METHODS[: len(ROWS)]]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_examples_ask_for_and_read_what_the_test_prompt_does(row: Method) -> None:
    assert row.training is None and not row.oracle and row.examples
    assert row.examples.target == row.cue
    assert row.examples.query == row.test_query, "the passages of an example are not found as those of the question"


# --- examples are training pairs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("row, training", [(BARE, FINE_TUNING), (COT, REASONING_DISTILLATION)])
@pytest.mark.parametrize("count", [None, tokens])
def test_an_example_is_a_training_pair(experiment: Experiment, row: Method, training: Any, count: Any) -> None:
    pairs, found = experiment.training_pairs(training, count), examples_of(experiment, row, count)
    assert len(set(found)) == experiment.settings.shots and set(found) <= set(pairs)


@pytest.mark.parametrize("room", [320, 100])
def test_an_example_with_passages_is_laid_out_by_the_builders_of_training(experiment: Experiment, room: int) -> None:
    s = experiment.settings.model_copy(update={"source_tokens": room, "target_tokens": 20})
    train, kept, search = experiment.data.train, experiment.kept_rationales(), experiment.search
    found = worked_examples(KA.examples, train, kept, search, s, tokens)
    for pair, (question, rationale) in zip(found, example_items(train, kept, s.shots), strict=True):
        passages = [experiment.texts[i] for i in question_candidates(search, question, s.k).passages]
        assert pair.source == build_prompt(question, passages, count=tokens, max_tokens=room)
        assert pair.target == build_target(question.answer_text, rationale.text, tokens, 20)


def test_an_example_stands_in_the_prompt_byte_for_byte(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    for row in ROWS:
        found = examples_of(experiment, row)
        texts, shots = prompts_of(experiment, row, monkeypatch)
        assert min(shots) > 0, "no example fits: this test sees nothing"
        for text, shown in zip(texts, shots, strict=True):
            blocks = text.split("\n\n")
            assert blocks[:-1] == [f"{pair.source} {pair.target}" for pair in found[:shown]]


def test_the_three_rows_show_the_same_questions(experiment: Experiment) -> None:
    stems = [[pair.source.split("Question: ")[1].split("\n")[0] for pair in examples_of(experiment, r)] for r in ROWS]
    assert stems[0] == stems[1] == stems[2]


def test_the_choice_depends_on_ids_and_on_what_was_kept_alone(mini: MiniSet, told: list[Rationale]) -> None:
    train = mini.splits["train"]
    first = example_items(train, told, 4)
    assert example_items(train[::-1], told, 4) == first and example_items(train, told, 2) == first[:2]
    assert [q.id for q, _ in first] != [q.id for q in train[:4]]
    dropped = first[0][0].id
    assert example_items(train, [r for r in told if r.question_id != dropped], 3) == first[1:]
    renamed = [q.model_copy(update={"answer": (q.gold + 1) % 4, "meta": {}}) for q in train]
    assert [q.id for q, _ in example_items(renamed, told, 4)] == [q.id for q, _ in first]


def test_an_example_has_the_first_rationale_that_was_kept(mini: MiniSet, told: list[Rationale]) -> None:
    train = mini.splits["train"]
    assert {r.index for _, r in example_items(train, told, 5) if r} == {0}
    assert {r.index for _, r in example_items(train, [r for r in told if r.index], 5) if r} == {1}


def test_fewer_kept_rationales_than_shots_are_all_shown(mini: MiniSet, told: list[Rationale]) -> None:
    assert len(example_items(mini.splits["train"], told[:4], 5)) == len({r.question_id for r in told[:4]})


# --- what a test question may never see -------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_prompt_tells_nothing_of_a_test_question_but_itself(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, row: Method
) -> None:
    texts, _ = prompts_of(experiment, row, monkeypatch)
    data = experiment.data
    others = [*data.dev, *data.test]
    rationales = experiment.test_rationale().values()
    for question, text in zip(data.test, texts, strict=True):
        assert [q.id for q in others if q.stem in text] == [question.id]
        assert not any(r.text in text for r in rationales)
        assert text.endswith(build_prompt(question, cue=row.cue))
    moved = [q.model_copy(update={"answer": (q.gold + 1) % 4, "meta": {}}) for q in data.test]
    other = Experiment(experiment.settings)
    other.__dict__["data"] = replace(data, test=moved)
    assert prompts_of(other, row, monkeypatch)[0] == texts, "the gold answer of the asked question changes its prompt"


def test_all_questions_see_the_same_examples(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    for row in ROWS:
        texts, shots = prompts_of(experiment, row, monkeypatch)
        heads = {text.rsplit("\n\n", 1)[0] for text, shown in zip(texts, shots, strict=True) if shown == max(shots)}
        assert len(heads) == 1 and all(next(iter(heads)).startswith(text.rsplit("\n\n", 1)[0]) for text in texts)


# --- what has no room -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_examples_are_left_out_before_passages_are_cut_and_the_question_stays(
    experiment: Experiment, row: Method
) -> None:
    found, question = examples_of(experiment, row), experiment.data.test[0]
    passages = [experiment.texts[i] for i in test_passages(experiment, row, 0, "test")[question.id]]
    bare, asked = build_prompt(question, cue=row.cue), build_prompt(question, passages, row.cue)
    last, cut = 0, False
    for room in range(tokens(bare) + 4, tokens(asked) + sum(tokens(p.source + p.target) + 2 for p in found) + 8):
        prompt = few_shot_prompt(found, question, passages, row.cue, count=tokens, max_tokens=room)
        assert len(TOKENIZER(prompt.text).input_ids) <= room
        assert prompt.text.endswith(bare)
        if prompt.shots:
            assert prompt.text.endswith(f"\n\n{asked}"), "passages were cut beside an example"
        else:
            assert prompt.text == build_prompt(question, passages, row.cue, count=tokens, max_tokens=room)
            cut = cut or prompt.text != asked
        one_more = few_shot_prompt(found[: prompt.shots + 1], question, passages, row.cue)
        assert prompt.shots == len(found) or tokens(one_more.text) > room - 4, "there was room for one more"
        assert prompt.shots in (last, last + 1), "more room, fewer examples"
        last = prompt.shots
    assert last == len(found) and cut == bool(passages)


def test_without_examples_or_room_a_prompt_is_that_of_every_row(mini: MiniSet, search: BM25) -> None:
    question, passages = mini.splits["test"][0], [p.text for p in mini.passages[:3]]
    long = Pair("word " * 400, "answer")
    for examples in ([], [long]):
        for cue in ("answer", "rationale"):
            prompt = few_shot_prompt(examples, question, passages, cue, count=tokens, max_tokens=90)
            assert (prompt.text, prompt.shots) == (
                build_prompt(question, passages, cue, count=tokens, max_tokens=90), 0)  # fmt: skip
    assert few_shot_prompt([long], question).shots == 1


def test_a_question_longer_than_the_room_is_cut_as_in_any_prompt(mini: MiniSet) -> None:
    question = mini.splits["test"][0]
    prompt = few_shot_prompt([Pair("a", "b")], question, count=tokens, max_tokens=40)
    assert prompt.shots == 0 and prompt.text == build_prompt(question, count=tokens, max_tokens=40)
    assert prompt.text != build_prompt(question)


# --- what is written and what is told ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rationale", [None, "It is so. The reason: a question of time."])
def test_an_answer_ends_where_the_student_goes_on_with_an_example_of_its_own(rationale: str | None) -> None:
    own = Question(id="q", stem="What helps?", options=("aspirin", "quinine"), answer=0)
    target = build_target("quinine", rationale)
    for passages in ((), ("Aspirin helps.",)):
        example = f"{build_prompt(own, passages)} {build_target('aspirin', 'It helps.')}"
        for text in (f"{target}\n\n{example}", TOKENIZER.decode(TOKENIZER(f"{target}\n\n{example}").input_ids[:-1])):
            assert parse_answer(text, own.options) == 0, "the example of its own would have counted"
            assert parse_answer(own_answer(text), own.options) == 1
    assert own_answer(target) == target and own_answer("") == ""


@pytest.mark.parametrize("decoding", ["greedy", "vote5"])
def test_only_few_shot_rows_are_cut(experiment: Experiment, monkeypatch: pytest.MonkeyPatch, decoding: str) -> None:
    text = f"a. {ANSWER_MARK} b.\n\nQuestion: c {ANSWER_MARK} d."
    monkeypatch.setattr(Generator, "greedy", lambda self, prompts, forced: [text] * len(prompts))
    monkeypatch.setattr(Generator, "sample", lambda self, prompts, seed: [[text] * 5 for _ in prompts])
    for row, answer in ((COT, "b."), (method("Base model with passages, untrained"), "d.")):
        answers, shots = predict(experiment, row, 0, decoding, "test")
        assert {p.answer for p in answers} == {answer} and any(shots) == bool(row.examples)


def test_the_table_says_how_many_were_shown(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "main_methods", lambda told: METHODS[: len(ROWS) + 1])
    few = Experiment(experiment.settings.model_copy(update={"source_tokens": 185}))
    for one in (experiment, few):
        for line in tables.main_rows(one):
            row, shots = method(line.method), one.shots(line.method, 0)
            assert len(shots) == len(one.data.test) and max(shots) <= one.settings.shots
            assert line.settings["shots"] == (
                pytest.approx(sum(shots) / len(shots), abs=0.05) if row.examples else None
            )
    assert experiment.shots(COT.name, 0) > few.shots(COT.name, 0) and any(few.shots(BARE.name, 0))


def test_zero_shots_are_as_the_preset_has_it() -> None:
    for preset in ("mini", "laptop", "paper"):
        assert resolve(preset, shots=0) == resolve(preset) and resolve(preset, shots=1).changed() == {"shots": 1}
