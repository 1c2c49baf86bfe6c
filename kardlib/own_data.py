"""Reader of a user's own questions, passages and rationales.

A folder with ``train.jsonl``, ``test.jsonl`` and ``passages.jsonl``; ``dev.jsonl``, ``rationales.jsonl`` if there are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .dataset import DataSet
from .errors import KardError
from .raw_rows import (
    Seen,
    as_object,
    id_field,
    letter_index,
    letters,
    make_question,
    present,
    repeated,
    text_field,
    texts_field,
)
from .records import Passage, Question, Rationale, json_rows

QUESTION_FIELDS = {"id", "stem", "question", "options", "answer", "meta"}


def read_own(folder: Path) -> DataSet:
    """Read a user's own set.

    Questions: ``{"id", "stem" or "question", "options": [texts], "answer": index, letter or option text}``; any other
    field is kept in ``meta``. Passages: ``{"id", "text"}`` with an optional ``"title"`` that is put in front.
    Rationales: ``{"question_id", "text"}``, one a question.

    Returns:
        The set; ``dev`` is empty where there is no ``dev.jsonl``.

    Raises:
        KardError: names the file, the line and the field of the first fault.
    """
    seen = Seen()
    train = _questions(folder / "train.jsonl", seen)
    dev = _questions(folder / "dev.jsonl", seen) if (folder / "dev.jsonl").exists() else []
    test = _questions(folder / "test.jsonl", seen)
    annotations, notes = {}, []
    if (folder / "rationales.jsonl").exists():
        annotations = _rationales(folder / "rationales.jsonl", seen)
        notes.append("the rationales are the user's own; they count as written with the gold answer in view")
    passages = _passages(folder / "passages.jsonl")
    return DataSet("own", "", train, dev, test, "test", passages, annotations, notes=notes)


def _questions(path: Path, seen: Seen) -> list[Question]:
    questions = [_question(row, f"{path}:{number}", seen) for number, row in json_rows(path)]
    if not questions:
        raise KardError(f"{path}: it holds no questions")
    return questions


def _question(row: dict[str, Any], where: str, seen: Seen) -> Question:
    identifier = id_field(row, "id", where)
    seen.add(identifier, where)
    stem = text_field(row, "question" if "question" in row and "stem" not in row else "stem", where)
    options = texts_field(row, "options", where)
    twice = repeated(options)
    if twice:
        raise KardError(f"{where}: field options: {twice!r} occurs twice")
    answer = _answer(present(row, "answer", where), options, where)
    meta = {name: value for name, value in row.items() if name not in QUESTION_FIELDS}
    meta |= as_object(row.get("meta", {}), "meta", where)
    return make_question(identifier, stem, options, answer, where, meta)


def _answer(answer: Any, options: list[str], where: str) -> int:
    """Index of the gold option: an option's own text comes before a letter, as ``A`` may be an option itself."""
    if isinstance(answer, int) and not isinstance(answer, bool):
        if 0 <= answer < len(options):
            return answer
        raise KardError(f"{where}: field answer: {answer} is no option (there are {len(options)}, counted from 0)")
    if not isinstance(answer, str):
        raise KardError(f"{where}: field answer: an index, a letter or an option's text was expected, not {answer!r}")
    if answer.strip() in options:
        return options.index(answer.strip())
    return letter_index(answer.strip().upper(), letters(len(options)), "answer", where)


def _passages(path: Path) -> list[Passage]:
    seen, passages = Seen(), []
    for number, row in json_rows(path):
        where = f"{path}:{number}"
        identifier = id_field(row, "id", where)
        seen.add(identifier, where)
        text = text_field(row, "text", where)
        title = f"{text_field(row, 'title', where)}. " if row.get("title") else ""
        passages.append(Passage(id=identifier, text=title + text))
    if not passages:
        raise KardError(f"{path}: it holds no passages")
    return passages


def _rationales(path: Path, questions: Seen) -> dict[str, Rationale]:
    seen, rationales = Seen(), {}
    for number, row in json_rows(path):
        where = f"{path}:{number}"
        identifier = id_field(row, "question_id", where)
        if identifier not in questions:
            raise KardError(f"{where}: field question_id: no question has the id {identifier!r}")
        seen.add(identifier, where, "question_id")
        text = text_field(row, "text", where)
        rationales[identifier] = Rationale(question_id=identifier, index=0, text=text, saw_gold=True)
    return rationales
