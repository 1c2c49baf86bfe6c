"""How far a step is: told from trainers, rankings and answers, through processes, into one bar."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from kardlib import jobs, progress
from kardlib.candidates import Candidates
from kardlib.generate import Generator
from kardlib.jobs import Job, run_jobs
from kardlib.presets import Settings, resolve
from kardlib.progress import StepsBar, tell, told_to
from kardlib.prompts import Pair
from kardlib.reranker import load_reranker
from kardlib.student import Hyperparameters, train_student

Told = list[tuple[int, int, str]]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0)


@pytest.fixture
def settings() -> Settings:
    return resolve("mini", size="smoke", seeds=[0])


def test_nobody_listens_and_nothing_happens() -> None:
    tell(1, 2)


def test_the_inner_listener_hears_and_then_the_outer_again() -> None:
    outer: Told = []
    inner: Told = []
    with told_to(lambda *far: outer.append(far)):
        tell(1, 3)
        with told_to(lambda *far: inner.append(far)):
            tell(2, 3, "x")
        tell(3, 3)
    assert outer == [(1, 3, ""), (3, 3, "")] and inner == [(2, 3, "x")]


def test_much_is_told_and_little_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS", 3600)
    heard: Told = []
    with told_to(lambda *far: heard.append(far)):
        for step in range(1000):
            tell(step, 1000)
    assert heard == []


def test_steps_that_run_count_by_their_share() -> None:
    bar = tqdm(total=2, file=StringIO())
    steps = StepsBar(bar, ["student KARD 0", "reranker 0"])
    steps.hear(1, 30, 40, "loss 0.5")
    assert bar.n == 0.75 and "reranker 0: 30 of 40, loss 0.5" in str(bar)
    steps.hear(0, 1, 10)
    assert bar.n == 0.85 and "student KARD 0: 1 of 10" in str(bar)
    steps.finish(1)
    assert bar.n == 1.1 and "reranker" not in str(bar)
    steps.finish(0)
    assert bar.n == 2 and isinstance(bar.n, int) and "student KARD 0" in str(bar)


def test_a_bar_that_is_kept_in_a_notebook_is_not_drawn_at_each_step() -> None:
    shown = StringIO()
    bar = tqdm(total=2, file=shown, mininterval=3600)
    steps = StepsBar(bar, ["student KARD 0", "reranker 0"])
    for step in range(50):
        steps.hear(0, step, 100)
    assert "0 of 100" in shown.getvalue() and "49 of 100" not in shown.getvalue() and "49 of 100" in str(bar)
    steps.finish(0)
    steps.finish(1)
    assert "2/2" in shown.getvalue()


def test_training_answering_and_ranking_tell(tiny_t5: str, tiny_bert: str, tmp_path: Path) -> None:
    heard: Told = []
    hyper = Hyperparameters(1e-3, 2, 2, 16, 8)
    with told_to(lambda *far: heard.append(far)):
        train_student(tiny_t5, [Pair("a", "b")] * 3, hyper, 0, tmp_path / "model", tmp_path / "work")
    assert [far[:2] for far in heard] == [(1, 3), (2, 3), (3, 3)]
    heard.clear()
    with told_to(lambda *far: heard.append(far)):
        Generator(tiny_t5, 16, 4, batch=2).greedy(["a", "b", "c"])
        Generator(tiny_t5, 16, 4, batch=2).likeliest(["a", "b", "c"], [""] * 3, [["x", "y"]] * 3)
    assert heard == [(n, 3, what) for what in ("answers written", "options scored") for n in (2, 3)]
    heard.clear()
    found = [Candidates(key="q", passages=("1",), scores=(1.0,))] * 2
    with told_to(lambda *far: heard.append(far)):
        load_reranker(tiny_bert, "late-interaction").rank(["a", "b"], found, {"1": "c"})
    assert heard == [(2, 2, "questions ranked")]


def test_a_step_in_this_process_is_shown_as_it_goes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KARD_WORKERS", "1")
    monkeypatch.setattr(jobs, "missing_work", list)
    monkeypatch.setattr(jobs, "run_job", lambda given, job: tell(1, 2, "loss 1.000"))
    run_jobs(settings, [Job("student", {"training": "KARD", "seed": 0})], "training")
    assert "student KARD 0: 1 of 2, loss 1.000" in capsys.readouterr().err


def test_a_worker_tells_its_parent_which_step_is_meant() -> None:
    context = jobs.multiprocessing.get_context("spawn")
    told = context.SimpleQueue()
    process = context.Process(target=_worker, args=(told,))
    process.start()
    process.join()
    assert process.exitcode == 0 and told.get() == (3, 1, 2, "loss 1.000") and told.empty()


def _worker(told: Any) -> None:
    jobs._told = told
    progress.SECONDS = 0
    jobs.run_job = lambda settings, job: tell(1, 2, "loss 1.000")
    jobs._run_told({}, Job("student"), 3)
