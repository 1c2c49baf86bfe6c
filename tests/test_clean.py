"""Freeing space: by kind, asked first, whole artefacts only, never beside the records."""

from __future__ import annotations

import io
import multiprocessing
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from constructed import put, put_all
from filelock import FileLock

from kardlib import clean as clean_module
from kardlib import keys as keys_module
from kardlib import runs
from kardlib.clean import GONE, clean, everything, leftovers, outdated
from kardlib.cli import main
from kardlib.errors import KardError
from kardlib.experiment import Experiment
from kardlib.jobs import Job
from kardlib.methods import METHODS
from kardlib.plan import main_cells
from kardlib.presets import Settings, resolve
from kardlib.stored import stored
from kardlib.table_jobs import main_jobs

STUDENT = Job("student", {"training": "KARD", "seed": 0})
KARD_ROWS = [row.name for row in METHODS if row.name.startswith("KARD")]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the artefacts; beside it a run with a record and predictions that must outlive everything."""
    monkeypatch.setenv("KARD_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(runs, "MODELS_DIR", tmp_path / "none")  # no model is hashed
    run = tmp_path / "runs" / "mini" / "mini-medqa" / "06_tiny" / "0123456789ab"
    (run / "predictions").mkdir(parents=True)
    for file in (run / "record.json", run / "predictions" / "kard.jsonl", run.parent / "latest"):
        file.write_text("precious")
    return (tmp_path / "runs").resolve() / "artefacts"


@pytest.fixture
def settings() -> Settings:
    return resolve("mini", seeds=(0, 1))


@pytest.fixture
def experiment(settings: Settings) -> Experiment:
    return Experiment(settings)


def files(folder: Path) -> set[str]:
    """Everything below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def precious(root: Path) -> int:
    """How many files beside the artefacts are as they were."""
    return sum(f.read_text() == "precious" for f in root.parent.rglob("*") if f.is_file() and root not in f.parents)


def test_a_kind_goes_whole_and_nothing_else(root: Path, experiment: Experiment, settings: Settings) -> None:
    jobs = [cell.job for cell in main_cells(settings)]
    put_all(experiment, jobs)
    said: list[str] = []
    freed = clean(["student"], agreed=True, say=said.append)
    assert not list((root / "student").iterdir()) and freed > 0
    assert all(experiment.has(job.step, **job.arguments) == (job.step != "student") for job in jobs)
    assert precious(root) == 3
    assert any("student" in line and "8" in line.split() for line in said)


def test_bytes_freed_are_bytes_that_were_there(root: Path, experiment: Experiment) -> None:
    folder = put(experiment, STUDENT, "x" * 1234)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    assert clean(["student"], agreed=True, say=lambda _: None) == size > 1234


@pytest.mark.parametrize("options", [{}, {"kinds": ["student"], "dry_run": True, "agreed": True}])
def test_showing_removes_nothing(root: Path, experiment: Experiment, options: dict) -> None:
    put_all(experiment, [Job("rationales"), STUDENT])
    before = files(root)
    assert clean(**options, say=lambda _: None) == 0
    assert files(root) == before


@pytest.mark.parametrize("answer, gone", [("y", True), ("YES", True), ("n", False), ("", False), ("yeah", False)])
def test_it_asks_after_it_has_said_what_would_go(experiment: Experiment, answer: str, gone: bool) -> None:
    put(experiment, STUDENT)
    said: list[str] = []

    def ask(question: str) -> str:
        assert any("student" in line for line in said)
        return answer

    clean(["student"], say=said.append, ask=ask)
    assert experiment.has(STUDENT.step, **STUDENT.arguments) != gone


