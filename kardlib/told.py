"""What an experiment begins with: questions and passages, what the teacher has told, what the filter has kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from .bm25 import BM25, Searcher
from .candidates import rationale_key
from .dataset import DataSet
from .endpoint_teacher import filtered_by_teacher, is_endpoint, teacher_of
from .errors import KardError
from .experiment_data import data_of
from .filter import Filtered, filter_rationales
from .indexed_search import IndexedSearch
from .keys import Keys, Split
from .presets import MINI_SETS
from .prompts import query_of
from .records import Question, Rationale, read_jsonl, write_jsonl
from .shipped import read_header, read_set
from .splits import cut
from .store import artefact, write_json
from .teacher_entries import tells

SILENT = (
    "teacher {}: no usable rationale of {} of {} dev and test questions; in oracle rows the question's own words stand "
    "for it, hits@k counts a miss, and failures are not sorted"
)
FINDLESS = "teacher {}: {} of {} rationales to learn from have no word of the knowledge base and are left out"


class Told(Keys):
    """Questions, passages and rationales of an experiment; what follows is in :mod:`kardlib.experiment`."""

    @cached_property
    def data(self) -> DataSet:
        data = data_of(self.settings, self._indexed.base if self.settings.index else None)
        if self.settings.k > len(data.passages):
            raise KardError(f"k = {self.settings.k}: the knowledge base has {len(data.passages)} passages only")
        return data

    @cached_property
    def search(self) -> Searcher:
        return self._indexed if self.settings.index else BM25(self.data.passages)

    @cached_property
    def _indexed(self) -> IndexedSearch:
        return IndexedSearch(self.settings.index)

    def _know(self, k: int, questions: Iterable[Question] = (), told: Iterable[Rationale] = ()) -> None:
        """Let an index search for many queries at once; it keeps what it finds. In memory there is nothing to gain."""
        if self.settings.index:
            queries = {q.id: query_of(q) for q in questions} | {rationale_key(r): r.text for r in told}
            self._indexed.know(queries, k)

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """Passage texts by id."""
        return self.search.texts if self.settings.index else {p.id: p.text for p in self.data.passages}

    def questions(self, split: Split) -> list[Question]:
        if split == "seen":
            return cut(self.data.train, len(self.data.dev))
        return self.data.dev if split == "dev" else self.data.test

    # -- rationales

    @property
    def told(self) -> bool:
        """Whether there is somebody to tell rationales."""
        return tells(self.settings.teacher, self.settings.dataset)

    def rationales(self, show_gold: bool = True) -> list[Rationale]:
        """All rationales of the teacher: for train with the gold answer shown, for dev and test without it."""

        def make(folder: Path) -> None:
            teacher = teacher_of(self.settings, self.data)
            asked = self.data.train if show_gold else [*self.data.dev, *self.data.test]
            write_jsonl(
                folder / "rationales.jsonl", teacher.rationales(asked, self.settings.l if show_gold else 1, show_gold)
            )

        folder = artefact(self.root, "rationales", self.key("rationales", show_gold=show_gold), make)
        return read_jsonl(folder / "rationales.jsonl", Rationale)

    def verdicts(self) -> Filtered:
        """The filter's verdict on every training rationale, by its reader: as shipped, if by the code that is here."""

        def make(folder: Path) -> None:
            told, reader = self.rationales(), self.settings.reader
            judged = filtered_by_teacher(reader, self.data, told) if is_endpoint(reader) else self._read(told)
            write_json(folder / "verdicts.json", judged.verdicts)

        if (file := self._shipped_verdicts()) and read_header(file).code == self.folder("verdicts").name:
            found = {row.question_id: iter(row.verdicts) for row in read_set(file)[1]}
            verdicts = [next(found[r.question_id]) for r in self.rationales()]
        else:
            folder = artefact(self.root, "verdicts", self.key("verdicts"), make)
            verdicts = json.loads((folder / "verdicts.json").read_text())
        kept = [r for r, verdict in zip(self.rationales(), verdicts, strict=True) if verdict == "kept"]
        return Filtered(kept, verdicts)

    def _shipped_verdicts(self) -> Path | None:
        """The file of the verdicts that ship; None where they were made here, are to be made anew, or do not ship."""
        if self.settings.retrain or self.settings.dataset not in MINI_SETS or self.made("verdicts"):
            return None
        file = self.shipped_file("verdicts")
        return file if file.is_file() else None

    def filter_counts(self) -> Counter[str]:
        """How many training rationales have each verdict: of those made here, else as shipped, else made now."""
        if file := self._shipped_verdicts():
            return Counter({verdict: n for verdict, n in read_header(file).counts.items() if verdict != "questions"})
        return self.verdicts().counts

    def _read(self, rationales: list[Rationale]) -> Filtered:
        from .generate import Generator

        reader = Generator(self.settings.reader, self.settings.source_tokens, 16, batch=128)
        return filter_rationales(self.data.train, rationales, reader.greedy, reader.count, self.settings.source_tokens)

    def kept_rationales(self) -> list[Rationale]:
        """Training rationales after the filter, or all of them where it is off, less those that find no passage.

        Raises:
            KardError: none is left.
        """
        kept = self.verdicts().kept if self.settings.filter else self.rationales()
        if not kept:
            raise KardError(f"{self.data.name}: the filter kept no rationale; -p filter=false turns it off")
        finding = self._finding(kept)
        if not finding:
            raise KardError(f"{self.data.name}: no rationale has a word of the knowledge base, so none finds a passage")
        if len(finding) < len(kept):
            self._note(FINDLESS.format(self.settings.teacher, len(kept) - len(finding), len(kept)))
        return finding

    def _finding(self, told: Sequence[Rationale]) -> list[Rationale]:
        """Those of some rationales that can be a query: at least one of their words is in the knowledge base."""
        if self.data.mini is not None:  # its teacher has no other words
            return list(told)
        self._know(1, told=told)
        for rationale in told:
            if rationale.text not in self._finds:
                self._finds[rationale.text] = self.search.search(rationale.text, 1)[0].score > 0
        return [rationale for rationale in told if self._finds[rationale.text]]

    @cached_property
    def _finds(self) -> dict[str, bool]:
        """Whether a text finds a passage, by text, of those that were looked at."""
        return {}

    def _note(self, note: str) -> None:
        if note not in self.data.notes:
            self.data.notes.append(note)

    def test_rationale(self) -> dict[str, Rationale]:
        """The teacher's rationale of each dev and test question, by question id: for oracle rows and for hits@k.

        A teacher may have told none of a question, or none that finds a passage; then the question's own words stand
        for it, which a note tells.
        """
        told, asked = self.usable_rationale(), [*self.data.dev, *self.data.test]
        silent = {q.id: _own_words(q) for q in asked if q.id not in told}
        if silent:
            self._note(SILENT.format(self.settings.teacher, len(silent), len(asked)))
        return told | silent

    def usable_rationale(self) -> dict[str, Rationale]:
        """The same of those dev and test questions of which the teacher has told one that finds a passage."""
        return {r.question_id: r for r in self._finding(self.rationales(show_gold=False))}

    def silent(self) -> set[str]:
        """Ids of the other dev and test questions."""
        return {q.id for q in (*self.data.dev, *self.data.test)} - set(self.usable_rationale())


def _own_words(question: Question) -> Rationale:
    return Rationale(question_id=question.id, index=0, text=query_of(question), saw_gold=False)
