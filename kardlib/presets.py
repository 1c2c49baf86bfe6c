"""Presets: one code path at three scales. Notebooks leave a parameter at 0, "" or [] to take the preset's value."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import KardError

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS_DIR = REPOSITORY / "data" / "models"
"""Where the shipped base models are."""
PresetName = Literal["mini", "laptop", "paper"]
MINI_SETS = ("mini-medqa", "mini-strategyqa", "mini-openbookqa")
"""Sets that the kit generates."""
DatasetName = Literal["mini-medqa", "mini-strategyqa", "mini-openbookqa", "openbookqa", "strategyqa", "medqa", "own"]
DATASETS: tuple[str, ...] = get_args(DatasetName)


class Settings(BaseModel):
    """Every choice that a run depends on, resolved.

    Attributes:
        size: ``full``, or ``smoke`` (a fraction of the questions and steps, to see that everything runs).
        student, encoder: names of shipped models, names on the hub, or folders.
        reader: model that filters the rationales, the same for every student; or a teacher's alias.
        teacher: ``scripted`` (mini), ``annotations`` (the set's own human rationales), or the alias of a teacher behind
            an endpoint (``data/teachers.toml``).
        answers: how a greedily written text becomes an option: ``free``, parsed from the text as it is, or ``scored``,
            the option that the student finds most likely after its own rationale. The same for every method.
        engine: what writes the texts of students and few-shot rows: ``transformers``, ``ctranslate2`` (T5, where its
            greedy texts are the same) or ``vllm`` (causal students behind a server, free answers). RAG has its own way.
        l: rationales asked of the teacher for each training question.
        k: passages that the student reads.
        shots: worked examples of the few-shot rows; a prompt shows as many of them as have room. Our choice: three
            at mini scale, since 320 tokens hold no more with a rationale beside the question that is asked.
        kappa_star: candidates of a test question that the reranker reads (kappa*).
        kappa1, kappa2: candidates found with the rationale and with the question, for training the reranker.
        tau1, tau2: temperatures of Q and of P in Eq. 3.
        pool: candidates sampled from the union at each reranker step.
        seeds: one student of each kind, and one reranker, is trained for each.
        student_part: rows of a student's batch that are in memory at a time, at most (0 for all of them);
            ``student_checkpointing`` recomputes activations. Both change memory, time and float noise only, and where
            memory has no room for the whole batch, they follow by themselves (:mod:`kardlib.student_fit`).
        student_lora: train low-rank changes of the student's query and value projections alone.
        student_keep: which epoch of a student is kept; on dev, the one with the lowest loss of its questions.
        reranker_part: questions of a reranker's batch that are in memory at a time; their gradients are summed, so it
            changes memory, float noise and which tokens dropout takes.
        reranker_chunk: passages that go through the reranker together in training, sorted by length, so that less is
            padded; 0 for all of a step, as the library has it. It changes what ``reranker_part`` changes.
        lora: train low-rank changes of the reranker's query and value projections alone, as the authors' code does.
        reranker_curves: hold a tenth of the training questions out and measure KL and hits@k on them while it trains.
        reranker_vectors: keep the token vectors of the candidates' passages on disk, for a late-interaction reranker.
        dapt: text that the student is adapted to before it is trained (Fig. 3); ``dapt_text`` is a file or folder with
            the related text of a set that is not generated.
        rag_form: how RAG sums over its k passages (Table 7); ``retriever_lr`` is that of its query encoder, the
            ``retriever_warmup_*`` are those of the training that makes a retriever of the encoder beforehand.
        share: of the training questions that are used, chosen by a hash of their ids (Fig. 4a).
        reranker_loss, reranker_frozen_passages, pool_as_released, prompt_as_released: where the authors' released code
            departs from the paper, see :mod:`kardlib.as_released`; as in the paper by default.
        world: seed of the mini world; ``inventory`` tells which names it draws on.
        index: folder that ``kard index build`` has made; its passages are the knowledge base in place of the set's own.
        retrain: make anew what ships with the kit, instead of loading it. No number depends on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: PresetName
    dataset: DatasetName
    size: Literal["full", "smoke"] = "full"
    data_dir: str = ""
    index: str = ""
    student: str
    encoder: str
    reader: str
    reranker_form: Literal["late-interaction", "cross-encoder"] = "late-interaction"
    teacher: str
    filter: bool = True
    answers: Literal["scored", "free"] = "free"
    engine: Literal["transformers", "ctranslate2", "vllm"] = "transformers"
    l: int = Field(ge=1)  # noqa: E741  (the paper's letter)
    k: int = Field(ge=1)
    shots: int = Field(ge=1)
    kappa_star: int = Field(ge=1)
    kappa1: int = Field(ge=1)
    kappa2: int = Field(ge=1)
    tau1: float = Field(gt=0)
    tau2: float = Field(gt=0)
    pool: int = Field(ge=2)
    seeds: tuple[int, ...] = Field(min_length=1)
    student_lr: float = Field(gt=0)
    student_epochs: int = Field(ge=1)
    student_batch: int = Field(ge=1)
    source_tokens: int = Field(ge=32)
    target_tokens: int = Field(ge=8)
    student_part: int = Field(default=0, ge=0)
    student_checkpointing: bool = False
    student_lora: bool = False
    student_keep: Literal["last epoch", "best on dev"] = "last epoch"
    reranker_lr: float = Field(gt=0)
    reranker_epochs: int = Field(ge=1)
    reranker_batch: int = Field(ge=1)
    reranker_part: int = Field(default=16, ge=1)
    reranker_chunk: int = Field(default=0, ge=0)
    lora: bool = False
    reranker_curves: bool = False
    reranker_vectors: Literal["none", "float32", "float16"] = "none"
    dapt: Literal["none", "knowledge base", "related"] = "none"
    dapt_text: str = ""
    dapt_lr: float = Field(default=1e-4, gt=0)
    dapt_epochs: int = Field(default=1, ge=1)
    rag_form: Literal["sequence", "token"] = "sequence"
    retriever_lr: float = Field(default=1e-4, gt=0)
    retriever_warmup_lr: float = Field(default=2e-3, gt=0)
    retriever_warmup_epochs: int = Field(default=8, ge=1)
    retriever_warmup_batch: int = Field(default=64, ge=2)
    share: float = Field(default=1.0, gt=0, le=1)
    reranker_loss: Literal["kl", "best document", "annealed kl"] = "kl"
    reranker_frozen_passages: bool = False
    pool_as_released: bool = False
    prompt_as_released: bool = False
    world: int = 1
    inventory: Literal["development", "reported"] = "reported"
    retrain: bool = False

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.kappa_star < self.k:
            raise ValueError(f"kappa_star = {self.kappa_star} is below k = {self.k}, the passages to choose from them")
        if self.engine == "vllm" and self.answers == "scored":
            raise ValueError("engine = 'vllm': a server does not score options; -p answers=free reads what it writes")
        if self.teacher == "annotations" and self.l != 1:
            raise ValueError(f"l = {self.l}: the teacher 'annotations' has one rationale for each question")
        if self.reranker_frozen_passages and self.reranker_form == "cross-encoder":
            raise ValueError("reranker_frozen_passages: a cross-encoder reads question and passage as one text")
        if self.reranker_vectors != "none" and self.reranker_form == "cross-encoder":
            raise ValueError("reranker_vectors: a cross-encoder has no vectors of a passage alone")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds = {list(self.seeds)}: a seed occurs twice")
        return self

    def changed(self) -> dict[str, Any]:
        """What is not as the preset has it, of all that numbers depend on, data folder and seeds aside."""
        usual = Settings(preset=self.preset, **usual_values(self.preset, self.dataset))
        names = set(type(self).model_fields) - {"preset", "dataset", "data_dir", "dapt_text", "seeds", "retrain"}
        changed = {n: getattr(self, n) for n in sorted(names) if getattr(self, n) != getattr(usual, n)}
        return changed | ({"index": Path(self.index).name} if self.index else {})


_MINI: dict[str, Any] = dict(
    dataset="mini-medqa", student="mini-t5-base", reader="mini-t5-base", encoder="mini-bert", teacher="scripted",
    l=3, k=3, shots=3, kappa_star=100, kappa1=6, kappa2=90, tau1=2.0, tau2=1.0, pool=8, seeds=(0, 1, 2),
    student_lr=5e-4, student_epochs=1, student_batch=32, source_tokens=320, target_tokens=48, reranker_lr=1.5e-3,
    reranker_epochs=2, reranker_batch=8, reranker_chunk=8,
)  # fmt: skip
_LAPTOP: dict[str, Any] = dict(
    dataset="openbookqa", student="mini-t5-base", reader="mini-t5-base", encoder="all-MiniLM-L6-v2",
    teacher="annotations", filter=False, l=1, k=3, shots=3, kappa_star=100, kappa1=16, kappa2=16, tau1=2.0,
    tau2=1.0, pool=8, seeds=(0,), student_lr=3e-4, student_epochs=1, student_batch=32, source_tokens=384,
    target_tokens=96, reranker_lr=1e-4, reranker_epochs=1, reranker_batch=16, reranker_part=4,
    reranker_chunk=8, retriever_warmup_lr=1e-4, retriever_warmup_epochs=1,  # MiniLM can tell texts apart as it is
)  # fmt: skip
# Where each value is from, or that it is our choice, tells preset_sources.py.
_PAPER: dict[str, Any] = dict(
    dataset="openbookqa", student="google/t5-v1_1-base", reader="google/flan-t5-large",
    encoder="michiyasunaga/LinkBERT-base", teacher="openai", filter=True, l=10, k=3, shots=5, kappa_star=100, kappa1=32,
    kappa2=32, tau1=2.0, tau2=1.0, pool=8, seeds=(0, 1, 2), student_lr=1e-4, student_epochs=3, student_batch=32,
    source_tokens=512, target_tokens=256, reranker_lr=1e-4, reranker_epochs=3, reranker_batch=16,
)  # fmt: skip
_SETS: dict[tuple[str, str], dict[str, Any]] = {
    ("paper", "medqa"): {"student": "google/flan-t5-base", "encoder": "michiyasunaga/BioLinkBERT-base"},
    ("laptop", "medqa"): {"source_tokens": 768},  # its questions have up to 1,100 of the shipped student's tokens
}
"""What a preset has otherwise on a set."""
_MINI["answers"] = _LAPTOP["answers"] = "scored"
_PAPER["student_part"] = 32  # all of a batch, or less where memory asks for it
PRESETS: dict[str, dict[str, Any]] = {"mini": _MINI, "laptop": _LAPTOP, "paper": _PAPER}

SPLIT_SIZES: dict[str, dict[str, int]] = {
    "full": {"train": 800, "dev": 300, "test": 1000},
    "smoke": {"train": 96, "dev": 32, "test": 48},
}
"""Questions of each mini set by size; real sets are cut to the same numbers under ``smoke``."""


def usual_values(preset: str, dataset: str) -> dict[str, Any]:
    """The values of a preset, as they are for a data set."""
    return PRESETS[preset] | _SETS.get((preset, dataset), {}) | {"dataset": dataset}


def resolve(preset: str = "mini", **parameters: Any) -> Settings:
    """Settings of a preset with the given parameters on top.

    Args:
        preset: ``mini``, ``laptop`` or ``paper``.
        parameters: fields of :class:`Settings`; 0, "", [] and None mean "as the preset has it".

    Raises:
        KardError: one line that names the parameter and, for a misspelt one, the nearest right one.
    """
    if preset not in PRESETS:
        raise KardError(f"preset {preset!r}: there is none of that name{nearest(preset, PRESETS)}")
    for name in parameters:
        if name not in Settings.model_fields:
            raise KardError(f"parameter {name!r}: there is none of that name{nearest(name, Settings.model_fields)}")
    given = {name: value for name, value in parameters.items() if value is False or value not in (0, "", [], (), None)}
    usual = usual_values(preset, given.get("dataset", PRESETS[preset]["dataset"]))
    if preset == "paper" and given.get("teacher") == "annotations":  # of which there is one a question
        usual["l"] = 1
    if not given.get("data_dir") and usual["dataset"] not in MINI_SETS:
        given["data_dir"] = os.environ.get("KARD_DATA", "")
    for folder in ("data_dir", "dapt_text", "index"):
        if given.get(folder):  # a notebook's kernel may run in another folder
            given[folder] = str(Path(given[folder]).expanduser().resolve())
    if "teacher" in given:
        _check_teacher(str(given["teacher"]))
    try:
        return Settings(**{"preset": preset, **usual, **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        told = first["msg"].removeprefix("Value error, ")
        raise KardError(f"parameter {name} = {first['input']!r}: {told}" if name else told) from None


def _check_teacher(name: str) -> None:
    from .teacher_entries import BUILT_IN, teacher_entry  # it reads files, and needs this module

    if name not in BUILT_IN:
        teacher_entry(name)


def nearest(word: str, known: Any) -> str:
    """A hint for an error message: the nearest known name, or all of them."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (there are {', '.join(known)})"


def runs_root() -> Path:
    """Where runs go: ``KARD_RUNS``, else ``runs`` in the repository; never the caller's folder."""
    return Path(os.environ.get("KARD_RUNS") or REPOSITORY / "runs").resolve()
