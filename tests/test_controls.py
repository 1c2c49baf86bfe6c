"""Controls: each changes the part of the input that it says and nothing else, and answers come back to their places."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from constructed import answer
from tiny import smallest_runs

from kardlib.controls import CONTROLS, Changed, Control, Given, answers_under, change, control
from kardlib.controls_table import control_rows, effect, effects, effects_html, make_controls
from kardlib.errors import KardError
from kardlib.experiment import Experiment
from kardlib.jobs import Job
from kardlib.methods import method
from kardlib.mini import MiniSet
from kardlib.presets import Settings, resolve
from kardlib.prompts import build_prompt, parse_answer
from kardlib.records import Prediction, Question
from kardlib.steps import behind
from kardlib.store import fingerprint
from kardlib.stored import upstream_names

SIZES = {"train": 10, "dev": 4, "test": 8}
BM25 = "KARD (BM25)"


@pytest.fixture(scope="module")
def given(mini: MiniSet) -> Given:
    """Three passages for each question, by chance."""
    ids = [p.id for p in mini.passages]
    return Given({q.id: tuple(Random(q.id).sample(ids, 3)) for q in mini.splits["test"]}, ids)


def changed(name: str, mini: MiniSet, given: Given, seed: int = 0) -> list[tuple[Question, Changed]]:
    return [(q, change(CONTROLS[name], q, given, seed)) for q in mini.splits["test"]]


def prompt(question: Question, passages: tuple[str, ...], mini: MiniSet) -> str:
    texts = {p.id: p.text for p in mini.passages}
    return build_prompt(question, [texts[i] for i in passages])


# --- what is changed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTROLS)
def test_options_keep_their_texts_and_the_gold_one_stays_gold(name: str, mini: MiniSet, given: Given) -> None:
    for question, one in changed(name, mini, given):
        assert sorted(one.question.options) == sorted(question.options)
        assert one.question.answer_text == question.answer_text and one.question.id == question.id
        assert one.back(one.question.gold) == question.gold and one.back(None) is None
        places = range(len(question.options))
        assert [one.question.options[place] for place in places] == [question.options[one.order[i]] for i in places]
        assert (one.question.options == question.options) == (name != "options in another order")


@pytest.mark.parametrize("name", CONTROLS)
def test_a_stem_is_whole_or_gone(name: str, mini: MiniSet, given: Given) -> None:
    gone = name in ("options only", "passages and options, no stem")
    for question, one in changed(name, mini, given):
        assert one.question.stem == ("" if gone else question.stem)
        assert (question.stem in prompt(one.question, one.passages, mini)) != gone


def test_passages_under_each_control(mini: MiniSet, given: Given) -> None:
    for question, one in changed("passages in another order", mini, given):
        own = given.passages[question.id]
        assert sorted(one.passages) == sorted(own) and one.passages != own
    for question, one in changed("random passages", mini, given):
        assert len(set(one.passages)) == 3 and not set(one.passages) & set(given.passages[question.id])
    for question, one in changed("another question's passages", mini, given):
        assert one.passages in [p for i, p in given.passages.items() if i != question.id]
    for name in ("no passages", "options only"):
        assert all(one.passages == () for _, one in changed(name, mini, given))
    for name in ("options in another order", "passages and options, no stem"):
        assert all(one.passages == given.passages[q.id] for q, one in changed(name, mini, given))


def test_turning_the_options_changes_their_line_of_the_prompt_alone(mini: MiniSet, given: Given) -> None:
    for question, one in changed("options in another order", mini, given):
        before = prompt(question, given.passages[question.id], mini).split("\n")
        after = prompt(one.question, one.passages, mini).split("\n")
        differ = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        assert len(differ) == 1 and after[differ[0]].startswith("Options:")


def test_without_passages_the_prompt_is_that_of_a_student_without_knowledge(mini: MiniSet, given: Given) -> None:
    for question, one in changed("no passages", mini, given):
        assert prompt(one.question, one.passages, mini) == build_prompt(question)


@pytest.mark.parametrize("name", CONTROLS)
def test_chance_depends_on_control_seed_and_question_alone(name: str, mini: MiniSet, given: Given) -> None:
    whole = changed(name, mini, given)
    assert [one for _, one in reversed(whole)] == [one for _, one in changed(name, mini, given)][::-1]
    alone = Given(given.passages, list(given.known))
    assert all(change(CONTROLS[name], q, alone, 0) == one for q, one in whole)
    drawn = {"passages in another order", "random passages", "another question's passages", "options in another order"}
    assert (whole != changed(name, mini, given, seed=1)) == (name in drawn)


def test_small_cases_of_chance() -> None:
    one = Question(id="q", stem="Is it?", options=("yes", "no"), answer=1)
    alone = Given({"q": ("a",)}, ["a"])
    assert change(CONTROLS["passages in another order"], one, alone, 0).passages == ("a",)
    assert change(CONTROLS["random passages"], one, alone, 0).passages == ()
    few = Given({"q": ("a", "b", "c")}, list("abcdef"))
    assert all(set(change(CONTROLS["random passages"], one, few, seed).passages) == set("def") for seed in range(9))
    assert change(CONTROLS["options in another order"], one, alone, 0).question.options == ("no", "yes")
    with pytest.raises(KardError, match="question q: there is no other one"):
        change(CONTROLS["another question's passages"], one, alone, 0)
    with pytest.raises(KardError, match="control 'upside down': there is none"):
        control("upside down")


# --- the step ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs in a folder of their own, one process, a handful of questions."""
    with smallest_runs(tmp_path_factory.mktemp("runs"), SIZES):
        yield


