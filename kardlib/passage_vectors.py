"""Token vectors of passages on disk: a late-interaction reranker encodes each text once, every ranking reads it.

A store belongs to one encoder, told by a hash of its weights, tokenizer and cut. It holds each distinct text once,
under the text's digest, so that it grows with the candidates. It is made of segments; each is written under another
name and renamed when it is whole: a killed build loses the segment that it was at, and the next one goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

from .candidates import Candidates
from .errors import KardError
from .passage_encoding import encode_sorted, token_counts
from .reranker import LateInteraction, Reranker, best_first

Stored = Literal["float32", "float16"]
"""How a value is stored. float16 halves the disk; cosines move by about 1e-3, so near ties can change places: measure
it with :func:`kardlib.reranker_precision.agreement`."""
SEGMENT_BYTES = 128 * 2**20


def encoder_hash(model: MultiVectorEncoder) -> str:
    """Twelve digits that stand for all that a vector depends on: weights, tokenizer, modules and the cut of a text."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        # no token vector depends on the pooler, and a backbone without one gets a random one at each load
        if "pooler." not in name:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    # what a call leaves behind in the tokenizer is no part of it
    tokenizer = json.loads(model.tokenizer.backend_tokenizer.to_str())
    kept = {name: value for name, value in tokenizer.items() if name not in ("truncation", "padding")}
    skipped = MultiVectorMask.config_keys
    modules = [[type(module).__name__, [getattr(module, name, None) for name in skipped]] for module in model]
    digest.update(json.dumps([kept, modules, model.max_seq_length, model.prompts], sort_keys=True).encode())
    return digest.hexdigest()[:12]


def text_digest(text: str) -> bytes:
    """What a text is found by: 16 bytes."""
    return hashlib.sha256(text.encode()).digest()[:16]


class PassageVectors:
    """A store that is open for reading; the vectors stay on disk and are mapped into memory.

    Raises:
        KardError: a segment is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._segments: list[np.ndarray] = []
        self._places: dict[bytes, tuple[int, int, int]] = {}
        for segment in _segments(self.folder):
            self._open(segment)

    def _open(self, segment: Path) -> None:
        try:
            digests, starts = np.load(segment / "texts.npy"), np.load(segment / "starts.npy")
            vectors = np.load(segment / "vectors.npy", mmap_mode="r")
        except (OSError, ValueError, EOFError):
            raise KardError(f"{segment}: it is damaged; delete this folder, and it is made again") from None
        if len(starts) != len(digests) + 1 or starts[-1] != len(vectors):
            raise KardError(f"{segment}: its files do not fit together; delete this folder, and it is made again")
        number = len(self._segments)
        self._segments.append(np.asarray(vectors))  # a plain view of the mapped file: slicing a memmap is slow
        for row, start, stop in zip(digests, starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            self._places[row.tobytes()] = (number, start, stop)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, text: str) -> bool:
        return text_digest(text) in self._places

    def of(self, text: str) -> np.ndarray:
        """Vectors of a text, shape ``(tokens, width)``, as they are stored.

        Raises:
            KardError: the store does not hold it.
        """
        place = self._places.get(text_digest(text))
        if place is None:
            raise KardError(f"{self.folder}: it has no vectors of the passage {text[:60]!r}")
        number, start, stop = place
        return self._segments[number][start:stop]

    def maxsim(self, query: np.ndarray, texts: Sequence[str]) -> list[float]:
        """Sum over query tokens of the largest cosine to any passage token, one score a text, in float32.

        Each passage is read in its own length from the mapped file: nothing is padded, nothing is copied.

        Args:
            query: shape ``(query tokens, width)``.
        """
        query = np.ascontiguousarray(query, dtype=np.float32)
        return [float((query @ np.asarray(self.of(text), np.float32).T).max(axis=1).sum()) for text in texts]


def store_passages(
    folder: Path,
    model: MultiVectorEncoder,
    texts: Sequence[str],
    stored: Stored = "float32",
    processes: int = 1,
    tell: Callable[[str], None] = print,
) -> PassageVectors:
    """Encode what a store does not hold yet, and open it. The size is told before the work begins.

    Args:
        folder: of this encoder and this ``stored``; see :func:`store_folder`.
        texts: passages; each distinct text is encoded once, those of about equal length together.
        processes: encoders side by side, through the library's pool; worth it from some thousands of passages on.

    Raises:
        KardError: the disk is too small.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        held = PassageVectors(folder)
        missing = [text for text in dict.fromkeys(texts) if text not in held]
        if not missing:
            return held
        counts = token_counts(model, missing)
        row = model.get_embedding_dimension() * np.dtype(stored).itemsize
        _check_room(folder, len(held), counts, row, stored, tell)
        order = np.argsort(-counts, kind="stable").tolist()
        blocks = _blocks([missing[i] for i in order], counts[order].tolist(), SEGMENT_BYTES // row)
        number = max((int(path.name) for path in _segments(folder)), default=-1) + 1
        for block, vectors in encode_sorted(model, blocks, processes):
            _write(folder / f"{number:06d}", block, vectors, stored)
            number += 1
    return PassageVectors(folder)


def store_folder(root: Path, model: MultiVectorEncoder, stored: Stored = "float32") -> Path:
    """Where the vectors of an encoder are, below a folder for all encoders."""
    return Path(root) / f"{encoder_hash(model)}-{stored}"


class CachedLateInteraction(Reranker):
    """A late-interaction reranker that reads the vectors of passages from a store, and fills it as need be.

    The ranking is that of :class:`LateInteraction`, except among scores that float32 noise alone tells apart: here, two
    passages with the same text always have the same score, and go by id.

    Args:
        root: folder for the stores of all encoders.
    """

    def __init__(
        self,
        reranker: LateInteraction,
        root: Path,
        stored: Stored = "float32",
        processes: int = 1,
        tell: Callable[[str], None] = print,
    ) -> None:
        self.model = reranker.model
        self._reranker, self._stored, self._processes, self._tell = reranker, stored, processes, tell
        self.folder = store_folder(root, reranker.model, stored)
        self._vectors: PassageVectors | None = None

    def ranked(
        self, queries: Sequence[str], candidates: Sequence[Candidates], texts: Mapping[str, str]
    ) -> Iterator[Candidates]:
        """See :class:`kardlib.reranker.Reranker`; vectors that are lacking are stored first."""
        needed = [texts[i] for i in sorted({i for group in candidates for i in group.passages})]
        if self._vectors is None or not all(text in self._vectors for text in needed):
            options = self._stored, self._processes, self._tell
            self._vectors = store_passages(self.folder, self.model, needed, *options)
        encoded = self._reranker.encode(list(queries), "query")
        for query, group in zip(encoded, candidates, strict=True):
            yield best_first(group, self._vectors.maxsim(query.cpu().numpy(), [texts[i] for i in group.passages]))


def _segments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.name.isdigit())


