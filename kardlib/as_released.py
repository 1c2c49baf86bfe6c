"""Where the authors' released code departs from their paper, as data; and those departures that change no training.

Each is measured by itself, behind a switch whose default is the paper. Two need no training: how an answer is read off
a text, and how dev rows are cut. What nobody can play at mini scale stands here with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import KardError
from .prompts import LETTERS, parse_answer
from .records import Prediction, Question, Rationale

RERANKED, RD = "KARD (Reranker)", "Reasoning Distillation"


@dataclass(frozen=True)
class Departure:
    """One departure.

    Attributes:
        paper, release: what the paper says, and what the code does.
        settings: the switch: fields of ``Settings`` with the value that stands for the release.
        rows: methods that the switch reaches and that are measured.
        usual: whether the code does so when nothing else is asked of it.
        note: what the reader of its number must know, or where there is no switch, what shows the cost without one.
        why_not: why it cannot be expressed at mini scale; empty where it can.
    """

    id: str
    paper: str
    release: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[str, ...] = ()
    usual: bool = True
    note: str = ""
    why_not: str = ""


DEPARTURES: tuple[Departure, ...] = (
    Departure(
        "best document",
        "the reranker minimises KL(Q || P) over all candidates (Eq. 3)",
        "cross-entropy on the best candidate alone, unless KL is asked for",
        {"reranker_loss": "best document"}, (RERANKED,),
    ),
    Departure(
        "annealed KL",
        "fixed temperatures, above 0",
        "where KL is asked for: tau = 1 - 4a and tau2 = 100 - 400a with a = tanh(5 t/T), not to be turned off; both "
        "fall below 0 after 5.1 % of the training, just when the learning rate has warmed up",
        {"reranker_loss": "annealed kl"}, (RERANKED,), usual=False,
        note="rebuilt as a factor on tau1 and tau2; both change sign together, so that the ranking aimed at stays",
    ),
    Departure(
        "no gradient through passages",
        "f_phi is trained",
        "the flag that lets passages be trained never reaches the model: they are encoded without a gradient, with "
        "weights that the questions move",
        {"reranker_frozen_passages": True}, (RERANKED,),
    ),
    Departure(
        "two halves of a pool",
        "the union of what rationale and question find, each member scored by one rho(d | r) (Eq. 3)",
        "the two lists one behind the other, passages of both twice; the question's half is scored by a second "
        "implementation of BM25(rationale), which knows no word that a single passage has",
        {"pool_as_released": True}, (RERANKED,),
    ),
    Departure(
        "training prompts",
        "one prompt (Eqs. 1 and 2)",
        "passages are joined by TAB in training and by a space at test time; without passages the label before the "
        "question stands at test time only",
        {"prompt_as_released": True}, (RERANKED, RD),
        note="the shipped tokenizer takes a TAB for a space, so that KARD's students must come out the same",
    ),
    Departure(
        "instructions of StrategyQA and OpenbookQA",
        "one prompt (Eqs. 1 and 2)",
        "the sentence that opens a prompt names the field of knowledge at test time only",
        why_not="the kit's prompts open with no such sentence",
    ),
    Departure(
        "dev rows",
        "nothing is said of how dev is cut",
        "the last 5 % of the list of rationales, so that the question at the cut can stand on both sides; cut again in "
        "the same way for the reranker",
        note="share of dev rows whose question was trained on, times what having been trained on is worth",
    ),
    Departure(
        "last character",
        "nothing is said of how an answer is read",
        "the last character of the text, if it is A to D; targets end in the option's letter",
        note="the same predictions, read again",
    ),
    Departure(
        "always Flan-T5",
        "T5 on StrategyQA and OpenbookQA",
        "the scripts train Flan-T5 on all three sets",
        why_not="there is one T5 family at mini scale",
    ),
    Departure(
        "does not run",
        "-",
        "a syntax error, an undefined option, steps that read what no step writes, undeclared packages",
        why_not="what does not run has no accuracy",
    ),
)  # fmt: skip


def switches() -> dict[str, dict[str, Any]]:
    """Settings by the words that a row's name gets: as in the paper, each departure alone, all usual ones at once."""
    alone = {f", {d.id}": dict(d.settings) for d in DEPARTURES if d.settings}
    together = {name: value for d in DEPARTURES if d.usual for name, value in d.settings.items()}
    return {"": {}} | alone | {", all of these": together}


def reached() -> dict[str, tuple[str, ...]]:
    """Methods whose number a switch can change, by the same words as :func:`switches`."""
    return {f", {d.id}": d.rows for d in DEPARTURES if d.settings} | {"": (RERANKED, RD), ", all of these": (RERANKED,)}


# --- how an answer is read

Reading = Callable[[str, Sequence[str]], int | None]
"""The option that a text names, or None."""


def last_character(text: str, options: Sequence[str]) -> int | None:
    """The authors' way: the last character is a capital letter that stands for an option."""
    place = LETTERS.find(text[-1:]) if text else -1
    return place if 0 <= place < len(options) else None


def last_words(text: str, options: Sequence[str]) -> int | None:
    """The same for students that write the option's text and not its letter: nothing may stand behind it but a dot."""
    said = " ".join(text.lower().split()).rstrip(" .")
    found = [i for i, option in enumerate(options) if f" {said}".endswith(f" {option.lower().rstrip(' .')}")]
    return max(found, key=lambda i: len(options[i]), default=None)


READINGS: dict[str, Reading] = {
    "as written": parse_answer, "last words": last_words, "last character": last_character,
}  # fmt: skip


def read_again(predictions: Sequence[Prediction], questions: Sequence[Question], reading: Reading) -> list[Prediction]:
    """Predictions with ``parsed`` read in another way from what was written; ``chosen`` stays.

    Args:
        questions: all that were asked.
    """
    options = {question.id: question.options for question in questions}
    lacking = next((p.question_id for p in predictions if p.question_id not in options), None)
    if lacking:
        raise KardError(f"question {lacking}: its prediction cannot be read without its options")
    return [p.model_copy(update={"parsed": reading(p.answer, options[p.question_id])}) for p in predictions]


# --- how dev rows are cut


def cut_rows(rationales: Sequence[Rationale], share: float = 0.05) -> tuple[list[Rationale], list[Rationale]]:
    """The authors' split: the last ``share`` of the rows is dev, whatever questions they belong to.

    Returns:
        Training rows and dev rows.
    """
    place = int(len(rationales) * (1 - share))
    return list(rationales[:place]), list(rationales[place:])


def trained_on(train: Sequence[Rationale], dev: Sequence[Rationale]) -> float:
    """Share of the dev rows whose question has a row in training too, 0 to 1; a split by question has none."""
    seen = {rationale.question_id for rationale in train}
    return sum(rationale.question_id in seen for rationale in dev) / len(dev) if dev else 0.0
