"""How far a search agrees with Lucene's: the share of Lucene's best passages that it finds, too.

The truth is a JSON file of queries and of the passages that Lucene found for each, best first, made once with Java; to
compare with it needs none. ``docs/lucene_parity.md`` has the outcome for the analysers and lengths of this kit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from .bm25 import Searcher
from .errors import KardError
from .records import Passage, Record

DEPTHS = (10, 100)


class LuceneTop(Record):
    """Queries and what Lucene found.

    Attributes:
        engine: what was run, in words.
        n_passages: how many passages it searched.
        queries: texts.
        top: for each query the numbers of its best passages, best first; all lists are of one length.
    """

    engine: str
    n_passages: int = Field(ge=1)
    queries: tuple[str, ...] = Field(min_length=1)
    top: tuple[tuple[int, ...], ...] = Field(alias="top100")

    @model_validator(mode="after")
    def _one_list_a_query(self) -> LuceneTop:
        if len(self.top) != len(self.queries):
            raise ValueError(f"{len(self.queries)} queries and {len(self.top)} lists of passages")
        if {len(places) for places in self.top} != {self.depth} or not self.depth:
            raise ValueError("the lists of passages differ in length, or are empty")
        return self

    @property
    def depth(self) -> int:
        """How many passages were kept for a query."""
        return len(self.top[0])


class Parity(Record):
    """Agreement with Lucene over all queries.

    Attributes:
        queries: how many.
        overlap: by depth k, mean share of Lucene's best k passages that are among the search's best k.
        same_order: by depth k, share of the queries whose best k passages are the same in the same order.
    """

    queries: int
    overlap: dict[int, float]
    same_order: dict[int, float]

    def __str__(self) -> str:
        lines = [f"agreement with Lucene, {self.queries} queries"]
        for k, share in self.overlap.items():
            lines.append(f"  top {k}: {share:.4f} of the passages; the same order for {self.same_order[k]:.3f}")
        return "\n".join(lines)


def read_lucene_top(path: Path) -> LuceneTop:
    """Read Lucene's passages; keys that are not needed here (notes, licences) are passed over.

    Raises:
        KardError: names the file and what is wrong with it.
    """
    try:
        row = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KardError(f"{path}: cannot be read ({error})") from None
    fields = {field.alias or name for name, field in LuceneTop.model_fields.items()}
    try:
        return LuceneTop.model_validate({k: v for k, v in row.items() if k in fields} if isinstance(row, dict) else row)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise KardError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from None


def number_of(passage: Passage) -> int:
    """The number that ends a passage's id: 17 for ``wiki-00017``; a KardError where none does."""
    digits = passage.id[len(passage.id.rstrip("0123456789")) :]
    if not digits:
        raise KardError(f"passage {passage.id}: its id ends in no number to compare with Lucene's")
    return int(digits)


def parity(
    searcher: Searcher,
    lucene: LuceneTop,
    depths: Sequence[int] = DEPTHS,
    number: Callable[[Passage], int] = number_of,
) -> Parity:
    """Search all queries and compare with what Lucene found.

    Args:
        searcher: over the passages that Lucene searched.
        depths: values of k; those beyond what was kept of Lucene's are left out.
        number: Lucene's number of a passage.

    Raises:
        KardError: the searcher holds another number of passages, or no depth is left.
    """
    if len(searcher.passages) != lucene.n_passages:
        raise KardError(f"Lucene searched {lucene.n_passages:,} passages, this searcher has {len(searcher.passages):,}")
    depths = [k for k in depths if 0 < k <= lucene.depth]
    if not depths:
        raise KardError(f"depths: Lucene's best {lucene.depth} passages are known, nothing deeper")
    found = [_found(searcher, query, max(depths), number) for query in lucene.queries]
    pairs = list(zip(found, lucene.top, strict=True))
    return Parity(
        queries=len(found),
        overlap={k: sum(len({*ours[:k]} & {*theirs[:k]}) for ours, theirs in pairs) / (k * len(pairs)) for k in depths},
        same_order={k: sum(ours[:k] == theirs[:k] for ours, theirs in pairs) / len(pairs) for k in depths},
    )


def _found(searcher: Searcher, query: str, k: int, number: Callable[[Passage], int]) -> tuple[int, ...]:
    return tuple(number(searcher.passages[hit.index]) for hit in searcher.search(query, k))
