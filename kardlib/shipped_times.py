"""What the steps behind shipped outputs took on the machine that made them, for a plan where nothing has run yet."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import KardError
from .jobs import Job
from .keys import Keys
from .presets import Settings
from .shipped import USUAL, read_header, ships


def text_of(job: Job) -> str:
    """A job as headers name it: what goes unsaid there is left out."""
    return str(Job(job.step, {name: value for name, value in job.arguments.items() if USUAL.get(name) != value}))


def shipped_seconds(settings: Settings, jobs: Iterable[Job]) -> dict[str, float]:
    """Seconds of the shipped outputs among some jobs, and of the trained models behind them.

    Args:
        settings: of all the jobs; ``retrain`` changes nothing.

    Returns:
        By :func:`text_of` the job; nothing of a set that does not ship or is damaged, which the doctor tells.
    """
    keys, taken = Keys(settings), {}
    for job in jobs:
        file = keys.shipped_file(job.step, **job.arguments) if ships(job.step, settings) else None
        if file is None or not file.is_file():
            continue
        try:
            taken |= read_header(file).seconds
        except KardError:
            continue
    return taken
