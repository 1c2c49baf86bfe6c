"""One entry for every data set: the mini sets, the three published ones, and a user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from .dataset import DataSet
from .errors import KardError
from .mini import shared_mini
from .own_data import read_own
from .passage_source import PassageSource
from .presets import MINI_SETS, MODELS_DIR, SPLIT_SIZES, Settings
from .published_counts import STRATEGYQA_REPORTED, checked_note
from .published_sets import MEDQA_TRAIN, fetch_openbookqa, medquad_folder, read_medqa, read_openbookqa, read_strategyqa
from .splits import cut, hash_share, hold_out_dev, in_dev

__all__ = ["has_files", "in_dev", "read_dataset"]
TOY = "{} has never seen ordinary English: its answers to real questions are near chance, whatever the method"

_READERS: dict[str, tuple[Callable[[Path], DataSet], tuple[str, ...]]] = {
    "openbookqa": (read_openbookqa, ("train_complete.jsonl",)),
    "strategyqa": (read_strategyqa, ("train.json",)),
    "medqa": (read_medqa, MEDQA_TRAIN),
    "own": (read_own, ("train.jsonl",)),
}
"""For each set that is read from files: its reader, and the file names by which its folder is known."""


def read_dataset(settings: Settings, base: PassageSource | None = None) -> DataSet:
    """Read or generate the data set that the settings name.

    A tenth of the training questions, chosen by a hash of their ids, becomes the dev part unless the set has one.
    Under preset ``paper`` a published set must be whole; under the others a note tells what is missing (``partial``).
    Under ``size="smoke"`` the splits of every set are cut to ``SPLIT_SIZES["smoke"]``, in the order of a hash; of the
    training questions that are left, ``share`` are kept. The knowledge base stays whole.

    Args:
        settings: ``data_dir`` is the folder that holds the set's files, or a parent with a subfolder of the set's name.
        base: passages that will take the place of the set's own; MedQA's are in files of another set, not read then.

    Raises:
        KardError: one line that names the file, the line and the field of the first fault, or the missing setting.
    """
    data = _mini(settings) if settings.dataset in MINI_SETS else _published(settings, base)
    if settings.share < 1:
        data = replace(data, train=cut(data.train, max(1, round(settings.share * len(data.train)))))
    return data


def _published(settings: Settings, base: PassageSource | None) -> DataSet:
    if settings.dataset == "openbookqa" and not settings.data_dir:
        data = fetch_openbookqa()
    else:
        reader, known_by = _READERS[settings.dataset]
        folder = _folder(settings, known_by)
        data = read_medqa(folder, base) if settings.dataset == "medqa" else reader(folder)
    data = replace(data, notes=[*data.notes, *checked_note(settings.preset, data.name, data.rows)])
    if settings.preset == "paper" and data.name == "strategyqa":
        data = _as_many_as_the_paper(data)
    if not data.dev:
        train, dev = hold_out_dev(data.train)
        data = replace(data, train=train, dev=dev)
    if (MODELS_DIR / settings.student).is_dir() and not Path(settings.student).is_absolute():
        data = replace(data, notes=[*data.notes, TOY.format(settings.student)])
    return _smoke(data) if settings.size == "smoke" else data


def _as_many_as_the_paper(data: DataSet) -> DataSet:
    """StrategyQA with exactly as many reported questions as the paper has; which they are is the kit's own choice."""
    every = sorted([*data.train, *data.test], key=lambda question: hash_share(question.id, "strategyqa reported"))
    reported = {question.id for question in every[:STRATEGYQA_REPORTED]}
    both = [*data.train, *data.test]
    return replace(data, train=[q for q in both if q.id not in reported], test=[q for q in both if q.id in reported])


def _mini(settings: Settings) -> DataSet:
    """The generated set, with lists of its own."""
    sizes = tuple(SPLIT_SIZES[settings.size].items())
    mini = shared_mini(settings.dataset, settings.world, settings.inventory, sizes)
    return DataSet(
        name=mini.task.name,
        paper_name=mini.task.paper_name,
        train=[*mini.splits["train"]],
        dev=[*mini.splits["dev"]],
        test=[*mini.splits["test"]],
        test_split="test",
        passages=[*mini.passages],
        mini=mini,
        notes=[mini.task.note],
    )


def _folder(settings: Settings, known_by: tuple[str, ...]) -> Path:
    """The folder with the set's files: ``data_dir`` itself, or its subfolder of the set's name."""
    name = settings.dataset
    if not settings.data_dir:
        raise KardError(f"dataset {name}: set KARD_DATA or -p data_dir= to the folder that holds its files")
    folder = Path(settings.data_dir).expanduser()
    if not folder.is_dir():
        raise KardError(f"{folder}: no such folder (it is the data_dir of dataset {name})")
    if not any((folder / file).exists() for file in known_by) and (folder / name).is_dir():
        return folder / name
    return folder


def data_folders(settings: Settings) -> list[Path]:
    """The folders whose files make up the data set; none for a generated one or one that is fetched.

    Raises:
        KardError: ``data_dir`` is set and is no folder.
    """
    if not settings.data_dir or settings.dataset in MINI_SETS:
        return []
    folder = _folder(settings, _READERS[settings.dataset][1])
    return [folder, *([medquad_folder(folder)] if settings.dataset == "medqa" else [])]


def has_files(settings: Settings) -> bool:
    """Whether the data set's files are where the settings say, or it needs none (generated or fetched)."""
    if settings.dataset in MINI_SETS or (settings.dataset == "openbookqa" and not settings.data_dir):
        return True
    known_by = _READERS[settings.dataset][1]
    try:
        folder = _folder(settings, known_by)
    except KardError:
        return False
    return any((folder / file).exists() for file in known_by)


def _smoke(data: DataSet) -> DataSet:
    sizes = SPLIT_SIZES["smoke"]
    train, dev, test = cut(data.train, sizes["train"]), cut(data.dev, sizes["dev"]), cut(data.test, sizes["test"])
    kept = {question.id for question in (*train, *dev, *test)}
    annotations = {identifier: rationale for identifier, rationale in data.annotations.items() if identifier in kept}
    return replace(data, train=train, dev=dev, test=test, annotations=annotations)
