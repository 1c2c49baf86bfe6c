"""What is made of a table and what is to do: nothing is made by asking."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from constructed import put, put_all

from kardlib import plan as plan_module
from kardlib import runs, table_jobs
from kardlib.cli import main
from kardlib.experiment import Experiment
from kardlib.jobs import Job
from kardlib.methods import METHODS, method
from kardlib.plain_text import columns, size_text, time_text
from kardlib.plan import Step, main_cells, plan, planned, steps_of
from kardlib.presets import REPOSITORY, Settings, resolve
from kardlib.steps import behind, missing
from kardlib.stored import Times, stored, upstream_names
from kardlib.table_jobs import main_jobs, training_jobs


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KARD_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(runs, "MODELS_DIR", tmp_path / "none")  # no model is hashed
    return (tmp_path / "runs").resolve()


@pytest.fixture
def settings() -> Settings:
    return resolve("mini", seeds=(0, 1))


def states(cells: list[Step]) -> dict[str, list[str]]:
    """State of every cell by its job's step."""
    found: dict[str, list[str]] = {}
    for row in planned(cells):
        found.setdefault(row.cell.job.step, []).append(row.state)
    return found


def test_cells_are_what_the_main_table_makes(settings: Settings) -> None:
    experiment = Experiment(settings)
    jobs = [cell.job for cell in main_cells(settings)]
    assert all(job in jobs for job in [*training_jobs(experiment), *main_jobs(experiment)])
    folders = {experiment.folder(job.step, **job.arguments) for job in jobs}
    assert len(folders) == len(jobs)
    for job in jobs:  # and nothing that one of them needs is left out
        assert {experiment.folder(b.step, **b.arguments) for b in behind(job, settings)} <= folders


@pytest.mark.parametrize("filtered", [True, False])
def test_the_steps_behind_a_step_are_those_its_key_names(filtered: bool) -> None:
    settings = resolve("mini", seeds=(0,), filter=filtered)
    experiment = Experiment(settings)
    trained = [job for job in main_jobs(experiment) if method(job.arguments["name"]).training]
    others = [Job("pools"), Job("verdicts"), Job("reranked", {"seed": 0}), Job("reranked", {"seed": 0, "split": "dev"})]
    others += [Job("rankings", {"seed": 0}), Job("rankings", {"seed": 0, "split": "dev"})]
    for job in [*training_jobs(experiment), *others, *trained]:
        before = {experiment.folder(b.step, **b.arguments).name for b in behind(job, settings)}
        assert before == upstream_names(experiment.key(job.step, **job.arguments)), job


def test_nothing_is_made_by_asking(root: Path, settings: Settings) -> None:
    assert set(sum(states(main_cells(settings)).values(), [])) == {"to do"}
    plan(settings)
    assert not root.exists()


def test_what_is_finished_is_cached_and_counted_with_its_size(settings: Settings) -> None:
    experiment = Experiment(settings)
    job = Job("student", {"training": "KARD", "seed": 1})
    folder = put(experiment, job, "x" * 5000)
    rows = {row.folder: row for row in planned(main_cells(settings))}
    assert [path for path, row in rows.items() if row.state == "cached"] == [folder]
    assert rows[folder].bytes == sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) > 5000
    assert rows[folder].cell.seed == 1 and rows[folder].cell.method == "KARD"


def test_a_model_that_is_gone_is_not_needed_where_its_answers_are_there(settings: Settings) -> None:
    experiment = Experiment(settings)
    put_all(experiment, [cell.job for cell in main_cells(settings) if cell.job.step not in ("student", "reranker")])
    found = states(main_cells(settings))
    assert set(found["student"]) == set(found["reranker"]) == {"not needed"}
    assert {state for step, s in found.items() if step not in ("student", "reranker") for state in s} == {"cached"}


def test_one_missing_answer_needs_its_student_alone(settings: Settings) -> None:
    experiment = Experiment(settings)
    left_out = Job("predictions", {"name": "KARD (BM25)", "seed": 1, "decoding": "greedy"})
    jobs = [cell.job for cell in main_cells(settings) if cell.job.step not in ("student", "reranker")]
    put_all(experiment, [job for job in jobs if job != left_out])
    wanted = missing(experiment, jobs)
    assert sorted(str(job) for job in wanted.values()) == sorted([str(left_out), "student KARD 1"])
    found = [row for row in planned(main_cells(settings)) if row.state == "to do"]
    assert {row.folder for row in found} == set(wanted)


