"""Outputs that ship with the kit: found without the code that made them, loaded instead of trained, or refused."""

from __future__ import annotations

import lzma
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from kardlib import keys, shipped, sources, table_jobs
from kardlib import ship as ship_module
from kardlib.errors import KardError
from kardlib.experiment import Experiment
from kardlib.filter import Filtered
from kardlib.jobs import Job, Work, run_work
from kardlib.keys import _CODE, Keys
from kardlib.methods import METHODS, OTHER_METHODS, TRAININGS
from kardlib.mini import MiniSet, make_mini
from kardlib.plan import planned, study_steps
from kardlib.presets import SPLIT_SIZES, Settings, resolve
from kardlib.records import Prediction
from kardlib.retrained import check_cell, compare_again
from kardlib.runs import ResultRow, open_run
from kardlib.ship import cell_work, code_commit, faults, found, ship, ship_figures
from kardlib.shipped import Ranked, constant, counts, pack, read_header, read_set, set_file, shipped_files
from kardlib.shipped_times import text_of
from kardlib.steps import missing
from kardlib.store import fingerprint
from kardlib.studies import STUDENTS, Cell, cells_of
from kardlib.study_run import cell_rows, make_cells, work_of
from kardlib.tables import hits_rows
from kardlib.tally import Tally

COMMIT = "0123456789abcdef"
CONTROL = {"control": "no passages", "seed": 0, "name": "KARD (Reranker)"}


@dataclass(frozen=True)
class Made:
    """Cells that were trained and answered once for all tests of this file."""

    cells: list[Cell]
    rows: list[ResultRow]
    hits: list[ResultRow]
    control: list[Prediction]
    runs: Path
    records: Path


@pytest.fixture(scope="module", autouse=True)
def one_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KARD_WORKERS", "1")
        patch.setattr(ship_module, "code_commit", lambda: COMMIT)
        patch.setitem(SPLIT_SIZES, "smoke", {"train": 24, "dev": 4, "test": 20})
        yield


def all_work(cells: list[Cell]) -> list[Work]:
    return [*cell_work(cells), (cells[1].settings, Job("controls", CONTROL))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_t5: str, tiny_bert: str) -> Made:
    """k = 1 of Table 5 and a few-shot row, at smoke size with random models of one layer."""
    tiny = dict(encoder=tiny_bert, l=1, kappa_star=12, kappa1=4, kappa2=4, pool=4, student_epochs=1, reranker_epochs=1)
    given = resolve("mini", size="smoke", inventory="development", filter=False, target_tokens=8, seeds=[0], **tiny)
    runs, records = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("records")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KARD_RUNS", str(runs))
        patch.setitem(STUDENTS, "mini", {"base": tiny_t5})
        patch.setattr(shipped, "RECORDS", records)
        cells = cells_of("5", given)[:2]
        cells.append(Cell("1", "Few-shot", "Few-shot", cells[0].settings))
        make_cells(cells)
        rows, hits = cell_rows(cells), hits_rows(Experiment(cells[1].settings))
        control = Experiment(cells[1].settings).controls(**CONTROL)
        ship(all_work(cells), say=lambda line: None)
    return Made(cells, rows, hits, control, runs, records)


