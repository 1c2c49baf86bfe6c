"""From a trained student to predictions: which passages it reads, what it writes, which option that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .candidates import question_candidates, rationale_candidates
from .errors import KardError
from .few_shot import FewShotPrompt, few_shot_prompt, own_answer, worked_examples
from .generate import Generator, majority
from .methods import Method, training_name
from .prompts import ANSWER_MARK, marked, parse_answer, split_generation
from .records import Prediction, Question

if TYPE_CHECKING:
    from .experiment import Experiment
    from .keys import Split


Passages = dict[str, tuple[str, ...]]
"""Ids of the passages that a student reads, best first, by question id."""


def test_passages(experiment: Experiment, row: Method, seed: int, split: Split) -> Passages:
    """Ids of the k passages that a method's student reads, by question id.

    Only an oracle row's query holds a rationale of the test question, and no row's holds the gold answer.
    """
    k, questions = experiment.settings.k, experiment.questions(split)
    if row.test_query == "none":
        return {q.id: () for q in questions}
    if row.test_query == "oracle rationale":
        told = experiment.test_rationale()
        return {q.id: rationale_candidates(experiment.search, told[q.id], k).passages for q in questions}
    if row.test_query == "question":
        return {q.id: question_candidates(experiment.search, q, k).passages for q in questions}
    ranked = experiment.reranked(seed, split)
    return {q.id: ranked[q.id].passages[:k] for q in questions}


test_passages.__test__ = False  # type: ignore[attr-defined]  # a name that pytest would collect


def predict(
    experiment: Experiment, row: Method, seed: int, decoding: str, split: Split
) -> tuple[list[Prediction], list[int]]:
    """Answers of one method to all questions of a split.

    Args:
        decoding: ``greedy``, or ``vote5``: the majority of five samples, with the first rationale that voted for it.

    Returns:
        The answers, and for each question how many worked examples its prompt showed.
    """
    s, questions = experiment.settings, experiment.questions(split)
    if row.oracle and split == "seen":
        raise KardError(f"{row.name}: no teacher has told rationales of training questions without seeing the answer")
    folder = experiment.student(training_name(row), seed) if row.training else s.student
    student = experiment.generator(folder)
    passages = test_passages(experiment, row, seed, split)
    shown = _prompts(experiment, student, row, questions, passages)
    prompts = [prompt.text for prompt in shown]
    written = _write(experiment, student, row, seed, decoding, prompts, questions)
    parsed = [[parse_answer(t, q.options) for t in texts] for q, texts in zip(questions, written, strict=True)]
    chosen = [majority(votes) for votes in parsed]
    if decoding == "greedy" and s.answers == "scored":
        begins = [begin_of(texts[0], row) for texts in written]
        chosen = list(student.likeliest(prompts, begins, [q.options for q in questions]))
    answers = [
        prediction_of(q, texts, votes, row, seed, decoding, option, passages[q.id])
        for q, texts, votes, option in zip(questions, written, parsed, chosen, strict=True)
    ]
    return answers, [prompt.shots for prompt in shown]


def _prompts(
    experiment: Experiment, student: Generator, row: Method, questions: list[Question], passages: Passages
) -> list[FewShotPrompt]:
    s, examples = experiment.settings, []
    if row.examples:
        train, kept = experiment.data.train, experiment.kept_rationales() if experiment.told else None
        examples = worked_examples(row.examples, train, kept, experiment.search, s, student.count)
    return [
        few_shot_prompt(
            examples,
            question,
            [experiment.texts[i] for i in passages[question.id]],
            row.cue,
            count=student.count,
            max_tokens=s.source_tokens,
        )
        for question in questions
    ]


def _write(
    experiment: Experiment,
    student: Generator,
    row: Method,
    seed: int,
    decoding: str,
    prompts: list[str],
    questions: list[Question],
) -> list[list[str]]:
    """What the student writes for each prompt: one text, or five samples."""
    if decoding == "greedy":
        forced = _forced(experiment, questions) if row.forced_rationale else None
        return [[own_answer(text) if row.examples else text] for text in student.greedy(prompts, forced)]
    if decoding != "vote5":
        raise KardError(f"decoding {decoding!r}: there are greedy and vote5")
    if row.forced_rationale:
        raise KardError(f"{row.name}: its rationale is given, so there is nothing to vote on")
    sampled = student.sample(prompts, seed)
    return [[own_answer(text) for text in texts] for texts in sampled] if row.examples else sampled


def begin_of(text: str, row: Method) -> str:
    """What stands before the answer: the rationale and the mark, or nothing where the answer alone is asked for."""
    return "" if row.cue == "answer" else marked(text)


def _forced(experiment: Experiment, questions: list[Question]) -> list[str]:
    told = experiment.test_rationale()
    return [f"{told[q.id].text} {ANSWER_MARK}" for q in questions]


def prediction_of(
    question: Question,
    texts: list[str],
    votes: list[int | None],
    row: Method,
    seed: int,
    decoding: str,
    chosen: int | None,
    passages: tuple[str, ...],
) -> Prediction:
    """What is kept of one answer.

    Args:
        texts: what was written, one text or five samples, with the option of each in ``votes``.
        chosen: the option that counts.
    """
    parsed = majority(votes)
    rationale, answer = split_generation(texts[votes.index(parsed)])
    return Prediction(
        question_id=question.id,
        method=row.name,
        seed=seed,
        decoding=decoding,
        rationale=rationale,
        answer=answer,
        parsed=parsed,
        chosen=chosen,
        gold=question.gold,
        passages=passages,
    )
