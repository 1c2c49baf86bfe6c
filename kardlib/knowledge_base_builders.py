"""Making knowledge bases: of documents, of passages that are there, and of several knowledge bases together.

All are written as a stream: what is in memory does not grow with the number of passages.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path

from tqdm import tqdm

from .documents import Document
from .errors import KardError
from .knowledge_base import KnowledgeBase, Manifest, write_manifest
from .passage_files import Entry, write_passages
from .passage_rules import PassageRule
from .passage_sort import RUN_BYTES, sorted_by_id
from .passage_source import PassageSource
from .records import Record
from .whole_folder import whole_folder

NUMBER_DIGITS = 9
"""Digits of a generated id: the order of names is then that of numbers, up to a thousand million passages."""


class Origin(Record):
    """What a manifest says and its maker cannot count; see :class:`kardlib.knowledge_base.Manifest`."""

    name: str
    source: str
    licence: str = ""
    recipe: str = ""
    notes: tuple[str, ...] = ()


class _Cutter:
    """Turns documents into entries and counts them on the way."""

    def __init__(self, documents: Iterable[Document], rule: PassageRule) -> None:
        self._documents, self._rule = documents, rule
        self.documents = self.empty = 0

    def __iter__(self) -> Iterator[Entry]:
        number = 0
        for document in self._documents:
            self.documents += 1
            self.empty += not document.text.strip()
            for text in self._rule.cut(document.title, document.text):
                identifier = document.id if self._rule.kind == "whole" else f"{number:0{NUMBER_DIGITS}d}"
                yield Entry(identifier, text, document.id, document.where)
                number += 1
                if number >= 10**NUMBER_DIGITS:
                    raise KardError(f"{document.where}: more than {10**NUMBER_DIGITS:,} passages")


def build_from_documents(
    folder: Path,
    documents: Iterable[Document],
    rule: PassageRule,
    origin: Origin,
    replace: bool = False,
    progress: bool = True,
    run_bytes: int = RUN_BYTES,
) -> KnowledgeBase:
    """Cut documents into passages.

    Under the rule ``whole`` a passage has its document's id, and the passages are sorted by it, on disk where there
    are many; under any other rule they are numbered from 0 in the order in which they come.

    Args:
        replace: whether a knowledge base that is there may be replaced.
        run_bytes: memory for sorting.

    Raises:
        KardError: names the file, the line and the field of the first fault; nothing is left behind then.
    """
    cutter = _Cutter(documents, rule)
    with whole_folder(folder, replace) as partial:
        entries = _shown(cutter, origin.name, progress)
        if rule.kind == "whole":
            entries = sorted_by_id(entries, partial, run_bytes)
        _write(partial, entries, origin, rule, cutter)
    return KnowledgeBase.open(folder)


def build_from_passages(
    folder: Path, passages: PassageSource, origin: Origin, replace: bool = False, progress: bool = True
) -> KnowledgeBase:
    """Keep passages as they are, with their ids: those of a data set, for one.

    Raises:
        KardError: an id occurs twice or a text is empty.
    """
    with whole_folder(folder, replace) as partial:
        _write(partial, _shown(_entries(passages, "", origin.name), origin.name, progress), origin)
    return KnowledgeBase.open(folder)


def build_merged(
    folder: Path,
    parts: Mapping[str, PassageSource],
    origin: Origin,
    replace: bool = False,
    progress: bool = True,
    plain: Collection[str] = (),
) -> KnowledgeBase:
    """Several knowledge bases as one; a passage's id is its part's name, a slash, and the id that it has there.

    Args:
        parts: by name, for example a set's own evidence and Wikipedia as distractors.
        plain: names of parts whose passages keep their ids as they are.

    Raises:
        KardError: there are no parts, one has no name, or two passages would have the same id.
    """
    if not parts or not all(parts):
        raise KardError(f"{folder}: each knowledge base to be merged needs a name")
    streams = [_entries(source, "" if name in plain else f"{name}/", name) for name, source in parts.items()]
    with whole_folder(folder, replace) as partial:
        merged = heapq.merge(*streams, key=attrgetter("id"))
        _write(partial, _shown(merged, origin.name, progress, sum(map(len, parts.values()))), origin)
    return KnowledgeBase.open(folder)


def merged_origin(name: str, parts: Mapping[str, KnowledgeBase], recipe: str = "") -> Origin:
    """What the manifests of the parts say, each behind its part's name."""
    manifests = {part: base.manifest for part, base in parts.items()}
    return Origin(
        name=name,
        source="; ".join(f"{part}: {manifest.source}" for part, manifest in manifests.items()),
        licence="; ".join(f"{part}: {manifest.licence}" for part, manifest in manifests.items() if manifest.licence),
        recipe=recipe,
        notes=tuple(f"{part}: {note}" for part, manifest in manifests.items() for note in manifest.notes),
    )


def _entries(source: PassageSource, prefix: str, name: str) -> Iterator[Entry]:
    document = source.document if isinstance(source, KnowledgeBase) else lambda place: ""
    for place, passage in enumerate(source):
        yield Entry(prefix + passage.id, passage.text, document(place), f"{name}: passage {passage.id}")


def _shown(entries: Iterable[Entry], name: str, progress: bool, total: int | None = None) -> Iterator[Entry]:
    return iter(tqdm(entries, desc=name, unit=" passages", total=total, mininterval=1, disable=not progress))


def _write(
    partial: Path,
    entries: Iterable[Entry],
    origin: Origin,
    rule: PassageRule | None = None,
    cutter: _Cutter | None = None,
) -> None:
    written = write_passages(partial, entries)
    documents, empty = (cutter.documents, cutter.empty) if cutter else (0, 0)
    if not written.count:
        raise KardError(f"{origin.source}: not one passage ({documents:,} documents, {empty:,} of them without text)")
    manifest = Manifest(
        **origin.model_dump(),
        **written._asdict(),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        rule=rule,
        documents=documents,
        empty=empty,
    )
    write_manifest(partial, manifest)
