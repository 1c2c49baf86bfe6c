"""A teacher's prompts: sound worked examples that are nobody else's, and no way for a gold answer into an oracle's."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from kardlib.announcements import LEAKS, leaks, names_option
from kardlib.errors import KardError
from kardlib.leakage import near_duplicates, with_gold
from kardlib.mini import TASKS, MiniSet, make_mini
from kardlib.presets import resolve
from kardlib.pretrain import SMALL_WORLD
from kardlib.prompts import LETTERS
from kardlib.readers import read_dataset
from kardlib.records import Question
from kardlib.teacher_prompts import (
    GOLD_LABEL,
    PROMPTS_DIR,
    PromptSet,
    chosen_option,
    messages_for,
    option_line,
    prompt_set_of,
    prompt_sets,
    read_prompt_set,
    split_completion,
)
from kardlib.teacher_records import Message

SETS = [read_prompt_set(label) for label in prompt_sets()]
WORDS = "fever river no yes answer Answer: Correct (A) (B) option C {x} %s \\n the is café 7 Explanation:".split()


def strange_questions(count: int, seed: int = 0) -> list[Question]:
    """Questions of two to ten options, of ordinary words and of words that could upset a layout."""
    rng, made = random.Random(seed), []
    for number in range(count):
        options = [f"{' '.join(rng.choices(WORDS, k=rng.randint(1, 4)))} {i}" for i in range(rng.randint(2, 10))]
        stem = " ".join(rng.choices([*WORDS, "\n", f"{GOLD_LABEL} (A)"], k=rng.randint(1, 30))) + f" {number}?"
        answer = rng.randrange(len(options))
        made.append(Question(id=f"q{number}", stem=stem, options=tuple(options), answer=answer))
    return made


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    made: list[MiniSet] = [
        make_mini(name, 3, "development", {"train": 25, "dev": 1, "test": 1}, SMALL_WORLD) for name in sorted(TASKS)
    ]
    return [*strange_questions(150), *(q for mini in made for q in mini.splits["train"])]


def as_bytes(messages: tuple[Message, ...]) -> bytes:
    return json.dumps([message.model_dump() for message in messages]).encode()


# --- the files --------------------------------------------------------------------------------------------------------


def test_four_sets_ship_and_a_name_means_the_newest() -> None:
    assert {prompt_set.name for prompt_set in SETS} == {"medqa", "strategyqa", "openbookqa", "generic"}
    newest = {prompt_set.name: prompt_set for prompt_set in SETS}  # in the order of versions
    assert all(read_prompt_set(name) == prompt_set for name, prompt_set in newest.items())
    assert prompt_set_of("medqa") == "medqa" and prompt_set_of("mini-medqa") == prompt_set_of("own") == "generic"


@pytest.mark.parametrize("prompt_set", SETS, ids=lambda s: s.label)
def test_five_examples_with_letters_spread_evenly(prompt_set: PromptSet) -> None:
    assert len(prompt_set.examples) == 5
    letters = Counter(example.answer for example in prompt_set.examples)
    most = max(len(example.options) for example in prompt_set.examples)
    assert len(letters) == min(5, most) and max(letters.values()) - min(letters.values()) <= 1
    if prompt_set.name in ("medqa", "openbookqa"):
        assert {len(example.options) for example in prompt_set.examples} == {4}
    if prompt_set.name == "strategyqa":
        assert {example.options for example in prompt_set.examples} == {("yes", "no")}


@pytest.mark.parametrize("prompt_set", SETS, ids=lambda s: s.label)
def test_rationales_conclude_in_two_to_five_sentences_and_announce_nothing(prompt_set: PromptSet) -> None:
    for example in prompt_set.examples:
        assert 2 <= len(re.findall(r"[.!?](?:\s|$)", example.rationale)) <= 5, example.stem
        assert not leaks(example.rationale, len(example.options))
        assert "\n" not in example.rationale + example.stem and example.rationale == example.rationale.strip()


def test_no_example_is_in_the_real_sets(data_dir: Path) -> None:
    for dataset in ("medqa", "strategyqa", "openbookqa"):
        data = read_dataset(resolve("laptop", dataset=dataset, data_dir=str(data_dir)))
        known = [*data.train, *data.dev, *data.test]
        assert not near_duplicates([example for s in SETS for example in s.examples], known, 0.5), dataset


def test_a_stem_of_the_real_sets_would_be_noticed(data_dir: Path) -> None:
    data = read_dataset(resolve("laptop", dataset="openbookqa", data_dir=str(data_dir)))
    taken = data.train[7].model_copy(update={"stem": data.train[7].stem.upper() + " please"})
    assert near_duplicates([taken], data.train, 0.5)


def test_every_shipped_file_is_called_by_its_name_and_version() -> None:
    assert {path.name for path in PROMPTS_DIR.glob("*.json")} == {f"{prompt_set.label}.json" for prompt_set in SETS}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 0}, "field version"),
        ({"version": "1"}, "field version"),
        ({"name": "Med QA"}, "field name"),
        ({"subject": ""}, "field subject"),
        ({"examples": []}, "field examples"),
        ({"comment": "x"}, "field comment"),
        ({"answer": 4}, r"field examples.1: answer: 4 is no option"),
        ({"answer": "B"}, "field examples.1.answer"),
        ({"answer": None}, "field examples.1.answer"),
        ({"options": ["a", "a", "b", "c"]}, "field examples.1: options: two of them are the same"),
        ({"options": ["a"]}, "field examples.1.options"),
        ({"rationale": ""}, "field examples.1.rationale"),
        ({"rationale": "Thus (B) follows."}, "field examples.1: the rationale announces the answer"),
        ({"letter": "B"}, "field examples.1.letter"),
    ],
)
def test_a_bad_file_gets_one_line_with_file_and_field(tmp_path: Path, change: dict, told: str) -> None:
    row = json.loads((PROMPTS_DIR / "medqa.v1.json").read_text(encoding="utf-8"))
    of_example = not change.keys() & {"version", "name", "subject", "examples", "comment"}
    (row["examples"][1] if of_example else row).update(change)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(row))
    with pytest.raises(KardError, match=told) as caught:
        read_prompt_set(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, "\udcff"])
def test_a_file_that_is_no_object_gets_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(KardError, match="mine.json: ") as caught:
        read_prompt_set(path)
    assert "\n" not in str(caught.value)


def test_a_name_or_a_path_that_is_not_there() -> None:
    with pytest.raises(KardError, match="'medqa.v99'.*generic.v1.*medqa.v1"):
        read_prompt_set("medqa.v99")
    with pytest.raises(KardError, match="nowhere.json: cannot be read"):
        read_prompt_set("nowhere.json")


def test_two_examples_that_ask_the_same(tmp_path: Path) -> None:
    row = json.loads((PROMPTS_DIR / "generic.v1.json").read_text(encoding="utf-8"))
    row["examples"][3]["stem"] = row["examples"][0]["stem"].upper()
    (tmp_path / "mine.json").write_text(json.dumps(row))
    with pytest.raises(KardError, match="examples 0 and 3 ask the same"):
        read_prompt_set(tmp_path / "mine.json")


# --- the builder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt_set", SETS, ids=lambda s: s.label)
def test_oracle_and_reader_prompts_are_the_same_whichever_option_is_gold(
    prompt_set: PromptSet, questions: list[Question]
) -> None:
    for question in questions:
        turned = [with_gold(question, turn) for turn in range(len(question.options))]
        turned.append(question.model_copy(update={"answer": None}))
        assert len({q.answer for q in turned}) == len(question.options) + 1
        assert len({as_bytes(messages_for(q, prompt_set, "oracle")) for q in turned}) == 1
        assert len({as_bytes(messages_for(q, prompt_set, "reader", "It follows.")) for q in turned}) == 1
        told = {as_bytes(messages_for(q, prompt_set, "rationale")) for q in turned[:-1]}
        assert len(told) == len(question.options)


@pytest.mark.parametrize("prompt_set", SETS, ids=lambda s: s.label)
def test_training_and_oracle_differ_in_the_gold_line_alone(prompt_set: PromptSet, questions: list[Question]) -> None:
    for question in questions:
        told = messages_for(question, prompt_set, "rationale")
        hidden = messages_for(question, prompt_set, "oracle")
        gold = option_line(question, question.gold)
        assert told[-1].content == f"{hidden[-1].content}\n{GOLD_LABEL} {gold}"
        examples = [option_line(example, example.answer) for example in prompt_set.examples]
        lines = iter([*examples, gold])
        added = [
            m.model_copy(update={"content": f"{m.content}\n{GOLD_LABEL} {next(lines)}"}) if m.role == "user" else m
            for m in hidden
        ]
        assert tuple(added) == told and next(lines, None) is None


@pytest.mark.parametrize("prompt_set", SETS, ids=lambda s: s.label)
def test_layout(prompt_set: PromptSet) -> None:
    question = Question(id="q", stem="Which?", options=("this", "that", "neither"), answer=1)
    for purpose, shown in (("rationale", None), ("oracle", None), ("reader", "Because\nof that.")):
        messages = messages_for(question, prompt_set, purpose, shown)
        assert [m.role for m in messages] == ["system", *["user", "assistant"] * 5, "user"]
        assert prompt_set.subject in messages[0].content and "{" not in messages[0].content
        assert messages[-1].content.startswith("Question: Which?\nOptions:\n(A) this\n(B) that\n(C) neither")
        for example, asked, reply in zip(prompt_set.examples, messages[1::2], messages[2::2], strict=False):
            assert chosen_option(reply.content, example) == example.answer
            rationale, answer = split_completion(reply.content)
            assert answer == option_line(example, example.answer)
            assert rationale == ("" if purpose == "reader" else example.rationale)
            assert (example.rationale in asked.content) == (purpose == "reader")
    assert messages[-1].content.endswith("\nExplanation: Because\nof that.")


def test_a_worked_example_that_is_the_question_is_left_out() -> None:
    generic = read_prompt_set("generic")
    example = generic.examples[2]
    question = Question(id="q", stem=f" {example.stem.upper()}", options=example.options, answer=example.answer)
    for purpose, shown in (("rationale", None), ("oracle", None), ("reader", "x")):
        messages = messages_for(question, generic, purpose, shown)
        assert len(messages) == 2 + 2 * 4
        assert not any(example.rationale in m.content for m in messages)


def test_what_cannot_be_asked_is_said_in_one_line() -> None:
    generic = SETS[0]
    question = Question(id="q7", stem="Which?", options=("a", "b"))
    with pytest.raises(KardError, match="q7.*no gold answer"):
        messages_for(question, generic, "rationale")
    with pytest.raises(KardError, match="q7: a reader needs a rationale"):
        messages_for(question, generic, "reader")
    with pytest.raises(KardError, match="q7: purpose oracle shows no rationale"):
        messages_for(question, generic, "oracle", "text")


def test_what_the_first_version_asks_never_changes() -> None:
    """A changed character would ask, and bill, every sample anew: make it a new version of the file instead."""
    question = Question(id="q", stem="Which?", options=("this", "that"), answer=1)
    asked = hashlib.sha256()
    for name in ("generic", "medqa", "openbookqa", "strategyqa"):
        for purpose, shown in (("rationale", None), ("oracle", None), ("reader", "Because.")):
            asked.update(as_bytes(messages_for(question, read_prompt_set(f"{name}.v1"), purpose, shown)))
    assert asked.hexdigest()[:16] == "2d34912427813971"


# --- replies ----------------------------------------------------------------------------------------------------------

DRUGS = Question(id="d", stem="Which?", options=("penicillin", "ceftriaxone", "vitamin K", "none of these"), answer=0)
ASKED = Question(id="y", stem="Is it?", options=("yes", "no"), answer=0)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("It blocks cell walls.\nAnswer: (B) ceftriaxone", 1),
        ("It blocks cell walls.\n**Answer:** (B) ceftriaxone", 1),
        ("It blocks cell walls.\n**Answer: (B) ceftriaxone**", 1),
        ("It blocks cell walls.\n\nFinal answer:\n(C)", 2),
        ("answer: b", 1),
        ("Answer: vitamin k.", 2),
        ("(D) none of these", 3),
        ("D", 3),
        ("penicillin", 0),
        ("Option C", 2),
        ("At first (A) seems right, yet the answer is (B).", 1),
        ("The answer is (A). No: the answer is (B).", 1),
        ("So the answer is ceftriaxone.", 1),
        ("The correct answer would be C) vitamin K", 2),
        ("Answer: (B) penicillin", None),
        ("Answer: (A) or (B)", None),
        ("Answer: A, B", None),
        ("Answer: (E) all of these", None),
        ("Answer: it cannot be told", None),
        ("Answer:", None),
        ("", None),
        ("Penicillin and ceftriaxone both block cell walls", None),
        ("A good question.", None),
    ],
)
def test_replies_about_drugs(text: str, chosen: int | None) -> None:
    assert chosen_option(text, DRUGS) == chosen


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("There is no doubt that it is.", None),
        ("There is no air there.\nAnswer: (A) yes", 0),
        ("No", 1),
        ("no.", 1),
        ("Answer: (B) yes", None),
        ("Answer: No, it is not.", 1),
    ],
)
def test_replies_of_yes_and_no(text: str, chosen: int | None) -> None:
    assert chosen_option(text, ASKED) == chosen


def test_every_option_is_read_back_from_the_line_that_is_asked_for(questions: list[Question]) -> None:
    for question in questions:
        for index in range(len(question.options)):
            reply = f"It is so.\nAnswer: {option_line(question, index)}"
            assert chosen_option(reply, question) == index, (question.options, reply)


def test_split_completion_keeps_what_is_no_last_line() -> None:
    assert split_completion("One. Two.\nAnswer: (A) x\n") == ("One. Two.", "(A) x")
    assert split_completion("One.\n\n*Answer:* (A) x") == ("One.", "(A) x")
    assert split_completion("The answer: it is x. So two.") == ("The answer: it is x. So two.", "")
    assert split_completion("Answer: (A) x") == ("", "(A) x")
    assert split_completion("  ") == ("", "")


# --- announcements ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Thus (C) follows.", {"letter"}),
        ("So option B remains.", {"letter"}),
        ("Answer: B", {"letter", "announced"}),
        ("Only two are left. B is correct.", {"letter"}),
        ("The answer is penicillin.", {"announced"}),
        ("the correct answer would be yes", {"announced"}),
        ("The answer to this question is no.", {"announced"}),
        ("Ceftriaxone is the correct answer.", {"announced"}),
        ("This makes ceftriaxone the best answer.", {"announced"}),
        ("The correct option is penicillin.", {"announced"}),
        ("As the given answer says, it is penicillin.", {"given"}),
        ("The answer provided is right, since (A) is meant.", {"letter", "given"}),
        ("Penicillin blocks the making of cell walls.", set()),
        ("The best choice for hypertension in pregnancy is labetalol.", set()),
        ("Hepatitis B is spread by blood, and vitamin A is right for sight.", set()),
        ("It is the option a doctor has.", set()),
        ("An enzyme (E) binds.", set()),
        ("Watch for (A)bnormalities of the heart.", set()),
        ("He answers no letter.", set()),
    ],
)
def test_leaks(text: str, kinds: set[str]) -> None:
    assert set(leaks(text, 4)) == kinds
    assert all(words.strip("…") in text for words in leaks(text, 4).values()) and set(leaks(text)) <= set(LEAKS)


def test_a_letter_that_no_option_has_is_no_leak() -> None:
    for count in range(2, 11):
        assert [letter for letter in LETTERS if leaks(f"Thus ({letter}).", count)] == list(LETTERS[:count])


def test_names_option_is_a_run_of_words() -> None:
    assert names_option("It is Vitamin-K, surely.", "vitamin K") and not names_option("vitamin and K", "vitamin K")
    assert not names_option("nothing is known", "no") and names_option("No!", "no") and not names_option("x", "?")
