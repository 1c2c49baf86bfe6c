"""The pipeline: from questions to predictions, every step an artefact that is made once.

Each step's key holds what its result depends on: the settings it reads, the hash of the code that it runs, and the keys
of the steps before it. A change remakes what depends on it and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from .bm25 import BM25
from .candidates import Candidates, question_candidates, rationale_candidates, training_pool
from .dataset import DataSet
from .errors import KardError
from .filter import Filtered, filter_rationales
from .methods import TRAININGS, Method, Training, method
from .pairs import Item, training_pairs
from .presets import SPLIT_SIZES, Settings, runs_root
from .prompts import Pair, query_of
from .readers import read_dataset
from .records import Prediction, Question, Rationale, read_jsonl, write_jsonl
from .runs import input_hashes, model_folder
from .sources import code
from .store import SCRATCH, artefact, artefact_folder, atomic_write, fingerprint, hash_file
from .teacher import make_teacher

Split = Literal["dev", "test"]
_CODE: dict[str, tuple[str, ...]] = {
    "rationales": ("teacher", "readers"),
    "verdicts": ("filter", "generate"),
    "pools": ("candidates",),
    "reranker": ("reranker",),
    "reranked": ("reranker", "candidates"),
    "student": ("student", "pairs"),
    "predictions": ("predict", "candidates"),
}
"""The modules that each step's result depends on; with each comes all that it imports."""
_DATA = ("dataset", "size", "sizes", "world", "inventory")
_RERANKER = (
    "encoder", "reranker_form", "tau1", "tau2", "pool", "reranker_lr", "reranker_epochs", "reranker_batch",
)  # fmt: skip
_STUDENT = ("student", "student_lr", "student_epochs", "student_batch", "source_tokens", "target_tokens")


def step_code(step: str) -> str | None:
    """Hash of the code that a step runs now; None for a step that is not known."""
    return code(_CODE[step]) if step in _CODE else None


