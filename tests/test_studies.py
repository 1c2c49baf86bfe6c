"""The paper's tables as cells, and the work that they need."""

from __future__ import annotations

from pathlib import Path

import pytest

from kardlib.errors import KardError
from kardlib.experiment import Experiment
from kardlib.methods import method
from kardlib.notebook_studies import TABLES_OF, about, cells_at_hand, lacking, refuse_lacking
from kardlib.presets import Settings, resolve
from kardlib.readers import has_files, read_dataset
from kardlib.records import Ranking, read_jsonl
from kardlib.report import paper_number, paper_numbers
from kardlib.scoring import hits_at
from kardlib.steps import behind
from kardlib.studies import STUDENTS, STUDIES, Cell, cells_of
from kardlib.study_run import STAGES, cell_rows, make_cells, work_of
from kardlib.tables import hits_rows, paper_student


@pytest.mark.parametrize("table", STUDIES)
def test_every_cell_has_a_method_and_a_seed_and_no_name_twice(table: str) -> None:
    cells = cells_of(table, resolve("mini"))
    names = [(cell.settings.dataset, cell.settings.student, cell.row) for cell in cells]
    assert cells and len(set(names)) == len(names)
    assert all(cell.seeds and method(cell.method).name == cell.method for cell in cells)


@pytest.mark.parametrize("table", ["1", "2", "3", "4", "5", "Fig 4a"])
def test_every_row_of_the_paper_that_its_methods_cover_has_a_cell(table: str) -> None:
    cells = cells_of(table, resolve("mini"))
    sets = {"mini-medqa": "MedQA-USMLE", "mini-strategyqa": "StrategyQA", "mini-openbookqa": "OpenbookQA"}
    here = {
        (sets[c.settings.dataset], paper_student(c.settings.student, sets[c.settings.dataset]), c.row) for c in cells
    }
    paper = {key[:3] for key, numbers in paper_numbers().items() if any(number.table == table for number in numbers)}
    lacking = {name for _, student, name in paper - here if student != "OPT-IML-1.3B"}
    assert lacking <= {"Few-shot", "Few-shot + CoT", "KA Few-shot + CoT"}


def test_methods_with_three_runs_in_the_paper_have_all_seeds_and_the_rest_one() -> None:
    count = {cell.method: len(cell.seeds) for cell in cells_of("1", resolve("mini"))}
    assert count["KARD (Reranker)"] == count["Reasoning Distillation"] == 3 and count["Fine-tuning"] == 1
    assert all(len(cell.seeds) == 3 for cell in cells_of("Fig 4a", resolve("mini")))


def test_a_change_reaches_the_cells_and_the_tables_own_setting_wins() -> None:
    cells = cells_of("5", resolve("mini", k=4, student_lr=1e-3, student="mini-t5-xl"))
    assert {cell.settings.k for cell in cells} == {1, 2, 3, 5}
    assert {cell.settings.student_lr for cell in cells} == {1e-3}
    assert {cell.settings.student for cell in cells} == {STUDENTS["mini"]["base"]}


def test_fig_4a_has_both_kards_and_the_papers_number_stands_beside_one() -> None:
    cells = cells_of("Fig 4a", resolve("mini"))
    methods = {cell.row.split(",")[0]: cell.method for cell in cells}
    assert methods == {
        "Fine-tuning": "Fine-tuning", "KARD": "KARD (BM25)", "KARD with reranker": "KARD (Reranker)",
    }  # fmt: skip
    printed = {key[2] for key in paper_numbers()}
    assert {cell.row.split(",")[0] for cell in cells if cell.row in printed} == {"Fine-tuning", "KARD"}


def test_text_to_read_first_reaches_fig_3_whose_plain_rows_read_none(tmp_path: Path) -> None:
    cells = cells_of("Fig 3", resolve("mini", dapt="related", dapt_text=str(tmp_path)))
    assert {cell.settings.dapt_text for cell in cells} == {str(tmp_path.resolve())}
    read = {cell.row.partition("DAPT=")[2]: cell.settings.dapt for cell in cells}
    assert read == {"none": "none", "PubMed abstracts": "related", "MedWiki": "knowledge base"}


