"""``kard ship``: write finished outputs to ``data/records/``, and check what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from . import shipped
from .controls_table import control_jobs
from .errors import KardError
from .experiment import Experiment
from .jobs import Job, Work
from .keys import Keys, Split
from .methods import method
from .plain_text import size_text
from .presets import REPOSITORY, Settings, nearest, resolve, runs_root
from .provenance import device, git_state, versions
from .records import Prediction, Question
from .report import find_runs
from .runs import read_record
from .shipped import ENDING, Header, Judged, constant, counts, data_hash, pack, read_set, shipped_files
from .shipped_times import text_of
from .steps import all_behind, missing
from .store import atomic_write, fingerprint
from .stored import seconds_of
from .studies import STUDIES, Cell, cells_of, study
from .table_jobs import main_jobs, ranking_jobs

LIMIT = 15_000_000
"""Bytes that all shipped sets may take together."""
FIGURES = REPOSITORY / "figures"
_CODE = ("kardlib", "data/models")


def table_work(tables: Sequence[str]) -> list[Work]:
    """The outputs behind some tables under the mini preset: predictions of all cells, and rankings where they rerank.

    Args:
        tables: ``main``, ``controls``, names of studies, or ``all``.

    Raises:
        KardError: there is no such table.
    """
    known = ["main", *STUDIES, "controls"]
    unknown = next((name for name in tables if name not in [*known, "all"]), None)
    if unknown is not None:
        raise KardError(f"table {unknown!r}: there is none of that name{nearest(unknown, [*known, 'all'])}")
    settings = resolve("mini")
    work: list[Work] = []
    for name in known if "all" in tables else tables:
        if name == "main":
            experiment = Experiment(settings)
            jobs = [*main_jobs(experiment), *ranking_jobs(experiment), Job("verdicts")]
            work += [(settings, job) for job in jobs]
        elif name == "controls":
            work += [(settings, job) for job in control_jobs(settings.seeds[:1])]
        else:
            work += cell_work(cells_of(name, settings))
        if name == "as released":  # what it is worth to have been trained on a question
            plain = (m for m in study(name).methods.values())
            splits = [(m, split) for m in plain for split in ("dev", "seen")]
            seed = settings.seeds[0]
            work += [(settings, Job("predictions", {"name": m, "seed": seed, "split": p})) for m, p in splits]
    return work


def cell_work(cells: Sequence[Cell]) -> list[Work]:
    """The outputs behind some cells."""
    work = [(cell.settings, Job("predictions", {"name": cell.method, "seed": s})) for cell in cells for s in cell.seeds]
    reranking = [cell for cell in cells if method(cell.method).test_query == "reranker"]
    return work + [(cell.settings, Job("rankings", {"seed": seed})) for cell in reranking for seed in cell.seeds]


def ship(work: Sequence[Work], whole: bool = False, say: Callable[[str], None] = print) -> int:
    """Write the sets of whatever is finished here; a set that has not changed keeps its file, and with it its commit.

    Args:
        work: jobs of ``shipped.KINDS``, and verdicts; what several of them share is written once.
        whole: nothing else ships: sets of anything else are removed.

    Returns:
        Bytes of all shipped sets.

    Raises:
        KardError: the code is not that of a commit, or the sets would take more than ``LIMIT``; nothing is written.
    """
    commit = code_commit()
    files = {Keys(settings).shipped_file(job.step, **job.arguments): (settings, job) for settings, job in work}
    written = {file: content for file, one in files.items() if (content := _packed(file, *one, commit)) is not None}
    before = shipped_files()
    stale = [file for file in before if whole and file not in files]
    staying = [file for file in before if file not in stale and file not in written]
    total = sum(map(len, written.values())) + sum(file.stat().st_size for file in staying)
    if total > LIMIT:
        text = f"the sets would take {size_text(total)}, {size_text(LIMIT)} is the most; nothing was written"
        raise KardError(f"{shipped.RECORDS}: {text}")
    for file, content in written.items():
        with atomic_write(file, "wb") as out:
            out.write(content)
    for file in stale:
        file.unlink()
    lacking = sum(not file.is_file() for file in files)
    say(f"{shipped.RECORDS}: {len(staying) + len(written)} sets, {size_text(total)} ({size_text(LIMIT)} is the most)")
    say(f"{len(written)} written, {len(staying)} as they were, {len(stale)} removed; {lacking} are not finished here")
    return total


def ship_figures(to: Path = FIGURES) -> int:
    """Copy the figures of each notebook's latest run, where it ran with the mini preset's own values, to ``figures/``.

    Returns:
        How many there were.
    """
    usual = resolve("mini").model_dump(mode="json", exclude={"retrain", "data_dir"})
    home = runs_root() / "mini" / usual["dataset"]
    count = 0
    for path in find_runs([home]) if home.is_dir() else []:
        record = read_record(path)
        if any(record.parameters.get(name, value) != value for name, value in usual.items()):
            continue
        for file in sorted((path.parent / "figures").glob("*.png")):
            with atomic_write(to / record.notebook / file.name, "wb") as out:
                out.write(file.read_bytes())
            count += 1
    return count


def code_commit() -> str:
    """The commit that code and models are those of.

    Raises:
        KardError: there is none, or they differ from it.
    """
    state = git_state(*_CODE)
    if state["commit"] is None:
        raise KardError("ship: there is no git commit here, and shipped outputs must name the one that made them")
    if state["dirty"]:
        raise KardError(f"ship: {' or '.join(_CODE)} differs from commit {state['commit'][:10]}; commit first")
    return str(state["commit"])


def _packed(file: Path, settings: Settings, job: Job, commit: str) -> bytes | None:
    """Bytes of a set's file; None where its outputs are not finished here, or the file has them already."""
    experiment = Experiment(settings.model_copy(update={"retrain": True}))  # what is loaded is shipped already
    if {one.step for one in missing(experiment, [job]).values()} - {"rankings", "rationales"}:  # those take no training
        return None
    rows = judged(experiment) if job.step == "verdicts" else getattr(experiment, job.step)(**job.arguments)
    header = _header(experiment, job, rows, commit)
    try:
        old, old_rows = read_set(file)
        kept = {"commit": old.commit, "versions": old.versions, "device": old.device, "seconds": old.seconds}
        if (old, old_rows) == (header.model_copy(update=kept), rows):
            return None
    except KardError:
        pass  # there is none, or it is damaged
    return pack(header, rows)


