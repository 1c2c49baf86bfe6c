"""Checkpoints out: a trained student, its reranker and its passages as one folder that needs no experiment any more.

``student`` loads in plain ``transformers``, ``reranker`` in plain ``sentence_transformers``; :mod:`kardlib.answering`
asks them together.
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import __version__
from .checkpoint_manifest import (
    INDEX_PATH,
    MANIFEST,
    RERANKER,
    STUDENT,
    CheckpointManifest,
    example_prompt,
    read_manifest,
    write_manifest,
)
from .checkpoint_record import measured
from .errors import KardError
from .experiment import Experiment
from .index_build import build_index
from .index_folder import INDEX, PASSAGES, opened
from .index_key import index_key
from .jobs import Job
from .knowledge_base_builders import Origin as PassagesOrigin
from .knowledge_base_builders import build_from_passages
from .methods import METHODS, Method, method, training_name
from .model_card import Origin, folder_card, reranker_card, student_card
from .passage_source import PassageList
from .presets import MODELS_DIR
from .runs import model_folder
from .safe_folder import only_data
from .store import write_json
from .whole_folder import whole_folder

CARD = "README.md"
USUAL = "KARD (Reranker)"
EXPORTABLE = tuple(row.name for row in METHODS if row.training and not row.oracle)
"""Methods whose trained student answers a question that nobody has written a rationale for."""


class NotTrained(KardError):
    """The student or its reranker is not among the artefacts; the message ends where the remedy may be told."""


def export(
    experiment: Experiment,
    folder: Path,
    name: str = USUAL,
    seed: int | None = None,
    copy_index: bool = False,
    replace: bool = False,
) -> CheckpointManifest:
    """Write a trained student and what it needs into a folder, whole or not at all.

    Args:
        name: of a method in ``EXPORTABLE``.
        seed: of student and reranker; the first of the settings by default.
        copy_index: take an index along that the settings name; otherwise the folder only says where it is. Passages of
            a set's own are always taken along.
        replace: whether a folder that :func:`export` has written may be replaced.

    Raises:
        NotTrained: the settings and this version of the code have not trained it here.
        KardError: the method cannot be exported, or the folder is there.
    """
    row, seed = _exportable(name), experiment.settings.seeds[0] if seed is None else seed
    for job in needed(row, seed):
        if not experiment.made(job.step, **job.arguments):
            about = f"dataset {experiment.settings.dataset}, preset {experiment.settings.preset}"
            raise NotTrained(f"{job}: it is not trained with these parameters ({about})")
    folder = Path(folder).expanduser()
    if folder.exists() and replace:
        read_manifest(folder)  # nothing else is ever removed
    manifest = _manifest(experiment, row, seed, copy_index)
    with whole_folder(folder, replace) as partial:
        _fill(partial, experiment, row, seed, manifest)
    return manifest


def needed(row: Method, seed: int) -> list[Job]:
    """The trainings that a method answers with."""
    student = Job("student", {"training": training_name(row), "seed": seed})
    return [student, *([Job("reranker", {"seed": seed})] if row.test_query == "reranker" else [])]


def _exportable(name: str) -> Method:
    row = method(name)
    if name in EXPORTABLE:
        return row
    why = "its answers rest on a rationale of the test question" if row.oracle else "nothing is trained for it"
    why = "its retriever has no folder of its own yet" if row.test_query == "dense" else why
    raise KardError(f"{name}: it cannot be exported, {why} (there are {', '.join(EXPORTABLE)})")


def _manifest(experiment: Experiment, row: Method, seed: int, copy_index: bool) -> CheckpointManifest:
    s, reranked, pointed = experiment.settings, row.test_query == "reranker", {}
    if s.index and not copy_index and row.test_query != "none":
        pointed = {"index": Path(s.index).name, "index_key": index_key(opened(Path(s.index)).manifest)}
    options = {question.options for question in experiment.data.train}
    return CheckpointManifest(
        kit=__version__, made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"), method=row.name, preset=s.preset,
        dataset=s.dataset, options=options.pop() if len(options) == 1 else (), student=Path(s.student).name,
        encoder=Path(s.encoder).name if reranked else "", reranker_form=s.reranker_form if reranked else "", seed=seed,
        k=0 if row.test_query == "none" else s.k, kappa_star=s.kappa_star if reranked else 0,
        source_tokens=s.source_tokens, target_tokens=s.target_tokens, answers=s.answers, prompt=example_prompt(row),
        artefacts={job.step: experiment.folder(job.step, **job.arguments).name for job in needed(row, seed)},
        notes=tuple(experiment.data.notes), **pointed,
    )  # fmt: skip


def _fill(folder: Path, experiment: Experiment, row: Method, seed: int, manifest: CheckpointManifest) -> None:
    origin = _origin(experiment, row, seed, manifest)
    parts = {STUDENT: student_card} | ({RERANKER: reranker_card} if row.test_query == "reranker" else {})
    for (part, card), job in zip(parts.items(), needed(row, seed), strict=True):
        _copy_model(experiment.folder(job.step, **job.arguments) / "model", folder / part)
        if part == STUDENT:
            _decode_as_measured(folder / part)
            _scaled_as_trained(folder / part)
        (folder / part / CARD).write_text(card(origin), encoding="utf-8")
        only_data(folder / part)
    if row.test_query != "none":
        _keep_passages(folder, experiment, manifest)
    write_manifest(folder, manifest)
    present = [name for name in (STUDENT, RERANKER, PASSAGES, INDEX, INDEX_PATH, MANIFEST) if (folder / name).exists()]
    (folder / CARD).write_text(folder_card(origin, present), encoding="utf-8")


def _copy_model(source: Path, folder: Path) -> None:
    """Copy a model's files with the rights that a new file has; weights are written for their owner alone.

    The trainer's own card stays behind: it quotes training examples.
    """
    shutil.copytree(source, folder, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns(CARD, "*.bin"))


def _decode_as_measured(student: Path) -> None:
    """A base's own defaults (a penalty, beams) would write other texts in plain transformers than were measured."""
    from transformers import GenerationConfig

    from .decoding import end_tokens, tokens_alone
    from .models import load_tokenizer

    config = GenerationConfig.from_pretrained(student)
    kept = tokens_alone(config)
    kept.eos_token_id = end_tokens(config, load_tokenizer(str(student)))
    kept.save_pretrained(student)


