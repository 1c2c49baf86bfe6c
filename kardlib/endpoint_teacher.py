"""A teacher behind an endpoint, as the rest of the kit sees it: it hands out what its store holds and never asks.

Asking costs money, so only ``kard teacher run`` does it (:mod:`kardlib.teacher_command`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from .dataset import DataSet
from .drafts import as_rationales, drafts_of
from .errors import KardError
from .filter import Filtered
from .presets import REPOSITORY, Settings
from .readers import read_dataset
from .records import Question, Rationale
from .store import fingerprint
from .teacher import Teacher, make_teacher
from .teacher_entries import BUILT_IN, TeacherEntry, teacher_entry, teachers
from .teacher_prompts import PromptSet, messages_for, prompt_set_of, read_prompt_set
from .teacher_reader import filter_by_replies, reader_asks
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
    examples, purpose = prompts_of(entry, data), "rationale" if show_gold else "oracle"
    return [
        Ask(
            teacher=entry.alias,
            model=entry.model,
            messages=messages_for(question, examples, purpose),
            sampling=entry.sampling,
            question_id=question.id,
            purpose=purpose,
        )
        for question in questions
    ]


def prompts_of(entry: TeacherEntry, data: DataSet) -> PromptSet:
    """The worked examples that a teacher is shown: those that its entry names, or the data set's own."""
    return read_prompt_set(entry.prompts or prompt_set_of(data.name))


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
            pairs = [(ask, sample) for ask in asks for sample in store.get(ask, l)]
        told = as_rationales(drafts_of(pairs, questions, "rationale" if show_gold else "oracle"), show_gold)
        if questions and not told:
            raise KardError(f"teacher {self.name}: not one usable rationale; 'kard teacher report' tells why")
        return told


def asks_of_reader(entry: TeacherEntry, data: DataSet, rationales: Sequence[Rationale]) -> list[Ask]:
    """The filter's questions to a teacher: one for each rationale, without the gold answer."""
    return reader_asks(data.train, rationales, prompts_of(entry, data), entry.alias, entry.model)


def filtered_by_teacher(alias: str, data: DataSet, rationales: Sequence[Rationale]) -> Filtered:
    """The filter with a teacher as its reader, from stored replies.

    Raises:
        KardError: replies are still to be asked for.
    """
    asks = asks_of_reader(teacher_entry(alias), data, rationales)
    with open_store(alias) as store:

        def reply(ask: Ask) -> Sample | None:
            if store.missing(ask, 1):
                return None
            return next(iter(store.get(ask, 1)), Sample(index=0, text="", finish_reason="given up"))

        return filter_by_replies(data.train, rationales, asks, reply)


def is_endpoint(name: str) -> bool:
    """Whether a teacher or a filter's reader is one behind an endpoint."""
    return name not in BUILT_IN and name in teachers()


def open_store(alias: str) -> TeacherStore:
    """The store of a teacher; made where it is not there."""
    return TeacherStore(store_path(alias))


def replies_digest(alias: str) -> str:
    """Hash of all good replies of a teacher as the filter's reader: part of the verdicts' key."""
    return _replies(alias, _touched(alias))


@lru_cache(maxsize=8)
def _replies(alias: str, touched: tuple) -> str:
    if touched[0] is None:
        return "nothing"
    query = "SELECT identity, text FROM samples JOIN asks USING (identity) WHERE good AND purpose = 'reader' ORDER BY 1"
    with open_store(alias) as store:
        return fingerprint(store.read(query))


def samples_digest(settings: Settings, show_gold: bool) -> str:
    """Hash of the stored samples that the rationales of these settings are made of: part of their key."""
    return _digest(settings, teacher_entry(settings.teacher), show_gold, _touched(settings.teacher))


def _touched(alias: str) -> tuple:
    path = store_path(alias)
    files = (path, path.with_name(f"{path.name}-wal"))
    return tuple((file.stat().st_size, file.stat().st_mtime_ns) if file.exists() else None for file in files)


@lru_cache(maxsize=8)
def _digest(settings: Settings, entry: TeacherEntry, show_gold: bool, touched: tuple) -> str:
    if touched[0] is None:
        return "nothing"
    asks = asks_of(entry, read_dataset(settings), show_gold)
    with open_store(entry.alias) as store:
        texts = [[sample.text for sample in store.get(ask, settings.l if show_gold else 1)] for ask in asks]
    return fingerprint([(ask.identity, text) for ask, text in zip(asks, texts, strict=True)])
