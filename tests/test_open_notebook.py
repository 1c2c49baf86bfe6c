"""What a notebook does first: where what ships is read it imports no torch, and has as many threads all the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kardlib.notebook_run import kernel_env

OPEN = """
import sys
from kardlib.notebook import open_notebook

run, experiment = open_notebook("06_main_results", {{"preset": "mini", "size": "smoke", "retrain": {retrain}}})
print("torch" in sys.modules)
import torch
import transformers

told = transformers.utils.logging
print(torch.get_num_threads(), told.is_progress_bar_enabled(), told.get_verbosity())
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, list[str]]:
    """What a new kernel says, by ``retrain``."""
    env = kernel_env() | {"KARD_RUNS": str(tmp_path_factory.mktemp("runs")), "OMP_NUM_THREADS": "2"}
    return {retrain: _told(OPEN.format(retrain=retrain), env) for retrain in (True, False)}


def _told(program: str, env: dict[str, str]) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | env)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_torch_is_not_imported_where_what_ships_is_read(told: dict[bool, list[str]]) -> None:
    assert told[True][0] == "True" and told[False][0] == "False"


def test_threads_and_bars_are_the_same_either_way(told: dict[bool, list[str]]) -> None:
    assert told[True][1] == told[False][1] and told[True][1].startswith("1 False")