def _scaled_as_trained(student: Path) -> None:
    """transformers 5 keeps apart whether T5's embeddings are tied and whether its outputs are scaled, and says tied of
    a Flan-T5 with a head of its own. Version 4 knows the first alone, takes it for both, and would write nonsense.
    """
    file = student / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    if config.get("scale_decoder_outputs") is False and _has_a_head(student):
        write_json(file, config | {"tie_word_embeddings": False})


def _has_a_head(student: Path) -> bool:
    from safetensors import safe_open

    for file in student.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            if "lm_head.weight" in weights.keys():  # noqa: SIM118  (no mapping)
                return True
    return False


def _keep_passages(folder: Path, experiment: Experiment, manifest: CheckpointManifest) -> None:
    """The knowledge base and its index, or where they are."""
    s = experiment.settings
    if manifest.index:
        (folder / INDEX_PATH).write_text(f"{Path(s.index).resolve()}\n", encoding="utf-8")
    elif s.index:
        for part in (PASSAGES, INDEX):
            shutil.copytree(Path(s.index) / part, folder / part, copy_function=shutil.copyfile)
    else:
        told = PassagesOrigin(name=s.dataset, source=f"set:{s.dataset}", notes=tuple(experiment.data.notes))
        passages = PassageList(list(experiment.data.passages))
        build_index(
            build_from_passages(folder / PASSAGES, passages, told, progress=False), folder / INDEX, progress=False
        )
        for lock in folder.glob(".*.lock"):
            lock.unlink(missing_ok=True)


def _origin(experiment: Experiment, row: Method, seed: int, manifest: CheckpointManifest) -> Origin:
    s = experiment.settings
    job = needed(row, seed)[0]
    student = experiment.folder(job.step, **job.arguments) / "model"
    backbone = _hub_name(s.encoder) if manifest.encoder else ""
    folders = [model_folder(name) for name in (s.student, *([s.encoder] if manifest.encoder else []))]
    shipped = [folder is not None and folder.resolve().parent == MODELS_DIR for folder in folders]
    return Origin(
        manifest=manifest, base=_hub_name(s.student), backbone=backbone, shipped=all(shipped),
        seq2seq=bool(_json(student / "config.json").get("is_encoder_decoder")), chat=_talks(student),
        teacher=_teacher(s.teacher) if row.cue == "rationale" else "",
        measured=measured(experiment, row, seed),
    )  # fmt: skip


def _talks(student: Path) -> bool:
    """Whether a student has a chat template, wherever its tokenizer keeps it."""
    return (student / "chat_template.jinja").exists() or "chat_template" in _json(student / "tokenizer_config.json")


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def _hub_name(name: str) -> str:
    return "" if model_folder(name) is not None else name


def _teacher(name: str) -> str:
    from .teacher_entries import BUILT_IN, teacher_entry

    if name in BUILT_IN:
        return {"scripted": "those of a scripted teacher of the kit", "annotations": "the set's own annotations"}[name]
    return (
        f"those of {teacher_entry(name).model}; look up what its provider's terms say of training models on its output"
    )
