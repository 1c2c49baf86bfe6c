"""Model folders are data: weights as safetensors, and no code that loading them would run.

A pickle runs whatever it likes when it is read, and so does a module that a configuration names. The libraries refuse
most of it themselves, some only after asking; here it is told beforehand, in one line that names the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import KardError

NO_CODE: dict[str, Any] = {"trust_remote_code": False}
"""For every ``from_pretrained``: left out, transformers asks whoever sits at the terminal."""
_PICKLES = {"pytorch_model": "model", "adapter_model": "adapter_model", "model": "model"}
"""How pickled weights begin, and safetensors that are read in their place."""
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_OWN = "sentence_transformers."
_DATA = (".json", ".safetensors", ".txt", ".model", ".md", ".jinja", ".tiktoken")
"""Endings of the files that a saved model and its tokenizer consist of."""


def refuse_code(folder: Path, modules: bool = False) -> None:
    """Refuse a folder whose loading would run code: only pickled weights, or classes that are not the libraries' own.

    What is never loaded (optimizer states, pickles beside safetensors of the same weights) may lie there.

    Args:
        modules: what ``modules.json`` names is loaded too, not the backbone alone.

    Raises:
        KardError: one line with the folder, the file and the reason.
    """
    for part in (folder, *(_modules(folder) if modules else ())):
        for file in sorted(part.glob("*")) if part.is_dir() else ():
            stem = next((begin for begin in _PICKLES if file.name.startswith(begin)), None)
            if stem and file.suffix in _PICKLED and not _has_safetensors(part, _PICKLES[stem]):
                name = file.relative_to(folder).as_posix()
                raise KardError(
                    f"model {folder}: its weights are pickled ({name}), which can run code; only safetensors are read"
                )
        for index in sorted(part.glob("*.safetensors.index.json")):
            _refuse_other_shards(folder, index)
    named = _read(folder / "config.json").get("auto_map")
    if named and not _is_native(_read(folder / "config.json").get("model_type")):
        raise KardError(f"model {folder}: its config.json asks for code of its own (auto_map), and none is run")


def _has_safetensors(part: Path, stem: str) -> bool:
    return any((part / f"{stem}.safetensors{end}").is_file() for end in ("", ".index.json"))


def _refuse_other_shards(folder: Path, index: Path) -> None:
    """An index names the files that are read; one that is no safetensors would be read as a pickle."""
    shards = _read(index).get("weight_map")
    for name in shards.values() if isinstance(shards, dict) else ():
        if not str(name).endswith(".safetensors") or "/" in str(name) or "\\" in str(name):
            named = f"{index.relative_to(folder).as_posix()} names {str(name)[:80]}"
            raise KardError(f"model {folder}: {named}, which can run code; only safetensors beside it are read")


def only_data(folder: Path) -> None:
    """Refuse a folder that holds anything but what a saved model consists of; for folders that the kit has written.

    Raises:
        KardError: there is no such folder, or a file in it does not belong there.
    """
    if not folder.is_dir():
        raise KardError(f"{folder}: no such folder")
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix not in _DATA:
            name = file.relative_to(folder).as_posix()
            raise KardError(f"{folder}: {name} does not belong there; a saved model is safetensors and text alone")
    refuse_code(folder, modules=True)


def _modules(folder: Path) -> Iterator[Path]:
    """Folders of a sentence-transformers model's modules."""
    listed = _read(folder / "modules.json", list)
    for module in listed:
        kind = str(module.get("type", "")) if isinstance(module, dict) else ""
        if not kind.startswith(_OWN):
            raise KardError(f"model {folder}: its modules.json asks for code of its own ({kind[:80]}), and none is run")
        part = (folder / str(module.get("path", ""))).resolve()
        if part != folder.resolve():
            yield folder / str(module["path"])


def _is_native(kind: Any) -> bool:
    from transformers import CONFIG_MAPPING

    return kind in CONFIG_MAPPING


def _read(file: Path, kind: type = dict) -> Any:
    """A JSON object or list; an empty one where there is none or the file is broken, which its loader tells."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return kind()
    return value if isinstance(value, kind) else kind()
