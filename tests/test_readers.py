"""Readers: what they make of good files, and the one line that they give for each kind of bad one."""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kardlib import table_jobs, tables
from kardlib.bm25 import BM25
from kardlib.dataset import DataSet
from kardlib.errors import KardError
from kardlib.experiment import Experiment
from kardlib.experiment_data import data_of
from kardlib.explore import explorer
from kardlib.knowledge_base_builders import Origin, build_from_passages
from kardlib.notebook_studies import RATIONALES, lacking, refuse_lacking
from kardlib.passage_source import PassageList
from kardlib.plan import main_cells
from kardlib.presets import SPLIT_SIZES, resolve
from kardlib.prompts import build_prompt, query_of
from kardlib.published_sets import paragraphs
from kardlib.readers import TOY, in_dev, read_dataset
from kardlib.records import Passage, Question
from kardlib.splits import hold_out_dev


def read(dataset: str, folder: Path, **parameters: Any) -> DataSet:
    return read_dataset(resolve(dataset=dataset, data_dir=str(folder), **parameters))


def write_rows(path: Path, rows: list[Any]) -> None:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )


# --- tiny sets in each format -----------------------------------------------------------------------------------------


def own_question(number: int, **change: Any) -> dict[str, Any]:
    return {
        "id": f"q{number}",
        "stem": f"What is {number}?",
        "options": ["odd", "even"],
        "answer": number % 2,
        **change,
    }


@pytest.fixture
def own(tmp_path: Path) -> Path:
    write_rows(tmp_path / "train.jsonl", [own_question(i) for i in range(20)])
    write_rows(tmp_path / "test.jsonl", [own_question(i) for i in range(20, 25)])
    write_rows(tmp_path / "passages.jsonl", [{"id": "p1", "text": "Two is even."}, {"id": "p2", "text": "Odd."}])
    return tmp_path


def book_question(number: int, **change: Any) -> dict[str, Any]:
    choices = [{"text": f"{text} {number}", "label": label} for text, label in (("red", "A"), ("blue", "B"))]
    row = {"id": f"b{number}", "question": {"stem": f"The sky {number} is", "choices": choices}, "answerKey": "B"}
    return {**row, "fact1": "the sky is blue", **change}


@pytest.fixture
def book(tmp_path: Path) -> Path:
    folder = tmp_path / "openbookqa"
    folder.mkdir()
    write_rows(folder / "train_complete.jsonl", [book_question(i) for i in range(20)])
    write_rows(folder / "dev_complete.jsonl", [book_question(i) for i in range(20, 23)])
    (folder / "openbook.txt").write_text('"the sky is blue"\n"Fire is hot"\n')
    (folder / "crowdsourced-facts.txt").write_text("\nthe sky is blue\nice is cold \n\n")
    return tmp_path


def strategy_question(number: int, **change: Any) -> dict[str, Any]:
    row = {"qid": f"s{number}", "question": f"Is {number} even?", "answer": number % 2 == 0}
    return {**row, "facts": ["Even numbers are halved. ", "Odd ones are not."], **change}


@pytest.fixture
def strategy(tmp_path: Path) -> Path:
    rows = [strategy_question(i) for i in range(40)]
    (tmp_path / "train.json").write_text(json.dumps(rows, indent=1))
    paragraphs_ = {f"Number-{i}": {"title": "Number", "content": f"It is {i}."} for i in range(3)}
    (tmp_path / "paragraphs.json").write_text(json.dumps(paragraphs_))
    return tmp_path


def medical_question(number: int, **change: Any) -> dict[str, Any]:
    options = {"A": "rest", "B": "surgery", "C": "aspirin", "D": "water"}
    return {
        "question": f"Patient {number} aches.",
        "options": options,
        "answer": "aspirin",
        "answer_idx": "C",
        **change,
    }


