"""The ``kard`` command. Heavy imports wait until a command needs them, so help and refusals are instant."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .ask_command import add_command as add_ask_command
from .clean_command import add_command as add_clean_command
from .errors import KardError
from .export_command import add_command as add_export_command
from .index_command import add_commands as add_index_commands
from .ship_command import add_command as add_ship_command

TEACHER_ACTIONS = ("plan", "run", "status", "report", "export", "import", "batch", "collect")
Command = Callable[[argparse.Namespace, list[str]], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 1 where a notebook, a test or a check failed; 2 for bad input; 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace", line_buffering=True)
    parser = build_parser()
    known, rest = parser.parse_known_args(arguments)
    if rest and not known.passes_on:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        command: Command = known.command
        return command(known, rest)
    except KardError as error:
        print(f"kard: {error}", file=sys.stderr)
        return int(getattr(error, "exit_code", 2))
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="kard", description="Knowledge-Augmented Reasoning Distillation, to be run, read and measured."
    )
    parser.set_defaults(passes_on=False)
    _add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    return parser


def _add_commands(commands: argparse._SubParsersAction) -> None:
    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(command=command)
        return sub

    _run_options(add("demo", _demo, "the main path, 02 to 06, then the main table"))
    run = add("run", _run, "run notebooks headless; a finished run is not repeated")
    run.add_argument("notebook", help="number, name or path of a notebook, or 'all'")
    _run_options(run)
    _run_options(add("all", _all, "every notebook, and every set and size of Tables 1 and 2"))
    params = add("params", _params, "parameters of a notebook: name, type, default, meaning")
    params.add_argument("notebook", help="number, name or path of a notebook")
    report = add("report", _report, "tables from the records of finished runs")
    report.add_argument("--format", choices=("text", "json", "html"), default="text")
    report.add_argument("folders", nargs="*", metavar="DIR", help="run folders, or folders above them")
    diff = add("diff", _diff, "two runs: parameters, provenance, rows and answers that differ")
    diff.add_argument("runs", nargs=2, metavar="RUN", help="run folder, id, or notebook (its latest run)")
    diff.add_argument("--format", choices=("text", "json"), default="text")
    planning = add("plan", _plan, "cells of a table: what is made, what the rest costs; makes nothing")
    planning.add_argument(
        "--table", action="append", help="main (the default), a table of the paper (3, 'Fig 4a'), all"
    )
    _cost_options(planning)
    _experiment_options(planning)
    add_ship_command(commands)
    add_clean_command(commands)
    _teacher_options(
        add("teacher", _teacher, "rationales from a teacher behind an endpoint: price, asking, what is there")
    )
    add_index_commands(commands)
    add_export_command(commands)
    add_ask_command(commands)
    add("test", _test, "all tests; further arguments go to pytest's unit tests").set_defaults(passes_on=True)
    add("doctor", _doctor, "is the installation sound?")
    add("lab", _lab, "JupyterLab on the notebooks; further arguments go to it").set_defaults(passes_on=True)
    add("models", _models, "the shipped base models")
    pretrain = add("pretrain", _pretrain, "make one of the shipped base models anew")
    pretrain.add_argument("name")
    pretrain.add_argument("--out", help="folder for the model instead of data/models/NAME")


def _run_options(parser: argparse.ArgumentParser) -> None:
    _experiment_options(parser)
    parser.add_argument("--again", action="store_true", help="run finished notebooks again (artefacts stay cached)")


def _cost_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--costs", action=argparse.BooleanOptionalAction, default=None,
                        help="operations, memory and hours of what is to do, after some seconds of calibration; by "
                        "default for real data of which no finished step tells")  # fmt: skip
    parser.add_argument("--gpu", default="", metavar="NAME", help="project the costs to a GPU, 'A100 80GB'")
    parser.add_argument("--calibrate", action="store_true", help="measure this device again")


def _teacher_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=TEACHER_ACTIONS, metavar="ACTION", help=", ".join(TEACHER_ACTIONS))
    parser.add_argument("path", nargs="?", help="file to export to, file or folder to import from")
    parser.add_argument("--part", choices=("rationale", "oracle", "reader"), default="",
                        help="only these samples: of train with the gold answer, of dev and test without it, or the "
                        "filter's; all that the settings need by default")  # fmt: skip
    parser.add_argument("--budget", type=float, default=1.0, metavar="USD", help="ask before more is spent; default 1")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--prices", metavar="FILE", help="a price table of one's own; its rows come first")
    parser.add_argument("--wait", type=float, metavar="S", help="collect: look every S seconds until no batch is left")
    _experiment_options(parser)


def _experiment_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", help="mini (the default), laptop or paper")
    parser.add_argument("--dataset", help="the data set instead of the preset's")
    parser.add_argument("-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE",
                        help="a parameter of the notebook (kard params lists them); may be repeated")  # fmt: skip


def given_parameters(options: argparse.Namespace) -> dict[str, str]:
    """Parameters of a run as the command line has them.

    Raises:
        KardError: one is not of the form ``name=value``, or is given twice.
    """
    given: dict[str, str] = {}
    pairs = [(name, getattr(options, name)) for name in ("preset", "dataset") if getattr(options, name) is not None]
    for text in options.parameters:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise KardError(f"-p {text}: name=value was expected")
        pairs.append((name.strip(), value))
    for name, value in pairs:
        if name in given:
            raise KardError(f"parameter {name!r}: given twice")
        given[name] = value
    return given


def _demo(options: argparse.Namespace, rest: list[str]) -> int:
    from .demo import demo

    demo(given_parameters(options), options.again)
    return 0


def _run(options: argparse.Namespace, rest: list[str], always: Mapping[str, str] | None = None) -> int:
    from .demo import conclude, run_plans, with_cells
    from .notebook_params import all_notebooks, find_notebook, plan_run, plan_runs
    from .notebook_studies import refuse_lacking

    given = {**(always or {}), **given_parameters(options)}
    if options.notebook == "all":
        paths = all_notebooks()
        if not paths:
            raise KardError("notebooks: there are none; is this a whole clone?")
        plans = with_cells(plan_runs(paths, given))
    else:
        plans = [plan_run(find_notebook(options.notebook), given)]
        refuse_lacking(plans[0].notebook, plans[0].settings)
    outcomes = run_plans(plans, options.again)
    if options.notebook == "all":
        conclude(outcomes)
    return 0


def _all(options: argparse.Namespace, rest: list[str]) -> int:
    options.notebook = "all"
    given = given_parameters(options)
    return _run(options, rest, {"everything": "true", **({"anew": given["retrain"]} if "retrain" in given else {})})


def _params(options: argparse.Namespace, rest: list[str]) -> int:
    from .notebook_params import find_notebook, notebook_parameters

    spec = notebook_parameters(find_notebook(options.notebook))
    rows = [("name", "type", "default", "meaning"), *((p.name, p.type, repr(p.default), p.meaning) for p in spec)]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]))
    return 0


def _report(options: argparse.Namespace, rest: list[str]) -> int:
    from .report import find_runs, render
    from .runs import read_record

    folders = [Path(folder) for folder in options.folders]
    try:
        runs = find_runs(folders)
    except KardError:
        if folders:
            raise
        from .demo import rebuild

        rebuild(say=lambda line: print(line, file=sys.stderr))
        runs = find_runs()
    if options.format == "html":
        from .page import page

        print(page(runs))
    else:
        print(render([read_record(path) for path in runs], options.format))
    return 0


def _diff(options: argparse.Namespace, rest: list[str]) -> int:
    from .run_diff import diff_runs, find_run, page

    diff = diff_runs(*(find_run(name) for name in options.runs))
    print(diff.model_dump_json(indent=1) if options.format == "json" else page(diff))
    return 0


def _plan(options: argparse.Namespace, rest: list[str]) -> int:
    from .notebook_params import find_notebook, plan_run
    from .plan import plan

    asked = plan_run(find_notebook("06"), given_parameters(options))
    decodings = ("greedy", "vote5") if asked.extra.get("vote") else ("greedy",)
    settings, tables = asked.settings, options.table or ["main"]
    if tables != ["main"] and "retrain" not in asked.given:  # the notebooks of the other tables load what ships
        settings = settings.model_copy(update={"retrain": False})
    print(plan(settings, decodings, tables, options.costs, options.gpu, options.calibrate))
    return 0


def _teacher(options: argparse.Namespace, rest: list[str]) -> int:
    from .notebook_params import find_notebook, plan_run
    from .teacher_command import act

    settings = plan_run(find_notebook("02"), given_parameters(options)).settings
    ask = input if sys.stdin is not None and sys.stdin.isatty() else None
    print(act(options.action, settings, options, ask))
    return 0


def _test(options: argparse.Namespace, rest: list[str]) -> int:
    from .selftest import selftest

    return selftest(rest)


def _doctor(options: argparse.Namespace, rest: list[str]) -> int:
    from .doctor import doctor

    return doctor()


def _lab(options: argparse.Namespace, rest: list[str]) -> int:
    from .notebook_params import NOTEBOOKS

    # a kernel "python3" that the user once registered for another interpreter must not win over this one's
    env = {**os.environ, "JUPYTER_PREFER_ENV_PATH": "1"}
    return subprocess.run([sys.executable, "-m", "jupyterlab", str(NOTEBOOKS), *rest], env=env).returncode


def _models(options: argparse.Namespace, rest: list[str]) -> int:
    from .doctor import SHIPPED, model_finding
    from .presets import MODELS_DIR

    findings = [model_finding(MODELS_DIR / name) for name in SHIPPED]
    for fine, text in findings:
        print(text.removeprefix("model ") if fine else f"FAIL {text}")
    return 0 if all(fine for fine, _ in findings) else 1


def _pretrain(options: argparse.Namespace, rest: list[str]) -> int:
    from .base_models import pretrain

    print(pretrain(options.name, Path(options.out) if options.out else None))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
