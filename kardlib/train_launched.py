"""Training one student in several processes, or on several GPUs.

::

    accelerate launch --num_processes 2 -m kardlib.train_launched --training KARD --seed 0 -p preset=paper

The student is the one that ``kard run`` would train with these parameters: every batch is divided over the processes,
and the weights differ by float noise alone (and by dropout's draws). What comes before it (rationales, filter, DAPT) is
made first, by one process. Only the first process writes; the others need the models' folders and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, get_origin

from .errors import KardError
from .methods import TRAININGS
from .presets import Settings, nearest, resolve

_LONG = timedelta(days=7)
"""Processes wait for the first as long as the steps before the student take."""
_LAUNCH = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "ACCELERATE_USE_CPU")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, or train along.

    Returns:
        0; 2 for bad input, told in one line by the first process.
    """
    parser = argparse.ArgumentParser(prog="train_launched", description="Train one student in several processes.")
    parser.add_argument("--training", required=True, help=f"one of: {', '.join(TRAININGS)}")
    parser.add_argument("--seed", type=int, default=0)
    for name in ("preset", "dataset"):
        parser.add_argument(f"--{name}")
    parser.add_argument("-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--before", action="store_true", help=argparse.SUPPRESS)
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    from .processes import rank

    first = os.environ.get("RANK", "0") == "0"
    try:
        named = [f"{n}={value}" for n in ("preset", "dataset") if (value := getattr(options, n))]
        settings = settings_of([*named, *options.parameters])
        if options.training not in TRAININGS:
            raise KardError(f"training {options.training!r}: there is none of that name{nearest('', TRAININGS)}")
        if options.before:
            make_before(settings, options.seed)
        else:
            _train(settings, options.training, options.seed, given, first)
    except KardError as error:
        if first or rank():  # before they know of each other, all have the same to say
            print(f"train_launched: {error}", file=sys.stderr)
        return 2
    return 0


def settings_of(parameters: Sequence[str]) -> Settings:
    """Settings from ``name=value`` texts; a value may be JSON, and ``1,2`` is a list where one is expected.

    Raises:
        KardError: one is not of that form, or is no parameter.
    """
    values: dict[str, Any] = {}
    for text in parameters:
        name, equals, value = text.partition("=")
        if not equals:
            raise KardError(f"-p {text}: name=value was expected")
        listed = name in Settings.model_fields and get_origin(Settings.model_fields[name].annotation) is tuple
        try:
            values[name] = json.loads(f"[{value}]" if listed and not value.startswith("[") else value)
        except ValueError:
            values[name] = value
    return resolve(str(values.pop("preset", "mini")), **values)


def make_before(settings: Settings, seed: int) -> None:
    """The steps that a student is trained after."""
    from .experiment import Experiment

    experiment = Experiment(settings)
    experiment.kept_rationales()
    if settings.student_keep == "best on dev":
        experiment.test_rationale()
    if settings.dapt != "none":
        experiment.adapted(seed)


def _train(settings: Settings, training: str, seed: int, given: list[str], first: bool) -> None:
    from accelerate import PartialState

    from .experiment import Experiment
    from .models import device
    from .student_fit import join, send

    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # the kit asks the device; a launcher may say fp16
    if first:
        _make_before_alone(given)
    state = PartialState(cpu=device().type == "cpu", timeout=_LONG)  # every process comes here; the first comes last
    if first:
        try:
            folder = Experiment(settings).student(training, seed)
        finally:
            send(None)  # where the student was there already, or failed before it began, the others must not wait
        print(f"{training}, seed {seed}: {folder}")
    else:
        join()
    state.wait_for_everyone()
    state.destroy_process_group()  # a process that ends while another still listens to it may take that one down


def _make_before_alone(given: list[str]) -> None:
    """In a process that does not know of the others, or its own trainings would wait for them."""
    env = {name: value for name, value in os.environ.items() if name not in _LAUNCH}
    done = subprocess.run([sys.executable, "-m", "kardlib.train_launched", *given, "--before"], env=env)
    if done.returncode:
        raise KardError("the steps before the student could not be made")


if __name__ == "__main__":
    sys.exit(main())
