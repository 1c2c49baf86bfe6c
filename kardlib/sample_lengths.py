"""How many examples each step has and how long they are: from the data set where it can be read, else assumed.

Lengths come from a sample of training questions, laid out as students read them. Where a model's tokenizer is not
at hand tokens are characters divided by four; where the teacher has not been asked yet a rationale has an assumed
length; where there is no data set, everything is assumed. Each of these is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from .bm25 import Searcher
from .candidates import question_candidates
from .errors import KardError
from .few_shot import few_shot_prompt, worked_examples
from .keys import WIDTH
from .methods import METHODS, TRAININGS, Method
from .pairs import training_pairs
from .presets import SPLIT_SIZES, Settings
from .prompts import build_prompt, query_of
from .published_counts import PUBLISHED, STRATEGYQA_REPORTED, count_faults
from .records import Question, Rationale
from .splits import DEV_SHARE, cut
from .teacher import make_teacher
from .teacher_entries import BUILT_IN
from .teacher_plan import CHARACTERS_A_TOKEN

if TYPE_CHECKING:
    from .experiment import Experiment

Lengths = tuple[tuple[int, int], ...]
"""(source, target) in tokens, both with their end token."""
SAMPLE = 96
"""Questions whose texts are laid out."""
RATIONALE_WORDS = {"medqa": 120}
USUAL_RATIONALE_WORDS = 60
"""Assumed of a teacher that has not been asked."""
_ASSUMED: dict[str, tuple[int, int]] = {"medqa": (205, 9), "strategyqa": (28, 3), "openbookqa": (55, 6)}
"""Tokens of a question with its options, and of an answer: means of the publishers' files at 4 characters each."""
_PASSAGE = 95
"""Assumed tokens of a passage of Wikipedia: 38 terms without stop words [C], about 65 words."""


@dataclass(frozen=True)
class Sample:
    """Counts and lengths.

    Attributes:
        questions: of train, dev and test.
        passages: in the knowledge base; None where it is not at hand.
        training: what a student of each training reads and learns.
        asked: what a student of each method reads at test time, and would write if it were right.
        judged: what the filter's reader reads.
        query, passage: tokens of a question's query and of a passage, for the encoder.
        notes: what of this is assumed or in part, and of how many questions it is.
    """

    questions: dict[str, int]
    passages: int | None
    training: dict[str, Lengths]
    asked: dict[str, Lengths]
    judged: tuple[int, ...]
    query: tuple[int, ...]
    passage: tuple[int, ...]
    notes: tuple[str, ...]


@lru_cache(maxsize=8)
def sample_of(settings: Settings) -> Sample:
    """Counts and lengths for an experiment; nothing is made and no network is asked."""
    if settings.dataset == "openbookqa" and not settings.data_dir:
        return _assumed(settings, "no files (set KARD_DATA or -p data_dir=)")
    try:
        return _measured(settings)
    except KardError as error:
        if settings.dataset not in PUBLISHED:
            raise
        return _assumed(settings, str(error))


def _measured(settings: Settings) -> Sample:
    from .reranker import TOKENS  # takes seconds

    experiment, notes = _readable(settings), []
    data = experiment.data
    counts = {"train": len(data.train), "dev": len(data.dev), "test": len(data.test)}
    faults = count_faults(settings.dataset, data.rows)
    if faults and settings.preset == "paper" and settings.size == "full" and settings.share == 1:
        counts = published_questions(settings.dataset)
        notes.append(f"counts as published, lengths from files in part ({'; '.join(faults)})")
    asked = cut(data.train, SAMPLE)
    told, note = _rationales(settings, experiment, asked)
    (student, note_student), (encoder, note_encoder) = _counter(settings.student), _counter(settings.encoder)
    notes += [note, note_student, note_encoder if note_encoder != note_student else ""]
    notes.append(f"lengths of {len(asked)} training questions of {len(data.train):,}")
    training, tested, judged = _laid_out(settings, experiment, asked, told, student)

    def encoded(text: str) -> int:
        return min(encoder(text) + 2, TOKENS)  # with both special tokens

    return Sample(
        counts, len(data.passages), training, tested, judged, tuple(encoded(query_of(q)) for q in asked),
        tuple(encoded(text) for text in _found(experiment.search, asked)), tuple(filter(None, notes)),
    )  # fmt: skip


