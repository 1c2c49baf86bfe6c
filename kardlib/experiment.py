"""The pipeline: from questions to predictions, every step an artefact that is made once.

A change remakes what depends on it and nothing else; see :mod:`kardlib.keys`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .candidates import (
    Candidates,
    question_candidates,
    rationale_candidates,
    released_pool,
    training_pool,
)
from .errors import KardError
from .keys import WIDTH, Split
from .methods import Training, method
from .pairs import Item, training_pairs
from .presets import Settings
from .prompts import Pair, query_of
from .records import Prediction, read_jsonl, write_jsonl
from .reranked import RERANKED, rank_into
from .shipped import KINDS, Ranked, first_passages, read_set
from .store import SCRATCH, artefact, artefact_folder, fingerprint, write_json
from .stored import KEY
from .tally import Tally
from .told import Told

if TYPE_CHECKING:
    from .generate import Generator
    from .reranker import Reranker


class Experiment(Told):
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
        """Top 3 of BM25(teacher's rationale) of each question: what hits@k counts as right; () where none was told."""
        silent = self.silent()
        return {i: () if i in silent else candidates.passages for i, candidates in self.silver(split).items()}

    def reranker(self, seed: int) -> Path:
        """Folder of the reranker that was trained with a seed; ``curve.json`` holds its loss."""
        return self._trained("reranker", seed=seed)

    def reranked(self, seed: int, split: Split = "test") -> dict[str, Candidates]:
        """The kappa* candidates of each question in the order of the trained reranker, by question id.

        ``WIDTH`` candidates are read once; a smaller kappa* looks its own up among them.
        """

        def load(work: Path) -> Reranker:
            from .reranker import load_reranker

            model = load_reranker(str(self.reranker(seed)), self.settings.reranker_form)
            if self.settings.reranker_vectors == "none":
                return self._once(model, work)
            from .passage_vectors import CachedLateInteraction

            kept = self.root / "passage-vectors"
            return CachedLateInteraction(model, kept, stored=self.settings.reranker_vectors)

        return self._ranked("reranked", load, seed=seed, split=split)

    def untrained(self) -> dict[str, Candidates]:
        """The same of the test questions, by the encoder as it is before Eq. 3."""

        def load(work: Path) -> Reranker:
            from .reranker import load_reranker

            return self._once(load_reranker(self.settings.encoder, self.settings.reranker_form), work)

        return self._ranked("untrained", load)

    def _once(self, model: Reranker, work: Path) -> Reranker:
        """The same reranker; where passages may be more than memory holds, it reads each once."""
        if not self.each_passage_once:
            return model
        from .each_passage_once import EachPassageOnce

        return EachPassageOnce(model, work)

    def _ranked(self, step: str, load: Callable[[Path], Reranker], **arguments: Any) -> dict[str, Candidates]:
        of = arguments.get("split", "test")

        def make(folder: Path) -> None:
            found = self.candidates(of, max(WIDTH, self.settings.kappa_star))
            queries = [query_of(q) for q in self.questions(of)]
            rank_into(folder, load(folder / SCRATCH), queries, list(found.values()), self.texts)

        folder = artefact(self.root, step, self.key(step, **arguments), make)
        read = read_jsonl(folder / RERANKED, Candidates)
        if self.settings.kappa_star >= WIDTH:
            return {c.key: c for c in read}
        few = self.candidates(of)
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
