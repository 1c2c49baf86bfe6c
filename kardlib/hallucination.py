"""What rationales make up: sentences that the knowledge base contradicts, and sentences that a passage backs.

In the mini world every subject has one drug, one carrier, one target, one place and one trade, and a disease has three
findings. So a sentence with another name of that kind beside the subject is false, and a passage that states the true
one contradicts it. On a real set nobody can tell false from missing in this way.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import KardError
from .experiment import Experiment
from .failures import is_right
from .names import KINDS, Kind, endings, is_name
from .prompts import LETTERS
from .records import Prediction, Question, Record
from .world import Relation

RD, KARD = "Reasoning Distillation", "KARD (Reranker)"
_RELATIONS: dict[Relation, tuple[Kind, Kind]] = {
    "shows": ("disease", "finding"),
    "treated_with": ("disease", "drug"),
    "spread_by": ("disease", "carrier"),
    "blocks": ("drug", "enzyme"),
    "lives_near": ("carrier", "town"),
    "known_for": ("town", "trade"),
}


class Contradiction(Record):
    """A sentence of a rationale that says what is false.

    Attributes:
        said: the name that it gives the subject.
        true: what a passage of the knowledge base gives it instead.
        passage: id of that passage.
    """

    sentence: str
    subject: str
    relation: Relation
    said: str
    true: tuple[str, ...]
    passage: str


class Backed(Record):
    """A sentence of a rationale and the passage that the student read and that has all of its names."""

    sentence: str
    passage: str


class Example(Record):
    """A question that RD gets wrong with a false sentence, and KARD right with a passage behind every sentence."""

    question_id: str
    rd: Prediction
    kard: Prediction
    contradictions: tuple[Contradiction, ...]
    backed: tuple[Backed, ...]


def sentences(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+", text) if part.strip()]


def names_of(text: str) -> set[str]:
    """The words of a text that are built like names of the mini world."""
    return {word for word in re.findall(r"\w+", text.lower()) if is_name(word)}


def kind_of(name: str) -> Kind:
    return next(kind for kind in KINDS if name[3:] in endings(kind))


@dataclass(frozen=True)
class Stated:
    """What a knowledge base states.

    Attributes:
        objects: by subject and relation, all that the knowledge base gives the subject.
        passages: for each of these the first of the passages that state most of it.
    """

    objects: dict[tuple[str, Relation], set[str]]
    passages: dict[tuple[str, Relation], str]


def stated_in(experiment: Experiment) -> Stated:
    """All facts of a mini set's knowledge base.

    Raises:
        KardError: it is no mini set.
    """
    mini = experiment.data.mini
    if mini is None:
        raise KardError(f"{experiment.data.name}: only a mini set knows what its knowledge base contradicts")
    objects: dict[tuple[str, Relation], set[str]] = {}
    most: dict[tuple[str, Relation], tuple[int, str]] = {}
    for passage in experiment.data.passages:
        about = Counter((fact.subject, fact.relation) for fact in mini.facts[passage.id])
        for fact in mini.facts[passage.id]:
            objects.setdefault((fact.subject, fact.relation), set()).add(fact.object)
        for place, count in about.items():
            if count > most.get(place, (0, ""))[0]:
                most[place] = (count, passage.id)
    return Stated(objects, {place: passage for place, (_, passage) in most.items()})


def contradictions(text: str, stated: Stated) -> list[Contradiction]:
    """The false sentences of a rationale; one that speaks of two subjects of a kind is not judged."""
    return [found for sentence in sentences(text) for found in _contradictions(sentence, stated)]


def _contradictions(sentence: str, stated: Stated) -> list[Contradiction]:
    found, names = [], sorted(names_of(sentence))
    for relation, (subjects, objects) in _RELATIONS.items():
        about = [name for name in names if kind_of(name) == subjects]
        told = stated.objects.get((about[0], relation)) if len(about) == 1 else None
        # three findings are all that a disease has; with fewer the knowledge base leaves open what the others are
        if told is None or (relation == "shows" and len(told) < 3):
            continue
        passage = stated.passages[(about[0], relation)]
        found += [
            Contradiction(sentence=sentence, subject=about[0], relation=relation, said=name,
                          true=tuple(sorted(told)), passage=passage)
            for name in names if kind_of(name) == objects and name not in told
        ]  # fmt: skip
    return found


def backed(prediction: Prediction, texts: dict[str, str]) -> list[Backed] | None:
    """For each sentence of a rationale that has names, the first passage read that has all of them.

    Returns:
        None where a sentence has no such passage, or none has a name.
    """
    found = []
    for sentence in sentences(prediction.rationale):
        names = names_of(sentence)
        passage = next((i for i in prediction.passages if names <= names_of(texts[i])), None)
        if names and passage is None:
            return None
        found += [Backed(sentence=sentence, passage=passage)] if names and passage else []
    return found or None


def says_false(experiment: Experiment, name: str, seeds: Sequence[int]) -> np.ndarray:
    """Whether a rationale has at least one sentence that the knowledge base contradicts, shape ``(seeds, questions)``,
    questions by id."""
    stated = stated_in(experiment)
    runs = (sorted(experiment.predictions(name, seed), key=lambda p: p.question_id) for seed in seeds)
    return np.array([[float(bool(contradictions(p.rationale, stated))) for p in run] for run in runs])


def examples(experiment: Experiment, seed: int, count: int = 5, free: bool = False) -> list[Example]:
    """The first test questions that RD gets wrong with a false sentence and KARD (Reranker) right with passages.

    Args:
        count: at most so many.
        free: the option counts that the text names, else the one that was scored the likeliest.
    """
    stated, found = stated_in(experiment), []
    kard = {p.question_id: p for p in experiment.predictions(KARD, seed)}
    for rd in experiment.predictions(RD, seed):
        other = kard[rd.question_id]
        false, sources = contradictions(rd.rationale, stated), backed(other, experiment.texts)
        if false and sources and not is_right(rd, free) and is_right(other, free):
            found.append(
                Example(
                    question_id=rd.question_id, rd=rd, kard=other, contradictions=tuple(false), backed=tuple(sources)
                )
            )
    return found[:count]


_LEFT = 'style="text-align:left;vertical-align:top"'


def examples_html(experiment: Experiment, found: Sequence[Example]) -> str:
    """One row a question: what RD wrote and what contradicts it, what KARD wrote and which passages it rests on."""
    questions = {q.id: q for q in experiment.data.test}
    heads = ("question", "RD writes", "the knowledge base says", "KARD writes", "KARD has read")
    rows = f"<tr>{''.join(f'<th {_LEFT}>{head}</th>' for head in heads)}</tr>"
    for one in found:
        question = questions[one.question_id]
        false = {c.sentence: c for c in reversed(one.contradictions)}
        cells = [
            f"{html.escape(question.stem)}<br>{_options(question)}",
            _writes(one.rd, set(false)),
            "<br>".join(_corrected(c, experiment.texts) for c in false.values()),
            _writes(one.kard, set()),
            "<br>".join(dict.fromkeys(html.escape(experiment.texts[b.passage]) for b in one.backed)),
        ]
        rows += f"<tr>{''.join(f'<td {_LEFT}>{cell}</td>' for cell in cells)}</tr>"
    return f'<table style="text-align:left;vertical-align:top"><tbody>{rows}</tbody></table>'


def _options(question: Question) -> str:
    """Lettered options, the gold one bold."""
    told = (f"({LETTERS[i]}) {html.escape(option)}" for i, option in enumerate(question.options))
    return " ".join(f"<b>{text}</b>" if i == question.gold else text for i, text in enumerate(told))


def _writes(prediction: Prediction, false: set[str]) -> str:
    """A rationale and its answer, false sentences underlined."""
    told = ((s in false, html.escape(s)) for s in sentences(prediction.rationale))
    text = " ".join(f"<u>{sentence}</u>" if wrong else sentence for wrong, sentence in told)
    return f"{text}<br>answer: {html.escape(prediction.answer)}"


def _corrected(one: Contradiction, texts: dict[str, str]) -> str:
    """What is true of the subject instead, with the passage that says so."""
    true = " and ".join(one.true)
    return html.escape(f"{one.subject}: {true}, not {one.said} ({texts[one.passage]})")
