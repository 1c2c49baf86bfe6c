"""Few-shot rows: the base student, not trained further, answers with worked examples in its prompt.

The paper does not say how many examples its few-shot rows show, nor which; this is our choice. An example is a training
pair, laid out as every student reads it in training: prompt, then target. All three rows take theirs from the same
training questions, the first by a hash of the id whose rationale the filter kept, and every test question is shown the
same ones, in the same order, as far as they fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .bm25 import Searcher
from .methods import Training
from .pairs import Item, training_pairs
from .presets import Settings
from .prompts import _SPARE, Cue, Pair, build_prompt
from .records import Question, Rationale
from .splits import hash_share

_NEXT = re.compile(r"(?:^|\s)(?:Passages|Question)\s*:", re.IGNORECASE)


@dataclass(frozen=True)
class FewShotPrompt:
    """A source text and how many worked examples stand in it."""

    text: str
    shots: int


def example_items(questions: Sequence[Question], kept: Sequence[Rationale] | None, shots: int) -> list[Item]:
    """The questions that are shown as worked examples, each with its first kept rationale.

    Args:
        questions: of the training split.
        kept: their rationales, after the filter; None where nobody has told any, and questions are shown without.
        shots: so many questions, or all that have a kept rationale where these are fewer.
    """
    told = {r.question_id: r for r in reversed(kept or ())}
    usable = (q for q in questions if kept is None or q.id in told)
    order = sorted(usable, key=lambda q: (hash_share(q.id, "few-shot"), q.id))
    return [(q, told.get(q.id)) for q in order[:shots]]


def worked_examples(
    training: Training,
    questions: Sequence[Question],
    kept: Sequence[Rationale] | None,
    search: Searcher,
    settings: Settings,
    count: Callable[[str], int] | None = None,
) -> list[Pair]:
    """Worked examples in the order in which they are shown: the pairs that such a training would learn from.

    Args:
        training: what the examples show. Their passages are found as those of a test question are: with the question.
        questions, kept: the training questions, and their rationales after the filter.
        count: tokens of a text, for cutting passages and rationales; None leaves them whole.
    """
    items = example_items(questions, kept, settings.shots)
    if training.target == "answer":
        items = [(question, None) for question, _ in items]
    return training_pairs(training, items, search, settings.k, count, settings.source_tokens, settings.target_tokens)


def few_shot_prompt(
    examples: Sequence[Pair],
    question: Question,
    passages: Sequence[str] = (),
    cue: Cue = "rationale",
    *,
    count: Callable[[str], int] | None = None,
    max_tokens: int = 512,
) -> FewShotPrompt:
    """Worked examples, then the prompt that :func:`kardlib.prompts.build_prompt` lays out for the question.

    Args:
        examples: may be empty; the text is then that of ``build_prompt``.
        count: tokens of a text; with it, whole examples are left out, the last first, until the prompt fits. Where not
            one is left and it still does not, its passages are cut as in any other prompt.
        max_tokens: room for the whole prompt, in tokens of ``count``.

    Raises:
        KardError: there is not even room for the options.
    """
    blocks = [f"{pair.source} {pair.target}" for pair in examples]
    asked = build_prompt(question, passages, cue)
    fitting = FewShotPrompt(build_prompt(question, passages, cue, count=count, max_tokens=max_tokens), 0)
    for shots in range(1, len(blocks) + 1):
        text = "\n\n".join([*blocks[:shots], asked])
        if count is not None and count(text) > max_tokens - _SPARE:
            break
        fitting = FewShotPrompt(text, shots)
    return fitting


def own_answer(text: str) -> str:
    """What was written for the question that was asked: a model that goes on with an example of its own is cut off."""
    found = _NEXT.search(text)
    return text[: found.start()].rstrip() if found else text
