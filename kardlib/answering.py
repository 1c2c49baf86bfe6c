"""Answering questions with a folder that ``kard export`` has written; of the experiment nothing else is needed.

Passages, prompt, decoding and reading of the answer are those of :mod:`kardlib.predict`, one question at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from .candidates import Candidates, question_candidates
from .checkpoint_manifest import INDEX_PATH, RERANKER, STUDENT, CheckpointManifest, read_manifest
from .errors import KardError
from .generate import Generator
from .index import Index
from .index_folder import INDEX, PASSAGES
from .index_key import index_key
from .indexed_search import Texts
from .knowledge_base import KnowledgeBase
from .predict import begin_of
from .prompts import CUES, build_prompt, parse_answer, query_of, split_generation
from .records import Question, Record, parse_record
from .safe_folder import only_data

if TYPE_CHECKING:
    from .reranker import Reranker  # sentence-transformers takes seconds to import, and not every method has one

NO_OPTIONS = "no options: the answer is what the text says; the student has learned from questions with options"
FEW = 200_000
"""Passages that are searched without numba: for one question, loading it takes longer."""


class OpenQuestion(Question):
    """A question without options."""

    options: tuple[str, ...] = Field(default=(), max_length=0)


class Found(Record):
    """A passage that the student read.

    Attributes:
        score: of what ranked it: f_phi where there is a reranker, else BM25 for the question.
        bm25: of BM25 for the question.
    """

    id: str
    text: str
    score: float
    bm25: float


class Answer(Record):
    """One answer and what it rests on.

    Attributes:
        prompt: what the student read, to the letter.
        written: what it wrote; ``rationale`` is what stands before the answer mark, ``answer`` what stands behind it.
        parsed: index of the option that the text names; None where it names none, or where there are no options.
        chosen: index of the option that counts: ``parsed``, or the likeliest one where options are scored.
        scores: mean log-likelihood of each option after the student's own rationale, in nats per token.
        notes: what to keep in mind.
    """

    question: str
    options: tuple[str, ...]
    method: str
    passages: tuple[Found, ...]
    prompt: str
    written: str
    rationale: str
    answer: str
    parsed: int | None
    chosen: int | None
    scores: tuple[float, ...]
    notes: tuple[str, ...]


class Answerer:
    """An exported student with its reranker and passages.

    Args:
        folder: that :func:`kardlib.checkpoint_out.export` has written.
        index: where the index is, if it stayed outside the folder and has been moved since.

    Raises:
        KardError: the folder is not whole, or something lies in it that loading would run.
    """

    def __init__(self, folder: Path | str, index: Path | str = "") -> None:
        self.folder = Path(folder)
        self.manifest: CheckpointManifest = read_manifest(self.folder)
        self._index_folder = Path(index) if index else None
        only_data(self.folder / STUDENT)
        if self.manifest.row.test_query == "reranker":
            only_data(self.folder / RERANKER)

    def ask(self, text: str, options: Sequence[str] = (), k: int = 0) -> Answer:
        """Answer one question.

        Args:
            text: the question, without options.
            options: two to ten; by default those that every question of the task has, if it is such a task.
            k: passages that the student reads; by default as many as it was trained with.

        Raises:
            KardError: the question is empty or has one option only, none of its words is in the knowledge base, or k is
                too large.
        """
        m, question = self.manifest, self.question(text, options)
        found = self.passages(question, k)
        prompt = self.prompt(question, found)
        written = self._student.greedy([prompt])[0]
        rationale, answer = split_generation(written)
        parsed = parse_answer(written, question.options) if question.options else None
        scores = self._scores(question, prompt, written)
        chosen = scores.index(max(scores)) if scores and m.answers == "scored" else parsed
        return Answer(
            question=question.stem, options=question.options, method=m.method, passages=found, prompt=prompt,
            written=written, rationale=rationale, answer=answer, parsed=parsed, chosen=chosen, scores=scores,
            notes=self._notes(question, k),
        )  # fmt: skip

    def question(self, text: str, options: Sequence[str] = ()) -> Question:
        """The question as the student is asked it."""
        options = tuple(options) or self.manifest.options
        kind = Question if options else OpenQuestion
        return parse_record({"id": "asked", "stem": text.strip(), "options": options}, kind, "the question")

    def passages(self, question: Question, k: int = 0) -> tuple[Found, ...]:
        """The first k of the question's candidates, in the order that the method has for them."""
        query = self.manifest.row.test_query
        if query == "none":
            return ()
        k = self._checked(k)
        bm25 = question_candidates(self._search, question, self.manifest.kappa_star if query == "reranker" else k)
        if max(bm25.scores) <= 0:
            raise KardError("the question: none of its words is in the knowledge base, so that it finds no passages")
        ranked = self._reranked(question, bm25) if query == "reranker" else bm25
        known = dict(zip(bm25.passages, bm25.scores, strict=True))
        return tuple(
            Found(id=i, text=self._texts[i], score=score, bm25=known[i])
            for i, score in list(zip(ranked.passages, ranked.scores, strict=True))[:k]
        )

    def prompt(self, question: Question, found: Sequence[Found]) -> str:
        """The text that the student reads, from the builder that laid out its training examples."""
        m = self.manifest
        text = build_prompt(
            question, [passage.text for passage in found], m.row.cue, count=self._student.count,
            max_tokens=m.source_tokens,
        )  # fmt: skip
        cue = f"\n{CUES[m.row.cue]}"
        return text if question.options else text.removesuffix(f"\nOptions: {cue}") + cue

    def _reranked(self, question: Question, found: Candidates) -> Candidates:
        return self._reranker.rank([query_of(question)], [found], {i: self._texts[i] for i in found.passages})[0]

    def _scores(self, question: Question, prompt: str, written: str) -> tuple[float, ...]:
        if not question.options:
            return ()
        begin = begin_of(written, self.manifest.row)
        return tuple(self._student.option_scores([prompt], [begin], [question.options])[0])

    def _checked(self, k: int) -> int:
        m = self.manifest
        if k < 0 or (m.kappa_star and k > m.kappa_star):
            most = f", {m.kappa_star} at most" if m.kappa_star else ""
            raise KardError(f"{k} passages: 1 or more were expected{most}")
        return k or m.k

    def _notes(self, question: Question, k: int) -> tuple[str, ...]:
        m, notes = self.manifest, []
        if not question.options:
            notes.append(NO_OPTIONS)
        elif m.options and question.options != m.options:
            notes.append(f"the student has learned from questions with the options {' and '.join(m.options)}")
        if k and m.row.test_query == "none":
            notes.append(f"{m.method} reads no passages")
        elif k and k != m.k:
            notes.append(f"the student has learned to read {m.k} passages, not {k}")
        return (*notes, *m.notes)

    @cached_property
    def _student(self) -> Generator:
        m = self.manifest
        return Generator(str(self.folder / STUDENT), m.source_tokens, m.target_tokens, batch=1)

    @cached_property
    def _reranker(self) -> Reranker:
        from .reranker import load_reranker

        return load_reranker(str(self.folder / RERANKER), self.manifest.reranker_form or "late-interaction")

    @cached_property
    def _texts(self) -> Texts:
        return Texts(self._search.passages)

    @cached_property
    def _search(self) -> Index:
        m = self.manifest
        place = self.folder if not m.index else self._index_folder or self._pointed()
        base = KnowledgeBase.open(place / PASSAGES)
        index = Index.open(place / INDEX, base, backend="numpy" if len(base) <= FEW else "auto")
        if m.index and index_key(index.manifest) != m.index_key:
            raise KardError(f"{place}: this is not the index {m.index} that the student was trained over")
        return index

    def _pointed(self) -> Path:
        try:
            return Path((self.folder / INDEX_PATH).read_text(encoding="utf-8").strip())
        except OSError:
            raise KardError(
                f"{self.folder}: it has no {INDEX_PATH}; --index FOLDER names the index {self.manifest.index}"
            ) from None