class Experiment:
    """One data set under one choice of settings; its methods make artefacts or load them.

    Args:
        settings: resolved; see :func:`kardlib.presets.resolve`.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.root = runs_root() / "artefacts"

    @cached_property
    def data(self) -> DataSet:
        data = read_dataset(self.settings)
        if self.settings.k > len(data.passages):
            raise KardError(f"k = {self.settings.k}: the knowledge base has {len(data.passages)} passages only")
        return data

    @cached_property
    def search(self) -> BM25:
        return BM25(self.data.passages)

    @cached_property
    def texts(self) -> dict[str, str]:
        """Passage texts by id."""
        return {passage.id: passage.text for passage in self.data.passages}

    def questions(self, split: Split) -> list[Question]:
        return self.data.dev if split == "dev" else self.data.test

    # -- keys

    @cached_property
    def _inputs(self) -> dict[str, str]:
        hashes = input_hashes(self.settings)
        return {name: value for name, value in hashes.items() if name.startswith("data ")}

    def _key(self, step: str, fields: Iterable[str] = (), **extra: Any) -> dict[str, Any]:
        values = self.settings.model_dump(mode="json") | {"sizes": SPLIT_SIZES[self.settings.size]}
        key = {"step": step, "code": code(_CODE[step]), **extra}
        key |= {name: values[name] for name in fields}
        for name in ("student", "encoder"):
            folder = model_folder(key[name]) if name in key else None
            if folder is not None:
                key[name] = [Path(key[name]).name, hash_file(folder)]
        return key

    def key(self, step: str, **arguments: Any) -> dict[str, Any]:
        """What the artefact of a step depends on, as a JSON-like dictionary."""
        return getattr(self, f"_key_{step}")(**arguments)

    def has(self, step: str, **arguments: Any) -> bool:
        """Whether the artefact of a step is finished."""
        folder = artefact_folder(self.root, step, self.key(step, **arguments))
        return (folder / "key.json").exists()

    def folder(self, step: str, **arguments: Any) -> Path:
        """Where the artefact of a step is, or would be."""
        return artefact_folder(self.root, step, self.key(step, **arguments))

    def _key_rationales(self, show_gold: bool = True) -> dict[str, Any]:
        fields = (*_DATA, "teacher", *(("l",) if show_gold else ()))
        return self._key("rationales", fields, inputs=self._inputs, show_gold=show_gold)

    def _key_verdicts(self) -> dict[str, Any]:
        return self._key("verdicts", ("student", "source_tokens"), after=fingerprint(self.key("rationales")))

    def _kept(self) -> str:
        step = "verdicts" if self.settings.filter else "rationales"
        return f"{self.settings.filter} {fingerprint(self.key(step))}"

    def _key_pools(self) -> dict[str, Any]:
        return self._key("pools", ("kappa1", "kappa2"), after=self._kept())

    def _key_reranker(self, seed: int) -> dict[str, Any]:
        return self._key("reranker", _RERANKER, seed=seed, after=fingerprint(self.key("pools")))

    def _key_reranked(self, seed: int, split: Split = "test") -> dict[str, Any]:
        extra = {"seed": seed, "split": split, "after": fingerprint(self.key("reranker", seed=seed))}
        return self._key("reranked", ("kappa_star",), **extra)

    def _key_student(self, training: str, seed: int) -> dict[str, Any]:
        reads = ("k",) if TRAININGS[training].query != "none" else ()
        return self._key("student", (*_STUDENT, *reads), training=training, seed=seed, after=self._kept())

    def _key_predictions(self, name: str, seed: int, decoding: str = "greedy", split: Split = "test") -> dict[str, Any]:
        row = method(name)
        fields: tuple[str, ...] = ("source_tokens", "target_tokens", *(("k",) if row.test_query != "none" else ()))
        fields += ("answers",) if decoding == "greedy" else ()
        extra = {"method": name, "seed": seed, "decoding": decoding, "split": split}
        if row.training is None:
            fields += ("student",)
            extra |= {"after": self.key("rationales")}
        else:
            extra |= {"after": fingerprint(self.key("student", training=training_name(row), seed=seed))}
        if row.test_query == "reranker":
            extra |= {"ranked": fingerprint(self.key("reranked", seed=seed, split=split))}
        if row.oracle:
            extra |= {"oracle": fingerprint(self.key("rationales", show_gold=False))}
        return self._key("predictions", fields, **extra)

    # -- rationales

    def rationales(self, show_gold: bool = True) -> list[Rationale]:
        """All rationales of the teacher: for train with the gold answer shown, for dev and test without it."""

        def make(folder: Path) -> None:
            teacher = make_teacher(self.settings.teacher, self.data)
            asked = self.data.train if show_gold else [*self.data.dev, *self.data.test]
            write_jsonl(
                folder / "rationales.jsonl", teacher.rationales(asked, self.settings.l if show_gold else 1, show_gold)
            )

        folder = artefact(self.root, "rationales", self.key("rationales", show_gold=show_gold), make)
        return read_jsonl(folder / "rationales.jsonl", Rationale)

    def verdicts(self) -> Filtered:
        """The filter's verdict on every training rationale, its reader being the base student."""

        def make(folder: Path) -> None:
            from .generate import Generator

            reader = Generator(self.settings.student, self.settings.source_tokens, 16, batch=128)
            asked = self.data.train, self.rationales()
            filtered = filter_rationales(*asked, reader.greedy, reader.count, self.settings.source_tokens)
            with atomic_write(folder / "verdicts.json") as file:
                json.dump(filtered.verdicts, file)

        folder = artefact(self.root, "verdicts", self.key("verdicts"), make)
        verdicts = json.loads((folder / "verdicts.json").read_text())
        kept = [r for r, verdict in zip(self.rationales(), verdicts, strict=True) if verdict == "kept"]
        return Filtered(kept, verdicts)

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
            pools = (training_pool(self.search, by_id[r.question_id], r, *kappas) for r in kept)
            write_jsonl(folder / "pools.jsonl", (self._found("rationale", pool) for pool in pools))

        return read_jsonl(artefact(self.root, "pools", self.key("pools"), make) / "pools.jsonl", Candidates)

    def candidates(self, split: Split = "test") -> dict[str, Candidates]:
        """BM25(question)'s kappa* candidates of each question, by question id.

        Raises:
            KardError: not one word of a question is in the knowledge base.
        """
        found = (question_candidates(self.search, q, self.settings.kappa_star) for q in self.questions(split))
        return {candidates.key: self._found("question", candidates) for candidates in found}

    def _found(self, query: str, candidates: Candidates) -> Candidates:
        if max(candidates.scores) <= 0:
            raise KardError(f"{self.data.name}: {query} {candidates.key}: none of its words is in the knowledge base")
        return candidates

    def truth(self, split: Split = "test") -> dict[str, tuple[str, ...]]:
        """Top 3 of BM25(teacher's rationale) of each question: what hits@k counts as right."""
        told = self.test_rationale()
        found = {q.id: rationale_candidates(self.search, told[q.id], 3) for q in self.questions(split)}
        return {i: self._found("rationale", candidates).passages for i, candidates in found.items()}

    def reranker(self, seed: int) -> Path:
        """Folder of the reranker that was trained with a seed; ``curve.json`` holds its loss."""

        def make(folder: Path) -> None:
            from .reranker import train_reranker, training_rows

            queries = {q.id: query_of(q) for q in self.data.train}
            rows = training_rows(self.pools(), queries, self.texts, self.settings, seed)
            curve = train_reranker(rows, self.settings, seed, folder / "model", folder / SCRATCH)
            _write_curve(folder, curve)

        return artefact(self.root, "reranker", self.key("reranker", seed=seed), make) / "model"

    def reranked(self, seed: int, split: Split = "test") -> dict[str, Candidates]:
        """The kappa* candidates of each question in the order of the trained reranker, by question id."""

        def make(folder: Path) -> None:
            from .reranker import load_reranker

            found = self.candidates(split)
            model = load_reranker(str(self.reranker(seed)), self.settings.reranker_form)
            queries = [query_of(q) for q in self.questions(split)]
            write_jsonl(folder / "reranked.jsonl", model.rank(queries, list(found.values()), self.texts))

        folder = artefact(self.root, "reranked", self.key("reranked", seed=seed, split=split), make)
        return {c.key: c for c in read_jsonl(folder / "reranked.jsonl", Candidates)}

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
        return training_pairs(training, items, self.search, s.k, count, s.source_tokens, s.target_tokens)

    def student(self, training: str, seed: int) -> Path:
        """Folder of a trained student, a model that plain ``transformers`` loads."""

        def make(folder: Path) -> None:
            from .models import load_tokenizer
            from .student import Hyperparameters, train_student

            s = self.settings
            tokenizer = load_tokenizer(s.student)
            pairs = self.training_pairs(TRAININGS[training], lambda text: len(tokenizer.tokenize(text)))
            hyper = Hyperparameters(s.student_lr, s.student_epochs, s.student_batch, s.source_tokens, s.target_tokens)
            curve = train_student(s.student, pairs, hyper, seed, folder / "model", folder / SCRATCH)
            _write_curve(folder, curve)

        return artefact(self.root, "student", self.key("student", training=training, seed=seed), make) / "model"

    def predictions(self, name: str, seed: int, decoding: str = "greedy", split: Split = "test") -> list[Prediction]:
        """Answers of one method and seed to all questions of a split, with rationale and passages."""

        def make(folder: Path) -> None:
            from .predict import predict

            write_jsonl(folder / "predictions.jsonl", predict(self, method(name), seed, decoding, split))

        arguments = {"name": name, "seed": seed, "decoding": decoding, "split": split}
        folder = artefact(self.root, "predictions", self.key("predictions", **arguments), make)
        return read_jsonl(folder / "predictions.jsonl", Prediction)

    def curve(self, step: str, **arguments: Any) -> list[dict[str, float]]:
        """Loss curve of a trained reranker or student."""
        getattr(self, step)(**arguments)
        return json.loads((self.folder(step, **arguments) / "curve.json").read_text())


def training_name(row: Method) -> str:
    """Name of the training that a method's student has gone through."""
    return next(name for name, training in TRAININGS.items() if training == row.training)


def _write_curve(folder: Path, curve: Sequence[dict[str, float]]) -> None:
    with atomic_write(folder / "curve.json") as file:
        json.dump(list(curve), file)
