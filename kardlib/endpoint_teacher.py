"""A teacher behind an endpoint, as the rest of the kit sees it: it hands out what its store holds and never asks.

Asking costs money, so only ``kard teacher run`` does it (:mod:`kardlib.teacher_command`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from .dataset import DataSet
from .errors import KardError
from .presets import REPOSITORY, Settings
from .readers import read_dataset
from .records import Question, Rationale
from .store import fingerprint
from .teacher import Teacher, make_teacher
from .teacher_entries import BUILT_IN, TeacherEntry, teacher_entry
from .teacher_prompts import chosen_option, messages_for, prompt_set_of, read_prompt_set, split_completion
from .teacher_records import Ask, Sample
from .teacher_store import TeacherStore

STORE_FOLDER = "KARD_TEACHER_STORE"
"""Environment variable with another folder for the stores than ``teacher/`` in the repository."""


def store_path(alias: str) -> Path:
    """The file of a teacher's samples. It lies outside ``runs/``, which anybody may delete: it has been paid for."""
    return Path(os.environ.get(STORE_FOLDER) or REPOSITORY / "teacher").expanduser().resolve() / f"{alias}.sqlite"


def teacher_of(settings: Settings, data: DataSet) -> Teacher:
    """The teacher that the settings name: scripted, annotations, or one behind an endpoint."""
    if settings.teacher in BUILT_IN:
        return make_teacher(settings.teacher, data)
    return EndpointTeacher(teacher_entry(settings.teacher), data)


def asks_of(entry: TeacherEntry, data: DataSet, show_gold: bool) -> list[Ask]:
    """How every question is put to a teacher: those of train with the gold answer, those of dev and test without."""
    asked = data.train if show_gold else [*data.dev, *data.test]
    return _asks(entry, data, asked, show_gold)


def _asks(entry: TeacherEntry, data: DataSet, questions: Sequence[Question], show_gold: bool) -> list[Ask]:
    examples = read_prompt_set(entry.prompts or prompt_set_of(data.name))
    purpose = "rationale" if show_gold else "oracle"
    return [ask_of(entry, question.id, messages_for(question, examples, purpose), purpose) for question in questions]


def ask_of(entry: TeacherEntry, question_id: str, messages: tuple, purpose: str) -> Ask:
    """One question in the words of a builder, for the model and with the sampling of an entry."""
    return Ask(
        teacher=entry.alias, model=entry.model, messages=messages, sampling=entry.sampling, question_id=question_id,
        purpose=purpose,
    )  # fmt: skip


class EndpointTeacher:
    """Hands out stored samples.

    Args:
        entry: the teacher.
        data: the set that the questions are of; its name chooses the worked examples.
    """

    def __init__(self, entry: TeacherEntry, data: DataSet) -> None:
        self.name = entry.alias
        self._entry, self._data = entry, data

    def rationales(self, questions: Sequence[Question], l: int, show_gold: bool) -> list[Rationale]:  # noqa: E741
        """Good samples, at most ``l`` a question; fewer where the teacher's answers were cut off or refused.

        Raises:
            KardError: samples are still to be asked for, or there is none at all.
        """
        asks = _asks(self._entry, self._data, questions, show_gold)
        with open_store(self._entry.alias) as store:
            lacking = sum(len(store.missing(ask, l)) for ask in asks)
            if lacking:
                raise KardError(
                    f"teacher {self.name}: {lacking:,} of {l * len(asks):,} rationales have not been asked for; "
                    "'kard teacher plan' tells the price, 'kard teacher run' asks (with the same options)"
                )
            pairs = [(q, sample) for q, ask in zip(questions, asks, strict=True) for sample in store.get(ask, l)]
        told = [one for question, sample in pairs if (one := rationale_of(question, sample, show_gold))]
        if questions and not told:
            raise KardError(f"teacher {self.name}: not one usable rationale; 'kard teacher report' tells why")
        return told


def rationale_of(question: Question, sample: Sample, show_gold: bool) -> Rationale | None:
    """A completion as a rationale, without the line that answers; None where nothing but that line is there."""
    text, _ = split_completion(sample.text)
    if not text:
        return None
    chosen = None if show_gold else chosen_option(sample.text, question)
    return Rationale(question_id=question.id, index=sample.index, text=text, saw_gold=show_gold, chosen=chosen)


def open_store(alias: str) -> TeacherStore:
    """The store of a teacher; made where it is not there."""
    return TeacherStore(store_path(alias))


def samples_digest(settings: Settings, show_gold: bool) -> str:
    """Hash of the stored samples that the rationales of these settings are made of: part of their key."""
    path = store_path(settings.teacher)
    files = (path, path.with_name(f"{path.name}-wal"))
    touched = tuple((file.stat().st_size, file.stat().st_mtime_ns) if file.exists() else None for file in files)
    return _digest(settings, teacher_entry(settings.teacher), show_gold, touched)


@lru_cache(maxsize=8)
def _digest(settings: Settings, entry: TeacherEntry, show_gold: bool, touched: tuple) -> str:
    if touched[0] is None:
        return "nothing"
    asks = asks_of(entry, read_dataset(settings), show_gold)
    with open_store(entry.alias) as store:
        texts = [[sample.text for sample in store.get(ask, settings.l if show_gold else 1)] for ask in asks]
    return fingerprint([(ask.identity, text) for ask, text in zip(asks, texts, strict=True)])
