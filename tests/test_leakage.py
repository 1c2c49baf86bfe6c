"""The leakage audit: it finds what was planted, it agrees with a plain search, and a clean set is clean."""

from __future__ import annotations

import random
import re

import pytest
from constructed import experiment_on

from kardlib import candidates
from kardlib.bm25 import Analyzer
from kardlib.errors import KardError
from kardlib.experiment import Experiment
from kardlib.leakage import (
    Finding,
    audit,
    audit_html,
    by_frequency_alone,
    near_duplicates,
    queries,
    query_findings,
    question_findings,
    text_in_passages,
    with_gold,
)
from kardlib.methods import METHODS, OTHER_METHODS
from kardlib.mini import TASKS, MiniSet, make_mini
from kardlib.pretrain import SMALL_WORLD
from kardlib.prompts import query_of
from kardlib.records import Passage, Question

ROWS = (*METHODS, *OTHER_METHODS)


@pytest.fixture(scope="module")
def experiment(mini: MiniSet) -> Experiment:
    return experiment_on(mini, kappa_star=10)


def found(findings: list[Finding], words: str) -> Finding:
    (one,) = [one for one in findings if words in one.check]
    return one


# --- nearly the same questions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.3, 0.5, 2 / 3, 0.8, 1.0])
@pytest.mark.parametrize("name", sorted(TASKS))
def test_near_duplicates_are_those_of_a_search_over_all_pairs(name: str, threshold: float) -> None:
    mini = make_mini(name, 5, "development", {"train": 120, "dev": 5, "test": 60}, SMALL_WORLD)
    first, second, analyze = mini.splits["test"], mini.splits["train"], Analyzer()
    second = [*second, first[3].model_copy(update={"id": "again"})]
    tokens = {q.id: set(analyze(q.stem)) for q in (*first, *second)}
    plain = {
        (a.id, b.id): len(tokens[a.id] & tokens[b.id]) / len(tokens[a.id] | tokens[b.id]) for a in first for b in second
    }
    fast = near_duplicates(first, second, threshold)
    assert [(p.first, p.second) for p in fast] == [pair for pair, value in plain.items() if value >= threshold]
    assert all(p.jaccard == plain[(p.first, p.second)] for p in fast)
    answers = {q.id: q.answer_text for q in (*first, *second)}
    assert all(p.same_answer == (answers[p.first] == answers[p.second]) for p in fast) and fast


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5])
def test_a_threshold_outside_its_range_is_one_line(threshold: float) -> None:
    with pytest.raises(KardError, match="threshold"):
        near_duplicates([], [], threshold)


def test_a_planted_repetition_is_found(mini: MiniSet) -> None:
    experiment = experiment_on(mini)
    clean = found(question_findings(experiment), "test in train: repeated word")
    planted = experiment.data.test[5].model_copy(update={"id": "planted"})
    experiment.data.train = [*experiment.data.train, planted]
    after = question_findings(experiment)
    assert found(after, "test in train: repeated word").found == clean.found + 1 == 1
    assert found(after, "test in train: nearly repeated, with").found >= 1
    assert planted.stem in found(after, "test in train: repeated word").examples[0]
    assert found(after, "dev in train: repeated word").found == 0


# --- text in passages -------------------------------------------------------------------------------------------------


def test_planted_text_is_found_whatever_its_case_and_stops() -> None:
    long = Question(id="long", stem="One two, three four five six seven eight nine?", options=("a", "b"), answer=0)
    short = Question(id="short", stem="Who is it?", options=("a", "b"), answer=0)
    passages = [
        Passage(id="p1", text="one two three four five six seven"),
        Passage(id="p2", text="So: TWO three four five six seven; eight. Nine."),
        Passage(id="p3", text="who is there, and is it known who is it"),
    ]
    assert text_in_passages([long, short], passages) == {"long": "p2", "short": "p3"}
    assert text_in_passages([long, short], passages[:1]) == {}
    assert text_in_passages([long], passages, words=7) == {"long": "p1"}


