"""A notebook's parameters, read and checked without starting a kernel."""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import presets
from .errors import KardError

NOTEBOOKS = presets.REPOSITORY / "notebooks"
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")
_ITEMS = {"list": int, "list[int]": int, "list[str]": str, "list[float]": float}


@dataclass(frozen=True)
class Parameter:
    """One line of a ``parameters`` cell: ``name: type = default  # meaning``."""

    name: str
    type: str
    default: Any
    meaning: str


@dataclass(frozen=True)
class Plan:
    """What a run of one notebook will be, known before its kernel starts.

    Attributes:
        given: values that the caller gave, with their declared types.
        extra: value of every parameter that is no field of ``Settings``.
    """

    path: Path
    given: dict[str, Any]
    settings: presets.Settings
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def notebook(self) -> str:
        """Name of the notebook without its ending."""
        return self.path.stem


def find_notebook(name: str) -> Path:
    """A notebook by number (``06``), name (``06_main_results``) or path.

    Raises:
        KardError: there is none; the nearest one is named.
    """
    if name.endswith(".ipynb") and Path(name).is_file():
        return Path(name).resolve()
    known = [path.stem for path in all_notebooks()]
    wanted = Path(name).name.removesuffix(".ipynb")
    found = [stem for stem in known if stem == wanted or stem.split("_")[0] == wanted]
    if len(found) == 1:
        return NOTEBOOKS / f"{found[0]}.ipynb"
    hint = presets.nearest(wanted, known) if known else f" (and none at all in {NOTEBOOKS})"
    raise KardError(f"notebook {name!r}: there is none of that name{hint}")


def all_notebooks() -> list[Path]:
    """The kit's notebooks in order."""
    return sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))


def read_cells(path: Path) -> list[dict[str, Any]]:
    """Cells of a notebook.

    Raises:
        KardError: the file cannot be read or is no notebook.
    """
    try:
        return list(json.loads(Path(path).read_text(encoding="utf-8"))["cells"])
    except OSError as error:
        raise KardError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError):
        raise KardError(f"{path}: not a notebook") from None


def source(cell: dict[str, Any]) -> str:
    """Text of a cell, stored as a string or as a list of lines."""
    return "".join(cell.get("source", ""))


def tags(cell: dict[str, Any]) -> list[str]:
    """Tags of a cell."""
    return list(cell.get("metadata", {}).get("tags", []))


def notebook_parameters(path: Path) -> list[Parameter]:
    """The parameters that a notebook declares in its one cell tagged ``parameters``.

    Raises:
        KardError: there is not exactly one such cell, or a line of it is no typed, commented literal.
    """
    cells = [cell for cell in read_cells(path) if "parameters" in tags(cell)]
    if len(cells) != 1:
        raise KardError(f"{path}: {len(cells)} cells are tagged 'parameters', one was expected")
    text = source(cells[0])
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        raise KardError(f"{path}: the parameters cell, line {error.lineno}: {error.msg}") from None
    comments = _comments(text)
    return [_parameter(node, comments, path) for node in body]


def _parameter(node: ast.stmt, comments: dict[int, str], path: Path) -> Parameter:
    where = f"{path}: the parameters cell, line {node.lineno}"
    if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
        raise KardError(f"{where}: 'name: type = literal  # meaning' was expected")
    kind = ast.unparse(node.annotation)
    if kind not in ("int", "float", "bool", "str", *_ITEMS):
        raise KardError(f"{where}: {node.target.id} has type {kind}; int, float, bool, str or list was expected")
    try:
        default = ast.literal_eval(node.value)
    except ValueError:
        raise KardError(f"{where}: the default of {node.target.id} is no literal") from None
    meaning = comments.get(node.end_lineno or node.lineno, "")
    if not meaning:
        raise KardError(f"{where}: {node.target.id} has no comment that says what it means")
    return Parameter(node.target.id, kind, default, meaning)


def _comments(text: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.start[0]: token.string.lstrip("# ").strip() for token in tokens if token.type == tokenize.COMMENT}


def check_parameters(given: dict[str, str], spec: Sequence[Parameter]) -> dict[str, Any]:
    """Give strings from the command line their declared types.

    Raises:
        KardError: a name is unknown (the nearest right one is named), or a value is not of the declared type.
    """
    known = {parameter.name: parameter for parameter in spec}
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in known:
            raise KardError(f"parameter {name!r}: there is none of that name{presets.nearest(name, known)}")
        kind = known[name].type
        try:
            value = _convert(text, kind)
        except ValueError:
            raise KardError(f"parameter {name} = {text!r}: {kind} was expected") from None
        # the kernel may run in another folder
        folder = name in ("data_dir", "dapt_text")
        if value and (folder or (name in ("student", "encoder") and value.startswith((".", "~")))):
            value = str(Path(value).expanduser().resolve())
        values[name] = value
    return values


def _convert(text: str, kind: str) -> Any:
    if kind == "str":
        return text
    if kind == "bool":
        if text.lower() not in _TRUE + _FALSE:
            raise ValueError(text)
        return text.lower() in _TRUE
    if kind in _ITEMS:
        items = [item.strip().strip("'\"") for item in text.strip().removeprefix("[").removesuffix("]").split(",")]
        return [_ITEMS[kind](item) for item in items if item]
    return {"int": int, "float": float}[kind](text)


def plan_run(path: Path, given: dict[str, str]) -> Plan:
    """Check everything about a run that can be checked without a kernel.

    Args:
        given: parameters as the command line has them; ``preset`` and ``dataset`` are among them.

    Raises:
        KardError: a name, a type or a value is wrong.
    """
    spec = notebook_parameters(path)
    values = check_parameters(given, spec)
    merged = {parameter.name: parameter.default for parameter in spec} | values
    preset = merged.pop("preset", "mini")
    chosen = {name: value for name, value in merged.items() if name in presets.Settings.model_fields}
    extra = {name: value for name, value in merged.items() if name not in chosen}
    return Plan(path, values, presets.resolve(preset, **chosen), extra)


def plan_runs(paths: Sequence[Path], given: dict[str, str]) -> list[Plan]:
    """Plans of several notebooks; a parameter goes to those that declare it, and one that none declares is refused."""
    specs = {path: {parameter.name for parameter in notebook_parameters(path)} for path in paths}
    known = set().union(*specs.values())
    for name in given:
        if name not in known:
            raise KardError(f"parameter {name!r}: there is none of that name{presets.nearest(name, sorted(known))}")
    return [plan_run(path, {n: text for n, text in given.items() if n in specs[path]}) for path in paths]
