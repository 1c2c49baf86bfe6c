"""Late interaction that encodes each passage once for all questions, however many passages there are.

:class:`kardlib.reranker.LateInteraction` goes question by question and keeps the vectors that memory has room for;
where long passages are among the candidates of many questions, it encodes them again and again. Here it is turned
around: passage by passage, scores are kept and vectors are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from .candidates import Candidates
from .progress import tell
from .reranker import LateInteraction, Reranker, best_first
from .store import atomic_write, fingerprint

BLOCK_CHARACTERS = 1 << 19
"""Text whose token vectors are in memory at a time: some hundred thousand tokens, 0.2 GB at a width of 384."""


class EachPassageOnce(Reranker):
    """The ranking of a late-interaction reranker, but for scores that float noise alone tells apart.

    Args:
        work: folder that keeps the scores of each block of passages until all are there: a kill loses one block.
    """

    def __init__(self, reranker: LateInteraction, work: Path) -> None:
        self._reranker, self._work = reranker, Path(work)

    def ranked(
        self, queries: Sequence[str], candidates: Sequence[Candidates], texts: Mapping[str, str]
    ) -> Iterator[Candidates]:
        """See :class:`kardlib.reranker.Reranker`; the first comes when all passages have been read."""
        asked = self._reranker.encode(list(queries), "query")
        found: list[dict[str, float]] = [{} for _ in candidates]
        blocks, done = _blocks(candidates, texts), 0
        total = sum(map(len, blocks))
        for block in blocks:
            among = [tuple(i for i in group.passages if i in block) for group in candidates]
            scores = iter(self._kept(block, among, list(queries), asked).tolist())
            for known, passages in zip(found, among, strict=True):
                known |= {i: next(scores) for i in passages}
            done += len(block)
            tell(done, total, "passages scored")
        for group, known in zip(candidates, found, strict=True):
            yield best_first(group, [known[i] for i in group.passages])

    def _kept(
        self, block: Mapping[str, str], among: Sequence[tuple[str, ...]], queries: list[str], asked: Sequence[Tensor]
    ) -> np.ndarray:
        """Scores of a block's passages, question after question: those of an earlier attempt, or taken now."""
        file = self._work / f"{fingerprint(block, among, queries)}.npy"
        if not file.exists():
            scores = np.array(self._scores(block, among, asked), np.float32)
            with atomic_write(file, "wb") as out:
                np.save(out, scores)
        return np.load(file)

    def _scores(
        self, block: Mapping[str, str], among: Sequence[tuple[str, ...]], asked: Sequence[Tensor]
    ) -> list[float]:
        vectors = dict(zip(block, self._reranker.encode(list(block.values()), "document"), strict=True))
        pairs = ((query, [vectors[i] for i in passages]) for query, passages in zip(asked, among, strict=True))
        return [score for query, held in pairs if held for score in self._reranker.maxsim(query, held)]


def _blocks(candidates: Sequence[Candidates], texts: Mapping[str, str]) -> list[dict[str, str]]:
    """Texts of all candidates by id, those of about one length together, so many as memory holds."""
    needed = {i: texts[i] for i in sorted({i for group in candidates for i in group.passages})}
    blocks: list[dict[str, str]] = []
    size = BLOCK_CHARACTERS
    for identifier, text in sorted(needed.items(), key=lambda item: (len(item[1]), item[0])):
        if size + len(text) > BLOCK_CHARACTERS:
            blocks.append({})
            size = 0
        blocks[-1][identifier] = text
        size += len(text)
    return blocks
