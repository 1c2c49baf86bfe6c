"""``kard test``: the unit tests, a full mini run, the committed notebooks, and the notebooks with other parameters."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .demo import MAIN_PATH
from .notebook_params import all_notebooks
from .notebook_run import kernel_env
from .presets import REPOSITORY, resolve

SANITIZE = REPOSITORY / "tests" / "nbval_sanitize.cfg"
SMOKE = ("size=smoke", "k=2", "seeds=5")
CELL_SECONDS = 1500


@dataclass(frozen=True)
class Stage:
    """One command of the test, run by this interpreter.

    Attributes:
        env: goes on top of the process's own environment.
        beside: it runs at the same time as the stage before it; what it prints comes afterwards.
    """

    name: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    beside: bool = False


def stages(runs: str, pytest_arguments: Sequence[str] = ()) -> list[Stage]:
    """The stages in order.

    Args:
        runs: an empty folder for the runs of the last stage.
        pytest_arguments: passed on to the unit tests.
    """
    notebooks = [str(path) for path in all_notebooks() if path.stem[:2] in MAIN_PATH]
    nbval = ["--nbval", "--nbval-current-env", f"--nbval-cell-timeout={CELL_SECONDS}", "-p", "no:cacheprovider"]
    if SANITIZE.is_file():
        nbval.append(f"--nbval-sanitize-with={SANITIZE}")
    files = sorted(str(path) for path in (REPOSITORY / "tests").glob("test_*.py"))
    halves = files[::2], files[1::2]  # most of them use one core
    smoke = [part for setting in SMOKE for part in ("-p", setting)]
    kard = ["-m", "kardlib.cli"]
    return [
        Stage("unit tests", ["-m", "pytest", *halves[0], *pytest_arguments]),
        Stage("unit tests, the other half", ["-m", "pytest", *halves[1], *pytest_arguments], beside=True),
        Stage("full mini run", [*kard, "demo"]),
        Stage("notebooks with other parameters", [*kard, "run", "all", *smoke], {"KARD_RUNS": runs}),
        Stage("one shipped cell trained again", [*kard, "ship", "--again"], beside=True),
        # without a notebook pytest would collect the unit tests again and pass
        Stage("notebooks as committed", ["-m", "pytest", *nbval, *(notebooks or ["no-notebooks"])], beside=True),
    ]


def run_stages(todo: Sequence[Stage], say: Callable[[str], None] = print) -> int:
    """Run all stages, whatever fails, and end with a line that counts them.

    Returns:
        0 if all passed, 1 otherwise.
    """
    codes: list[int] = []
    told: list[str] = []
    for i, stage in enumerate(todo):
        if stage.beside and i:
            continue  # it has been started with the one before
        say(f"== {stage.name}")
        others = list(itertools.takewhile(lambda other: other.beside, todo[i + 1 :]))
        with ThreadPoolExecutor(len(others) + 1) as pool:
            waiting = [pool.submit(_run, one, one is not stage) for one in (stage, *others)]
            for one, done in zip((stage, *others), waiting, strict=True):
                code, seconds, printed = done.result()
                if one is not stage:
                    say(f"== {one.name}\n{printed}")
                codes.append(code)
                told.append(f"{'ok  ' if code == 0 else 'FAIL'} {one.name}: {seconds:.0f} s")
    for line in told:
        say(line)
    failed = sum(code != 0 for code in codes)
    say(f"{len(codes) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _run(stage: Stage, quietly: bool) -> tuple[int, float, str]:
    """Exit status, seconds, and what it printed where that is not shown at once."""
    started = time.monotonic()
    env = {**os.environ, **kernel_env(resolve("mini")), **stage.env}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} if quietly else {}
    done = subprocess.run([sys.executable, *stage.command], cwd=REPOSITORY, env=env, **output)
    return done.returncode, time.monotonic() - started, done.stdout or ""


def selftest(pytest_arguments: Sequence[str] = ()) -> int:
    """Run everything; see :func:`run_stages`."""
    with tempfile.TemporaryDirectory(prefix="kard-smoke-", ignore_cleanup_errors=True) as runs:
        return run_stages(stages(runs, pytest_arguments), lambda line: print(line, flush=True))
