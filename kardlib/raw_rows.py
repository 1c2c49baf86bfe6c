"""Rows of files that other people wrote: where each one stands, and fields that are what they should be.

Every fault is one :class:`KardError` line that starts with ``file:line`` and names the field.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import KardError
from .prompts import LETTERS
from .records import Question, parse_record

_GAP = re.compile(r"[\s,:]*")


class Seen:
    """The ids met so far, over all files of a set, so that the second of two equal ones can be named."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}

    def add(self, identifier: str, where: str, field: str = "id") -> None:
        """Remember an id; a KardError names the place of the second and of the first if it is known already."""
        if identifier in self._first:
            first = self._first[identifier]
            raise KardError(f"{where}: field {field}: {identifier!r} occurs a second time (first at {first})")
        self._first[identifier] = where

    def __contains__(self, identifier: str) -> bool:
        return identifier in self._first


def text_lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 text file, stripped; blank ones are skipped."""
    for line in _read(path).split("\n"):
        if line.strip():
            yield line.strip()


def gzip_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """``file:line`` and object of each row of a gzipped JSONL file; blank lines are skipped."""
    where = str(path)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                where = f"{path}:{number}"
                if line.strip():
                    yield where, _object(json.loads(line), where)
    except FileNotFoundError:
        raise KardError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
        raise KardError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise KardError(f"{path}: cannot be read ({error})") from None
    if where == str(path):
        raise KardError(f"{path}: the file is empty")


def json_entries(path: Path, opening: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """``file:line``, key and object of each entry of a file that is one JSON array or one JSON object.

    Args:
        path: the file.
        opening: ``[`` for an array (the keys are then empty) or ``{`` for an object. Equal keys of an object are
            all given, where ``json.load`` would keep the last.
    """
    text = _read(path)
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise KardError(f"{path}:{error.lineno}: not JSON ({error.msg} at column {error.colno})") from None
    position = text.index(text.lstrip()[0])
    if text[position] != opening:
        raise KardError(f"{path}:1: a JSON {'array' if opening == '[' else 'object'} was expected")
    # The whole is known to be valid, so walking over commas and colons is safe.
    decoder, line, key, counted = json.JSONDecoder(), 1, "", 0
    position = _after_gap(text, position + 1)
    if text[position] in "]}":
        raise KardError(f"{path}: it holds no entries")
    while text[position] not in "]}":
        line, counted = line + text.count("\n", counted, position), position
        if opening == "{":
            key, position = decoder.raw_decode(text, position)
            position = _after_gap(text, position)
        value, position = decoder.raw_decode(text, position)
        yield f"{path}:{line}", key, _object(value, f"{path}:{line}")
        position = _after_gap(text, position)


def text_field(row: dict[str, Any], field: str, where: str) -> str:
    """A field that must be there and hold a text, stripped."""
    value = present(row, field, where)
    if not isinstance(value, str) or not value.strip():
        raise KardError(f"{where}: field {field}: a text was expected, not {_short(value)}")
    return value.strip()


def id_field(row: dict[str, Any], field: str, where: str) -> str:
    """A field that must hold an id: a text, or a whole number that is taken as its digits."""
    value = present(row, field, where)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_field(row, field, where)


def texts_field(row: dict[str, Any], field: str, where: str) -> list[str]:
    """A field that must hold a list of texts, each stripped; the list may not be empty."""
    value = present(row, field, where)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item.strip() for item in value):
        raise KardError(f"{where}: field {field}: a list of texts was expected, not {_short(value)}")
    return [item.strip() for item in value]


def present(row: dict[str, Any], field: str, where: str) -> Any:
    """A field that must be there, whatever it holds."""
    if field not in row:
        raise KardError(f"{where}: field {field}: it is missing")
    return row[field]


def letter_index(letter: str, labels: Sequence[str], field: str, where: str) -> int:
    """Place of an answer's label among the labels of the options."""
    if letter not in labels:
        raise KardError(f"{where}: field {field}: {letter!r} is no option (there are {', '.join(labels)})")
    return list(labels).index(letter)


def make_question(
    identifier: str,
    stem: str,
    options: Sequence[str],
    answer: int,
    where: str,
    meta: dict[str, Any] | None = None,
) -> Question:
    """A question; a KardError names the place and the field where it cannot be one."""
    row = {"id": identifier, "stem": stem, "options": tuple(options), "answer": answer, "meta": meta or {}}
    return parse_record(row, Question, where)


def repeated(options: Sequence[str]) -> str | None:
    """An option text that occurs twice, or None."""
    return next((option for i, option in enumerate(options) if option in options[:i]), None)


def letters(count: int) -> list[str]:
    """The first ``count`` option letters."""
    return list(LETTERS[:count])


def as_object(value: Any, field: str, where: str) -> dict[str, Any]:
    """A value that must be a JSON object."""
    if not isinstance(value, dict):
        raise KardError(f"{where}: field {field}: a JSON object was expected, not {_short(value)}")
    return value


def _object(value: Any, where: str) -> dict[str, Any]:
    return as_object(value, "row", where)


def _after_gap(text: str, position: int) -> int:
    gap = _GAP.match(text, position)
    return gap.end() if gap else position


def _read(path: Path) -> str:
    if not path.is_file():
        raise KardError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KardError(f"{path}: cannot be read ({error})") from None
    if not text.strip():
        raise KardError(f"{path}: the file is empty")
    return text


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