def _found(search: Searcher, asked: Sequence[Question]) -> list[str]:
    """Passages that a reranker reads: longer than others, as they share words with a question."""
    few = asked[: SAMPLE // 4]
    found = (question_candidates(search, q, min(WIDTH, len(search.texts))).passages for q in few)
    return [search.texts[i] for passages in found for i in passages[:: max(1, len(passages) // 4)]]


def _readable(settings: Settings) -> Experiment:
    """The experiment with its data read; files in part, which preset ``paper`` refuses, lend their lengths."""
    from .experiment import Experiment

    try:
        experiment = Experiment(settings)
        _ = experiment.data
    except KardError:
        if settings.preset != "paper":
            raise
        experiment = Experiment(settings.model_copy(update={"preset": "laptop"}))
        _ = experiment.data
    return experiment


def _laid_out(
    s: Settings,
    experiment: Experiment,
    asked: Sequence[Question],
    told: Sequence[Rationale],
    count: Callable[[str], int],
) -> tuple[dict[str, Lengths], dict[str, Lengths], tuple[int, ...]]:
    """Lengths of training pairs, of test prompts and of the filter's prompts."""
    search, limits = experiment.search, (s.source_tokens, s.target_tokens)

    def length(text: str, limit: int) -> int:
        return min(count(text) + 1, limit)

    training: dict[str, Lengths] = {}
    for name, row in TRAININGS.items():
        items = [(q, r if row.target == "rationale" else None) for q, r in zip(asked, told, strict=True)]
        pairs = training_pairs(row, items, search, s.k, count, *limits)
        training[name] = tuple((length(p.source, limits[0]), length(p.target, limits[1])) for p in pairs)
    tested = {}
    for row in METHODS:
        if row.examples:
            tested[row.name] = _shown(s, search, row, asked, told, count)
        else:
            tested[row.name] = _tested(row, training, s)
    judged = tuple(
        length(build_prompt(q, cue="answer", explanation=r.text, count=count, max_tokens=limits[0]), limits[0])
        for q, r in zip(asked, told, strict=True)
    )
    return training, tested, judged


def _tested(row: Method, training: dict[str, Lengths], s: Settings) -> Lengths:
    """A trained student reads what it was trained on, with passages of its own query; an untrained one writes on."""
    prompts = {"none": "Reasoning Distillation", "oracle rationale": "KARD"}.get(row.test_query, "KA Fine-tuning")
    written = training["Fine-tuning" if row.cue == "answer" or row.forced_rationale else "KARD"]
    if row.training is None:
        return tuple((source, s.target_tokens) for source, _ in training[prompts])
    return tuple((source, target) for (source, _), (_, target) in zip(training[prompts], written, strict=True))


def _shown(
    s: Settings, search: Searcher, row: Method, asked: Sequence[Question], told: Sequence[Rationale],
    count: Callable[[str], int],
) -> Lengths:  # fmt: skip
    assert row.examples is not None
    few = asked[: SAMPLE // 4]  # long prompts, of about one length: a few tell enough
    shots = worked_examples(row.examples, asked, told, search, s, count)
    found = {q.id: question_candidates(search, q, s.k).passages if row.test_query != "none" else () for q in few}
    texts = (
        few_shot_prompt(
            shots, q, [search.texts[i] for i in found[q.id]], row.cue, count=count, max_tokens=s.source_tokens
        ).text
        for q in few
    )
    return tuple((min(count(text) + 1, s.source_tokens), s.target_tokens) for text in texts)


def _rationales(s: Settings, experiment: Experiment, asked: Sequence[Question]) -> tuple[list[Rationale], str]:
    """One rationale of each question: the teacher's, or a stand-in of the assumed length."""
    data = experiment.data
    try:
        if s.teacher in BUILT_IN:
            told = make_teacher(s.teacher, data).rationales(asked, 1, True)
        else:
            from .endpoint_teacher import EndpointTeacher, store_path
            from .teacher_entries import teacher_entry

            if not store_path(s.teacher).exists():  # opening it would make it
                raise KardError(f"teacher {s.teacher}: nothing has been asked")
            told = EndpointTeacher(teacher_entry(s.teacher), data).rationales(asked, 1, True)
        by_id = {r.question_id: r for r in told}
        return [by_id[q.id] for q in asked], ""
    except (KardError, KeyError):
        words = RATIONALE_WORDS.get(s.dataset, USUAL_RATIONALE_WORDS)
        note = f"rationales of {words} words each are assumed: teacher {s.teacher} has not told them"
        return [_stand_in(q, data.annotations.get(q.id), words) for q in asked], note


def _stand_in(question: Question, own: Rationale | None, words: int) -> Rationale:
    text = (own.text if own else query_of(question)).split()
    repeated = (text * (words // len(text) + 1))[:words]
    return Rationale(question_id=question.id, index=0, text=" ".join(repeated), saw_gold=True)


def _counter(name: str) -> tuple[Callable[[str], int], str]:
    """Tokens of a text for a model, and a note where they are estimated. The hub is not asked."""
    from transformers import AutoTokenizer

    from .models import locate

    path = locate(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        if Path(path).is_dir():
            raise KardError(f"model {name}: its tokenizer cannot be loaded ({str(error).splitlines()[0]})") from None
        return (lambda text: math.ceil(len(text) / CHARACTERS_A_TOKEN)), "tokens are characters divided by 4"
    return (lambda text: len(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)), ""


def published_questions(dataset: str) -> dict[str, int]:
    """Questions of train, dev and test under preset ``paper``; a tenth of train is held out where there is no dev."""
    rows = PUBLISHED[dataset]
    if "labelled" in rows:
        train = rows["labelled"] - STRATEGYQA_REPORTED
        return {"train": train - round(DEV_SHARE * train), "dev": round(DEV_SHARE * train), "test": STRATEGYQA_REPORTED}
    return dict(rows)


def _assumed(s: Settings, reason: str) -> Sample:
    """Published counts with assumed lengths, the same for all examples."""
    (question, answer), share = _ASSUMED[s.dataset], s.share
    words = RATIONALE_WORDS.get(s.dataset, USUAL_RATIONALE_WORDS)
    rationale = min(round(words * 1.4) + answer + 5, s.target_tokens)
    with_passages = min(question + 10 + s.k * (_PASSAGE + 3), s.source_tokens)
    counts = published_questions(s.dataset)
    if s.size == "smoke":
        counts = {split: min(count, SPLIT_SIZES["smoke"][split]) for split, count in counts.items()}
    counts["train"] = max(1, round(share * counts["train"]))
    training: dict[str, Lengths] = {
        name: (
            (question + 6 if row.query == "none" else with_passages, answer if row.target == "answer" else rationale),
        )
        for name, row in TRAININGS.items()
    }
    tested = {row.name: _tested(row, training, s) for row in METHODS if not row.examples}
    tested |= {row.name: ((s.source_tokens, s.target_tokens),) for row in METHODS if row.examples}
    return Sample(
        counts, None, training, tested, (question + rationale,), (question,), (_PASSAGE,),
        (f"counts as {'of size smoke' if s.size == 'smoke' else 'published'}, all lengths assumed: {reason}",),
    )  # fmt: skip
