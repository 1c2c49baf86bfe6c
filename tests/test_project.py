"""The project's own files: dependencies listed twice alike, no machine's paths, notebooks that keep the contract."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from kardlib import __version__
from kardlib.doctor import pinned
from kardlib.notebook_params import notebook_parameters, read_cells, source, tags
from kardlib.presets import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("[0-9]*.ipynb"))
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"pytorch": "torch"}
NOT_IN_PYPROJECT = {"python", "pip"}
# put together here, so that this file holds none of them itself
FORBIDDEN = re.compile(
    "|".join(("/wor" + "k/", "/roo" + "t/", "/tmp/" + "k/", r"\.\./sha" + "red", r"/hom" + r"e/\w+"))
)


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", CONDA_NAMES.get(name, name)).lower()


def asked() -> dict[str, str]:
    """Bounds by package from pyproject.toml, the test extra included."""
    lines = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    return {plain(Requirement(line).name): str(Requirement(line).specifier) for line in lines}


def test_environment_yml_is_the_twin_of_pyproject() -> None:
    entries = yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    lines = [line for entry in entries for line in (entry["pip"] if isinstance(entry, dict) else [entry])]
    conda = {plain(Requirement(line).name): str(Requirement(line).specifier) for line in lines}
    assert conda.pop("python") == PROJECT["requires-python"]
    assert {name: bound for name, bound in conda.items() if name not in NOT_IN_PYPROJECT} == asked()


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    pins = pinned()
    for name, bound in asked().items():
        assert name in pins, f"{name} is not in constraints.txt"
        assert Requirement(f"{name}{bound}").specifier.contains(pins[name]), f"{name}=={pins[name]}, {bound}"


def test_version_is_told_once() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["dynamic"] == ["version"] and str(citation["version"]) == __version__


def tracked_texts() -> list[Path]:
    """Files that git tracks or would track, as far as they are text."""
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git here")
    text = (".py", ".md", ".ipynb", ".toml", ".yml", ".txt", ".cff", ".json", ".cfg", ".csv", "")
    return [REPOSITORY / name for name in names if name and Path(name).suffix in text]


def test_no_file_names_a_place_on_some_machine() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}: {match.group()}"
        for path in tracked_texts()
        if path.is_file()
        for match in FORBIDDEN.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not found


def test_make_targets_are_one_kard_line_each() -> None:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)
    assert targets and {"help", ".venv", "demo", "test", "lab", "all"} <= set(targets[1].split())
    assert ".DEFAULT_GOAL := help" in text and "$(BIN)/kard $@" in text
    assert "make test" in (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in read_cells(path) if cell["cell_type"] == "code"]


@cache
def imported(tree: ast.Module) -> dict[str, Callable[..., Any]]:
    """What a notebook's cells import from the package and can call, by its name there."""
    return {
        name.asname or name.name: found
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kardlib")
        for name in node.names
        if isinstance(found := getattr(importlib.import_module(node.module or ""), name.name), FunctionType)
        or is_dataclass(found)
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    """The contract of every committed notebook."""

    def test_parameters_cell(self, path: Path) -> None:
        names = [parameter.name for parameter in notebook_parameters(path)]
        assert {"preset", "dataset"} <= set(names)
        assert not any("injected-parameters" in tags(cell) for cell in read_cells(path))

    def test_executed_in_order_without_errors(self, path: Path) -> None:
        cells = code_cells(path)
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
        assert not [out for cell in cells for out in cell["outputs"] if out["output_type"] == "error"]

    def test_size_of_file_and_cells(self, path: Path) -> None:
        assert path.stat().st_size <= 250 * 1024
        assert max(len(source(cell).splitlines()) for cell in code_cells(path)) <= 40

    def test_opens_and_finishes_a_run_of_its_own_name(self, path: Path) -> None:
        cells = [source(cell) for cell in code_cells(path)]
        assert ".finish(" in cells[-1]
        opened = re.search(r"open_(?:run|notebook)\(\s*['\"](\w+)['\"]", "\n".join(cells))
        assert opened and opened[1] == path.stem

    def test_calls_of_the_package_fit_its_signatures(self, path: Path) -> None:
        # found here in seconds, by nbval after ten minutes
        tree = ast.parse("\n".join(source(cell) for cell in code_cells(path)))
        for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
            called = imported(tree).get(call.func.id) if isinstance(call.func, ast.Name) else None
            starred = any(isinstance(given, ast.Starred) for given in call.args)
            if called is not None and not starred and all(word.arg for word in call.keywords):
                inspect.signature(called).bind(*call.args, **{word.arg: word.value for word in call.keywords})

    def test_says_goal_time_and_outcome_first(self, path: Path) -> None:
        first = read_cells(path)[0]
        assert first["cell_type"] == "markdown" and source(first).startswith("# ")
        for word in ("goal", "time", "outcome"):
            assert word in source(first).lower()

    def test_is_valid_and_names_no_kernel_but_python3(self, path: Path) -> None:
        import nbformat

        content = json.loads(path.read_text(encoding="utf-8"))
        nbformat.validate(content)
        assert content["metadata"]["kernelspec"]["name"] == "python3"
