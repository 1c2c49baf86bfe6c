"""Running the steps of an experiment side by side.

A step with a small model gains little from a second thread, so two run at a time on two cores; larger models share the
cores among the seeds. Neither depends on how many steps are left, so a run that was killed has the numbers of one that
was not. Processes are spawned, not forked, so that Windows works too.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .devices import OwnDevice
from .errors import KardError
from .presets import Settings, runs_root
from .progress import SECONDS, StepsBar, told_to

MOST_WORKERS = 8
_OF_ONE_STUDENT = ("adapted", "student", "predictions", "controls")
_RANKINGS = ("untrained", "reranked")  # one a seed, and the untrained encoder's


@dataclass(frozen=True)
class Job:
    """One step: a method of :class:`kardlib.experiment.Experiment` and its arguments (plain values)."""

    step: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.step} {' '.join(str(value) for value in self.arguments.values())}".strip()


Told = SimpleQueue
"""What workers tell: the place of the step among those asked for, and what :func:`kardlib.progress.tell` got."""
Work = tuple[Settings, Job]
"""A job and the settings of the experiment that it belongs to."""


def workers(settings: Settings, step: str = "") -> int:
    """Steps of a kind that run at a time: ``KARD_WORKERS``, else one a core, eight at most; for real data and a model
    that is not small also at most one a seed, each with its share of the cores; one where there is a GPU."""
    import torch

    asked = os.environ.get("KARD_WORKERS")
    if asked:
        if not asked.isdecimal():
            raise KardError(f"KARD_WORKERS = {asked!r}: a number was expected")
        return max(1, int(asked))
    return 1 if torch.cuda.is_available() else max(1, min(cores(), MOST_WORKERS, _most(settings, step)))


def _most(settings: Settings, step: str) -> int:
    if settings.preset == "mini":
        return MOST_WORKERS
    if step in _OF_ONE_STUDENT:
        from .model_shape import shape_of
        from .models import SMALL

        return MOST_WORKERS if shape_of(settings.student).parameters < SMALL else len(settings.seeds)
    return len(settings.seeds) + (step in _RANKINGS)


def threads(settings: Settings, step: str = "") -> int:
    """Threads of one step: one at mini size, else its share of the cores."""
    return 1 if settings.preset == "mini" else max(1, cores() // workers(settings, step))


def step_memory(device: OwnDevice, settings: Settings, step: str = "") -> float:
    """Bytes of one step: a GPU's whole memory, or of the machine's the share that each of the workers has."""
    return device.memory / (workers(settings, step) if device.kind == "cpu" else 1)


def cores() -> int:
    """Cores that this process may use: fewer than the machine has under a container's limit or a process affinity."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):  # no such limit here
        return count


def run_jobs(settings: Settings, jobs: Sequence[Job], title: str) -> None:
    """Make the artefacts of all jobs that are not there yet, with a progress bar.

    Args:
        jobs: independent of each other. Whatever is finished when the process is killed stays.
    """
    run_work([(settings, job) for job in jobs], title)


def run_work(work: Sequence[Work], title: str) -> None:
    """The same for jobs of several experiments; what two of them share is made once."""
    missing = missing_work(work)
    if not missing:
        return
    count = min(workers(settings, job.step) for settings, job in missing)
    with tqdm(total=len(missing), desc=title) as bar:
        steps = StepsBar(bar, [str(job) for _, job in missing])
        if min(count, len(missing)) == 1:
            _one_by_one(missing, steps)
        else:
            _side_by_side(missing, count, steps)


def _one_by_one(work: Sequence[Work], bar: StepsBar) -> None:
    import torch

    before = torch.get_num_threads()
    for place, (settings, job) in enumerate(work):
        with told_to(partial(bar.hear, place)):
            run_job(settings.model_dump(), job)
        bar.finish(place)
    torch.set_num_threads(before)


def _side_by_side(work: Sequence[Work], count: int, bar: StepsBar) -> None:
    pool, told = _pool(count)
    try:
        running = {pool.submit(_run_told, s.model_dump(), job, place): place for place, (s, job) in enumerate(work)}
        while running:
            done, _ = wait(running, SECONDS, FIRST_COMPLETED)
            while not told.empty():
                place, *far = told.get()
                if place in running.values():
                    bar.hear(place, *far)
            for future in done:
                future.result()
                bar.finish(running.pop(future))
    except BaseException:
        _pools.clear()
        processes = list((pool._processes or {}).values())  # shutdown forgets them
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()  # nothing half written is lost or kept: see store.py
        raise


def missing_work(work: Sequence[Work]) -> list[Work]:
    """The jobs whose artefact is not there yet, each artefact once."""
    from .experiment import Experiment

    missing: dict[Path, Work] = {}
    for settings, job in work:
        experiment = Experiment(settings)
        if not experiment.has(job.step, **job.arguments):
            missing.setdefault(experiment.folder(job.step, **job.arguments), (settings, job))
    return list(missing.values())


_pools: dict[int, tuple[ProcessPoolExecutor, Told]] = {}


def _pool(count: int) -> tuple[ProcessPoolExecutor, Told]:
    """Processes that stay for the next steps of this notebook, since starting one takes some seconds of imports, and
    what they tell of their progress."""
    if count not in _pools:
        context = multiprocessing.get_context("spawn")
        told: Told = context.SimpleQueue()
        _pools[count] = ProcessPoolExecutor(count, context, initializer=_begin_worker, initargs=(told,)), told
    return _pools[count]


_told: Told | None = None


def _run_told(settings: dict[str, Any], job: Job, place: int) -> None:
    """One job in a worker; how far it is goes to its parent."""
    told = _told
    assert told is not None, "the worker's initializer has set it"
    with told_to(lambda *far: told.put((place, *far))):
        run_job(settings, job)


_experiments: dict[str, Any] = {}
_KEPT = 4


def run_job(settings: dict[str, Any], job: Job) -> None:
    """Run one job in this process; the data sets of the last few settings are kept for the next jobs."""
    import torch

    from .experiment import Experiment

    resolved = Settings(**settings)
    if not torch.cuda.is_available():
        torch.set_num_threads(threads(resolved, job.step))
    key = f"{runs_root()} {resolved.model_dump_json()}"
    if key not in _experiments:
        for old in list(_experiments)[: max(0, len(_experiments) + 1 - _KEPT)]:
            del _experiments[old]
        _experiments[key] = Experiment(resolved)
    getattr(_experiments[key], job.step)(**job.arguments)


def _begin_worker(told: Told) -> None:
    """Workers tell their progress, show no bars, leave Ctrl-C to their parent, and end with it, which may be killed."""
    global _told
    _told = told
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