@pytest.fixture
def medical(tmp_path: Path) -> Path:
    write_rows(tmp_path / "train_partial.jsonl", [medical_question(i) for i in range(20)])
    write_rows(tmp_path / "dev.jsonl", [medical_question(i) for i in range(20, 23)])
    (tmp_path / "medquad").mkdir()
    with gzip.open(tmp_path / "medquad" / "qa.jsonl.gz", "wt") as file:
        file.write(json.dumps({"focus": "Ache", "answer": "It hurts. Aspirin helps."}) + "\n")
        file.write(json.dumps({"focus": "", "answer": "No focus here."}) + "\n")
    return tmp_path


def test_medqa_without_medquad_takes_an_index_or_names_what_is_missing(medical: Path) -> None:
    (medical / "medquad" / "qa.jsonl.gz").unlink()
    settings = resolve("laptop", dataset="medqa", data_dir=str(medical))
    with pytest.raises(KardError, match=r"qa\.jsonl\.gz: no such file .*-p index="):
        read_dataset(settings)
    base = PassageList([Passage(id=str(i), text=f"Aspirin {i}.") for i in range(4)])
    origin = Origin(name="mine", source="test")
    replaced = data_of(settings, build_from_passages(medical / "base", base, origin, progress=False))
    assert len(replaced.passages) == 4 and not any("MedQuAD" in note for note in replaced.notes)


# --- good files -------------------------------------------------------------------------------------------------------


def test_mini_set_keeps_its_world_under_smoke() -> None:
    data = read_dataset(resolve("mini", size="smoke"))
    sizes = {"train": len(data.train), "dev": len(data.dev), "test": len(data.test)}
    assert sizes == SPLIT_SIZES["smoke"]
    assert data.mini is not None and data.passages == data.mini.passages and len(data.passages) > 3000
    assert (data.name, data.paper_name, data.test_split) == ("mini-medqa", "MedQA-USMLE", "test")


def test_a_shipped_student_on_real_questions_is_called_a_toy(own: Path) -> None:
    toy = read_dataset(resolve("laptop", dataset="own", data_dir=str(own)))
    other = read_dataset(resolve("laptop", dataset="own", data_dir=str(own), student="google/flan-t5-base"))
    assert [note for note in toy.notes if note not in other.notes] == [TOY.format("mini-t5-base")]
    assert not any("ordinary English" in note for note in read_dataset(resolve("mini", size="smoke")).notes)


@pytest.mark.parametrize("answer", [1, "B", " b ", "two"])
def test_own_answer_as_index_letter_or_text(own: Path, answer: Any) -> None:
    row = {"id": 7, "question": "1 + 1?", "options": ["one", "two"], "answer": answer, "where": "school"}
    write_rows(own / "test.jsonl", [row])
    (question,) = read("own", own).test
    assert (question.id, question.stem, question.answer, question.meta) == ("7", "1 + 1?", 1, {"where": "school"})


def test_own_answer_that_is_an_option_and_a_letter_is_the_option(own: Path) -> None:
    write_rows(own / "test.jsonl", [own_question(30, options=["B", "A"], answer="A")])
    assert read("own", own).test[0].answer == 1


def test_own_set_with_titles_rationales_dev_file_and_blank_lines(own: Path) -> None:
    write_rows(own / "passages.jsonl", ["", {"id": "p1", "title": "Two", "text": "It is even."}, "  "])
    write_rows(own / "dev.jsonl", [own_question(i) for i in range(30, 32)])
    write_rows(own / "rationales.jsonl", [{"question_id": "q3", "text": "Three is odd."}])
    data = read("own", own)
    assert [p.text for p in data.passages] == ["Two. It is even."]
    assert (len(data.train), len(data.dev), len(data.test), data.paper_name) == (20, 2, 5, "")
    assert data.annotations["q3"].text == "Three is odd." and data.annotations["q3"].saw_gold


