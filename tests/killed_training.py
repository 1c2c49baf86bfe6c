"""Trains a student, kills it (SIGKILL) each time it has written a checkpoint, and starts it anew until it is done.

Arguments: base model, pairs (JSON), folder, kills, seed of the moments, rows at a time, LoRA (0 or 1). Forks, so that a
start costs nothing. Prints how many trainings were alive when they were killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from kardlib import student
from kardlib.prompts import Pair
from kardlib.reranker_lora import Lora
from kardlib.student import Hyperparameters
from kardlib.student_fit import Options, fit_student

HYPER = Hyperparameters(lr=1e-3, epochs=2, batch=4, source_tokens=200, target_tokens=48)


def train(base: str, pairs: list[Pair], folder: Path, options: Options) -> int:
    """Id of a process that trains to the end."""
    child = os.fork()
    if not child:
        try:
            fit_student(base, pairs, HYPER, 0, folder / "out", folder / "work", options)
        finally:
            os._exit(0)
    return child


def main() -> None:
    """Kill so many trainings, then let one finish."""
    base, folder, kills, draw = sys.argv[1], Path(sys.argv[3]), int(sys.argv[4]), random.Random(sys.argv[5])
    pairs = [Pair(*pair) for pair in json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))]
    options = Options(part=int(sys.argv[6]), lora=Lora(4) if int(sys.argv[7]) else None)
    torch.set_num_threads(1)
    student.CHECKPOINT_SECONDS = -1
    killed = 0
    for _ in range(kills):
        known = set((folder / "work").glob("checkpoint-*"))
        child = train(base, pairs, folder, options)
        while set((folder / "work").glob("checkpoint-*")) <= known and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.1))  # while it is written, or in the next step
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
    _, status = os.waitpid(train(base, pairs, folder, options), 0)
    print(killed)


if __name__ == "__main__":
    main()
