"""Completions as files: JSONL with prompts and raw texts, ready to publish, and the authors' layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import KardError
from .records import json_rows, parse_record
from .store import atomic_write
from .teacher_records import Ask, Sample
from .teacher_store import TeacherStore

AT_ONCE = 500
"""Completions of one transaction."""
TEXT_FIELDS = ("text", "completion", "rationale", "content")
LIST_FIELDS = ("completions", "rationales", "choices", "samples", "responses")
_LINE_ENDS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}
"""Characters that some readers take for the end of a line; JSON itself escapes the others."""
_SAMPLE_FIELDS = tuple(Sample.model_fields)


def export(rows: Iterable[tuple[Ask, Sample]], path: Path) -> int:
    """Write completions, one a line: the whole prompt, the sampling parameters, the raw text and where it comes from.

    Args:
        rows: of :meth:`kardlib.teacher_store.TeacherStore.everything`, or of
            :func:`kardlib.teacher_salvage.salvage` where the store is damaged.

    Returns:
        How many lines there are. The order is that of ``rows``, so equal stores give equal files.
    """
    count = 0
    with atomic_write(path) as file:
        for ask, sample in rows:
            row = ask.model_dump(mode="json") | sample.model_dump(mode="json")
            file.write(json.dumps(row, ensure_ascii=False).translate(_LINE_ENDS) + "\n")
            count += 1
    return count


def import_jsonl(store: TeacherStore, path: Path) -> int:
    """Read an exported file into a store. What is there already stays as it is; to import twice changes nothing.

    Returns:
        How many completions the file holds.

    Raises:
        KardError: names the file, the line and the field of the first fault; then nothing has been imported.
    """
    count = sum(1 for _ in exported_rows(path))  # the whole file is looked at before the store is touched
    _put(store, exported_rows(path))
    return count


def exported_rows(path: Path) -> Iterator[tuple[Ask, Sample]]:
    """The rows of an exported file, one at a time."""
    for number, row in json_rows(path):
        where = f"{path}:{number}"
        sample = {name: row.pop(name) for name in _SAMPLE_FIELDS if name in row}
        yield parse_record(row, Ask, where), parse_record(sample, Sample, where)


def import_authors(store: TeacherStore, folder: Path, asks: Mapping[str, Ask]) -> int:
    """Read rationales in the authors' layout: one JSON file a question, with the completions of one call (n = 10).

    The file's stem is the question's id. The file holds a list, or an object with such a list under ``completions``,
    ``rationales``, ``choices``, ``samples`` or ``responses``, or one with a single completion. A completion is a string
    or an object with ``text``, ``completion``, ``rationale`` or ``content``, or with ``message: {"content"}`` as the
    API sends it; its ``finish_reason`` counts as ``stop`` where it is not told. A file's j-th completion becomes
    sample j; tokens and time of arrival are unknown and stored as 0.

    Args:
        asks: how each question was put to the teacher, by question id; the files do not hold the prompts.

    Returns:
        How many completions the files hold.

    Raises:
        KardError: names the file and the field of the first fault; then nothing has been imported.
    """
    files = sorted(Path(folder).glob("*.json"))
    if not files:
        raise KardError(f"{folder}: no JSON files, and one a question was expected")
    unknown = next((file for file in files if file.stem not in asks), None)
    if unknown is not None:
        raise KardError(f"{unknown}: no question has the id {unknown.stem!r}")
    count = sum(len(authors_samples(file)) for file in files)
    _put(store, ((asks[file.stem], sample) for file in files for sample in authors_samples(file)))
    return count


def authors_samples(path: Path) -> list[Sample]:
    """The completions of one question's file; see :func:`import_authors`."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise KardError(f"{path}: cannot be read ({error})") from None
    except json.JSONDecodeError as error:
        raise KardError(f"{path}:{error.lineno}: not JSON ({error.msg} at column {error.colno})") from None
    if isinstance(value, dict):
        value = next((value[name] for name in LIST_FIELDS if name in value), [value])
    if not isinstance(value, list) or not value:
        raise KardError(f"{path}: a list of completions was expected")
    return [_authors_sample(item, index, f"{path}: completion {index}") for index, item in enumerate(value)]


def _authors_sample(item: Any, index: int, where: str) -> Sample:
    if isinstance(item, str):
        return Sample(index=index, text=item, finish_reason="stop", source="import")
    if not isinstance(item, dict):
        raise KardError(f"{where}: a string or an object was expected")
    holder = item["message"] if isinstance(item.get("message"), dict) else item
    name = next((name for name in TEXT_FIELDS if name in holder), None)
    if name is None:
        raise KardError(f"{where}: none of the fields {', '.join(TEXT_FIELDS)} is there")
    row = {"index": index, "text": holder[name], "finish_reason": item.get("finish_reason", "stop"), "source": "import"}
    return parse_record(row, Sample, where)


def _put(store: TeacherStore, rows: Iterable[tuple[Ask, Sample]]) -> None:
    some: list[tuple[Ask, Sample]] = []
    for row in rows:
        some.append(row)
        if len(some) == AT_ONCE:
            store.put_many(some)
            some = []
    store.put_many(some)