def test_openbookqa_from_the_folder_or_its_parent(book: Path) -> None:
    data = read("openbookqa", book)
    assert data == read("openbookqa", book / "openbookqa")
    assert [p.text for p in data.passages] == ["the sky is blue", "Fire is hot", "ice is cold"]
    assert len(data.train) + len(data.dev) == 20 and len(data.test) == 3
    assert data.test_split == "dev" and any("dev split" in note for note in data.notes)
    assert data.annotations["b21"].text == "the sky is blue blue 21"
    assert any("gold answer in view" in note for note in data.notes)


def test_openbookqa_reports_test_and_keeps_the_dev_file_where_test_is_there(book: Path) -> None:
    write_rows(book / "openbookqa" / "test_complete.jsonl", [book_question(i) for i in range(30, 35)])
    data = read("openbookqa", book)
    assert (len(data.train), len(data.dev), len(data.test), data.test_split) == (20, 3, 5, "test")


def test_openbookqa_row_with_equal_options_is_dropped_and_counted(book: Path) -> None:
    choices = [{"text": "sky", "label": "A"}, {"text": "sky ", "label": "B"}]
    twin = book_question(50, question={"stem": "Up is", "choices": choices})
    write_rows(book / "openbookqa" / "train_complete.jsonl", [twin, *(book_question(i) for i in range(10))])
    data = read("openbookqa", book)
    assert len(data.train) + len(data.dev) == 10
    assert any(note.startswith("rows of train dropped: 1") for note in data.notes)


def hub_split(first: int, count: int) -> list[dict[str, Any]]:
    choices = {"text": ["red", "blue"], "label": ["A", "B"]}
    row = {"question_stem": "The sky is", "choices": choices, "answerKey": "B", "fact1": "the sky is blue"}
    return [{"id": f"h{number}", **row} for number in range(first, first + count)]


def test_openbookqa_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {"train": hub_split(0, 4), "validation": hub_split(10, 3), "test": hub_split(20, 2)}
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda name, config: splits))
    monkeypatch.delenv("KARD_DATA", raising=False)
    data = read_dataset(resolve(dataset="openbookqa"))
    assert (len(data.train), len(data.dev), len(data.test), data.test_split) == (4, 3, 2, "test")
    assert [p.text for p in data.passages] == ["the sky is blue"]
    assert any("fact1 column" in note for note in data.notes)


def test_openbookqa_offline_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, config: str) -> None:
        raise ConnectionError("cannot reach\nthe hub")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=offline))
    monkeypatch.delenv("KARD_DATA", raising=False)
    with pytest.raises(KardError, match=r"KARD_DATA or -p data_dir=") as caught:
        read_dataset(resolve(dataset="openbookqa"))
    assert "\n" not in str(caught.value)


def test_strategyqa(strategy: Path) -> None:
    data = read("strategyqa", strategy)
    assert len(data.train) + len(data.dev) + len(data.test) == 40 and data.dev
    assert {q.options for q in data.train} == {("yes", "no")}
    assert all((q.answer == 0) == (int(q.id[1:]) % 2 == 0) for q in (*data.train, *data.test))
    assert data.annotations["s0"].text == "Even numbers are halved. Odd ones are not."
    assert (data.passages[1].id, data.passages[1].text) == ("Number-1", "Number. It is 1.")
    assert data.test_split == "train (held out 3:7)" and any("not the paper's split" in note for note in data.notes)


def test_medqa(medical: Path) -> None:
    data = read("medqa", medical)
    assert (len(data.train) + len(data.dev), len(data.test), data.test_split) == (20, 3, "dev")
    assert data.test[0].options == ("rest", "surgery", "aspirin", "water") and data.test[0].answer_text == "aspirin"
    assert [p.text for p in data.passages] == ["Ache. It hurts. Aspirin helps.", "No focus here."]
    assert any("a part of" in note for note in data.notes)


