"""``kard test``: the unit tests, a full mini run, the committed notebooks, and the notebooks with other parameters."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
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
    """One command of the test, run by this interpreter; ``env`` goes on top of the process's own environment."""

    name: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)


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
    smoke = [part for setting in SMOKE for part in ("-p", setting)]
    kard = ["-m", "kardlib.cli"]
    return [
        Stage("unit tests", ["-m", "pytest", str(REPOSITORY / "tests"), *pytest_arguments]),
        Stage("full mini run", [*kard, "demo"]),
        # without a notebook pytest would collect the unit tests again and pass
        Stage("notebooks as committed", ["-m", "pytest", *nbval, *(notebooks or ["no-notebooks"])]),
        Stage("notebooks with other parameters", [*kard, "run", "all", *smoke], {"KARD_RUNS": runs}),
    ]


def run_stages(todo: Sequence[Stage], say: Callable[[str], None] = print) -> int:
    """Run all stages, whatever fails, and end with a line that counts them.

    Returns:
        0 if all passed, 1 otherwise.
    """
    passed, told = 0, []
    for stage in todo:
        say(f"== {stage.name}")
        started = time.monotonic()
        env = {**os.environ, **kernel_env(resolve("mini")), **stage.env}
        code = subprocess.run([sys.executable, *stage.command], cwd=REPOSITORY, env=env).returncode
        passed += code == 0
        told.append(f"{'ok  ' if code == 0 else 'FAIL'} {stage.name}: {time.monotonic() - started:.0f} s")
    for line in told:
        say(line)
    say(f"{passed} passed, {len(todo) - passed} failed")
    return 0 if passed == len(todo) else 1


def selftest(pytest_arguments: Sequence[str] = ()) -> int:
    """Run everything; see :func:`run_stages`."""
    with tempfile.TemporaryDirectory(prefix="kard-smoke-", ignore_cleanup_errors=True) as runs:
        return run_stages(stages(runs, pytest_arguments), lambda line: print(line, flush=True))
