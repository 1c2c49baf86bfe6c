"""Wrong answers sorted, labelled by hand, and shown: every one has one class, and the shares and kappa add up."""

from __future__ import annotations

import math
import random
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from constructed import answer, experiment_on

from kardlib.claims import read_claims
from kardlib.errors import KardError
from kardlib.experiment import Experiment
from kardlib.failures import (
    KINDS,
    NO_PASSAGE,
    PAPER_CLASSES,
    PARTLY,
    SILVER,
    SMALL_LM,
    Case,
    class_rows,
    evidence_of,
    failure_rows,
    failures,
    failures_html,
    is_right,
    paper_shares,
    share_of,
    shares,
    sort_failures,
    wilson,
)  # fmt: skip
from kardlib.hallucination import (
    KARD,
    RD,
    backed,
    contradictions,
    examples,
    examples_html,
    names_of,
    sentences,
    stated_in,
)  # fmt: skip
from kardlib.hand_labels import (
    LABELS,
    agreement,
    cohen_kappa,
    draw_sheet,
    kappa_interval,
    label_of,
    read_sheet,
    write_sheet,
)  # fmt: skip
from kardlib.mini import TASKS, MiniSet, make_mini
from kardlib.pretrain import SMALL_WORLD
from kardlib.records import Prediction, Question, read_jsonl, write_jsonl
from kardlib.report import paper_numbers
from kardlib.teacher import ScriptedTeacher
from kardlib.verdicts import decide

QUESTION = Question(id="q", stem="What is it?", options=("rat", "dog", "cat"), answer=0)


def made_by_chance(mini: MiniSet, seed: int) -> list[Prediction]:
    """Answers of KARD and of its silver row with random options and random passages, a third of them needed ones."""
    rng, found = random.Random(f"answers-{seed}"), []
    for question in mini.splits["test"]:
        needed = [p.id for p in mini.passages if mini.facts[p.id] & mini.needed(question)]
        for name in (KARD, SILVER):
            pool = needed if rng.random() < 0.6 else [p.id for p in mini.passages]
            passages = tuple(rng.sample(pool, min(3, len(pool))))
            places = [None, *range(len(question.options))]
            named, option = rng.choice(places), rng.choice(places[1:])
            found.append(answer(question, name, option, parsed=named, seed=seed, passages=passages))
    return found


@pytest.fixture(scope="module")
def experiment(mini: MiniSet) -> Experiment:
    return experiment_on(mini, [p for seed in (0, 1, 2) for p in made_by_chance(mini, seed)], kappa_star=15)


# --- classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("free", [True, False])
def test_every_wrong_answer_has_one_class_and_no_right_one_has(experiment: Experiment, free: bool) -> None:
    runs = [failures(experiment, KARD, seed, free) for seed in (0, 1, 2)]
    for seed, cases in enumerate(runs):
        wrong = [p.question_id for p in experiment.predictions(KARD, seed) if not is_right(p, free)]
        assert wrong and [case.question_id for case in cases] == wrong
        assert sum(Counter(case.kind for case in cases).values()) == len(wrong)
    assert sum(value.value for value in shares(runs).values()) == pytest.approx(100)
    assert sum(value.value for value in paper_shares(runs).values()) == pytest.approx(100)
    assert len({case.kind for run in runs for case in run}) >= 4, "the invariants were tried on several classes"


def test_the_papers_two_classes_share_out_ours() -> None:
    assert sorted(kind for kinds in PAPER_CLASSES.values() for kind in kinds) == sorted(KINDS)
    assert all(("MedQA-USMLE", "-", name, "cases of 30") in paper_numbers() for name in PAPER_CLASSES)


