"""The records that pass between the pieces: questions, passages, rationales, predictions; and their JSONL files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import KardError
from .store import atomic_write


class Record(BaseModel):
    """Base of all records: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Question(Record):
    """A question with its options.

    Attributes:
        id: unique within a data set; splits are made by it.
        stem: the question without its options.
        options: two or more option texts.
        answer: index of the gold option, or None where it is not known.
        meta: anything else that analyses may use; never shown to a model.
    """

    id: str = Field(min_length=1)
    stem: str = Field(min_length=1)
    options: tuple[str, ...] = Field(min_length=2, max_length=10)
    answer: int | None = None
    meta: dict[str, Any] = {}

    @model_validator(mode="after")
    def _answer_is_an_option(self) -> Question:
        if self.answer is not None and not 0 <= self.answer < len(self.options):
            raise ValueError(f"answer: {self.answer} is no option (there are {len(self.options)})")
        if any(not option.strip() for option in self.options):
            raise ValueError("options: one of them is empty")
        if len(set(self.options)) < len(self.options):
            raise ValueError("options: two of them are the same")
        return self

    @property
    def gold(self) -> int:
        """Index of the gold option; a KardError where the question has none."""
        if self.answer is None:
            raise KardError(f"question {self.id}: it has no gold answer, and this step needs one")
        return self.answer

    @property
    def answer_text(self) -> str:
        """Text of the gold option."""
        return self.options[self.gold]


class Passage(Record):
    """One paragraph of the knowledge base."""

    id: str = Field(min_length=1)
    text: str = Field(min_length=1)


class Rationale(Record):
    """One sampled rationale r_ij of one question.

    Attributes:
        index: j, from 0.
        saw_gold: whether the teacher was shown the gold answer (training) or not (oracle rows).
        correct: what a scripted teacher knows about itself; None for any other teacher.
        chosen: the option that the teacher chose where it was not shown the gold one.
    """

    question_id: str
    index: int = Field(ge=0)
    text: str = Field(min_length=1)
    saw_gold: bool
    correct: bool | None = None
    chosen: int | None = None


class Prediction(Record):
    """One answer of one student to one question, with all that is needed to score it again.

    Attributes:
        answer: the text behind the answer mark, as written.
        parsed: the option that this text names; None where it names none.
        chosen: the option that counts: ``parsed``, or the likeliest one where options were scored.
    """

    question_id: str
    method: str
    seed: int
    decoding: str
    rationale: str
    answer: str
    parsed: int | None
    chosen: int | None
    gold: int
    passages: tuple[str, ...] = ()


class Ranking(Record):
    """Raw outcome behind a hits@k row: one question's passages, best first, and the passages that count as hits."""

    question_id: str
    method: str
    seed: int
    passages: tuple[str, ...]
    truth: tuple[str, ...]


R = TypeVar("R", bound=Record)


def write_jsonl(path: Path, records: Iterable[Record]) -> None:
    """Write records, one a line, whole or not at all."""
    with atomic_write(path) as file:
        for record in records:
            file.write(record.model_dump_json() + "\n")


def read_jsonl(path: Path, kind: type[R]) -> list[R]:
    """Read records of one kind.

    Raises:
        KardError: names the file, the line and the field of the first fault.
    """
    try:
        with open(path, "rb") as file:
            return [kind.model_validate_json(line) for line in file if line.strip()]
    except (OSError, ValidationError):  # the slower way tells where the fault is
        return [parse_record(row, kind, f"{path}:{number}") for number, row in json_rows(path)]


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each row of a JSONL file; blank lines are skipped."""
    if not Path(path).is_file():
        raise KardError(f"{path}: no such file")
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise KardError(f"{path}:{number}: a JSON object was expected")
                yield number, row
    except json.JSONDecodeError as error:
        raise KardError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise KardError(f"{path}:{number}: nested too deeply") from None
    except (OSError, UnicodeDecodeError) as error:
        raise KardError(f"{path}: cannot be read ({error})") from None


def parse_record(row: dict[str, Any], kind: type[R], where: str) -> R:
    """Validate one row; ``where`` is the file and line that an error names."""
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "row"
        message = first["msg"].removeprefix("Value error, ")
        raise KardError(f"{where}: field {field}: {message}") from None