@pytest.fixture(scope="module", params=["scored", "free"])
def settings(request: pytest.FixtureRequest, tiny_t5: str, tiny_bert: str) -> Settings:
    return resolve(
        "mini", size="smoke", inventory="development", student=tiny_t5, encoder=tiny_bert, seeds=(0,), filter=False,
        l=1, k=3, kappa_star=20, student_epochs=1, student_batch=8, source_tokens=110, target_tokens=16,
        answers=request.param,
    )  # fmt: skip


@pytest.fixture(scope="module")
def experiment(settings: Settings) -> Experiment:
    return Experiment(settings)


@pytest.mark.parametrize("name", [BM25, "Reasoning Distillation", "KA Fine-tuning"])
def test_unchanged_input_gives_the_methods_own_predictions(experiment: Experiment, name: str) -> None:
    unchanged = answers_under(experiment, Control("unchanged", ""), method(name), 0)
    assert unchanged == experiment.predictions(name, 0)


def test_answers_come_back_to_the_places_of_the_question(experiment: Experiment) -> None:
    """The same options in the same order, told in other places by the control: the same answers."""
    questions = {q.id: q for q in experiment.data.test}
    for p in experiment.controls("options in another order", 0, BM25):
        question = questions[p.question_id]
        assert p.gold == question.gold and p.method == f"{BM25}, options in another order"
        text = p.answer or "nothing"
        if p.parsed is not None and question.options[p.parsed] in text:
            assert parse_answer(text, question.options) == p.parsed
    for p in experiment.controls("no passages", 0, BM25):
        assert p.passages == ()


def test_a_student_that_always_takes_the_first_option_moves_with_the_order(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kardlib.generate import Generator

    def first(self: Generator, prompts: Any, begins: Any, options: Any) -> list[int]:
        return [0] * len(prompts)

    monkeypatch.setattr(Generator, "greedy", lambda self, prompts, forced=None: ["(A)"] * len(prompts))
    monkeypatch.setattr(Generator, "likeliest", first)
    given = Given({p.question_id: p.passages for p in experiment.predictions(BM25, 0)}, [])
    way = CONTROLS["options in another order"]
    for p, question in zip(answers_under(experiment, way, method(BM25), 0), experiment.data.test, strict=True):
        order = change(way, question, given, 0).order
        assert p.parsed == p.chosen == order[0] != 0


def test_the_step_is_made_once_and_has_a_key_of_its_own(experiment: Experiment) -> None:
    asked = {"control": "no passages", "seed": 0, "name": BM25}
    made = experiment.controls(**asked)
    folder = experiment.folder("controls", **asked)
    stamp = (folder / "key.json").stat().st_mtime_ns
    assert experiment.controls(**asked) == made and (folder / "key.json").stat().st_mtime_ns == stamp
    others = [{"control": "options only"}, {"seed": 1}, {"name": "Reasoning Distillation"}]
    keys = [fingerprint(experiment.key("controls", **(asked | other))) for other in [{}, *others]]
    assert len(set(keys)) == len(keys)


def test_the_steps_behind_a_control_are_its_answers_and_its_student(experiment: Experiment) -> None:
    job = Job("controls", {"control": "no passages", "seed": 0, "name": BM25})
    before = {experiment.folder(b.step, **b.arguments).name: b.step for b in behind(job, experiment.settings)}
    assert set(before.values()) == {"predictions", "student"}
    assert upstream_names(experiment.key("controls", **job.arguments)) <= set(before)


@pytest.mark.parametrize("name", ["CoT from teacher (oracle)", "Few-shot", "RAG + Reasoning Distillation"])
def test_methods_that_a_control_does_not_fit_are_one_line(experiment: Experiment, name: str) -> None:
    with pytest.raises(KardError, match="controls are for methods with a trained student"):
        experiment.controls("no passages", 0, name)


def test_rows_and_effects_have_every_control(experiment: Experiment) -> None:
    make_controls(experiment, BM25, [0])
    rows, found = control_rows(experiment, BM25, [0]), effects(experiment, BM25, [0])
    readings = 2 if experiment.settings.answers == "scored" else 1
    assert len(rows) == readings * len(CONTROLS) == len({(r.method, r.settings["answers"]) for r in rows})
    assert {row.table for row in rows} == {"controls"} and {row.n for row in rows} == {SIZES["test"]}
    assert [one.way.name for one in found if one.way] == list(CONTROLS) and found[0].way is None
    page = effects_html(found)
    assert page.count("<tr>") == len(CONTROLS) + 2 and all(way in page.replace("&#x27;", "'") for way in CONTROLS)


# --- what it shows ----------------------------------------------------------------------------------------------------


def runs_of(mini: MiniSet, options: list[int | None]) -> list[list[Prediction]]:
    test = mini.splits["test"]
    return [[answer(q, BM25, options[i % len(options)]) for i, q in enumerate(test)]]


def test_an_effect_is_a_paired_difference_and_a_share_of_equal_options(mini: MiniSet) -> None:
    before, after = runs_of(mini, [0, 1]), runs_of(mini, [0, 2])
    same = effect(None, before, before)
    assert same.gap is None and same.same.value == 100
    moved = effect(CONTROLS["no passages"], after, before)
    right = [100 * sum(p.chosen == p.gold for p in run[0]) / len(run[0]) for run in (after, before)]
    assert moved.same.value == 50 and moved.gap and moved.gap.gap == pytest.approx(right[0] - right[1])
    assert effect(None, runs_of(mini, [None]), runs_of(mini, [None]), free=True).same.value == 0
