"""Looking at single questions in a notebook: queries, passages, rationales and answers as small HTML pages."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .announcements import words_of
from .names import is_name
from .prompts import question_block
from .records import Passage, Prediction, Question

if TYPE_CHECKING:
    from .experiment import Experiment

_TABLE = '<table style="text-align:left;vertical-align:top"><tbody>{rows}</tbody></table>'
_LEFT = 'style="text-align:left;vertical-align:top"'


def states_needed(experiment: Experiment, question: Question, passage_id: str) -> bool | None:
    """Whether a passage states something that a question needs; None where only the world's maker would know."""
    mini = experiment.data.mini
    return None if mini is None else bool(mini.facts[passage_id] & mini.needed(question))


def side_by_side(
    experiment: Experiment, question: Question, rationale: str, left: Sequence[Passage], right: Sequence[Passage]
) -> str:
    """Two rankings of one question next to each other; needed passages are bold and marked."""
    heads = (f"question: {question_block(question)}", f"rationale: {rationale}")
    rows = "<tr>" + "".join(f"<th {_LEFT}>{html.escape(head)}</th>" for head in heads) + "</tr>"
    for a, b in zip(left, right, strict=True):
        rows += "<tr>" + "".join(f"<td {_LEFT}>{_passage(experiment, question, p)}</td>" for p in (a, b)) + "</tr>"
    return _TABLE.format(rows=rows)


def _passage(experiment: Experiment, question: Question, passage: Passage) -> str:
    text = html.escape(passage.text)
    return f"<b>✓ {text}</b>" if states_needed(experiment, question, passage.id) else text


def explorer(experiment: Experiment, question: Question, seed: int) -> str:
    """One question and, for every method of the main table: its query, passages, rationale and answer."""
    from .methods import main_methods

    rows = f"<tr><th {_LEFT} colspan=4>{html.escape(question_block(question))}"
    rows += f"<br>gold: {html.escape(question.answer_text)}</th></tr>"
    rows += f"<tr>{''.join(f'<th {_LEFT}>{name}</th>' for name in ('method', 'passages', 'rationale', 'answer'))}</tr>"
    for row in main_methods(experiment.told):
        of_seed = seed if row.training else experiment.settings.seeds[0]
        given = next(p for p in experiment.predictions(row.name, of_seed) if p.question_id == question.id)
        query = {"none": "", "question": "found with the question", "reranker": "reranked",
                 "oracle rationale": "found with the teacher's rationale"}[row.test_query]  # fmt: skip
        rows += f"<tr><td {_LEFT}>{html.escape(row.name)}</td>{_answer(experiment, question, given, query)}</tr>"
    return _TABLE.format(rows=rows)


def _answer(experiment: Experiment, question: Question, given: Prediction, query: str) -> str:
    read = "<br>".join(_passage(experiment, question, Passage(id=i, text=experiment.texts[i])) for i in given.passages)
    mark = "✓" if given.chosen == given.gold else "✗"
    cells = (f"<i>{query}</i><br>{read}" if query else "-", html.escape(given.rationale) or "-")
    return "".join(f"<td {_LEFT}>{cell}</td>" for cell in (*cells, f"{mark} {html.escape(_chosen(question, given))}"))


def _chosen(question: Question, given: Prediction) -> str:
    """The option that counts, and what was written instead where that names another or none."""
    option = "no option" if given.chosen is None else question.options[given.chosen]
    return option if given.parsed == given.chosen else f"{option} (written: {given.answer})"


def most_disputed(experiment: Experiment, seed: int) -> int:
    """Number of the first reported question on which the methods of the main table are most nearly half right."""
    from .methods import main_methods

    right: Counter[str] = Counter()
    rows = main_methods(experiment.told)
    for row in rows:
        of_seed = seed if row.training else experiment.settings.seeds[0]
        right.update(p.question_id for p in experiment.predictions(row.name, of_seed) if p.chosen == p.gold)
    questions = experiment.data.test
    return min(range(len(questions)), key=lambda i: (abs(right[questions[i].id] - len(rows) / 2), i))


def sources_of_names(experiment: Experiment, predictions: Sequence[Prediction]) -> Counter[str]:
    """Where the names that stand in rationales of a mini set, and not in the question's stem, come from.

    Returns:
        Counts of ``passages`` (the student has read the name there), ``options`` (only there) and ``weights`` (it has
        not read it: remembered or made up).
    """
    counts = Counter({"passages": 0, "options": 0, "weights": 0})
    by_id = {question.id: question for question in experiment.data.test}
    for p in predictions:
        question = by_id[p.question_id]
        stem, options = set(words_of(question.stem)), set(words_of(" ".join(question.options)))
        read = set(words_of(" ".join(experiment.texts[i] for i in p.passages)))
        written = {word for word in words_of(p.rationale) if is_name(word)} - stem
        counts.update("passages" if n in read else "options" if n in options else "weights" for n in written)
    return counts
