"""What is stored with an index, and checked when it is opened.

An index is a folder: ``manifest.json``, the vocabulary (:mod:`kardlib.index_vocabulary`) and one file a shard
(:mod:`kardlib.index_shard`). Its scores were computed when it was built; whoever opens it with another analyser, other
weights or other passages would get plausible nonsense, so each of these is compared first.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np

from .analysis import Analysis
from .errors import KardError
from .lucene_lengths import lossy
from .passage_source import PassageSource
from .records import Record, parse_record
from .store import atomic_write

FORMAT = 1
MANIFEST = "manifest.json"
_ENDS = 4096
# Inflected, possessive and stopped words: any change of an analyser's code that matters shows in their terms.
_PROBE = "The nurses' children were running to Darwin's flying ponies, weren't they? Isn't 3.5 mg an un-tested étude_7"

LENGTHS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"exact": lambda lengths: lengths, "lucene": lossy}
"""How the length |d| of a passage enters the scores, by name; integers of shape ``(passages,)`` in and out."""


class StoredFile(Record):
    """A file of an index.

    Attributes:
        size: in bytes.
        ends: crc32 of its first and last 4 KiB, compared on every opening.
        crc: crc32 of all of it, compared by the doctor.
    """

    name: str
    size: int
    ends: int
    crc: int


class ShardEntry(Record):
    """One shard: the passages from ``first`` on, ``count`` of them, with so many distinct terms and postings."""

    file: StoredFile
    first: int
    count: int
    terms: int
    postings: int


class Manifest(Record):
    """All that an index depends on.

    Attributes:
        format: of the files.
        bm25s: version of the library whose formulas gave the scores.
        passages: how many passages there are.
        digest: their hash, see :func:`kardlib.passage_source.digest_of`.
        probe: hash of the terms that the analyser made of a fixed sentence.
        terms: size of the vocabulary.
        mean_length: average number of terms of a passage, over all shards.
        vocabulary: its files.
    """

    format: int
    bm25s: str
    passages: int
    digest: str
    analysis: Analysis
    probe: str
    k1: float
    b: float
    variant: Literal["lucene"] = "lucene"
    lengths: str
    terms: int
    mean_length: float
    vocabulary: tuple[StoredFile, ...]
    shards: tuple[ShardEntry, ...]

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """Every file but the manifest."""
        return (*self.vocabulary, *(shard.file for shard in self.shards))

    @property
    def size(self) -> int:
        """Bytes on disk, the manifest aside."""
        return sum(file.size for file in self.files)


def library_version() -> str:
    """The installed bm25s."""
    return metadata.version("bm25s")


def probe_of(analysis: Analysis) -> str:
    """Hash of the analyser's terms of a fixed sentence."""
    return hashlib.sha256("\n".join(analysis.terms(_PROBE)).encode()).hexdigest()[:12]


def length_of(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The function of that name in ``LENGTHS``; a KardError where there is none."""
    if name not in LENGTHS:
        raise KardError(f"lengths = {name}: known are {', '.join(LENGTHS)}")
    return LENGTHS[name]


def stored_file(path: Path) -> StoredFile:
    """Size and checksums of a file."""
    crc, size = 0, 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            crc, size = zlib.crc32(piece, crc), size + len(piece)
    return StoredFile(name=path.name, size=size, ends=_crc_of_ends(path, size), crc=crc)


def _crc_of_ends(path: Path, size: int) -> int:
    with open(path, "rb") as file:
        crc = zlib.crc32(file.read(_ENDS))
        file.seek(max(0, size - _ENDS))
        return zlib.crc32(file.read(_ENDS), crc)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json``, whole or not at all."""
    with atomic_write(folder / MANIFEST) as file:
        file.write(manifest.model_dump_json(indent=1))


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest and check that this kit, this bm25s and this analyser's code made the index.

    Raises:
        KardError: names the folder and what differs.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise KardError(f"index {folder}: there is none (no {MANIFEST})")
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KardError(f"index {folder}: {MANIFEST} cannot be read ({error}); build it again") from None
    held = row.get("format") if isinstance(row, dict) else None
    if held != FORMAT:
        raise KardError(f"index {folder}: its format is {held}, this kit reads {FORMAT}; build it again")
    manifest = parse_record(row, Manifest, str(path))
    if _minor(manifest.bm25s) != _minor(library_version()):
        versions = f"bm25s {manifest.bm25s}; {library_version()} is installed"
        raise KardError(f"index {folder}: it was built with {versions}; build it again")
    if manifest.probe != probe_of(manifest.analysis):
        raise KardError(f"index {folder}: the analyser cuts or stems words otherwise than when it was built")
    return manifest


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def check_files(folder: Path, manifest: Manifest, whole: bool = False) -> None:
    """Check sizes and checksums of all files: of their ends, or of every byte where ``whole``.

    Raises:
        KardError: names the first file that is absent, cut short or changed.
    """
    for file in manifest.files:
        path, where = Path(folder) / file.name, f"index {folder}: {file.name}"
        try:
            size = path.stat().st_size
            if size != file.size:
                raise KardError(f"{where} has {size:,} bytes instead of {file.size:,}; build the index again")
            same = stored_file(path) == file if whole else _crc_of_ends(path, size) == file.ends
        except OSError as error:
            raise KardError(f"{where} cannot be read ({error.strerror or error})") from None
        if not same:
            raise KardError(f"{where} has been changed since it was built; build the index again")


def check_source(folder: Path, manifest: Manifest, source: PassageSource) -> None:
    """Check that the passages are those that the index was built of; a KardError otherwise."""
    if len(source) != manifest.passages:
        raise KardError(f"index {folder}: it holds {manifest.passages:,} passages, the source has {len(source):,}")
    if source.digest != manifest.digest:
        hashes = f"{manifest.digest[:12]}, the source has {source.digest[:12]}"
        raise KardError(f"index {folder}: its passages have hash {hashes}: texts or ids differ")


def check_settings(
    folder: Path, manifest: Manifest, analysis: Analysis | None, k1: float | None, b: float | None, lengths: str | None
) -> None:
    """Check that the index was built with what the caller expects; None expects nothing.

    Raises:
        KardError: names the first setting that differs, with both values.
    """
    if analysis is not None and analysis != manifest.analysis:
        for field in type(analysis).model_fields:
            held, asked = getattr(manifest.analysis, field), getattr(analysis, field)
            if held != asked:
                raise KardError(f"index {folder}: its analysis has {field} = {short(held)}, not {short(asked)}")
    for name, asked in (("k1", k1), ("b", b), ("lengths", lengths)):
        held = getattr(manifest, name)
        if asked is not None and asked != held:
            raise KardError(f"index {folder}: it was built with {name} = {held}, not {asked}")


def short(value: object) -> str:
    """A setting for a line of its own, cut where it is long."""
    text = " ".join(value) if isinstance(value, tuple) else str(value)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
