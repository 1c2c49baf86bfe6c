"""``kard plan``: the cells of the tables, what of them is made, and what the rest will cost. It makes nothing.

A table is a function from settings to cells, listed in ``TABLES``; a further table is one more entry there. What two
tables share has one folder and counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .errors import KardError
from .experiment import Experiment
from .jobs import Job
from .plain_text import columns, size_text, time_text
from .presets import Settings, nearest
from .shipped import KINDS
from .shipped_times import shipped_seconds, text_of
from .steps import all_behind, missing
from .store import artefact_folder
from .stored import Key, Stored, Times, stored
from .studies import STUDIES, cells_of
from .table_jobs import main_jobs, ranking_jobs, training_jobs

if TYPE_CHECKING:
    from .cost_plan import Wanted

STATES = ("cached", "shipped", "to do", "not needed")
State = Literal["cached", "shipped", "to do", "not needed"]
TRAINED = ("reranker", "student", "adapted", "retriever", "rag")
"""Steps that are wanted for what is made with them alone."""


@dataclass(frozen=True)
class Step:
    """One step of one table.

    Attributes:
        table: name of the table in ``TABLES``.
        method: row of the table, or the training or the step where several rows share it.
        settings: resolved; all that the step depends on but ``job``.
        seed: None where no seed is part of the step.
        job: makes it.
    """

    table: str
    method: str
    settings: Settings
    seed: int | None
    job: Job

    @property
    def dataset(self) -> str:
        return self.settings.dataset

    @property
    def student(self) -> str:
        return Path(self.settings.student).name


def steps_of(table: str, settings: Settings, jobs: Iterable[Job]) -> list[Step]:
    """Jobs of one experiment as cells of a table."""
    cells = []
    for job in jobs:
        name = job.arguments.get("name") or job.arguments.get("training") or job.step
        if job.arguments.get("decoding", "greedy") != "greedy":
            name += f", {job.arguments['decoding']}"
        if "control" in job.arguments:
            name += f", {job.arguments['control']}"
        if not job.arguments.get("show_gold", True):
            name += ", of test"
        cells.append(Step(table, name, settings, job.arguments.get("seed"), job))
    return cells


def main_cells(settings: Settings, decodings: Sequence[str] = ("greedy",)) -> list[Step]:
    """Cells of the main table and of hits@k, with the steps behind them in the order of their making."""
    experiment, jobs = Experiment(settings), []
    if experiment.told:
        jobs += [Job("rationales"), Job("rationales", {"show_gold": False})]
        jobs += [Job("verdicts")] if settings.filter else []
        jobs += [Job("pools")]
    jobs += training_jobs(experiment)
    jobs += [Job("reranked", {"seed": seed}) for seed in settings.seeds if experiment.told]
    return steps_of("main", settings, [*jobs, *ranking_jobs(experiment), *main_jobs(experiment, decodings)])


def study_steps(table: str, settings: Settings) -> list[Step]:
    """The cells of one of the paper's tables, with the steps behind them."""
    return [
        step
        for cell in cells_of(table, settings)
        for job in all_behind([Job("predictions", {"name": cell.method, "seed": s}) for s in cell.seeds], cell.settings)
        for step in steps_of(table, cell.settings, [job])
    ]


def control_steps(settings: Settings, _: Sequence[str]) -> list[Step]:
    """The controls of notebook 12, with the steps behind them."""
    from .controls_table import control_jobs  # needs torch

    return steps_of("controls", settings, all_behind(control_jobs(settings.seeds[:1]), settings))


TABLES: dict[str, Callable[[Settings, Sequence[str]], list[Step]]] = {
    "main": main_cells,
    "controls": control_steps,
    **{name: (lambda settings, _, name=name: study_steps(name, settings)) for name in STUDIES},
}


@dataclass(frozen=True)
class Planned:
    """A cell and how it stands.

    Attributes:
        state: ``shipped`` is not made here and need not be: its outputs come with the kit. ``not needed`` is not there
            either, and all that it is for is.
        bytes: what it takes on disk; 0 where it is not made.
        seconds: expected for what is to do; None where nothing like it is finished here or ships.
        close: the expectation rests on the same work, only the seed or the code being others.
    """

    cell: Step
    folder: Path
    state: State
    bytes: int
    seconds: float | None
    close: bool


