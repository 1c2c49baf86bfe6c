"""Decimal numbers in prose stand in what the cells print: text that a new run has left behind is found.

It is a net with wide meshes: a number may stand there for something else, and whole numbers are not looked at.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kardlib.presets import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
_NUMBER = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)")
_NOT_MEASURED = {
    "39.9": "million paragraphs of the paper",
    "1.5": "bm25s's k1",
    "0.75": "and its b",
    "0.3": "a tau1 to try",
}


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def shown(cell: dict[str, Any]) -> Iterator[str]:
    """A code cell's source and what it printed, without tags and pictures."""
    yield "".join(cell["source"])
    for output in cell["outputs"]:
        yield "".join(output.get("text", ()))
        for kind, data in output.get("data", {}).items():
            if kind.startswith("text/"):
                yield re.sub(r"<[^>]+>", " ", html.unescape("".join(data)))


def numbers_shown(path: Path) -> set[str]:
    return {n for cell in cells(path) if cell["cell_type"] == "code" for text in shown(cell) for n in numbers(text)}


def numbers(text: str) -> list[str]:
    return _NUMBER.findall(text)


def in_the_paper() -> set[str]:
    return set(numbers((REPOSITORY / "data" / "paper_results.csv").read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_numbers_of_a_notebooks_prose_are_those_of_its_cells(path: Path) -> None:
    known = numbers_shown(path) | in_the_paper() | set(_NOT_MEASURED)
    prose = [
        (cell["id"], n)
        for cell in cells(path)
        if cell["cell_type"] == "markdown"
        for n in numbers("".join(cell["source"]))
    ]
    assert [one for one in prose if one[1] not in known] == []


def test_numbers_of_the_readmes_results_are_those_of_the_notebooks() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    _, *rest = re.split(r"<!-- /?main-table -->", text)
    known = in_the_paper().union(*map(numbers_shown, NOTEBOOKS))
    assert rest and [n for n in numbers(rest[0]) if n not in known] == []


def test_a_stale_number_is_found() -> None:
    cell = {
        "source": ["a = 1"],
        "outputs": [{"text": ["71.4 ± 0.3\n"]}, {"data": {"text/html": ["<td>50.3</td>"], "image/png": "9.9"}}],
    }
    found = {n for text in shown(cell) for n in numbers(text)}
    assert found == {"71.4", "0.3", "50.3"} and numbers("v2.10.1, 71.4, +2.6") == ["71.4", "2.6"]
