"""Runs of several notebooks from the command line, and what is said about them before and after."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from .errors import KardError
from .jobs import MOST_WORKERS, cores
from .notebook_params import Plan, all_notebooks, plan_runs
from .notebook_run import Outcome, folder_of, is_finished, run_notebook
from .notebook_studies import about, lacking, unasked
from .presets import runs_root
from .report import main_table, merge_notes, merge_rows
from .runs import RECORD, RunRecord, read_record

MAIN_PATH = ("02", "03", "04", "05", "06")
COST = {
    "mini": "about 12 minutes on two cores, 2 GB of memory, 100 MB of disk; no network, no GPU",
    "laptop": "25 minutes where a core is fast in bfloat16, 35 on two without, 4 GB of memory, 1 GB of disk; "
    "real data (KARD_DATA or -p data_dir=)",
    "paper": "days on one large GPU, 100 GB of disk; real data and models from the hub",
}
Say = Callable[[str], None]


def main_path() -> list[Path]:
    """The notebooks that lead to the main table, in order.

    Raises:
        KardError: one of them is missing.
    """
    by_number = {path.stem.split("_")[0]: path for path in all_notebooks()}
    missing = [number for number in MAIN_PATH if number not in by_number]
    if missing:
        raise KardError(f"notebooks {', '.join(missing)}: not there; is this a whole clone?")
    return [by_number[number] for number in MAIN_PATH]


def with_cells(plans: Sequence[Plan], say: Say = print) -> list[Plan]:
    """Plans of the notebooks whose tables have cells of the data set under the settings, and whose teacher has been
    asked for what they take; lines name the others."""
    left_out = [p for p in plans if lacking(p.notebook, p.settings) or not about(p.notebook, p.settings)]
    if left_out:
        names = ", ".join(plan.notebook for plan in left_out)
        say(f"left out, as these settings have no rationales, or no cells of their tables: {names}")
    plans = [plan for plan in plans if plan not in left_out]
    wanting = {plan.notebook: unasked(plan.notebook, plan.settings) for plan in plans}
    for name in filter(wanting.get, wanting):
        say(f"left out: {name}, {wanting[name]}")
    return [plan for plan in plans if not wanting[plan.notebook]]


def run_plans(plans: Sequence[Plan], again: bool = False, say: Say = print) -> list[Outcome]:
    """Run notebooks one after the other and tell how long each took. The first failure ends it."""
    outcomes = []
    for plan in plans:
        say(f"{plan.notebook}:")
        outcome = run_notebook(plan, again, say)
        done = "finished before; --again repeats it" if outcome.cached else f"done in {outcome.seconds:.0f} s"
        say(f"  {plan.notebook} {done}: {outcome.folder}")
        outcomes.append(outcome)
    return outcomes


def demo(given: dict[str, str], again: bool = False, say: Say = print) -> None:
    """The main path from rationales to the main table.

    Args:
        given: parameters as the command line has them; each goes to the notebooks that declare it.

    Raises:
        KardError: a parameter is wrong (before anything starts), or a notebook fails.
    """
    plans = plan_runs(main_path(), given)
    done = sum(_finished(plan) for plan in plans)
    say(f"KARD, preset {plans[0].settings.preset}: {COST[plans[0].settings.preset]}.")
    say(f"{done} of {len(plans)} notebooks are finished already. Ctrl-C stops; the same command goes on from there.")
    conclude(run_plans(plans, again, say), say)


def rebuild(say: Say = print) -> list[Outcome]:
    """Every table and figure from the raw outputs that ship: notebooks 06 to 13, one a core, then 99."""
    say("nothing has been run here; the tables are made of the raw outputs that ship (two minutes, no training)")
    paths = [path for path in all_notebooks() if path.stem >= MAIN_PATH[-1]]
    *plans, report = plan_runs(paths, {"retrain": "false"})
    return run_side_by_side([plans, [report]], say)


def run_side_by_side(stages: Sequence[Sequence[Plan]], say: Say = print) -> list[Outcome]:
    """Run notebooks that train nothing, one a core, stage after stage. After a failure those that wait do not begin."""
    outcomes = []
    with ProcessPoolExecutor(min(cores(), MOST_WORKERS), multiprocessing.get_context("spawn")) as pool:
        for plans in stages:
            for outcome in pool.map(_run_silently, plans):
                say(f"  {outcome.plan.notebook} done in {outcome.seconds:.0f} s: {outcome.folder}")
                outcomes.append(outcome)
    return outcomes


def _run_silently(plan: Plan) -> Outcome:
    with contextlib.redirect_stderr(io.StringIO()):  # bars of several notebooks at a time would be no help
        return run_notebook(plan, say=lambda line: None)


def conclude(outcomes: Sequence[Outcome], say: Say = print) -> None:
    """The tables of finished runs, then where executed notebooks, figures and raw predictions lie."""
    say("")
    say(table_of(outcomes[::-1]))  # the main table first
    say("")
    for line in whereabouts(outcomes):
        say(line)


def _finished(plan: Plan) -> bool:
    return is_finished(plan, folder_of(plan))


def table_of(outcomes: Sequence[Outcome]) -> str:
    """The table of finished runs."""
    records = [_own(read_record(outcome.folder / RECORD)) for outcome in outcomes]
    return main_table(merge_rows(records), merge_notes(records))


def _own(record: RunRecord) -> RunRecord:
    """A record with the rows of its own data set and student alone; ``kard report`` has all of them."""
    own = Path(record.parameters["student"]).name
    rows = [r for r in record.results if r.dataset == record.dataset and Path(r.student or own).name == own]
    return record.model_copy(update={"results": rows})


def whereabouts(outcomes: Sequence[Outcome]) -> list[str]:
    """Lines that say where executed notebooks, figures and raw predictions lie."""
    figures = sorted(path for outcome in outcomes for path in outcome.folder.rglob("*.png"))
    rows = merge_rows(read_record(outcome.folder / RECORD) for outcome in outcomes)
    files = dict.fromkeys(runs_root() / row.predictions for row in rows if row.predictions)
    folders = dict.fromkeys(file.parent for file in files)
    lines = ["executed notebooks:", *(f"  {outcome.executed}" for outcome in outcomes)]
    lines += ["figures:", *(f"  {path}" for path in figures)] if figures else ["figures: in the notebooks"]
    return [*lines, f"raw predictions ({len(files)} files):", *(f"  {folder}" for folder in folders)]
