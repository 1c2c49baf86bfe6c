"""Whole sets under preset paper, sets in part under the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kardlib.errors import KardError
from kardlib.preset_sources import NEUTRAL, SOURCES, our_choices
from kardlib.presets import PRESETS, Settings, resolve
from kardlib.published_counts import PUBLISHED, checked_note, count_faults
from kardlib.readers import read_dataset
from kardlib.studies import cells_of


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def book_row(number: int, same: bool = False) -> dict:
    choices = [{"text": f"{text} {number}", "label": label} for text, label in (("red", "A"), ("blue", "B"))]
    choices = [{**choice, "text": "red"} for choice in choices] if same else choices
    return {
        "id": f"b{number}", "question": {"stem": f"The sky {number} is", "choices": choices}, "answerKey": "B",
        "fact1": "the sky is blue",
    }  # fmt: skip


@pytest.fixture
def whole_book(tmp_path: Path) -> Path:
    """OpenBookQA with as many rows as the publisher's; one of them is dropped by the reader."""
    folder, first = tmp_path / "openbookqa", 0
    folder.mkdir()
    for split, count in PUBLISHED["openbookqa"].items():
        rows = [book_row(first + i, same=split == "train" and i == 7) for i in range(count)]
        write_rows(folder / f"{split}_complete.jsonl", rows)
        first += count
    (folder / "openbook.txt").write_text("the sky is blue\nfire is hot\nice is cold\n")
    (folder / "crowdsourced-facts.txt").write_text("grass is green\n")
    return folder


def test_a_whole_set_is_taken_and_has_no_label(whole_book: Path) -> None:
    data = read_dataset(resolve("paper", dataset="openbookqa", data_dir=str(whole_book)))
    assert (len(data.train), len(data.dev), len(data.test)) == (4956, 500, 500)  # one has two equal options
    assert data.rows == PUBLISHED["openbookqa"] and not any(note.startswith("partial") for note in data.notes)


def test_a_set_in_part_is_an_error_under_paper_and_a_label_under_laptop(whole_book: Path) -> None:
    (whole_book / "test_complete.jsonl").unlink()
    lines = (whole_book / "train_complete.jsonl").read_text().splitlines()
    (whole_book / "train_complete.jsonl").write_text("\n".join(lines[:100]))
    told = "train has 100 questions, not 4,957; test is not there, 500 questions"
    with pytest.raises(KardError, match=f"^dataset openbookqa: not the paper's: {told}"):
        read_dataset(resolve("paper", dataset="openbookqa", data_dir=str(whole_book)))
    laptop = read_dataset(resolve("laptop", dataset="openbookqa", data_dir=str(whole_book)))
    assert f"partial: {told}" in laptop.notes and laptop.test_split == "dev"


def test_strategyqa_has_as_many_reported_questions_as_the_paper(tmp_path: Path) -> None:
    rows = [
        {"qid": f"s{i}", "question": f"Is {i} even?", "answer": i % 2 == 0, "facts": ["Even numbers are halved."]}
        for i in range(2290)
    ]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    (tmp_path / "paragraphs.json").write_text(json.dumps({f"p{i}": {"title": "t", "content": "c"} for i in range(5)}))
    paper, laptop = (
        read_dataset(resolve(p, dataset="strategyqa", data_dir=str(tmp_path))) for p in ("paper", "laptop")
    )
    assert len(paper.test) == 687 and len(paper.train) + len(paper.dev) == 1603
    few, many = sorted([{q.id for q in paper.test}, {q.id for q in laptop.test}], key=len)
    assert few <= many  # the same order of hashes, cut elsewhere
    assert not any(note.startswith("partial") for note in laptop.notes)


def test_sets_without_a_publisher_are_not_counted() -> None:
    assert count_faults("own", {}) == [] == checked_note("paper", "mini-medqa", {})


# --- presets ----------------------------------------------------------------------------------------------------------


def test_every_value_of_preset_paper_has_its_source() -> None:
    assert set(SOURCES) | NEUTRAL == set(Settings.model_fields) and not set(SOURCES) & NEUTRAL
    assert {"k", "shots", "tau1", "tau2", "target_tokens", "dapt_lr", "retriever_lr"} <= set(our_choices())
    assert set(PRESETS["paper"]) - {"dataset"} <= set(SOURCES)


def test_the_paper_has_other_models_on_medqa() -> None:
    medqa, others = (
        resolve("paper", dataset="medqa"),
        [resolve("paper", dataset=d) for d in ("strategyqa", "openbookqa")],
    )
    assert (medqa.student, medqa.encoder) == ("google/flan-t5-base", "michiyasunaga/BioLinkBERT-base")
    for other in others:
        assert (other.student, other.encoder) == ("google/t5-v1_1-base", "michiyasunaga/LinkBERT-base")
    for one in (medqa, *others):
        assert one.teacher == "openai" and one.filter and one.l == 10 and not one.changed()
    assert resolve("paper", teacher="annotations").l == 1
    with pytest.raises(KardError, match="one rationale for each question"):
        resolve("paper", teacher="annotations", l=3)


def test_students_of_the_papers_tables() -> None:
    first, second = ({c.settings.student for c in cells_of(t, resolve("paper"))} for t in ("1", "2"))
    sizes = ("base", "large", "xl")
    assert first == {*(f"google/flan-t5-{s}" for s in sizes), "facebook/opt-350m", "facebook/opt-iml-1.3b"}
    assert second == {f"google/t5-v1_1-{s}" for s in sizes}
    encoders = {(c.settings.dataset, c.settings.encoder) for c in cells_of("7", resolve("paper"))}
    assert ("medqa", "michiyasunaga/BioLinkBERT-base") in encoders