def _blocks(texts: Sequence[str], counts: Sequence[int], tokens: int) -> Iterator[list[str]]:
    """Runs of texts of at most so many tokens together, one text at least."""
    block: list[str] = []
    room = tokens
    for text, count in zip(texts, counts, strict=True):
        if block and count > room:
            yield block
            block, room = [], tokens
        block.append(text)
        room -= count
    if block:
        yield block


def _check_room(
    folder: Path, held: int, counts: np.ndarray, row: int, stored: str, tell: Callable[[str], None]
) -> None:
    size, free = int(counts.sum()) * row, shutil.disk_usage(folder).free
    width = row // np.dtype(stored).itemsize
    told = f"{len(counts):,} texts, {int(counts.sum()):,} tokens of {width} {stored} values = {size / 1e6:,.1f} MB"
    if size + SEGMENT_BYTES > free:
        raise KardError(f"{folder}: passage vectors need {size / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB free")
    tell(f"passage vectors: {told} to encode" + (f"; {held:,} texts are there" if held else ""))


def _write(segment: Path, texts: Sequence[str], vectors: Sequence[np.ndarray], stored: Stored) -> None:
    if any(len(one) == 0 for one in vectors):
        raise KardError("passage vectors: a passage has no token that counts")
    partial = segment.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        digests = np.frombuffer(b"".join(text_digest(text) for text in texts), np.uint8).reshape(-1, 16)
        starts = np.cumsum([0, *(len(one) for one in vectors)], dtype=np.int64)
        parts = {"texts": digests, "starts": starts, "vectors": np.concatenate(vectors).astype(stored, copy=False)}
        for name, values in parts.items():
            with open(partial / f"{name}.npy", "wb") as file:
                np.save(file, values)
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, segment)
    except OSError as error:
        raise KardError(f"{segment}: cannot be written ({error.strerror or error})") from None