def test_medqa_without_rationales_has_the_rows_that_need_none(
    medical: Path, tiny_t5: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KARD_RUNS", str(medical / "runs"))
    monkeypatch.setenv("KARD_WORKERS", "1")
    tiny = dict(student=tiny_t5, k=1, target_tokens=8, shots=2)
    given = resolve("laptop", dataset="medqa", data_dir=str(medical), **tiny)
    experiment = Experiment(given)
    table_jobs.make_main_table(experiment)
    rows = tables.main_rows(experiment)
    untold = ["Few-shot", "Base model with passages, untrained", "Fine-tuning", "KA Fine-tuning"]
    assert [row.method for row in rows] == untold * 2 and all(row.n == 3 for row in rows)
    assert tables.hits_rows(experiment) == [] and max(experiment.shots("Few-shot", 0)) == 2
    assert {folder.name for folder in (medical / "runs" / "artefacts").iterdir()} == {"student", "predictions"}
    assert all(name in explorer(experiment, experiment.data.test[0], 0) for name in untold)
    assert {cell.job.step for cell in main_cells(given)} == {"student", "predictions"}
    assert lacking("04_reranker", given) == [RATIONALES] and not lacking("06_main_results", given)
    with pytest.raises(KardError, match="^04_reranker: it needs rationales, and medqa brings none"):
        refuse_lacking("04_reranker", given)
    refuse_lacking("04_reranker", given.model_copy(update={"teacher": "openai"}))


def test_medqa_publisher_names_and_repeated_questions(medical: Path) -> None:
    (medical / "dev.jsonl").rename(medical / "phrases_no_exclude_dev.jsonl")
    rows = [medical_question(i) for i in (1, 2, 2, 20)]  # 2 twice, and 20 is a dev question
    write_rows(medical / "phrases_no_exclude_train.jsonl", rows)
    data = read("medqa", medical)
    assert len(data.train) + len(data.dev) == 2 and len(data.test) == 3
    assert any(note.startswith("rows of train dropped: 2") for note in data.notes)


def test_paragraphs_end_with_sentences_and_lose_no_word() -> None:
    text = "One two three. Four five! Six seven eight nine ten eleven twelve? Thirteen."
    assert paragraphs(text, 5) == ["One two three. Four five!", "Six seven eight nine ten", "eleven twelve? Thirteen."]
    assert " ".join(paragraphs(text, 4)).split() == text.split()


# --- splits -----------------------------------------------------------------------------------------------------------


def test_in_dev_is_fixed_and_takes_its_share() -> None:
    chosen = [in_dev(f"q{i}") for i in range(5000)]
    assert 0.08 < sum(chosen) / 5000 < 0.12
    assert [i for i in range(60) if chosen[i]] == DEV_OF_60
    assert all(in_dev(f"q{i}", 0.5) for i in range(5000) if chosen[i])
    assert not in_dev("q1", 0.0) and in_dev("q1", 1.0)


DEV_OF_60 = [1, 9, 11, 23, 30, 42, 49, 51, 53, 54]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_handful_of_questions_leaves_train_and_dev_filled(count: int) -> None:
    questions = [Question(id=f"q{i}", stem="?", options=("a", "b"), answer=0) for i in range(count)]
    train, dev = hold_out_dev(questions)
    assert len(train) + len(dev) == count and train and (bool(dev) or count == 1)


def test_dev_and_smoke_do_not_depend_on_the_order_of_rows(own: Path) -> None:
    rows = [own_question(i) for i in range(30, 400)]
    write_rows(own / "train.jsonl", rows)
    full, smoke = read("own", own), read("own", own, size="smoke")
    write_rows(own / "train.jsonl", rows[::-1])
    assert {q.id for q in read("own", own).dev} == {q.id for q in full.dev}
    assert read("own", own, size="smoke").train == smoke.train
    assert len(smoke.train) == SPLIT_SIZES["smoke"]["train"] and {q.id for q in smoke.train} < {
        q.id for q in full.train
    }
    assert smoke.passages == full.passages


# --- bad input: one line with file, line and field --------------------------------------------------------------------


def fails(dataset: str, folder: Path, *parts: str) -> None:
    """Reading gives one line that holds the parts in this order."""
    with pytest.raises(KardError) as caught:
        read(dataset, folder)
    message = str(caught.value)
    assert "\n" not in message
    assert re.search(".*".join(re.escape(part) for part in parts), message), message


BAD_QUESTIONS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no options": ({"options": []}, ("field options:",)),
    "options of numbers": ({"options": [1, 2]}, ("field options:",)),
    "one option": ({"options": ["odd"], "answer": 0}, ("field options:", "at least 2")),
    "options that are equal": ({"options": ["odd", "odd "]}, ("field options:", "'odd' occurs twice")),
    "index of no option": ({"answer": 2}, ("field answer:", "2 is no option")),
    "negative index": ({"answer": -1}, ("field answer:", "-1 is no option")),
    "letter of no option": ({"answer": "C"}, ("field answer:", "'C' is no option")),
    "text of no option": ({"answer": "prime"}, ("field answer:", "is no option")),
    "answer true": ({"answer": True}, ("field answer:",)),
    "answer null": ({"answer": None}, ("field answer:",)),
    "empty stem": ({"stem": " "}, ("field stem:",)),
    "repeated id": ({"id": "q0"}, ("field id: 'q0' occurs a second time", "train.jsonl:1")),
}