@pytest.mark.parametrize(
    ("passages", "parsed", "silver", "kind"),
    [
        (("x", "y"), 1, True, "not among the candidates"),
        (("x", "y"), None, True, "not among the candidates"),
        (("y",), 1, True, "among the candidates, not read"),
        (("x", "a"), None, False, "part of it read"),
        (("b", "x", "a"), None, True, "read, no option named"),
        (("b", "a"), 2, True, "read, silver passages help"),
        (("b", "a"), 2, False, "read, silver passages do not help"),
    ],
)
def test_the_first_stage_that_went_wrong_is_the_class(
    passages: tuple[str, ...], parsed: int | None, silver: bool, kind: str
) -> None:
    def evidence(question_id: str, ids: tuple[str, ...]) -> float:
        return len({"a", "b"} & set(ids)) / 2

    candidates = ("x", "y", "z") if kind == KINDS[0] else ("x", "y", "b")
    wrong = answer(QUESTION, KARD, parsed, passages=passages)
    (case,) = sort_failures([wrong], {"q": candidates}, evidence, {"q": silver}, {"q": None}, free=True)
    assert case.kind == kind and case.unparsed == (parsed is None) and case.silver_right == silver


def test_however_small_a_part_is_it_is_a_part() -> None:
    wrong = answer(QUESTION, KARD, 1, passages=("x",))
    for share, kind in ((0.0, KINDS[0]), (0.01, PARTLY), (0.99, PARTLY), (1.0, "read, silver passages help")):
        (case,) = sort_failures([wrong], {"q": ()}, lambda _, ids, v=share: v if ids else 0.0, {"q": True}, {"q": None})
        assert case.kind == kind


def test_a_format_failure_is_none_where_options_are_scored(experiment: Experiment) -> None:
    free = [case.kind for seed in (0, 1, 2) for case in failures(experiment, KARD, seed, free=True)]
    scored = [case for seed in (0, 1, 2) for case in failures(experiment, KARD, seed)]
    assert "read, no option named" in free and "read, no option named" not in {case.kind for case in scored}
    assert any(case.unparsed for case in scored), "it still stands beside the class"


def test_evidence_counts_needed_facts_as_a_plain_count_does(experiment: Experiment, mini: MiniSet) -> None:
    evidence, rng = evidence_of(experiment), random.Random(1)
    for question in mini.splits["test"]:
        ids = [p.id for p in rng.sample(mini.passages, 30)]
        ids += [p.id for p in mini.passages if mini.facts[p.id] & mini.needed(question)][:3]
        values = [evidence(question.id, ids[:n]) for n in range(len(ids) + 1)]
        for n, value in enumerate(values):
            stated = [fact for fact in mini.needed(question) if any(fact in mini.facts[i] for i in ids[:n])]
            assert value == pytest.approx(len(stated) / len(mini.needed(question)))
        assert values == sorted(values) and values[0] == 0 < values[-1]


def test_on_a_real_set_the_truth_passages_decide_and_a_part_is_unknown(mini: MiniSet) -> None:
    experiment = experiment_on(mini)
    truth = experiment.truth()
    experiment.data.mini = None
    evidence, all_ids = evidence_of(experiment), [p.id for p in mini.passages]
    for question_id, passages in truth.items():
        assert evidence(question_id, passages[1:2]) == 1
        assert evidence(question_id, [i for i in all_ids if i not in passages]) == 0


def test_what_stands_beside_the_class(experiment: Experiment) -> None:
    told = experiment.test_rationale()
    silver = {p.question_id: p.chosen == p.gold for p in experiment.predictions(SILVER, 1)}
    for case in failures(experiment, KARD, 1):
        assert case.teacher_wrong == (not told[case.question_id].correct)
        assert case.silver_right == silver[case.question_id]


def test_on_a_real_set_failures_without_a_rationale_are_left_out(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment.data, "mini", None)
    whole = failures(experiment, KARD, 1)
    silent = {case.question_id for case in whole[::2]}
    monkeypatch.setattr(experiment, "silent", lambda: silent, raising=False)
    left = failures(experiment, KARD, 1)
    assert left and {case.question_id for case in left} == {case.question_id for case in whole} - silent


def test_a_method_without_passages_is_refused(experiment: Experiment) -> None:
    with pytest.raises(KardError, match="^Reasoning Distillation: it reads no passages"):
        failures(experiment, RD, 0)


# --- shares and rows --------------------------------------------------------------------------------------------------


def case_of(number: int, kind: int = 0, seed: int = 0) -> Case:
    return Case(question_id=f"q{number}", method=KARD, seed=seed, kind=KINDS[kind], unparsed=False, teacher_wrong=None,
                silver_right=True)  # fmt: skip


