"""What the training steps of an experiment do; each fills a folder with ``model`` and the loss curve ``curve.json``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import student, student_fit
from .calibration import trains_in_bf16
from .candidates import Candidates, question_candidates
from .devices import own_device
from .errors import KardError
from .jobs import step_memory, threads
from .methods import TRAININGS, Training
from .model_shape import shape_of
from .models import token_counter
from .out_of_memory import out_of_memory
from .presets import Settings
from .processes import together, world
from .prompts import Pair, build_target, query_of
from .store import SCRATCH, write_json
from .student import Hyperparameters
from .student_lora import lora_parameters
from .training_memory import Fit, largest_batch

if TYPE_CHECKING:
    from .experiment import Experiment


def train_adapted(experiment: Experiment, folder: Path, seed: int) -> None:
    """The base student, trained further on text (DAPT)."""
    from .dapt import adapt, corpus

    s = experiment.settings
    hyper = replace(Hyperparameters.of(s), lr=s.dapt_lr, epochs=s.dapt_epochs)
    texts = corpus(experiment.data, s.dapt, s.dapt_text)
    write_json(folder / "curve.json", adapt(s.student, texts, hyper, seed, folder / "model", folder / SCRATCH))


def train_student_on(experiment: Experiment, folder: Path, training: str, seed: int) -> None:
    """A student on the pairs of one training (Eqs. 1 and 2, and fine-tuning)."""
    s = experiment.settings
    pairs = experiment.training_pairs(TRAININGS[training], token_counter(s.student))
    base = s.student if s.dapt == "none" else str(experiment.adapted(seed))
    asked = student_fit.Options.of(s)
    options = safe_options(s, asked, pairs)
    if asked != student_fit.Options() or options != student_fit.Options(part=s.student_batch) or together():
        dev = _dev_pairs(experiment, TRAININGS[training]) if options.best_on_dev else []
        hyper = Hyperparameters.of(s)
        fitted = student_fit.fit_student(base, pairs, hyper, seed, folder / "model", folder / SCRATCH, options, dev)
        write_json(folder / "curve.json", fitted.curve)
        write_json(folder / "held.json", fitted.held)
        return
    curve = student.train_student(base, pairs, Hyperparameters.of(s), seed, folder / "model", folder / SCRATCH)
    write_json(folder / "curve.json", curve)


def safe_options(s: Settings, options: student_fit.Options, pairs: Sequence[Pair]) -> student_fit.Options:
    """The options with a part, and checkpointing, that this device's memory has room for.

    A GPU says when memory runs out and parts are halved then; on a CPU the system kills the process.
    """
    shape, device = shape_of(s.student), own_device(threads(s, "student"))
    rows = options.part or -(-s.student_batch // world())
    memory = step_memory(device, s, "student") / (world() if device.kind == "cpu" else 1)
    bf16, trainable = trains_in_bf16(shape.parameters), lora_parameters(shape, options.lora) if options.lora else None

    def fit_of(source: int, target: int) -> Fit | None:
        return largest_batch(shape, rows, source, target, memory, bf16, options.checkpointing or None, trainable)

    fit = fit_of(s.source_tokens, s.target_tokens)
    if fit is None or fit.batch < rows or fit.checkpointing:  # only then is it worth counting
        fit = fit_of(*_longest(s, pairs))
    if fit is None:  # by the estimate, an upper bound: one row at a time is what is left to try
        return replace(options, part=1, checkpointing=True)
    return replace(options, part=fit.batch, checkpointing=fit.checkpointing)


def _longest(s: Settings, pairs: Sequence[Pair]) -> tuple[int, int]:
    """Tokens of the longest source and target, with an end token each."""
    count = token_counter(s.student)
    source = max((count(pair.source) + 1 for pair in pairs), default=1)
    target = max((count(pair.target) + 1 for pair in pairs), default=1)
    return min(source, s.source_tokens), min(target, s.target_tokens)


def _dev_pairs(experiment: Experiment, training: Training) -> list[Pair]:
    """Pairs of the dev questions; their rationales are the teacher's that were written without the gold answer."""
    s, told = experiment.settings, experiment.usable_rationale() if training.target == "rationale" else {}
    # a teacher may have told none of one; without it KARD has no query and RD another target
    items = [(q, told.get(q.id)) for q in experiment.data.dev if training.target == "answer" or q.id in told]
    return experiment.pairs_of(training, items, token_counter(s.student))


def train_reranker_on(experiment: Experiment, folder: Path, seed: int) -> None:
    """A reranker on Eq. 3; with curves, a tenth of the training questions is held out for them (``held.json``)."""
    from .quick_training import QuickTraining
    from .reranker_curves import hold_out
    from .reranker_training import train_reranker, training_rows

    s, by_id = experiment.settings, {q.id: q for q in experiment.data.train}
    queries = {name: query_of(question) for name, question in by_id.items()}

    def found(name: str) -> Candidates:
        return question_candidates(experiment.search, by_id[name], s.kappa_star)

    pools, held = experiment.pools(), None
    if s.reranker_curves:
        pools, held = hold_out(pools, queries, experiment.texts, found)
    rows = training_rows(pools, queries, experiment.texts, s, seed)
    with QuickTraining() if experiment.quick_reranker else nullcontext():
        curves = train_reranker(rows, s, seed, folder / "model", folder / SCRATCH, held)
    write_json(folder / "curve.json", curves.loss)
    write_json(folder / "held.json", curves.held)


def train_retriever(experiment: Experiment, folder: Path, seed: int) -> None:
    """A dense retriever, before it is trained jointly with its generator."""
    from .dense_retriever import warm_up, warm_up_pairs

    s, pairs = experiment.settings, warm_up_pairs(experiment.data.train, experiment.search)
    hyper = s.retriever_warmup_lr, s.retriever_warmup_epochs, s.retriever_warmup_batch
    curve = warm_up(s.encoder, pairs, *hyper, seed, folder / "model", folder / SCRATCH)
    write_json(folder / "curve.json", curve)


def train_rag_on(experiment: Experiment, folder: Path, seed: int) -> None:
    """Generator and retriever jointly, on the kept rationales."""
    from .dense_retriever import DenseRetriever
    from .rag import RagHyperparameters, train_rag

    s, by_id = experiment.settings, {q.id: q for q in experiment.data.train}
    count = token_counter(s.student)
    told = [(by_id[r.question_id], r.text) for r in experiment.kept_rationales()]
    items = [(q, build_target(q.answer_text, text, count, s.target_tokens)) for q, text in told]
    retriever = DenseRetriever.fresh(str(experiment.retriever(seed)), experiment.data.passages)
    curve = train_rag(s.student, retriever, items, RagHyperparameters.of(s), seed, folder / "model", folder / SCRATCH)
    write_json(folder / "curve.json", curve)


def whole_batches(train: Callable[..., None]) -> Callable[..., None]:
    """A training that cannot take its batch in parts: one line where memory has no room for it."""

    @functools.wraps(train)
    def trained(experiment: Experiment, folder: Path, seed: int) -> None:
        try:
            train(experiment, folder, seed)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            text = "out of memory; DAPT and RAG take a batch at once ('kard plan' tells its size): a smaller student"
            raise KardError(f"student {experiment.settings.student}: {text} is what is left") from None

    return trained


TRAINED = {
    "reranker": train_reranker_on,
    "adapted": whole_batches(train_adapted),
    "student": train_student_on,
    "retriever": train_retriever,
    "rag": whole_batches(train_rag_on),
}
"""By step."""
