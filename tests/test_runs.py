"""Run folders, records and provenance."""

from __future__ import annotations

import getpass
import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from kardlib import runs
from kardlib.errors import KardError
from kardlib.presets import resolve
from kardlib.runs import SUMMARY, ResultRow, input_hashes, open_run, public_parameters, read_record, run_folder

ROW = dict(table="1", dataset="mini-medqa", split="test", method="KARD (BM25)", metric="accuracy", value=50.0, n=10)
FIELDS = (
    "table dataset paper_dataset split student paper_student method metric decoding settings value sd seeds ci95 n "
    "parse_failures oracle predictions"
)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KARD_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("KARD_DATA", raising=False)
    return (tmp_path / "runs").resolve()


def test_a_row_has_exactly_the_documented_fields() -> None:
    assert list(ResultRow(**ROW).model_dump()) == FIELDS.split()


@pytest.mark.parametrize(
    "change",
    [dict(ci95=(60, 40)), dict(n=0), dict(decoding="beam"), dict(value=float("nan")), dict(surprise=1), dict(sd=-1)],
)
def test_a_faulty_row_is_refused(change: dict) -> None:
    with pytest.raises(ValidationError):
        ResultRow(**{**ROW, **change})


def test_record_is_written_whole_and_latest_points_at_it(root: Path) -> None:
    run = open_run("06_tiny", resolve("mini"), {"data": "abc"})
    raw = run.folder / "predictions.jsonl"
    run.finish([ResultRow(**ROW, predictions=str(raw))], ["a note"])
    path = run.folder / "record.json"
    record = json.loads(path.read_text())
    assert list(record)[:8] == ("notebook preset dataset parameters results provenance seconds peak_memory_mb".split())
    assert record["results"][0]["predictions"] == raw.relative_to(root).as_posix()
    assert record["provenance"]["inputs"] == {"data": "abc"}
    assert record["peak_memory_mb"] > 1 and record["seconds"] >= 0
    assert run.folder == root / "mini" / "mini-medqa" / "06_tiny" / (run.folder.parent / "latest").read_text().strip()
    assert sorted(p.name for p in run.folder.iterdir()) == ["record.json"]


def test_id_depends_on_every_parameter_input_and_extra() -> None:
    base = run_folder("n", resolve("mini"), {"a": "1"}, {"x": 1})
    others = {
        run_folder("n", resolve("mini", k=2), {"a": "1"}, {"x": 1}),
        run_folder("n", resolve("mini"), {"a": "2"}, {"x": 1}),
        run_folder("n", resolve("mini"), {"a": "1"}, {"x": 2}),
    }
    assert run_folder("n", resolve("mini"), {"a": "1"}, {"x": 1}) == base
    assert len(others | {base}) == 4


def test_a_cached_repetition_keeps_the_first_record_but_other_results_replace_it() -> None:
    run = open_run("n", resolve("mini"), {})
    run.finish([ResultRow(**ROW)])
    path = run.folder / "record.json"
    path.write_text(re.sub(r'"seconds": [\d.]+', '"seconds": 99.0', path.read_text()))
    open_run("n", resolve("mini"), {}).finish([ResultRow(**ROW)])
    assert read_record(path).seconds == 99.0
    open_run("n", resolve("mini"), {}).finish([ResultRow(**{**ROW, "value": 51.0})])
    assert read_record(path).results[0].value == 51.0


def test_latest_goes_back_to_a_run_that_is_made_again() -> None:
    first, second = open_run("n", resolve("mini"), {}), open_run("n", resolve("mini", k=2), {})
    for run in (first, second, first):
        run.finish([ResultRow(**ROW)])
    assert (first.folder.parent / "latest").read_text().strip() == first.folder.name


def test_nothing_private_gets_into_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "tell-nobody")
    data = tmp_path / "my-data" / "openbookqa"
    data.mkdir(parents=True)
    (data / "openbook.txt").write_text("a fact")
    settings = resolve("laptop", data_dir=str(data.parent), student=str(tmp_path / "student-x"))
    run = open_run("n", settings)
    run.finish([ResultRow(**ROW)])
    text = (run.folder / "record.json").read_text()
    assert "tell-nobody" not in text and str(tmp_path) not in text and str(Path.home()) + "/" not in text
    user = getpass.getuser()
    assert f"/{user}/" not in text and f'"{user}"' not in text
    assert '"my-data"' in text and '"student-x"' in text


def test_predictions_outside_the_root_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KardError, match="outside"):
        open_run("n", resolve("mini"), {}).finish([ResultRow(**ROW, predictions=str(tmp_path / "p.jsonl"))])


def test_inputs_follow_the_data_of_the_set_alone(tmp_path: Path) -> None:
    for name in ("openbookqa", "strategyqa"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "x.txt").write_text("one")
    settings = resolve("laptop", data_dir=str(tmp_path / "data"))
    before = input_hashes(settings)
    (tmp_path / "data" / "strategyqa" / "x.txt").write_text("two")
    assert input_hashes(settings) == before
    (tmp_path / "data" / "openbookqa" / "x.txt").write_text("two")
    changed = {name for name, value in input_hashes(settings).items() if value != before[name]}
    assert changed == {"data openbookqa"}


def test_the_place_of_a_folder_does_not_change_the_id(tmp_path: Path) -> None:
    here, there = (public_parameters(resolve("laptop", data_dir=str(tmp_path / p / "data"))) for p in ("a", "b"))
    assert here == there


def test_sources_and_a_model_folder_are_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "MODELS_DIR", tmp_path)
    (tmp_path / "mini-bert").mkdir()
    (tmp_path / "mini-bert" / "config.json").write_text("{}")
    found = input_hashes(resolve("mini"))
    assert {"kardlib", "paper_results.csv", "encoder mini-bert"} <= set(found)


def test_the_summary_is_another_run_where_a_record_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARD_RUNS", str(tmp_path / "runs"))
    settings = resolve("mini")

    def folder(notebook: str) -> Path:
        return open_run(notebook, settings).folder

    places = {name: [folder(name)] for name in (SUMMARY, "06_main_results")}
    open_run("06_main_results", settings).finish([ResultRow(**ROW)])
    places[SUMMARY].append(folder(SUMMARY))
    open_run(SUMMARY, settings).finish([])
    assert folder(SUMMARY) == places[SUMMARY][1] != places[SUMMARY][0], "its own record is not summed up"
    other = open_run("06_main_results", resolve("mini", k=2))
    other.finish([ResultRow(**ROW)])
    assert folder(SUMMARY) not in places[SUMMARY] and folder("06_main_results") == places["06_main_results"][0]
    monkeypatch.setattr(runs, "CLAIMS", tmp_path / "claims.jsonl")
    before = folder(SUMMARY)
    (tmp_path / "claims.jsonl").write_text("{}")
    assert folder(SUMMARY) != before


def test_a_missing_data_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(KardError, match="nowhere: no such folder .it is the data_dir"):
        input_hashes(resolve("laptop", data_dir=str(tmp_path / "nowhere")))


def test_a_broken_record_is_named_with_its_field(tmp_path: Path) -> None:
    run = open_run("n", resolve("mini"), {})
    run.finish([ResultRow(**ROW)])
    path = run.folder / "record.json"
    path.write_text(path.read_text().replace('"value": 50.0', '"value": "many"'))
    with pytest.raises(KardError, match=r"record.json: field results.0.value"):
        read_record(path)
    with pytest.raises(KardError, match="cannot be read"):
        read_record(tmp_path / "none.json")