def planned(cells: Sequence[Step]) -> list[Planned]:
    """How every cell stands; a cell that comes again, in this or another table, is left out."""
    experiments = {cell.settings: Experiment(cell.settings) for cell in cells}
    found: dict[Path, Step] = {}
    keys: dict[str, Key] = {}
    for cell in cells:
        experiment = experiments[cell.settings]
        key = experiment.key(cell.job.step, **cell.job.arguments)
        folder = artefact_folder(experiment.root, cell.job.step, key)
        found.setdefault(folder, cell)
        keys[folder.name] = key
    wanted: set[Path] = set()
    for settings, experiment in experiments.items():
        jobs = [cell.job for cell in cells if cell.settings == settings]
        outputs = [job for job in jobs if job.step in KINDS] or [job for job in jobs if job.step not in TRAINED]
        wanted |= set(missing(experiment, outputs))
    made = stored(next(iter(experiments.values())).root) if experiments else []
    times, on_disk = Times(made, keys), {artefact.folder: artefact for artefact in made}
    rows = [
        _standing(cell, folder, keys[folder.name], folder in wanted, on_disk.get(folder), times)
        for folder, cell in found.items()
    ]
    return _timed_elsewhere(rows, cells)


def _timed_elsewhere(rows: Sequence[Planned], cells: Sequence[Step]) -> list[Planned]:
    """The rows; those to do that nothing finished here is like expect what they took where what ships was made."""
    lacking = {row.cell.settings for row in rows if row.state == "to do" and row.seconds is None}
    taken = {s: shipped_seconds(s, [cell.job for cell in cells if cell.settings == s]) for s in lacking}
    return [_timed(row, taken[row.cell.settings]) if row.cell.settings in taken else row for row in rows]


def _timed(row: Planned, taken: Mapping[str, float]) -> Planned:
    if row.state != "to do" or row.seconds is not None:
        return row
    job = row.cell.job
    return replace(row, seconds=taken.get(text_of(job), taken.get(str(job))))  # some older headers leave nothing out


def _standing(cell: Step, folder: Path, key: Key, wanted: bool, made: Stored | None, times: Times) -> Planned:
    if made is not None:
        return Planned(cell, folder, "cached", made.bytes, None, False)
    if not wanted:
        return Planned(cell, folder, "shipped" if cell.job.step in KINDS else "not needed", 0, None, False)
    seconds, close = times.estimate(key) or (None, False)
    return Planned(cell, folder, "to do", 0, seconds, close)


def plan(
    settings: Settings,
    decodings: Sequence[str] = ("greedy",),
    tables: Sequence[str] = ("main",),
    costs: bool | None = None,
    gpu: str = "",
    calibrate: bool = False,
) -> str:
    """One page: totals by step, then every row of the tables seed by seed, then what is to do with its costs.

    Args:
        settings: of the experiment that is asked about.
        decodings: how the main table's answers are decoded.
        tables: names in ``TABLES``; ``all`` is each of them.
        costs: whether to tell operations, memory and hours, which may calibrate this device for some seconds; None for
            where it is worth that: real data, of which some step has no finished one to tell its time.
        gpu: a GPU that the costs are projected to; with ``calibrate``, which measures this device again, they are told.

    Raises:
        KardError: there is no such table, nobody plays its part under the preset, or there is no such GPU.
    """
    names = list(TABLES) if "all" in tables else tables
    unknown = next((name for name in names if name not in TABLES), None)
    if unknown is not None:
        raise KardError(f"table {unknown!r}: there is none of that name{nearest(unknown, [*TABLES, 'all'])}")
    rows = planned([cell for name in names for cell in TABLES[name](settings, decodings)])
    if not rows:
        raise KardError(f"table {', '.join(names)}: preset {settings.preset} has nobody to play its part")
    lines = [_title(settings), "", *_totals(rows), "", *_cells(rows, settings), "", *_legend(rows)]
    to_do = [row for row in rows if row.state == "to do"]
    if costs is None:
        costs = bool(gpu) or calibrate or (settings.preset != "mini" and any(row.seconds is None for row in to_do))
    if costs and to_do:
        from .cost_plan import cost_lines  # needs torch

        lines += ["", *cost_lines(_wanted(to_do), gpu, calibrate)]
    return "\n".join(lines)