@pytest.mark.parametrize("name", BAD_QUESTIONS)
def test_bad_own_question(own: Path, name: str) -> None:
    change, parts = BAD_QUESTIONS[name]
    write_rows(own / "train.jsonl", [own_question(0), "", own_question(1, **change)])
    fails("own", own, "train.jsonl:3:", *parts)


@pytest.mark.parametrize("field", ["id", "stem", "options", "answer"])
def test_own_question_without_a_field(own: Path, field: str) -> None:
    row = own_question(1)
    del row[field]
    write_rows(own / "train.jsonl", [own_question(0), row])
    fails("own", own, "train.jsonl:2:", f"field {field}: it is missing")


def test_id_in_two_files_names_the_second(own: Path) -> None:
    write_rows(own / "test.jsonl", [own_question(20), own_question(5)])
    fails("own", own, "test.jsonl:2:", "field id: 'q5'", "train.jsonl:6")


BAD_PASSAGES: dict[str, tuple[list[Any], tuple[str, ...]]] = {
    "empty text": ([{"id": "p1", "text": "x"}, {"id": "p2", "text": "  "}], (":2:", "field text:")),
    "no text": ([{"id": "p1"}], (":1:", "field text: it is missing")),
    "no id": ([{"text": "x"}], (":1:", "field id: it is missing")),
    "repeated id": ([{"id": 1, "text": "x"}, "", {"id": "1", "text": "y"}], (":3:", "field id: '1'", ".jsonl:1")),
    "title that is no text": ([{"id": "p1", "title": 3, "text": "x"}], (":1:", "field title:")),
    "no rows": (["", " "], ("it holds no passages",)),
    "no JSON": ([{"id": "p1", "text": "x"}, "{'id'"], (":2:", "not JSON")),
    "no object": (["[1]"], (":1:", "a JSON object was expected")),
}


@pytest.mark.parametrize("name", BAD_PASSAGES)
def test_bad_own_passages(own: Path, name: str) -> None:
    rows, parts = BAD_PASSAGES[name]
    write_rows(own / "passages.jsonl", rows)
    fails("own", own, "passages.jsonl", *parts)


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([{"question_id": "q99", "text": "x"}], (":1:", "field question_id: no question")),
        ([{"question_id": "q1", "text": "x"}, {"question_id": "q1", "text": "y"}], (":2:", "field question_id: 'q1'")),
        ([{"question_id": "q1", "text": ""}], (":1:", "field text:")),
    ],
)
def test_bad_own_rationales(own: Path, rows: list[Any], parts: tuple[str, ...]) -> None:
    write_rows(own / "rationales.jsonl", rows)
    fails("own", own, "rationales.jsonl", *parts)