def test_where_nobody_can_be_asked_it_wants_yes(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    put(experiment, STUDENT)
    assert main(["clean", "--kind", "student"]) == 2
    assert "--yes" in capsys.readouterr().err and experiment.has(STUDENT.step, **STUDENT.arguments)
    assert main(["clean", "--kind", "student", "--yes"]) == 0
    assert not experiment.has(STUDENT.step, **STUDENT.arguments)


def test_an_answer_that_does_not_come_is_a_no(experiment: Experiment) -> None:
    def ask(question: str) -> str:
        raise EOFError

    put(experiment, STUDENT)
    assert clean(["student"], say=lambda _: None, ask=ask) == 0
    assert experiment.has(STUDENT.step, **STUDENT.arguments)


def test_an_unknown_kind_is_told_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", "--kind", "students"]) == 2
    assert "did you mean 'student'" in capsys.readouterr().err


def test_a_folder_that_is_no_artefact_is_left_alone(root: Path) -> None:
    for name in ("notes", "0123456789ab.tar", "0123456789abc"):
        (root / "student" / name).mkdir(parents=True)
        (root / "student" / name / "key.json").write_text("{}")
    before = files(root)
    clean(["student", "leftovers", "checkpoints"], agreed=True, say=lambda _: None)
    assert files(root) == before


# --- checkpoints ------------------------------------------------------------------------------------------------------


def checkpoints(root: Path) -> set[Path]:
    return {item.path for item in everything(root) if item.kind == "checkpoints"}


def test_a_student_is_a_checkpoint_when_all_its_answers_are_there(root: Path, experiment: Experiment) -> None:
    folder = put(experiment, STUDENT)
    asking = [j for j in main_jobs(experiment) if j.arguments["name"].startswith("KARD") and j.arguments["seed"] == 0]
    assert len(asking) == 3
    for job in asking:
        assert folder not in checkpoints(root)
        put(experiment, job)
    assert folder in checkpoints(root)


def test_answers_to_dev_questions_or_of_another_seed_do_not_count(root: Path, experiment: Experiment) -> None:
    put(experiment, STUDENT)
    for name in (job.arguments["name"] for job in main_jobs(experiment) if job.arguments["name"].startswith("KARD")):
        put(experiment, Job("predictions", {"name": name, "seed": 0, "split": "dev"}))
        put(experiment, Job("predictions", {"name": name, "seed": 0, "decoding": "vote5"}))
        put(experiment, Job("predictions", {"name": name, "seed": 1}))
    assert not checkpoints(root)


def test_answers_of_older_code_do_not_count(
    root: Path, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(experiment, STUDENT)
    put_all(experiment, [j for j in main_jobs(experiment) if j.arguments["name"].startswith("KARD")])
    assert folder in checkpoints(root)
    now = keys_module.code
    monkeypatch.setattr(keys_module, "code", lambda m: "other" if "predict" in m else now(m))
    assert folder not in checkpoints(root), "no answer of the present code is there"


def test_a_student_of_a_study_is_a_checkpoint_when_the_studys_own_answers_are_there(
    root: Path, experiment: Experiment
) -> None:
    for changes, names in (
        ({"dapt": "related"}, ["KARD (Reranker)"]),
        ({"share": 0.25}, ["KARD (BM25)", "KARD (Reranker)"]),
        ({"prompt_as_released": True}, ["KARD (Reranker)"]),
        ({"share": 0.25, "dapt": "related"}, KARD_ROWS),
        ({"k": 1}, KARD_ROWS),
    ):
        other = experiment.with_settings(**changes)
        put_all(other, [Job("rationales"), Job("verdicts")])
        folder = put(other, STUDENT)
        for name in names:
            assert folder not in checkpoints(root), changes
            put(other, Job("predictions", {"name": name, "seed": 0}))
        assert folder in checkpoints(root), changes


def test_what_rag_and_dapt_are_made_of_is_a_checkpoint_when_these_are_there(root: Path, experiment: Experiment) -> None:
    other = experiment.with_settings(dapt="related")
    adapted, retriever, rag = (
        put(e, Job(step, {"seed": 0}))
        for e, step in ((other, "adapted"), (experiment, "retriever"), (experiment, "rag"))
    )
    put(other, STUDENT)
    assert checkpoints(root) == {retriever}
    put(other, Job("student", {"training": "Reasoning Distillation", "seed": 0}))
    put(experiment, Job("predictions", {"name": "RAG + Reasoning Distillation", "seed": 0}))
    assert checkpoints(root) == {adapted, retriever, rag}


def test_stores_of_passage_vectors_are_a_kind_and_no_leftover(root: Path, experiment: Experiment) -> None:
    put(experiment, STUDENT)
    segment = root / "passage-vectors" / f"{'0' * 12}-float16" / "000000"
    segment.mkdir(parents=True)
    (segment / "vectors.npy").write_text("x" * 10)
    assert not leftovers(root)
    assert clean(["passage-vectors"], agreed=True, say=lambda _: None) == 10
    assert not segment.parent.exists() and experiment.has(STUDENT.step, **STUDENT.arguments)


def test_a_reranker_is_a_checkpoint_when_its_ranking_is_there(root: Path, experiment: Experiment) -> None:
    folders = put_all(experiment, [Job("reranker", {"seed": seed}) for seed in (0, 1)])
    put(experiment, Job("reranked", {"seed": 1}))
    put(experiment, Job("reranked", {"seed": 0, "split": "dev"}))
    assert checkpoints(root) == {folders[1]}


def test_answers_stay_valid_without_their_checkpoints(experiment: Experiment, settings: Settings) -> None:
    jobs = [cell.job for cell in main_cells(settings)]
    put_all(experiment, jobs)
    clean(["checkpoints"], agreed=True, say=lambda _: None)
    left = {job.step for job in jobs if experiment.has(job.step, **job.arguments)}
    assert left == {job.step for job in jobs} - {"student", "reranker"}
    assert all(experiment.has(job.step, **job.arguments) for job in jobs if job.step in left)


# --- leftovers and locks ----------------------------------------------------------------------------------------------


def test_leftovers_are_what_no_finished_artefact_is(root: Path, experiment: Experiment) -> None:
    whole = put(experiment, STUDENT)
    kind = root / "student"
    for name in ("a" * 12, "b" * 12 + ".partial", "c" * 12 + GONE):
        (kind / name / "work").mkdir(parents=True)
        (kind / name / "work" / "half").write_text("x" * 10)
    for name in ("b" * 12, "d" * 12):
        (kind / f"{name}.lock").touch()
    assert {item.path.name for item in leftovers(root)} == {
        "a" * 12, "b" * 12 + ".partial", "b" * 12 + ".lock", "c" * 12 + GONE, "d" * 12 + ".lock",
    }  # fmt: skip
    assert clean(["leftovers"], agreed=True, say=lambda _: None) == 30
    assert {path.name for path in kind.iterdir()} == {whole.name, f"{whole.name}.lock"}


def test_what_was_removed_can_be_made_again_with_its_own_time(root: Path, experiment: Experiment) -> None:
    folder = put(experiment, STUDENT, seconds=1000)
    clean(["student"], agreed=True, say=lambda _: None)
    assert not folder.with_suffix(".lock").exists()
    assert put(experiment, STUDENT) == folder
    assert (stored(root)[0].seconds or 0) < 500


def test_a_removal_that_is_cut_off_leaves_nothing_that_looks_finished(
    root: Path, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(experiment, STUDENT)

    def killed(path: Path) -> None:
        (path / "model" / "content").unlink()
        raise OSError("killed")

    monkeypatch.setattr(clean_module.shutil, "rmtree", killed)
    with pytest.raises(KardError, match="cannot be removed"):
        clean(["student"], agreed=True, say=lambda _: None)
    monkeypatch.undo()
    assert not stored(root) and any(item.path.name.endswith(GONE) for item in leftovers(root))


def hold(lock: str, held: Event, done: Event) -> None:
    """What a process does that is making an artefact."""
    with FileLock(lock):
        held.set()
        done.wait(60)


def test_it_refuses_while_a_live_process_makes_an_artefact(root: Path, experiment: Experiment) -> None:
    put(experiment, STUDENT)
    (root / "pools").mkdir()
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(str(root / "pools" / f"{'e' * 12}.lock"), held, done))
    process.start()
    try:
        assert held.wait(60)
        for kinds in (["student"], ["leftovers"]):
            with pytest.raises(KardError, match="pools eeeeeeeeeeee: a running process"):
                clean(kinds, agreed=True, say=lambda _: None)
        assert experiment.has(STUDENT.step, **STUDENT.arguments)
    finally:
        done.set()
        process.join(60)
    clean(["student"], agreed=True, say=lambda _: None)
    assert not experiment.has(STUDENT.step, **STUDENT.arguments)


# --- unused -----------------------------------------------------------------------------------------------------------


def test_unused_is_what_other_code_has_made_and_what_was_made_from_it(
    root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [cell.job for cell in main_cells(settings)]
    put_all(Experiment(settings), jobs)
    assert not outdated(stored(root))
    now = keys_module.code
    monkeypatch.setattr(keys_module, "code", lambda m: "other" if "candidates" in m else now(m))
    experiment = Experiment(settings)
    kept = {experiment.folder(job.step, **job.arguments) for job in jobs if experiment.has(job.step, **job.arguments)}
    stale = {artefact.folder for artefact in outdated(stored(root))}
    everything_made = {artefact.folder for artefact in stored(root)}
    assert stale == everything_made - kept and kept and stale
    clean(unused=True, agreed=True, say=lambda _: None)
    assert {artefact.folder for artefact in stored(root)} == kept


def test_unused_of_one_kind(root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    put_all(Experiment(settings), [cell.job for cell in main_cells(settings)])
    monkeypatch.setattr(keys_module, "code", lambda _: "other")
    clean(["pools"], unused=True, agreed=True, say=lambda _: None)
    assert {artefact.kind for artefact in stored(root)} == {
        "rationales", "verdicts", "reranker", "reranked", "rankings", "student", "predictions",
    }  # fmt: skip


def test_a_step_that_this_version_does_not_know_is_kept(root: Path, experiment: Experiment) -> None:
    folder = root / "compressor" / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "key.json").write_text('{"step": "compressor", "code": "other"}')
    assert not outdated(stored(root))
    clean(["compressor"], agreed=True, say=lambda _: None)
    assert not folder.exists()