def _wanted(rows: Sequence[Planned]) -> list[Wanted]:
    """Rows of one kind together, whatever their seed."""
    from .cost_plan import Wanted

    groups: dict[tuple[str, str, str], list[Planned]] = {}
    for row in rows:
        about = row.cell.job.step, row.cell.method, row.cell.settings.model_dump_json(exclude={"seeds"})
        groups.setdefault(about, []).append(row)
    return [Wanted(g[0].cell.method, g[0].cell.settings, g[0].cell.job, len(g)) for g in groups.values()]


def _title(settings: Settings) -> str:
    changed = "".join(f", {name} = {value}" for name, value in settings.changed().items() if name != "student")
    student = Path(settings.student).name
    return f"Plan: preset {settings.preset}, data set {settings.dataset}, student {student}{changed}"


def _totals(rows: Sequence[Planned]) -> list[str]:
    steps = dict.fromkeys(row.cell.job.step for row in rows)
    groups = {step: [row for row in rows if row.cell.job.step == step] for step in steps}
    head = ("step", "cells", *STATES, "on disk", "time to do")
    lines = [head, *(_total(step, group) for step, group in groups.items()), _total("all", rows)]
    return columns(lines, right=range(1, len(head)))


def _total(name: str, rows: Sequence[Planned]) -> tuple[str, ...]:
    count = [str(sum(row.state == state for row in rows)) for state in STATES]
    disk = size_text(sum(row.bytes for row in rows))
    return name, str(len(rows)), *count, disk, _time([row for row in rows if row.state == "to do"])


def _time(rows: Sequence[Planned]) -> str:
    if not rows:
        return "-"
    known = [row.seconds for row in rows if row.seconds is not None]
    if not known:
        return "not known yet"
    unknown = f" + {len(rows) - len(known)} not known" if len(known) < len(rows) else ""
    return ("" if all(row.close for row in rows) else "~ ") + time_text(sum(known)) + unknown


def _cells(rows: Sequence[Planned], asked: Settings) -> list[str]:
    groups: dict[tuple[str, ...], list[Planned]] = {}
    for row in rows:
        cell = row.cell
        about = (cell.table, cell.dataset, cell.job.step, cell.method, _otherwise(cell.settings, asked))
        groups.setdefault(about, []).append(row)
    head = ("table", "data set", "step", "method", "settings", "seeds")
    lines = [head, *((*about, _by_state(group)) for about, group in groups.items())]
    kept = [i for i in range(len(head)) if any(line[i] for line in lines[1:])]
    return columns([tuple(line[i] for i in kept) for line in lines])


def _otherwise(settings: Settings, asked: Settings) -> str:
    """Settings of a cell that are not those asked about, as ``name=value``."""
    given, usual = settings.model_dump(), asked.model_dump()
    return " ".join(
        f"{n}={v}" for n, v in given.items() if v != usual[n] and n not in ("dataset", "data_dir", "retrain")
    )


def _by_state(rows: Sequence[Planned]) -> str:
    states: dict[str, list[str]] = {}
    for row in rows:
        states.setdefault(row.state, []).append("" if row.cell.seed is None else str(row.cell.seed))
    return "; ".join(f"{state} {', '.join(seeds)}".strip() for state, seeds in states.items())


def _legend(rows: Sequence[Planned]) -> list[str]:
    lines = ["time to do: of one step after the other; as many run side by side as there are cores (KARD_WORKERS)."]
    lines += [
        "It is the median of finished steps that are like it; ~: with other settings, or of the outputs that ship,"
    ]
    lines += ["where and with the code that they were made."]
    if any(row.state == "not needed" for row in rows):
        lines += ["not needed: it is not there, and the answers and rankings that it is for are."]
    if any(row.state == "shipped" for row in rows):
        lines += ["shipped: comes with the kit and is loaded; -p retrain=true makes it anew."]
    return [*lines, f"artefacts: {rows[0].folder.parent.parent}"]