def test_a_preset_without_the_part_leaves_it_out() -> None:
    assert cells_of("3", resolve("laptop")) == []
    with pytest.raises(KardError, match="did you mean"):
        cells_of("Fig4a", resolve("mini"))


def test_annotations_are_no_rationales_of_medqa_and_one_a_question() -> None:
    told, asked = resolve("laptop"), resolve("laptop", teacher="openai")
    assert {c.settings.dataset for c in cells_of("2", told)} == {"strategyqa", "openbookqa"}
    assert {c.settings.dataset for c in cells_of("1", asked)} == {"medqa"} and cells_of("1", told) == []
    own = resolve("mini", teacher="annotations", l=1, filter=False)
    assert [c.settings.l for c in cells_of("3", own)] == [1, 1], "both students, and no change that wants more"
    assert lacking("07_x", own) == ["3"] and not lacking("07_x", resolve("mini"))


@pytest.mark.parametrize("preset", ["mini", "paper"])
def test_every_notebook_has_its_tables_where_the_files_are(preset: str, tmp_path: Path) -> None:
    names = {"medqa": "train.jsonl", "strategyqa": "train.json", "openbookqa": "train_complete.jsonl"}
    for folder, file in names.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).touch()
    assert not any(lacking(number, resolve(preset, data_dir=str(tmp_path))) for number in TABLES_OF)


def test_sets_without_files_have_no_cells_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KARD_DATA", raising=False)
    (tmp_path / "train_complete.jsonl").touch()
    settings = resolve("laptop", dataset="openbookqa", data_dir=str(tmp_path))
    assert has_files(settings) and has_files(resolve("laptop")) and has_files(resolve("mini", data_dir="/none"))
    assert not has_files(settings.model_copy(update={"dataset": "strategyqa"}))
    assert not has_files(resolve("laptop", dataset="strategyqa"))
    assert {c.settings.dataset for c in cells_at_hand("2", settings)} == {"openbookqa"}
    assert all(lacking(number, settings) for number in TABLES_OF), "all are of MedQA, or of StrategyQA"
    with pytest.raises(KardError, match="^11_rag: no cells for Table 7 under preset laptop"):
        refuse_lacking("11_rag", settings)
    (tmp_path / "train.json").touch()
    refuse_lacking("11_rag", settings)
    assert not about("11_rag", settings) and about("06_main_results", settings), (
        "'all' leaves it out: its set is another"
    )
    assert about("11_rag", settings.model_copy(update={"dataset": "strategyqa"}))
    assert all(about(number, resolve("mini")) for number in TABLES_OF)


def test_share_keeps_a_part_of_train_and_all_of_test() -> None:
    whole, part = (read_dataset(resolve("mini", size="smoke", share=share)) for share in (1.0, 0.25))
    assert len(part.train) == round(0.25 * len(whole.train)) and part.test == whole.test
    assert {q.id for q in part.train} <= {q.id for q in whole.train}


