"""One prompt builder for training and test, and one parser for answers.

Everything that the method calls "the prompt" is here: how passages, question and options are laid out, which cue
asks for an explanation and which for a bare answer, and how a target ends. Passages are cut before the question is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

from .records import Question

Cue = Literal["rationale", "answer"]
LETTERS = "ABCDEFGHIJ"
CUES: dict[Cue, str] = {"rationale": "Explanation:", "answer": "Answer:"}
ANSWER_MARK = "So the answer is"


def question_block(question: Question) -> str:
    """Stem and lettered options, the part of a prompt that is never cut."""
    options = " ".join(f"({LETTERS[i]}) {option}" for i, option in enumerate(question.options))
    return f"Question: {question.stem}\nOptions: {options}"


def query_of(question: Question) -> str:
    """The query that finds passages when there is no rationale: stem and option texts, nothing else."""
    return " ".join((question.stem, *question.options))


def build_prompt(
    question: Question,
    passages: Sequence[str] = (),
    cue: Cue = "rationale",
    *,
    explanation: str | None = None,
    count: Callable[[str], int] | None = None,
    max_tokens: int = 512,
) -> str:
    """Lay out one source text, the same way in training and at test time.

    Args:
        question: its gold answer is never looked at.
        passages: texts, best first; empty for the methods without knowledge.
        cue: whether the target starts with an explanation (Eqs. 1 and 2) or is the answer alone (fine-tuning).
        explanation: a rationale to read, shown before the cue (the filter's reader).
        count: tokens of a text; with it, passages are shortened, the last first, until the prompt fits.
        max_tokens: room for the whole prompt, in tokens of ``count``.

    Returns:
        The prompt. If the question alone is longer than ``max_tokens`` it is returned whole, without passages.
    """
    middle = question_block(question)
    if explanation is not None:
        middle += f"\n{CUES['rationale']} {explanation}"
    tail = f"{middle}\n{CUES[cue]}"
    if count is not None and passages:
        passages = _fit(passages, max_tokens - count(tail) - 4, count)
    return _passage_block(passages) + tail


def _passage_block(passages: Sequence[str]) -> str:
    if not passages:
        return ""
    return "Passages: " + " ".join(f"[{i}] {text}" for i, text in enumerate(passages, 1)) + "\n"


def _fit(passages: Sequence[str], room: int, count: Callable[[str], int]) -> list[str]:
    """Cut what does not fit off the end of the passages: the first that is too long is shortened and ends the list."""
    kept: list[str] = []
    for text in passages:
        words = [f"[{len(kept) + 1}]", *text.split()]
        used = count(_passage_block(kept)) if kept else 0
        fit = _words_that_fit(words, room - used - 2, count)
        if fit > 1:
            kept.append(" ".join(words[1:fit]))
        if fit < len(words):
            break
    return kept


def _words_that_fit(words: Sequence[str], room: int, count: Callable[[str], int]) -> int:
    """How many of the first words have room together."""
    if count(" ".join(words)) <= room:
        return len(words)
    low, high = 0, len(words) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(" ".join(words[:middle])) <= room else (low, middle - 1)
    return low


def build_target(answer_text: str, rationale: str | None) -> str:
    """Target sequence: rationale, then answer (Eqs. 1 and 2), or the answer alone. It ends in the option's text."""
    if rationale is None:
        return answer_text
    return f"{rationale.strip()} {ANSWER_MARK} {answer_text}."


def split_generation(text: str) -> tuple[str, str]:
    """Cut generated text into (rationale, what stands after the last answer mark).

    Without a mark the whole text is taken as the answer part, as for fine-tuned students.
    """
    marks = list(re.finditer(re.escape(ANSWER_MARK), text, re.IGNORECASE))
    if not marks:
        return "", text.strip()
    return text[: marks[-1].start()].strip(), text[marks[-1].end() :].strip()


def parse_answer(text: str, options: Sequence[str]) -> int | None:
    """The option that a generated text names: by letter (``(B)``, ``B.``, ``answer is b``) or by its own text.

    Only options that exist count; ``None`` is a failure to parse and scores as wrong.
    """
    written = split_generation(text)[1]
    for same in (str.strip, _squeeze):  # as it is written, then without spaces and capitals
        said = same(written.rstrip(". "))
        exact = [i for i, option in enumerate(options) if said and said == same(option.rstrip(". "))]
        if len(exact) == 1:
            return exact[0]
    answer = _plain(written)
    if not answer:
        return None
    plain = [_plain(option) for option in options]
    if plain.count(answer) == 1:
        return plain.index(answer)
    letter = re.fullmatch(r"(?:(?:so|the|correct|answer|option|is) )*([a-j])", answer)
    letter = letter or re.match(r"\(([a-j])\)", written.lower())
    letter = letter or re.match(r"([a-j])[.):]", written.lower())
    if letter:
        index = LETTERS.lower().index(letter.group(1))
        return index if index < len(options) else None
    named = [i for i, option in enumerate(plain) if option and re.search(rf"\b{re.escape(option)}\b", answer)]
    longest = [i for i in named if not any(i != j and plain[i] in plain[j] for j in named)]
    return longest[0] if len(longest) == 1 else None


def _squeeze(text: str) -> str:
    return "".join(text.lower().split())


def _plain(text: str) -> str:
    """Words in lower case; digits that a tokenizer has set apart are one number again."""
    return re.sub(r"(?<=\d) (?=\d)", "", " ".join(re.findall(r"\w+", text.lower())))
