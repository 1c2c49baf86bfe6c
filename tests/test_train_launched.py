"""``accelerate launch``: two processes train the student that one trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import weights

from kardlib.errors import KardError
from kardlib.experiment import Experiment
from kardlib.train_launched import settings_of

LOSS, WEIGHTS = 1e-3, 0.03
"""Largest relative difference of a loss between one process and two, and of what the weights differ by beside what
they were moved by: sums of float32 in another order, which 42 steps of Adam make larger. Parts of another size in one
process differ by as much."""


def parameters(base: str) -> list[str]:
    """96 questions, three times over, in batches of seven: the last batch has one row, and one process none of it."""
    values = {
        "size": "smoke", "inventory": "development", "student": base, "filter": "false", "l": 1, "student_epochs": 3,
        "student_batch": 7, "source_tokens": 110, "target_tokens": 16, "student_part": 2, "student_lr": 2e-4,
        "student_keep": "best on dev",
    }  # fmt: skip
    return [text for name, value in values.items() for text in ("-p", f"{name}={value}")]


def launched(processes: int, base: str, runs: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes)]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--multi_gpu"]
    command += ["--main_process_port", "0", "-m", "kardlib.train_launched", "--training", "KARD", *parameters(base)]
    env = os.environ | {"KARD_RUNS": str(runs), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)


def test_two_processes_train_as_one(tiny_t5: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = launched(2, tiny_t5, tmp_path / "two")
    assert not done.returncode, done.stderr[-3000:]
    settings = settings_of(parameters(tiny_t5)[1::2])
    folders = {}
    for name in ("one", "two"):
        monkeypatch.setenv("KARD_RUNS", str(tmp_path / name))
        experiment = Experiment(settings)
        assert experiment.made("student", training="KARD", seed=0) == (name == "two")
        folders[name] = experiment.student("KARD", 0)
    assert str(folders["two"]) in done.stdout
    for name, rows in (("curve.json", 4), ("held.json", 3)):
        one, two = (json.loads((folder.parent / name).read_text()) for folder in folders.values())
        assert [row["step"] for row in one] == [row["step"] for row in two] and len(one) == rows
        assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=LOSS)
    assert one[-1]["loss"] < one[0]["loss"]
    base, first, second = (weights(Path(folder)) for folder in (tiny_t5, folders["one"], folders["two"]))
    assert base.keys() == first.keys() == second.keys()
    moved = sum(float((first[name] - base[name]).abs().sum()) for name in base)
    assert sum(float((first[name] - second[name]).abs().sum()) for name in base) < WEIGHTS * moved
    again = launched(2, tiny_t5, tmp_path / "two")  # it is there: the second process must not wait for anything
    assert not again.returncode and str(folders["two"]) in again.stdout


def test_parameters_are_read_as_json_or_text() -> None:
    settings = settings_of(["preset=laptop", "seeds=[0, 1]", "student_part=4", "student=mini-opt"])
    assert (settings.preset, settings.seeds, settings.student_part, settings.student) == (
        "laptop",
        (0, 1),
        4,
        "mini-opt",
    )
    assert settings_of(["seeds=0,1"]).seeds == (0, 1) and settings_of(["seeds=2"]).seeds == (2,)
    with pytest.raises(KardError, match="name=value"):
        settings_of(["student_part"])
    with pytest.raises(KardError, match="student_parts"):
        settings_of(["student_parts=3"])
