"""The quality report: every count is that of a plain search, and what is planted is found."""

from __future__ import annotations

import random
import re

import matplotlib.pyplot as plt
import pytest

from kardlib.bm25 import Analyzer
from kardlib.drafts import Draft, as_rationales, drafts_of, screen
from kardlib.errors import KardError
from kardlib.filter import filter_rationales
from kardlib.leakage import NEAR, near_duplicates
from kardlib.mini import MiniSet
from kardlib.rationale_figures import quality_figures
from kardlib.rationale_quality import VERDICTS, measure_rationales
from kardlib.records import Question, Rationale
from kardlib.repetition import Repeats, distinct, n_grams, neighbours, overlap, repeats
from kardlib.teacher import ScriptedTeacher
from kardlib.teacher_records import Ask, Message, Sample

WORDS = "fever of river blocks Blocks, enzyme; treats the and gives bites a vora gamin ricketts".split()


def question(identifier: str, answer: int | None = 0, stem: str = "Which drug treats it?") -> Question:
    return Question(id=identifier, stem=stem, options=("penicillin", "vitamin K", "no drug"), answer=answer)


def told(identifier: str, index: int, text: str) -> Rationale:
    return Rationale(question_id=identifier, index=index, text=text, saw_gold=True)


def random_texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts of few words of a few questions, so that many repeat or nearly repeat others."""
    rng, texts = random.Random(seed), []
    for _ in range(count):
        if texts and rng.random() < 0.5:
            words = rng.choice(texts)[1].split()
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        else:
            words = rng.choices(WORDS, k=rng.randint(1, 12))
        texts.append((f"q{rng.randrange(6)}", " ".join(words)))
    return texts


# --- repetition -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.5, NEAR, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_repeats_are_those_of_a_search_over_all_pairs(seed: int, threshold: float) -> None:
    texts, analyze = random_texts(120, seed), Analyzer()
    words = [re.findall(r"\w+", text.lower()) for _, text in texts]
    tokens = [set(analyze(text)) for _, text in texts]
    found: dict[str, list[int]] = {name: [] for name in ("exact_within", "exact_across", "near_within", "near_across")}
    for j, (asked, _) in enumerate(texts):
        for kind in ("exact", "near"):
            earlier = set()
            for i in range(j):
                same = words[i] == words[j]
                union = tokens[i] | tokens[j]
                if same or (kind == "near" and union and len(tokens[i] & tokens[j]) / len(union) >= threshold):
                    earlier.add(texts[i][0] == asked)
            for place, here in (("within", True), ("across", False)):
                if here in earlier:
                    found[f"{kind}_{place}"].append(j)
    near = neighbours([text for _, text in texts], threshold)
    made = repeats(texts, near)
    assert made == Repeats(*(tuple(found[name]) for name in found))
    assert all(found.values()) and set(made.exact_within) <= set(made.near_within)
    some = texts[::3]
    assert repeats(some, near) == repeats(some, neighbours([text for _, text in some], threshold))


@pytest.mark.parametrize("threshold", [0.34, 0.6, 2 / 3, 0.75, NEAR, 1.0])
def test_neighbours_are_those_of_the_leakage_audit(mini: MiniSet, threshold: float) -> None:
    texts = [f"{q.stem} {i % 3}" for i, q in enumerate([*mini.splits["train"], *mini.splits["train"]])]
    texts += [text for _, text in random_texts(100, 9)]
    near = neighbours(texts, threshold)
    keys = list(near)
    stems = [question(str(i), stem=key) for i, key in enumerate(keys)]
    pairs = {(keys[int(p.first)], keys[int(p.second)]) for p in near_duplicates(stems, stems, threshold)}
    assert {(key, other) for key, others in near.items() for other in others} == {p for p in pairs if p[0] != p[1]}
    assert all(len(set(others)) == len(others) for others in near.values()) and any(near.values())


@pytest.mark.parametrize("threshold", [0, -1, 1.01, float("nan")])
def test_a_threshold_that_is_none_is_refused(threshold: float) -> None:
    with pytest.raises(KardError, match="threshold = "):
        neighbours(["a"], threshold)


def test_distinct_n_counts_runs_of_words() -> None:
    assert list(n_grams("One, two. ONE two", 2)) == [("one", "two"), ("two", "one"), ("one", "two")]
    assert distinct(["one two one two"], 1) == 2 / 4 and distinct(["one two one two"], 2) == 2 / 3
    assert distinct(["a b", "a b"], 2) == 1 / 2 and distinct(["a b c", "d e f"], 3) == 1
    assert distinct(["a", "b"], 2) is None and distinct([], 1) is None
    rng = random.Random(1)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(0, 9))) for _ in range(30)]
    for n in (1, 2, 3):
        runs = []
        for text in texts:
            words = re.findall(r"\w+", text.lower())
            runs += [" ".join(words[i : i + n]) for i in range(len(words)) if i + n <= len(words)]
        assert distinct(texts, n) == pytest.approx(len(set(runs)) / len(runs))


def test_overlap_is_found_where_it_is_planted() -> None:
    stem = "A man of forty years has a fever and a red knee after a fall"
    test = [question("taken", 1, stem), question("told", 1, stem + " today"), question("free", 0, "Who bit the dog?")]
    run = "He HAS a fever, and a red knee: after all."
    assert overlap([run], test, words=8) == overlap([run, ""], test, words=8)
    assert overlap([run], test, words=8).run == ("taken", "told") and overlap([run], test, words=9).run == ()
    assert overlap([run], test).run_and_answer == overlap([run, "Give vitamin K."], test).run_and_answer == ()
    assert overlap([run + " Give vitamin-K."], test).run_and_answer == ("taken", "told")
    assert overlap([stem], test).near == ("taken", "told") and overlap(["A dog."], test).near == ()
    assert overlap([], test).run == overlap([run], []).near == ()
    unknown = [q.model_copy(update={"answer": None}) for q in test]
    assert overlap([run + " Give vitamin K."], unknown).run_and_answer == ()


# --- drafts -----------------------------------------------------------------------------------------------------------


def asked(identifier: str) -> Ask:
    return Ask(teacher="t", model="m", messages=(Message(role="user", content=identifier),), question_id=identifier)


def test_samples_become_drafts_in_order_and_bad_ones_do_not_become_rationales() -> None:
    questions = [question("b"), question("a")]
    samples = [
        ("a", 1, "It blocks walls.\nAnswer: (B) vitamin K", "stop"),
        ("a", 0, "It blocks", "length"),
        ("b", 2, "IT kills; them", "stop"),
        ("b", 1, "It kills them.\nAnswer: (A) penicillin", "stop"),
        ("b", 0, "Answer: (A) penicillin", "stop"),
        ("c", 0, "Of no question.", "stop"),
        ("b", 3, "It kills them.", "content_filter"),
    ]
    pairs = [(asked(q), Sample(index=i, text=text, finish_reason=end)) for q, i, text, end in samples]
    others = [
        (ask.model_copy(update={"purpose": "oracle"}), Sample(index=9, text="Oracle.", finish_reason="stop"))
        for ask, _ in pairs[:1]
    ]
    assert [d.text for d in drafts_of([*pairs, *others], questions, "oracle")] == ["Oracle."]
    drafts = drafts_of([*pairs, *others], questions)
    assert [(d.question_id, d.index) for d in drafts] == [("b", 0), ("b", 1), ("b", 2), ("b", 3), ("a", 0), ("a", 1)]
    assert [d.text for d in drafts[:3]] == ["", "It kills them.", "IT kills; them"]
    assert [d.chosen for d in drafts] == [0, 0, None, None, None, 1]
    assert screen(drafts) == ["empty", "", "", "not finished", "not finished", ""]
    assert screen(drafts, drop_duplicates=True) == ["empty", "", "duplicate", "not finished", "not finished", ""]
    assert [r.text for r in as_rationales(drafts, True)] == ["It kills them.", "IT kills; them", "It blocks walls."]
    assert {r.chosen for r in as_rationales(drafts, True)} == {None}
    assert [r.chosen for r in as_rationales(drafts, False, drop_duplicates=True)] == [0, 1]


# --- the report -------------------------------------------------------------------------------------------------------


def test_a_hand_case() -> None:
    questions = [question("a", 0), question("b", 1), question("c", 2)]
    texts = [
        told("a", 0, "Penicillin blocks walls."),
        told("a", 1, "penicillin, blocks walls"),
        told("a", 2, "Vitamin K helps, so the answer is (B)."),
        told("b", 0, "Penicillin blocks walls."),
        told("b", 1, "As the given answer says, vitamin K clots blood."),
        told("b", 2, "Nothing is said here (E)."),
    ]
    verdicts = ["kept", "kept", "wrong option", "wrong option", "kept", "no option"]
    made = measure_rationales(questions, texts, verdicts)
    assert made.verdicts == {"kept": 3, "wrong option": 2, "no option": 1}
    assert (made.questions, made.samples, made.kept_a_question) == (3, 6, {0: 1, 1: 1, 2: 1})
    assert (made.all.count, made.kept.count, made.all.questions, made.kept.questions) == (6, 3, 2, 2)
    assert made.all.words == (3, 3, 3, 5, 8, 9) and made.kept.words == (3, 3, 9)
    assert made.all.leaks == {"letter": 1, "announced": 1, "given": 1} and made.all.leaking == 2
    assert made.kept.leaks == {"letter": 0, "announced": 0, "given": 1} and made.kept.leaking == 1
    assert made.all.leak_examples["letter"][0].startswith("a: ") and "letter" not in made.kept.leak_examples
    assert (made.all.names_gold, made.all.names_others) == (3, 2)
    assert (made.kept.names_gold, made.kept.names_others) == (3, 0)
    assert (made.all.exact_within, made.all.exact_across) == (1, 1)
    assert (made.kept.exact_within, made.kept.exact_across) == (1, 0)
    assert made.kept.distinct_within[0] == 3 / 6 and made.kept.distinct[0] == 12 / 15
    assert made.kept.quantile(0.5) == 3 and made.kept.quantile(1) == 9


def test_every_sample_has_one_verdict_and_the_filters_are_those_of_the_filter(mini: MiniSet) -> None:
    questions = mini.splits["train"]
    rationales = ScriptedTeacher(mini).rationales(questions, 3, show_gold=True)
    by_id = {q.id: q for q in questions}

    def reader(prompts: list[str]) -> list[str]:
        """Takes the option that the rationale names."""
        options = [by_id[r.question_id].options for r in rationales]
        return [next(o for o in given if o in r.text.lower()) for given, r in zip(options, rationales, strict=True)]

    filtered = filter_rationales(questions, rationales, reader)
    made = measure_rationales(questions, rationales, filtered.verdicts, mini.splits["test"])
    assert made.verdicts == dict(filtered.counts) and made.judged and sum(made.verdicts.values()) == len(rationales)
    assert made.kept.count == len(filtered.kept) == sum(k * n for k, n in made.kept_a_question.items())
    assert made.kept.names_gold == made.kept.count and made.kept.names_others == 0 < made.all.names_others
    assert sum(made.kept_a_question.values()) == len(questions)
    plain = [len(re.findall(r"\w+", r.text)) for r in filtered.kept]
    assert list(made.kept.words) == sorted(plain)
    drafts = [Draft(question_id=r.question_id, index=r.index, text=r.text) for r in rationales]
    assert measure_rationales(questions, drafts, filtered.verdicts, mini.splits["test"]) == made


def test_screened_samples_are_counted_and_not_judged() -> None:
    drafts = [
        Draft(question_id="a", index=0, text="It blocks walls."),
        Draft(question_id="a", index=1, text="It", finish_reason="length"),
        Draft(question_id="a", index=2, text=" ?"),
        Draft(question_id="a", index=3, text="It blocks walls"),
        Draft(question_id="a", index=4, text="It kills."),
    ]
    made = measure_rationales([question("a")], drafts, ["kept", "no option"], drop_duplicates=True)
    assert made.verdicts == {"kept": 1, "no option": 1, "not finished": 1, "empty": 1, "duplicate": 1}
    assert list(made.verdicts) == [name for name in VERDICTS if name in made.verdicts]
    assert made.all.count == 4 and made.kept.count == 1 and made.all.exact_within == 1
    unjudged = measure_rationales([question("a")], drafts)
    assert unjudged.verdicts == {"not finished": 1, "empty": 1, "not judged": 3} and unjudged.kept.count == 3


def test_more_or_fewer_verdicts_and_strange_questions_are_refused() -> None:
    with pytest.raises(KardError, match="2 verdicts for 1 rationales"):
        measure_rationales([question("a")], [told("a", 0, "x")], ["kept", "kept"])
    with pytest.raises(KardError, match="question b: .*not among the questions"):
        measure_rationales([question("a")], [told("b", 0, "x")])


def test_no_text_at_all_is_reported_too() -> None:
    made = measure_rationales([question("a")], [], [], [question("t")])
    assert made.all.count == 0 and made.kept_a_question == {0: 1} and made.all.quantile(0.5) is None
    assert "questions with nothing kept" in str(made) and quality_figures(made) == {}


def test_test_questions_that_kept_rationales_give_away() -> None:
    stem = "A man of forty years has a fever and a red knee after a fall"
    texts = [told("a", 0, "It is so."), told("a", 1, f"{stem}: penicillin."), told("a", 2, f"{stem}, surely.")]
    test = [question("t1", 0, stem), question("t2", 0, "Who bit the dog?")]
    made = measure_rationales([question("a")], texts, ["kept", "kept", "wrong option"], test)
    assert made.overlap_run == made.overlap_run_and_answer == made.overlap_near == ("t1",)
    dropped = measure_rationales([question("a")], texts, ["kept", "wrong option", "wrong option"], test)
    assert dropped.overlap_run == dropped.overlap_run_and_answer == dropped.overlap_near == ()


def test_rows_and_figures_say_what_the_report_says() -> None:
    texts = [told("a", j, text) for j, text in enumerate(("One two three.", "The answer is (A).", "One two four."))]
    made = measure_rationales([question("a"), question("b")], texts, ["kept", "wrong option", "kept"], [question("t")])
    rows = {name.strip(): (first, second) for name, first, second in made.rows()}
    assert rows["kept"] == ("2 (66.7 %)", "") and rows["leaking"] == ("1 (33.3 %)", "0 (0.0 %)")
    assert rows["texts"] == ("3", "2") and rows["questions with nothing kept"] == ("1 (50.0 %)", "")
    figures = quality_figures(made)
    assert set(figures) == {"verdicts", "leaks", "lengths", "repeats", "distinct"}
    assert [bar.get_height() for bar in figures["verdicts"].axes[0].patches] == pytest.approx([200 / 3, 100 / 3])
    heights = [bar.get_height() for bar in figures["leaks"].axes[0].patches]
    assert heights == pytest.approx([100 / 3, 100 / 3, 0, 100 / 3, 0, 0, 0, 0])
    for line in figures["lengths"].axes[0].lines[:1]:
        assert sum(line.get_ydata()) == pytest.approx(100)
    unjudged = quality_figures(measure_rationales([question("a")], texts))
    assert len(unjudged["leaks"].axes[0].patches) == 4
    plt.close("all")
