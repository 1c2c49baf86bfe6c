"""A knowledge base: passages in a memory-mapped folder, sorted by id, and a manifest that tells where they are from."""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from .errors import KardError
from .passage_files import mapped_batches
from .passage_rules import PassageRule
from .passage_source import digest_of
from .records import Passage, Record
from .store import atomic_write

MANIFEST = "manifest.json"
FORMAT = 1


class Manifest(Record):
    """What is known about a knowledge base.

    Attributes:
        name: how tables call it.
        source: where its text came from: a path's name, a data set of the hub with its commit, a set of the kit.
        licence: of the text; empty where it is not known.
        made: date and time, UTC.
        rule: how documents were cut; None where the passages were taken from other knowledge bases.
        recipe: hash of everything that it was made from, so that the same command finds it made.
        documents, empty: documents that were read, and those of them that had no text.
        count, words: passages, and their white-space words.
        digest: sha256 over ids and texts in order, see :func:`kardlib.passage_source.digest_of`.
        files: bytes of each file of passages.
        notes: lines that every table must carry.
    """

    format: int = FORMAT
    name: str
    source: str
    licence: str = ""
    made: str
    rule: PassageRule | None = None
    recipe: str = ""
    documents: int = 0
    empty: int = 0
    count: int
    words: int
    digest: str
    files: dict[str, int]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        per = self.words / self.count
        size = sum(self.files.values())
        return f"{self.name}: {self.count:,} passages of {per:.0f} words on average, {size / 1e6:,.1f} MB on disk"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a knowledge base.

    Raises:
        KardError: there is none, or it is not one that this version of the kit writes.
    """
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise KardError(f"{folder}: no knowledge base (it has no {MANIFEST})") from None
    except OSError as error:
        raise KardError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise KardError(f"{path}: {f'field {field}: ' if field else ''}{first['msg']}") from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json``, whole or not at all."""
    with atomic_write(folder / MANIFEST) as file:
        file.write(manifest.model_dump_json(indent=1) + "\n")


class KnowledgeBase:
    """A :class:`~kardlib.passage_source.PassageSource` whose passages stay on disk.

    Place order is id order. Any number of processes can read one at once; a pickled one opens its folder anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self.manifest = read_manifest(self.folder)
        if self.manifest.format != FORMAT:
            raise KardError(f"{self.folder}: its format is {self.manifest.format}, this version reads {FORMAT}")
        self._batches = []
        for name, size in self.manifest.files.items():
            path = self.folder / name
            found = path.stat().st_size if path.is_file() else 0
            if found != size:
                raise KardError(f"{path}: it has {found:,} bytes, {size:,} were written")
            self._batches += mapped_batches(path)
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        if self._starts[-1] != self.manifest.count:
            raise KardError(f"{self.folder}: {self._starts[-1]:,} passages, {self.manifest.count:,} were written")

    @classmethod
    def open(cls, folder: Path) -> KnowledgeBase:
        """Open a folder without reading its passages.

        Raises:
            KardError: it is no knowledge base, or a file is missing, cut short or damaged.
        """
        return cls(folder)

    def __reduce__(self) -> tuple[type[KnowledgeBase], tuple[Path]]:
        return KnowledgeBase, (self.folder,)

    @property
    def digest(self) -> str:
        """The hash that was taken when it was written; :meth:`check` takes it again."""
        return self.manifest.digest

    def __len__(self) -> int:
        return self.manifest.count

    def __getitem__(self, place: int) -> Passage:
        return Passage(id=self._cell("id", place), text=self._cell("text", place))

    def __iter__(self) -> Iterator[Passage]:
        for batch in self._batches:
            for identifier, text in zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True):
                yield Passage(id=identifier, text=text)

    def document(self, place: int) -> str:
        """The id of the document that a passage was cut from: an article's, a file's; empty where there is none."""
        return self._cell("document", place)

    def ids(self, places: Sequence[int] | np.ndarray) -> list[str]:
        """The ids at some places, in their order."""
        return [self._cell("id", place) for place in places]

    def place(self, identifier: str) -> int:
        """The place of an id, found by halving: no table of ids is kept.

        Raises:
            KardError: no passage has that id.
        """
        place = bisect_left(range(len(self)), identifier, key=lambda place: self._cell("id", place))
        if place == len(self) or self._cell("id", place) != identifier:
            raise KardError(f"{self.folder}: no passage has the id {identifier!r}")
        return place

    def check(self) -> None:
        """Read everything and compare it with the manifest.

        Raises:
            KardError: ids or texts are not those that were written.
        """
        found = digest_of(self)
        if found != self.digest:
            raise KardError(
                f"{self.folder}: the passages have changed (digest {found[:12]}, written {self.digest[:12]})"
            )

    def _cell(self, column: str, place: int) -> str:
        place = operator.index(place)
        if not 0 <= place < len(self):
            raise IndexError(f"place {place}: there are {len(self)} passages")
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        return self._batches[number][column][place - int(self._starts[number])].as_py()
