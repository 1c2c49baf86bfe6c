"""The pipeline: from questions to predictions, every step an artefact that is made once.

A change remakes what depends on it and nothing else; see :mod:`kardlib.keys`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .bm25 import BM25, Searcher
from .candidates import (
    Candidates,
    question_candidates,
    rationale_candidates,
    rationale_key,
    released_pool,
    training_pool,
)
from .dataset import DataSet
from .endpoint_teacher import filtered_by_teacher, is_endpoint, teacher_of
from .errors import KardError
from .experiment_data import data_of
from .filter import Filtered, filter_rationales
from .indexed_search import IndexedSearch
from .keys import WIDTH, Keys, Split
from .methods import Training, method
from .pairs import Item, training_pairs
from .presets import Settings
from .prompts import Pair, query_of
from .records import Prediction, Question, Rationale, read_jsonl, write_jsonl
from .shipped import KINDS, Ranked, first_passages, read_set
from .splits import cut
from .store import artefact, artefact_folder, fingerprint, write_json
from .stored import KEY
from .tally import Tally
from .teacher_entries import tells

if TYPE_CHECKING:
    from .generate import Generator


class Experiment(Keys):
    """One data set under one choice of settings; its methods make artefacts or load them.

    Args:
        settings: resolved; see :func:`kardlib.presets.resolve`.
        tally: counts which outputs were loaded and which were made; a new one unless several experiments share one.
    """

    def __init__(self, settings: Settings, tally: Tally | None = None) -> None:
        super().__init__(settings)
        self.tally = Tally() if tally is None else tally

    def with_settings(self, **changes: Any) -> Experiment:
        """The same experiment with other settings."""
        return Experiment(type(self.settings)(**self.settings.model_dump() | changes), self.tally)

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
        """The filter's verdict on every training rationale, by its reader."""

        def make(folder: Path) -> None:
            told, reader = self.rationales(), self.settings.reader
            judged = filtered_by_teacher(reader, self.data, told) if is_endpoint(reader) else self._read(told)
            write_json(folder / "verdicts.json", judged.verdicts)

        folder = artefact(self.root, "verdicts", self.key("verdicts"), make)
        verdicts = json.loads((folder / "verdicts.json").read_text())
        kept = [r for r, verdict in zip(self.rationales(), verdicts, strict=True) if verdict == "kept"]
        return Filtered(kept, verdicts)

    def _read(self, rationales: list[Rationale]) -> Filtered:
        from .generate import Generator

        reader = Generator(self.settings.reader, self.settings.source_tokens, 16, batch=128)
        return filter_rationales(self.data.train, rationales, reader.greedy, reader.count, self.settings.source_tokens)

    def kept_rationales(self) -> list[Rationale]:
        """Training rationales after the filter, or all of them where it is off."""
        kept = self.verdicts().kept if self.settings.filter else self.rationales()
        if not kept:
            raise KardError(f"{self.data.name}: the filter kept no rationale; -p filter=false turns it off")
        return kept

    def test_rationale(self) -> dict[str, Rationale]:
        """The teacher's rationale of each dev and test question, by question id: for oracle rows and for hits@k."""
        return {r.question_id: r for r in self.rationales(show_gold=False)}

    # -- retrieval

    def pools(self) -> list[Candidates]:
        """The reranker's training pools, one for each kept rationale."""

        def make(folder: Path) -> None:
            by_id = {q.id: q for q in self.data.train}
            kappas = self.settings.kappa1, self.settings.kappa2
            kept = self.kept_rationales()
            self._know(max(kappas), self.data.train, kept)
            unite = released_pool if self.settings.pool_as_released else training_pool
            pools = (unite(self.search, by_id[r.question_id], r, *kappas) for r in kept)
            write_jsonl(folder / "pools.jsonl", (self._found("rationale", pool) for pool in pools))

        return read_jsonl(artefact(self.root, "pools", self.key("pools"), make) / "pools.jsonl", Candidates)

    def candidates(self, split: Split = "test", width: int = 0) -> dict[str, Candidates]:
        """BM25(question)'s candidates of each question, by question id: ``width`` of them, kappa* by default.

        Raises:
            KardError: not one word of a question is in the knowledge base.
        """
        width = width or self.settings.kappa_star
        self._know(width, self.questions(split))
        found = (question_candidates(self.search, q, width) for q in self.questions(split))
        return {candidates.key: self._found("question", candidates) for candidates in found}

    def _found(self, query: str, candidates: Candidates) -> Candidates:
        if max(candidates.scores) <= 0:
            raise KardError(f"{self.data.name}: {query} {candidates.key}: none of its words is in the knowledge base")
        return candidates

    def silver(self, split: Split = "test", width: int = 3) -> dict[str, Candidates]:
        """Top of BM25(teacher's rationale) of each question, by question id: for oracle rows and for hits@k."""
        told = self.test_rationale()
        self._know(width, told=told.values())
        found = {q.id: rationale_candidates(self.search, told[q.id], width) for q in self.questions(split)}
        return {i: self._found("rationale", candidates) for i, candidates in found.items()}

    def truth(self, split: Split = "test") -> dict[str, tuple[str, ...]]:
        """Top 3 of BM25(teacher's rationale) of each question: what hits@k counts as right."""
        return {i: candidates.passages for i, candidates in self.silver(split).items()}

    def reranker(self, seed: int) -> Path:
        """Folder of the reranker that was trained with a seed; ``curve.json`` holds its loss."""
        return self._trained("reranker", seed=seed)

    def reranked(self, seed: int, split: Split = "test") -> dict[str, Candidates]:
        """The kappa* candidates of each question in the order of the trained reranker, by question id.

        ``WIDTH`` candidates are read once; a smaller kappa* looks its own up among them.
        """

        def make(folder: Path) -> None:
            from .reranker import load_reranker

            found = self.candidates(split, max(WIDTH, self.settings.kappa_star))
            model = load_reranker(str(self.reranker(seed)), self.settings.reranker_form)
            if self.settings.reranker_vectors != "none":
                from .passage_vectors import CachedLateInteraction

                kept = self.root / "passage-vectors"
                model = CachedLateInteraction(model, kept, stored=self.settings.reranker_vectors)
            queries = [query_of(q) for q in self.questions(split)]
            write_jsonl(folder / "reranked.jsonl", model.rank(queries, list(found.values()), self.texts))

        folder = artefact(self.root, "reranked", self.key("reranked", seed=seed, split=split), make)
        read = read_jsonl(folder / "reranked.jsonl", Candidates)
        if self.settings.kappa_star >= WIDTH:
            return {c.key: c for c in read}
        few = self.candidates(split)
        return {c.key: c.among(few[c.key].passages) for c in read}

    def rankings(self, seed: int, split: Split = "test") -> list[Ranked]:
        """The first passages of BM25 and of a trained reranker for each question, beside the truth of hits@k."""

        def make(folder: Path) -> None:
            found = self.candidates(split), self.reranked(seed, split), self.truth(split)
            write_jsonl(folder / "rankings.jsonl", first_passages(*found))

        return self._outputs("rankings", make, seed=seed, split=split)

    def _outputs(self, step: str, make: Callable[[Path], None], **arguments: Any) -> list[Any]:
        """Outputs that were made here, else those that ship with the kit, else made now."""
        key = self.key(step, **arguments)
        made = (artefact_folder(self.root, step, key) / KEY).exists()
        if not made and (file := self.shipped(step, **arguments)) is not None:
            header, rows = read_set(file)
            self.tally.load(self.settings, file, header, fingerprint(key))
            return rows
        folder = artefact(self.root, step, key, make)
        self.tally.make(self.settings, folder, key)
        kind, name = KINDS[step]
        return read_jsonl(folder / name, kind)

    # -- students

    def training_pairs(self, training: Training, count: Callable[[str], int] | None = None) -> list[Pair]:
        """Prompts and targets: one for each kept rationale, or each question ``l`` times where the target is the
        answer alone, so that all students take about the same number of steps.

        Args:
            count: tokens of a text, for cutting passages and rationales; None leaves them whole.
        """
        s, by_id = self.settings, {q.id: q for q in self.data.train}
        if training.target == "answer":
            items: list[Item] = [(q, None) for q in self.data.train] * s.l
        else:
            items = [(by_id[r.question_id], r) for r in self.kept_rationales()]
        return self.pairs_of(training, items, count)

    def pairs_of(self, training: Training, items: list[Item], count: Callable[[str], int] | None = None) -> list[Pair]:
        """Prompts and targets of some questions with their rationales; see :meth:`training_pairs`."""
        s = self.settings
        self._know(
            s.k,
            [q for q, _ in items] if training.query == "question" else (),
            [r for _, r in items if r is not None] if training.query == "rationale" else (),
        )
        layout = "as released" if s.prompt_as_released and training.target == "rationale" else "one for all"
        return training_pairs(training, items, self.search, s.k, count, s.source_tokens, s.target_tokens, layout)

    def adapted(self, seed: int) -> Path:
        """Folder of the base student after further training on text (DAPT)."""
        return self._trained("adapted", seed=seed)

    def student(self, training: str, seed: int) -> Path:
        """Folder of a trained student, a model that plain ``transformers`` loads."""
        return self._trained("student", training=training, seed=seed)

    def retriever(self, seed: int) -> Path:
        """Folder of RAG's two encoders before joint training, a DPR that has been trained once."""
        return self._trained("retriever", seed=seed)

    def rag(self, seed: int) -> Path:
        """Folder of a generator and a retriever that were trained together on rationales (Table 7)."""
        return self._trained("rag", seed=seed)

    def _trained(self, step: str, **arguments: Any) -> Path:
        from .training_steps import TRAINED

        make = TRAINED[step]
        return artefact(self.root, step, self.key(step, **arguments), lambda f: make(self, f, **arguments)) / "model"

    def generator(self, folder: str | Path) -> Generator:
        """A student ready to write, by the engine that the settings name."""
        from .engines import generator_of

        s = self.settings
        return generator_of(s.engine, str(folder), s.source_tokens, s.target_tokens, self.root)

    def predictions(self, name: str, seed: int, decoding: str = "greedy", split: Split = "test") -> list[Prediction]:
        """Answers of one method and seed to all questions of a split, with rationale and passages."""

        def make(folder: Path) -> None:
            if method(name).test_query == "dense":
                from .rag_predict import rag_predictions

                write_jsonl(folder / "predictions.jsonl", rag_predictions(self, method(name), seed, decoding, split))
                return
            from .predict import predict

            predictions, shots = predict(self, method(name), seed, decoding, split)
            write_jsonl(folder / "predictions.jsonl", predictions)
            write_json(folder / "shots.json", shots)

        return self._outputs("predictions", make, name=name, seed=seed, decoding=decoding, split=split)

    def shots(self, name: str, seed: int, **arguments: Any) -> list[int]:
        """How many worked examples the prompt of each question had room for, in the order of the predictions."""
        self.predictions(name, seed, **arguments)
        if not self.made("predictions", name=name, seed=seed, **arguments):
            header, _ = read_set(self.shipped_file("predictions", name=name, seed=seed, **arguments))
            return list(header.shots or ())
        return json.loads((self.folder("predictions", name=name, seed=seed, **arguments) / "shots.json").read_text())

    def controls(self, control: str, seed: int, name: str) -> list[Prediction]:
        """Answers of a method's student to input that was changed, see :mod:`kardlib.controls`."""
        from .controls import write_answers

        def make(folder: Path) -> None:
            write_answers(self, control, seed, name, folder)

        return self._outputs("controls", make, control=control, seed=seed, name=name)

    def curve(self, step: str, of: Literal["curve", "held"] = "curve", **arguments: Any) -> list[dict[str, float]]:
        """Loss curve of a trained reranker or student; ``held``: what the questions held out of a reranker gave."""
        getattr(self, step)(**arguments)
        return json.loads((self.folder(step, **arguments) / f"{of}.json").read_text())
