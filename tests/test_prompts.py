"""Prompts that know nothing they must not, and are cut where they may be; answers read from what a model writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest

from kardlib.bm25 import BM25
from kardlib.candidates import question_candidates
from kardlib.errors import KardError
from kardlib.mini import MiniSet
from kardlib.mini_tokenizer import make_tokenizer
from kardlib.prompts import (
    ANSWER_MARK,
    LETTERS,
    Cue,
    build_prompt,
    build_target,
    parse_answer,
    query_of,
    split_generation,
)
from kardlib.records import Question

Q = Question(
    id="q1",
    stem="A smith from a far town has a rash and fever. Which drug should be given?",
    options=("aspirin", "ibuprofen", "colchicine", "quinine"),
    answer=2,
)
NASTY = [
    ("aspirin", "ibuprofen", "colchicine", "quinine"),
    ("yes", "no"),
    ("-0.45", "0.45", "4.5", "45"),
    ("-0.45 mL", "0.45 mL", "-0.45 ML.", "45 mL"),
    ("heart", "heart failure", "heart failure with fever", "failure"),
    ("A", "B", "AB", "O"),
    ("B", "A", "D", "C"),
    ("E. coli", "C. difficile", "S. aureus", "B. cereus"),
    ("24 hours", "4 hours", "2 hours", "2 to 4 hours"),
    ("Stop smoking.", "Stop drinking.", "Wait.", "a"),
    ("a cat (grey)", "a cat (black)", "(a) cat", "cats"),
    ("x > 3", "x < 3", "x = 3", "x"),
    ("the answer is long", "so it is", "naïve", "Straße"),
    tuple(f"option {letter}" for letter in LETTERS),
]
TOKENIZER = make_tokenizer("seq2seq")


def word_count(text: str) -> int:
    return len(text.split())


def piece_count(text: str) -> int:
    """A tokenizer that cuts long words in many pieces."""
    return sum(1 + len(word) // 4 for word in text.split())


def token_count(text: str) -> int:
    return len(TOKENIZER(text, add_special_tokens=False).input_ids)


# --- prompts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cue", get_args(Cue))
@pytest.mark.parametrize("explanation", [None, "Because of the rash."])
def test_prompt_and_query_do_not_depend_on_the_gold_answer(cue: Cue, explanation: str | None) -> None:
    variants = [
        Q.model_copy(update={"answer": gold, "id": f"other-{gold}", "meta": {"disease": f"d{gold}"}})
        for gold in (None, 0, 1, 2, 3)
    ]
    assert len({build_prompt(q, ["one", "two"], cue, explanation=explanation) for q in variants}) == 1
    assert len({query_of(q) for q in variants}) == 1


def test_prompt_holds_passages_question_and_options_in_order_and_ends_in_its_cue() -> None:
    prompts = {cue: build_prompt(Q, ["first text", "second text"], cue) for cue in get_args(Cue)}
    for prompt in prompts.values():
        parts = ["first text", "second text", Q.stem, *(f"({LETTERS[i]}) {o}" for i, o in enumerate(Q.options))]
        places = [prompt.index(part) for part in parts]
        assert places == sorted(places)
    assert len({prompt.rsplit("\n", 1)[1] for prompt in prompts.values()}) == len(prompts)
    assert len({prompt.rsplit("\n", 1)[0] for prompt in prompts.values()}) == 1


def test_explanation_stands_after_the_options_and_only_where_it_is_given() -> None:
    shown = build_prompt(Q, cue="answer", explanation="It fits gout.")
    assert shown.index("It fits gout.") > shown.index("quinine")
    assert "It fits gout." not in build_prompt(Q, cue="answer")


def test_query_is_the_stem_and_all_options_without_marks() -> None:
    assert query_of(Q).split() == [*Q.stem.split(), *Q.options]
    assert ANSWER_MARK.lower() not in query_of(Q).lower() and "(A)" not in query_of(Q)


@pytest.mark.parametrize("count", [word_count, token_count, piece_count])
@pytest.mark.parametrize("explanation", [None, "Because of the rash."])
def test_passages_are_cut_and_nothing_else(count: Callable[[str], int], explanation: str | None) -> None:
    passages = [" ".join(f"{'un' * (i % 5)}w{i}{'xyz'[p]}" for i in range(12)) for p in range(3)]
    words = [word for text in passages for word in text.split()]
    bare = build_prompt(Q, explanation=explanation)
    whole = build_prompt(Q, passages, explanation=explanation)
    assert whole.endswith(bare)
    last, lengths = -1, set()
    for room in range(count(bare) + 4, count(whole) + 20, max(1, count(whole) // 150)):
        prompt = build_prompt(Q, passages, explanation=explanation, count=count, max_tokens=room)
        assert prompt.endswith(bare)
        assert count(prompt) <= max(room, count(bare))
        kept = [word for word in prompt.removesuffix(bare).split() if word in words]
        assert kept == words[: len(kept)], "what is kept is not the beginning of the passages"
        assert len(kept) >= last
        last = len(kept)
        lengths.add(last)
    assert last == len(words) and build_prompt(Q, passages, count=count, max_tokens=10**6) == build_prompt(Q, passages)
    assert len(lengths) > 8, "passages are cut word by word"


def test_a_prompt_with_its_special_tokens_fits(mini: MiniSet, search: BM25) -> None:
    for question in mini.splits["test"]:
        found = question_candidates(search, question, 12).passages
        texts = {p.id: p.text for p in mini.passages}
        passages = [texts[i] for i in found]
        full = len(TOKENIZER(build_prompt(question, passages)).input_ids)
        room = 160
        assert full > room
        prompt = build_prompt(question, passages, count=token_count, max_tokens=room)
        assert room - 40 < len(TOKENIZER(prompt).input_ids) <= room
        assert prompt.endswith(build_prompt(question))


@pytest.mark.parametrize("explanation", [None, "The rash points to a fever."])
def test_a_question_longer_than_the_room_loses_its_beginning_and_keeps_options_and_cue(explanation: str | None) -> None:
    def count(text: str) -> int:
        return len(text.split())

    whole = build_prompt(Q, explanation=explanation)
    for max_tokens in range(25, count(whole) + 8):
        short = build_prompt(Q, ["one passage"], explanation=explanation, count=count, max_tokens=max_tokens)
        assert count(short) <= max_tokens and short.split("Options:")[1] == whole.split("Options:")[1]
        stem = short.split("Question: ")[1].split("\nOptions:")[0]
        assert stem and Q.stem.endswith(stem)
    with pytest.raises(KardError, match="question q1: its options leave no room"):
        build_prompt(Q, count=count, max_tokens=5)


def test_a_long_rationale_loses_its_end_and_never_the_answer() -> None:
    def count(text: str) -> int:
        return len(text.split())

    rationale = " ".join(f"word{i}" for i in range(50))
    assert build_target("quinine", rationale, count, 100) == build_target("quinine", rationale)
    short = build_target("quinine", rationale, count, 30)
    assert count(short) <= 30 and short.endswith(f"{ANSWER_MARK} quinine.")
    assert rationale.startswith(split_generation(short)[0]) and count(short) > 20


def test_the_same_passages_give_the_same_prompt_with_every_way_to_count(mini: MiniSet) -> None:
    """Training counts with ``tokenize``, a generator with ``input_ids``."""
    passages = [p.text for p in mini.passages[:8]]
    ways = [lambda t: len(TOKENIZER.tokenize(t)), token_count]
    for room in (80, 120, 200, 512):
        assert len({build_prompt(Q, passages, count=way, max_tokens=room) for way in ways}) == 1


# --- targets and answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", NASTY, ids=lambda options: options[0])
def test_every_target_is_read_back(options: tuple[str, ...]) -> None:
    for index, option in enumerate(options):
        for rationale in ("It is so.", f"Some say: {ANSWER_MARK} {options[0]}. That is wrong.", "x"):
            target = build_target(option, rationale)
            assert split_generation(target) == (rationale, f"{option}.")
            assert parse_answer(target, options) == index
        assert parse_answer(build_target(option, None), options) == index


@pytest.mark.parametrize("options", [o for o in NASTY if len({x.lower().strip(".") for x in o}) == len(o)])
def test_every_target_is_read_back_from_a_tokenizer_and_in_any_case(options: tuple[str, ...]) -> None:
    for index, option in enumerate(options):
        for target in (build_target(option, "It is so."), build_target(option, None)):
            decoded = TOKENIZER.decode(TOKENIZER(target).input_ids, skip_special_tokens=True)
            if "ß" not in target and "ï" not in target and not set("<>=") & set("".join(options)):
                assert parse_answer(decoded, options) == index, decoded
            assert parse_answer(target.lower(), options) == index
            if "ß" not in target:
                assert parse_answer(target.upper(), options) == index


@pytest.mark.parametrize(
    "text",
    """(B) | B | b | B. | b) | (b). | B: ibuprofen | (B) ibuprofen | B. ibuprofen | answer is b | Answer: B | option B |
    The answer is (B). | the correct answer is B | ibuprofen | IBUPROFEN. |  Ibuprofen  | give ibuprofen at once |
    I think of aspirin. So the answer is ibuprofen. | so the ANSWER is B | aspirin? So the answer is (B)""".split("|"),
)
def test_ways_to_say_b(text: str) -> None:
    assert parse_answer(text, Q.options) == 1


@pytest.mark.parametrize(
    "text",
    """ | . | (E) | E. | e | answer is j | (Z) | none of these | aspirin or ibuprofen | ibuprofene | bad | a b | dab |
    So the answer is | aspirin. So the answer is | So the answer is (H). | 2 | [1]""".split("|"),
)
def test_no_answer_is_none(text: str) -> None:
    assert parse_answer(text, Q.options) is None


def test_only_letters_of_options_that_exist_count() -> None:
    for size in range(2, 11):
        options = tuple(f"thing{'xyzuvwklmn'[i]}" for i in range(size))
        for i, letter in enumerate(LETTERS):
            assert parse_answer(f"({letter})", options) == (i if i < size else None)


def test_the_longest_of_nested_options_is_meant() -> None:
    options = ("heart", "heart failure", "lung")
    assert parse_answer("it is heart failure in old age", options) == 1
    assert parse_answer("it is the heart here", options) == 0
    assert parse_answer("it is heart failure or the lung", options) is None


def test_sign_and_decimals_tell_options_apart() -> None:
    options = ("-0.45", "0.45", "0.5")
    for text, index in (("-0.45", 0), ("- 0. 4 5", 0), ("0.45.", 1), ("So the answer is -0.45.", 0), ("0.5", 2)):
        assert parse_answer(text, options) == index
    assert parse_answer("0.4", options) is None
    assert parse_answer("it is 24 hours", ("4 hours", "2 hours")) is None


def test_the_rationale_keeps_its_capitals_and_the_last_mark_counts() -> None:
    text = f"İzmir it is. {ANSWER_MARK} Aspirin. But no. {ANSWER_MARK.upper()} Quinine."
    assert split_generation(text) == (f"İzmir it is. {ANSWER_MARK} Aspirin. But no.", "Quinine.")
    assert split_generation(" no mark ") == ("", "no mark")
