"""A quality report on rationales: what was dropped and why, and what the texts are like before and after the filter.

Nothing is judged here. The verdicts are those of :mod:`kardlib.filter`, and of :func:`kardlib.drafts.screen` for
samples that never were rationales; every other number is counted from the texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .announcements import LEAKS, leaks, names_option, words_of
from .drafts import Draft, screen
from .errors import KardError
from .leakage import NEAR, WORDS
from .plain_text import columns
from .records import Question, Rationale, Record
from .repetition import distinct, neighbours, overlap, repeats

VERDICTS = ("kept", "wrong option", "no option", "not finished", "empty", "duplicate", "not judged")
"""Every verdict, in the order of a table; those with no text are left out of it."""
_EXAMPLES = 3


class Texts(Record):
    """What some rationales are like. Counts are of texts; all are counted of texts that have a word.

    Attributes:
        count: texts; ``questions`` have at least one.
        words: length of each text in words (``\\w+``), ascending.
        leaking: texts with a leak of any kind; ``leaks`` by kind, see :func:`kardlib.announcements.leaks`.
        leak_examples: the first few of each kind, as "question id: words".
        names_gold: texts that hold all words of the gold option in a row. They may: it is no leak.
        names_others: texts that hold another option of their question in this way, and not the gold one.
        exact_within, exact_across, near_within, near_across: see :class:`kardlib.repetition.Repeats`.
        distinct: distinct-1, -2 and -3 of all texts together, see :func:`kardlib.repetition.distinct`.
        distinct_within: the same of the texts of one question, averaged over the questions that have two or more.
    """

    count: int
    questions: int
    words: tuple[int, ...]
    leaking: int
    leaks: dict[str, int]
    leak_examples: dict[str, tuple[str, ...]]
    names_gold: int
    names_others: int
    exact_within: int
    exact_across: int
    near_within: int
    near_across: int
    distinct: tuple[float | None, ...]
    distinct_within: tuple[float | None, ...]

    def quantile(self, share: float) -> float | None:
        """Words below or at which that share of the texts is; None without texts."""
        return float(np.quantile(self.words, share)) if self.words else None


class RationaleQuality(Record):
    """The report.

    Attributes:
        questions: that were asked about.
        samples: texts that came back, good or not; ``verdicts`` counts them, each once.
        kept_a_question: how many questions have 0, 1, 2, ... kept rationales.
        judged: whether a filter has judged; without one, what passed the screening counts as kept.
        all, kept: the texts that have a word, and those of them that the filter kept.
        test_questions: that were compared with; ``overlap_run``, ``overlap_run_and_answer`` and ``overlap_near`` are
            the ids of those that the kept texts give away, see :class:`kardlib.repetition.Overlap`.
    """

    questions: int
    samples: int
    verdicts: dict[str, int]
    kept_a_question: dict[int, int]
    judged: bool
    all: Texts
    kept: Texts
    test_questions: int
    overlap_run: tuple[str, ...]
    overlap_run_and_answer: tuple[str, ...]
    overlap_near: tuple[str, ...]

    def rows(self) -> list[tuple[str, str, str]]:
        """Measure, of all texts, of the kept ones; a part that is counted once has an empty third cell."""
        whole = [(name, _share(n, self.samples), "") for name, n in self.verdicts.items()]
        none = self.kept_a_question.get(0, 0)
        whole += [("questions with nothing kept", _share(none, self.questions), "")]
        pairs = zip(_rows(self.all), _rows(self.kept), strict=True)
        both = [(name, first, second) for (name, first), (_, second) in pairs]
        tests = {
            f"test questions with {WORDS} words in a row": self.overlap_run,
            "... and with their gold option": self.overlap_run_and_answer,
            f"test questions nearly repeated (Jaccard {NEAR:g})": self.overlap_near,
        }
        after = [(name, "", _share(len(ids), self.test_questions)) for name, ids in tests.items()]
        return [*whole, *both, *(after if self.test_questions else [])]

    def __str__(self) -> str:
        return "\n".join(columns([("", "all", "kept"), *self.rows()], right=(1, 2)))


def measure_rationales(
    questions: Sequence[Question],
    texts: Sequence[Rationale] | Sequence[Draft],
    verdicts: Sequence[str] | None = None,
    test: Sequence[Question] = (),
    drop_duplicates: bool = False,
) -> RationaleQuality:
    """Count everything.

    Args:
        questions: that were asked about, with their gold options.
        texts: rationales, or raw samples (:func:`kardlib.drafts.drafts_of`).
        verdicts: the filter's, one for each text that passes the screening, in their order; None where none is at hand.
        test: questions that no rationale may give away.
        drop_duplicates: whether screening drops a repetition within a question, as
            :func:`kardlib.drafts.as_rationales` did.

    Raises:
        KardError: a text of a question that is not among them, or more or fewer verdicts than texts to judge.
    """
    by_id = {question.id: question for question in questions}
    stray = next((text.question_id for text in texts if text.question_id not in by_id), None)
    if stray is not None:
        raise KardError(f"question {stray}: there is a rationale of it, and it is not among the questions")
    outcome = _outcomes(texts, verdicts, drop_duplicates)
    kept = [text for text, one in zip(texts, outcome, strict=True) if one in ("kept", "not judged")]
    counted = Counter(outcome)
    left = Counter(text.question_id for text in kept)
    worded = [text for text in texts if words_of(text.text)]
    near = neighbours([text.text for text in worded])
    of_all = _texts(worded, by_id, near)
    shared = overlap([text.text for text in kept], test)
    return RationaleQuality(
        questions=len(by_id),
        samples=len(texts),
        verdicts={name: counted[name] for name in (*VERDICTS, *sorted(counted.keys() - VERDICTS)) if counted[name]},
        kept_a_question=dict(sorted(Counter(left[identifier] for identifier in by_id).items())),
        judged=verdicts is not None,
        all=of_all,
        kept=of_all if len(kept) == len(worded) else _texts(kept, by_id, near),
        test_questions=len(test),
        overlap_run=shared.run,
        overlap_run_and_answer=shared.run_and_answer,
        overlap_near=shared.near,
    )


def _outcomes(
    texts: Sequence[Rationale] | Sequence[Draft], verdicts: Sequence[str] | None, drop_duplicates: bool
) -> list[str]:
    """The verdict on each text: what screening says, else the filter's."""
    drafts = [
        text if isinstance(text, Draft) else Draft(question_id=text.question_id, index=text.index, text=text.text)
        for text in texts
    ]
    faults = screen(drafts, drop_duplicates)
    passed = faults.count("")
    if verdicts is not None and len(verdicts) != passed:
        raise KardError(f"{len(verdicts)} verdicts for {passed} rationales: there must be one for each")
    judged = iter(["not judged"] * passed if verdicts is None else verdicts)
    return [fault or next(judged) for fault in faults]


