"""Teachers that err as often as they say, and a filter that keeps what its reader understands."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from kardlib.dataset import DataSet
from kardlib.errors import KardError
from kardlib.filter import filter_rationales
from kardlib.mini import MiniSet, make_mini_medqa
from kardlib.mini_medqa import answer_of, chain_of
from kardlib.pretrain import SMALL_WORLD
from kardlib.prompts import LETTERS, build_prompt
from kardlib.records import Passage, Question, Rationale
from kardlib.teacher import ACCURACY, ERROR_RATE, WRONG_OPTION_SHARE, AnnotationTeacher, ScriptedTeacher, make_teacher


@pytest.fixture(scope="module")
def many() -> MiniSet:
    return make_mini_medqa(5, "development", {"train": 1500}, SMALL_WORLD)


@pytest.fixture(scope="module")
def shown(many: MiniSet) -> list[tuple[Question, Rationale]]:
    questions = many.splits["train"]
    return list(zip(questions, ScriptedTeacher(many).rationales(questions, 1, show_gold=True), strict=True))


@pytest.fixture(scope="module")
def not_shown(many: MiniSet) -> list[tuple[Question, Rationale]]:
    questions = many.splits["train"]
    return list(zip(questions, ScriptedTeacher(many).rationales(questions, 1, show_gold=False), strict=True))


def plausible(hits: int, of: int, rate: float) -> bool:
    """Whether a count is what a rate gives but for one chance in ten thousand."""
    return binomtest(hits, of, rate).pvalue > 1e-4


def test_the_stated_rates_are_the_rates(shown: list, not_shown: list) -> None:
    assert plausible(sum(not told.correct for _, told in shown), len(shown), ERROR_RATE)
    assert plausible(sum(told.correct for _, told in not_shown), len(not_shown), ACCURACY)
    wrong = [(q, told) for q, told in shown if not told.correct]
    naming = sum(q.answer_text not in told.text.lower() for q, told in wrong)
    assert plausible(naming, len(wrong), WRONG_OPTION_SHARE)


def test_correct_rationales_tell_the_true_chain(many: MiniSet, shown: list, not_shown: list) -> None:
    for question, told in (*shown, *not_shown):
        chain = chain_of(many.world, question.meta["disease"], question.meta["kind"])
        findings = question.meta["findings"]
        assert all(finding in told.text.lower() for finding in findings)
        assert all(name in told.text.lower() for name in chain) == told.correct


def test_what_a_teacher_chose_is_what_its_rationale_says(many: MiniSet, not_shown: list) -> None:
    for question, told in not_shown:
        assert told.chosen is not None and (told.chosen == question.gold) == told.correct
        named = [option for option in question.options if option in told.text.lower()]
        assert named == [question.options[told.chosen]]
    assert len({told.chosen for _, told in not_shown if not told.correct}) == 4


def test_wrong_rationales_are_plausible(many: MiniSet, not_shown: list) -> None:
    """A wrong chain is that of another disease wherever one ends in the chosen option."""
    for question, told in ((q, r) for q, r in not_shown if not r.correct):
        option, kind = question.options[told.chosen], question.meta["kind"]
        diseases = [d for d in many.world.diseases if d in told.text.lower()]
        assert len(diseases) == 1 and diseases[0] != question.meta["disease"]
        assert answer_of(many.world, diseases[0], kind) == option


def test_saw_gold_tells_how_a_rationale_was_made(shown: list, not_shown: list) -> None:
    assert all(told.saw_gold and told.chosen is None for _, told in shown)
    assert not any(told.saw_gold for _, told in not_shown)


def test_the_oracles_rationale_is_drawn_apart_from_the_training_one(many: MiniSet) -> None:
    questions = many.splits["train"][:100]
    shown, hidden = (ScriptedTeacher(many).rationales(questions, 1, show_gold=gold) for gold in (True, False))
    assert any(a.correct and not b.correct for a, b in zip(shown, hidden, strict=True))
    assert any(a.text != b.text for a, b in zip(shown, hidden, strict=True) if a.correct and b.correct)


def test_the_jth_rationale_does_not_depend_on_l_or_on_other_questions(many: MiniSet) -> None:
    questions = many.splits["train"][:20]
    teacher = ScriptedTeacher(many)
    few, more = teacher.rationales(questions, 2, True), teacher.rationales(questions, 5, True)
    assert few == [told for told in more if told.index < 2]
    assert teacher.rationales(questions[7:8], 5, True) == more[35:40]
    assert [(r.question_id, r.index) for r in more] == [(q.id, j) for q in questions for j in range(5)]


def test_wordings_differ_and_the_seed_decides_them(many: MiniSet) -> None:
    questions = many.splits["train"][:20]
    first = ScriptedTeacher(many, seed=0).rationales(questions, 4, True)
    assert first == ScriptedTeacher(many, seed=0).rationales(questions, 4, True)
    assert first != ScriptedTeacher(many, seed=1).rationales(questions, 4, True)
    assert len({told.text for told in first if told.question_id == questions[0].id}) > 1


# --- annotations ------------------------------------------------------------------------------------------------------


def dataset(mini: MiniSet, annotations: dict[str, Rationale], known: bool = True) -> DataSet:
    questions = mini.splits["train"]
    return DataSet(
        "a set", "", questions[:4], [], questions[4:6], "test", [Passage(id="p", text="x")], annotations,
        mini if known else None,
    )  # fmt: skip


def test_annotations_are_handed_out_as_they_are(many: MiniSet) -> None:
    questions = many.splits["train"][:4]
    annotations = {q.id: Rationale(question_id=q.id, index=0, text=f"of {q.id}", saw_gold=True) for q in questions}
    teacher = make_teacher("annotations", dataset(many, annotations))
    assert isinstance(teacher, AnnotationTeacher)
    assert teacher.rationales(questions[::-1], 3, True) == [annotations[q.id] for q in questions[::-1]]


def test_a_question_without_annotation_is_named(many: MiniSet) -> None:
    questions = many.splits["train"][:2]
    annotations = {questions[0].id: Rationale(question_id=questions[0].id, index=0, text="x", saw_gold=True)}
    with pytest.raises(KardError, match=questions[1].id):
        make_teacher("annotations", dataset(many, annotations)).rationales(questions, 1, True)


def test_the_scripted_teacher_knows_mini_sets_only(many: MiniSet) -> None:
    assert make_teacher("scripted", dataset(many, {})).name == "scripted"
    with pytest.raises(KardError, match="teacher=annotations"):
        make_teacher("scripted", dataset(many, {}, known=False))


# --- the filter -------------------------------------------------------------------------------------------------------


def test_the_filter_keeps_exactly_what_its_reader_gets_right(shown: list) -> None:
    pairs = shown[:60]
    questions, told = [q for q, _ in pairs], [r for _, r in pairs]
    seen: list[str] = []

    def reader(prompts: list[str]) -> list[str]:
        """Right, wrong and silent in turn, by text and by letter."""
        seen.extend(prompts)
        says = []
        for i, q in enumerate(questions):
            wrong = (q.gold + 1) % 4
            says.append([q.answer_text, f"({LETTERS[q.gold]})", q.options[wrong], "I cannot tell", "(J)"][i % 5])
        return says

    filtered = filter_rationales(questions, told, reader)
    assert filtered.verdicts == ["kept", "kept", "wrong option", "no option", "no option"] * 12
    assert filtered.kept == [r for i, r in enumerate(told) if i % 5 < 2]
    assert filtered.counts == {"kept": 24, "wrong option": 12, "no option": 24}
    assert seen == [build_prompt(q, cue="answer", explanation=r.text) for q, r in pairs]


def test_several_rationales_of_a_question_are_judged_one_by_one(many: MiniSet) -> None:
    questions = many.splits["train"][:5]
    told = ScriptedTeacher(many).rationales(questions, 3, True)
    by_text = {r.text: i % 3 == 0 for i, r in enumerate(told)}
    by_id = {q.id: q for q in questions}

    def reader(prompts: list[str]) -> list[str]:
        return [by_id[r.question_id].answer_text if by_text[r.text] else "?" for r in told]

    assert [r.text for r in filter_rationales(questions, told, reader).kept] == [
        r.text for r in told if by_text[r.text]
    ]


def test_a_reader_of_the_rationale_drops_those_that_name_a_wrong_option(shown: list) -> None:
    """Plays an able reader: it answers with the one option that the rationale in its prompt names."""
    pairs = shown[:400]
    by_prompt = {build_prompt(q, cue="answer", explanation=r.text): (q, r) for q, r in pairs}

    def reader(prompts: list[str]) -> list[str]:
        return [next(o for o in by_prompt[p][0].options if o in by_prompt[p][1].text.lower()) for p in prompts]

    filtered = filter_rationales([q for q, _ in pairs], [r for _, r in pairs], reader)
    dropped = [r for r, verdict in zip((r for _, r in pairs), filtered.verdicts, strict=True) if verdict != "kept"]
    assert dropped and not any(r.correct for r in dropped)
    assert all(r in filtered.kept for _, r in pairs if r.correct)