@pytest.mark.parametrize("name", ["train.jsonl", "test.jsonl", "passages.jsonl"])
@pytest.mark.parametrize("fault", ["missing", "not UTF-8", "empty"])
def test_own_file_that_cannot_be_used(own: Path, name: str, fault: str) -> None:
    spoil(own / name, fault)
    fails("own", own, name, FAULTS[fault])


FAULTS = {"missing": "no such file", "not UTF-8": "cannot be read", "empty": ""}


def spoil(path: Path, fault: str) -> None:
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(b"\xff\xfe{" if fault == "not UTF-8" else b"")


REAL_FILES = [
    ("openbookqa", "book", "openbookqa/train_complete.jsonl"),
    ("openbookqa", "book", "openbookqa/dev_complete.jsonl"),
    ("openbookqa", "book", "openbookqa/openbook.txt"),
    ("openbookqa", "book", "openbookqa/crowdsourced-facts.txt"),
    ("strategyqa", "strategy", "train.json"),
    ("strategyqa", "strategy", "paragraphs.json"),
    ("medqa", "medical", "train_partial.jsonl"),
    ("medqa", "medical", "dev.jsonl"),
    ("medqa", "medical", "medquad/qa.jsonl.gz"),
]


@pytest.mark.parametrize(("dataset", "fixture", "name"), REAL_FILES)
@pytest.mark.parametrize("fault", ["missing", "not UTF-8", "empty"])
def test_published_file_that_cannot_be_used(
    request: pytest.FixtureRequest, dataset: str, fixture: str, name: str, fault: str
) -> None:
    folder = request.getfixturevalue(fixture)
    spoil(folder / name, fault)
    # A missing medqa train file is told by the first of the names that would do.
    told = "train.jsonl" if (name, fault) == ("train_partial.jsonl", "missing") else Path(name).name
    fails(dataset, folder, told, FAULTS[fault])


def without(row: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != field}


BAD_BOOK = {
    "no choices": ({"question": {"stem": "x", "choices": []}}, ("field question.choices:",)),
    "no stem": ({"question": without(book_question(1)["question"], "stem")}, ("question: field stem: it is missing",)),
    "wrong answer": ({"answerKey": "E"}, ("field answerKey: 'E' is no option",)),
    "no fact": ({"fact1": ""}, ("field fact1:",)),
    "repeated id": ({"id": "b0"}, ("field id: 'b0' occurs a second time", ".jsonl:1")),
}


@pytest.mark.parametrize("name", BAD_BOOK)
def test_bad_openbookqa_row(book: Path, name: str) -> None:
    change, parts = BAD_BOOK[name]
    write_rows(book / "openbookqa" / "train_complete.jsonl", [book_question(0), book_question(1, **change)])
    fails("openbookqa", book, "train_complete.jsonl:2:", *parts)


BAD_STRATEGY = {
    "answer as text": ({"answer": "yes"}, ("field answer:",)),
    "no facts": ({"facts": []}, ("field facts:",)),
    "empty question": ({"question": ""}, ("field question:",)),
    "repeated id": ({"qid": "s0"}, ("field qid: 's0' occurs a second time", "train.json:2")),
}


@pytest.mark.parametrize("name", BAD_STRATEGY)
def test_bad_strategyqa_row(strategy: Path, name: str) -> None:
    change, parts = BAD_STRATEGY[name]
    rows = [strategy_question(0), strategy_question(1, **change)]
    (strategy / "train.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    fails("strategyqa", strategy, "train.json:3:", *parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            '{"a":\n{"title": "A", "content": "x"},\n"a": {"title": "A", "content": "y"}}',
            (":3:", "field id: 'a'", ":1"),
        ),
        ('{\n"a": {"title": "A", "content": ""}}', (":2:", "field content:")),
        ('{\n"a": {"title": "A"}}', (":2:", "field content: it is missing")),
        ('{\n"a": 3}', (":2:", "a JSON object was expected")),
        ("[]", (":1:", "a JSON object was expected")),
        ("{ }", ("it holds no entries",)),
        ('{\n"a": {"title"}}', (":2:", "not JSON")),
    ],
)
def test_bad_strategyqa_paragraphs(strategy: Path, text: str, parts: tuple[str, ...]) -> None:
    (strategy / "paragraphs.json").write_text(text)
    fails("strategyqa", strategy, "paragraphs.json", *parts)


