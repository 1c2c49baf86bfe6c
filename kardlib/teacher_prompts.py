"""What a teacher behind an endpoint is asked: worked examples from versioned files, and one builder for all purposes.

The student's prompts are another matter (:mod:`kardlib.prompts`). A sample is paid for its exact messages, so every
word here and in the files is part of what has been bought: a change of either asks for everything anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, StrictInt, model_validator

from .announcements import leaks, words_of
from .errors import KardError
from .presets import REPOSITORY
from .prompts import LETTERS, parse_answer
from .records import Question, Record, parse_record
from .teacher_records import Message

PROMPTS_DIR = REPOSITORY / "data" / "prompts"
Purpose = Literal["rationale", "oracle", "reader"]
GOLD_LABEL = "Correct answer:"
ANSWER_LABEL = "Answer:"
_ASKED = {
    "writer": (
        "You answer multiple-choice questions about {subject} and explain how one gets to the answer. Write an "
        "explanation of two to five sentences of plain prose: first the facts that are needed, then what follows from "
        'them. In the explanation do not mention letters of options, do not write "the answer is", and where the '
        "correct answer is shown to you, do not mention that it was. Then write one last line: "
        f'"{ANSWER_LABEL}", followed by the letter in brackets and the text of the option.'
    ),
    "reader": (
        "You read multiple-choice questions about {subject}, each with an explanation that somebody else has written. "
        "Choose the option that the explanation leads to, even where you would have chosen another. Reply with one "
        f'line and nothing else: "{ANSWER_LABEL}", followed by the letter in brackets and the text of that option.'
    ),
}
_MARK = re.compile(
    r"^\W*(?:(?:so|the|final|correct) )*answer\W*:|\banswer(?: is| would be| must be)\b:?", re.IGNORECASE | re.MULTILINE
)
_LETTER = re.compile(r"(?:[Oo]ption |[Cc]hoice )?(?:\([A-Ja-j]\)|[A-Ja-j][.):]|[A-J]$)\s*")


class WorkedExample(Question):
    """One question that is answered before the teacher's eyes; ``answer`` is an index from 0."""

    id: str = "worked example"
    answer: StrictInt
    rationale: str = Field(min_length=1)

    @model_validator(mode="after")
    def _announces_nothing(self) -> WorkedExample:
        said = leaks(self.rationale, len(self.options))
        if said:
            raise ValueError(f"the rationale announces the answer ({next(iter(said.values()))})")
        return self


