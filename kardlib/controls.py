"""Controls: does a trained student use what it is given?

The student stays as it is and its input is changed. Each control is a row of ``CONTROLS``: what it does to the
passages, to the stem and to the order of the options. Answers are told in the places of the unchanged question, so that
they compare with its unchanged answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from .errors import KardError
from .methods import Method, method, training_name
from .predict import begin_of, prediction_of
from .prompts import build_prompt, parse_answer
from .records import Prediction, Question, write_jsonl

if TYPE_CHECKING:
    from .experiment import Experiment

Ids = tuple[str, ...]


@dataclass(frozen=True)
class Given:
    """What the unchanged input had.

    Attributes:
        passages: ids of the passages that each question's prompt shows, by question id.
        known: ids of all passages of the knowledge base.
    """

    passages: dict[str, Ids]
    known: Sequence[str]


def as_given(given: Given, question_id: str, rng: Random) -> Ids:
    """The passages as they are."""
    return given.passages[question_id]


def in_another_order(given: Given, question_id: str, rng: Random) -> Ids:
    """The same passages, drawn from all orders but their own; a single one has no other."""
    own = given.passages[question_id]
    shuffled = own
    while shuffled == own and len(own) > 1:
        shuffled = tuple(rng.sample(own, len(own)))
    return shuffled


def at_random(given: Given, question_id: str, rng: Random) -> Ids:
    """As many passages of the knowledge base, none of them its own."""
    own = given.passages[question_id]
    drawn = rng.sample(given.known, min(len(given.known), 2 * len(own)))  # at most half of them are its own
    return tuple(i for i in drawn if i not in own)[: len(own)]


def of_another_question(given: Given, question_id: str, rng: Random) -> Ids:
    """What was found for another question: well written and on the subject, but not on this one."""
    others = [i for i in given.passages if i != question_id]
    if not others:
        raise KardError(f"question {question_id}: there is no other one whose passages could be read instead")
    return given.passages[rng.choice(others)]


def none(given: Given, question_id: str, rng: Random) -> Ids:
    return ()


def whole(stem: str) -> str:
    return stem


def removed(stem: str) -> str:
    return ""


def in_place(count: int, rng: Random) -> list[int]:
    return list(range(count))


def moved(count: int, rng: Random) -> list[int]:
    """Every option in another place, by turning the list."""
    by = rng.randrange(1, count)
    return [(place + by) % count for place in range(count)]


@dataclass(frozen=True)
class Control:
    """One way of changing the input.

    Attributes:
        name: also names the row of results.
        expects: what a student that reads its passages and its question should do.
        passages: ids of the passages that it is shown instead, from what was given, the question's id and chance.
        stem: the stem that it is shown instead.
        order: for each place in the prompt, the option of the question that stands there.
    """

    name: str
    expects: str
    passages: Callable[[Given, str, Random], Ids] = as_given
    stem: Callable[[str], str] = whole
    order: Callable[[int, Random], list[int]] = in_place


CONTROLS: dict[str, Control] = {
    control.name: control
    for control in (
        Control("passages in another order", "little changes", passages=in_another_order),
        Control("random passages", "falls to what it knows by heart", passages=at_random),
        Control("another question's passages", "falls to what it knows by heart", passages=of_another_question),
        Control("no passages", "falls to what it knows by heart", passages=none),
        Control("passages and options, no stem", "holds as far as the passages give it away", stem=removed),
        Control("options only", "falls to a guess among the options", passages=none, stem=removed),
        Control("options in another order", "names the same option's text", order=moved),
    )
}


def control(name: str) -> Control:
    """The control of that name, or a KardError."""
    if name not in CONTROLS:
        raise KardError(f"control {name!r}: there is none of that name (there are {', '.join(CONTROLS)})")
    return CONTROLS[name]


@dataclass(frozen=True)
class Changed:
    """A question as it is asked under a control.

    Attributes:
        question: with its stem and the order of its options; it keeps its id.
        passages: ids of what is shown with it.
        order: for each place in the prompt, the option of the unchanged question.
    """

    question: Question
    passages: Ids
    order: list[int]

    def back(self, place: int | None) -> int | None:
        """The option of the unchanged question that stands at a place."""
        return None if place is None else self.order[place]


def change(way: Control, question: Question, given: Given, seed: int) -> Changed:
    """One question under a control; chance depends on the control, the seed and the question alone."""
    rng = Random(f"{way.name}-{seed}-{question.id}")
    passages = way.passages(given, question.id, rng)
    order = way.order(len(question.options), rng)
    update = {
        "stem": way.stem(question.stem),
        "options": tuple(question.options[i] for i in order),
        "answer": None if question.answer is None else order.index(question.answer),
    }
    return Changed(question.model_copy(update=update), passages, order)


def answers_under(experiment: Experiment, way: Control, row: Method, seed: int) -> list[Prediction]:
    """Greedy answers of a method's trained student to the reported questions under a control.

    Returns:
        Predictions whose ``parsed``, ``chosen`` and ``gold`` are places of the unchanged options.
    """
    s, questions = experiment.settings, experiment.data.test
    known = [passage.id for passage in experiment.data.passages]
    given = Given({p.question_id: p.passages for p in experiment.predictions(row.name, seed)}, known)
    asked = [change(way, question, given, seed) for question in questions]
    student = experiment.generator(experiment.student(training_name(row), seed))
    room = {"count": student.count, "max_tokens": s.source_tokens}
    prompts = [build_prompt(a.question, [experiment.texts[i] for i in a.passages], row.cue, **room) for a in asked]
    texts, options = student.greedy(prompts), [a.question.options for a in asked]
    parsed = [parse_answer(text, offered) for text, offered in zip(texts, options, strict=True)]
    chosen = parsed
    if s.answers == "scored":
        chosen = list(student.likeliest(prompts, [begin_of(text, row) for text in texts], options))
    return [
        prediction_of(q, [text], [a.back(named)], row, seed, "greedy", a.back(option), a.passages)
        for q, a, text, named, option in zip(questions, asked, texts, parsed, chosen, strict=True)
    ]


def write_answers(experiment: Experiment, name: str, seed: int, of: str, folder: Path) -> None:
    """Fill an artefact's folder with ``predictions.jsonl``; their method is called ``METHOD, CONTROL``.

    Args:
        name: of the control.
        of: of the method.

    Raises:
        KardError: there is no such control, or the method has no student of its own that reads and writes freely.
    """
    way, row = control(name), method(of)
    if row.training is None or row.forced_rationale or row.test_query == "dense":
        raise KardError(f"{of}: controls are for methods with a trained student that one prompt is given to")
    called, answers = {"method": f"{row.name}, {way.name}"}, answers_under(experiment, way, row, seed)
    write_jsonl(folder / "predictions.jsonl", (answer.model_copy(update=called) for answer in answers))