def judged(experiment: Experiment) -> list[Judged]:
    """The filter's verdicts on all training rationales, by question."""
    found: dict[str, list[str]] = {question.id: [] for question in experiment.data.train}
    for rationale, verdict in zip(experiment.rationales(), experiment.verdicts().verdicts, strict=True):
        found[rationale.question_id].append(verdict)
    return [Judged(question_id=i, verdicts=tuple(verdicts)) for i, verdicts in found.items()]


def _header(experiment: Experiment, job: Job, rows: Sequence[Any], commit: str) -> Header:
    settings = experiment.settings
    examples = job.step == "predictions" and method(job.arguments["name"]).examples
    about = {"dataset": settings.dataset, "student": settings.student} | settings.changed()
    return Header(
        step=job.step,
        about={n: Path(v).name if n in ("student", "encoder", "reader") else v for n, v in about.items()},
        key=Keys(settings, coded=False).key(job.step, **job.arguments),
        data=data_hash(settings),
        commit=commit,
        code=experiment.folder(job.step, **job.arguments).name,
        versions=versions(),
        device=device(),
        seconds=_seconds(experiment, job),
        same=constant(rows),
        shots=tuple(experiment.shots(**job.arguments)) if examples else None,
        counts=counts(rows),
    )


def _seconds(experiment: Experiment, job: Job) -> dict[str, float]:
    """Seconds of the outputs and of all behind them that is made for one seed, by step and what of it."""
    steps = [one for one in all_behind([job], experiment.settings) if "seed" in one.arguments]
    taken = {text_of(one): seconds_of(experiment.folder(one.step, **one.arguments)) for one in steps}
    return {name: round(seconds, 1) for name, seconds in taken.items() if seconds is not None}


def faults() -> Iterator[str]:
    """One line for each shipped set that does not come to what its header states, or is not of its data set."""
    for file in shipped_files():
        try:
            header, rows = read_set(file)
        except KardError as error:
            yield str(error)
            continue
        if not file.name.endswith(f"-{fingerprint(header.key)}{ENDING}"):
            yield f"{file}: its name is not that of its key"
        questions = _questions(*(header.about.get(name) for name in ("dataset", "size", "world", "inventory")))
        split = "train" if header.step == "verdicts" else header.key.get("split", "test")
        if questions[0] == header.data and not _fits(rows, questions[1].get(split, [])):
            yield f"{file}: its rows are not of the questions of {header.about['dataset']}"


@lru_cache(maxsize=8)
def _questions(dataset: str, size: str, world: int, inventory: str) -> tuple[str, dict[str, list[Question]]]:
    """Hash of a data set as it is generated now, and its questions by split."""
    settings = resolve("mini", dataset=dataset, size=size, world=world, inventory=inventory)
    experiment = Experiment(settings)
    asked = {split: experiment.questions(split) for split in get_args(Split)}
    return data_hash(settings), asked | {"train": experiment.data.train}


def _fits(rows: Sequence[Any], questions: Sequence[Question]) -> bool:
    if [row.question_id for row in rows] != [question.id for question in questions]:
        return False
    return all(not isinstance(row, Prediction) or row.gold == q.gold for row, q in zip(rows, questions, strict=True))


def found(work: Sequence[Work]) -> tuple[int, int]:
    """Sets that some work needs, and how many of them are there for the code, data and models that are here."""
    files = {Keys(settings).shipped_file(job.step, **job.arguments) for settings, job in work}
    return len(files), sum(file.is_file() for file in files)