def test_the_main_table_trains_what_is_to_do_and_no_more(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(table_jobs, "prepare", lambda experiment: None)
    monkeypatch.setattr(
        table_jobs, "run_jobs", lambda s, jobs, title: asked.extend(map(str, jobs)) if title == "training" else 0
    )
    experiment = Experiment(settings)
    table_jobs.make_main_table(experiment)
    assert sorted(asked) == sorted(str(job) for job in training_jobs(experiment))
    asked.clear()
    left_out = Job("predictions", {"name": "KA Fine-tuning", "seed": 0, "decoding": "greedy"})
    jobs = [cell.job for cell in main_cells(settings) if cell.job.step not in ("student", "reranker")]
    put_all(experiment, [job for job in jobs if job != left_out])
    table_jobs.make_main_table(experiment)
    assert asked == ["student KA Fine-tuning 0"]


def test_what_two_tables_share_counts_once(settings: Settings) -> None:
    changed = settings.model_copy(update={"k": 2})
    both = planned([*main_cells(settings), *main_cells(changed)])
    alone = planned(main_cells(settings))
    assert len({row.folder for row in both}) == len(both) < 2 * len(alone)
    without_passages = {m.name for m in METHODS if m.test_query == "none"}
    again = {r.cell.method for r in both if r.cell.settings == changed and r.cell.job.step == "predictions"}
    assert again and not again & without_passages


def test_a_further_table_is_one_more_entry(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def ablation(asked: Settings, decodings: object) -> list[Step]:
        changed = asked.model_copy(update={"l": 7})
        return steps_of("rationales", changed, [Job("rationales"), Job("student", {"training": "KARD", "seed": 0})])

    before = plan(settings)
    monkeypatch.setitem(plan_module.TABLES, "rationales", ablation)
    after = plan(settings, tables=("main", "rationales"))
    assert "l=7" in after and "l=7" not in before


# --- times ------------------------------------------------------------------------------------------------------------


def test_times_are_those_of_other_seeds_of_the_same_work(settings: Settings) -> None:
    experiment = Experiment(settings.model_copy(update={"seeds": (0, 1, 2, 3)}))
    put(experiment, Job("rationales"))
    put(experiment, Job("verdicts"))
    for seed, seconds in ((0, 100.0), (1, 300.0), (2, 110.0)):
        put(experiment, Job("student", {"training": "KARD", "seed": seed}), seconds=seconds)
    times = Times(stored(experiment.root))
    asked = experiment.key("student", training="KARD", seed=3)
    assert times.estimate(asked) == (pytest.approx(110, abs=0.01), True)
    assert times.estimate(experiment.key("student", training="Fine-tuning", seed=3)) is None
    assert times.estimate(experiment.key("reranker", seed=3)) is None


def test_other_settings_give_a_rough_time_and_another_size_none(settings: Settings) -> None:
    experiment = Experiment(settings)
    put_all(experiment, [Job("rationales"), Job("verdicts")])
    put(experiment, Job("student", {"training": "KARD", "seed": 0}), seconds=100)
    job = Job("student", {"training": "KARD", "seed": 0})

    def estimate(**changed: object) -> tuple[float, bool] | None:
        other = settings.model_copy(update=changed)
        rows = planned(main_cells(other))
        row = next(row for row in rows if row.cell.job == job)
        return None if row.seconds is None else (round(row.seconds), row.close)

    assert estimate(l=2) == estimate(k=2) == (100, False)
    assert estimate(size="smoke") is None
    assert estimate(student="mini-t5-large") is None


def test_a_time_is_not_known_without_the_lock_file(settings: Settings) -> None:
    folder = put(Experiment(settings), Job("rationales"), seconds=50)
    assert stored(folder.parent.parent)[0].seconds == pytest.approx(50, abs=0.01)
    os.unlink(f"{folder}.lock")
    assert stored(folder.parent.parent)[0].seconds is None


def test_the_page_says_what_is_not_known(settings: Settings) -> None:
    experiment = Experiment(settings)
    put_all(experiment, [Job("rationales"), Job("verdicts")])
    put(experiment, Job("student", {"training": "KARD", "seed": 0}), seconds=300)
    lines = {line.split()[0]: line for line in plan(settings).splitlines() if line.startswith("  ")}
    assert "5 min + 6 not known" in lines["student"] and "not known yet" in lines["reranker"]


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_needs_no_torch_and_takes_parameters(root: Path) -> None:
    script = (
        "import sys; from kardlib.cli import main; code = main(sys.argv[1:]);"
        "print(code, [m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    )
    command = [sys.executable, "-c", script, "plan", "-p", "seeds=4", "-p", "vote=true"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert "to do 4" in done.stdout and "vote5" in done.stdout and not root.exists()


def test_bad_parameters_are_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-p", "kk=1"]) == 2
    assert "did you mean 'k'" in capsys.readouterr().err


@pytest.mark.parametrize("count, text", [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (66_400_000, "66.4 MB")])
def test_sizes(count: int, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize("seconds, text", [(0.4, "0 s"), (99, "99 s"), (720, "12 min"), (7500, "2 h 05 min")])
def test_times(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_columns_stand_below_each_other() -> None:
    lines = columns([("a", "1", "x"), ("bbb", "22", "y")], right=(1,))
    assert lines == ["  a     1  x", "  bbb  22  y"]
