"""A tiny notebook, written by the tests that run one: it needs no torch and takes a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PARAMETERS = """\
preset: str = "mini"  # mini, laptop or paper
dataset: str = ""  # "" = as the preset has it
size: str = ""  # full or smoke
k: int = 0  # passages that the student reads; 0 = as the preset has it
student_lr: float = 0.0  # learning rate; 0 = as the preset has it
seeds: list = []  # [] = as the preset has it
data_dir: str = ""  # folder of real data
shout: bool = False  # an example of a parameter that is no setting
"""
OPEN = """\
import os, sys
from kardlib.presets import resolve
from kardlib.runs import ResultRow, open_run
settings = resolve(preset, dataset=dataset, size=size, k=k, student_lr=student_lr, seeds=seeds, data_dir=data_dir)
run = open_run("06_tiny", settings, extra={"shout": shout})
with open(run.folder / "kernels.txt", "a") as log:
    log.write(sys.executable + "\\n")
"""
FINISH = """\
row = ResultRow(table="1", dataset="mini-medqa", paper_dataset="MedQA-USMLE", split="test", student="mini-t5-base",
                paper_student="Flan-T5-base", method="KARD (BM25)", metric="accuracy", decoding="greedy",
                settings={"k": settings.k}, value=50.0, sd=1.0, seeds=[49.0, 51.0], ci95=(45.0, 55.0), n=200)
run.finish([row], ["a note"])
"""


def code(text: str, *tags: str) -> dict[str, Any]:
    """A code cell."""
    meta = {"tags": list(tags)} if tags else {}
    return {"cell_type": "code", "execution_count": None, "metadata": meta, "outputs": [], "source": text}


def markdown(text: str) -> dict[str, Any]:
    """A text cell."""
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def write_notebook(folder: Path, middle: str = "", parameters: str = PARAMETERS, name: str = "06_tiny") -> Path:
    """Write the tiny notebook with ``middle`` between its opening and its last cell."""
    opening = OPEN.replace("06_tiny", name)
    cells = [
        markdown("# Tiny"), code(parameters, "parameters"), code(opening), markdown("## The middle"), code(middle),
        code(FINISH),
    ]  # fmt: skip
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
