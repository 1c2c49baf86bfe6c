"""The teacher as the filter's reader: it never sees the gold answer, and its verdicts are those of the kit's filter."""

from __future__ import annotations

import pytest

from kardlib.errors import KardError
from kardlib.filter import filter_rationales
from kardlib.leakage import with_gold
from kardlib.mini import MiniSet
from kardlib.prompts import build_prompt
from kardlib.records import Question, Rationale
from kardlib.teacher import ScriptedTeacher
from kardlib.teacher_prompts import option_line, read_prompt_set
from kardlib.teacher_reader import filter_by_replies, reader_asks
from kardlib.teacher_records import Ask, Sample

GENERIC = read_prompt_set("generic")


@pytest.fixture(scope="module")
def questions(mini: MiniSet) -> list[Question]:
    return mini.splits["train"]


@pytest.fixture(scope="module")
def rationales(mini: MiniSet, questions: list[Question]) -> list[Rationale]:
    return ScriptedTeacher(mini).rationales(questions, 3, show_gold=True)


def asks_of(questions: list[Question], rationales: list[Rationale]) -> list[Ask]:
    return reader_asks(questions, rationales, GENERIC, "t", "m")


def said(text: str, reason: str = "stop") -> Sample:
    return Sample(index=0, text=text, finish_reason=reason)


def test_asks_show_the_rationale_and_are_the_same_whichever_option_is_gold(
    questions: list[Question], rationales: list[Rationale]
) -> None:
    asks = asks_of(questions, rationales)
    for turn in (1, 2, 3):
        assert asks_of([with_gold(q, turn) for q in questions], rationales) == asks
    by_id = {q.id: q for q in questions}
    for ask, rationale in zip(asks, rationales, strict=True):
        last = ask.messages[-1].content
        assert (ask.purpose, ask.question_id) == ("reader", rationale.question_id) and ask.sampling.temperature == 0
        assert by_id[ask.question_id].stem in last and last.endswith(f"Explanation: {rationale.text}")
    texts = {(r.question_id, r.text) for r in rationales}
    assert len({ask.identity for ask in asks}) == len(texts) < len(rationales)


def test_verdicts_are_those_of_the_kits_filter_for_the_same_reader(
    questions: list[Question], rationales: list[Rationale]
) -> None:
    """One reader behind two doors: it takes the option that the explanation names, and is silent on every seventh."""
    by_id = {q.id: q for q in questions}
    silent = {(r.question_id, r.text) for r in rationales[::7]}
    named = {
        (r.question_id, r.text): next(
            i for i, option in enumerate(by_id[r.question_id].options) if option in r.text.lower()
        )
        for r in rationales
    }
    of_prompt = {
        build_prompt(by_id[r.question_id], cue="answer", explanation=r.text): (r.question_id, r.text)
        for r in rationales
    }

    def reader(prompts: list[str]) -> list[str]:
        keys = [of_prompt[prompt] for prompt in prompts]
        return ["?" if key in silent else by_id[key[0]].options[named[key]] for key in keys]

    asks = asks_of(questions, rationales)
    of_ask = {ask.identity: (r.question_id, r.text) for ask, r in zip(asks, rationales, strict=True)}

    def reply(ask: Ask) -> Sample:
        key = of_ask[ask.identity]
        return said("?" if key in silent else f"Answer: {option_line(by_id[key[0]], named[key])}")

    plain, by_teacher = (
        filter_rationales(questions, rationales, reader),
        filter_by_replies(questions, rationales, asks, reply),
    )
    assert by_teacher == plain and set(plain.counts) == {"kept", "wrong option", "no option"}


def test_a_reply_that_was_cut_off_is_no_option(questions: list[Question], rationales: list[Rationale]) -> None:
    by_id = {q.id: q for q in questions}
    asks = asks_of(questions, rationales)

    def reply(ask: Ask, reason: str) -> Sample:
        question = by_id[ask.question_id]
        return said(f"Answer: {option_line(question, question.gold)}", reason)

    right = filter_by_replies(questions, rationales, asks, lambda ask: reply(ask, "stop"))
    assert right.kept == rationales
    cut = filter_by_replies(questions, rationales, asks, lambda ask: reply(ask, "length"))
    assert not cut.kept and cut.counts == {"no option": len(rationales)}


def test_missing_replies_and_strange_questions_are_told(questions: list[Question], rationales: list[Rationale]) -> None:
    asks = asks_of(questions, rationales)
    first = asks[0].identity
    lacking = sum(ask.identity == first for ask in asks)
    with pytest.raises(KardError, match=f"{len(asks) - lacking} of {len(asks)} replies"):
        filter_by_replies(questions, rationales, asks, lambda a: None if a.identity == first else said("A"))
    with pytest.raises(KardError, match=f"{len(asks) - 1} of {len(asks)} replies"):
        filter_by_replies(questions, rationales, asks[:-1], lambda a: said("A"))
    with pytest.raises(KardError, match="not among the questions"):
        reader_asks(questions[1:], rationales, GENERIC, "t", "m")
