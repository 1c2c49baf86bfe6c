"""What a knowledge base can be made of, as one writes it on a command line, and making it of that.

``set:strategyqa`` is a data set's own evidence, ``hub:wikimedia/wikipedia:20231101.en`` a data set on the hub, and any
other word a path: a knowledge base, a file, or a folder with text, JSONL or Parquet files. ``wiki=`` before any of them
names it; several are merged under their names. A bare ``=`` before one lets its passages keep their ids in the mixture.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .dataset import DataSet
from .documents import FIELDS, Fields, files_state, read_documents
from .errors import KardError
from .hub_documents import LICENCES, hub_documents, hub_revision
from .index_folder import PASSAGES
from .knowledge_base import MANIFEST, KnowledgeBase, write_manifest
from .knowledge_base_builders import (
    Origin,
    build_from_documents,
    build_from_passages,
    build_merged,
    merged_origin,
)
from .passage_rules import PARAGRAPHS, PassageRule
from .passage_source import PassageList
from .store import fingerprint
from .whole_folder import whole_folder

SET_LICENCES = {"strategyqa": "MIT", "medqa": "CC BY 4.0 (MedQuAD)"}
"""Of the passages, not of the questions."""


@dataclass(frozen=True)
class Spec:
    """One source.

    Attributes:
        kind, target: ``set``, ``hub`` or ``path``, and what stands behind the colon.
        name: that it goes by.
        plain: whether its passages keep their ids where it is merged with others.
    """

    kind: str
    target: str
    name: str
    plain: bool = False


@dataclass(frozen=True)
class Choices:
    """How sources are read.

    Attributes:
        rule, fields: of documents; a data set's passages and a knowledge base's are taken as they are.
        name: of the knowledge base; its source's by default.
        licence: of the text, where it is not the one that is known.
        parameters: of a data set, ``data_dir`` for one.
        again: make what is there once more.
        progress: show bars.
    """

    rule: PassageRule = PARAGRAPHS
    fields: Fields = FIELDS
    name: str = ""
    licence: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    again: bool = False
    progress: bool = True


def spec_of(text: str) -> Spec:
    """Read one word; a KardError where its name or target is missing."""
    named = re.match(r"([\w-]*)=(.*)", text)
    name, target = named.groups() if named else ("", text)
    kind, colon, rest = target.partition(":")
    if not colon or kind not in ("set", "hub"):
        kind, rest = "path", target
    if not rest:
        raise KardError(f"{text!r}: a path, set:NAME or hub:NAME:CONFIG was expected")
    if not name:
        path = Path(rest).expanduser().absolute()
        name = path.name.split(".")[0] or path.name if kind == "path" else rest.rpartition("/")[2].replace(":", "-")
    return Spec(kind, rest, name, plain=text.startswith("="))


def make_knowledge_base(folder: Path, specs: Sequence[Spec], choices: Choices) -> KnowledgeBase:
    """Make the knowledge base of the sources, or open it where the same sources and choices have made it already.

    Several sources are first made one by one, in ``parts`` beside the folder, and merged; the parts are then removed.

    Raises:
        KardError: a source cannot be read (file, line and field are named), two have the same name, or two passages
            the same id.
    """
    base = _make_one(folder, specs[0], choices) if len(specs) == 1 else _merge(folder, specs, choices)
    given = {"name": choices.name, "licence": choices.licence}
    manifest = base.manifest.model_copy(update={field: text for field, text in given.items() if text})
    if manifest == base.manifest:
        return base
    write_manifest(folder, manifest)  # no passage depends on it
    return KnowledgeBase.open(folder)


def _merge(folder: Path, specs: Sequence[Spec], choices: Choices) -> KnowledgeBase:
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        raise KardError(f"two sources have the same name ({', '.join(names)}); NAME=SOURCE gives another")
    plain = [spec.name for spec in specs if spec.plain]
    recipe = fingerprint([_recipe(spec, choices) for spec in specs], names, plain)
    if (found := _found(folder, recipe, choices)) is not None:
        return found
    scratch = folder.parent / "parts"
    parts = {spec.name: _part(scratch / spec.name, spec, replace(choices, name="", licence="")) for spec in specs}
    origin = merged_origin(choices.name or "+".join(names), parts, recipe)
    base = build_merged(folder, parts, origin, replace=True, progress=choices.progress, plain=plain)
    shutil.rmtree(scratch, ignore_errors=True)
    return base


def _part(folder: Path, spec: Spec, choices: Choices) -> KnowledgeBase:
    at = _base_at(spec)
    return KnowledgeBase.open(at) if at else _make_one(folder, spec, choices)


def _base_at(spec: Spec) -> Path | None:
    """The folder of a source that is a knowledge base already, or holds one beside its index."""
    at = Path(spec.target).expanduser().absolute()
    found = (folder for folder in (at, at / PASSAGES) if (folder / MANIFEST).is_file())
    return next(found, None) if spec.kind == "path" else None


def _make_one(folder: Path, spec: Spec, choices: Choices) -> KnowledgeBase:
    recipe = _recipe(spec, choices)
    if (found := _found(folder, recipe, choices)) is not None:
        return found
    if at := _base_at(spec):
        return _copy(folder, at)
    if spec.kind == "set":
        return _make_of_set(folder, spec, choices, recipe)
    if spec.kind == "hub":
        name, _, config = spec.target.partition(":")
        revision = hub_revision(name)
        source = " ".join(part for part in (name, config, f"at {revision[:12]}") if part)
        documents, licence = hub_documents(name, config, revision, choices.fields), LICENCES.get(name, "")
    else:
        at = Path(spec.target).expanduser().absolute()
        documents, source, licence = read_documents(at, choices.fields), at.name, ""
    origin = Origin(name=choices.name or spec.name, source=source, licence=choices.licence or licence, recipe=recipe)
    return build_from_documents(folder, documents, choices.rule, origin, replace=True, progress=choices.progress)


def _copy(folder: Path, at: Path) -> KnowledgeBase:
    if at != folder.absolute():
        with whole_folder(folder, replace=True) as partial:
            shutil.copytree(at, partial, dirs_exist_ok=True)
    return KnowledgeBase.open(folder)


def _data_of(spec: Spec, choices: Choices) -> DataSet:
    from .presets import resolve
    from .readers import read_dataset

    return read_dataset(resolve(**{"preset": "laptop", **choices.parameters, "dataset": spec.target}))


def _make_of_set(folder: Path, spec: Spec, choices: Choices, recipe: str) -> KnowledgeBase:
    data = _data_of(spec, choices)
    origin = Origin(
        name=choices.name or spec.name,
        source=f"passages of the data set {data.name}",
        licence=choices.licence or SET_LICENCES.get(spec.target, ""),
        recipe=recipe,
        notes=tuple(data.notes),
    )
    passages = PassageList(data.passages)
    return build_from_passages(folder, passages, origin, replace=True, progress=choices.progress)


def _recipe(spec: Spec, choices: Choices) -> str:
    """A hash of what a knowledge base is made from. Local files enter by name, size and time, and are not read."""
    if at := _base_at(spec):
        return KnowledgeBase.open(at).digest
    if spec.kind == "set":
        return fingerprint("set", spec.target, PassageList(_data_of(spec, choices).passages).digest)
    state = files_state(Path(spec.target).expanduser().absolute()) if spec.kind == "path" else ""
    return fingerprint(spec.kind, spec.target, state, choices.rule.model_dump(), choices.fields.model_dump())


def _found(folder: Path, recipe: str, choices: Choices) -> KnowledgeBase | None:
    """What is there, where the same recipe has made it."""
    if choices.again or not (folder / MANIFEST).is_file():
        return None
    base = KnowledgeBase.open(folder)
    return base if recipe in (base.manifest.recipe, base.digest) else None