def test_wilson_is_wilsons_formula() -> None:
    z, p, n = 1.959963984540054, 0.5, 30
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert wilson(15, 30) == pytest.approx([100 * (0.5 - half), 100 * (0.5 + half)])
    assert wilson(0, 30)[0] == 0 < wilson(0, 30)[1] and wilson(30, 30)[1] == 100


def test_the_part_read_is_moved_from_one_class_to_the_other() -> None:
    runs = [[case_of(i, kind=i % 6) for i in range(60)]]
    literal, other = paper_shares(runs), paper_shares(runs, NO_PASSAGE)
    part = shares(runs)[PARTLY].value
    assert other[NO_PASSAGE].value == pytest.approx(literal[NO_PASSAGE].value + part)
    assert other[SMALL_LM].value == pytest.approx(literal[SMALL_LM].value - part) and part > 0


def test_a_repeated_seed_makes_no_interval_narrower() -> None:
    run = [case_of(i, kind=0 if i < 8 else 4) for i in range(20)]
    one, three = (share_of([run] * count, lambda case: case.kind == KINDS[0]) for count in (1, 3))
    assert one.value == three.value == pytest.approx(40) and one.ci95 == three.ci95 == wilson(8, 20)
    assert one.n == three.n == 20 and three.seeds == [40.0] * 3 and three.sd == 0


def test_nothing_to_sort(experiment: Experiment) -> None:
    with pytest.raises(KardError, match="no wrong answer"):
        shares([[], []])
    assert failure_rows(experiment, KARD, [[], []], "free") == class_rows(experiment, KARD, [[]], "free") == []


def test_rows_decide_the_claim_under_both_readings(experiment: Experiment) -> None:
    claim = next(claim for claim in read_claims() if claim.id == "failures-split")
    rows = []
    for answers in ("scored", "free"):
        runs = [failures(experiment, KARD, seed, answers == "free") for seed in (0, 1, 2)]
        rows += failure_rows(experiment, KARD, runs, answers)
        ours = class_rows(experiment, KARD, runs, answers)
        assert [row.method for row in ours] == list(KINDS) and {row.table for row in ours} == {"failure classes"}
    assert {row.method for row in rows} == set(PAPER_CLASSES) and len(rows) == 4
    assert decide([claim], ours)[0].verdict == "not run", "our own classes stand for none of the paper's"
    for answers in ("scored", "free"):
        decided = decide([claim], rows, answers)  # type: ignore[arg-type]
        assert [d.verdict == "not run" for d in decided] == [False]
        used = [row for d in decided for row in d.rows if row]
        assert [row.settings["answers"] for row in used] == [answers]
        both = [row.value for row in rows if row.settings["answers"] == answers]
        assert sum(both) == pytest.approx(100), "one share decides for the other"


