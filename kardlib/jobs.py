"""Running the steps of an experiment side by side, one thread each.

At mini size a step gains nothing from a second thread, so two run at a time on two cores. One thread each also makes
results independent of how many steps happen to be left. Processes are spawned, not forked, so that Windows works too.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from .presets import Settings

MOST_WORKERS = 8


@dataclass(frozen=True)
class Job:
    """One step: a method of :class:`kardlib.experiment.Experiment` and its arguments (plain values)."""

    step: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.step} {' '.join(str(value) for value in self.arguments.values())}".strip()


def workers() -> int:
    """Steps that run at a time: ``KARD_WORKERS``, else one a core, eight at most; one where there is a GPU."""
    import torch

    if os.environ.get("KARD_WORKERS"):
        return max(1, int(os.environ["KARD_WORKERS"]))
    return 1 if torch.cuda.is_available() else max(1, min(os.cpu_count() or 1, MOST_WORKERS))


def run_jobs(settings: Settings, jobs: Sequence[Job], title: str) -> None:
    """Make the artefacts of all jobs that are not there yet, with a progress bar.

    Args:
        jobs: independent of each other. Whatever is finished when the process is killed stays.
    """
    from .experiment import Experiment

    experiment = Experiment(settings)
    missing = [job for job in jobs if not experiment.has(job.step, **job.arguments)]
    if not missing:
        return
    count = min(workers(), len(missing))
    if count == 1:
        for job in tqdm(missing, desc=title):
            run_job(settings.model_dump(), job)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_quiet) as pool:
        try:
            waiting = {pool.submit(run_job, settings.model_dump(), job): job for job in missing}
            with tqdm(total=len(waiting), desc=title) as bar:
                for done in as_completed(waiting):
                    done.result()
                    bar.set_postfix_str(str(waiting[done])[:60], refresh=False)
                    bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in (pool._processes or {}).values():
                process.terminate()
            raise


_experiments: dict[str, Any] = {}


def run_job(settings: dict[str, Any], job: Job) -> None:
    """Run one job in this process; the data set is kept for the next job of the same settings."""
    import torch

    from .experiment import Experiment

    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    resolved = Settings(**settings)
    key = resolved.model_dump_json()
    if key not in _experiments:
        _experiments.clear()
        _experiments[key] = Experiment(resolved)
    getattr(_experiments[key], job.step)(**job.arguments)


def _quiet() -> None:
    """Workers show no bars of their own, and end with their parent, which may be killed."""
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
