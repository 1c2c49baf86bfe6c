"""Two runs side by side: what went in differently, what came out differently, which questions flipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kardlib.cli import main
from kardlib.errors import KardError
from kardlib.presets import resolve
from kardlib.records import Prediction, Ranking, write_jsonl
from kardlib.run_diff import RunDiff, changes, diff_runs, find_run, flat, page, pair_rows
from kardlib.runs import ResultRow, open_run

GOLD = {f"q{i}": i % 4 for i in range(12)}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KARD_RUNS", str(tmp_path / "runs"))
    return (tmp_path / "runs").resolve()


def row(**given: object) -> ResultRow:
    usual = dict(
        table="1", dataset="mini-medqa", split="test", student="mini-t5-base", method="KARD (BM25)", metric="accuracy",
        decoding="greedy", settings={"k": 3, "answers": "scored"}, value=50.0, n=12,
    )  # fmt: skip
    return ResultRow(**usual | given)


def answer(question: str, right: bool, seed: int, parsed: bool | None = None, gold: int | None = None) -> Prediction:
    """A prediction that is right or wrong as scored, and right, wrong or the same as written."""
    gold = GOLD[question] if gold is None else gold
    chosen = gold if right else (gold + 1) % 4
    written = right if parsed is None else parsed
    return Prediction(
        question_id=question, method="KARD (BM25)", seed=seed, decoding="greedy", rationale="r", answer="a",
        parsed=gold if written else None, chosen=chosen, gold=gold,
    )  # fmt: skip


def finished(
    predictions: list[Prediction] | None = None, notebook: str = "06_tiny", rows: list[ResultRow] | None = None,
    **parameters: object,
) -> Path:  # fmt: skip
    """Folder of a run with these rows, each with the predictions."""
    run = open_run(notebook, resolve("mini", **parameters), {"data": "abc"})
    rows = [row(settings={"k": run.settings.k, "answers": "scored"})] if rows is None else rows
    if predictions is not None:
        write_jsonl(run.folder / "predictions" / "kard.jsonl", predictions)
        rows = [r.model_copy(update={"predictions": str(run.folder / "predictions" / "kard.jsonl")}) for r in rows]
    run.finish(rows)
    return run.folder


def answers(right: dict[int, set[str]], **given: object) -> list[Prediction]:
    """Answers of several seeds to all questions, right on the given ids."""
    return [answer(q, q in ids, seed, **given) for seed, ids in right.items() for q in GOLD]


# --- finding ----------------------------------------------------------------------------------------------------------


def test_a_run_is_found_by_folder_id_and_notebook(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = finished(k=2), finished(k=3)
    where = second.relative_to(root).as_posix()
    names = [str(second), str(second / "record.json"), where, second.name, second.name[:8], "06_tiny", "06"]
    assert {find_run(name) for name in [*names, str(second.parent), "mini/mini-medqa/06_tiny"]} == {second}
    assert find_run(first.name) == first


def test_a_notebooks_number_goes_before_an_id_that_begins_with_it(root: Path) -> None:
    wanted, other = finished(), finished(notebook="07_tiny")
    other.rename(other.with_name("06" + other.name[2:]))
    assert find_run("06") == wanted and find_run("06" + other.name[2:]).parent.name == "07_tiny"


def test_what_is_not_found_or_not_finished_is_one_line(root: Path) -> None:
    with pytest.raises(KardError, match="nor any other"):
        find_run("06")
    folder = finished()
    with pytest.raises(KardError, match="did you mean '06_tiny'"):
        find_run("06_tinny")
    (folder / "record.json").unlink()
    with pytest.raises(KardError, match="is not finished"):
        find_run("06")


def test_a_notebook_with_runs_of_two_data_sets_is_refused_with_both() -> None:
    runs = [finished(), finished(dataset="openbookqa", teacher="annotations", l=1)]
    with pytest.raises(KardError) as caught:
        find_run("06")
    assert all("/".join(run.parts[-3:]) in str(caught.value) for run in runs)


# --- parameters and provenance ----------------------------------------------------------------------------------------


def test_a_run_does_not_differ_from_itself() -> None:
    run = finished(answers({0: {"q1", "q2"}, 1: {"q3"}}))
    diff = diff_runs(run, run)
    assert not (diff.parameters or diff.provenance or diff.rows or diff.only_first or diff.only_second or diff.remarks)
    assert diff.same_rows == 1 and not any(f.to_wrong or f.to_right for f in diff.flips) and len(diff.flips) == 2
    assert page(diff).count("none differ") == 4


def test_parameters_and_inputs_that_differ_are_named() -> None:
    first = finished(k=2)
    second = finished(k=4, student_lr=1e-3)
    path = second / "record.json"
    record = json.loads(path.read_text())
    record["provenance"]["inputs"] = {"data": "xyz", "more": "1"}
    path.write_text(json.dumps(record))
    diff = diff_runs(first, second)
    assert {c.name: (c.first, c.second) for c in diff.parameters} == {"k": (2, 4), "student_lr": (5e-4, 1e-3)}
    found = {c.name: (c.first, c.second) for c in diff.provenance}
    assert found == {"inputs.data": ("abc", "xyz"), "inputs.more": (None, "1")}


def test_swapping_the_runs_swaps_every_side() -> None:
    runs = finished(answers({0: {"q1", "q2", "q5"}}), k=2), finished(answers({0: {"q2", "q7"}}), k=3)
    there, back = diff_runs(*runs), diff_runs(*reversed(runs))
    assert {(c.name, c.first, c.second) for c in there.parameters} == {
        (c.name, c.second, c.first) for c in back.parameters
    }
    assert [(f.to_wrong, f.to_right) for f in there.flips] == [(f.to_right, f.to_wrong) for f in back.flips]
    assert there.flips[0].to_wrong == ["q1", "q5"] and there.flips[0].to_right == ["q7"]


def test_dotted_names_hold_all_leaves() -> None:
    assert flat({"a": {"b": 1, "c": {"d": 2}}, "e": [3]}) == {"a.b": 1, "a.c.d": 2, "e": [3]}
    assert [c.name for c in changes({"a": 1, "b": None}, {"a": 2, "c": 0})] == ["a", "c"]


# --- rows -------------------------------------------------------------------------------------------------------------


def test_rows_of_runs_with_another_parameter_are_the_same_cell() -> None:
    a = [row(settings={"k": 3, "answers": a}) for a in ("scored", "free")]
    b = [row(settings={"k": 2, "l": 3, "answers": a}, value=v) for a, v in (("free", 1.0), ("scored", 2.0))]
    pairs, *alone = pair_rows(a, b, {"k"})
    assert [(p.first.settings["answers"], p.second.value) for p in pairs] == [("scored", 2.0), ("free", 1.0)]
    assert alone == [[], []]


def test_rows_of_a_table_over_k_are_matched_by_their_k() -> None:
    a = [row(settings={"k": k}, value=float(k)) for k in (1, 2, 3)]
    b = [row(settings={"k": k}, value=10.0 * k) for k in (3, 2, 5)]
    pairs, only_a, only_b = pair_rows(a, b, {"k"})
    assert {(p.first.value, p.second.value) for p in pairs} >= {(2.0, 20.0), (3.0, 30.0)}
    assert len(pairs) + len(only_a) == 3 and len(pairs) + len(only_b) == 3
    assert all(f"k={p.first.settings['k']}" in p.name for p in pairs)


@pytest.mark.parametrize(
    "changed", [{"method": "Fine-tuning"}, {"metric": "hits@1"}, {"dataset": "own"}, {"table": "2"}]
)
def test_another_cell_is_in_one_run_only(changed: dict) -> None:
    diff = diff_runs(finished(rows=[row()]), finished(rows=[row(**changed)], k=2))
    assert (len(diff.only_first), len(diff.only_second), diff.same_rows, diff.rows) == (1, 1, 0, [])


def test_rows_of_a_table_over_l_are_matched_by_their_l_where_k_differs() -> None:
    a, b = ([row(settings={"k": k, "l": n}, value=k * n) for n in (1, 3)] for k in (2, 5))
    pairs, *alone = pair_rows(a, list(reversed(b)), {"k"})
    assert [(p.first.value, p.second.value) for p in pairs] == [(2.0, 5.0), (6.0, 15.0)] and alone == [[], []]


def test_another_student_is_the_same_cell_where_it_is_what_differs() -> None:
    rows = [row()], [row(student="other", value=60.0)]
    assert [p.second.value for p in pair_rows(*rows, {"student"})[0]] == [60.0]


@pytest.mark.parametrize("changed", [{"value": 51.0}, {"ci95": (1.0, 2.0)}, {"parse_failures": 3}, {"n": 13}])
def test_every_number_of_a_row_counts(changed: dict) -> None:
    diff = diff_runs(finished(rows=[row()]), finished(rows=[row(**changed)], k=2))
    assert len(diff.rows) == 1 and diff.same_rows == 0


# --- flips ------------------------------------------------------------------------------------------------------------


def test_flips_are_those_of_brute_force_in_both_readings() -> None:
    right = {0: {"q0", "q1", "q2", "q3"}, 1: {"q4", "q5"}}, {0: {"q2", "q9"}, 1: {"q4", "q5", "q6"}}
    rows = [row(settings={"answers": reading}) for reading in ("scored", "free")]
    # as written, everything is right in the first run and wrong in the second
    runs = [
        finished([answer(q, q in r[seed], seed, parsed=k == 1) for seed in r for q in GOLD], k=k, rows=rows)
        for k, r in zip((1, 2), right, strict=True)
    ]
    flips = {(f.row.endswith("scored"), f.seed): f for f in diff_runs(*runs).flips}
    for seed in (0, 1):
        scored, written = flips[True, seed], flips[False, seed]
        assert set(scored.to_wrong) == right[0][seed] - right[1][seed]
        assert set(scored.to_right) == right[1][seed] - right[0][seed]
        assert set(written.to_wrong) == set(GOLD) and not written.to_right and written.n == len(GOLD)


def test_only_shared_seeds_and_questions_are_compared() -> None:
    first = finished(answers({0: set(), 1: set()}), k=1)
    second = finished([p for p in answers({1: set(GOLD), 2: set()}) if p.question_id != "q3"], k=2)
    diff = diff_runs(first, second)
    assert [(f.seed, f.n, len(f.to_right)) for f in diff.flips] == [(1, 11, 11)]
    assert "seed 0, 2" in diff.remarks[0]


def test_other_questions_under_the_same_ids_are_not_compared() -> None:
    first, second = finished(answers({0: set()}), k=1), finished(answers({0: set()}, gold=3), k=2)
    diff = diff_runs(first, second)
    assert not diff.flips and "not the same questions" in diff.remarks[0]


def ranked(places: list[int], truth: str = "t", **parameters: object) -> Path:
    """A run with hits@1 and hits@3; the right passage of each question stands at its place."""
    run = open_run("06_tiny", resolve("mini", **parameters), {"data": "abc"})
    others = [f"p{i}" for i in range(5)]
    rankings = [
        Ranking(question_id=f"q{i}", method="BM25", seed=0, passages=(*others[:place], "t", *others[place:]),
                truth=(truth, "x"))
        for i, place in enumerate(places)
    ]  # fmt: skip
    write_jsonl(run.folder / "predictions" / "ranking.jsonl", rankings)
    about = dict(method="BM25", student=None, decoding=None, settings={}, table="Fig 4c")
    about["predictions"] = str(run.folder / "predictions" / "ranking.jsonl")
    run.finish([row(**about, metric=f"hits@{k}", value=100 * sum(p < k for p in places) / len(places)) for k in (1, 3)])
    return run.folder


def test_flips_of_hits_are_read_off_the_rankings_for_each_k() -> None:
    diff = diff_runs(ranked([0, 1, 2, 4], k=1), ranked([1, 0, 4, 4], k=2))
    flips = {f.row.rpartition("@")[2]: (f.to_wrong, f.to_right) for f in diff.flips}
    assert flips == {"1": (["q0"], ["q1"]), "3": (["q2"], [])} and not diff.remarks
    assert [pair.name for pair in diff.rows] == ["Fig 4c: BM25, hits@3"] and "wrong now: q0" in page(diff)


def test_rankings_with_another_truth_are_not_compared() -> None:
    diff = diff_runs(ranked([0, 1], k=1), ranked([0, 1], truth="p0", k=2))
    assert not diff.flips and all("not the same questions" in remark for remark in diff.remarks) and diff.remarks


def test_a_run_without_predictions_is_told() -> None:
    first, second = finished(answers({0: set()}), k=1), finished(k=2)
    assert "run B has no raw predictions" in diff_runs(first, second).remarks[0]
    assert not diff_runs(second, second).remarks


def test_a_run_under_another_root_brings_its_own_predictions(root: Path, tmp_path: Path) -> None:
    first = finished(answers({0: {"q1"}}))
    root.rename(tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / first.relative_to(root)
    second = finished(answers({0: {"q2"}}))
    assert second == first
    flips = diff_runs(moved, second).flips
    assert (flips[0].to_wrong, flips[0].to_right) == (["q1"], ["q2"])


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_page_and_the_json_tell_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(value=50.0, ci95=(40, 60))], [row(value=52.5, ci95=(41, 62))]
    first = finished(answers({0: {"q1", "q2"}}), rows=rows[0], k=1)
    second = finished(answers({0: {"q2", "q5", "q6", "q7", "q8"}}), rows=rows[1], k=2)
    assert main(["diff", first.name, "06"]) == 0
    text = capsys.readouterr().out
    assert main(["diff", first.name, "06", "--format", "json"]) == 0
    found = RunDiff.model_validate_json(capsys.readouterr().out)
    assert found == diff_runs(first, second)
    for part in (first.name, second.name, "50.0 (40.0 to 60.0)", "52.5 (41.0 to 62.0)", "+2.5", "wrong now: q1",
                 "right now: q5, q6, q7"):  # fmt: skip
        assert part in text
    assert "q8" not in text and max(map(len, text.splitlines())) < 160


def test_a_missing_run_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "06", "07"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("kard: run 06") and error.count("\n") == 1
