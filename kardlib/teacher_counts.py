"""What a teacher's store holds, counted."""

from __future__ import annotations

from dataclasses import dataclass

from .teacher_store import OPEN_BATCH, TeacherStore


@dataclass(frozen=True)
class Counts:
    """What a store holds, for ``status`` and ``report``.

    Attributes:
        good: good samples by purpose.
        given_up: slots that have had as many attempts as the store allows, none of them good.
        finish_reasons: all completions, each attempt counted, by finish reason.
        sources: all completions by source.
        prompt_tokens: as billed, over all completions.
        in_batches: samples that a batch has been made for and not yet answered.
        faults: faults by kind.
    """

    asks: int
    good: dict[str, int]
    not_good: int
    given_up: int
    finish_reasons: dict[str, int]
    sources: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    in_batches: int
    faults: dict[str, int]


def counts(store: TeacherStore) -> Counts:
    """Count a store's rows."""
    waiting = f"SELECT count(*) FROM batch_samples JOIN batches ON id = batch WHERE {OPEN_BATCH}"
    hopeless = "SELECT 1 FROM samples GROUP BY identity, idx HAVING NOT max(good) AND count(*) >= ?"
    hopeless = f"SELECT count(*) FROM ({hopeless})"
    return Counts(
        asks=_number(store, "SELECT count(*) FROM asks"),
        good=_by(store, "SELECT purpose, count(*) FROM samples JOIN asks USING (identity) WHERE good GROUP BY 1"),
        not_good=_number(store, "SELECT count(*) FROM samples WHERE NOT good"),
        given_up=_number(store, hopeless, store.attempts),
        finish_reasons=_by(store, "SELECT finish_reason, count(*) FROM samples GROUP BY 1"),
        sources=_by(store, "SELECT source, count(*) FROM samples GROUP BY 1"),
        prompt_tokens=_number(store, "SELECT coalesce(sum(prompt_tokens), 0) FROM samples"),
        completion_tokens=_number(store, "SELECT coalesce(sum(completion_tokens), 0) FROM samples"),
        in_batches=_number(store, waiting),
        faults=_by(store, "SELECT kind, count(*) FROM faults GROUP BY 1"),
    )


def _number(store: TeacherStore, query: str, *values: int) -> int:
    return int(store.read(query, *values)[0][0])


def _by(store: TeacherStore, query: str) -> dict[str, int]:
    return dict(sorted(store.read(query)))