class Rows(HTMLParser):
    """Counts rows and cells of a table."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] += 1

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def test_the_table_has_every_class(experiment: Experiment) -> None:
    page = Rows(failures_html([failures(experiment, KARD, seed) for seed in (0, 1, 2)]))
    assert page.counts["tr"] == len(KINDS) + 1 and all(kind in page.text for kind in KINDS)


# --- labels by hand ---------------------------------------------------------------------------------------------------


def test_a_sheet_is_spread_over_the_classes() -> None:
    cases = [case_of(i, kind=0) for i in range(50)] + [case_of(i, kind=4) for i in range(50, 54)]
    cases += [case_of(i, kind=5) for i in range(60, 99)]
    drawn = draw_sheet(cases)
    assert len(drawn) == len({case.id for case in drawn}) == 30 and draw_sheet(cases) == drawn
    assert Counter(case.kind for case in drawn) == {KINDS[0]: 13, KINDS[4]: 4, KINDS[5]: 13}
    assert len(draw_sheet(cases[:7])) == 7 and draw_sheet([]) == []


def test_a_sheet_shows_the_case_and_not_its_class(experiment: Experiment, tmp_path: Path) -> None:
    cases = draw_sheet([c for seed in (0, 1) for c in failures(experiment, KARD, seed, free=True)], 12)
    write_sheet(experiment, cases, tmp_path / "sheet.csv")
    text = (tmp_path / "sheet.csv").read_text(encoding="utf-8-sig")
    assert not any(kind in text for kind in KINDS) and text.splitlines()[0].endswith(",label")
    questions = {q.id: q for q in experiment.data.test}
    assert len(text.splitlines()) == 13
    for line, case in zip(text.splitlines()[1:], cases, strict=True):
        assert line.startswith(f"{case.id},") and questions[case.question_id].answer_text in line
    assert read_sheet(tmp_path / "sheet.csv") == {}
    with pytest.raises(KardError, match="no label yet"):
        agreement(cases, {})


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_labels_come_back_whatever_the_spreadsheet_writes(mark: str, tmp_path: Path) -> None:
    lines = [f"case{mark}passages{mark}label", f'q1/0{mark}"a{mark} b"{mark}Reading ', f"q2/0{mark}c{mark}"]
    (tmp_path / "sheet.csv").write_text("\r\n".join(lines), encoding="utf-8-sig")
    assert read_sheet(tmp_path / "sheet.csv") == {"q1/0": "reading"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("case,answer\nq1/0,x\n", ":1: field label: there is no such column"),
        ("", ":1: field case: there is no such column"),
        ("case,label\nq1/0,reading\nq2/0,readin\n", ":3: field label: 'readin' is none of"),
        ("case,label\nq1/0,reading\nq1/0,part\n", ":3: field case: q1/0 occurs twice"),
        ("case,label\n,reading\n", ":2: field case: it is empty"),
        ("case,answer,label\nq1/0,x\n", ":2: field label: the line has too few"),
        ("case,label\nq1/0,x,reading\n", ":2: field label: the line has too many"),
    ],
)
def test_a_faulty_sheet_is_one_line(text: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(KardError) as error:
        read_sheet(path)
    assert str(error.value).startswith(f"{path}{fault}") and "\n" not in str(error.value)


def test_an_unknown_case_or_no_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(KardError, match="case q9/0: it is labelled"):
        agreement([case_of(1)], {"q9/0": "part"})
    with pytest.raises(KardError, match="cannot be read"):
        read_sheet(tmp_path / "none.csv")


def test_kappa_of_a_table_worked_out_by_hand() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: p_o = .7, p_e = .5 * .6 + .5 * .4 = .5
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4) == pytest.approx(cohen_kappa(second, first))
    low, high = kappa_interval(first, second)
    assert -1 <= low < 0.4 < high <= 1
    wide = kappa_interval(first[::5], second[::5])
    assert wide[1] - wide[0] > high - low


def test_kappa_at_its_ends() -> None:
    labels = [*LABELS] * 3
    assert cohen_kappa(labels, labels) == 1 == cohen_kappa(["part"], ["part"])
    low, high = kappa_interval(labels, labels)
    assert low < 1 == high, "twelve equal labels prove no perfect agreement"
    assert cohen_kappa(["a", "a", "b", "b"], ["a", "b", "a", "b"]) == 0
    assert cohen_kappa(["a", "b"], ["b", "a"]) == -1
    for count in (1, 2, 5):
        assert kappa_interval(["a"] * count, ["b"] * count) == (-1, 1), "nothing is known yet"
    with pytest.raises(KardError, match="kappa"):
        cohen_kappa([], [])
    with pytest.raises(KardError, match="2 labels stand beside 1"):
        cohen_kappa(["a", "b"], ["a"])


def test_agreement_is_over_labelled_cases_only() -> None:
    cases = [case_of(i, kind=i % 6) for i in range(24)]
    labels = {case.id: label_of(case) for case in cases[:18]}
    assert agreement(cases, labels).kappa == 1 and agreement(cases, labels).n == 18
    labels[cases[0].id] = "format"
    found = agreement(cases, labels)
    assert found.observed == pytest.approx(100 * 17 / 18) and found.ci95[0] <= found.kappa < 1
    assert sum(found.counts.values()) == 18 and found.counts[("nothing", "format")] == 1


# --- what rationales make up ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TASKS))
def test_what_is_true_of_the_world_is_never_called_false(name: str) -> None:
    mini = make_mini(name, 5, "development", {"train": 150, "dev": 5, "test": 5}, SMALL_WORLD)
    stated = stated_in(experiment_on(mini))
    told = ScriptedTeacher(mini).rationales(mini.splits["train"], 2, show_gold=True)
    right = [r for r in told if r.correct]
    assert right and not [r.text for r in right if contradictions(r.text, stated)]
    assert any(contradictions(r.text, stated) for r in told if not r.correct)


def test_a_false_name_is_found_with_the_passage_that_says_so(mini: MiniSet) -> None:
    experiment = experiment_on(mini)
    stated = stated_in(experiment)
    known = {place: objects for place, objects in stated.objects.items() if place[1] == "treated_with"}
    drugs, found = sorted({drug for objects in known.values() for drug in objects}), 0
    for (disease, _), objects in known.items():
        wrong = next(drug for drug in drugs if drug not in objects)
        (one,) = contradictions(f"A new sentence. For {disease} one gives {wrong}.", stated)
        assert (one.subject, one.said, set(one.true)) == (disease, wrong, objects)
        assert {disease, *objects} <= names_of(experiment.texts[one.passage])
        found += 1
    assert found > 10
    assert contradictions(f"{drugs[0]} and {drugs[1]} are powders.", stated) == []
    (one, his), (two, hers) = [(d, drug) for (d, _), (drug, *_) in known.items()][:2]
    assert his != hers and contradictions(f"{one} needs {his}, {two} needs {hers}.", stated) == []


def test_a_sentence_is_backed_by_one_passage_that_was_read(mini: MiniSet) -> None:
    texts = {p.id: p.text for p in mini.passages}
    passage = next(p for p in mini.passages if len(names_of(sentences(p.text)[0])) >= 3)
    told = f"{sentences(passage.text)[0]} Nobody doubts it."
    read = answer(mini.splits["test"][0], KARD, 0, rationale=told, passages=(mini.passages[-1].id, passage.id))
    (one,) = backed(read, texts) or ()
    assert names_of(one.sentence) <= names_of(texts[one.passage]) and one.passage in read.passages
    assert backed(read.model_copy(update={"passages": ()}), texts) is None
    assert backed(read.model_copy(update={"rationale": "Nobody knows."}), texts) is None


def test_examples_are_wrong_against_right_and_false_against_backed(mini: MiniSet) -> None:
    made: list[Prediction] = []
    rng = random.Random(2)
    for question in mini.splits["test"]:
        chain = mini.task.chain(mini.world, question)
        wrong = (question.gold + 1) % len(question.options)
        lie = mini.task.tell(question, mini.task.mislead(mini.world, question, wrong, rng), rng)
        needed = tuple(p.id for p in mini.passages if mini.facts[p.id] & mini.needed(question))
        made.append(answer(question, RD, wrong, rationale=lie))
        made.append(answer(question, KARD, question.gold, rationale=mini.task.tell(question, chain, rng),
                           passages=needed))  # fmt: skip
    experiment = experiment_on(mini, made)
    found, stated = examples(experiment, 0, count=4), stated_in(experiment)
    assert 0 < len(found) <= 4
    for one in found:
        assert one.rd.chosen != one.rd.gold and one.kard.chosen == one.kard.gold
        assert one.contradictions == tuple(contradictions(one.rd.rationale, stated)) != ()
        assert {b.passage for b in one.backed} <= set(one.kard.passages)
    page = Rows(examples_html(experiment, found))
    assert page.counts["tr"] == len(found) + 1 and page.counts["td"] == 5 * len(found) and page.counts["u"] >= 1


def test_cases_and_examples_survive_a_file(experiment: Experiment, tmp_path: Path) -> None:
    cases = failures(experiment, KARD, 0)
    write_jsonl(tmp_path / "cases.jsonl", cases)
    assert read_jsonl(tmp_path / "cases.jsonl", Case) == cases


def test_a_real_set_has_no_contradictions(mini: MiniSet) -> None:
    experiment = experiment_on(mini)
    experiment.data.mini = None
    with pytest.raises(KardError, match="only a mini set knows"):
        stated_in(experiment)
