"""Keys: what each step's artefact depends on.

The settings that the step reads, the hash of the code that it runs, and the keys of the steps before it. Outputs that
ship with the kit are found by the same keys without the code (:mod:`kardlib.shipped`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from .endpoint_teacher import is_endpoint, replies_digest, samples_digest
from .methods import TRAININGS, method, training_name
from .presets import MINI_SETS, SPLIT_SIZES, Settings, runs_root
from .runs import data_hashes, index_hash, model_folder
from .shipped import data_hash, set_file, ships
from .sources import code
from .store import artefact_folder, fingerprint, hash_file

Split = Literal["dev", "test", "seen"]
"""``seen``: as many training questions as dev has, to measure what a question that was trained on is worth."""
_CODE: dict[str, tuple[str, ...]] = {
    "rationales": ("teacher", "readers"),
    "verdicts": ("filter", "generate"),
    "pools": ("candidates",),
    "reranker": ("reranker_training",),
    "reranked": ("reranker", "reranked", "candidates"),
    "untrained": ("reranker", "reranked", "candidates"),
    "adapted": ("dapt",),
    "student": ("student", "pairs"),
    "retriever": ("dense_retriever",),
    "rag": ("rag",),
    "predictions": ("predict", "candidates"),
    "rankings": ("candidates",),
    "controls": ("controls",),
}
"""The modules that each step's result depends on; with each comes all that it imports."""
WIDTH = 100
"""Candidates of a test question that a reranker reads at least: the paper's largest kappa*."""
_DATA = ("dataset", "size", "sizes", "share", "world", "inventory")
_RERANKER = (
    "encoder", "reranker_form", "tau1", "tau2", "pool", "reranker_lr", "reranker_epochs", "reranker_batch",
)  # fmt: skip
_ADAPTED = ("student", "dapt", "dapt_lr", "dapt_epochs", "student_batch", "source_tokens")
_RETRIEVER = ("encoder", "retriever_warmup_lr", "retriever_warmup_epochs", "retriever_warmup_batch")
_STUDENT = ("student", "student_lr", "student_epochs", "student_batch", "source_tokens", "target_tokens")


_UNSEARCHED = ("rationales", "verdicts")
"""Steps that search for nothing: another index leaves them as they are."""


def model_hash(folder: Path) -> str:
    """Hash of a model's files; they are read again only where one of them has been touched."""
    files = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return _model_hash(folder, tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in files))


