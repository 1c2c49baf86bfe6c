"""Training pairs: what a student reads and what it should write, for each row of the table of methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .bm25 import Searcher
from .candidates import question_candidates, rationale_candidates, rationale_key
from .errors import KardError
from .methods import Training
from .prompts import Layout, Pair, build_prompt, build_target
from .records import Question, Rationale

Item = tuple[Question, Rationale | None]


def training_pairs(
    training: Training,
    items: Sequence[Item],
    search: Searcher,
    k: int,
    count: Callable[[str], int] | None = None,
    source_tokens: int = 512,
    target_tokens: int = 256,
    layout: Layout = "one for all",
) -> list[Pair]:
    """Prompts and targets, one for each item.

    Args:
        items: questions, each with the rationale that is to be learned or with None where the target is the answer.
        k: passages in a prompt.
        count: tokens of a text, for cutting passages and rationales; None leaves them whole.
    """
    sources: dict[str, str] = {}
    pairs = []
    for question, told in items:
        key = question.id if told is None or training.query != "rationale" else rationale_key(told)
        if key not in sources:
            found = _passages(training, question, told, search, k)
            sources[key] = build_prompt(
                question, found, training.target, count=count, max_tokens=source_tokens, layout=layout
            )
        target = build_target(question.answer_text, told.text if told else None, count, target_tokens)
        pairs.append(Pair(sources[key], target))
    return pairs


def _passages(training: Training, question: Question, told: Rationale | None, search: Searcher, k: int) -> list[str]:
    if training.query == "none":
        return []
    if training.query == "question":
        hits = question_candidates(search, question, k)
    elif told is None:
        raise KardError("a student trained on bare answers has no rationale to search with")
    else:
        hits = rationale_candidates(search, told, k)
    return [search.texts[i] for i in hits.passages]
