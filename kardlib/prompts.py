"""One prompt builder for training and test, and one parser for answers.

Everything that the method calls "the prompt" is here: how passages, question and options are laid out, which cue
asks for an explanation and which for a bare answer, and how a target ends. Passages are cut before the question is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from .errors import KardError
from .records import Question

Cue = Literal["rationale", "answer"]
Layout = Literal["one for all", "as released"]
"""``as released``: the training prompts of the authors' code, which its test prompts do not repeat: a TAB between
passages, and without passages no label before the question. Its test prompts have the space and the label."""
LETTERS = "ABCDEFGHIJ"
CUES: dict[Cue, str] = {"rationale": "Explanation:", "answer": "Answer:"}
ANSWER_MARK = "So the answer is"
_SPARE = 4  # tokens that a model puts around a text, and seams between words that are counted apart


@dataclass(frozen=True)
class Pair:
    """One training pair: a prompt and what the student should write."""

    source: str
    target: str


def question_block(question: Question, label: str = "Question: ") -> str:
    """Stem and lettered options."""
    options = " ".join(f"({LETTERS[i]}) {option}" for i, option in enumerate(question.options))
    return f"{label}{question.stem}\nOptions: {options}"


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
    layout: Layout = "one for all",
) -> str:
    """Lay out one source text, the same way in training and at test time.

    Args:
        question: its gold answer is never looked at.
        passages: texts, best first; empty for the methods without knowledge.
        cue: whether the target starts with an explanation (Eqs. 1 and 2) or is the answer alone (fine-tuning).
        explanation: a rationale to read, shown before the cue (the filter's reader).
        count: tokens of a text; with it, passages are shortened, the last first, until the prompt fits; if the
            question alone is too long, its stem loses words from the front (what is asked stands at the end).
        max_tokens: room for the whole prompt, in tokens of ``count``.
        layout: another one in training than at test time is a departure from the paper that can be measured.

    Raises:
        KardError: there is not even room for the options.
    """
    gap, label = ("\t", "" if not passages else "Question: ") if layout == "as released" else (" ", "Question: ")
    asked = [] if explanation is None else [f"{CUES['rationale']} {explanation}"]

    def tail_of(stem: str) -> str:
        return "\n".join([question_block(question.model_copy(update={"stem": stem}), label), *asked, CUES[cue]])

    tail = tail_of(question.stem)
    if count is not None:
        room = max_tokens - _SPARE
        if count(tail) > room:
            words = question.stem.split()
            kept = _most(len(words), lambda n: count(tail_of(" ".join(words[len(words) - n :]))) <= room)
            if not kept:
                raise KardError(f"question {question.id}: its options leave no room for it in {max_tokens} tokens")
            return tail_of(" ".join(words[len(words) - kept :]))
        if passages and count(_passage_block(passages, gap) + tail) > room:
            passages = _fit(passages, room - count(tail), count, gap)
    return _passage_block(passages, gap) + tail


def _passage_block(passages: Sequence[str], gap: str) -> str:
    if not passages:
        return ""
    return "Passages: " + gap.join(f"[{i}] {text}" for i, text in enumerate(passages, 1)) + "\n"


def _fit(passages: Sequence[str], room: int, count: Callable[[str], int], gap: str) -> list[str]:
    """Cut what does not fit off the end of the passages: the first that is too long is shortened and ends the list."""
    kept: list[str] = []
    for text in passages:
        words = [f"[{len(kept) + 1}]", *text.split()]
        used = count(_passage_block(kept, gap)) if kept else 0
        fit = _words_that_fit(words, room - used - 2, count)
        if fit > 1:
            kept.append(" ".join(words[1:fit]))
        if fit < len(words):
            break
    return kept


def _words_that_fit(words: Sequence[str], room: int, count: Callable[[str], int]) -> int:
    """How many of the first words have room together."""
    return _most(len(words), lambda n: count(" ".join(words[:n])) <= room)


def _most(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest n up to ``limit`` that fits, 0 if none does; what fits a number fits every smaller one."""
    if fits(limit):
        return limit
    low, high = 0, max(0, limit - 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def build_target(
    answer_text: str, rationale: str | None, count: Callable[[str], int] | None = None, max_tokens: int = 256
) -> str:
    """Target sequence: rationale, then answer (Eqs. 1 and 2), or the answer alone. It ends in the option's text.

    Args:
        count: tokens of a text; with it, a rationale that is too long loses words from its end, never the answer.
        max_tokens: room for the whole target, in tokens of ``count``.
    """
    if rationale is None:
        return answer_text
    end, words = f"{ANSWER_MARK} {answer_text}.", rationale.split()
    whole = f"{rationale.strip()} {end}"
    if count is None or count(whole) <= max_tokens - _SPARE:
        return whole
    kept = _most(len(words), lambda n: count(" ".join([*words[:n], end])) <= max_tokens - _SPARE)
    return " ".join([*words[:kept], end])


def split_generation(text: str) -> tuple[str, str]:
    """Cut generated text into (rationale, what stands after the last answer mark).

    Without a mark the whole text is taken as the answer part, as for fine-tuned students.
    """
    marks = list(re.finditer(re.escape(ANSWER_MARK), text, re.IGNORECASE))
    if not marks:
        return "", text.strip()
    return text[: marks[-1].start()].strip(), text[marks[-1].end() :].strip()


def marked(text: str) -> str:
    """A generated text up to its last answer mark, which is put behind a text that has none."""
    rationale, answer = split_generation(text)
    return f"{rationale if ANSWER_MARK.lower() in text.lower() else answer} {ANSWER_MARK}".strip()


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