@lru_cache(maxsize=64)
def _model_hash(folder: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    return hash_file(folder)


@lru_cache(maxsize=16)
def _plain(settings: Settings) -> dict[str, Any]:
    """Their values as JSON has them; not to be changed."""
    return settings.model_dump(mode="json")


def step_code(step: str) -> str | None:
    """Hash of the code that a step runs now; None for a step that is not known."""
    return code(_CODE[step]) if step in _CODE else None


class Keys:
    """The keys of one data set under one choice of settings.

    Args:
        settings: resolved; see :func:`kardlib.presets.resolve`.
        coded: whether hashes of the code are part of the keys. Without them the content of a generated data set takes
            the place of the code that generates it.
    """

    def __init__(self, settings: Settings, coded: bool = True) -> None:
        self.settings = settings
        self.coded = coded
        self.root = runs_root() / "artefacts"

    @cached_property
    def _inputs(self) -> dict[str, str]:
        return data_hashes(self.settings) if self.coded else {"content": data_hash(self.settings)}

    def _key(self, step: str, fields: Iterable[str] = (), **extra: Any) -> dict[str, Any]:
        values = {**_plain(self.settings), "sizes": SPLIT_SIZES[self.settings.size]}
        key = {"step": step, **({"code": code(_CODE[step])} if self.coded else {}), **extra}
        key |= {name: values[name] for name in fields}
        if self.settings.index and step not in _UNSEARCHED:
            key["index"] = index_hash(self.settings.index)
        for name in ("student", "encoder", "reader"):
            folder = model_folder(key[name]) if name in key else None
            if folder is not None:
                key[name] = [Path(key[name]).name, model_hash(folder)]
        return key

    def key(self, step: str, **arguments: Any) -> dict[str, Any]:
        """What the artefact of a step depends on, as a JSON-like dictionary."""
        return getattr(self, f"_key_{step}")(**arguments)

    def made(self, step: str, **arguments: Any) -> bool:
        """Whether the artefact of a step has been made here."""
        return (self.folder(step, **arguments) / "key.json").exists()

    def shipped(self, step: str, **arguments: Any) -> Path | None:
        """File of a step's shipped outputs.

        None where there are none, where ``retrain`` asks for new ones, and where every model that they come from was
        trained here: another processor trains otherwise, and one model's answers are compared with each other.
        """
        if self.settings.retrain or not ships(step, self.settings):
            return None
        file = self.shipped_file(step, **arguments)
        return file if file.is_file() and not self._models_here(step, arguments) else None

    def _models_here(self, step: str, arguments: dict[str, Any]) -> bool:
        from .steps import models_behind

        models = models_behind(step, arguments, self.settings)
        return bool(models) and all(self.made(job.step, **job.arguments) for job in models)

    def shipped_file(self, step: str, **arguments: Any) -> Path:
        """Where the shipped outputs of a step are, or would be."""
        return set_file(self.settings, Keys(self.settings, coded=False).key(step, **arguments))

    def has(self, step: str, **arguments: Any) -> bool:
        """Whether what a step makes is there: as an artefact, or as outputs that ship with the kit."""
        return self.made(step, **arguments) or self.shipped(step, **arguments) is not None

    def folder(self, step: str, **arguments: Any) -> Path:
        """Where the artefact of a step is, or would be."""
        return artefact_folder(self.root, step, self.key(step, **arguments))

    def _key_rationales(self, show_gold: bool = True) -> dict[str, Any]:
        fields = (*_DATA, "teacher", *(("l",) if show_gold else ()))
        extra = {"samples": samples_digest(self.settings, show_gold)} if is_endpoint(self.settings.teacher) else {}
        return self._key("rationales", fields, inputs=self._inputs, show_gold=show_gold, **extra)

    def _key_verdicts(self) -> dict[str, Any]:
        extra = {"replies": replies_digest(self.settings.reader)} if is_endpoint(self.settings.reader) else {}
        return self._key("verdicts", ("reader", "source_tokens"), after=fingerprint(self.key("rationales")), **extra)

    def _kept(self) -> str:
        step = "verdicts" if self.settings.filter else "rationales"
        return f"{self.settings.filter} {fingerprint(self.key(step))}"

    def _departures(self, *switches: str) -> dict[str, Any]:
        """Those switches that are not as in the paper; what is as in the paper has a key without them."""
        usual = {name: Settings.model_fields[name].default for name in switches}
        return {name: getattr(self.settings, name) for name in switches if getattr(self.settings, name) != usual[name]}

    def _key_pools(self) -> dict[str, Any]:
        return self._key("pools", ("kappa1", "kappa2"), after=self._kept(), **self._departures("pool_as_released"))

    def _key_reranker(self, seed: int) -> dict[str, Any]:
        extra = self._departures("reranker_loss", "reranker_frozen_passages", "lora", "reranker_curves")
        changed = self.settings.changed()
        extra |= {name: changed[name] for name in ("reranker_part", "reranker_chunk") if name in changed}
        extra |= {"quick": code(("quick_training",))} if self.coded and self.quick_reranker else {}
        return self._key("reranker", _RERANKER, seed=seed, after=fingerprint(self.key("pools")), **extra)

    @property
    def quick_reranker(self) -> bool:
        """Whether a reranker's training on a CPU has quick dropout: of real sets, as the shipped ones had torch's."""
        return self.settings.dataset not in MINI_SETS

    def _key_reranked(self, seed: int, split: Split = "test") -> dict[str, Any]:
        extra = {"seed": seed, "split": split, "after": fingerprint(self.key("reranker", seed=seed))}
        extra |= self._departures("reranker_vectors")
        if self.coded and self.settings.reranker_vectors != "none":
            extra["vectors"] = code(("passage_vectors",))
        else:
            extra |= self._once_code()
        return self._key("reranked", width=max(WIDTH, self.settings.kappa_star), **extra)

    def _key_untrained(self) -> dict[str, Any]:
        extra = {"width": max(WIDTH, self.settings.kappa_star), "inputs": self._inputs, **self._once_code()}
        return self._key("untrained", (*_DATA, "encoder", "reranker_form"), **extra)

    @property
    def each_passage_once(self) -> bool:
        """Whether rankings go passage by passage: by late interaction, of real sets, whose passages may be many."""
        return self.settings.dataset not in MINI_SETS and self.settings.reranker_form == "late-interaction"

    def _once_code(self) -> dict[str, str]:
        return {"once": code(("each_passage_once",))} if self.coded and self.each_passage_once else {}

    def _key_rankings(self, seed: int, split: Split = "test") -> dict[str, Any]:
        extra = {"seed": seed, "split": split, "ranked": fingerprint(self.key("reranked", seed=seed, split=split))}
        extra |= {"oracle": fingerprint(self.key("rationales", show_gold=False))}
        return self._key("rankings", ("kappa_star",), **extra)

    def _key_student(self, training: str, seed: int) -> dict[str, Any]:
        reads = ("k",) if TRAININGS[training].query != "none" else ()
        extra = {"training": training, "seed": seed, "after": self._kept()}
        if TRAININGS[training].target == "rationale":
            extra |= self._departures("prompt_as_released")
        if self.settings.dapt != "none":
            extra["adapted"] = fingerprint(self.key("adapted", seed=seed))
        extra |= self._departures("student_lora", "student_keep")
        if "student_keep" in extra and TRAININGS[training].target == "rationale":
            extra["dev"] = fingerprint(self.key("rationales", show_gold=False))
        if self.coded and self._departures("student_part", "student_checkpointing", "student_lora", "student_keep"):
            extra["fit"] = code(("student_fit",))
        return self._key("student", (*_STUDENT, *reads), **extra)

    def _key_adapted(self, seed: int) -> dict[str, Any]:
        text = Path(self.settings.dapt_text)
        extra = {"text": hash_file(text)} if self.settings.dapt_text and text.exists() else {}
        return self._key("adapted", (*_DATA, *_ADAPTED), seed=seed, inputs=self._inputs, **extra)

    def _key_retriever(self, seed: int) -> dict[str, Any]:
        return self._key("retriever", (*_DATA, *_RETRIEVER), seed=seed, inputs=self._inputs)

    def _key_rag(self, seed: int) -> dict[str, Any]:
        extra = {"after": self._kept(), "retriever": fingerprint(self.key("retriever", seed=seed))}
        return self._key("rag", (*_STUDENT, "k", "rag_form", "retriever_lr"), seed=seed, **extra)

    def _key_predictions(self, name: str, seed: int, decoding: str = "greedy", split: Split = "test") -> dict[str, Any]:
        row = method(name)
        fields: tuple[str, ...] = ("source_tokens", "target_tokens", *(("k",) if row.test_query != "none" else ()))
        fields += ("answers",) if decoding == "greedy" else ()
        extra = {"method": name, "seed": seed, "decoding": decoding, "split": split}
        if row.training is None:
            fields += ("student", *(("shots",) if row.examples else ()))
            extra |= {"after": self._kept() if row.examples else self.key("rationales")}
        elif row.test_query == "dense":
            extra |= {"after": fingerprint(self.key("rag", seed=seed))}
            extra |= {"reader": code(("rag_predict",))} if self.coded else {}
        else:
            extra |= {"after": fingerprint(self.key("student", training=training_name(row), seed=seed))}
        if row.test_query != "dense":
            extra |= self._departures("engine")
            if self.coded and self.settings.engine != "transformers":
                extra["engine code"] = code(("engines",))
        if row.test_query == "reranker":
            fields += ("kappa_star",)
            extra |= {"ranked": fingerprint(self.key("reranked", seed=seed, split=split))}
        if row.oracle:
            extra |= {"oracle": fingerprint(self.key("rationales", show_gold=False))}
        return self._key("predictions", fields, **extra)

    def _key_controls(self, control: str, seed: int, name: str) -> dict[str, Any]:
        unchanged = fingerprint(self.key("predictions", name=name, seed=seed))
        return self._key("controls", control=control, method=name, seed=seed, after=unchanged)