BAD_MEDICAL = {
    "no options": ({"options": {}}, ("field options:",)),
    "options as list": ({"options": ["a", "b"]}, ("field options:",)),
    "empty option": ({"options": {"A": "x", "B": ""}}, ("options: field B:",)),
    "wrong answer": ({"answer_idx": "E"}, ("field answer_idx: 'E' is no option",)),
    "no question": ({"question": None}, ("field question:",)),
}


@pytest.mark.parametrize("name", BAD_MEDICAL)
def test_bad_medqa_row(medical: Path, name: str) -> None:
    change, parts = BAD_MEDICAL[name]
    write_rows(medical / "dev.jsonl", [medical_question(20), medical_question(21, **change)])
    fails("medqa", medical, "dev.jsonl:2:", *parts)


def test_bad_medquad_row(medical: Path) -> None:
    with gzip.open(medical / "medquad" / "qa.jsonl.gz", "wt") as file:
        file.write('{"focus": "Ache", "answer": "x"}\n{"focus": "Ache"}\n')
    fails("medqa", medical, "qa.jsonl.gz:2:", "field answer: it is missing")


@pytest.mark.parametrize("dataset", ["strategyqa", "medqa", "own"])
def test_without_a_folder_the_setting_is_named(monkeypatch: pytest.MonkeyPatch, dataset: str) -> None:
    monkeypatch.delenv("KARD_DATA", raising=False)
    with pytest.raises(KardError, match=rf"dataset {dataset}: set KARD_DATA or -p data_dir="):
        read_dataset(resolve(dataset=dataset))


def test_folder_that_does_not_exist(tmp_path: Path) -> None:
    fails("own", tmp_path / "nowhere", "nowhere: no such folder")


# --- the real sets ----------------------------------------------------------------------------------------------------


def test_real_openbookqa(data_dir: Path) -> None:
    data = read("openbookqa", data_dir)
    # 4,957 rows, three of which have two equal options.
    assert len(data.train) + len(data.dev) == 4954 and any("dropped: 3" in note for note in data.notes)
    assert 400 < len(data.dev) < 600 and len(data.test) == 500 and data.test_split == "dev"
    assert len(data.passages) == 6487 and len(data.annotations) == 5454


def retrieve_and_prompt(data: DataSet) -> None:
    searcher = BM25(data.passages)
    for question in data.test[:3]:
        hits = searcher.search(query_of(question), 3)
        assert len(hits) == 3 and hits[0].score > 0
        texts = [searcher.passages[hit.index].text for hit in hits]
        prompt = build_prompt(question, texts)
        assert prompt.startswith(f"Passages: [1] {texts[0]}") and prompt.endswith("Explanation:")
        assert question.stem in prompt and all(option in prompt for option in question.options)


def test_real_strategyqa_is_read_retrieved_over_and_prompted(data_dir: Path) -> None:
    data = read("strategyqa", data_dir)
    assert len(data.train) + len(data.dev) + len(data.test) == 2061
    assert abs(len(data.test) / 2061 - 0.3) < 0.03
    assert len(data.passages) == 9251 and len(data.annotations) == 2061
    retrieve_and_prompt(data)


def test_real_medqa_is_read_retrieved_over_and_prompted(data_dir: Path) -> None:
    data = read("medqa", data_dir, size="smoke")
    assert len(data.passages) > 40_000 and max(len(p.text.split()) for p in data.passages) < 130
    retrieve_and_prompt(data)
    full = read("medqa", data_dir)
    assert len(full.test) == 1272 and len(full.train) + len(full.dev) == 3289
