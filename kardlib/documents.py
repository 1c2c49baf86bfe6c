"""Documents of local files: a folder of text files, JSONL or Parquet rows, or any mixture of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .document_rows import json_lines, parquet_rows
from .errors import KardError
from .raw_rows import present
from .records import Record
from .store import fingerprint

TEXT_SUFFIXES = (".txt", ".md")
ROW_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


class Document(NamedTuple):
    """A text that passages are cut from.

    Attributes:
        id: what its publisher calls it; empty where it has no name.
        title: stands before each of its passages; may be empty.
        text: a paragraph a line.
        where: its file and line, for error messages.
    """

    id: str
    title: str
    text: str
    where: str


class Fields(Record):
    """What the fields of a row may be called; of several that are there the first counts.

    The defaults know ``wikimedia/wikipedia`` (id, url, title, text), abstracts (PMID, title, abstract) and the public
    dumps for search engines (id, contents), whose ``contents`` begins with the title already.
    """

    id: tuple[str, ...] = ("id", "_id", "PMID", "pmid")
    title: tuple[str, ...] = ("title",)
    text: tuple[str, ...] = ("text", "abstract", "content", "contents")

    def names(self) -> set[str]:
        """All of them."""
        return {*self.id, *self.title, *self.text}

    def document(self, row: dict[str, Any], where: str) -> Document:
        """The document of a row. A text or title that is null is taken as empty.

        Raises:
            KardError: no field of a text's name is there, or one holds something else.
        """
        name = next((name for name in self.text if name in row), self.text[0])
        present(row, name, where)
        identifier = next((_text(row, name, where, number=True) for name in self.id if name in row), "")
        title = next((_text(row, name, where) for name in self.title if name in row), "")
        if name == "abstract":
            title = title.removesuffix(".")  # titles of abstracts end in their own full stop
        return Document(identifier, "" if name == "contents" else title, _text(row, name, where), where)


FIELDS = Fields()


def _text(row: dict[str, Any], name: str, where: str, number: bool = False) -> str:
    value = row[name]
    if number and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise KardError(f"{where}: field {name}: a text was expected, not {str(value)[:60]!r}")
    return (value or "").strip()


def document_files(path: Path) -> list[Path]:
    """The files with documents at a path, in the order in which their passages are numbered: that of their names.

    Raises:
        KardError: there are none.
    """
    if path.is_file():
        found = [path]
    elif path.is_dir():
        inside = (file for file in path.rglob("*") if not _hidden(file.relative_to(path)))
        found = sorted(file for file in inside if file.name.endswith(TEXT_SUFFIXES + ROW_SUFFIXES) and file.is_file())
    else:
        raise KardError(f"{path}: no such file or folder")
    if not found or not found[0].name.endswith(TEXT_SUFFIXES + ROW_SUFFIXES):
        raise KardError(f"{path}: no documents; known are {', '.join(ROW_SUFFIXES + TEXT_SUFFIXES)}")
    return found


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def files_state(path: Path) -> str:
    """A hash that changes with the name, size or time of any file with documents."""
    stats = [(file.relative_to(path.parent).as_posix(), file.stat()) for file in document_files(path)]
    return fingerprint([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])


def read_documents(path: Path, fields: Fields = FIELDS) -> Iterator[Document]:
    """The documents of a file, or of all files of a folder and its subfolders. One is in memory at a time.

    A ``.txt`` or ``.md`` file is one document: its path is its id, its name or first heading its title.

    Raises:
        KardError: names the file, the line and the field of the first fault.
    """
    root = path if path.is_dir() else path.parent
    for file in document_files(path):
        if file.name.endswith(TEXT_SUFFIXES):
            yield _text_document(file, root)
        else:
            rows = parquet_rows(file, fields.names()) if file.suffix == ".parquet" else json_lines(file)
            for where, row in rows:
                yield fields.document(row, where)


def _text_document(file: Path, root: Path) -> Document:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise KardError(f"{file}: cannot be read ({error.strerror or error})") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise KardError(f"{file}:{line}: not UTF-8 ({error.reason})") from None
    title = re.sub(r"[_\s]+", " ", file.stem).strip()
    heading = re.match(r"\s*# +(.+)", text) if file.suffix == ".md" else None
    if heading:
        title, text = heading.group(1).strip(), text[heading.end() :]
    # In a text file a blank line ends a paragraph, and a line's end does not.
    blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")))
    return Document(file.relative_to(root).as_posix(), title, "\n".join(block for block in blocks if block), str(file))