def _texts(
    texts: Sequence[Rationale | Draft], by_id: Mapping[str, Question], near: Mapping[str, Sequence[str]]
) -> Texts:
    found = [(text.question_id, leaks(text.text, len(by_id[text.question_id].options))) for text in texts]
    kinds = {kind: [f"{i}: {said[kind]}" for i, said in found if kind in said] for kind in LEAKS}
    named = [_named(text.text, by_id[text.question_id]) for text in texts]
    again = repeats([(text.question_id, text.text) for text in texts], near)
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(text.question_id, []).append(text.text)
    several = [group for group in groups.values() if len(group) > 1]
    return Texts(
        count=len(texts),
        questions=len(groups),
        words=tuple(sorted(len(words_of(text.text)) for text in texts)),
        leaking=sum(bool(said) for _, said in found),
        leaks={kind: len(said) for kind, said in kinds.items()},
        leak_examples={kind: tuple(said[:_EXAMPLES]) for kind, said in kinds.items() if said},
        names_gold=named.count("gold"),
        names_others=named.count("others"),
        exact_within=len(again.exact_within),
        exact_across=len(again.exact_across),
        near_within=len(again.near_within),
        near_across=len(again.near_across),
        distinct=tuple(distinct([text.text for text in texts], n) for n in (1, 2, 3)),
        distinct_within=tuple(_mean(distinct(group, n) for group in several) for n in (1, 2, 3)),
    )


def _named(text: str, question: Question) -> str:
    """``gold``, ``others`` or ``none``: which options a text names."""
    named = {i for i, option in enumerate(question.options) if names_option(text, option)}
    return "gold" if question.answer in named else "others" if named else "none"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _rows(texts: Texts) -> list[tuple[str, str]]:
    n = texts.count
    low, middle, high = (texts.quantile(share) for share in (0.05, 0.5, 0.95))
    length = "-" if middle is None else f"{middle:.0f} ({low:.0f} to {high:.0f})"
    return [
        ("texts", f"{n:,}"),
        ("words: median (5 to 95 %)", length),
        ("leaking", _share(texts.leaking, n)),
        ("  a letter of an option", _share(texts.leaks["letter"], n)),
        ('  "the answer is" and its like', _share(texts.leaks["announced"], n)),
        ('  "the given answer" and its like', _share(texts.leaks["given"], n)),
        ("naming the gold option (no leak)", _share(texts.names_gold, n)),
        ("naming other options alone", _share(texts.names_others, n)),
        ("same words as an earlier text of the question", _share(texts.exact_within, n)),
        ("  of another question", _share(texts.exact_across, n)),
        (f"near (Jaccard {NEAR:g}) an earlier text of the question", _share(texts.near_within, n)),
        ("  of another question", _share(texts.near_across, n)),
        ("distinct-1, -2, -3", _shares(texts.distinct)),
        ("  within a question", _shares(texts.distinct_within)),
    ]


def _share(count: int, of: int) -> str:
    return f"{count:,} ({100 * count / of:.1f} %)" if of else "-"


def _shares(values: Sequence[float | None]) -> str:
    return ", ".join("-" if value is None else f"{value:.3f}" for value in values)