@pytest.fixture
def tiny(tmp_path: Path, tiny_t5: str, tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Smoke size with random models of one layer, which play every student and encoder."""
    monkeypatch.setenv("KARD_RUNS", str(tmp_path))
    monkeypatch.setenv("KARD_WORKERS", "1")
    small = dict(encoder=tiny_bert, l=1, kappa_star=12, kappa1=4, kappa2=4, pool=4, student_epochs=1, reranker_epochs=1)
    given = resolve("mini", size="smoke", inventory="development", filter=False, target_tokens=8, seeds=[0], **small)
    monkeypatch.setitem(STUDENTS, "mini", {"base": tiny_t5})
    return given


@pytest.fixture
def small(tiny: Settings) -> list[Cell]:
    """Table 5 with k = 1 and 2."""
    return cells_of("5", tiny)[:4]


def test_cells_are_made_once_and_what_they_share_is_shared(small: list[Cell], tmp_path: Path) -> None:
    make_cells(small)
    made = {kind: sorted((tmp_path / "artefacts" / kind).glob("*/key.json")) for kind in ("reranker", "student")}
    assert len(made["reranker"]) == 1, "k does not reach the reranker"
    assert len(made["student"]) == 2, "BM25 and Reranker are one student for each k"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "artefacts").rglob("key.json")}
    make_cells(small)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "artefacts").rglob("key.json")} == before
    rows = cell_rows(small, tmp_path / "run")
    assert [row.method for row in rows if row.settings["answers"] == "scored"] == [cell.row for cell in small]
    assert all(row.table == "5" and Path(str(row.predictions)).is_file() for row in rows)
    assert len({row.predictions for row in rows}) == len(small), "each cell keeps its own predictions"


def test_work_is_listed_once_and_in_the_order_of_need(small: list[Cell]) -> None:
    work = work_of(small)
    steps = {stage: sorted(job.step for _, job in jobs) for stage, jobs in work.items() if jobs}
    assert steps["training"] == ["reranker", "student", "student"] and steps["reranking"] == ["reranked"]
    assert len(steps["answering"]) == len(small)
    for stage, jobs in work.items():
        for settings, job in jobs:
            later = [name for name in STAGES if list(STAGES).index(name) >= list(STAGES).index(stage)]
            assert not {b.step for b in behind(job, settings)} & {step for name in later for step in STAGES[name]}
    make_cells(small)
    assert not any(work_of(small).values())


def test_a_smaller_kappa_star_is_looked_up_among_the_widest(small: list[Cell]) -> None:
    settings = next(cell.settings for cell in small if cell.method == "KARD (Reranker)")
    wide, narrow = (Experiment(settings.model_copy(update={"kappa_star": n})) for n in (100, 12))
    widest, looked_up = wide.reranked(0), narrow.reranked(0)
    for key, found in narrow.candidates().items():
        assert set(looked_up[key].passages) == set(found.passages)
        assert [p for p in widest[key].passages if p in found.passages] == list(looked_up[key].passages)
    assert wide.folder("reranked", seed=0) == narrow.folder("reranked", seed=0), "it is read once"


def test_an_adapted_base_is_shared_by_the_methods_and_the_plain_student_is_the_main_tables_own(
    tiny: Settings, tmp_path: Path
) -> None:
    cells = cells_of("Fig 3", tiny)
    make_cells(cells)
    made = {kind: len(list((tmp_path / "artefacts" / kind).glob("*/key.json"))) for kind in ("adapted", "student")}
    assert made == {"adapted": 2, "student": 6}
    plain = Experiment(resolve("mini", **tiny.model_dump(exclude={"preset"})))
    folders = {Experiment(c.settings).folder("student", training="KARD", seed=0) for c in cells}
    assert plain.with_settings(student=cells[0].settings.student).folder("student", training="KARD", seed=0) in folders


def test_rag_runs_from_cells_to_rows(tiny: Settings, tmp_path: Path) -> None:
    cells = [cell for cell in cells_of("7", tiny) if cell.method == "RAG + Reasoning Distillation"]
    assert {cell.settings.dataset for cell in cells} == {"mini-medqa", "mini-strategyqa"}
    make_cells(cells[:1])
    (scored, free) = cell_rows(cells[:1], tmp_path / "run")
    assert scored.method == free.method == "RAG + Reasoning Distillation" and scored.n == free.n == 48
    answers = Experiment(cells[0].settings).predictions("RAG + Reasoning Distillation", 0)
    assert all(len(p.passages) == tiny.k and len(set(p.passages)) == tiny.k for p in answers)
    token = Experiment(cells[0].settings).with_settings(rag_form="token")
    assert not token.has("rag", seed=0), "the form is a part of what was trained"


def test_hits_keep_the_rankings_that_they_were_counted_from(small: list[Cell], tmp_path: Path) -> None:
    settings = next(cell.settings for cell in small if cell.method == "KARD (Reranker)")
    rows = hits_rows(Experiment(settings), tmp_path / "run")
    for row in rows:
        kept = read_jsonl(Path(str(row.predictions)), Ranking)
        k = int(row.metric.removeprefix("hits@"))
        assert row.value == pytest.approx(100 * sum(hits_at(r.passages, r.truth, k) for r in kept) / len(kept))


def test_the_largest_base_model_stands_beside_the_papers_largest(
    tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STUDENTS, "mini", {"xl": STUDENTS["mini"]["base"]})
    cells = cells_of("Fig 4b", tiny)
    make_cells(cells)
    number = {paper_number(row) for row in cell_rows(cells)}
    assert {one.table for one in number if one} == {"Fig 4b"} and None not in number
