"""``kard export``: a trained student out of the artefacts, into a folder. Heavy imports wait until it runs."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import KardError

if TYPE_CHECKING:
    from .presets import Settings

_FOLDERS = ("data_dir", "index", "dapt_text")
"""Settings that a record tells by their last name only."""
_MODELS = ("student", "encoder", "reader")


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add ``export`` to the subcommands of ``kard``."""
    text = "a trained student, its reranker and its passages as one folder that kard ask answers with"
    parser = commands.add_parser("export", help=text, description=text, allow_abbrev=False)
    parser.set_defaults(command=_export)
    parser.add_argument("what", nargs="?", metavar="RUN_OR_DATASET",
                        help="a data set, or a finished run (folder, id or notebook), whose parameters are taken; the "
                        "preset's data set by default")  # fmt: skip
    parser.add_argument(
        "--out", type=lambda text: Path(text).expanduser(), required=True, metavar="FOLDER", help="folder to be made"
    )
    parser.add_argument("--method", default="KARD (Reranker)", help="row of the main table; default KARD (Reranker)")
    parser.add_argument("--seed", type=int, metavar="N", help="of student and reranker; the first by default")
    parser.add_argument("--copy-index", action="store_true", help="take the index along that -p index= names")
    parser.add_argument("--again", action="store_true", help="replace a folder that kard export has made")
    parser.add_argument("--preset", help="mini (the default), laptop or paper")
    parser.add_argument("--dataset", help="the data set instead of the preset's")
    parser.add_argument("-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE",
                        help="a parameter of notebook 06 (kard params 06); may be repeated")  # fmt: skip


def _export(options: argparse.Namespace, rest: list[str]) -> int:
    from .cli import given_parameters

    given = given_parameters(options)
    settings = settings_of(options.what, given)

    from .checkpoint_out import NotTrained, export
    from .experiment import Experiment
    from .plain_text import size_text
    from .stored import size_of

    try:
        made = export(
            Experiment(settings), options.out, options.method, options.seed, options.copy_index, options.again
        )
    except NotTrained as error:
        raise KardError(f"{error}; {_remedy(options, given)} trains it") from None
    print(f"{options.out}: {made.method}, {made.dataset}, seed {made.seed}; {size_text(size_of(options.out))}")
    print(f'kard ask {shlex.quote(str(options.out))} "QUESTION" asks it')
    return 0


def settings_of(what: str | None, given: Mapping[str, str]) -> Settings:
    """The settings that a student was trained under.

    Args:
        what: a data set, or a finished run whose parameters come first; None for the preset's data set.
        given: parameters as the command line has them; they win over those of a run.

    Raises:
        KardError: there is no such run, a parameter is wrong, or a folder of the run is to be named again.
    """
    from .notebook_params import check_parameters, find_notebook, notebook_parameters
    from .presets import DATASETS, Settings, resolve

    typed = check_parameters(dict(given), notebook_parameters(find_notebook("06")))
    typed = {name: value for name, value in typed.items() if name in Settings.model_fields}
    if what in DATASETS:
        if typed.get("dataset", what) != what:
            raise KardError(f"dataset {what}: --dataset {typed['dataset']} names another one")
        typed["dataset"] = what
    elif what is not None:
        typed = _of_run(what, typed) | typed
    return resolve(typed.pop("preset", "mini"), **typed)


def _of_run(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a finished run, less the folders, of which its record has the last name alone."""
    from .presets import Settings
    from .run_diff import find_run
    from .runs import RECORD, model_folder, read_record

    record = read_record(find_run(name) / RECORD)
    known = {n: value for n, value in record.parameters.items() if n in Settings.model_fields}
    for role in _MODELS:
        was_folder = f"{role} {known.get(role)}" in record.provenance.get("inputs", {})
        if was_folder and role not in given and model_folder(known[role]) is None:
            raise KardError(f"run {name}: its {role} {known[role]} is a folder; -p {role}=FOLDER names it")
    for folder in _FOLDERS:
        if known.pop(folder, "") and folder not in given and folder != "data_dir":  # KARD_DATA may name that one
            raise KardError(f"run {name}: its {folder} is a folder; -p {folder}=FOLDER names it")
    return known


def _remedy(options: argparse.Namespace, given: Mapping[str, str]) -> str:
    """The command that trains what is missing."""
    from .presets import DATASETS

    if options.what is not None and options.what not in DATASETS:
        return f"kard run 06 with the parameters of {options.what}"
    named = {"dataset": options.what} if options.what else {}
    named |= {"seeds": str(options.seed)} if options.seed is not None and "seeds" not in given else {}
    words = [word for name, value in {**named, **given}.items() for word in ("-p", f"{name}={value}")]
    return shlex.join(["kard", "run", "06", *words])