@pytest.fixture
def clone(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh clone of the kit: the shipped outputs are there, and no runs."""
    shutil.copytree(made.records, tmp_path / "records")
    monkeypatch.setattr(shipped, "RECORDS", tmp_path / "records")
    monkeypatch.setenv("KARD_RUNS", str(tmp_path / "runs"))
    return tmp_path / "records"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fills with what is trained."""
    from kardlib import reranker_training, student

    names: list[str] = []
    for module, name in ((student, "train_student"), (reranker_training, "train_reranker")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, real=real, name=name: (names.append(name), real(*given))[1])
    return names


def test_a_control_is_loaded_as_it_was_made(made: Made, clone: Path, trained: list[str]) -> None:
    assert Experiment(made.cells[1].settings).controls(**CONTROL) == made.control
    assert trained == [] and list(faults()) == []
    assert any("no-passages" in file.name for file in clone.rglob("*.xz")), "the name tells the control"


def test_verdicts_that_ship_are_counted_and_read(
    made: Made, clone: Path, tiny_t5: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = made.cells[0].settings.model_copy(update={"filter": True, "reader": tiny_t5, "l": 2})
    says = ("kept", "wrong option", "kept", "no option", "no option")
    monkeypatch.setattr(
        Experiment, "_read", lambda self, told: Filtered([], [says[i % len(says)] for i in range(len(told))])
    )
    judged = Experiment(settings).verdicts()
    ship([(settings, Job("verdicts"))], say=lambda line: None)
    assert list(faults()) == []
    monkeypatch.setenv("KARD_RUNS", str(tmp_path / "elsewhere"))
    there = Experiment(settings)
    assert there.filter_counts() == judged.counts and not there.made("verdicts")
    header, rows = read_set(there.shipped_file("verdicts"))
    assert [verdict for row in rows for verdict in row.verdicts] == judged.verdicts
    assert [row.question_id for row in rows] == [question.id for question in there.data.train]
    assert there.verdicts() == judged and there.kept_rationales() == judged.kept and not there.made("verdicts")
    with monkeypatch.context() as other_code:
        other_code.setattr(keys, "code", lambda modules: "other code")
        assert Experiment(settings).verdicts() == judged and Experiment(settings).made("verdicts"), "made by it"
    anew = Experiment(settings.model_copy(update={"retrain": True}))
    assert anew.filter_counts() == judged.counts and anew.made("verdicts")


def test_figures_of_the_presets_own_runs_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARD_RUNS", str(tmp_path / "runs"))
    for name, changes in (("06_a", {}), ("07_b", {"k": 2})):
        run = open_run(name, resolve("mini", **changes), {})
        (run.folder / "figures").mkdir()
        (run.folder / "figures" / "one.png").write_bytes(name.encode())
        run.finish([])
    assert ship_figures(tmp_path / "figures") == 1
    assert [f.relative_to(tmp_path).as_posix() for f in tmp_path.glob("figures/*/*")] == ["figures/06_a/one.png"]


def with_settings(cell: Cell, **change: Any) -> Cell:
    return Cell(cell.table, cell.row, cell.method, cell.settings.model_copy(update=change))


def shipped_of(cell: Cell, step: str = "predictions") -> Path | None:
    arguments = {"name": cell.method, "seed": 0} if step == "predictions" else {"seed": 0}
    return Keys(cell.settings).shipped(step, **arguments)


def rewrite(file: Path, **change: Any) -> None:
    """Change fields of every row; what the header says of them stays."""
    header, rows = read_set(file)
    rows = [row.model_copy(update=change) for row in rows]
    file.write_bytes(pack(header.model_copy(update={"same": constant(rows)}), rows))


# --- loading ----------------------------------------------------------------------------------------------------------


def test_rows_are_rebuilt_without_training(made: Made, clone: Path, trained: list[str], tmp_path: Path) -> None:
    assert not any(work_of(made.cells).values())
    make_cells(made.cells)
    tally = Tally()
    assert cell_rows(made.cells, tally=tally) == made.rows
    assert hits_rows(Experiment(made.cells[1].settings, tally)) == made.hits
    assert not trained and not (tmp_path / "runs").exists()
    assert tally.count("loaded") == len(tally.origins) == len(made.cells) + 1
    assert tally.commits == [COMMIT] and COMMIT[:10] in tally.notes()[0] and COMMIT[:10] in str(tally)


def test_every_field_of_every_output_comes_back(made: Made, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cell in made.cells:
        loaded = Experiment(cell.settings).predictions(cell.method, 0)
        with monkeypatch.context() as patch:
            patch.setenv("KARD_RUNS", str(made.runs))
            own = Experiment(with_settings(cell, retrain=True).settings)
            assert loaded == own.predictions(cell.method, 0) and isinstance(loaded[0], Prediction)
    few = made.cells[-1]
    assert Experiment(few.settings).shots("Few-shot", 0) and max(Experiment(few.settings).shots("Few-shot", 0)) > 0


def test_rankings_are_the_first_passages_and_the_truth(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARD_RUNS", str(made.runs))
    experiment = Experiment(made.cells[1].settings)
    bm25, reranked, truth = experiment.candidates(), experiment.reranked(0), experiment.truth()
    ranked = experiment.rankings(0)
    assert [one.question_id for one in ranked] == [q.id for q in experiment.data.test]
    for one in ranked:
        i = one.question_id
        assert (one.bm25, one.reranker) == (bm25[i].passages[:10], reranked[i].passages[:10])
        assert one.truth == truth[i]


def test_what_was_made_here_comes_before_what_is_shipped(
    made: Made, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = made.cells[0]
    file = shipped_of(cell)
    assert file is not None
    rewrite(file, rationale="not what was made here")
    assert {p.rationale for p in Experiment(cell.settings).predictions(cell.method, 0)} == {"not what was made here"}
    monkeypatch.setenv("KARD_RUNS", str(made.runs))
    experiment = Experiment(cell.settings)
    assert {p.rationale for p in experiment.predictions(cell.method, 0)} != {"not what was made here"}
    assert experiment.tally.count("loaded") == 0 and not experiment.tally.notes()
    later = Tally(since=2**40)
    Experiment(cell.settings, later).predictions(cell.method, 0)
    assert (experiment.tally.count("made just now"), later.count("made here before")) == (1, 1)


def test_outputs_of_models_that_were_trained_here_are_made_here(
    made: Made, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bm25, reranker = made.cells[0], made.cells[1]
    assert (bm25.method, reranker.method) == ("KARD (BM25)", "KARD (Reranker)"), "one student, two rankings"
    runs = clone.parent / "runs"

    def has(step: str) -> None:
        shutil.copytree(made.runs / "artefacts" / step, runs / "artefacts" / step)

    assert shipped_of(bm25) and shipped_of(reranker) and shipped_of(reranker, "rankings")
    has("student")
    assert shipped_of(bm25) is None and Keys(reranker.settings).shipped("controls", **CONTROL) is None
    assert shipped_of(reranker) and shipped_of(reranker, "rankings"), "its reranker would have to be trained"
    assert shipped_of(made.cells[-1]), "the base model is the same everywhere"
    has("reranked")
    assert shipped_of(reranker) is None and shipped_of(reranker, "rankings") is None
    other = with_settings(reranker, kappa_star=20)
    monkeypatch.setattr(Keys, "shipped_file", lambda self, step, **given: clone)
    monkeypatch.setattr(Path, "is_file", lambda self: True)
    assert shipped_of(other) is None, "a smaller kappa* is looked up in the same ranking"
    assert shipped_of(with_settings(reranker, k=2)) is not None, "another student"


def test_other_code_loads_and_is_told(made: Made, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.SOURCES, "reranker", sources.SOURCES["reranker"] + "# new")
    tally = Tally()
    cell_rows(made.cells[:2], tally=tally)
    bm25, reranker = tally.origins.values()
    assert reranker.older and "other code" in str(reranker) and "1 of them by other code" in tally.notes()[0]
    assert not bm25.older and str(bm25) == f"loaded: made by commit {COMMIT[:10]}"
    assert [line for line in tally.lines() if "other code" in line and "KARD (Reranker)" in line]


def test_another_model_data_set_or_setting_does_not_load(
    made: Made, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = made.cells[1]
    for role in ("student", "encoder"):
        folder = Path(getattr(cell.settings, role))
        other = tmp_path / role / folder.name
        shutil.copytree(folder, other)
        assert shipped_of(with_settings(cell, **{role: str(other)})) is not None, "its place does not matter"
        weights = load_file(other / "model.safetensors")
        next(iter(weights.values())).flatten()[0] += 1
        save_file(weights, other / "model.safetensors", {"format": "pt"})
        assert shipped_of(with_settings(cell, **{role: str(other)})) is None
    for change in (dict(world=2), dict(student_lr=1e-5), dict(tau1=3.0), dict(share=0.5), dict(size="full")):
        assert shipped_of(with_settings(cell, **change)) is None, change

    def reworded(name: str, seed: int, which: Any, sizes: tuple[tuple[str, int], ...]) -> MiniSet:
        mini = make_mini(name, seed, which, dict(sizes))
        mini.passages[0] = mini.passages[0].model_copy(update={"text": "Other words."})
        return mini

    monkeypatch.setattr(shipped, "shared_mini", reworded)
    shipped._data_hash.cache_clear()
    assert shipped_of(cell) is None, "the generator makes another data set"
    shipped._data_hash.cache_clear()


def test_retrain_trains_and_gives_the_same_numbers(made: Made, clone: Path, trained: list[str]) -> None:
    cells = [with_settings(cell, retrain=True) for cell in made.cells]
    assert {job.step for work in work_of(cells).values() for _, job in work} >= {"student", "reranker", "predictions"}
    make_cells(cells)
    tally = Tally()
    assert cell_rows(cells, tally=tally) == made.rows, "retrain is no setting that a row or a number depends on"
    assert sorted(trained) == ["train_reranker", "train_student"]
    assert tally.count("made just now") == len(cells) and not tally.notes()


def test_a_set_that_is_gone_is_made_and_nothing_else(made: Made, clone: Path, trained: list[str]) -> None:
    file = shipped_of(made.cells[0])
    assert file is not None
    file.unlink()
    jobs = [Job("predictions", {"name": cell.method, "seed": 0}) for cell in made.cells]
    needed = missing(Experiment(made.cells[0].settings), jobs)
    assert {job.step for job in needed.values()} == {"predictions", "student", "rationales"}
    run_work([(made.cells[0].settings, jobs[0])], "again")
    assert trained == ["train_student"]
    tally = Tally()
    assert cell_rows(made.cells, tally=tally) == made.rows
    assert (tally.count("loaded"), tally.count("made just now")) == (2, 1)


def test_the_main_table_makes_nothing_where_all_of_it_ships(made: Made, clone: Path, monkeypatch: Any) -> None:
    def refuse(*given: Any) -> None:
        raise AssertionError("something would have been made")

    for name in ("prepare", "run_jobs"):
        monkeypatch.setattr(table_jobs, name, refuse)
    experiment = Experiment(made.cells[0].settings)
    with pytest.raises(AssertionError):
        table_jobs.make_main_table(experiment)
    monkeypatch.setattr(Keys, "shipped", lambda self, step, **given: clone if step in shipped.KINDS else None)
    table_jobs.make_main_table(experiment)


def test_the_plan_says_what_ships(made: Made, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kardlib.plan.cells_of", lambda table, settings: made.cells[:2])
    states = {(row.cell.job.step, row.state) for row in planned(study_steps("5", made.cells[0].settings))}
    assert ("predictions", "shipped") in states and "to do" not in {state for _, state in states}


# --- keys without code ------------------------------------------------------------------------------------------------


def all_keys(settings: Settings, coded: bool) -> dict[str, str]:
    """Fingerprint of the key of every step and method."""
    keys = Keys(settings, coded)
    found = {step: keys.key(step) for step in ("rationales", "verdicts", "pools")}
    found |= {
        step: keys.key(step, seed=0) for step in ("reranker", "reranked", "rankings", "adapted", "retriever", "rag")
    }
    found |= {f"student {name}": keys.key("student", training=name, seed=0) for name in TRAININGS}
    found |= {row.name: keys.key("predictions", name=row.name, seed=0) for row in (*METHODS, *OTHER_METHODS)}
    return {name: fingerprint(key) for name, key in found.items()}


CHANGES = (
    dict(k=2), dict(l=2), dict(tau1=1.0), dict(kappa_star=30), dict(kappa1=5), dict(student_lr=1e-4), dict(shots=1),
    dict(answers="free"), dict(share=0.5), dict(world=2), dict(filter=True), dict(dapt="related"), dict(retrain=True),
    dict(rag_form="token"), dict(seeds=(0, 1)),
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_keys_without_code_tell_settings_apart_as_keys_do(made: Made, change: dict[str, Any]) -> None:
    settings = made.cells[1].settings

    def changed(coded: bool) -> set[str]:
        before, after = (all_keys(s, coded) for s in (settings, settings.model_copy(update=change)))
        return {name for name in before if before[name] != after[name]}

    assert changed(coded=False) == changed(coded=True)
    assert bool(changed(coded=True)) == (set(change) <= set(Settings.model_fields) - {"retrain", "seeds"})


def test_no_code_is_left_in_keys_without_code(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = made.cells[1].settings
    bare, coded = all_keys(settings, coded=False), all_keys(settings, coded=True)
    for module in {name for modules in _CODE.values() for name in modules} | {"rag_predict", "records"}:
        monkeypatch.setitem(sources.SOURCES, module, sources.SOURCES[module] + "# new")
    assert all_keys(settings, coded=False) == bare
    assert not set(all_keys(settings, coded=True).values()) & set(coded.values())


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_named_by_its_key_and_says_who_made_it(made: Made, clone: Path) -> None:
    files = shipped_files()
    assert len(files) == len(made.cells) + 2, "answers, rankings and a control"
    for file in files:
        header, rows = read_set(file)
        assert header.commit == COMMIT and header.versions["torch"] and counts(rows) == header.counts
        assert header.seconds and all(seconds >= 0 for seconds in header.seconds.values())
        assert file == set_file(made.cells[0].settings, header.key), "the name tells method, seed and key"


def damages(content: bytes) -> dict[str, bytes]:
    text = lzma.decompress(content)
    lines = text.splitlines(keepends=True)
    packed = {"a row less": b"".join(lines[:-1]), "no header": b"".join(lines[1:]), "a list": lines[0] + b"[1]\n"}
    packed |= {
        "half a row": text[:-3],
        "no JSON": text.replace(b'{"question_id"', b"{question_id"),
        "a field": text.replace(b'"gold"', b'"golf"'),
        "nothing": b"",
    }
    return {"cut": content[:-20], "not xz": b"x" * 99, "empty": b""} | {n: lzma.compress(t) for n, t in packed.items()}


@pytest.mark.parametrize("damage", damages(lzma.compress(b"{}\n")))
def test_a_damaged_file_is_one_clear_line(made: Made, clone: Path, damage: str) -> None:
    cell = made.cells[0]
    file = shipped_of(cell)
    assert file is not None and not list(faults())
    file.write_bytes(damages(file.read_bytes())[damage])
    with pytest.raises(KardError) as caught:
        Experiment(cell.settings).predictions(cell.method, 0)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    (line,) = faults()
    assert line == str(caught.value)


def test_a_set_of_other_rows_is_a_fault(made: Made, clone: Path) -> None:
    file = shipped_of(made.cells[0])
    assert file is not None
    header, rows = read_set(file)
    file.write_bytes(pack(header, rows[::-1]))
    (line,) = faults()
    assert "not of the questions" in line
    file.write_bytes(pack(header.model_copy(update={"key": header.key | {"seed": 7}}), rows))
    (line,) = faults()
    assert "name" in line


def test_counts_are_of_the_rows() -> None:
    given = dict(question_id="q", method="m", seed=0, decoding="greedy", rationale="r", answer="a", gold=1)
    rows = [Prediction(parsed=p, chosen=c, **given) for p, c in ((None, 1), (1, 1), (0, 1), (1, 0))]
    assert counts(rows) == {"questions": 4, "right": 3, "right as written": 2, "unparsed": 1}
    ranked = [Ranked(question_id="q", bm25=tuple("abcdef"), reranker=tuple("fabcde"), truth=("f",))]
    told = counts(ranked)
    assert [told[f"BM25 hits@{k}"] for k in (1, 3, 5, 10)] == [0, 0, 0, 1]
    assert [told[f"Reranker hits@{k}"] for k in (1, 3, 5, 10)] == [1, 1, 1, 1]


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def workplace(made: Made, clone: Path, monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """Where the outputs were made; the work behind them."""
    monkeypatch.setenv("KARD_RUNS", str(made.runs))
    return all_work(made.cells)


def contents() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in shipped_files()}


def test_the_same_outputs_are_the_same_bytes(workplace: list[Work], clone: Path, capsys: Any) -> None:
    before = contents()
    shutil.rmtree(clone)
    total = ship(workplace)
    assert contents() == before and total == sum(map(len, before.values()))


def test_a_set_that_has_not_changed_keeps_its_commit(
    workplace: list[Work], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents()
    monkeypatch.setattr(ship_module, "code_commit", lambda: "f" * 40)
    ship(workplace)
    assert contents() == before and "0 written" in capsys.readouterr().out
    damaged = shipped_files()[0]
    damaged.write_bytes(b"")
    ship(workplace)
    assert read_set(damaged)[0].commit == "f" * 40 and "1 written" in capsys.readouterr().out
    assert {name: c for name, c in contents().items() if name != damaged.name}.items() <= before.items()


def test_only_a_whole_ship_removes(workplace: list[Work], made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    before, few = contents(), cell_work(made.cells[-1:])
    ship(few)
    assert contents() == before
    ship(few, whole=True)
    assert len(contents()) == 1 and f"{len(before) - 1} removed" in capsys.readouterr().out


def test_what_is_not_finished_keeps_what_ships(made: Made, clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents()
    unknown = cell_work([with_settings(made.cells[0], student_lr=1e-5)])
    ship([*all_work(made.cells), *unknown], whole=True)
    assert contents() == before and "1 are not finished here" in capsys.readouterr().out
    assert found([*all_work(made.cells), *unknown]) == (len(before) + 1, len(before))


def test_what_takes_no_training_is_made_for_what_ships(made: Made, clone: Path, tmp_path: Path) -> None:
    before = {file.name: read_set(file)[1] for file in shipped_files()}
    shutil.rmtree(clone)
    shutil.copytree(made.runs, tmp_path / "runs")
    for step in ("rationales", "rankings"):
        shutil.rmtree(tmp_path / "runs" / "artefacts" / step)
    ship(all_work(made.cells), say=lambda line: None)
    assert {file.name: read_set(file)[1] for file in shipped_files()} == before


def test_too_much_is_refused_before_anything_is_written(
    workplace: list[Work], clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(map(len, contents().values()))
    shutil.rmtree(clone)
    monkeypatch.setattr(ship_module, "LIMIT", size - 1)
    with pytest.raises(KardError, match="nothing was written"):
        ship(workplace)
    assert not clone.exists()
    monkeypatch.setattr(ship_module, "LIMIT", size)
    assert ship(workplace, say=lambda line: None) == size


def test_shipped_outputs_name_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, Any] = {"commit": COMMIT, "dirty": False}
    monkeypatch.setattr(ship_module, "git_state", lambda *paths: state)
    assert code_commit() == COMMIT
    for change, told in (({"dirty": True}, "commit first"), ({"commit": None, "dirty": None}, "no git commit")):
        monkeypatch.setattr(ship_module, "git_state", lambda *paths, change=change: state | change)
        with pytest.raises(KardError, match=told):
            code_commit()


# --- one cell again ---------------------------------------------------------------------------------------------------


def test_a_cell_made_again_is_its_shipped_set(made: Made, clone: Path, trained: list[str], tmp_path: Path) -> None:
    assert check_cell(made.cells[1], 0) is None
    assert sorted(trained) == ["train_reranker", "train_student"] and not (tmp_path / "runs").exists()


def test_a_cell_that_comes_out_otherwise_is_told(made: Made, clone: Path) -> None:
    cell = made.cells[0]
    file = shipped_of(cell)
    assert file is not None
    header, rows = read_set(file)
    false = [row.model_copy(update={"chosen": row.gold}) for row in rows]
    file.write_bytes(pack(header.model_copy(update={"counts": counts(false)}), false))
    told = check_cell(cell, 0)
    assert told and cell.row in told and f"had {len(rows)}" in told and "\n" not in told
    file.unlink()
    assert "no shipped set" in str(check_cell(cell, 0))


def test_answers_that_differ_by_chance_are_counted_and_pass(made: Made, clone: Path) -> None:
    file = shipped_of(made.cells[0])
    assert file is not None
    _, rows = read_set(file)
    moved = [row.model_copy(update={"rationale": "Other words."}) if i < 5 else row for i, row in enumerate(rows)]
    again = compare_again(rows, moved)
    assert (again.different, again.shipped, again.p) == (5, again.here, 1.0)
    with pytest.raises(KardError, match="not of the questions"):
        compare_again(rows, rows[1:])


def test_a_plan_expects_what_it_took_where_it_was_made(made: Made, clone: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("kardlib.plan.cells_of", lambda table, settings: made.cells[1:2])
    cells = study_steps("5", made.cells[1].settings)
    file = Keys(made.cells[1].settings).shipped_file("predictions", name=made.cells[1].method, seed=0)
    taken = read_header(file).seconds
    again = [replace(cell, settings=cell.settings.model_copy(update={"retrain": True})) for cell in cells]
    expected = {text_of(row.cell.job): row.seconds for row in planned(again)}
    assert taken and taken.items() <= expected.items() and {row.close for row in planned(again)} == {False}
    for damaged in clone.rglob("*.xz"):
        damaged.write_bytes(b"no archive")
    assert {row.seconds for row in planned(again)} == {None}