class PromptSet(Record):
    """The worked examples of one file.

    Attributes:
        version: counts up; what has been published is never edited.
        subject: completes "multiple-choice questions about" in the system message.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    version: StrictInt = Field(ge=1)
    subject: str = Field(min_length=1)
    examples: tuple[WorkedExample, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _stems_differ(self) -> PromptSet:
        stems = [_plain(example.stem) for example in self.examples]
        for number, stem in enumerate(stems):
            if stem in stems[:number]:
                raise ValueError(f"examples {stems.index(stem)} and {number} ask the same")
        return self

    @property
    def label(self) -> str:
        """``medqa.v1``: how records and reports name it."""
        return f"{self.name}.v{self.version}"


def prompt_sets() -> list[str]:
    """Labels of the sets that ship with the kit, by name, then by version."""
    labels = (path.name.removesuffix(".json") for path in PROMPTS_DIR.glob("*.v*.json"))
    return sorted(labels, key=lambda label: (label.split(".v")[0], int(label.split(".v")[1])))


def prompt_set_of(dataset: str) -> str:
    """Name of the set of worked examples for a data set: its own, or ``generic``."""
    return dataset if dataset in {label.split(".v")[0] for label in prompt_sets()} else "generic"


def read_prompt_set(name: str | Path) -> PromptSet:
    """A set of worked examples.

    Args:
        name: ``medqa`` (the newest version), ``medqa.v1``, or the path of a file.

    Raises:
        KardError: there is no such set, or names the file and the field of the first fault.
    """
    path = _path_of(str(name))
    try:
        row: Any = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise KardError(f"{path}: not JSON ({error.msg} in line {error.lineno})") from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise KardError(f"{path}: cannot be read ({error})") from None
    if not isinstance(row, dict):
        raise KardError(f"{path}: a JSON object was expected")
    prompt_set = parse_record(row, PromptSet, str(path))
    if path.parent == PROMPTS_DIR and path.name != f"{prompt_set.label}.json":
        raise KardError(f"{path}: field version: a file with this name and version is called {prompt_set.label}.json")
    return prompt_set


def _path_of(name: str) -> Path:
    if name.endswith(".json") or "/" in name:
        return Path(name).expanduser()
    known = prompt_sets()
    versions = [label for label in known if name in (label, label.split(".v")[0])]
    if not versions:
        raise KardError(f"worked examples {name!r}: there are {', '.join(known)}, or a path that ends in .json")
    return PROMPTS_DIR / f"{versions[-1]}.json"


def messages_for(
    question: Question, prompt_set: PromptSet, purpose: Purpose, rationale: str | None = None
) -> tuple[Message, ...]:
    """The conversation that ends in a question: system message, worked examples as turns, the question.

    ``rationale`` and ``oracle`` are the same but for the line with the correct answer, which an oracle's prompt has
    nowhere, in the examples no more than in the question. A worked example that is the question itself is left out.

    Args:
        question: its gold answer is looked at for purpose ``rationale`` only.
        rationale: the text that a reader is shown; for purpose ``reader`` alone.

    Returns:
        Messages, ``2 + 2 e`` for ``e`` worked examples.

    Raises:
        KardError: the question has no gold answer and is to show one, or a rationale is missing or one too many.
    """
    if (rationale is not None) != (purpose == "reader"):
        fault = "a reader needs a rationale" if purpose == "reader" else f"purpose {purpose} shows no rationale"
        raise KardError(f"question {question.id}: {fault}")
    asked = _ASKED["reader" if purpose == "reader" else "writer"]
    turns = [Message(role="system", content=asked.format(subject=prompt_set.subject))]
    for example in prompt_set.examples:
        if _plain(example.stem) == _plain(question.stem):
            continue
        shown = example.rationale if purpose == "reader" else None
        answer = f"{ANSWER_LABEL} {option_line(example, example.answer)}"
        reply = answer if purpose == "reader" else f"{example.rationale}\n{answer}"
        turns.append(Message(role="user", content=_user_turn(example, purpose, shown)))
        turns.append(Message(role="assistant", content=reply))
    return (*turns, Message(role="user", content=_user_turn(question, purpose, rationale)))


def option_line(question: Question, index: int) -> str:
    """``(B) text``."""
    return f"({LETTERS[index]}) {question.options[index]}"


def _user_turn(question: Question, purpose: Purpose, rationale: str | None) -> str:
    lines = [f"Question: {question.stem}", "Options:"]
    lines += [option_line(question, i) for i in range(len(question.options))]
    lines += [f"{GOLD_LABEL} {option_line(question, question.gold)}"] if purpose == "rationale" else []
    lines += [f"Explanation: {rationale}"] if rationale is not None else []
    return "\n".join(lines)


def _plain(text: str) -> str:
    return " ".join(words_of(text))


def split_completion(text: str) -> tuple[str, str]:
    """Cut a completion into the rationale and what its last line answers; "" where there is no such line.

    The line is the one that the prompts ask for; marks of Markdown do not count. A rationale that says "the answer is"
    in its middle stays whole, and is found by :func:`kardlib.announcements.leaks`.
    """
    lines = text.strip().split("\n")
    if lines and re.match(rf"\W*{re.escape(ANSWER_LABEL[:-1])}\W*:", lines[-1], re.IGNORECASE):
        return "\n".join(lines[:-1]).strip(), lines[-1].split(":", 1)[1].strip(" *_`")
    return text.strip(), ""


def chosen_option(text: str, question: Question) -> int | None:
    """The option that an oracle's or a reader's reply chooses; None where it names none, or more than one.

    A last line in the form that the prompts ask for is taken at its word. Else what stands behind the last "Answer:" or
    "answer is" counts, as :func:`kardlib.prompts.parse_answer` reads it. Where neither is said, the last line counts if
    it is an option's text or begins with a letter, so that the "no" of a sentence is no answer. A letter beside another
    letter or beside the text of another option is unreadable.
    """
    last = split_completion(text)[1]
    as_asked = [i for i in range(len(question.options)) if last == option_line(question, i)]
    if len(as_asked) == 1:
        return as_asked[0]
    marks = list(_MARK.finditer(text))
    said = re.sub(r"\*\*|__|`", "", text[marks[-1].end() :] if marks else text).strip()
    lines = said.split("\n")
    said = lines[0 if marks else -1].strip(" *_:")
    letter = _LETTER.match(said)
    if not marks and not letter and _plain(said) not in [_plain(option) for option in question.options]:
        return None
    chosen = parse_answer(said, question.options)
    if chosen is None or letter is None:
        return chosen
    return None if _says_otherwise(said[letter.end() :], chosen, question.options) else chosen


def _says_otherwise(rest: str, chosen: int, options: Sequence[str]) -> bool:
    """Whether what follows a letter is another letter or the text of another option."""
    if re.match(r"\W*(?:(?:or|and|not)\W+)*\(?[A-J](?:[).:]|$)", rest):
        return True
    named = parse_answer(rest, options) if rest.strip() else None
    return named is not None and named != chosen
