"""Artefacts with the keys of real ones and next to nothing in them, for the tests of what looks at artefacts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from kardlib.experiment import Experiment
from kardlib.jobs import Job
from kardlib.store import artefact
from kardlib.stored import lock_of


def put(experiment: Experiment, job: Job, content: str = "x", seconds: float | None = None) -> Path:
    """Make the artefact of a job, as if its making had taken some seconds."""

    def make(folder: Path) -> None:
        (folder / "model").mkdir()
        (folder / "model" / "content").write_text(content)

    folder = artefact(experiment.root, job.step, experiment.key(job.step, **job.arguments), make)
    if seconds is not None:
        end = (folder / "key.json").stat().st_mtime
        os.utime(lock_of(folder), (end - seconds, end - seconds))
    return folder


def put_all(experiment: Experiment, jobs: Iterable[Job]) -> list[Path]:
    """Make the artefacts of all jobs."""
    return [put(experiment, job) for job in jobs]