def test_text_in_passages_is_what_a_plain_search_finds(mini: MiniSet) -> None:
    rng, passages = random.Random(3), list(mini.passages[:60])
    for question in mini.splits["test"][::4]:
        words = question.stem.split()
        at = rng.randrange(len(words) - 5)
        text = f"{passages[0].text} {' '.join(words[at : at + 6])}"
        passages.append(Passage(id=f"planted {question.id}", text=text))

    def squeeze(text: str) -> str:
        return f" {' '.join(re.findall(r'[a-z0-9_]+', text.lower()))} "

    for words in (3, 6):
        expected = {}
        for q in mini.splits["test"]:
            stem = squeeze(q.stem).split()
            runs = [f" {' '.join(stem[i : i + words])} " for i in range(len(stem) - words + 1)]
            hit = next((p.id for p in passages if any(run in squeeze(p.text) for run in runs)), None)
            expected |= {q.id: hit} if hit else {}
        assert text_in_passages(mini.splits["test"], passages, words) == expected and expected


# --- queries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_query_is_that_of_the_question_or_an_oracles_rationale(row: object, experiment: Experiment) -> None:
    test, told = experiment.data.test, experiment.test_rationale()
    heard = queries(experiment, row, test)  # type: ignore[arg-type]
    expected = {"none": [""] * len(test), "oracle rationale": [told[q.id].text for q in test]}
    assert heard == expected.get(row.test_query, [query_of(q) for q in test])  # type: ignore[attr-defined]


def test_with_gold_goes_through_all_options() -> None:
    question = Question(id="q", stem="Which?", options=("a", "b", "c"), answer=2)
    assert [with_gold(question, turn).gold for turn in range(4)] == [2, 0, 1, 2]


def test_on_a_clean_set_only_oracles_hold_rationales_and_no_query_knows_the_gold_option(experiment: Experiment) -> None:
    findings = query_findings(experiment, ROWS)
    assert len(findings) == 2 * sum(row.test_query != "none" for row in ROWS)
    for one in findings:
        holds = "holds the test rationale" in one.check and one.check.startswith("KARD (Silver")
        assert one.found == (one.checked if holds else 0) and one.wanted <= ("(Silver" in one.check)


def test_a_query_with_the_gold_answer_is_caught(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "query_of", lambda question: f"{question.stem} {question.answer_text}")
    findings = query_findings(experiment)
    for name in ("KA Fine-tuning", "KARD (BM25)", "KARD (Reranker)"):
        assert found(findings, f"{name}: query depends").found == len(experiment.data.test)


def test_a_query_with_the_rationale_is_caught(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    told = experiment.test_rationale()
    monkeypatch.setattr(candidates, "query_of", lambda question: f"{question.stem} {told[question.id].text.upper()}")
    one = found(query_findings(experiment), "KARD (BM25): query holds")
    assert one.found == one.checked and not one.wanted and "<b>" in audit_html([one])


def test_frequency_alone_is_chance_where_nothing_is_known_and_right_where_answers_repeat() -> None:
    options = ("a", "b", "c", "d")
    test = [Question(id=f"q{i}", stem="Which?", options=options, answer=i % 2) for i in range(4)]
    strange = [Question(id="s", stem="Which?", options=("x", "y"), answer=0)]
    assert by_frequency_alone(strange, test) == 25
    assert by_frequency_alone(test[:1], test) == 50, "a is known, b is not"
    assert by_frequency_alone(test, test) == 50, "a and b share every question"
    assert by_frequency_alone(test[::2], test[::2]) == 100


# --- the whole --------------------------------------------------------------------------------------------------------


def test_a_mini_set_is_clean_where_it_must_be(experiment: Experiment) -> None:
    findings = audit(experiment)
    for one in findings:
        if "word for word" in one.check or "words in a row" in one.check or "depends on" in one.check:
            assert one.found == 0, one
    page = audit_html(findings)
    assert page.count("<tr>") == len(findings) + 1 and page.count("<b>") == sum(
        bool(one.found) and not one.wanted for one in findings
    )
