"""The mini sets that ask about the same world in other ways."""

from __future__ import annotations

import random
import re

import pytest

from kardlib.mini import TASKS, MiniSet, make_mini
from kardlib.mini_strategyqa import OPTIONS
from kardlib.pretrain import SMALL_WORLD
from kardlib.records import Question, Rationale
from kardlib.teacher import ScriptedTeacher

SIZES = {"train": 400, "dev": 40, "test": 60}


@pytest.fixture(scope="module", params=sorted(TASKS))
def asked(request: pytest.FixtureRequest) -> MiniSet:
    return make_mini(request.param, 3, "development", SIZES, SMALL_WORLD)


def words_of(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def questions_of(mini: MiniSet) -> list[Question]:
    return [q for split in mini.splits.values() for q in split]


def test_sets_share_one_knowledge_base() -> None:
    bases = [make_mini(name, 3, "development", {"train": 5}, SMALL_WORLD).passages for name in TASKS]
    assert all(base == bases[0] for base in bases)


def test_the_same_seed_gives_the_same_set_and_stems_are_unique(asked: MiniSet) -> None:
    again = make_mini(asked.task.name, 3, "development", SIZES, SMALL_WORLD)
    assert again.splits == asked.splits
    assert len({q.stem for q in questions_of(asked)}) == sum(SIZES.values())


def test_the_answer_follows_from_the_chain(asked: MiniSet) -> None:
    for q in questions_of(asked):
        chain = asked.task.chain(asked.world, q)
        if q.options != OPTIONS:
            assert chain[-1] == q.answer_text and q.options.count(q.answer_text) == 1 and len(set(q.options)) == 4
        else:
            assert yes_or_no(q, chain[-1]) == q.answer_text


def yes_or_no(question: Question, name: str) -> str:
    """What a chain of mini-StrategyQA that ends in a name comes to."""
    return "yes" if name.endswith({"drug": "ine", "carrier": "ek", "enzyme": "ase"}[question.meta["kind"]]) else "no"


def test_a_stem_does_not_name_what_is_to_be_found(asked: MiniSet) -> None:
    for q in questions_of(asked):
        hidden = set(asked.task.chain(asked.world, q)) - {q.meta.get("other")}
        assert not words_of(q.stem) & hidden


def test_needed_facts_are_mostly_in_the_knowledge_base(asked: MiniSet) -> None:
    stated = set().union(*asked.facts.values())
    whole = sum(asked.needed(q) <= stated for q in questions_of(asked))
    assert 0.9 * sum(SIZES.values()) <= whole < sum(SIZES.values()) + 1


def test_what_is_asked_about_is_named_in_the_question(asked: MiniSet) -> None:
    for q in questions_of(asked):
        subjects = {q.meta[name] for name in ("disease", "about", "other") if name in q.meta}
        if asked.task.name != "mini-medqa":  # there the disease is to be found
            assert subjects <= words_of(q.stem)
        assert asked.task.topic(q) in {*subjects}


def test_answers_give_nothing_away_by_their_place(asked: MiniSet) -> None:
    questions = questions_of(asked)
    count = len(questions[0].options)
    for place in range(count):
        share = sum(q.gold == place for q in questions) / len(questions)
        assert abs(share - 1 / count) < 0.1


@pytest.fixture(scope="module")
def told(asked: MiniSet) -> list[tuple[Question, Rationale]]:
    rationales = ScriptedTeacher(asked).rationales(asked.splits["train"][:150], 2, show_gold=True)
    by_id = {q.id: q for q in asked.splits["train"]}
    return [(by_id[r.question_id], r) for r in rationales]


def test_right_rationales_tell_the_right_chain_and_wrong_ones_another(asked: MiniSet, told: list) -> None:
    for question, rationale in told:
        chain = asked.task.chain(asked.world, question)
        wordings = {asked.task.tell(question, chain, random.Random(i)) for i in range(300)}
        assert (rationale.text in wordings) == rationale.correct
    assert 0.03 < sum(not r.correct for _, r in told) / len(told) < 0.2


def test_a_misled_rationale_ends_in_the_option_that_the_teacher_chose(asked: MiniSet) -> None:
    questions = {q.id: q for q in asked.splits["test"]}
    for r in ScriptedTeacher(asked).rationales(list(questions.values()), 1, show_gold=False):
        question = questions[r.question_id]
        assert (r.chosen == question.gold) == r.correct
        if question.options != OPTIONS:
            assert question.options[r.chosen] in words_of(r.text)
        else:
            *_, end = r.text.lower().split(". ")
            assert yes_or_no(question, end.split()[0]) == question.options[r.chosen]
            assert (" is not " in end) == (question.options[r.chosen] == "no")
